"""The process that holds a loaded problem and forks one child per training, or for slices that follow each other.

Importing TensorFlow takes ten seconds and loading data may take as long; here both are paid once per machine,
and the children share the memory copy-on-write. It is not multiprocessing's fork server because that cannot
run below a Dask worker (a daemonic process), and because this one leaves nothing behind: it ends with the
worker, its children end with it, and a child's whole process group is killed when the child has ended.

Two lines per child lead to the worker. On its *channel* the child hears the evaluation and says
``["started", time]``, ``["report", {…}]`` … ``["result", {…}]``; if it then says ``["waits"]``, it hears the next one
there. At any time it may hear ``["ending", time]``: when its worker ends. The result comes before anything is flushed
or torn down: what a training has made of its process cannot take it back. On its *lifeline* the server says
``["pid", number]``, or ``["refused", why]``, and at last ``["exit", returncode]``; whatever the worker says there, and
the end of the line, kills the child.

Only a process with a single thread, which has touched no GPU, can be forked safely. That is why nothing here starts a
thread; what the problem does is checked before each fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from enum import IntEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from typing import Any, NoReturn

from swarm.trial import Criterion, Evaluation, Result, Status
from swarm.workers.backend import choose
from swarm.workers.bundle import FOLDER
from swarm.workers.checkpoints.artifacts import Artifacts
from swarm.workers.isolation.fork_safety import obstacle
from swarm.workers.isolation.frameworks import prepare as prepare_frameworks
from swarm.workers.isolation.scout import LEARNABLE, NeededError, Scout, settings
from swarm.workers.isolation.settling import place_in_line, settle
from swarm.workers.problem import Problem, attempt, explain, failed, load, prepare
from swarm.workers.replicas.rendezvous import Seat
from swarm.workers.wording import flush

_CHATTER = (b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()")  # TensorFlow's, at its import
_PR_SET_PDEATHSIG = 1


class Sharing(IntEnum):
    """What the children inherit; the worker steps down when the server cannot be forked with it."""

    NOTHING = 0
    MODULES = 1
    PROBLEM = 2


def say(line: Connection, *message: Any) -> None:
    """Sends a message: JSON, so that the worker never unpickles what a training made."""
    line.send_bytes(json.dumps(message).encode())


def hear(line: Connection) -> Any:
    """The next message.

    Raises:
        EOFError: The other side has closed the line.
        OSError: The other side died.
    """
    return json.loads(line.recv_bytes())


class ForkServer:
    """One problem and the children that train it.

    Args:
        control: Requests of the worker; its end is the worker's death.
        data: The pickled problem.
        sharing: What the children inherit.
    """

    def __init__(self, control: Connection, data: bytes, sharing: Sharing) -> None:
        self.control = control
        self.data = data
        self.sharing = sharing
        self.problem: Problem | None = None
        self.preload: list[str] = []
        self.children: dict[Connection, int] = {}  # process by lifeline
        self.wakeup, self._wake = _pipe()
        self.learned, self._learn = _pipe()

    def load(self, modules: list[str]) -> None:
        """Loads the problem and imports what it names, or else imports ``modules`` alone."""
        if self.sharing is Sharing.NOTHING:
            return
        with without_chatter():
            if self.sharing is Sharing.PROBLEM:
                self.problem = load(self.data)
                choose(self.problem)
                self.preload = modules = list(getattr(self.problem, "preload", ()))
            for module in modules:
                importlib.import_module(module)

    def prepare(self) -> None:
        """Prepares the problem, if it is loaded."""
        if self.problem is not None:
            prepare(self.problem)

    def serve(self) -> NoReturn:
        """Forks on request and reaps, until the worker is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler must be there for the wake-up to be written
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self.freeze()
        while True:
            for line in wait([self.control, self.wakeup, *self.children]):
                if line is self.control:
                    self._request()
                elif line == self.wakeup:
                    _drain(self.wakeup)
                    for lifeline in list(self.children):
                        self._reap(lifeline, os.WNOHANG)
                elif isinstance(line, Connection) and line in self.children:
                    self._kill(line)
            self._learn_modules()

    def _request(self) -> None:
        try:
            _, env, heard = hear(self.control)
            channel, lifeline = (Connection(recv_handle(self.control)) for _ in range(2))
            prints = recv_handle(self.control) if heard else None
        except (EOFError, OSError):
            self._end()
        reason = None if self.sharing is Sharing.NOTHING else obstacle()
        if reason is not None:
            say(lifeline, "refused", reason)
        else:
            self._fork(channel, lifeline, env, prints)
        channel.close()
        if prints is not None:
            os.close(prints)

    def _fork(self, channel: Connection, lifeline: Connection, env: dict[str, str], prints: int | None) -> None:
        flush()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            lifeline.close()
            if prints is not None:
                for standard in (1, 2):
                    os.dup2(prints, standard)
                os.close(prints)
            self._child(channel, server, env)
        self.children[lifeline] = pid
        with contextlib.suppress(OSError):  # the worker is gone: the next turn of the loop sees it
            say(lifeline, "pid", pid)

    def _end(self) -> NoReturn:
        for lifeline in list(self.children):
            self._kill(lifeline)
        shutil.rmtree(os.environ.get(FOLDER, ""), ignore_errors=True)  # who would else has perhaps been killed
        os._exit(0)

    def _kill(self, lifeline: Connection) -> None:
        _kill_group(self.children[lifeline])
        self._reap(lifeline, 0)

    def _reap(self, lifeline: Connection, options: int) -> None:
        """Ends a child that has exited: its group is killed, its return code said."""
        pid = self.children[lifeline]
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | options) is None:
            return
        _kill_group(pid)  # before the reaping, while the number can belong to nobody else
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            say(lifeline, "exit", os.waitstatus_to_exitcode(status))
        lifeline.close()
        del self.children[lifeline]

    def _child(self, channel: Connection, server: int, env: dict[str, str]) -> NoReturn:
        """The child, from the fork to its exit."""
        code = 1
        try:
            self._leave_server(server)
            settle(env)
            self._train(channel)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            flush()
            os._exit(code & 0xFF)

    def _leave_server(self, server: int) -> None:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:  # it died before the line above
            os._exit(1)
        self.control.close()
        for lifeline in self.children:
            lifeline.close()

    def _train(self, channel: Connection) -> None:
        """Trains what it hears of, and after a slice the next, unless that failed or left a process running."""
        stays = True
        deadline: float | None = None
        while stays:
            try:
                message = hear(channel)
                if message[0] == "ending":  # it comes at any time
                    deadline = message[1]
                    continue
                fields, checkpoints, artifacts, plain = message
                seat = None if plain is None else Seat.taken(plain, channel)
            except (EOFError, OSError):  # the worker is gone
                return
            evaluation = _evaluation(fields)
            prepare_frameworks(evaluation)
            modules, before = set(sys.modules), settings()
            speech = _Speech(channel)
            speech.deadline, deadline = deadline, None
            result = self._result(speech, evaluation, checkpoints, seat, Artifacts(artifacts))
            speech.end(result)
            self._teach(modules, before)
            flush()
            good = evaluation.slice and result.status is Status.OK and _childless()
            stays = seat is None and (good or evaluation.isolation == "thread")
            if stays:
                say(channel, "waits")

    def _result(
        self,
        speech: _Speech,
        evaluation: Evaluation,
        checkpoints: str | None,
        seat: Seat | None,
        artifacts: Artifacts,
    ) -> Result:
        try:
            if self.problem is None:
                problem = load(self.data)
                prepare(problem)
                self.problem = problem
        except BaseException as error:  # a script that ends with sys.exit(), too: it is not the training that ended
            return failed(evaluation, error)
        speech.say("started", time.time())
        return attempt(self.problem, evaluation, speech.report, checkpoints, seat, speech.left, artifacts)

    def _teach(self, modules: set[str], before: dict[str, str]) -> None:
        """Tells the server what the training had to import."""
        with contextlib.suppress(Exception):  # it may have closed all files, or have os.environ replaced
            if settings() == before:  # else they were perhaps imported with other settings than the server's
                names = [name for name in LEARNABLE if name in sys.modules and name not in modules]
                os.write(self._learn, "".join(f"{name}\n" for name in names).encode())

    def _learn_modules(self) -> None:
        """Imports what a training had to import, so that the next need not."""
        names = [name for name in _drain(self.learned).decode().split() if name not in sys.modules]
        if not names or self.sharing is Sharing.NOTHING:
            return
        for name in names:
            with contextlib.suppress(Exception), without_chatter():
                importlib.import_module(name)
        self.freeze()

    @staticmethod
    def freeze() -> None:
        """Keeps the children's garbage collector off the shared pages."""
        gc.collect()
        gc.freeze()


