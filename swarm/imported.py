"""A script or module that is imported for a training: told from one that runs, and where that import ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAIN, MP_MAIN = "__main__", "__mp_main__"
"""The name of a script that runs, and the one that it has where :mod:`multiprocessing`, or a training, imports it."""
MARK = "__swarm_bundle__"
"""Among a module's global names if it was imported for a training."""


class Reached(BaseException):
    """An import for a training has come to where the script or module starts a run, and ends there.

    It is no error, so that no ``except Exception`` of the script's takes it for one.
    """


def is_imported(names: Mapping[str, Any]) -> bool:
    """Whether these are the global names of a module that was imported for a training."""
    return MARK in names
