"""Trainings in child processes of the worker, forked from a :mod:`~swarm.workers.isolation.forkserver` per problem.

A training that has a process of its own can be stopped, gives its memory back, and takes nothing along when
it dies. Slices of trainings follow each other in one child, though, as long as nothing else comes between: what
the first has built, such as a compiled network or a GPU's context, is there for the next.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import send_handle
from typing import Any

import psutil

from swarm.trial import Evaluation, Result, Status
from swarm.workers.bundle import FOLDER
from swarm.workers.context import Report
from swarm.workers.isolation.chain import Base, Process
from swarm.workers.isolation.child import Child, Standby
from swarm.workers.isolation.forkserver import Sharing, hear, say
from swarm.workers.isolation.scout import FRAMEWORKS
from swarm.workers.isolation.settling import SLOT_PLACE
from swarm.workers.node import gpu
from swarm.workers.node.slots import SLOTS, Slot, own
from swarm.workers.problem import exceeded
from swarm.workers.replicas.rendezvous import Seat

SERVERS = 2  # that wait for a training of their problem, for each slot
SPARE_MEMORY = 0.1  # of the machine's, without which no server waits
HERE = Slot("")
LOAD_SECONDS = 900.0
CLOSE_SECONDS = 5.0

_SLOW = f"its problem was not loaded and prepared within {LOAD_SECONDS:g} s"

_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # somebody else has sent it; what else kills, blames

logger = logging.getLogger("swarm.workers")


def environment() -> dict[str, str]:
    """Defaults of the variables that a training's libraries read; what the worker's environment sets, wins.

    One thread per slot where there is no GPU: the slots share the machine's cores, and the number of threads
    changes the last bits of a training's sums.
    """
    defaults = {
        "OMP_NUM_THREADS": "1",  # more would leave threads behind at the import of NumPy: no safe fork
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pandas imports pyarrow if it is there: the same
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # else torch.cuda.is_available() initialises CUDA: no safe fork
    }
    if gpu.GPUS_PER_TRAINING not in os.environ:  # nobody says whether the GPU is shared
        defaults["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "") in ("", "-1"):
        defaults |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return defaults


class _LoadFailedError(Exception):
    """The problem cannot be loaded or prepared; the text says why."""


class _ServerDiedError(Exception):
    """The server ended by itself; the text says how."""


class _Training:
    """A training, seen from the worker: on its way at first, and running once it has a child."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.child: Child | None = None  # while it runs; guarded by the lock of the module
        self.cancelled = False
        self.judged_by: str | None = None  # the metric by which it was found hopeless
        self._reported: dict[str, float] = {}  # the last value of each metric
        self._start: float | None = None  # when it began to train, on the wall clock …
        self._clock = time.perf_counter()  # … and on this one, which is never set back
        self._deadline = math.inf
        self._result: Result | None = None
        self._stays = False
        self._late = False

    @property
    def leaves_child(self) -> bool:
        """Whether its process has answered and waits for another slice, and nobody has had it killed."""
        return self._stays and not (self._late or self.cancelled or self.judged_by)

    def attend(self, child: Child, report: Report, checkpoints: str | None, seat: Seat | None) -> Result:
        """Waits for the training's process to answer and end, or to wait, and has it killed at its limit.

        One that was cancelled on its way hears nothing of the training.
        """
        if self.cancelled:
            return self.ended(Status.CANCELLED, "cancelled")
        self._deadline = time.perf_counter() + LOAD_SECONDS
        child.slices += 1
        with contextlib.suppress(OSError):  # it is dead already, which is seen below
            say(child.channel, asdict(self.evaluation), checkpoints, None if seat is None else seat.plain())
            if seat is not None:
                seat.hand_over(child.channel)
        lines = [child.channel, child.lifeline]
        while not self.leaves_child:
            left = max(0.0, self._deadline - time.perf_counter())
            ready = wait(lines, None if self._late or math.isinf(left) else left)
            if not ready:
                self._late = True
                child.kill()
            elif child.channel in ready:  # first: what it said comes before its end
                if not self._listen(child.channel, report):
                    lines.remove(child.channel)
            else:
                return self._conclude(child.wait(), by_itself=not child.orphaned)
        assert self._result is not None  # it comes before the word that the child waits
        return self._result

    def ended(self, status: Status, error: str, fitness: float | None = None, *, blamed: bool = False) -> Result:
        """The result of a training that has not given one itself."""
        now = time.time()
        return Result(
            key=self.evaluation.key,
            status=status,
            fitness=fitness,
            error=error,
            start=self._start or now,
            end=now,
            seconds=0.0 if self._start is None else time.perf_counter() - self._clock,
            blamed=blamed,  # who was too slow, or had no problem to train, is not
        )

    def _listen(self, channel: Connection, report: Report) -> bool:
        try:
            kind, *said = hear(channel)
        except (EOFError, OSError):
            return False
        content: Any = said[0] if said else None
        if kind == "started":
            self._start, self._clock = content, time.perf_counter()
            self._deadline = self._clock + (self.evaluation.time_limit or math.inf)
        elif kind == "report":
            self._reported.update(content)
            report(content)
        elif kind == "result":
            self._result = Result.from_dict(content)
            self._deadline = time.perf_counter() + CLOSE_SECONDS  # to flush, and to end or to wait: it is not blamed
        else:
            self._stays = True
        return True

    def _conclude(self, returncode: int, *, by_itself: bool) -> Result:
        if self._result is not None:
            return self._result
        if self.judged_by is not None and self.judged_by in self._reported:
            fitness = self._reported[self.judged_by]
            return self.ended(Status.PRUNED, f"ended early: {self.judged_by} was hopeless", fitness)
        if self.cancelled:
            return self.ended(Status.CANCELLED, "cancelled")
        if self._late:
            limit = self.evaluation.time_limit or math.inf
            return self.ended(Status.FAILED, _SLOW if self._start is None else exceeded(limit))
        by_itself = by_itself and -returncode not in _ASKED_TO_END
        return self.ended(Status.CRASHED, f"training's process {_ended(returncode)}", blamed=by_itself)


