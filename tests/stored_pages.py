"""The pages of a store, as the command serves them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import SWARM


@contextmanager
def served(store: Path) -> Iterator[str]:
    """The command, and the address that it prints."""
    words = [str(SWARM), "dashboard", "--store", str(store), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield "http" + process.stdout.readline().partition("http")[2].split()[0]
        finally:
            process.terminate()