class _Speech:
    """What the child says of one training: whole messages whichever thread says them, and nothing after the result.

    Args:
        channel: To the worker.
    """

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self._process = os.getpid()
        self._lock = threading.RLock()  # a handler of a signal may report amid a report
        self._ended = False
        self.deadline: float | None = None  # when its worker ends, on the monotonic clock, which is the machine's

    def left(self) -> float | None:
        """Seconds until the worker ends; None if nobody has said that it does."""
        with self._lock, contextlib.suppress(EOFError, OSError):
            while os.getpid() == self._process and not self._ended and self._channel.poll(0):
                _, self.deadline = hear(self._channel)
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def say(self, *message: Any) -> None:
        with self._lock:
            if not self._ended:
                say(self._channel, *message)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Reports; a thread or a process that the training has left, or a fork of it, is not heard."""
        if os.getpid() == self._process:
            self.say("report", dict(metrics))

    def end(self, result: Result) -> None:
        """Says the result; a fork that returned from the training as well is none of ours, and ends."""
        if os.getpid() != self._process:
            os._exit(0)
        with self._lock:
            say(self._channel, "result", result.to_dict())
            self._ended = True


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Holds back what is written to stderr, and lets it through without the notes that no setting silences."""
    flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not line.startswith(_CHATTER)))


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def _drain(descriptor: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, 65536)
    return b""


