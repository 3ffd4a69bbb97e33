"""Scripts that many tests run, each in a fork of a process that has imported NumPy and this package already.

A fork is what ``python script.py`` would be, with a ``__main__`` of its own, its arguments, folder and environment, but
for the second of imports. A process per seed of hashes serves all; no two of them have the same hashes or addresses.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
IMPORTED = ("numpy", "pydantic", "swarm.job.problem", "workers.problem")


def run_script(folder: Path, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What ``python name …`` says in a folder."""
    seed = environment.get("PYTHONHASHSEED", os.environ.get("PYTHONHASHSEED", "random"))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        request = {
            "folder": str(folder),
            "arguments": [name, *arguments],
            "environment": {**os.environ, **environment},
            "files": [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)],
        }
        code = _Server.of(seed).ask(request)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([name, *arguments], code, out.read(), err.read())


class _Server:
    """The process that forks, seen from the tests."""

    def __init__(self, seed: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        atexit.register(self.close)

    @classmethod
    @functools.cache
    def of(cls, seed: str) -> _Server:
        """The one of this seed of hashes."""
        return cls(seed)

    def ask(self, request: dict[str, Any]) -> int:
        """The exit status of a script."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    """Fork for each request, and say how the script ended."""
    sys.path.insert(0, str(ROOT))
    for name in IMPORTED:
        importlib.import_module(name)
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in requests:
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "an import has started threads, which no fork has"
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def _become(folder: str, arguments: list[str], environment: dict[str, str], files: list[str]) -> NoReturn:
    """Run the script in this process, and end."""
    for number, file in enumerate([os.devnull, *files]):
        os.dup2(os.open(file, os.O_RDWR), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = Path(folder, arguments[0])
    sys.argv, sys.path[:2] = arguments, [str(path.parent), str(ROOT)]
    main = sys.modules["__main__"] = ModuleType("__main__")
    vars(main).update(__file__=str(path), __builtins__=__builtins__)
    code = 0
    try:
        exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), vars(main))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
