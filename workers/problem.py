"""Problems: the user's code, loaded and called.

A problem is anything that can be called with the hyper-parameters and a :class:`~swarm.workers.context.Context`; a
plain function will do::

    def branin(params, ctx):
        return (params["x"] - 1) ** 2
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from swarm.errors import Ending, Infeasible, InvalidProblem, NoFiniteFitness, SwarmError
from swarm.plain import plain_data
from swarm.trial import Criterion, Evaluation, Merit, Params, Result, Status
from swarm.workers.backend import choose
from swarm.workers.bundle import unpickled
from swarm.workers.checkpoints.artifacts import Artifacts
from swarm.workers.checkpoints.checkpoint import CheckpointStore, Progress
from swarm.workers.context import Context, Left, Report, encodable, number, numbers, stays
from swarm.workers.frames import REASON_LIMIT, TRACEBACK_LIMIT, frames, reason
from swarm.workers.replicas.data_parallel import Replicas
from swarm.workers.replicas.rendezvous import Seat
from swarm.workers.wording import below, shown, text_of

__all__ = ["REASON_LIMIT", "TRACEBACK_LIMIT"]

LEFT = "its worker was told to end"
_UNTOLD = "the training raised swarm.Ending, but its worker does not end: raise it only where ctx.ending is not None"


class Problem(Protocol):
    """What the user writes; only the call is needed, every attribute below may be absent.

    Slices of trainings may follow each other in one process: what one leaves in memory must not show in the next.

    * ``prepare()`` loads data into memory. It is called once per machine, before trainings are forked,
      so it must not touch a device.
    * ``test(params, ctx)`` trains the configuration again with the same seed and scores it on the unseen test
      set.
    * ``preload``: names of modules to import once per machine, e.g. ``("tensorflow", "keras")``.
    * ``space``: the search space as plain data.
    """

    def __call__(self, params: Params, ctx: Context, /) -> float | Mapping[str, float]:
        """Trains with ``params`` and returns the fitness, or a mapping with "fitness" and other metrics.

        Raises:
            Infeasible: The configuration cannot be built; it counts as failed, without a training.
        """


def load(data: bytes) -> Problem:
    """The problem that the client pickled; not yet prepared.

    Raises:
        InvalidProblem: What was pickled cannot be called.
        Exception: Whatever importing the user's modules raises.
    """
    return checked(unpickled(data))


def checked(problem: Any) -> Problem:
    """What was unpickled, if it is a problem.

    Raises:
        InvalidProblem: It cannot be called.
    """
    if not callable(problem):
        raise InvalidProblem(
            f"a problem is called as problem(params, ctx), but a {type(problem).__name__} cannot be called"
        )
    return problem  # type: ignore[no-any-return]


def prepare(problem: Problem) -> None:
    """Calls the problem's ``prepare()``, if it has one, with the backend of Keras that it wants, if any."""
    choose(problem)
    if (method := getattr(problem, "prepare", None)) is not None:
        method()


def score(returned: Any, merit: Merit | None = None) -> tuple[float, dict[str, float]]:
    """Fitness and other metrics out of what a problem returned.

    Args:
        returned: The fitness, or a mapping of metrics.
        merit: Weights of the metrics whose sum is the fitness, or criteria whose :func:`lexicographic` figure it is;
            None takes the metric ``fitness``.

    Raises:
        NoFiniteFitness: The fitness, or what it is made of, is no finite number, which is the configuration's fault.
        InvalidProblem: There is none, which is the code's.
    """
    values = returned if isinstance(returned, Mapping) else {"fitness": returned}
    if merit is not None:
        values = {**values, "fitness": _combined(values, merit)}
    if "fitness" not in values:
        names = ", ".join(map(text_of, values)) or "nothing"
        raise InvalidProblem(f'the training returned {names}, but no "fitness"')
    fitness = _finite("fitness", values["fitness"])
    return fitness, numbers({name: value for name, value in values.items() if name != "fitness"})


def _finite(name: str, value: Any) -> float:
    found = number(value)
    if found is None:
        error = NoFiniteFitness if _is_number(value) else InvalidProblem  # of None the code is to blame
        raise error(f"the training returned a {name} of {shown(value)}, which is no finite number")
    return found


def _is_number(value: Any) -> bool:
    """Whether it is a number, be it not finite or too large."""
    try:
        return not isinstance(value, str | bytes) and isinstance(float(value), float)
    except OverflowError:
        return True
    except Exception:  # whatever a __float__ of the user's raises
        return False


