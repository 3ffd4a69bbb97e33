"""Packages that are put away for a test: many cannot be imported twice in a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def put_away(*packages: str) -> Iterator[None]:
    """These packages are as if nobody had imported them; at the end they are there again, if they were."""
    before = _of(packages)
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in _of(packages):
            del sys.modules[name]
        sys.modules.update(before)


def _of(packages: tuple[str, ...]) -> dict[str, object]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}
