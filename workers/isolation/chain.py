"""The base of a worker's servers, seen from the worker: see :mod:`swarm.workers.isolation.base`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import send_handle
from typing import Protocol

from swarm.workers.bundle import FOLDER
from swarm.workers.isolation.forkserver import hear, say

_PR_SET_CHILD_SUBREAPER = 36


class Process(Protocol):
    """A server's process, as :class:`subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    @property
    def returncode(self) -> int | None:
        """How it ended, as far as that was waited for."""
        ...

    def kill(self) -> None:
        """Ends it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its return code, once it has ended."""
        ...


class Adopted:
    """A process that the base has forked, and that is this one's child now."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def kill(self) -> None:
        """Ends it, if it has not been waited for."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self.returncode is None:
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its return code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not in time.
        """
        with contextlib.suppress(ProcessLookupError):  # it was reaped before
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.returncode is None and not wait([descriptor], timeout):
                    raise subprocess.TimeoutExpired("server", timeout or 0.0)
            finally:
                os.close(descriptor)
        self._reap()
        assert self.returncode is not None  # it has ended
        return self.returncode

    def _reap(self) -> None:
        with self._lock:
            if self.returncode is None:
                try:
                    _, status = os.waitpid(self.pid, 0)
                except ChildProcessError:  # somebody else has it, as where this process may adopt none
                    status = signal.SIGKILL
                self.returncode = os.waitstatus_to_exitcode(status)


class Base:
    """The process that has imported the frameworks; started when first needed.

    Attributes:
        tried: Names of the modules that it was told to import.
    """

    def __init__(self) -> None:
        self.tried: list[str] = []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None
        self._env: dict[str, str] = {}
        self._useless = False  # it has several threads, or an import kills it
        self._closing = False

    def fork(self, env: Mapping[str, str]) -> tuple[Connection, Adopted] | None:
        """A new server, and the line to it; None if a forked one would differ from one that is started fresh.

        Args:
            env: All of its environment.
        """
        with self._lock:
            own = {name: value for name, value in env.items() if name != FOLDER}
            if self._useless or (self._process is not None and self._env != own):
                return None
            try:
                return self._forked(self._running(own), env)
            except (EOFError, OSError):
                self._bury()
                return None

    def teach(self, names: Iterable[str]) -> None:
        """Has it import modules that it has not yet tried to; returns when it has."""
        with self._lock:
            new = [name for name in names if name not in self.tried]
            if not new or self._control is None:
                return
            self.tried += new
            try:
                say(self._control, "import", new)
                hear(self._control)
            except (EOFError, OSError):  # an import has killed it, or close() has
                self._useless = not self._closing
                self._bury()

    def close(self) -> None:
        """Ends it, amid an import, too."""
        self._closing = True
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._bury()
            self._closing = False

    def _running(self, env: dict[str, str]) -> Connection:
        if self._control is not None:
            return self._control
        control, self._process = spawned("base", env)
        self._control, self._env = control, env
        return control

    def _forked(self, control: Connection, env: Mapping[str, str]) -> tuple[Connection, Adopted] | None:
        assert self._process is not None  # it runs
        mine, theirs = Pipe()
        with theirs, _adopting():
            say(control, "fork", dict(env))
            send_handle(control, theirs.fileno(), self._process.pid)
            answer, number = hear(control)
        if answer == "pid":
            return mine, Adopted(number)
        mine.close()
        self._useless = True
        self._bury()
        return None

    def _bury(self) -> None:
        if self._process is not None and self._control is not None:
            self._control.close()
            self._process.kill()
            self._process.wait()
        self._process = self._control = None
        self.tried = []


def spawned(module: str, env: Mapping[str, str]) -> tuple[Connection, subprocess.Popen[bytes]]:
    """A new process that runs a module of this folder, and the line to it.

    Args:
        module: Its name.
        env: All of its environment.
    """
    control, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", f"swarm.workers.isolation.{module}", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,  # a signal to the worker's group must not end it before its trainings
        )
    return control, process


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Whoever loses its parent below this process meanwhile becomes its child."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