def _combined(returned: Mapping[Any, Any], merit: Merit) -> float:
    values = {encodable(str(name)): value for name, value in returned.items()}
    names = list(merit) if isinstance(merit, Mapping) else [criterion.metric for criterion in merit]
    missing = [name for name in names if name not in values]
    if missing:
        known = ", ".join(values) or "nothing"
        raise InvalidProblem(f"the fitness is made of {', '.join(missing)}, but the training returned {known}")
    found = {name: _finite(name, values[name]) for name in names}
    try:
        if isinstance(merit, Mapping):
            return math.fsum(weight * found[name] for name, weight in merit.items())
        return lexicographic(found, merit)
    except (OverflowError, ValueError):  # of what is finite the sum may be too large, or infinite both ways
        return math.nan


def lexicographic(values: Mapping[str, float], criteria: Sequence[Criterion]) -> float:
    """One figure that sorts trainings by the first criterion, those that are alike in it by the second, and so on.

    With x the metrics, t the tolerances and s = ±1 for larger or smaller is better, the figure is z₁, where

        zᵢ = tᵢ (⌊xᵢ / tᵢ + ½⌋ + sᵢ sᵢ₊₁ f(zᵢ₊₁)),    f(z) = asinh z / 2 (1 + |asinh z|),    zₙ = xₙ if it has no tₙ.

    f grows with z and stays within ±½, so whatever follows a metric moves the figure by less than half its tolerance;
    the figure stays near x₁, and has its direction. f goes by the logarithm because it must leave apart what differs by
    one in a million, be it 0.01 or 10⁷. The order is exact up to the precision of floats: with a tolerance of 0.01 the
    second metric counts with 10 of its digits, a third still with 6 or more.

    Args:
        values: Metrics by name; what the criteria name is there.
        criteria: The most important one first.
    """
    figure = share = 0.0  # share: of what follows, within ±½, the larger the better
    for criterion in reversed(criteria):
        sign, tolerance = (1 if criterion.direction == "maximize" else -1), criterion.tolerance
        figure = values[criterion.metric]
        if tolerance is not None and math.isfinite(figure / tolerance):  # of a larger figure nothing is left to round
            figure = tolerance * (math.floor(figure / tolerance + 0.5) + sign * share)
        bent = math.asinh(figure)
        share = sign * bent / (1 + abs(bent)) / 2
    return figure


def explain(error: BaseException) -> str:
    """One line that names the error, with the user's own lines below it that led there (:mod:`swarm.workers.frames`).

    A :class:`SwarmError` speaks for itself and comes without.
    """
    if isinstance(error, SwarmError):
        return reason(error)
    try:
        return f"{reason(error)}\n{frames(error)}"
    except BaseException:  # of a class that will not tell where it was raised
        return reason(error)


def blames(error: BaseException) -> bool:
    """Whether an exception says that the configuration itself is to blame, wherever and whenever it is trained.

    It does if it is infeasible, or if its fitness is no finite number; a group of exceptions does if all in it do.
    """
    waiting = [error]  # groups may be nested deeply
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
            continue
        if not isinstance(each, NoFiniteFitness) and not _is(each, Infeasible):
            return False
    return True


def _is(error: BaseException, kind: type[SwarmError]) -> bool:
    """Whether it is of this kind, also by name: a training may have imported this package again."""
    return (kind.__module__, kind.__name__) in {(base.__module__, base.__name__) for base in type(error).__mro__}


def failed(evaluation: Evaluation, error: BaseException) -> Result:
    """The result of an evaluation whose problem could not be loaded or prepared."""
    now = time.time()
    return Result(key=evaluation.key, status=Status.FAILED, error=explain(error), start=now, end=now)


