"""Trainings in child processes of the worker, forked from a :mod:`~swarm.workers.isolation.forkserver` per problem.

A training that has a process of its own can be stopped, gives its memory back, and takes nothing along when
it dies. Slices of trainings follow each other in one child, though, as long as nothing else comes between: what
the first has built, such as a compiled network or a GPU's context, is there for the next.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import logging
import math
import os
import signal
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from swarm.trial import Evaluation, Result, Status
from swarm.workers.context import Report
from swarm.workers.isolation.child import Child, Standby
from swarm.workers.isolation.forkserver import hear, say
from swarm.workers.isolation.output import Output
from swarm.workers.isolation.server import LOAD_SECONDS, SLOW, LoadFailedError, Server, ServerDiedError, base, ended
from swarm.workers.node import ending, gpu, memory
from swarm.workers.node.slots import Slot, own, tell_wait
from swarm.workers.problem import LEFT, exceeded
from swarm.workers.replicas.rendezvous import Seat

SERVERS = 2  # that wait for a training of their problem, for each slot
SPARE_MEMORY = 0.1  # of the machine's, without which no server waits
HERE = Slot("")
CLOSE_SECONDS = 5.0

_ASKED_TO_END = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
)  # by somebody else; what else kills, blames
_HEARING_SECONDS = 1.0  # that such a signal to all processes takes to reach the worker, too

logger = logging.getLogger("swarm.workers")


class _Training:
    """A training, seen from the worker: on its way at first, and running once it has a child."""

    def __init__(self, evaluation: Evaluation, prints: Path | None, artifacts: str | None) -> None:
        self.evaluation = evaluation
        self.prints = prints
        self.artifacts = artifacts
        self.child: Child | None = None  # while it runs; guarded by the lock of the module
        self.cancelled = False
        self.cut_off = False  # since its worker ends
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
        return self._stays and not (self._late or self.cancelled or self.cut_off or self.judged_by)

    def attend(self, child: Child, report: Report, checkpoints: str | None, seat: Seat | None) -> Result:
        """Waits for the training's process to answer and end, or to wait, and has it killed at its limit.

        One that was cancelled on its way hears nothing of the training.
        """
        if self.cancelled:
            return self.ended(Status.CANCELLED, "cancelled")
        if ending.own.begun:
            return self.ended(Status.LOST, LEFT, drained=True)
        self._deadline = time.perf_counter() + LOAD_SECONDS
        child.slices += 1
        child.deterministic = self.evaluation.deterministic
        with child.speaking, contextlib.suppress(OSError):  # it is dead already, which is seen below
            place = None if seat is None else seat.plain()
            say(child.channel, asdict(self.evaluation), checkpoints, self.artifacts, place)
            if seat is not None:
                seat.hand_over(child.channel)
        with _heard(child, self.prints) as output:
            return self._until_ended(child, report, output)

    def _until_ended(self, child: Child, report: Report, output: Output | None) -> Result:
        lines: list[Connection | int] = [child.channel, child.lifeline]
        lines += [] if output is None else [output.descriptor]
        while not self.leaves_child:
            left = max(0.0, self._deadline - time.perf_counter())
            ready = wait(lines, None if self._late or math.isinf(left) else left)
            if output is not None and output.descriptor in ready:
                ready.remove(output.descriptor)
                if not output.take():
                    lines.remove(output.descriptor)
                if not ready:
                    continue
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

    def ended(
        self, status: Status, error: str, fitness: float | None = None, *, blamed: bool = False, drained: bool = False
    ) -> Result:
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
            drained=drained,
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
            return self.ended(Status.FAILED, SLOW if self._start is None else exceeded(limit))
        by_itself = by_itself and -returncode not in _ASKED_TO_END
        if self.cut_off or (not by_itself and ending.own.told(_HEARING_SECONDS)):
            return self.ended(Status.LOST, LEFT, drained=True)
        return self.ended(Status.CRASHED, f"training's process {ended(returncode)}", blamed=by_itself)


def run(
    problem: bytes,
    evaluation: Evaluation,
    report: Report,
    checkpoints: str | None = None,
    seating: AbstractContextManager[Seat | None] | None = None,
    slot: Slot = HERE,
    prints: Path | None = None,
    artifacts: str | None = None,
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
        prints: File that gets what the training prints, of which the beginning and the end are kept; None leaves it
            to the worker's own output.
        artifacts: Folder for the files that the training leaves (:meth:`Context.artifact`); None keeps none.

    Returns:
        What the child returned; FAILED at the time limit, CRASHED if a process died, CANCELLED if asked for,
        LOST if the slot's GPUs have no room (:func:`swarm.workers.node.memory.granted`), FAILED if they never can.

    Raises:
        NotMetError: The replicas have not come together.
    """
    with _listed(evaluation, prints, artifacts) as training, seating or contextlib.nullcontext() as seat:
        follows = problem if seat is None and _follows(evaluation) else None
        child = _waiting[slot.name].take(follows, deterministic=evaluation.deterministic)
        if child is not None:  # it has its memory
            with _borrowed(problem):
                return _run_in(child, training, report, checkpoints, seat, slot)
        env, told = {**os.environ, **slot.env}, functools.partial(tell_wait, slot)
        try:
            with memory.granted(env, evaluation.gpu_memory, say=told) as reason:
                if reason is not None:
                    return Result(key=evaluation.key, status=Status.LOST, error=reason)
                return _forked(problem, training, report, checkpoints, seat, slot)
        except memory.NeverFreeError as error:
            return training.ended(Status.FAILED, str(error))


