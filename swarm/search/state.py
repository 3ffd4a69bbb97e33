"""What is known of a search, and what follows from it: the fold of its journal.

Everything that happens to a search is an :class:`~swarm.store.events.Event`, and :meth:`SearchState.apply` is the only
place that changes what is known of it. Running decides on an event, applies it and journals it; resuming applies what
the journal holds. Nothing here waits, reads a clock, or knows a store or a pool: given the same events it is in the
same state, and decides the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from swarm.errors import InvalidInput, JournalMismatch, SwarmError
from swarm.job import fields as job_fields
from swarm.job.job import Job
from swarm.optimizers.front import scalarised, undominated
from swarm.search.archive import Archive
from swarm.search.durations import Durations
from swarm.search.failures import Failures
from swarm.search.pruning import MedianRule
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
    Led,
    Lookup,
    Resumed,
    Retried,
    Stopped,
)
from swarm.store.outcome import Outcome
from swarm.store.pending import PendingTrial, PendingTrials
from swarm.store.records import Source
from swarm.store.tally import Tally
from swarm.trial import Evaluation, Params, Purpose, Result, Status, Trial, plain_data

# A training that takes its process down is run once more; one whose worker went away is not to blame, up to a point.
CRASHES_ALLOWED = 1
LOSSES_ALLOWED = 10
MOST_FAILURES = 5  # trainings, the first, if all fail for one reason
_FIRST = 10  # of earlier results that a method tries which cannot learn from them, at most
_SLACK_OF_PARENTS = 16
_SLACK_OF_WINNERS = 4
_ROUNDING = 1e-12  # of a fitness, relative: a few units in the last place


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


class SearchState:
    """One job's search as far as its journal tells.

    Args:
        job: What to search, and how.
        durations: Configurations, budgets and seconds of trainings of the same problem, from which to learn how long
            one takes.
        on_event: Called with each event before it is applied.

    Attributes:
        job: The job.
        optimizer: Its method, told all that has been answered.
        events: How many were applied.
        evaluations: Number of evaluations that were asked, however they are answered.
        unanswered: What is to be trained, or is being trained: the key of each evaluation, and what asked for it
            (:meth:`to_train` makes the evaluation).
        counts: Evaluations by source, of those answered without training only such as have a fitness: a failure saves
            nothing; trials that ``failed``, evaluations that were ``pruned``; results that were ``imported``, if any.
        generations: By number.
        tests: Scores on the test set, by fold.
        failures: Why trials failed, how often, and where.
        unmet: How many trials did not meet each constraint, by what it wants.
        leaders: Where several targets or constraints count, for each trial that was told: its id, and that of the best
            from then on; None where the fitness decides, since :func:`swarm.trial.rank_of` then says which is better.
        rule: Which trainings to end early; None if the job prunes none.
        durations: How long trainings take.
        asked, told: Numbers of trials.
        replayed: How many of those told were read from the journal.
        generation: The latest that was asked for.
        trained_seconds: Of all trainings so far.
        checkpoint_seconds, checkpoint_bytes: Spent on keeping checkpoints, and written.
        begun: Whether the search has begun; what was enqueued before stands before that in the journal.
        since: When the search would have begun if somebody had run it ever since, seconds since the epoch.
        end_reason: Why it ended; None while it has not.
        failed: Whether it ended because its first trainings had all failed.
    """

    def __init__(
        self,
        job: Job,
        durations: Iterable[tuple[Params, float | None, float]] = (),
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        assert job.space is not None  # the job took the problem's own if it was given none
        self.job = job
        self.optimizer = job.start()
        self.events = 0
        self.evaluations = 0
        self.unanswered: dict[str, Asked] = {}
        self.counts: Counter[str] = Counter({source.value: 0 for source in Source} | {"failed": 0})
        self.generations: dict[int, Tally] = {}
        self.tests: dict[int, Result] = {}
        self.failures = Failures()
        self.leaders: list[tuple[int, int | None]] | None = [] if job.targets or job.constraints else None
        self.unmet: Counter[str] = Counter()
        self.rule: MedianRule | None = None
        if job.prune is not None:
            self.rule = MedianRule(job.prune.metric, job.sign, job.prune.after, job.prune.trainings)
        self.durations = Durations(job.space)
        self.asked = self.told = self.replayed = 0
        self.generation = 0
        self.trained_seconds = 0.0
        self.checkpoint_seconds = self.checkpoint_bytes = 0.0
        self.since = 0.0
        self.begun = False
        self.end_reason: str | None = None
        self.failed = False
        self._on_event = on_event
        self._on_told: Callable[[Trial, Outcome], None] = lambda *_: None
        self._improved = 0  # trials that were told when the best was
        self._archive = Archive()
        self._pending = PendingTrials()
        self._metrics: dict[int, Mapping[str, float]] = {}  # of the best; of all that may become it, if targets count
        self._fitness: dict[int, float] = {}  # likewise
        self._losses: dict[int, tuple[Trial, tuple[float, ...]]] = {}  # of all that meet the constraints
        self._lineage = Lineage()
        self._ends: Counter[tuple[str, Status]] = Counter()  # of what ran again
        self._excused: set[str] = set()  # keys of what crashed, but not by itself
        self._last_trained = 0  # generation
        self._latest = 0.0  # time of the latest event
        self._in_hand: Trial | None = None  # the optimizer has asked for it, and no event says so yet
        self._stop_reason: str | None = None
        self._drained = False
        for params, budget, seconds in durations:
            if job.space.contains(params):  # another job may have searched elsewhere
                self.durations.learn(params, budget, seconds)

    @property
    def best(self) -> Best | None:
        """The best trial so far, or None while no training has succeeded."""
        found = self.optimizer.best
        if found is None:
            return None
        fitness = self._fitness.get(found[0].id, self.job.sign * found[1])
        return Best(found[0], fitness, self._metrics.get(found[0].id, {}))

    @property
    def front(self) -> list[Best]:
        """The trials that no other dominates, where several targets count: by the first target, the best first.

        Of trials on different budgets only those on the largest; none that meets not the constraints.
        """
        budget = max((trial.budget or 0.0 for trial, _ in self._losses.values()), default=0.0)
        known = [(trial, losses) for trial, losses in self._losses.values() if (trial.budget or 0.0) == budget]
        if not known:
            return []
        first = sorted((known[place] for place in undominated([losses for _, losses in known])), key=_in_order)
        return [Best(trial, self._fitness[trial.id], self._metrics[trial.id]) for trial, _ in first]

    def losses_of(self, trial: int) -> tuple[float, ...] | None:
        """What is minimised of a trial that is told, for each target, where several count; None if it may not win."""
        found = self._losses.get(trial)
        return None if found is None else found[1]

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
                    self._forgive(key)
            case Enqueued():
                self.optimizer.give(event.configurations)
            case Stopped():
                self._stop_reason = event.reason
            case Extended():
                self._go_on(event)
            case Began():
                self.since, self.begun = event.time, True
                self._begin_with_limits_of(event)
                self._begin_with(event.known)
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

    def _begin_with(self, known: Sequence[Mapping[str, Any]]) -> None:
        """Learn what was known before; a method that cannot tries the best of it among its first."""
        given = [each for each in known if each.get("imported")]
        for each in known:
            if self.optimizer.takes_results or not each.get("imported"):
                self.optimizer.learn(each["params"], each["loss"], each.get("fold"))
        if not given:
            return
        self.counts["imported"] = len(given)
        if not self.optimizer.takes_results:
            room = max(self.job.optimizer.sizes.values(), default=1) // 2
            most = max(1, min(room, (self.optimizer.planned or _FIRST) // 4, _FIRST))
            best = sorted(given, key=lambda each: float(each["loss"]))[:most]
            with suppress(InvalidInput):  # where the job itself names as many as there is room for
                self.optimizer.give([each["params"] for each in best])

    def _go_on(self, event: Extended) -> None:
        """Take up higher limits; if the search had ended, it has not any more, and its winner may be another."""
        self.optimizer.take_limits(self.job.method(event.optimizer))
        self.end_reason, self.failed, self.tests = None, False, {}
        self._stop_reason, self._drained = None, False
        self.since += event.time - self._latest

    def _begin_with_limits_of(self, event: Began) -> None:
        """Take back limits that were raised since, until the journal comes to that."""
        described = (event.job or {}).get("optimizer")
        if described is None or job_fields.as_stored(described) == job_fields.plain(self.job.optimizer):
            return
        with suppress(InvalidInput):  # an earlier version may have known other options; its limits were never raised
            self.optimizer.take_limits(self.job.method(described))

    def _apply_asked(self, event: Asked) -> None:
        trial, fitness = event.trial, event.purpose == "fitness"
        if fitness:
            self._note_asked(event)
            self._note_lineage(trial, [each.key for each in event.evaluations])
        pending = self._pending.ask(event)
        for each in event.evaluations:
            if each.result is not None:
                self._note_answer(pending, each, each.result)
            elif each.source is Source.TRAINED:
                self.unanswered[each.key] = event
                if fitness and self.job.checkpoints:
                    self._lineage.add_own(each.key)
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
        self._forgive(result.key)
        if any(pending.asked.purpose == "fitness" for pending in self._pending.waiting(result.key)):
            self.failures.note_training(result)
        for pending in self._pending.answer(event):
            self._note_answer(pending, pending.lookup(result.key), result)
            if pending.complete:
                self._settle(pending, event.time)

    def _apply_again(self, event: Again) -> None:
        self._ends[event.key, event.status] += 1
        if event.status is Status.CRASHED and not event.blamed:
            self._excused.add(event.key)
        if self.rule is not None:  # it may go on from what it has saved
            self.rule.skip([event.key])

    def _forgive(self, key: str) -> None:
        """Forget how often an evaluation ended in vain."""
        self._excused.discard(key)
        if self._ends:
            for status in Status:
                self._ends.pop((key, status), None)

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
        self._tell(trial, found, when)
        self._note_finished(pending)
        self._on_told(trial, found)

    def _tell(self, trial: Trial, found: Outcome, when: float) -> None:
        """Tell the optimizer, and note what it takes for the best from now on."""
        before = self.optimizer.best
        self.optimizer.tell(trial, self._told_of(trial, found))
        best = self.optimizer.best
        if best is not None and (before is None or best[0].id != before[0].id):
            self._improved = self.told
        if self.leaders is None:
            if best is not None and best[0].id == trial.id:
                self._metrics = {trial.id: found.metrics}
            return
        self._metrics[trial.id] = found.metrics
        self.leaders.append((trial.id, None if best is None else best[0].id))
        if best is not None and best != before:  # those who only see events could not tell
            led = Led(trial=best[0].id, fitness=self._fitness[best[0].id], generation=trial.generation, time=when)
            self._on_event(led)

    def _told_of(self, trial: Trial, found: Outcome) -> float | list[float] | None:
        """What the optimizer is told of a trial."""
        if found.fitness is None:
            return None
        unmet = self.job.unmet(found)
        if unmet is not None:
            self.unmet[unmet] += 1
            return None
        losses = self.job.losses(found)
        if self.leaders is not None:
            self._fitness[trial.id] = found.fitness
        if self.job.targets:
            self._losses[trial.id] = trial, tuple(losses)
        return losses if len(losses) == 1 or self.optimizer.compares else scalarised(losses)

    def to_train(self, asked: Asked) -> dict[str, Evaluation]:
        """The evaluations of a trial that are still to be trained, or are being trained, by key."""
        keys = [each.key for each in asked.evaluations]
        found = self._evaluations(asked.trial, asked.purpose, keys)
        return {each.key: each for each in found if self.unanswered.get(each.key) is asked}

    # --- whose checkpoints are needed

    def continued(self) -> set[str]:
        """Keys of the evaluations from whose checkpoints trainings may still go on."""
        return {key for trial in self._continued_trials() for key in self._lineage.get(trial) or ()}

    def let_go(self, *asked: Trial) -> None:
        """Give up the checkpoints that nobody will continue from; at the end, all but those of the best.

        Args:
            *asked: Trials that are about to be pending.
        """
        best = [best.id for best, _ in self.optimizer.finalists()]
        pending = [pending.trial.id for pending in self._pending]
        self._lineage.keep({*self._continued_trials(*asked), *pending, *best, *(trial.id for trial in asked)})

    def take_unneeded(self) -> list[str]:
        """Keys whose checkpoints may be deleted, each said once."""
        unneeded, self._lineage.unneeded = self._lineage.unneeded, []
        return unneeded

    def _continued_trials(self, *asked: Trial) -> set[int]:
        waiting = [*(pending.trial for pending in self._pending), *asked]
        parents = {one for trial in waiting for one in (trial.parent, *trial.donors) if one is not None}
        return parents if self.finished() else parents | self.optimizer.parents()

    def _note_lineage(self, trial: Trial, keys: list[str]) -> None:
        """Remember whose checkpoints may be continued; let go of the others, now and then, all at once."""
        if trial.budget is None or not self.job.checkpoints:
            return
        self._lineage.add(trial.id, keys)
        begun = self.optimizer.inherits and self.generations[trial.generation].asked == 1
        if begun or self._lineage.crowded(_SLACK_OF_PARENTS):
            self.let_go(trial)

    def _note_finished(self, pending: PendingTrial) -> None:
        """Nobody continues a whole training, but its network may be the one that wins: keep that of the best so far."""
        if pending.trial.budget is not None or not self.job.checkpoints:
            return
        self._lineage.add(pending.trial.id, [each.key for each in pending.asked.evaluations])
        if self._lineage.crowded(_SLACK_OF_WINNERS):
            self.let_go()

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
        self._in_hand = self._in_hand or (None if self._drained else self._next_trial(now))
        if self._in_hand is not None:
            return self._request(self._in_hand, "fitness")
        if self._pending:
            return None
        if not (self._drained or self.optimizer.done):
            raise SwarmError(
                f"{self.job.optimizer!r} waits for results, but every trial was told: report this as a bug"
            )
        for trial in self._finalists():
            if (trial.fold or 0) not in self.tests:
                return self._request(trial, "test")
        return Ended(reason=self._stop_reason or "done", time=now)

    @property
    def ponders(self) -> bool:
        """Whether :meth:`next` may take long, so that it pays to :meth:`prepare` it in a thread."""
        return self.optimizer.ponders and not (self._in_hand or self._drained or self.finished())

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
        self._in_hand = None
        return Asked(trial=request.trial, evaluations=found, purpose=request.purpose, time=now)

    def check_enqueued(self, configurations: Sequence[Params]) -> None:
        """Refuse what cannot be tried (any more).

        Raises:
            InvalidInput: It has ended, or asks for nothing more; or a configuration does not belong to the space.
        """
        if self.finished() or self._drained or self._stop_reason or self.optimizer.done:
            raise InvalidInput(
                f"job {self.job.name!r} asks for nothing more: submit it with a higher limit, then enqueue again"
            )
        self.optimizer.check_given(configurations)

    def only_the_end_is_left(self) -> bool:
        """Whether nothing will be trained any more but for test scores."""
        drained = not self._pending and (self._drained or self.optimizer.done)
        return not self.finished() and (drained or self._hopeless() is not None)

    def judge(self, evaluation: Evaluation, result: Result, now: float) -> Answered | Again:
        """What the end of a training means: it is answered, or runs again."""
        pruned = result.status is Status.PRUNED and self.rule is not None  # or it was another search's rule
        if pruned or result.status in (Status.OK, Status.FAILED):
            return Answered(result=result, time=now)
        # A training in its worker's own thread takes the worker along when it crashes, which looks like a loss.
        itself = result.blamed and evaluation.isolation == "thread"
        crashed = result.status is Status.CRASHED or (result.status is Status.LOST and itself)
        ends = 1 + self._ends[result.key, result.status]
        if ends <= (CRASHES_ALLOWED if crashed else LOSSES_ALLOWED):
            return Again(key=result.key, status=result.status, error=result.error, blamed=result.blamed, time=now)
        reason, *below = (result.error or "").split("\n", 1)
        error = "\n".join([f"{reason} ({ends} times)", *below])
        blamed = result.status is Status.CRASHED and result.blamed and result.key not in self._excused
        failed = replace(result, status=Status.FAILED, fitness=None, error=error, blamed=blamed)
        return Answered(result=failed, time=now)

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
        if purpose == "test":  # what was handed on to the winner cannot be trained again from the start
            parents = self._lineage.get(trial.id) if self.optimizer.inherits else None
        else:
            parents = None if trial.parent is None else self._lineage.get(trial.parent)
        donors = [] if purpose == "test" else [self._lineage[donor] for donor in trial.donors]
        return self.job.evaluations(trial, purpose, parents, donors, keys)

    def _hopeless(self) -> str | None:
        """What all trainings have failed for, if they were enough to give up; else None."""
        failures, most = self.failures, self.job.max_failures
        if most == 0 or failures.common is None:
            return None
        if failures.trained >= (MOST_FAILURES if most is None else most):
            return f"its first {failures.trained} trainings have all failed: {failures.common}"
        first = self.generations.get(0)
        complete = first is not None and first.asked == first.failed and not failures.blamed_trials
        if most is None and complete and (self.optimizer.generational or self.optimizer.done):
            return f"all trainings of its first generation have failed: {failures.common}"
        return None

    def _next_trial(self, now: float) -> Trial | None:
        """Ask the optimizer, unless a stopping rule has fired.

        A method with generations always completes the one it is in, so that where it stops does not depend on the
        number of slots.
        """
        stop = self._stop_reason = self._stop_reason or self._stopping_rule(now)
        if stop and not self.optimizer.generational:
            self._drained = True
            return None
        trial = self.optimizer.ask()
        if trial is not None and stop and trial.generation not in self.generations:
            self._drained = True
            return None
        return trial

    def _stopping_rule(self, now: float) -> str | None:
        """The first stopping rule that has fired, or None."""
        rules, best = self.job.stop, self.best
        if rules.target is not None and best and _reached(self.job.sign * best.fitness, self.job.sign * rules.target):
            return "target reached"
        fired = (
            (rules.evaluations, lambda: self.evaluations, "evaluations used up"),
            (rules.seconds, lambda: now - self.since, "time used up"),
            (rules.gpu_hours, lambda: self.gpu_seconds / 3600, "GPU hours used up"),
            (rules.no_improvement, self._unimproved, f"no improvement in {rules.no_improvement} trials"),
        )
        for most, spent, reason in fired:
            if most is not None and spent() >= most:
                return reason
        if rules.idle_generations is not None and self.generation - self._last_trained > rules.idle_generations:
            return f"no training in {rules.idle_generations} generations"
        return None

    def _unimproved(self) -> int:
        """Trials since the best one; where generations are complete, by their order, whoever ended first."""
        best = self.optimizer.best
        if best is None:
            return 0
        return self.told - (min(best[0].id + 1, self.told) if self.optimizer.generational else self._improved)

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


def _in_order(found: tuple[Trial, tuple[float, ...]]) -> tuple[tuple[float, ...], int]:
    trial, losses = found
    return losses, trial.id


def _reached(loss: float, target: float) -> bool:
    """Whether a loss is as low as the target, but for rounding: a mean that is shown as 0.3 may lie just beside it."""
    return loss <= target or math.isclose(loss, target, rel_tol=_ROUNDING)