def attempt(
    problem: Problem,
    evaluation: Evaluation,
    report: Report,
    checkpoints: str | None = None,
    seat: Seat | None = None,
    left: Left = stays,
    artifacts: Artifacts | None = None,
) -> Result:
    """Trains, and turns whatever happens into a result.

    Args:
        problem: Loaded and prepared.
        evaluation: What to train. Its time limit is checked afterwards; stopping in time is up to the caller.
        report: Takes what the training reports on the way.
        checkpoints: URL of the checkpoints, or None. What the training saved is committed if it succeeds.
        seat: The place among several replicas, or None. Only the first reports and saves; if another one is lost, the
            training ends as CANCELLED.
        left: Gives the seconds until the worker ends, or None. A training that ends on that account is LOST.
        artifacts: Where it leaves files; None keeps none.

    Raises:
        SystemExit: The training called ``sys.exit`` and has a process of its own, which shall end.
    """
    start, clock = time.time(), time.perf_counter()
    fitness: float | None = None
    metrics: dict[str, float] = {}
    error: str | None = None
    blamed = departed = False
    replicas: Replicas | None = None
    first = seat is None or seat.rank == 0
    try:
        train = _entry(problem, evaluation)
        replicas = Replicas(seat)
        progress = None if checkpoints is None else _progress(checkpoints, evaluation, keep=first)
        kept = artifacts if first else None
        context = Context.of(evaluation, report if first else _ignore, progress, replicas, left, kept)
        returned = train(plain_data(dict(evaluation.params)), context)  # it may change them
        fitness, metrics = _scored(returned, evaluation, time.perf_counter() - clock, replicas, seat)
        metrics |= _committed(progress, evaluation) if first else {}
    except BaseException as caught:
        if isinstance(caught, SystemExit) and evaluation.isolation == "process":
            raise
        departed = _is(caught, Ending) and (left() is not None or seat is not None)  # or another replica's worker ends
        caught = InvalidProblem(_UNTOLD) if _is(caught, Ending) else below(caught)  # the user's own frames
        fitness, metrics, error, blamed = None, {}, LEFT if departed else explain(caught), blames(caught)
    lost = replicas is not None and replicas.lost
    if replicas is not None:
        replicas.close(well=fitness is not None)
    seconds = time.perf_counter() - clock
    limit = evaluation.time_limit or math.inf
    if seconds > limit and not departed:
        fitness, metrics, error, blamed = None, {}, exceeded(limit), False
    return Result(
        key=evaluation.key,
        status=_status(well=fitness is not None, departed=departed, lost=bool(lost)),
        fitness=fitness,
        metrics=metrics,
        error=(LEFT if departed else lost or error) if fitness is None else None,
        blamed=blamed and not (lost or departed),
        drained=departed and left() is not None,
        start=start,
        end=time.time(),
        seconds=seconds,
    )


def _scored(
    returned: Any, evaluation: Evaluation, seconds: float, replicas: Replicas, seat: Seat | None
) -> tuple[float, dict[str, float]]:
    """Fitness and metrics of what a training has returned.

    Raises:
        InvalidProblem: Its replicas have not trained together.
    """
    if seat is not None and not replicas.met:
        raise InvalidProblem(
            f"each of {seat.size} replicas has trained for itself: use ctx.replicas in the training, or leave "
            "replicas out of the job"
        )
    merit = evaluation.merit if evaluation.purpose == "fitness" else None
    if merit is not None and isinstance(returned, Mapping):
        returned = {"seconds": seconds, **returned}
    return score(returned, merit)


def _status(*, well: bool, departed: bool, lost: bool) -> Status:
    if well:
        return Status.OK
    return Status.LOST if departed else Status.CANCELLED if lost else Status.FAILED


def exceeded(seconds: float) -> str:
    """Says that the time limit was exceeded."""
    return f"exceeded its time limit of {seconds:g} s"


def _ignore(metrics: Mapping[str, float]) -> None:
    """Takes a report that another replica makes, too."""


def _progress(checkpoints: str, evaluation: Evaluation, *, keep: bool) -> Progress:
    return Progress(
        CheckpointStore(checkpoints),
        evaluation.key,
        evaluation.parent,
        required=evaluation.slice,
        keep=keep and evaluation.purpose == "fitness",
        donors=evaluation.donors,
    )


def _committed(progress: Progress | None, evaluation: Evaluation) -> dict[str, float]:
    """What keeping the checkpoint took.

    Raises:
        InvalidProblem: A slice was not handed on, or not taken over.
    """
    metrics = {} if progress is None else progress.commit()
    if evaluation.slice and evaluation.purpose == "fitness":
        if evaluation.parent is not None and (progress is None or not progress.restored):
            call = "ctx.restore_all(), as ensembles do," if evaluation.donors else "ctx.restore()"
            raise InvalidProblem(f"the training did not take over its parent's: call {call} before it begins")
        if "checkpoint_bytes" not in metrics:
            raise InvalidProblem("the training left nothing to continue from: call ctx.save() before it returns")
    return metrics


def _entry(problem: Problem, evaluation: Evaluation) -> Callable[[Params, Context], Any]:
    if evaluation.purpose == "fitness":
        return problem
    if (test := getattr(problem, "test", None)) is None:
        raise InvalidProblem("the problem has no method test(params, ctx), so it cannot be scored on a test set")
    return test  # type: ignore[no-any-return]
