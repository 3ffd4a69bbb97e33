"""A script that starts a run whenever it is imported: told from one with a guard, where the workers import it.

Worker processes import the script, as all that :mod:`multiprocessing` starts do. One that runs a job at its top level
would do so there again, in each of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType

from swarm.errors import NotGuarded

_REPORT = "SWARM_START_REPORT"  # the file in which a worker process says why it cannot start
_IMPORTED = "__mp_main__"  # the script's name where multiprocessing imports it
_LIMIT = 500


def check_guarded(what: str) -> None:
    """See that this is not the import of a script by a process that was started for it.

    Args:
        what: What is called, such as ``run()``.

    Raises:
        NotGuarded: It is; the text names the guard.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == _IMPORTED:
            text = f"{frame.f_code.co_filename}:{frame.f_lineno}: {_guard(what)}"
            _report(text)
            raise NotGuarded(text)
        frame = frame.f_back


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Processes that are started in this context can say why they cannot import the script: see :func:`reason`."""
    found = os.environ.get(_REPORT)
    with tempfile.TemporaryDirectory(prefix="swarm-") as folder:
        os.environ[_REPORT] = os.path.join(folder, "why")  # noqa: PTH118
        try:
            yield
        finally:
            if found is None:
                os.environ.pop(_REPORT, None)
            else:
                os.environ[_REPORT] = found


def reason() -> str | None:
    """Why a process that was started in the context could not import the script, in one line; None if none said so."""
    with contextlib.suppress(KeyError, OSError), open(os.environ[_REPORT], encoding="utf-8") as file:  # noqa: PTH123
        return file.read()
    return None


def listen() -> None:
    """In a process that was started for a script and imports it: say in one line, to the parent, why that fails."""
    process = sys.modules.get("multiprocessing.process")
    if _REPORT in os.environ and process is not None and hasattr(process.current_process(), "_inheriting"):
        sys.excepthook = _say


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    frames = traceback.extract_tb(trace)
    if not any(frame.name.startswith("_fixup_main_from_") for frame in frames):  # it has begun its work
        sys.__excepthook__(kind, error, trace)
        return
    where = [frame for frame in frames if _is_users(frame.filename)]
    place = f"{where[-1].filename}:{where[-1].lineno}: " if where else ""
    _report(f"{place}{kind.__name__}: {error}".splitlines()[0] + ", when a worker process imported it")


def _report(text: str) -> None:
    """Say why, unless it was said: the first reason is the one."""
    with contextlib.suppress(KeyError, OSError), open(os.environ[_REPORT], "x", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text[:_LIMIT])


def _is_users(file: str) -> bool:
    return not file.startswith("<") and os.path.dirname(os.__file__) not in file  # noqa: PTH120


def _guard(what: str) -> str:
    return f'{what} is called whenever the script is imported, as workers do; put it below: if __name__ == "__main__":'
