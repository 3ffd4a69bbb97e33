"""A trial that has ended, as a function of the user's is told of it; and what such a function may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.errors import StopSearch
from swarm.plain import plain
from swarm.store.events import Answered, Asked, Event
from swarm.store.outcome import Outcome
from swarm.store.pending import PendingTrial, PendingTrials
from swarm.store.records import Source
from swarm.trial import Trial

REASON = "stopped by on_trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTrial:
    """A trial that has ended: what ``on_trial`` is called with.

    Attributes:
        number: Its number, from 0 in the order in which trials are asked for.
        params: Its hyper-parameters.
        fitness: In the job's own direction, over folds and repeats their mean; None if it failed.
        metrics: Other numbers that its training returned.
        known: Nothing was trained for it: the archive, or another trial's training, has answered.
        status: ``ok``, ``failed`` or ``pruned``.
        error: Why it failed, in one line; or None.
        generation: Its generation.
        budget: What it was trained up to; None is all that the problem has.
        fold: Cross-validation fold that it is of; None is all.
        seconds: Time spent on training for it.

    Example:
        ::

            >>> from swarm import Grid, Integer, Job, StopSearch, run
            >>> def train(params, ctx):
            ...     return params["n"]
            >>> def told(trial):
            ...     print(trial.number, trial.params, trial.fitness)
            ...     if trial.fitness == 1:
            ...         raise StopSearch("enough")
            >>> job = Job(name="told", problem=train, space={"n": Integer(0, 9)}, optimizer=Grid(), isolation="thread")
            >>> run(job, slots=1, progress=False, on_trial=told).end_reason
            0 {'n': 0} 0.0
            1 {'n': 1} 1.0
            'enough'
    """

    number: int
    params: dict[str, Any]
    fitness: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    known: bool = False
    status: str = "ok"
    error: str | None = None
    generation: int = 0
    budget: float | None = None
    fold: int | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, trial: Trial, found: Outcome) -> EndedTrial:
        """The trial, with what became of it."""
        return cls(
            number=trial.id,
            params=dict(trial.params),
            fitness=found.fitness,
            metrics=dict(found.metrics),
            known=found.source != Source.TRAINED,
            status=found.status,
            error=found.error,
            generation=trial.generation,
            budget=trial.budget,
            fold=trial.fold,
            seconds=found.seconds,
        )


OnTrial = Callable[[EndedTrial], object]
"""A function of the user's, called when a trial has ended; true, or a StopSearch, ends the search."""


def said_to_stop(on_trial: OnTrial, trial: EndedTrial) -> str | None:
    """Tell the user's function of a trial; why it wants the search to end, or None.

    What else it raises is its own, and passes.
    """
    try:
        return REASON if plain(on_trial(trial)) is True else None
    except StopSearch as stop:
        return str(stop) or REASON


class Endings:
    """The trials that end, from the events of a journal."""

    def __init__(self) -> None:
        self._pending = PendingTrials()

    def of(self, event: Event) -> list[EndedTrial]:
        """Those that have ended with this event, the next of its journal."""
        ended: list[PendingTrial] = []
        if isinstance(event, Asked):
            ended = [self._pending.ask(event)]
        elif isinstance(event, Answered):
            ended = list(self._pending.answer(event))
        return [
            EndedTrial.of(each.trial, each.outcome)
            for each in ended
            if each.complete and each.asked.purpose == "fitness"
        ]
