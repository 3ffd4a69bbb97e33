"""A file of the user's that hides a module of Python's, or of a library: ``string.py`` beside the script.

Whatever imports that module gets the user's file, far from his own code: here, or in the worker processes alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from swarm.errors import NotStarted, ScriptEnded

_LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_SECONDS = 120.0


def check_unhidden() -> None:
    """See that a worker process that is started here can import what it needs.

    It is tried only where a file has the name of such a module: most of those do no harm.

    Raises:
        NotStarted: It cannot; the text names the file.
    """
    hiding = _hiding()
    if not hiding:
        return
    code = (
        "import multiprocessing.spawn, sys\n"  # as a process that multiprocessing starts does, in this folder
        f"sys.path[:] = {sys.path!r}\n"
        "import distributed, swarm.job, swarm.workers.evaluate\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},  # as trainings have it
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return
    if done.returncode:
        named = [file for file in hiding if str(file) in done.stderr] or hiding
        why = (done.stderr.strip().splitlines() or [""])[-1]
        raise NotStarted(_text(named[-1] if str(named[-1]) in why else named[0], why))


def explain(error: Exception) -> None:
    """Say what is wrong if a file of the user's is why a module of ours cannot be imported.

    Args:
        error: What the import raised.

    Raises:
        ScriptEnded: In a script beside that file: it ends with one line.
        ImportError: Elsewhere.
    """
    found = next((file for file in _hiding() if _is_to_blame(file, error)), None)
    if found is None:
        return
    text = _text(found, f"{type(error).__name__}: {error}".splitlines()[0])
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is not None and Path(script).resolve().parent in found.parents:
        raise ScriptEnded(text) from None
    raise ImportError(text) from error


def _hiding() -> list[Path]:
    """The user's files and packages with a name of Python's modules, or of what is imported here from elsewhere."""
    found = []
    for folder in dict.fromkeys(Path(each or ".").resolve() for each in ("", *_before_libraries())):
        try:
            there = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in there:
            name = entry.name.removesuffix(".py")
            file = folder / entry.name if name != entry.name else folder / name / "__init__.py"
            if name.isidentifier() and _is_anothers(name, file) and file.is_file():
                found.append(file)
    return found


def _before_libraries() -> list[str]:
    """The folders of the search path that come before those of Python and its libraries."""
    place = (n for n, folder in enumerate(sys.path) if folder and Path(folder).resolve() in _LIBRARIES)
    return sys.path[: next(place, len(sys.path))]


def _is_anothers(name: str, file: Path) -> bool:
    if name in sys.stdlib_module_names:
        return True
    there = getattr(sys.modules.get(name), "__file__", None)
    return there is not None and Path(there).resolve() != file and (name == "swarm" or _is_library(Path(there)))


def _is_library(file: Path) -> bool:
    return any(folder in file.resolve().parents for folder in _LIBRARIES) or "site-packages" in file.parts


def _is_to_blame(file: Path, error: BaseException) -> bool:
    """Whether the import met this file: by the error's own text, its module or its traceback."""
    if str(file) in f"{error} {getattr(error, 'path', '')} {getattr(getattr(error, 'obj', None), '__file__', '')}":
        return True
    module = sys.modules.get(_name(file))
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == _name(file):
        return getattr(module, "__file__", str(file)) == str(file)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            return True
        trace = trace.tb_next
    return False


def _name(file: Path) -> str:
    return file.parent.name if file.name == "__init__.py" else file.stem


def _text(file: Path, why: str) -> str:
    name, what = _name(file), file.parent if file.name == "__init__.py" else file
    whose = "Python's own module" if name in sys.stdlib_module_names else "the library"
    return f"{what} hides {whose} {name} ({why}): give it another name, such as my_{what.name}"