class _Server:
    """A fork server and how much its children share; started when first needed, and again if it died."""

    def __init__(self, problem: bytes) -> None:
        self.users = 0  # evaluating threads; guarded by the lock of the module
        self._problem = problem
        self._sharing = Sharing.PROBLEM
        self._modules: list[str] = []
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._control: Connection | None = None
        self._closed = False
        self._folder: str | None = None  # of the sources that came with the problem

    def fork(self, env: Mapping[str, str]) -> Child:
        """A new child.

        Args:
            env: What its environment has beside the server's.

        Raises:
            _LoadFailedError: The problem cannot be loaded.
            _ServerDiedError: The server ended meanwhile, or was closed.
        """
        with self._lock:
            while True:
                idle = self._process is not None
                try:
                    channel, lifeline, (answer, said) = self._request(env)
                except _ServerDiedError:
                    if not idle:
                        raise
                    continue  # it had died before, which is no fault of the training
                if answer == "pid":
                    return Child(self._problem, channel, lifeline, int(said))
                self._step_down(str(said))

    def close(self) -> None:
        """Ends the server and its trainings for good, amid its loading too; returns when no process is left."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None and process is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(control.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # not closed, since another thread may be waiting for it
            self._bury(process)

    def _request(self, env: Mapping[str, str]) -> tuple[Connection, Connection, tuple[str, int | str]]:
        control, process = self._running()
        (channel, theirs), (lifeline, held) = Pipe(), Pipe()
        with theirs, held:
            try:
                say(control, "train", dict(env))
                for line in (theirs, held):
                    send_handle(control, line.fileno(), process.pid)
            except OSError:
                raise self._died(process) from None
        try:
            return channel, lifeline, tuple(hear(lifeline))
        except (EOFError, OSError):
            raise self._died(process) from None

    def _running(self) -> tuple[Connection, Process]:
        control, process = self._control, self._process
        return self._launch() if control is None or process is None else (control, process)

    def _launch(self) -> tuple[Connection, Process]:
        """A new server that has loaded the problem: forked from the base if that can be, else started anew."""
        chained = SLOTS in os.environ and self._sharing is Sharing.PROBLEM
        while True:
            if self._closed:
                raise _ServerDiedError("the process that holds the problem was ended")
            self._folder = tempfile.mkdtemp(prefix="swarm-")
            env = _server_environment(self._folder)
            tried = list(_base.tried)
            begun = _base.fork(env) if chained else None
            control, process = begun or _started(env)
            answer, content = self._load(control, process, tried if begun else None)
            if answer == "ready":
                self._modules, learned = content
                _learn(learned)
                return control, process
            self._control = self._process = None
            if answer == "failed":
                process.kill()
            self._bury(process)
            control.close()
            if answer == "failed":
                raise _LoadFailedError(content)
            if answer == "needed":
                _base.teach(content)
            chained = answer == "needed"

    def _load(self, control: Connection, process: Process, tried: list[str] | None) -> tuple[str, Any]:
        """What a new server says once it has loaded the problem."""
        self._control, self._process = control, process  # from now on close() finds it …
        if self._closed:  # … but it has been here before
            self._stop()
        try:
            say(control, self._sharing, self._modules, tried)
            control.send_bytes(self._problem)
            answer, content = hear(control) if control.poll(LOAD_SECONDS) else ("failed", _SLOW)
        except (EOFError, OSError):
            raise self._died(process) from None
        return answer, content

    def _died(self, process: Process) -> _ServerDiedError:
        self._process = self._control = None
        self._bury(process)
        return _ServerDiedError(f"the process that holds the problem {_ended(process.wait())}")

    def _bury(self, process: Process) -> None:
        """Waits for the server's end, and removes the files that it has read the problem from."""
        _end(process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _step_down(self, reason: str) -> None:
        self._stop()
        self._sharing = Sharing(self._sharing - 1)
        logger.warning(
            "importing and preparing the problem left %s, which cannot be forked; each training now "
            "%s. Let imports and prepare() start no thread and touch no device, and set OMP_NUM_THREADS=1",
            reason,
            "prepares it itself" if self._sharing is Sharing.MODULES else "imports and prepares it itself",
        )


def run(
    problem: bytes,
    evaluation: Evaluation,
    report: Report,
    checkpoints: str | None = None,
    seating: AbstractContextManager[Seat | None] | None = None,
    slot: Slot = HERE,
) -> Result:
    """Trains in a child process.

    From this call on the training can be cancelled: while it waits for its seat, for GPUs or for the problem, too.

    Args:
        problem: The pickled problem.
        evaluation: What to train.
        report: Takes what the training reports on the way, in the calling thread.
        checkpoints: URL of the checkpoints, or None.
        seating: Gives the place among several replicas, whose lines the child takes over; None trains alone.
        slot: Where it trains; left out, this process is a slot by itself.

    Returns:
        What the child returned; FAILED at the time limit, CRASHED if a process died, CANCELLED if asked for,
        LOST if the slot's GPUs are not free (:func:`swarm.workers.node.gpu.obstacle`).

    Raises:
        NotMetError: The replicas have not come together.
    """
    with _listed(evaluation) as training, seating or contextlib.nullcontext() as seat:
        child = _waiting[slot.name].take(problem if seat is None and _follows(evaluation) else None)
        if child is None and (reason := gpu.obstacle({**os.environ, **slot.env})) is not None:
            return Result(key=evaluation.key, status=Status.LOST, error=reason)
        with _borrowed(problem) as server:
            try:
                if child is None and not training.cancelled:
                    child = server.fork(_environment_of(slot))
            except _LoadFailedError as error:
                return training.ended(Status.FAILED, str(error))
            except _ServerDiedError as error:
                if not training.cancelled:  # else it was close() that has ended the server
                    return training.ended(Status.CRASHED, str(error))
            if child is None:
                return training.ended(Status.CANCELLED, "cancelled")
            with _given(child, training, _waiting[slot.name]):
                return training.attend(child, report, checkpoints, seat)


def rank(problem: bytes, evaluation: Evaluation) -> Callable[[Slot], int]:
    """What tells how well slots suit an evaluation, the lower the better.

    Best is where a process waits that has the problem, if that may train it, and worst where another one waits, which
    would have to end.
    """

    def suits(slot: Slot) -> int:
        loaded = _waiting[slot.name].problem
        if loaded is None:
            return 1
        return 0 if loaded == problem and _follows(evaluation) else 2

    return suits


def cancel(key: str | None = None) -> int:
    """Kills the trainings of this process, or those of the evaluation ``key``; they end as CANCELLED.

    One that is on its way ends before it begins; a problem that is being loaded is, for the next training.

    Returns:
        How many there were.
    """
    with _lock:
        chosen = [training for training in _trainings if key in (None, training.evaluation.key)]
        for training in chosen:
            training.cancelled = True
            if training.child is not None:
                training.child.kill()  # under the lock, since another training may have the child later
    return len(chosen)


def prune(key: str, metric: str) -> None:
    """Ends the running training of evaluation ``key`` as PRUNED; its last report of ``metric`` is its fitness."""
    with _lock:
        for training in _trainings:
            if training.evaluation.key == key and training.child is not None:
                training.judged_by = metric
                training.child.kill()


def close() -> None:
    """Cancels all trainings and ends all servers of this process; returns when none is left."""
    cancel()
    for standby in list(_waiting.values()):
        standby.take()
    with _lock:
        servers = list(_servers.values())
        _servers.clear()
    _base.close()
    for server in servers:
        server.close()


atexit.register(close)

_lock = threading.Lock()
_base = Base()
_waiting: defaultdict[str, Standby] = defaultdict(Standby)  # by name of the slot
_servers: OrderedDict[str, _Server] = OrderedDict()
_trainings: list[_Training] = []


@contextlib.contextmanager
def _borrowed(problem: bytes) -> Iterator[_Server]:
    """The server of the problem; of those that nobody uses, only the last ``SERVERS`` for each slot are kept."""
    digest = hashlib.sha256(problem).hexdigest()
    with _lock:
        server = _servers.pop(digest, None) or _Server(problem)
        _servers[digest] = server  # the last, which is the last to be ended
        server.users += 1
        idle = [name for name, other in _servers.items() if not other.users]
        evicted = [_servers.pop(name) for name in idle[: max(0, len(_servers) - _servers_kept())]]
    for other in evicted:
        other.close()
    try:
        yield server
    finally:
        with _lock:
            server.users -= 1


@contextlib.contextmanager
def _listed(evaluation: Evaluation) -> Iterator[_Training]:
    """A training of it, where it can be cancelled."""
    training = _Training(evaluation)
    with _lock:
        _trainings.append(training)
    try:
        yield training
    finally:
        with _lock:
            _trainings.remove(training)


@contextlib.contextmanager
def _given(child: Child, training: _Training, standby: Standby) -> Iterator[None]:
    """The training has the child, which dies if it is cancelled or pruned. Afterwards the child waits, or is gone.

    Whoever has cancelled before found no child to kill, but :meth:`_Training.attend` finds that it is cancelled.
    """
    with _lock:
        training.child = child
    try:
        yield
    finally:
        with _lock:
            training.child = None
        if training.leaves_child:
            standby.put(child, cheap=training.evaluation.isolation == "thread")
        else:
            child.end()


def _servers_kept() -> int:
    """How many servers there may be before those that nobody uses are ended: none of these where memory is short."""
    memory = psutil.virtual_memory()
    return SERVERS * max(1, len(own.all)) if memory.available > SPARE_MEMORY * memory.total else 0


def _follows(evaluation: Evaluation) -> bool:
    """Whether it may run in the process of another before it."""
    return evaluation.slice or evaluation.isolation == "thread"


def _end(process: Process) -> None:
    """Waits for a server whose line is cut, and loses patience after a while."""
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with code {returncode}"
    return f"was killed by signal {-returncode} ({signal.Signals(-returncode).name})"


def _started(env: dict[str, str]) -> tuple[Connection, Process]:
    """A server that shares nothing with others, and the line to it."""
    control, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarm.workers.isolation.forkserver", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,  # a signal to the worker's group must not end it before its trainings
        )
    return control, process


def _learn(names: list[str]) -> None:
    """Has the base import, in the background, what a server has imported by itself, but no framework so large."""
    new = [name for name in names if name not in FRAMEWORKS]
    if not set(new) <= set(_base.tried):
        threading.Thread(target=_base.teach, args=(new,), name="swarm-base", daemon=True).start()


def _environment_of(slot: Slot) -> dict[str, str]:
    """What the environment of a slot's trainings has beside their server's."""
    return {gpu.SLOT: slot.name, **slot.env} if own.several else slot.env


def _server_environment(folder: str) -> dict[str, str]:
    """Environment of a server that has its problem's sources in a folder; a child of it has its slot's as well."""
    env = {**environment(), **os.environ, "PYTHONPATH": _python_path(), FOLDER: folder}
    if own.several:
        env.setdefault(gpu.SLOT, SLOT_PLACE)
    env.pop(SLOTS, None)
    return env


def _python_path() -> str:
    """This process's module search path, for problems that are pickled by reference."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