def _evaluation(fields: dict[str, Any]) -> Evaluation:
    """The evaluation whose fields came as JSON."""
    if isinstance(fields["merit"], list):
        fields["merit"] = tuple(Criterion(**criterion) for criterion in fields["merit"])
    return Evaluation(**fields)


def _childless() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the child may not yet have become a group of its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def ending_with(control: Connection) -> Iterator[None]:
    """Ends this process as soon as the worker's end of ``control`` is closed, even amid an import.

    The kernel then sends SIGIO, whose default action is to end the process. (Nothing is sent on the line
    meanwhile. A parent-death signal would not do: it is bound to the worker's *thread* that started this.)
    """
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    if control.poll(0):  # it was closed before
        os._exit(0)
    try:
        yield
    finally:
        fcntl.fcntl(control, fcntl.F_SETFL, flags)


def serve_on(control: Connection) -> None:
    """Hears what to load, loads it, and serves; returns if that cannot be.

    It says ``["ready", modules, learned]`` or ``["failed", why]``; or, if it was forked from the base, that this should
    import some modules first, ``["needed", modules]``, or that it is no good for the problem, ``["unfit", None]``.
    """
    sharing, modules, tried = hear(control)
    server = ForkServer(control, control.recv_bytes(), Sharing(sharing))
    scout = Scout(tried)
    try:
        with ending_with(control):
            with contextlib.suppress(NeededError), scout:
                server.load(modules)
            if not (scout.needed or scout.unfit):
                server.prepare()
    except BaseException as error:
        if not scout.needed:
            say(control, "failed", explain(error))
            return
    if scout.needed or scout.unfit:  # even if somebody has caught what the scout raised
        preload = [name for name in server.preload if name in LEARNABLE]
        say(control, *(("needed", [*scout.needed, *preload]) if scout.needed else ("unfit", None)))
        return
    say(control, "ready", [server.preload, [name for name in LEARNABLE if name in sys.modules]])
    server.serve()


def main(descriptor: int) -> None:
    """The process of a server that was not forked from the base."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the master
    place_in_line()
    serve_on(Connection(descriptor))


if __name__ == "__main__":
    main(int(sys.argv[1]))
