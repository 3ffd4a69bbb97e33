"""The loop of one job: ask, answer from the archive, submit, journal, tell. It knows no Dask.

Everything that happens to a search is an :class:`~swarm.store.Event`; :meth:`Search._apply` is the only place that
changes its state. Running journals an event and applies it, resuming applies what the journal holds: the state of a
search *is* the replay of its journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from swarm import __version__
from swarm.archive import Archive, Source
from swarm.durations import Durations
from swarm.errors import JournalMismatch, StoreUnavailable, SwarmError
from swarm.job import Job
from swarm.pruning import MedianRule
from swarm.store import Event, Store
from swarm.trial import Evaluation, Purpose, Result, Status, Trial

# A training that takes its process down is run once more; one whose worker went away is not to blame, up to a point.
CRASHES_ALLOWED = 1
LOSSES_ALLOWED = 10
_EVENTS_PER_COMMIT = 500
_ERRORS_KEPT = 20
_DURATIONS_READ = 500
_LINEAGE_SLACK = 16
_FINISHED_SLACK = 4
_LONGEST_PAUSE = 10.0  # seconds between attempts to reach the store

T = TypeVar("T")


class Pool(Protocol):
    """Slots that run evaluations; :class:`~swarm.pool.DaskPool` and :class:`~swarm.virtual.VirtualPool` are pools."""

    @property
    def slots(self) -> int:
        """Number of slots at this moment, busy or free."""
        ...

    def free(self) -> int:
        """Number of slots that nothing runs on."""
        ...

    def running(self, keys: Collection[str]) -> set[str]:
        """Those of these evaluations that run already, for another search or since before; to submit them joins."""
        ...

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Run these evaluations, at most :meth:`free` of them besides those that run already."""
        ...

    async def next(self) -> list[Result]:
        """Wait until something ended or the slots changed; what ended, perhaps nothing."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, on the pool's own clock."""
        ...

    def watch(self, on_report: Callable[[str, Mapping[str, float]], None]) -> None:
        """Call ``on_report(key, metrics)`` with what trainings report on the way."""
        ...

    def prune(self, key: str, metric: str) -> None:
        """End the training of ``key`` soon; its fitness is the last value that it reported of ``metric``."""
        ...


class _NoPool:
    """Stands for the pool of a search that is only looked at."""

    slots = 0

    def free(self) -> int:
        return 0

    def time(self) -> float:
        return 0.0

    def running(self, keys: Collection[str]) -> set[str]:
        return set()

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        raise RuntimeError("this search has no pool; run it")

    async def next(self) -> list[Result]:
        raise RuntimeError("this search has no pool; run it")

    def watch(self, on_report: Callable[[str, Mapping[str, float]], None]) -> None:
        pass

    def prune(self, key: str, metric: str) -> None:
        pass


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
        total: Sum of the fitness values.
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
        return self.total / succeeded if succeeded else math.nan


@dataclass(slots=True)
class _Pending:
    """A trial that waits for the results of its evaluations."""

    trial: Trial
    keys: list[str]
    purpose: Purpose
    results: dict[str, Result] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial so far, with its fitness in the job's own direction."""

    trial: Trial
    fitness: float

    @property
    def params(self) -> dict[str, Any]:
        """Its hyper-parameters."""
        return dict(self.trial.params)


