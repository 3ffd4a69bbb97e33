"""What is known of a search, and what follows from it: the fold of its journal.

Everything that happens to a search is an :class:`~swarm.store.events.Event`, and :meth:`SearchState.apply` is the only
place that changes what is known of it. Running decides on an event, applies it and journals it; resuming applies what
the journal holds. Nothing here waits, reads a clock, or knows a store or a pool: given the same events it is in the
same state, and decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.errors import InvalidInput, JournalMismatch, SwarmError
from swarm.job.job import Job
from swarm.search.archive import Archive
from swarm.search.progress.attempts import CRASHES_ALLOWED, LOSSES_ALLOWED, Attempts
from swarm.search.progress.beginning import begin_with, begin_with_limits_of
from swarm.search.progress.best import Best
from swarm.search.progress.standing import Standing
from swarm.search.progress.stopping import MOST_FAILURES, Asking, Spent, fired_rule, hopeless
from swarm.search.retention import Lineage
from swarm.store.events import (
    Again,
    Answered,
    Asked,
    Began,
    Ended,
    Enqueued,
    Event,
    Extended,
    Lookup,
    Resumed,
    Retried,
    Stopped,
)
from swarm.store.outcome import Outcome
from swarm.store.pending import PendingTrial, PendingTrials
from swarm.store.records import Source
from swarm.store.tally import Tally
from swarm.trial import Evaluation, Params, Purpose, Result, Status, Trial

__all__ = ["CRASHES_ALLOWED", "LOSSES_ALLOWED", "MOST_FAILURES", "Best", "Request", "SearchState", "replay"]


@dataclass(frozen=True, slots=True)
class Request:
    """A trial that is to be asked for, or whose test score is.

    Attributes:
        trial: What to try.
        keys: Keys of its evaluations, one per fold and repeat.
        unknown: Those of them that neither are in flight nor were answered to this search: the store may know them.
        purpose: What for.
    """

    trial: Trial
    keys: tuple[str, ...]
    unknown: tuple[str, ...]
    purpose: Purpose = "fitness"


class SearchState(Standing):
    """One job's search as far as its journal tells: how it stands, what changes that, and what follows from it.

    Args:
        job: What to search, and how.
        durations: Configurations, budgets and seconds of trainings of the same problem, from which to learn how long
            one takes.
        on_event: Called with each event before it is applied.
    """

    def __init__(
        self,
        job: Job,
        durations: Iterable[tuple[Params, float | None, float]] = (),
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        super().__init__(job)
        self._on_event = on_event
        self._on_told: Callable[[Trial, Outcome], None] = lambda *_: None
        self._attempts = Attempts()
        self._asking = Asking()
        self._archive = Archive()
        self._pending = PendingTrials()
        self._lineage = Lineage(bool(job.checkpoints))
        self._last_trained = 0  # generation
        self._latest = 0.0  # time of the latest event
        assert job.space is not None
        for params, budget, seconds in durations:
            if job.space.contains(params):  # another job may have searched elsewhere
                self.durations.learn(params, budget, seconds)

    def follow(self, on_event: Callable[[Event], None]) -> None:
        """Have somebody else called with each event from now on."""
        self._on_event = on_event

    def tell_of_trials(self, on_told: Callable[[Trial, Outcome], None]) -> None:
        """Have somebody called with each trial that is told from now on, and what became of it."""
        self._on_told = on_told

    def memory(self) -> dict[str, Any]:
        """All that it knows, for :meth:`recalled`; it changes with the state."""
        return {name: value for name, value in vars(self).items() if name not in ("job", "_on_event", "_on_told")}

    @classmethod
    def recalled(cls, job: Job, memory: Mapping[str, Any]) -> SearchState:
        """The state of the job's search with this :meth:`memory`."""
        state = cls(job)
        vars(state).update(memory)
        return state

    # --- what has happened

    def apply(self, event: Event) -> None:
        """Take in what has happened."""
        self._on_event(event)
        self.events += 1
        match event:
            case Asked():
                self._apply_asked(event)
            case Answered():
                self._apply_answered(event)
            case Again():
                self._apply_again(event)
            case Ended():
                self.end_reason, self.failed = event.reason, event.failed
            case Retried():
                for key in event.keys:
                    self._attempts.forgive(key)
            case Enqueued():
                self.optimizer.give(event.configurations)
            case Stopped():
                self._asking.stop_reason = event.reason
            case Extended():
                self._go_on(event)
            case Began():
                self._begin(event)
            case Resumed() if not event.joined:
                self.since += event.time - self._latest
        self._latest = event.time

    def replay(self, event: Event) -> None:
        """Take in what the journal says has happened.

        Raises:
            JournalMismatch: The job's optimizer asks for another trial than the journal has.
        """
        if isinstance(event, Asked) and event.purpose == "fitness":
            try:
                self.optimizer.asked(event.trial)
            except JournalMismatch as error:
                raise JournalMismatch(
                    f"job {self.job.name!r}: the journal's event {self.events} holds {error}; "
                    "resume with the version of dask-swarm that wrote it, or run the job under another name"
                ) from None
        self.apply(event)
        self.replayed = self.told

    def _begin(self, event: Began) -> None:
        self.since, self.begun = event.time, True
        begin_with_limits_of(event, self.job, self.optimizer)
        if imported := begin_with(event.known, self.job, self.optimizer):
            self.counts["imported"] = imported

    def _go_on(self, event: Extended) -> None:
        """Take up higher limits; if the search had ended, it has not any more, and its winner may be another."""
        self.optimizer.take_limits(self.job.method(event.optimizer))
        self.end_reason, self.failed, self.tests = None, False, {}
        self._asking.go_on()
        self.since += event.time - self._latest

    def _apply_asked(self, event: Asked) -> None:
        trial, fitness = event.trial, event.purpose == "fitness"
        if fitness:
            self._note_asked(event)
            begun = self.optimizer.inherits and self.generations[trial.generation].asked == 1
            if self._lineage.note_asked(trial, [each.key for each in event.evaluations], begun):
                self.let_go(trial)
        pending = self._pending.ask(event)
        for each in event.evaluations:
            if each.result is not None:
                self._note_answer(pending, each, each.result)
            elif each.source is Source.TRAINED:
                self.unanswered[each.key] = event
                if fitness:
                    self._lineage.note_own(each.key)
        if pending.complete:
            self._settle(pending, event.time)

    def _note_asked(self, event: Asked) -> None:
        number = event.trial.generation
        self.asked += 1
        self.generation = max(self.generation, number)
        if number not in self.generations:
            self.generations[number] = Tally(number)
        self.generations[number].ask(event)
        self.evaluations += len(event.evaluations)
        trained = sum(each.source is Source.TRAINED for each in event.evaluations)
        if trained:
            self.counts[Source.TRAINED] += trained
            self._last_trained = max(self._last_trained, number)

    def _apply_answered(self, event: Answered) -> None:
        result = event.result
        self._archive.remember(result)
        self.unanswered.pop(result.key, None)
        self.trained_seconds += result.seconds
        self.checkpoint_seconds += result.metrics.get("checkpoint_seconds", 0.0)
        self.checkpoint_bytes += result.metrics.get("checkpoint_bytes", 0.0)
        if result.status is Status.PRUNED:
            self.counts["pruned"] += 1
        if self.rule is not None:
            self.rule.ended(result.key, well=result.status is Status.OK)
        self._attempts.forgive(result.key)
        if any(pending.asked.purpose == "fitness" for pending in self._pending.waiting(result.key)):
            self.failures.note_training(result)
        for pending in self._pending.answer(event):
            self._note_answer(pending, pending.lookup(result.key), result)
            if pending.complete:
                self._settle(pending, event.time)

    def _apply_again(self, event: Again) -> None:
        self._attempts.note(event)
        if self.rule is not None:  # it may go on from what it has saved
            self.rule.skip([event.key])

    def _note_answer(self, pending: PendingTrial, lookup: Lookup, result: Result) -> None:
        counted = pending.asked.purpose == "fitness" and lookup.source is not Source.TRAINED
        if counted and result.fitness is not None:
            self.counts[lookup.source] += 1
        if result.status is Status.OK:
            self.durations.learn(pending.trial.params, pending.trial.budget, result.seconds)

    def _settle(self, pending: PendingTrial, when: float) -> None:
        """Tell the optimizer of a trial whose last answer is there."""
        trial = pending.trial
        if pending.asked.purpose == "test":  # one training, on one fold
            self.tests[trial.fold or 0] = next(iter(pending.results.values()))
            return
        found = pending.outcome
        self.generations[trial.generation].tell(pending, found, when)
        self.told += 1
        if found.fitness is None:
            self.counts["failed"] += 1
            self.failures.note_trial(
                next(each for each in pending.answers if each is not None and each.fitness is None)
            )
        led = self._ranking.tell(self.job, self.optimizer, self.told, trial, found, when)
        if led is not None:
            self._on_event(led)
        if self._lineage.note_finished(trial, [each.key for each in pending.asked.evaluations]):
            self.let_go()
        self._on_told(trial, found)

    def to_train(self, asked: Asked) -> dict[str, Evaluation]:
        """The evaluations of a trial that are still to be trained, or are being trained, by key."""
        keys = [each.key for each in asked.evaluations]
        found = self._evaluations(asked.trial, asked.purpose, keys)
        return {each.key: each for each in found if self.unanswered.get(each.key) is asked}

    # --- whose checkpoints are needed

    def continued(self) -> set[str]:
        """Keys of the evaluations from whose checkpoints trainings may still go on."""
        return self._lineage.continued(self.optimizer, self._waiting(), self.finished())

    def let_go(self, *asked: Trial) -> None:
        """Give up the checkpoints that nobody will continue from; at the end, all but those of the best.

        Args:
            *asked: Trials that are about to be pending.
        """
        self._lineage.let_go(self.optimizer, [*self._waiting(), *asked], self.finished())

    def take_unneeded(self) -> list[str]:
        """Keys whose checkpoints may be deleted, each said once."""
        return self._lineage.take_unneeded()

    def _waiting(self) -> list[Trial]:
        return [pending.trial for pending in self._pending]

    # --- deciding what happens next

    def next(self, now: float) -> Request | Ended | None:
        """What happens next without any training's end; None if only results can bring the search on.

        Args:
            now: Seconds since the epoch.
        """
        if self.finished():
            return None
        if (reason := self._hopeless()) is not None:
            return Ended(reason=reason, failed=True, time=now)
        trial = self._asking.next(self.optimizer, self.generations, lambda: fired_rule(self.job, self._spent(now)))
        if trial is not None:
            return self._request(trial, "fitness")
        if self._pending:
            return None
        if not self._asking.done(self.optimizer):
            raise SwarmError(
                f"{self.job.optimizer!r} waits for results, but every trial was told: report this as a bug"
            )
        for trial in self._finalists():
            if (trial.fold or 0) not in self.tests:
                return self._request(trial, "test")
        return Ended(reason=self._asking.stop_reason or "done", time=now)

    @property
    def in_vain(self) -> str | None:
        """What to do about trainings that never get to their end (:attr:`Attempts.in_vain`); None if all do."""
        return self._attempts.in_vain

    @property
    def ponders(self) -> bool:
        """Whether :meth:`next` may take long, so that it pays to :meth:`prepare` it in a thread."""
        return self.optimizer.ponders and not (self._asking.in_hand or self._asking.drained or self.finished())

    def prepare(self) -> None:
        """Do beforehand what :meth:`next` takes long for. Nothing that others see changes, nor what is decided then.

        So it may run in a thread while others look at the state, as long as nothing is applied to it.
        """
        self.optimizer.prepare()

    def ask(self, request: Request, stored: Mapping[str, Result], now: float) -> Asked:
        """The event that a trial is asked for, with the source of each of its evaluations.

        Args:
            request: What :meth:`next` gave, just now.
            stored: What the archive of all jobs answers to :attr:`Request.unknown`, by key.
            now: Seconds since the epoch.
        """
        found = tuple(self._look_up(key, stored.get(key)) for key in request.keys)
        self._asking.in_hand = None
        return Asked(trial=request.trial, evaluations=found, purpose=request.purpose, time=now)

    def check_enqueued(self, configurations: Sequence[Params]) -> None:
        """Refuse what cannot be tried (any more).

        Raises:
            InvalidInput: It has ended, or asks for nothing more; or a configuration does not belong to the space.
        """
        if self.finished() or self._asking.stop_reason or self._asking.done(self.optimizer):
            raise InvalidInput(
                f"job {self.job.name!r} asks for nothing more: submit it with a higher limit, then enqueue again"
            )
        self.optimizer.check_given(configurations)

    def only_the_end_is_left(self) -> bool:
        """Whether nothing will be trained any more but for test scores."""
        drained = not self._pending and self._asking.done(self.optimizer)
        return not self.finished() and (drained or self._hopeless() is not None)

    def judge(self, evaluation: Evaluation, result: Result, now: float) -> Answered | Again:
        """What the end of a training means: it is answered, or runs again."""
        pruned = result.status is Status.PRUNED and self.rule is not None  # or it was another search's rule
        if pruned or result.status in (Status.OK, Status.FAILED):
            return Answered(result=result, time=now)
        return self._attempts.judge(evaluation, result, now)

    def _request(self, trial: Trial, purpose: Purpose) -> Request:
        keys = tuple(each.key for each in self._evaluations(trial, purpose))
        unknown = tuple(key for key in keys if not self._pending.waiting(key) and key not in self._archive)
        return Request(trial, keys, unknown, purpose)

    def _look_up(self, key: str, stored: Result | None) -> Lookup:
        if self._pending.waiting(key):
            return Lookup(key, Source.IN_FLIGHT)
        if stored is not None:
            self._archive.remember(stored)
        result = self._archive.answer(key)
        return Lookup(key, Source.TRAINED if result is None else Source.ARCHIVE, result)

    def _evaluations(self, trial: Trial, purpose: Purpose, keys: Sequence[str] | None = None) -> list[Evaluation]:
        """The evaluations of a trial, under the keys that a journal has for them, if it does."""
        parents, donors = self._lineage.origins(trial, purpose, self.optimizer.inherits)
        return self.job.evaluations(trial, purpose, parents, donors, keys)

    def _hopeless(self) -> str | None:
        """What all trainings have failed for, if they were enough to give up; else None."""
        return hopeless(self.failures, self.job.max_failures, self.generations.get(0), self.optimizer)

    def _spent(self, now: float) -> Spent:
        best = self.best
        return Spent(
            fitness=None if best is None else best.fitness,
            evaluations=self.evaluations,
            seconds=now - self.since,
            gpu_seconds=self.gpu_seconds,
            unimproved=lambda: self._ranking.unimproved(self.optimizer, self.told),
            idle_generations=self.generation - self._last_trained,
        )

    def _finalists(self) -> list[Trial]:
        """The trials to score on the test set: the best, of each fold where every fold has its own swarm."""
        if not self.job.test:
            return []
        return [trial for trial, _ in self.optimizer.finalists()]


def replay(
    job: Job,
    events: Iterable[Event],
    durations: Iterable[tuple[Params, float | None, float]] = (),
    on_event: Callable[[Event], None] = lambda _: None,
) -> SearchState:
    """What a journal tells of a job's search.

    Args:
        job: The job.
        events: Its journal, from the beginning.
        durations: As in :class:`SearchState`.
        on_event: Likewise.

    Raises:
        JournalMismatch: The journal holds other trials than the job's optimizer asks for.
    """
    state = SearchState(job, durations, on_event)
    for event in events:
        state.replay(event)
    return state
