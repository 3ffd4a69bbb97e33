"""What became of a trial, from the answers to its evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm.store.records import Source
from swarm.trial import Result, Status, mean

RUNNING = "running"
_SOURCES = (Source.TRAINED, Source.IN_FLIGHT, Source.ARCHIVE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial.

    Attributes:
        status: ``running`` while an answer is missing; ``failed`` if one has no fitness; ``pruned`` if one was; ``ok``.
        fitness: The mean over its evaluations, in the job's own direction; None while it runs and if it failed.
        source: ``trained`` if any of its evaluations was trained for it, else ``in_flight`` or ``archive``.
        seconds: Time spent on training for it.
        start: When the first training for it began, seconds since the epoch; None if nothing was trained for it.
        end: When the last training for it ended; None likewise.
        slot: Where that was.
        error: First line of the first error, of an evaluation without a fitness if there is one; or None.
        metrics: Other numbers that all of its evaluations returned, the mean of each; empty where there is no fitness.
    """

    status: str
    fitness: float | None
    source: str
    seconds: float
    start: float | None
    end: float | None
    slot: str
    error: str | None
    metrics: Mapping[str, float]


def outcome(sources: Sequence[Source], answers: Sequence[Result | None]) -> Outcome:
    """What became of a trial.

    Args:
        sources: Where the answer to each of its evaluations comes from.
        answers: The results; None where there is none yet.
    """
    if len(answers) == 1 and (only := answers[0]) is not None:
        return _outcome_of_one(sources[0], only)
    there = [answer for answer in answers if answer is not None]
    spent = [answer for answer, source in zip(answers, sources, strict=True) if answer and source is Source.TRAINED]
    failed = [answer for answer in there if answer.fitness is None]
    blamed = [*failed, *(answer for answer in there if answer.fitness is not None)]  # what was pruned says why, too
    status = RUNNING if len(there) < len(answers) else _ended(there, failed)
    scored = status in (Status.OK, Status.PRUNED)
    return Outcome(
        status=status,
        fitness=mean([answer.fitness for answer in there if answer.fitness is not None]) if scored else None,
        source=next(source.value for source in _SOURCES if source in sources),
        seconds=sum(answer.seconds for answer in spent),
        start=min((answer.start for answer in spent), default=None),
        end=max((answer.end for answer in spent), default=None),
        slot=", ".join(sorted({answer.slot for answer in spent})),
        error=next((answer.reason for answer in blamed if answer.error), None),
        metrics=_means([answer.metrics for answer in there]) if scored else {},
    )


def _outcome_of_one(source: Source, answer: Result) -> Outcome:
    """The same of one evaluation, as most trials have one, and a replay looks at hundreds of thousands."""
    spent = source is Source.TRAINED
    failed = answer.fitness is None
    return Outcome(
        status=(Status.FAILED if failed else Status.PRUNED if answer.status is Status.PRUNED else Status.OK).value,
        fitness=answer.fitness,
        source=source.value,
        seconds=answer.seconds if spent else 0,
        start=answer.start if spent else None,
        end=answer.end if spent else None,
        slot=answer.slot if spent else "",
        error=answer.reason,
        metrics={} if failed else dict(answer.metrics),
    )


def _means(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric that all have, in the order of the first."""
    first, *others = measured
    return {name: mean([each[name] for each in measured]) for name in first if all(name in each for each in others)}


def _ended(answers: Sequence[Result], failed: Sequence[Result]) -> str:
    if failed:
        return Status.FAILED.value
    return (Status.PRUNED if any(each.status is Status.PRUNED for each in answers) else Status.OK).value
