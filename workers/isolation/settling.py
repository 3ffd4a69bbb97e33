"""What a process does to itself when it is made: it takes its slot, and its place among those who die for memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from swarm.workers.node.gpu import SLOT

SLOT_PLACE = "-" * 250
"""Value of the variable :data:`~swarm.workers.node.gpu.SLOT` in a server, with room for the name of any slot."""

_SERVER, _TRAINING = 400, 800  # of the points by which the kernel chooses whom to end; all of the memory is 1000
_ENV_START = 50  # field of /proc/PID/stat


def place_in_line() -> None:
    """A server: it dies before its worker if the memory runs out, but after its trainings. It has no slot itself."""
    _volunteer(_SERVER)
    if os.environ.get(SLOT) == SLOT_PLACE:
        del os.environ[SLOT]


def settle(env: Mapping[str, str]) -> None:
    """A training, forked from its server: it has its slot's environment, and is the first to die for memory."""
    _volunteer(_TRAINING)
    os.environ.update(env)
    if SLOT in env:
        with contextlib.suppress(OSError, ValueError):  # there is no /proc: then its orphans are not known for its own
            _show(SLOT, env[SLOT])


def _volunteer(points: int) -> None:
    """Have the kernel end this process before others; there is no way back, but it needs no rights either."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(points), encoding="ascii")


def _show(name: str, value: str) -> None:
    """Have ``/proc/PID/environ``, the environment that a process was started with, show another value.

    What is forked from here, and not started fresh, is then known for this slot's as well.
    """
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = (int(stat[field - 3]) for field in (_ENV_START, _ENV_START + 1))
    block = ctypes.string_at(start, end - start)
    at = (b"\0" + block).index(f"\0{name}=".encode())
    room = block.index(b"\0", at) - at
    shown = f"{name}={value}".encode()
    if len(shown) <= room:
        ctypes.memmove(start + at, shown.ljust(room, b"\0"), room)
