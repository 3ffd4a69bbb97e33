"""The loop of one job: ask, answer from the archive, submit, journal, tell. It knows no Dask.

What is known of a search is in :mod:`swarm.search.progress`: it *is* the replay of its journal. Here is what makes it
go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from swarm.errors import AllFailed, StoreUnavailable, SwarmError
from swarm.job.job import Job
from swarm.pool.base import OnReport, Pool
from swarm.search.progress import Progress
from swarm.store.records import Event
from swarm.store.sql import Store
from swarm.trial import Evaluation, Purpose, Result, Status, Trial
from swarm.version import __version__

# A training that takes its process down is run once more; one whose worker went away is not to blame, up to a point.
CRASHES_ALLOWED = 1
LOSSES_ALLOWED = 10
MOST_FAILURES = 5  # trainings, the first, if all fail for one reason
_EVENTS_PER_COMMIT = 500
_LONGEST_PAUSE = 10.0  # seconds between attempts to reach the store
_ROUNDING = 1e-12  # of a fitness, relative: a few units in the last place

T = TypeVar("T")


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

    def open(self, on_report: OnReport) -> None:
        pass

    def close(self) -> None:
        pass

    def prune(self, key: str, metric: str) -> None:
        pass


class Search(Progress):
    """One job's search, from its first trial to its last, or on from wherever its journal ends.

    Args:
        job: What to search, and how.
        store: Where the journal and the archive are. What the journal holds is replayed at once.
        on_event: Called with each event as it is applied, those that are replayed too.

    Attributes:
        trouble: Why it cannot go on at the moment; None if it can.

    Raises:
        JournalMismatch: The journal holds other trials than the job's optimizer asks for.
    """

    def __init__(self, job: Job, store: Store, on_event: Callable[[Event], None] = lambda _: None) -> None:
        super().__init__(job, store, on_event)
        self.trouble: str | None = None
        self._store = store
        self._pool: Pool = _NoPool()
        self._began = 0.0
        self._flying: dict[str, Evaluation] = {}
        self._expected: dict[str, float] = {}  # seconds, of what waits
        self._fresh: set[str] = set()  # keys of what was asked just now, when the archive was looked into
        self._in_hand: Trial | None = None  # asked for, but not yet known to the journal
        self._unwritten: list[Event] = []  # applied, and to be journalled before anything is done about it
        self._final: list[tuple[Evaluation, Result]] = []  # to be archived with them
        self._stop_reason: str | None = None
        self._drained = False
        self._patience = 0.0
        self._forget: Callable[[list[str]], None] = lambda _: None
        self._on_change: Callable[[Search], None] = lambda _: None

    # --- what the outside may look at

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
            AllFailed: Its first trainings have all failed for one reason.
            StoreUnavailable: The store was away for longer.
        """
        self.check_failed()
        self._pool, self._began, self._forget = pool, pool.time(), forget
        self._patience, self._on_change = patience, on_change
        await self._with_store(lambda: self._store.set_status(self.job.name, "running"))
        self._begin()
        pool.open(self._on_report)
        try:
            while not self.finished():
                waiting = await self._fill()
                on_change(self)
                if not waiting:
                    await asyncio.sleep(0)  # a converged swarm has much to ask and nothing to wait for
                elif not self.finished():
                    self._take(await pool.next())
            pool.close()
            self._let_go()
            await self._with_store(self._write)
            status = "failed" if self.failed else "finished"
            await self._with_store(lambda: self._store.set_status(self.job.name, status))
        except BaseException:
            with contextlib.suppress(StoreUnavailable):
                self._store.set_status(self.job.name, "stopped")
            raise
        self.check_failed()

    def check_failed(self) -> None:
        """Nothing, unless it ended because its first trainings had all failed.

        Raises:
            AllFailed: It did.
        """
        if self.failed:
            raise AllFailed(f"{self.job.name} has ended: {self.end_reason}")

    def _begin(self) -> None:
        """Join what an earlier run has left running, and note that somebody runs the job again, or still."""
        if self.finished():
            return
        if self._rule is not None:  # they run since before, or go on from what they have saved
            self._rule.skip(evaluation.key for evaluation in self._queue)
        joined = self._rejoin()
        kind, more = ("resumed", {"joined": joined}) if self._seq else ("job", {"job": self.job.to_dict()})
        self._note(self._event(kind, {"version": __version__, **more}))

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
        if self.finished():
            return True
        if asked:
            self._rejoin()
        if asked and len(self._queue) > 1:
            self._put_longest_first()
        chosen, answers = await self._with_store(self._choose)
        for _ in chosen:
            self._queue.popleft()
        self._submit([evaluation for evaluation in chosen if evaluation.key not in answers])
        for answer in answers.values():
            self._note(self._event("result", replace(answer, curve=()).to_dict()))
        return asked < _EVENTS_PER_COMMIT and not answers

    def _ask(self) -> int:
        """Ask for what the free slots can take, and end what needs no slot any more; how much was asked."""
        asked, free = 0, self._pool.free()
        self._fresh = set()
        if (reason := self._hopeless()) is not None:
            self._note(self._event("ended", {"reason": reason, "failed": True}))
            return 1
        while self._only_the_end_is_left() or (self.optimizer.generational and free) or len(self._queue) < free:
            event = self._next_event()
            if event is None:
                break
            self._note(event)
            self._fresh.update(evaluation["key"] for evaluation in event.data.get("evaluations", ()))
            asked += 1
            if asked >= _EVENTS_PER_COMMIT:
                break
        return asked

    def _hopeless(self) -> str | None:
        """What all trainings have failed for, if they were enough to give up; else None."""
        failures, most = self.failures, self.job.max_failures
        if self.finished() or most == 0 or failures.common is None:
            return None
        if failures.trained >= (MOST_FAILURES if most is None else most):
            return f"its first {failures.trained} trainings have all failed: {failures.common}"
        first = self.generations.get(0)
        complete = first is not None and first.asked == first.failed and not failures.blamed_trials
        if most is None and complete and (self.optimizer.generational or self.optimizer.done):
            return f"all trainings of its first generation have failed: {failures.common}"
        return None

    def _only_the_end_is_left(self) -> bool:
        return not self._pending and (self._drained or self.optimizer.done)

    def _choose(self) -> tuple[list[Evaluation], dict[str, Result]]:
        """What the free slots can take, and of it what another search has trained while it waited."""
        chosen = list(islice(self._queue, self._pool.free()))
        waited = [evaluation.key for evaluation in chosen if evaluation.key not in self._fresh]
        return chosen, {key: answer for key in waited if (answer := self._store.answer(key)) is not None}

    def _note(self, event: Event) -> None:
        """Apply what has happened; it is written before anything is done about it."""
        self._unwritten.append(event)
        self._apply(event)

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
            if self._rule is not None:
                self._rule.skip(self._pool.running([evaluation.key for evaluation in evaluations]))
            self._pool.submit(evaluations)

    def _put_longest_first(self) -> None:
        """Sort what waits by its expected duration, which is computed once: a large population is asked in parts."""
        self._expected = {
            each.key: self._expected.get(each.key) or self._durations.expected(each.params, each.budget)
            for each in self._queue
        }
        self._queue = deque(sorted(self._queue, key=lambda each: self._expected[each.key], reverse=True))

    def _take(self, results: Iterable[Result]) -> None:
        """Tell what ended; run again what is not to blame for its end. Written with what is asked for next."""
        for result in results:
            evaluation = self._flying.pop(result.key)
            verdict = self._verdict(evaluation, result)
            if verdict is None:
                self._queue.appendleft(evaluation)
                data = {
                    "key": result.key,
                    "status": result.status.value,
                    "error": result.error,
                    "blamed": result.blamed,
                }
                event = self._event("again", data)
            else:
                if verdict.answers_others:
                    self._final.append((evaluation, verdict))
                event = self._event("result", replace(verdict, curve=()).to_dict())
            self._note(event)

    def _verdict(self, evaluation: Evaluation, result: Result) -> Result | None:
        """The result as it counts, or None if the evaluation is to run again."""
        pruned = result.status is Status.PRUNED and self._rule is not None  # or it was another search's rule
        if pruned or result.status in (Status.OK, Status.FAILED):
            return result
        # A training in its worker's own thread takes the worker along when it crashes, which looks like a loss.
        crashed = result.status is Status.CRASHED or (result.status is Status.LOST and evaluation.isolation == "thread")
        ends = 1 + self._ends[result.key, result.status]
        if ends <= (CRASHES_ALLOWED if crashed else LOSSES_ALLOWED):
            return None
        reason, *below = (result.error or "").split("\n", 1)
        error = "\n".join([f"{reason} ({ends} times)", *below])
        blamed = result.status is Status.CRASHED and result.blamed and result.key not in self._excused
        return replace(result, status=Status.FAILED, fitness=None, error=error, blamed=blamed)

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
        """The first stopping rule that has fired, or None."""
        rules, best = self.job.stop, self.best
        if rules.target is not None and best and _reached(self.job.sign * best.fitness, self.job.sign * rules.target):
            return "target reached"
        if rules.evaluations is not None and self.evaluations >= rules.evaluations:
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

    # --- the journal

    def _event(self, kind: str, data: dict[str, Any]) -> Event:
        return Event(kind, data, self._pool.time())

    def _write(self) -> None:
        """Commit what has happened to the journal and the archive, in one transaction."""
        if self._unwritten:
            self._store.append(self.job.name, self._seq, self._unwritten, self._final)
            self._seq += len(self._unwritten)
            self._unwritten, self._final = [], []
        if self._lineage.unneeded:
            self._forget(self._lineage.unneeded)
            self._lineage.unneeded = []


def _reached(loss: float, target: float) -> bool:
    """Whether a loss is as low as the target, but for rounding: a mean that is shown as 0.3 may lie just beside it."""
    return loss <= target or math.isclose(loss, target, rel_tol=_ROUNDING)
