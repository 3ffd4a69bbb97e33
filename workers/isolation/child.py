"""A child process, seen from the worker, and where it waits for the next slice of a training, or cheap function."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from multiprocessing.connection import Connection, wait

from swarm.workers.isolation.forkserver import hear, say

IDLE_SECONDS = 60.0  # that a child waits for the next slice, and with it a GPU's memory; at 0 none waits
SLICES = 50  # that follow each other in one child: TensorFlow loses some 10 MB with each network that it traces


class Child:
    """A child process, seen from the worker.

    Args:
        problem: What it has loaded, pickled.
        channel: To the child.
        lifeline: To its server, about the child.
        pid: Its process.
        output: The end to read of the pipe into which it prints; None if it prints where its server does.

    Attributes:
        slices: Number of trainings that it has been given.
        deterministic: Whether its frameworks were told to be, for good.
        orphaned: Whether it ended because its server did.
    """

    def __init__(self, problem: bytes, channel: Connection, lifeline: Connection, pid: int, output: int | None) -> None:
        self.problem = problem
        self.channel = channel
        self.lifeline = lifeline
        self.output = output
        self.slices = 0
        self.deterministic = False
        self.orphaned = False
        self.speaking = threading.RLock()  # one message at a time
        self._pid = pid
        self._returncode: int | None = None

    def tell(self, deadline: float) -> None:
        """Have its training know that its worker ends, at this time of the monotonic clock."""
        with self.speaking, contextlib.suppress(OSError):
            say(self.channel, "ending", deadline)

    def kill(self) -> None:
        """Has the server kill its process group."""
        with contextlib.suppress(OSError):
            say(self.lifeline, "kill")

    def wait(self) -> int:
        """Its return code, once it has ended."""
        if self._returncode is None:
            try:
                self._returncode = int(hear(self.lifeline)[1])
            except (EOFError, OSError):  # the server died, and with it the child, but perhaps not its own children
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
                self._returncode, self.orphaned = -signal.SIGKILL, True
        return self._returncode

    def end(self) -> None:
        """Returns when it is gone."""
        if self._returncode is None:
            self.kill()
            self.wait()
        self.channel.close()
        self.lifeline.close()
        if self.output is not None:
            os.close(self.output)
            self.output = None

    def is_waiting(self) -> bool:
        """Whether it lives and says nothing."""
        return not wait([self.channel, self.lifeline], 0)


class Standby:
    """Where the child of the last slice waits for the next: one per slot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._timer: threading.Timer | None = None

    @property
    def problem(self) -> bytes | None:
        """What the child that waits has loaded, pickled; None if none waits."""
        child = self._child
        return None if child is None else child.problem

    def put(self, child: Child, *, cheap: bool = False) -> None:
        """Lets a child wait, for ``IDLE_SECONDS`` at most, or ends it if it has run ``SLICES`` that are not cheap."""
        if (child.slices >= SLICES and not cheap) or IDLE_SECONDS <= 0:
            child.end()
            return
        with self._lock:
            if (before := self._removed()) is not None:  # of another thread, which is no slot of its own
                before.end()
            self._child, self._timer = child, threading.Timer(IDLE_SECONDS, self.take)
            self._timer.daemon = True  # it must not hold up the end of this process
            self._timer.start()

    def take(self, problem: bytes | None = None, *, deterministic: bool = False) -> Child | None:
        """The child that waits, if it has loaded the problem; if it has not, it is gone when this returns."""
        with self._lock:
            child = self._removed()
            suits = child is not None and (child.problem, child.deterministic) == (problem, deterministic)
            if child is None or (suits and child.is_waiting()):
                return child
            child.end()
            return None

    def _removed(self) -> Child | None:
        if self._timer is not None:
            self._timer.cancel()
        child, self._child = self._child, None
        return child
