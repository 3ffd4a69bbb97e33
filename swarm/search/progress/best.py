"""Which of a search's trials are the best, and what is known of those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.job.job import Job
from swarm.optimizers.base import Optimizer
from swarm.optimizers.front import scalarised, undominated
from swarm.plain import plain_data
from swarm.store.events import Led
from swarm.store.outcome import Outcome
from swarm.trial import Trial


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial so far.

    Attributes:
        trial: The trial.
        fitness: Its fitness in the job's own direction; over folds and repeats their mean.
        metrics: Other numbers that its training returned; likewise.

    Example:
        ::

            >>> from swarm import Best, Trial
            >>> best = Best(Trial(id=3, params={"rate": 0.1}), fitness=0.97, metrics={"loss": 0.2})
            >>> best.params["rate"], best.fitness, best.metrics["loss"]
            (0.1, 0.97, 0.2)
    """

    trial: Trial
    fitness: float
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)  # how long checkpoints took, say

    @property
    def params(self) -> dict[str, Any]:
        """Its hyper-parameters."""
        return dict(plain_data(dict(self.trial.params)))


class Ranking:
    """Which of the trials that were told are the best: one, or a front where several targets count.

    The method says which is the best; here is what it does not keep of a trial.

    Args:
        several: Whether several targets or constraints count.

    Attributes:
        leaders: If so, for each trial that was told: its id, and that of the best from then on; else None.
        unmet: How many trials did not meet each constraint, by what it wants.
    """

    def __init__(self, several: bool) -> None:
        self.leaders: list[tuple[int, int | None]] | None = [] if several else None
        self.unmet: Counter[str] = Counter()
        self._improved = 0  # trials that were told when the best was
        self._metrics: dict[int, Mapping[str, float]] = {}  # of the best; of all that may become it, if targets count
        self._fitness: dict[int, float] = {}  # likewise
        self._losses: dict[int, tuple[Trial, tuple[float, ...]]] = {}  # of all that meet the constraints

    def best(self, optimizer: Optimizer, sign: int) -> Best | None:
        """The best trial so far, or None while no training has succeeded."""
        found = optimizer.best
        if found is None:
            return None
        fitness = self._fitness.get(found[0].id, sign * found[1])
        return Best(found[0], fitness, self._metrics.get(found[0].id, {}))

    def front(self) -> list[Best]:
        """The trials that no other dominates, on the largest budget, by the first target."""
        budget = max((trial.budget or 0.0 for trial, _ in self._losses.values()), default=0.0)
        known = [(trial, losses) for trial, losses in self._losses.values() if (trial.budget or 0.0) == budget]
        if not known:
            return []
        first = sorted((known[place] for place in undominated([losses for _, losses in known])), key=_in_order)
        return [Best(trial, self._fitness[trial.id], self._metrics[trial.id]) for trial, _ in first]

    def losses_of(self, trial: int) -> tuple[float, ...] | None:
        """What is minimised of a trial that is told, for each target; None if it may not win."""
        found = self._losses.get(trial)
        return None if found is None else found[1]

    def unimproved(self, optimizer: Optimizer, told: int) -> int:
        """Trials since the best one; where generations are complete, by their order, whoever ended first."""
        best = optimizer.best
        if best is None:
            return 0
        return told - (min(best[0].id + 1, told) if optimizer.generational else self._improved)

    def tell(self, job: Job, optimizer: Optimizer, told: int, trial: Trial, found: Outcome, when: float) -> Led | None:
        """Tell the optimizer, and note what it takes for the best from now on.

        Args:
            job: What says how an outcome is judged.
            optimizer: The job's method.
            told: How many trials were told, this one too.
            trial: The trial.
            found: What became of it.
            when: Seconds since the epoch.

        Returns:
            That another is the best now, where those who only see events could not tell; else None.
        """
        before = optimizer.best
        optimizer.tell(trial, self._told_of(job, optimizer, trial, found))
        best = optimizer.best
        if best is not None and (before is None or best[0].id != before[0].id):
            self._improved = told
        if self.leaders is None:
            if best is not None and best[0].id == trial.id:
                self._metrics = {trial.id: found.metrics}
            return None
        self._metrics[trial.id] = found.metrics
        self.leaders.append((trial.id, None if best is None else best[0].id))
        if best is None or best == before:
            return None
        return Led(trial=best[0].id, fitness=self._fitness[best[0].id], generation=trial.generation, time=when)

    def _told_of(self, job: Job, optimizer: Optimizer, trial: Trial, found: Outcome) -> float | list[float] | None:
        """What the optimizer is told of a trial."""
        if found.fitness is None:
            return None
        unmet = job.unmet(found)
        if unmet is not None:
            self.unmet[unmet] += 1
            return None
        losses = job.losses(found)
        if self.leaders is not None:
            self._fitness[trial.id] = found.fitness
        if job.targets:
            self._losses[trial.id] = trial, tuple(losses)
        return losses if len(losses) == 1 or optimizer.compares else scalarised(losses)


def _in_order(found: tuple[Trial, tuple[float, ...]]) -> tuple[tuple[float, ...], int]:
    trial, losses = found
    return losses, trial.id
