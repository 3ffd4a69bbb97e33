"""The one function that the master submits to a Dask worker."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from swarm.trial import STARTS_OVER, Evaluation, Result, Status, artifacts_in, output_in
from swarm.workers.bundle import Bundle
from swarm.workers.checkpoints.artifacts import Artifacts
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.checkpoints.results import commit, committed
from swarm.workers.context import Curve, Report
from swarm.workers.isolation import process
from swarm.workers.isolation.server import environment
from swarm.workers.node import ending
from swarm.workers.node.slots import Slot, own, tell_lease
from swarm.workers.problem import LEFT, Problem, attempt, checked, explain, failed, load, prepare
from swarm.workers.replicas.rendezvous import NotMetError, Seat, seated

LOADED_LIMIT = 4
_NO_ROOM = tuple(f"OSError: [Errno {number}]" for number in (errno.ENOSPC, errno.EDQUOT))

Announce = Callable[[Mapping[str, Any]], None]
Seating = AbstractContextManager[Seat | None]
Run = Callable[[bytes, Evaluation, Report, str | None, Seating], Result]

_loaded: OrderedDict[str, tuple[Problem, Bundle | None]] = OrderedDict()
_loading = threading.Lock()


def evaluate(
    problem: bytes,
    evaluation: Evaluation,
    results: str | None = None,
    topic: str | None = None,
    checkpoints: str | None = None,
    invitation: Mapping[str, Any] | None = None,
) -> Result:
    """Trains once and says how it went. It may safely be run again, and whatever happens it does not raise.

    Args:
        problem: The problem, pickled with cloudpickle.
        evaluation: What to train; ``isolation`` says where. A training in a child process is stopped at its
            time limit. With ``thread`` one child of the slot runs them all, one after another; where the worker has one
            slot they run in this thread, which cannot be stopped, and count as failed if they took longer.
        results: Directory of committed results that all workers share, or None. An evaluation in a child
            process that has one there is not trained again, and commits its own before it returns. What it prints
            is kept beside it, and so are the files that it leaves, in a thread, too.
        topic: Dask event topic on which what the training reports is announced as it comes, and the result, too:
            it is with the master as soon as the news that the task has finished, which saves fetching it.
        checkpoints: URL of the checkpoints that all workers share, or None to keep none. The training may then
            continue its parent's, and leave one of its own under its key; a committed result that speaks of a
            checkpoint which is no longer there is trained again.
        invitation: For a training of several replicas, what the first of them has announced on the topic, with the
            ``rank`` of this one; None for the first, which waits for the others. Its result is the training's.

    Returns:
        The result: OK, FAILED by the training's own fault, PRUNED if it was hopeless, CRASHED if its process died or
        found a disk full, CANCELLED, as also when another replica has ended, or LOST if this slot's GPUs are not free,
        whereupon it is not offered until they are, or if this worker was told to end.
    """
    announce = _announcer(topic)
    place = _place(evaluation, checkpoints)
    if ending.own.begun:  # it was on its way here
        result = _left(evaluation.key)
    else:
        with (
            own.leased(process.rank(problem, evaluation)) as slot,
            ending.own.awaited(lambda: announce({"result": _left(evaluation.key).to_dict()})),
        ):
            if topic is not None:
                tell_lease(slot)
            result = _evaluated(problem, evaluation, results, place, announce, invitation, slot)
            if result.drained:
                result = replace(result, error=f"{LEFT}; {_what_follows(evaluation.key, place)}")
                ending.own.note(f"training {evaluation.key[:8]}: {_what_follows(evaluation.key, place)}")
    announce({"result": result.to_dict()})
    return result


def call(
    problem: bytes,
    evaluation: Evaluation,
    announce: Callable[[str, Mapping[str, float]], None],
    checkpoints: str | None,
    results: str | None = None,
) -> Result:
    """Trains in this thread of the user's own process, whose environment stays what it is. It does not raise.

    Args:
        problem: The problem, pickled with cloudpickle, whose modules this process has (:meth:`Bundle.is_here`).
        evaluation: What to train.
        announce: Takes the key and the metrics of what the training reports on the way.
        checkpoints: URL of the checkpoints, or None to keep none.
        results: Folder beside whose results the files are kept that trainings leave; None keeps none.
    """

    def say(message: Mapping[str, Any]) -> None:
        if "report" in message:
            announce(message["report"]["key"], message["report"]["metrics"])

    run = partial(_in_thread, artifacts=_left_in(results, evaluation), at_home=True)
    return _answer(run, problem, evaluation, _place(evaluation, checkpoints), say, None)


def _evaluated(
    problem: bytes,
    evaluation: Evaluation,
    results: str | None,
    checkpoints: str | None,
    announce: Announce,
    invitation: Mapping[str, Any] | None,
    slot: Slot,
) -> Result:
    artifacts = _left_in(results, evaluation)
    if evaluation.isolation == "thread" and not own.several:
        in_thread = partial(_in_thread, artifacts=artifacts)
        result = _answer(in_thread, problem, evaluation, checkpoints, announce, invitation)
        return replace(result, slot=slot.name)
    results = None if evaluation.isolation == "thread" else results
    if results is not None and (known := committed(results, evaluation.key)) and _complete(known, checkpoints):
        return known
    prints = None if results is None else Path(output_in(results, evaluation.key))
    run = partial(process.run, slot=slot, prints=prints, artifacts=artifacts)
    result = replace(_answer(run, problem, evaluation, checkpoints, announce, invitation), slot=slot.name)
    if result.status is Status.LOST and not result.drained:
        own.set_aside(slot, evaluation.gpu_memory)
    if results is not None:
        commit(results, result)
    return result


def _left_in(results: str | None, evaluation: Evaluation) -> str | None:
    """Folder for the files that a training leaves; None where no folder is known that all workers see."""
    return None if results is None else artifacts_in(results, evaluation.key)


def _place(evaluation: Evaluation, checkpoints: str | None) -> str | None:
    """Where its checkpoint is kept. A whole training can do without, though it is kept in case it wins.

    So its test score has none; and what lies beside a store that is not on this machine would be found by nobody.
    """
    if checkpoints is None or evaluation.budget is not None or evaluation.parent is not None:
        return checkpoints
    beside = Path(checkpoints).parent
    lost = beside.suffix == ".artifacts" and not beside.with_suffix("").exists()
    return None if lost or evaluation.purpose == "test" else checkpoints


def _left(key: str) -> Result:
    """The result of a training that has not begun, or is given up, since this worker ends."""
    return Result(key=key, status=Status.LOST, error=LEFT, drained=True)


def _what_follows(key: str, checkpoints: str | None) -> str:
    """What becomes of a training that ended since this worker does, in words."""
    if checkpoints is None:
        return (
            f"{STARTS_OVER}, since no checkpoints are kept of it: "
            "its job says so by `checkpoints: true`, and the master has a place by --checkpoints"
        )
    saved = False
    with suppress(Exception):  # the storage is away: who goes on sees
        saved = CheckpointStore(checkpoints).has_saved(key)
    return "it goes on elsewhere from what it saved" if saved else f"{STARTS_OVER}: it had saved nothing"


def _complete(result: Result, checkpoints: str | None) -> bool:
    """Whether the checkpoint that the result speaks of can be continued from."""
    if checkpoints is None or "checkpoint_bytes" not in result.metrics:
        return True
    try:
        return CheckpointStore(checkpoints).exists(result.key)
    except Exception:  # training again says why
        return False


def _announcer(topic: str | None) -> Announce:
    """What tells the master something at once, without waiting for an answer."""
    if topic is None:
        return lambda _: None
    from distributed import get_worker

    worker = get_worker()
    return lambda message: worker.log_event(topic, message)


def _answer(
    run: Run,
    problem: bytes,
    evaluation: Evaluation,
    checkpoints: str | None,
    announce: Announce,
    invitation: Mapping[str, Any] | None,
) -> Result:
    curve = Curve()

    def report(metrics: Mapping[str, float]) -> None:
        curve.append(metrics)
        announce({"report": {"key": evaluation.key, "metrics": dict(metrics)}})

    def invite(said: Mapping[str, Any]) -> None:
        announce({"invitation": dict(said), "key": evaluation.key})

    try:
        result = run(problem, evaluation, report, checkpoints, seated(evaluation, invitation, invite))
    except NotMetError as error:
        result = Result(key=evaluation.key, status=Status.CANCELLED, error=str(error))
    except Exception as error:  # this machine's fault (no process, no memory), so the search may try again
        result = Result(key=evaluation.key, status=Status.CRASHED, error=explain(error))
    if result.status is Status.FAILED and (result.error or "").startswith(_NO_ROOM):
        result = replace(result, status=Status.CRASHED)  # its checkpoint was not saved, say: this machine's fault, too
    return replace(result, curve=curve.points())


def _in_thread(
    problem: bytes,
    evaluation: Evaluation,
    report: Report,
    checkpoints: str | None,
    seating: Seating,
    artifacts: str | None = None,
    at_home: bool = False,
) -> Result:
    with seating as seat:
        try:
            loaded, bundle = _load_once(problem, at_home)
        except BaseException as error:
            return failed(evaluation, error)
        with nullcontext() if bundle is None else bundle.active():
            return attempt(loaded, evaluation, report, checkpoints, seat, ending.own.left, Artifacts(artifacts))


def _load_once(data: bytes, at_home: bool) -> tuple[Problem, Bundle | None]:
    """The problem, loaded and prepared once for all trainings in threads of this process, and its modules.

    Args:
        data: The problem, pickled.
        at_home: This is its user's process, which has its modules already, and stays as it is.
    """
    digest = hashlib.sha256(data).hexdigest()
    with _loading:
        if digest not in _loaded:
            for name, value in environment().items() if not at_home else ():
                os.environ.setdefault(name, value)  # before the problem imports TensorFlow
            bundle = Bundle.of(data)
            with nullcontext() if bundle is None or at_home else bundle.active():
                problem = load(data) if bundle is None else checked(bundle.load(changing=not at_home))
                prepare(problem)
            _loaded[digest] = problem, None if at_home else bundle
        _loaded.move_to_end(digest)
        if len(_loaded) > LOADED_LIMIT:
            _loaded.popitem(last=False)
        return _loaded[digest]
