"""A script that starts a run at its top level, where trainings import it for what it defines."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from swarm.code.own_modules import MAIN
from swarm.code.sources import end_import
from swarm.errors import NotGuarded, Reached

_MP_MAIN = "__mp_main__"  # a script's name where multiprocessing, or a training, imports it


def check_first(what: str) -> None:
    """See that this is the script's own process, not one that imports it.

    Where trainings import a script without a main guard, that import ends here. What is above, they have by then; what
    is below travels with the jobs that are made from now on.

    Args:
        what: What is called, such as ``run()``.

    Raises:
        Reached: It is the import by a training.
        NotGuarded: It is that by a process which :mod:`multiprocessing` has started, such as one of the training's own;
            the text names the guard.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            _check(frame, what)
        frame = frame.f_back


def _check(frame: FrameType, what: str) -> None:
    name, file = frame.f_globals.get("__name__"), frame.f_code.co_filename
    if Reached.MARK in frame.f_globals:
        raise Reached
    if name == _MP_MAIN:
        raise NotGuarded(
            f"{file}:{frame.f_lineno}: {what} is called whenever the script is imported, as by a process that "
            'multiprocessing starts; put it below: if __name__ == "__main__":'
        )
    if name == MAIN and Path(getattr(sys.modules[MAIN], "__file__", None) or "").absolute() == Path(file).absolute():
        end_import(frame.f_lineno)
