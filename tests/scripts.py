"""Scripts and commands that many tests run, each in a fork of a process that has imported what they import.

A fork is what ``python script.py`` would be, with a ``__main__`` of its own, its arguments, folder and environment, but
for the seconds of imports. No two processes that fork have the same hashes or addresses.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
SWARM = str(Path(sys.executable).with_name("swarm"))
OF_SCRIPTS = ("numpy", "pydantic", "swarm.job.problem", "swarm.workers.problem")
OF_COMMANDS = (
    "pandas",
    "swarm.cli",
    "swarm.client",
    "swarm.cluster.at_home",
    "swarm.runner",
    "swarm.terminal.progress",
)

SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pandas imports pyarrow if it is there
}
"""What keeps the imports from starting threads, which no fork would have."""


def run_script(folder: Path, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What ``python name …`` says in a folder; with a ``PYTHONHASHSEED`` of one's own, too."""
    seed = environment.get("PYTHONHASHSEED", os.environ.get("PYTHONHASHSEED", "random"))
    return _Server.of(seed, OF_SCRIPTS).run(folder, [name, *arguments], {**os.environ, **environment})


def run_swarm(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What ``swarm …`` says in a folder; variables that are read by an import, as by Dask's, have no effect."""
    return _Server.of("random", OF_COMMANDS).run(folder, [SWARM, *arguments], {**os.environ, **environment})


class _Server:
    """The process that forks, seen from the tests."""

    def __init__(self, seed: str, modules: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONHASHSEED": seed, **SINGLE_THREADED},
        )
        atexit.register(self.close)

    @classmethod
    @functools.cache
    def of(cls, seed: str, modules: tuple[str, ...]) -> _Server:
        """The one of this seed of hashes that has imported these modules; started when first needed."""
        return cls(seed, modules)

    def run(self, folder: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """What a script says, and how it ends."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
            request = {"folder": str(folder), "arguments": arguments, "environment": environment, "files": files}
            try:
                code = self._ask(request)
            except BaseException:  # such as a test's time limit: its answer is not to be taken for the next one's
                self._process.kill()
                _Server.of.cache_clear()
                raise
            return subprocess.CompletedProcess(arguments, code, *(_written(file) for file in (out, err)))

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _written(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _serve(modules: list[str]) -> None:
    """Fork for each request, and say how the script ended; in the fork, be the script."""
    sys.path.insert(0, str(ROOT))
    for name in modules:
        pkgutil.resolve_name(name)  # for an import_module(name), jobs of tests would take all files here along
    gc.collect()
    gc.freeze()  # else the first collection of a fork, as at its end, copies all that was imported
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in requests:
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "imports have started threads"
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def _become(folder: str, arguments: list[str], environment: dict[str, str], files: list[str]) -> None:
    """Run the script in this process, whose end is the script's."""
    for number, file in enumerate([os.devnull, *files]):
        os.dup2(os.open(file, os.O_RDWR), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = Path(folder, arguments[0])
    sys.argv, sys.path[:2] = arguments, [str(path.parent), str(ROOT)]
    main = sys.modules["__main__"] = ModuleType("__main__")
    vars(main).update(__file__=str(path), __builtins__=__builtins__)
    exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), vars(main))


if __name__ == "__main__":
    _serve(sys.argv[1:])
