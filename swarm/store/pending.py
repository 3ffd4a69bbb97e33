"""Trials that wait for the results of their evaluations: the one place that joins questions with answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from swarm.store.events import Answered, Asked, Event, Lookup
from swarm.store.outcome import Outcome, outcome
from swarm.store.records import Source
from swarm.trial import Result, Trial


@dataclass(slots=True, eq=False)
class PendingTrial:
    """A trial, or the test score of one, and what is known of its evaluations so far.

    Attributes:
        asked: How it was asked for.
        results: The results that are there, by key.
        times: When each was there, seconds since the epoch.
    """

    asked: Asked
    results: dict[str, Result] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)

    @property
    def trial(self) -> Trial:
        """What is tried."""
        return self.asked.trial

    @property
    def complete(self) -> bool:
        """Whether all results are there."""
        return len(self.results) == len(self.asked.evaluations)

    @property
    def answers(self) -> list[Result | None]:
        """The result of each evaluation, None while there is none."""
        return [self.results.get(each.key) for each in self.asked.evaluations]

    @property
    def sources(self) -> list[Source]:
        """Where the answer to each evaluation comes from."""
        return [each.source for each in self.asked.evaluations]

    @property
    def outcome(self) -> Outcome:
        """What became of the trial."""
        return outcome(self.sources, self.answers)

    @property
    def so_far(self) -> Asked:
        """The question, with all answers that are there by now."""
        known = (replace(each, result=self.results.get(each.key)) for each in self.asked.evaluations)
        return replace(self.asked, evaluations=tuple(known))

    def lookup(self, key: str) -> Lookup:
        """Where the answer to one of its evaluations comes from."""
        return next(each for each in self.asked.evaluations if each.key == key)

    def note(self, result: Result, when: float) -> None:
        """The result of one of its evaluations is there."""
        self.results[result.key] = result
        self.times[result.key] = when


class PendingTrials:
    """The trials that wait for results, and for which they wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[PendingTrial]] = {}
        self._open: dict[PendingTrial, None] = {}  # in the order in which they were asked

    def __iter__(self) -> Iterator[PendingTrial]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, asked: Asked) -> PendingTrial:
        """A trial is asked for; it is complete at once if the archive has all answers."""
        trial = PendingTrial(asked)
        for each in asked.evaluations:
            if each.result is None:
                self._waiting.setdefault(each.key, []).append(trial)
            else:
                trial.note(each.result, asked.time)
        if not trial.complete:
            self._open[trial] = None
        return trial

    def answer(self, answered: Answered) -> Iterator[PendingTrial]:
        """A result is there: the trials that waited for it, in the order in which they were asked, one after the other.

        Each is pending until it is given, if the result completes it. So whoever is told of the first still finds the
        second among the pending ones.
        """
        for trial in self._waiting.pop(answered.result.key, []):
            trial.note(answered.result, answered.time)
            if trial.complete:
                del self._open[trial]
            yield trial

    def waiting(self, key: str) -> Sequence[PendingTrial]:
        """The trials that wait for this evaluation."""
        return self._waiting.get(key, ())


def joined(events: Iterable[Event]) -> list[PendingTrial]:
    """The trials and test scores that a journal asks for, in its order, with all answers that it has."""
    pending, asked = PendingTrials(), []
    for event in events:
        if isinstance(event, Asked):
            asked.append(pending.ask(event))
        elif isinstance(event, Answered):
            list(pending.answer(event))
    return asked