def _forked(
    problem: bytes,
    training: _Training,
    report: Report,
    checkpoints: str | None,
    seat: Seat | None,
    slot: Slot,
) -> Result:
    """Trains in a new child."""
    with _borrowed(problem) as server:
        child = None
        try:
            if not training.cancelled:
                child = server.fork(_environment_of(slot), heard=training.prints is not None)
        except LoadFailedError as error:
            return training.ended(Status.FAILED, str(error))
        except ServerDiedError as error:
            if not training.cancelled:  # else it was close() that has ended the server
                return training.ended(Status.CRASHED, str(error))
        if child is None:
            return training.ended(Status.CANCELLED, "cancelled")
        return _run_in(child, training, report, checkpoints, seat, slot)


def _run_in(
    child: Child, training: _Training, report: Report, checkpoints: str | None, seat: Seat | None, slot: Slot
) -> Result:
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


def _tell_of_the_end(deadline: float) -> None:
    """Has the trainings that run know that this process ends; those on their way find it out by themselves."""
    with _lock:
        for training in _trainings:
            if training.child is not None:
                training.child.tell(deadline)


def _cut_off() -> None:
    """Kills the trainings of this process, since it ends."""
    with _lock:
        for training in _trainings:
            training.cut_off = True
            if training.child is not None:
                training.child.kill()


def close() -> None:
    """Cancels all trainings and ends all servers of this process; returns when none is left."""
    cancel()
    for standby in list(_waiting.values()):
        standby.take()
    with _lock:
        servers = list(_servers.values())
        _servers.clear()
    base.close()
    for server in servers:
        server.close()


atexit.register(close)

_lock = threading.Lock()
_waiting: defaultdict[str, Standby] = defaultdict(Standby)  # by name of the slot
_servers: OrderedDict[str, Server] = OrderedDict()
_trainings: list[_Training] = []
ending.own.listen(_tell_of_the_end, _cut_off)


@contextlib.contextmanager
def _borrowed(problem: bytes) -> Iterator[Server]:
    """The server of the problem; of those that nobody uses, only the last ``SERVERS`` for each slot are kept."""
    digest = hashlib.sha256(problem).hexdigest()
    with _lock:
        server = _servers.pop(digest, None) or Server(problem)
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
def _listed(evaluation: Evaluation, prints: Path | None, artifacts: str | None) -> Iterator[_Training]:
    """A training of it, where it can be cancelled."""
    training = _Training(evaluation, prints, artifacts)
    with _lock:
        _trainings.append(training)
    try:
        yield training
    finally:
        with _lock:
            _trainings.remove(training)


@contextlib.contextmanager
def _heard(child: Child, prints: Path | None) -> Iterator[Output | None]:
    """What keeps the output of the child's training; None where that is not kept."""
    output = None if child.output is None or prints is None else Output(child.output, prints)
    try:
        yield output
    finally:
        if output is not None:
            output.end()


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


def _environment_of(slot: Slot) -> dict[str, str]:
    """What the environment of a slot's trainings has beside their server's."""
    return {gpu.SLOT: slot.name, **slot.env} if own.several else slot.env
