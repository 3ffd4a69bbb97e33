"""How the trials of a generation did: the one tally of searches, tables and pages."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from swarm.store.events import Asked
from swarm.store.outcome import Outcome
from swarm.store.pending import PendingTrial
from swarm.store.records import Source
from swarm.trial import PART


@dataclass(slots=True)
class Tally:
    """What is known of one generation, or of several together.

    Attributes:
        number: Number of the generation; 0 is the initial population.
        asked: Trials asked so far.
        told: Trials whose answers are all there.
        failed: Those of them without a fitness.
        sources: Evaluations by source.
        low: Lowest fitness, in the job's own direction; None while there is none.
        high: Highest fitness; likewise.
        total: Sum of the fitness values, in units of 2^32, so that it is a float whatever they are.
        seconds: Spent on training.
        saved: Seconds of training that were not spent, since the archive or a running training answered.
        start: When its first trial was asked, seconds since the epoch; None while none was.
        end: When its latest answer came.
    """

    number: int
    asked: int = 0
    told: int = 0
    failed: int = 0
    sources: dict[str, int] = field(default_factory=lambda: {source.value: 0 for source in Source})
    low: float | None = None
    high: float | None = None
    total: float = 0.0
    seconds: float = 0.0
    saved: float = 0.0
    start: float | None = None
    end: float = 0.0

    @property
    def mean(self) -> float:
        """Mean fitness of the trials that have one; NaN if none has."""
        if self.low is None or self.high is None:
            return math.nan
        return min(max(self.total / (self.told - self.failed) / PART, self.low), self.high)

    @property
    def lasted(self) -> float:
        """Seconds from its first question to its latest answer."""
        return 0.0 if self.start is None else max(0.0, self.end - self.start)

    def ask(self, asked: Asked) -> None:
        """Count a trial that is asked for."""
        self.asked += 1
        self.start = asked.time if self.start is None else min(self.start, asked.time)
        for each in asked.evaluations:
            self.sources[each.source] += 1  # a text, as its value is

    def tell(self, trial: PendingTrial, found: Outcome, when: float) -> None:
        """Count a trial whose last answer came at ``when``."""
        self.told += 1
        self.end = max(self.end, when)
        self.seconds += found.seconds
        for each in trial.asked.evaluations:
            if each.source is not Source.TRAINED and (answer := trial.results[each.key]).fitness is not None:
                self.saved += answer.seconds
        if found.fitness is None:
            self.failed += 1
        else:
            self.measure(found.fitness)

    def measure(self, fitness: float) -> None:
        """Take a fitness into the lowest, the highest and the mean."""
        self.total += fitness * PART
        if self.low is None or fitness < self.low:
            self.low = fitness
        if self.high is None or fitness > self.high:
            self.high = fitness
