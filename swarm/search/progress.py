"""What is known of a search: the replay of its journal.

Everything that happens to a search is an :class:`~swarm.store.Event`; :meth:`Progress._apply` is the only place that
changes its state. Running journals an event and applies it, resuming applies what the journal holds.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.errors import JournalMismatch
from swarm.job.job import Job
from swarm.search.archive import Archive
from swarm.search.durations import Durations
from swarm.search.failures import Failures
from swarm.search.pruning import MedianRule
from swarm.search.retention import Lineage
from swarm.store.outcome import Outcome, outcome
from swarm.store.records import Event, Source
from swarm.store.sql import Store
from swarm.trial import PART, Evaluation, Purpose, Result, Status, Trial

_DURATIONS_READ = 500
_SLACK_OF_PARENTS = 16
_SLACK_OF_WINNERS = 4


@dataclass(slots=True)
class Generation:
    """What is known of one generation.

    Attributes:
        number: Its number; 0 is the initial population.
        asked: Trials asked so far.
        told: Trials whose answer is there.
        failed: Trials without a fitness.
        sources: Evaluations by source.
        low: Lowest fitness, in the job's own direction.
        high: Highest fitness.
        total: Sum of the fitness values, in units of 2^32, so that it is a float whatever they are.
        start: When its first trial was asked, seconds since the epoch.
        end: When its latest answer came.
    """

    number: int
    asked: int = 0
    told: int = 0
    failed: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    start: float = 0.0
    end: float = 0.0

    @property
    def mean(self) -> float:
        """Mean fitness of the trials that have one; NaN if none has."""
        succeeded = self.told - self.failed
        return min(max(self.total / succeeded / PART, self.low), self.high) if succeeded else math.nan


@dataclass(slots=True)
class _Pending:
    """A trial that waits for the results of its evaluations."""

    trial: Trial
    sources: dict[str, str]  # where the answer to each of its evaluations comes from, by key
    purpose: Purpose
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """What became of the trial, once all results are there."""
        return outcome(list(self.sources.values()), [each.to_dict() for each in self.answers])

    @property
    def answers(self) -> list[Result]:
        """The results of its evaluations, in their order."""
        return [self.results[key] for key in self.sources]


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
        return dict(self.trial.params)


class Progress:
    """One job's search as far as its journal tells.

    Args:
        job: What to search, and how.
        store: Where the journal and the archive are. What the journal holds is replayed at once.
        on_event: Called with each event as it is applied.

    Attributes:
        job: The job.
        optimizer: Its method, told all that has been answered.
        archive: What answers evaluations that need no training.
        evaluations: Number of evaluations that were asked, however they are answered.
        counts: Evaluations by source, of those answered without training only such as have a fitness: a failure saves
            nothing; trials that ``failed``, evaluations that were ``pruned``.
        generations: By number.
        tests: Scores on the test set, by fold.
        failures: Why trials failed, how often, and where.
        leaders: Where several targets count, for each trial that was told: its id, and that of the best from then on;
            None where the fitness decides, since :func:`swarm.trial.rank_of` then says which is better.
        asked, told: Numbers of trials.
        replayed: How many of those told were read from the journal.
        generation: The latest that was asked for.
        trained_seconds: Of all trainings so far.
        checkpoint_seconds, checkpoint_bytes: Spent on keeping checkpoints, and written.
        end_reason: Why it ended; None while it has not.
        failed: Whether it ended because its first trainings had all failed.

    Raises:
        JournalMismatch: The journal holds other trials than the job's optimizer asks for.
    """

    def __init__(self, job: Job, store: Store, on_event: Callable[[Event], None] = lambda _: None) -> None:
        self.job = job
        self.optimizer = job.start()
        self.archive = Archive(store)
        self.counts: Counter[str] = Counter({source.value: 0 for source in Source} | {"failed": 0})
        self.generations: dict[int, Generation] = {}
        self.tests: dict[int, Result] = {}
        self.failures = Failures()
        self.leaders: list[tuple[int, int | None]] | None = [] if job.targets else None
        self.evaluations = 0
        self.asked = self.told = 0
        self.generation = 0
        self.trained_seconds = 0.0
        self.checkpoint_seconds = self.checkpoint_bytes = 0.0
        self.end_reason: str | None = None
        self.failed = False
        self._on_event = on_event
        self._seq = 0  # events in the journal
        self._pending: dict[int, _Pending] = {}
        self._metrics: dict[int, Mapping[str, float]] = {}  # of the best; of all that may become it, if targets count
        self._lineage = Lineage()
        self._queue: deque[Evaluation] = deque()  # to be trained
        self._ends: Counter[tuple[str, Status]] = Counter()  # of what ran again
        self._excused: set[str] = set()  # keys of what crashed, but not by itself
        self._last_trained = 0  # generation
        self._since = 0.0  # when the job would have begun if somebody had run it ever since
        self._latest = 0.0  # time of the latest event
        self._rule = None
        if job.prune is not None:
            self._rule = MedianRule(job.prune.metric, job.sign, job.prune.after, job.prune.trainings)
        assert job.space is not None  # the job took the problem's own if it was given none
        self._durations = Durations(job.space)
        for params, budget, seconds in store.durations(job.code.fingerprint, _DURATIONS_READ):
            if job.space.contains(params):  # another job may have searched elsewhere
                self._durations.learn(params, budget, seconds)
        self._replay(store)
        self.replayed = self.told

    @property
    def best(self) -> Best | None:
        """The best trial so far, or None while no training has succeeded."""
        found = self.optimizer.best
        if found is None:
            return None
        return Best(found[0], self.job.sign * found[1], self._metrics.get(found[0].id, {}))

    @property
    def errors(self) -> Counter[str]:
        """Why trials failed, and how often."""
        return self.failures.reasons

    @property
    def gpu_seconds(self) -> float:
        """Seconds of all trainings so far, times the GPUs of each."""
        return self.trained_seconds * self.job.gpus

    def finished(self) -> bool:
        """Whether the search is done: every trial told, and the best scored on the test set if that was asked."""
        return self.end_reason is not None

    # --- applying events, live and in replay

    def _apply(self, event: Event) -> None:
        self._on_event(event)
        data = event.data
        if event.kind in ("asked", "test"):
            self._apply_asked(event)
        elif event.kind == "result":
            self._apply_result(Result.from_dict(data), event.time)
        elif event.kind == "again":
            self._apply_again(data)
        elif event.kind == "ended":
            self.end_reason, self.failed = data["reason"], data.get("failed", False)
        elif event.kind == "retried":
            for key in data["keys"]:
                self._forgive(key)
        elif event.kind == "job":
            self._since = event.time
        elif event.kind == "resumed" and not data["joined"]:
            self._since += event.time - self._latest
        self._latest = event.time

    def _apply_result(self, result: Result, when: float) -> None:
        self.archive.remember(result)
        self.trained_seconds += result.seconds
        self.checkpoint_seconds += result.metrics.get("checkpoint_seconds", 0.0)
        self.checkpoint_bytes += result.metrics.get("checkpoint_bytes", 0.0)
        if result.status is Status.PRUNED:
            self.counts["pruned"] += 1
        if self._rule is not None:
            self._rule.ended(result.key, well=result.status is Status.OK)
        self._forgive(result.key)
        waiting = self.archive.arrived(result.key)
        if any(number >= 0 for number in waiting):  # else it is a score on the test set
            self.failures.note_training(result)
        for number in waiting:
            self._answer(number, result, when)

    def _apply_again(self, data: dict[str, Any]) -> None:
        key, status = data["key"], Status(data["status"])
        self._ends[key, status] += 1
        if status is Status.CRASHED and not data.get("blamed", False):
            self._excused.add(key)
        if self._rule is not None:  # it may go on from what it has saved
            self._rule.skip([key])

    def _forgive(self, key: str) -> None:
        """Forget how often an evaluation ended in vain."""
        self._excused.discard(key)
        for status in Status:
            self._ends.pop((key, status), None)

    def _apply_asked(self, event: Event) -> None:
        data = event.data
        purpose: Purpose = "fitness" if event.kind == "asked" else "test"
        trial = Trial(**{name: value for name, value in data.items() if name != "evaluations"})
        sources = {evaluation["key"]: evaluation["source"] for evaluation in data["evaluations"]}
        # A test score is no trial of the optimizer: negative numbers keep the two apart.
        number = trial.id if purpose == "fitness" else -1 - trial.id
        self._pending[number] = _Pending(trial, sources, purpose)
        if purpose == "fitness":
            self._note_asked(trial, data["evaluations"], event.time)
            self._note_lineage(trial, [evaluation["key"] for evaluation in data["evaluations"]])
        for evaluation, entry in zip(self._evaluations(trial, purpose), data["evaluations"], strict=True):
            if entry["result"] is not None:
                self._note_answer(self._pending[number], Result.from_dict(entry["result"]))
                continue
            if entry["source"] == Source.TRAINED:
                self._queue.append(evaluation.under(entry["key"]))
                if purpose == "fitness" and self.job.checkpoints:
                    self._lineage.add_own(entry["key"])
            self.archive.wait(entry["key"], number)
        self._settle(number, event.time)

    def _note_asked(self, trial: Trial, evaluations: list[dict[str, Any]], when: float) -> None:
        self.asked += 1
        self.generation = max(self.generation, trial.generation)
        row = self.generations.setdefault(trial.generation, Generation(trial.generation, start=when))
        row.asked += 1
        for evaluation in evaluations:
            row.sources[evaluation["source"]] += 1
            self.evaluations += 1
            if evaluation["source"] == Source.TRAINED:
                self.counts[Source.TRAINED] += 1
                self._last_trained = max(self._last_trained, trial.generation)

    def _evaluations(self, trial: Trial, purpose: Purpose) -> list[Evaluation]:
        if purpose == "test":  # what was handed on to the winner cannot be trained again from the start
            parents = self._lineage.get(trial.id) if self.optimizer.inherits else None
        else:
            parents = None if trial.parent is None else self._lineage.get(trial.parent)
        donors = [] if purpose == "test" else [self._lineage[donor] for donor in trial.donors]
        return self.job.evaluations(trial, purpose, parents, donors)

    def _note_lineage(self, trial: Trial, keys: list[str]) -> None:
        """Remember whose checkpoints may be continued; let go of the others, now and then, all at once."""
        if trial.budget is None or not self.job.checkpoints:
            return
        self._lineage.add(trial.id, keys)
        begun = self.optimizer.inherits and self.generations[trial.generation].asked == 1
        if begun or self._lineage.crowded(_SLACK_OF_PARENTS):
            self._let_go()

    def _let_go(self) -> None:
        """Give up the checkpoints that nobody will continue from; at the end, all but those of the best."""
        best = [best.id for best, _ in self.optimizer.finalists()]
        self._lineage.keep({*self._continued_trials(), *self._pending, *best})

    def _continued_trials(self) -> set[int]:
        waiting = [pending.trial for pending in self._pending.values()]
        parents = {one for trial in waiting for one in (trial.parent, *trial.donors) if one is not None}
        return parents if self.finished() else parents | self.optimizer.parents()

    def continued(self) -> set[str]:
        """Keys of the evaluations from whose checkpoints trainings may still go on."""
        return {key for trial in self._continued_trials() for key in self._lineage.get(trial) or ()}

    def _answer(self, number: int, result: Result, when: float) -> None:
        self._note_answer(self._pending[number], result)
        self._settle(number, when)

    def _note_answer(self, pending: _Pending, result: Result) -> None:
        pending.results[result.key] = result
        source = pending.sources[result.key]
        if pending.purpose == "fitness" and source != Source.TRAINED and result.fitness is not None:
            self.counts[source] += 1
        if result.status is Status.OK:
            self._durations.learn(pending.trial.params, pending.trial.budget, result.seconds)

    def _settle(self, number: int, when: float) -> None:
        """Tell the optimizer, once the last evaluation of a trial is answered."""
        pending = self._pending[number]
        if len(pending.results) < len(pending.sources):
            return
        del self._pending[number]
        if pending.purpose == "test":  # one training, on one fold
            self.tests[pending.trial.fold or 0] = next(iter(pending.results.values()))
            return
        found = pending.outcome
        row = self.generations[pending.trial.generation]
        row.told += 1
        row.end = max(row.end, when)
        self.told += 1
        if found.fitness is None:
            row.failed += 1
            self.counts["failed"] += 1
            self.failures.note_trial(next(each for each in pending.answers if each.fitness is None))
        else:
            row.low, row.high = min(row.low, found.fitness), max(row.high, found.fitness)
            row.total += found.fitness * PART
        self._tell(pending.trial, found, when)
        self._note_finished(pending)

    def _tell(self, trial: Trial, found: Outcome, when: float) -> None:
        """Tell the optimizer, and note what it takes for the best from now on."""
        before = self.optimizer.best
        losses = None if found.fitness is None else self.job.losses(found)
        self.optimizer.tell(trial, losses)
        best = self.optimizer.best
        if self.leaders is None:
            if best is not None and best[0].id == trial.id:
                self._metrics = {trial.id: found.metrics}
            return
        self._metrics[trial.id] = found.metrics
        self.leaders.append((trial.id, None if best is None else best[0].id))
        if best is not None and best != before:  # those who only see events could not tell
            data = {"trial": best[0].id, "fitness": self.job.sign * best[1], "generation": trial.generation}
            self._on_event(Event("best", data, when))

    def _note_finished(self, pending: _Pending) -> None:
        """Nobody continues a whole training, but its network may be the one that wins: keep that of the best so far."""
        if pending.trial.budget is not None or not self.job.checkpoints:
            return
        self._lineage.add(pending.trial.id, list(pending.sources))
        if self._lineage.crowded(_SLACK_OF_WINNERS):
            self._let_go()

    # --- replay

    def _replay(self, store: Store) -> None:
        """Come to where the journal ends."""
        for event in store.events(self.job.name):
            self._seq += 1
            if event.kind == "asked":
                self._check_asked(event)
            self._apply(event)
            if event.kind == "result":
                self._queue = deque(each for each in self._queue if each.key != event.data["key"])

    def _check_asked(self, event: Event) -> None:
        trial = self.optimizer.ask()
        written = {name: value for name, value in event.data.items() if name != "evaluations"}
        if trial is None or Trial(**written) != trial:
            raise JournalMismatch(
                f"job {self.job.name!r}: the journal's event {self._seq - 1} holds trial {written['id']} with "
                f"{written['params']}, but the optimizer asks for {None if trial is None else dict(trial.params)}; "
                "resume with the version of dask-swarm that wrote it, or run the job under another name"
            )