class Search:
    """One job's search, from its first trial to its last, or on from wherever its journal ends.

    Args:
        job: What to search, and how.
        store: Where the journal and the archive are. What the journal holds is replayed at once.
        on_event: Called with each event as it is applied, those that are replayed too.

    Raises:
        JournalMismatch: The journal holds other trials than the job's optimizer asks for.
    """

    def __init__(self, job: Job, store: Store, on_event: Callable[[Event], None] = lambda _: None) -> None:
        self.job = job
        self._on_event = on_event
        self.optimizer = job.start()
        self.archive = Archive(store)
        self.counts: Counter[str] = Counter({source.value: 0 for source in Source} | {"failed": 0})
        self.generations: dict[int, Generation] = {}
        self.tests: dict[int, Result] = {}
        self.errors: Counter[str] = Counter()
        self.asked = self.told = 0
        self.generation = 0  # the latest that was asked for
        self.trained_seconds = 0.0
        self.checkpoint_seconds = self.checkpoint_bytes = 0.0  # spent on keeping checkpoints, and written
        self.end_reason: str | None = None
        self._store = store
        self._pool: Pool = _NoPool()
        self._seq = 0
        self._pending: dict[int, _Pending] = {}
        self._lineage: dict[int, list[str]] = {}  # evaluation keys of the trials that others may continue, or that won
        self._lineage_kept = 0
        self._own: set[str] = set()  # of these, what was trained for this job; the rest is for others to let go of
        self._unwritten: list[Event] = []  # applied, and to be journalled before anything is done about it
        self._final: list[tuple[Evaluation, Result]] = []  # to be archived with them
        self._forgotten: list[str] = []  # keys of checkpoints to delete once that is written
        self._forget: Callable[[list[str]], None] = lambda _: None
        self._queue: deque[Evaluation] = deque()
        assert job.space is not None  # the job took the problem's own if it was given none
        self._durations = Durations(job.space)
        for params, budget, seconds in store.durations(job.code.fingerprint, _DURATIONS_READ):
            if job.space.contains(params):  # another job may have searched elsewhere
                self._durations.learn(params, budget, seconds)
        self._flying: dict[str, Evaluation] = {}
        self._ends: Counter[tuple[str, Status]] = Counter()
        self._stop_reason: str | None = None
        self._drained = False
        self._in_hand: Trial | None = None  # asked for, but not yet known to the journal
        self._patience = 0.0
        self._on_change: Callable[[Search], None] = lambda _: None
        self.trouble: str | None = None
        self._last_trained = 0  # generation
        self._rule = None
        if job.prune is not None:
            self._rule = MedianRule(job.prune.metric, job.sign, job.prune.after, job.prune.trainings)
        self._began = 0.0
        self._since = 0.0  # when the job would have begun if somebody had run it ever since
        self._latest = 0.0  # time of the latest event
        self._replay()
        self.replayed = self.told

    # --- what the outside may look at

    @property
    def best(self) -> Best | None:
        """The best trial so far, or None while no training has succeeded."""
        found = self.optimizer.best
        return None if found is None else Best(found[0], self.job.sign * found[1])

    @property
    def running(self) -> int:
        """Evaluations that a slot is running now."""
        return len(self._flying)

    @property
    def slots(self) -> int:
        """Slots that the pool has now."""
        return self._pool.slots

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of this process's part of the search."""
        return self._pool.time() - self._began

    @property
    def running_seconds(self) -> float:
        """Wall-clock seconds of the whole search, without the times when neither it nor a training of it ran."""
        return self._pool.time() - self._since

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at the pace of this process so far; None where that cannot be said."""
        done = self.told - self.replayed
        if not self.optimizer.planned or not done or self.finished():
            return None
        return self.seconds / done * (self.optimizer.planned - self.told)

    @property
    def outstanding(self) -> set[str]:
        """Keys of the evaluations that are to be answered by training."""
        return {evaluation.key for evaluation in self._queue} | set(self._flying)

    @property
    def gpu_seconds(self) -> float:
        """Seconds of all trainings so far, times the GPUs of each."""
        return self.trained_seconds * self.job.gpus_per_training * self.job.replicas

    def finished(self) -> bool:
        """Whether the search is done: every trial told, and the best scored on the test set if that was asked."""
        return self.end_reason is not None

    # --- the loop

    async def run(
        self,
        pool: Pool,
        on_change: Callable[[Search], None] = lambda _: None,
        forget: Callable[[list[str]], None] = lambda _: None,
        patience: float = 0.0,
    ) -> None:
        """Run to the end. When cancelled, the journal holds all that was told, and a new search goes on from there.

        Args:
            pool: Where evaluations run.
            on_change: Called after every step with this search, for progress.
            forget: Called with the keys of evaluations whose checkpoints nobody will continue from any more.
            patience: Seconds to wait for a store that is away; meanwhile nothing new is started, and :attr:`trouble`
                says why.

        Raises:
            StoreUnavailable: The store was away for longer.
        """
        self._pool, self._began, self._forget = pool, pool.time(), forget
        self._patience, self._on_change = patience, on_change
        pool.watch(self._on_report)
        await self._with_store(lambda: self._store.set_status(self.job.name, "running"))
        self._begin()
        try:
            while not self.finished():
                waiting = await self._fill()
                on_change(self)
                if not waiting:
                    await asyncio.sleep(0)  # a converged swarm has much to ask and nothing to wait for
                elif not self.finished():
                    self._take(await pool.next())
            self._let_go()
            await self._with_store(self._write)
            await self._with_store(lambda: self._store.set_status(self.job.name, "finished"))
        except BaseException:
            with contextlib.suppress(StoreUnavailable):
                self._store.set_status(self.job.name, "stopped")
            raise

    def _begin(self) -> None:
        """Join what an earlier run has left running, and note that somebody runs the job again, or still."""
        if self.finished():
            return
        joined = self._rejoin()
        kind, more = ("resumed", {"joined": joined}) if self._seq else ("job", {"job": self.job.to_dict()})
        event = self._event(kind, {"version": __version__, **more})
        self._unwritten.append(event)
        self._apply(event)

    async def _with_store(self, work: Callable[[], T]) -> T:
        """Do what needs the store; while that is away, try again for as long as there is patience."""
        try:
            return work()
        except StoreUnavailable as error:
            if not self._patience:
                raise
            self.trouble = str(error)
            self._on_change(self)
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE),
            stop=stop_after_delay(self._patience),
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                done = work()
        self.trouble = None
        return done

    async def _fill(self) -> bool:
        """Give every free slot something to do, and answer what needs no slot; whether only results can bring us on.

        A method with generations is asked for all of one at once, since its order is ours to choose; any other is
        asked late, when it knows most.
        """
        asked = await self._with_store(self._ask)
        await self._with_store(self._write)
        if asked:
            self._rejoin()
        if asked and len(self._queue) > 1:
            self._queue = deque(sorted(self._queue, key=self._expected_seconds, reverse=True))
        self._submit([self._queue.popleft() for _ in range(min(self._pool.free(), len(self._queue)))])
        return asked < _EVENTS_PER_COMMIT

    def _ask(self) -> int:
        """Ask for what the free slots can take; how much was asked."""
        asked, free = 0, self._pool.free()
        while (self.optimizer.generational and free) or len(self._queue) < free:
            event = self._next_event()
            if event is None:
                break
            self._apply(event)
            self._unwritten.append(event)
            asked += 1
            if asked >= _EVENTS_PER_COMMIT:
                break
        return asked

    def _rejoin(self) -> bool:
        """Join what runs already, if anything: another search may train the same, another master may have begun it."""
        running = self._pool.running([evaluation.key for evaluation in self._queue])
        if running:
            self._submit([evaluation for evaluation in self._queue if evaluation.key in running])
            self._queue = deque(evaluation for evaluation in self._queue if evaluation.key not in running)
        return bool(running)

    def _submit(self, evaluations: list[Evaluation]) -> None:
        if evaluations:
            self._flying.update((evaluation.key, evaluation) for evaluation in evaluations)
            self._pool.submit(evaluations)

    def _expected_seconds(self, evaluation: Evaluation) -> float:
        return self._durations.expected(evaluation.params, evaluation.budget)

    def _take(self, results: Iterable[Result]) -> None:
        """Tell what ended; run again what is not to blame for its end. Written with what is asked for next."""
        for result in results:
            evaluation = self._flying.pop(result.key)
            verdict = self._verdict(evaluation, result)
            if verdict is None:
                self._queue.appendleft(evaluation)
                data = {"key": result.key, "status": result.status.value, "error": result.error}
                event = self._event("again", data)
            else:
                if verdict.status is not Status.PRUNED:  # that says more about the others than about this one
                    self._final.append((evaluation, verdict))
                event = self._event("result", replace(verdict, curve=()).to_dict())
            self._unwritten.append(event)
            self._apply(event)

    def _verdict(self, evaluation: Evaluation, result: Result) -> Result | None:
        """The result as it counts, or None if the evaluation is to run again."""
        if result.status in (Status.OK, Status.PRUNED, Status.FAILED):
            return result
        # A training in its worker's own thread takes the worker along when it crashes, which looks like a loss.
        blamed = result.status is Status.CRASHED or evaluation.isolation == "thread"
        ends = 1 + self._ends[result.key, result.status]
        if ends <= (CRASHES_ALLOWED if blamed else LOSSES_ALLOWED):
            return None
        return replace(result, status=Status.FAILED, error=f"{result.error} ({ends} times)")

    def _on_report(self, key: str, metrics: Mapping[str, float]) -> None:
        """A training has reported: end it if it is hopeless."""
        if self._rule is not None and key in self._flying and self._rule.hopeless(key, metrics):
            self._pool.prune(key, self.job.prune.metric if self.job.prune else "")

    # --- deciding what happens next

    def _next_event(self) -> Event | None:
        """The next thing to do that needs a journal entry, or None if only results can bring us on."""
        self._in_hand = self._in_hand or (None if self._drained else self._next_trial())
        if self._in_hand is not None:
            event = self._asked(self._in_hand, "fitness")
            self._in_hand = None
            return event
        if self._pending:
            return None
        if not (self._drained or self.optimizer.done):
            raise SwarmError(
                f"{self.job.optimizer!r} waits for results, but every trial was told: report this as a bug"
            )
        for trial in self._finalists():
            if (trial.fold or 0) not in self.tests:
                return self._asked(trial, "test")
        return self._event("ended", {"reason": self._stop_reason or "done"}) if not self.finished() else None

    def _next_trial(self) -> Trial | None:
        """Ask the optimizer, unless a stopping rule has fired.

        A method with generations always completes the one it is in, so that where it stops does not depend on the
        number of slots.
        """
        stop = self._stop_reason = self._stop_reason or self._stopping_rule()
        if stop and not self.optimizer.generational:
            self._drained = True
            return None
        trial = self.optimizer.ask()
        if trial is not None and stop and trial.generation not in self.generations:
            self._drained = True
            return None
        return trial

    def _stopping_rule(self) -> str | None:
        """The first stopping rule that has fired (METHODS X5), or None."""
        rules, best = self.job.stop, self.best
        if rules.target is not None and best and self.job.sign * (best.fitness - rules.target) <= 0:
            return "target reached"
        if rules.evaluations is not None and sum(self.counts[s] for s in Source) >= rules.evaluations:
            return "evaluations used up"
        if rules.seconds is not None and self.running_seconds >= rules.seconds:
            return "time used up"
        if rules.gpu_hours is not None and self.gpu_seconds >= 3600 * rules.gpu_hours:
            return "GPU hours used up"
        if rules.idle_generations is not None and self.generation - self._last_trained > rules.idle_generations:
            return f"no training in {rules.idle_generations} generations"
        return None

    def _finalists(self) -> list[Trial]:
        """The trials to score on the test set: the best, of each fold where every fold has its own swarm."""
        if not self.job.test:
            return []
        return [trial for trial, _ in self.optimizer.finalists()]

    def _asked(self, trial: Trial, purpose: Purpose) -> Event:
        """The event that a trial is asked for, with the source of each of its evaluations."""
        evaluations = []
        for evaluation in self._evaluations(trial, purpose):
            source, result = self.archive.look_up(evaluation.key)
            answer = None if result is None else replace(result, curve=()).to_dict()
            evaluations.append({"key": evaluation.key, "source": source.value, "result": answer})
        data = {
            "id": trial.id,
            "params": dict(trial.params),
            "generation": trial.generation,
            "member": trial.member,
            "fold": trial.fold,
            "budget": trial.budget,
            "parent": trial.parent,
            "donors": list(trial.donors),
            "evaluations": evaluations,
        }
        return self._event("asked" if purpose == "fitness" else "test", data)

    # --- applying events: the only place where the state changes, live and in replay

    def _apply(self, event: Event) -> None:
        self._on_event(event)
        data = event.data
        if event.kind in ("asked", "test"):
            self._apply_asked(event)
        elif event.kind == "result":
            result = Result.from_dict(data)
            self.archive.remember(result)
            self.trained_seconds += result.seconds
            self.checkpoint_seconds += result.metrics.get("checkpoint_seconds", 0.0)
            self.checkpoint_bytes += result.metrics.get("checkpoint_bytes", 0.0)
            if result.status is Status.PRUNED:
                self.counts["pruned"] += 1
            if self._rule is not None:
                self._rule.ended(result.key, well=result.status is Status.OK)
            for number in self.archive.arrived(result.key):
                self._answer(number, result, event.time)
        elif event.kind == "again":
            self._ends[data["key"], Status(data["status"])] += 1
        elif event.kind == "ended":
            self.end_reason = data["reason"]
        elif event.kind == "job":
            self._since = event.time
        elif event.kind == "resumed" and not data["joined"]:
            self._since += event.time - self._latest
        self._latest = event.time

    def _apply_asked(self, event: Event) -> None:
        data = event.data
        purpose: Purpose = "fitness" if event.kind == "asked" else "test"
        trial = Trial(**{name: value for name, value in data.items() if name != "evaluations"})
        keys = [evaluation["key"] for evaluation in data["evaluations"]]
        # A test score is no trial of the optimizer: negative numbers keep the two apart.
        number = trial.id if purpose == "fitness" else -1 - trial.id
        self._pending[number] = _Pending(trial, keys, purpose)
        if purpose == "fitness":
            self._note_asked(trial, data["evaluations"], event.time)
            self._note_lineage(trial, keys)
        for evaluation, entry in zip(self._evaluations(trial, purpose), data["evaluations"], strict=True):
            if entry["result"] is not None:
                self._pending[number].results[entry["key"]] = Result.from_dict(entry["result"])
                self._learn(trial, self._pending[number].results[entry["key"]])
                continue
            if entry["source"] == Source.TRAINED and entry["key"] == evaluation.key:
                self._queue.append(evaluation)
                if purpose == "fitness" and self.job.checkpoints:
                    self._own.add(entry["key"])
            self.archive.wait(entry["key"], number)
        self._settle(number, event.time)

    def _note_asked(self, trial: Trial, evaluations: list[dict[str, Any]], when: float) -> None:
        self.asked += 1
        self.generation = max(self.generation, trial.generation)
        row = self.generations.setdefault(trial.generation, Generation(trial.generation, start=when))
        row.asked += 1
        for evaluation in evaluations:
            row.sources[evaluation["source"]] += 1
            self.counts[evaluation["source"]] += 1
            if evaluation["source"] == Source.TRAINED:
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
        self._lineage[trial.id] = keys
        begun = self.optimizer.inherits and self.generations[trial.generation].asked == 1
        if begun or len(self._lineage) > 2 * self._lineage_kept + _LINEAGE_SLACK:
            self._let_go()

    def _let_go(self) -> None:
        """Give up the checkpoints that nobody will continue from; at the end, all but those of the best."""
        best = [best.id for best, _ in self.optimizer.finalists()]
        parents = {one for pending in self._pending.values() for one in (pending.trial.parent, *pending.trial.donors)}
        coming = set() if self.finished() else self.optimizer.parents()
        kept = {
            number: keys
            for number, keys in self._lineage.items()
            if number in {*coming, *parents, *self._pending, *best}
        }
        used = {key for keys in kept.values() for key in keys}  # equal trials share a checkpoint
        unused = {key for keys in self._lineage.values() for key in keys if key not in used}
        self._forgotten += sorted(unused & self._own)
        self._own -= unused
        self._lineage, self._lineage_kept = kept, len(kept)

    def _answer(self, number: int, result: Result, when: float) -> None:
        self._pending[number].results[result.key] = result
        self._learn(self._pending[number].trial, result)
        self._settle(number, when)

    def _learn(self, trial: Trial, result: Result) -> None:
        if result.status is Status.OK:
            self._durations.learn(trial.params, trial.budget, result.seconds)

    def _settle(self, number: int, when: float) -> None:
        """Tell the optimizer, once the last evaluation of a trial is answered."""
        pending = self._pending[number]
        if len(pending.results) < len(set(pending.keys)):
            return
        del self._pending[number]
        if pending.purpose == "test":
            self.tests[pending.trial.fold or 0] = _merged([pending.results[key] for key in pending.keys])
            return
        merged = _merged([pending.results[key] for key in pending.keys])
        row = self.generations[pending.trial.generation]
        row.told += 1
        row.end = max(row.end, when)
        self.told += 1
        if merged.fitness is None:
            row.failed += 1
            self.counts["failed"] += 1
            self._note_error(merged.error)
            self.optimizer.tell(pending.trial, None)
        else:
            row.low, row.high = min(row.low, merged.fitness), max(row.high, merged.fitness)
            row.total += merged.fitness
            self.optimizer.tell(pending.trial, self.job.sign * merged.fitness)
        self._note_finished(pending)

    def _note_finished(self, pending: _Pending) -> None:
        """Nobody continues a whole training, but its network may be the one that wins: keep that of the best so far."""
        if pending.trial.budget is not None or not self.job.checkpoints:
            return
        self._lineage[pending.trial.id] = pending.keys
        if len(self._lineage) > 2 * self._lineage_kept + _FINISHED_SLACK:
            self._let_go()

    def _note_error(self, error: str | None) -> None:
        """Count why trials failed, by the first line of the error, without keeping every one of many."""
        text = (error or "unknown").splitlines()[0]
        self.errors[text if text in self.errors or len(self.errors) < _ERRORS_KEPT else "other errors"] += 1

    # --- the journal

    def _replay(self) -> None:
        """Bring the search to where its journal ends."""
        for event in self._store.events(self.job.name):
            self._seq += 1
            if event.kind == "asked":
                self._check_asked(event)
            self._apply(event)
            if event.kind == "result":
                self._forget_queued(event.data["key"])

    def _check_asked(self, event: Event) -> None:
        trial = self.optimizer.ask()
        written = {name: value for name, value in event.data.items() if name != "evaluations"}
        if trial is None or Trial(**written) != trial:
            raise JournalMismatch(
                f"job {self.job.name!r}: the journal's event {self._seq - 1} holds trial {written['id']} with "
                f"{written['params']}, but the optimizer asks for {None if trial is None else dict(trial.params)}; "
                "resume with the version of dask-swarm that wrote it, or run the job under another name"
            )

    def _forget_queued(self, key: str) -> None:
        self._queue = deque(evaluation for evaluation in self._queue if evaluation.key != key)

    def _event(self, kind: str, data: dict[str, Any]) -> Event:
        return Event(kind, data, self._pool.time())

    def _write(self) -> None:
        """Commit what has happened to the journal and the archive, in one transaction."""
        if self._unwritten:
            self._store.append(self.job.name, self._seq, self._unwritten, self._final)
            self._seq += len(self._unwritten)
            self._unwritten, self._final = [], []
        if self._forgotten:
            self._forget(self._forgotten)
            self._forgotten = []


def _merged(results: list[Result]) -> Result:
    """One result for the folds and repeats of a trial: the mean fitness, or the first failure."""
    for result in results:
        if result.fitness is None:
            return result
    if len(results) == 1:
        return results[0]
    mean = math.fsum(result.fitness or 0.0 for result in results) / len(results)
    return replace(results[0], fitness=mean, seconds=sum(result.seconds for result in results))
