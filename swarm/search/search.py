"""The loop of one job: ask, answer from the archive, submit, journal, tell. It knows no Dask.

What is known of a search, and what follows from it, is in :mod:`swarm.search.state`: the fold of its journal. Here is
what makes it go on: the store is asked and written, the pool is given evaluations and gives results.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from itertools import islice
from typing import TypeVar

from swarm.blocking import Turns, in_thread
from swarm.errors import AllFailed, InvalidInput, StoreUnavailable
from swarm.job.job import Job
from swarm.job.warm_start import imported, known_before
from swarm.pool.base import Pool
from swarm.search.patience import patiently_awaited
from swarm.search.state import Request, SearchState, replay
from swarm.steering.ended_trial import EndedTrial, OnTrial, said_to_stop
from swarm.steering.notice import Notice, Occasion
from swarm.store.events import Answered, Asked, Began, Enqueued, Event, Resumed, Stopped, without_curve
from swarm.store.outcome import Outcome
from swarm.store.records import JobStatus
from swarm.store.sql import Store
from swarm.trial import Evaluation, Params, Result, Trial
from swarm.version import __version__

_EVENTS_PER_COMMIT = 500
_DURATIONS_READ = 500

T = TypeVar("T")


class Search:
    """One job's search, from its first trial to its last, or on from wherever its journal ends.

    Args:
        job: What to search, and how.
        store: Where the journal and the archive are. What the journal holds is replayed at once.
        on_event: Called with each event as it is applied, those that are replayed too.
        state: What the journal tells (:func:`replayed`), if that is known already.

    Attributes:
        job: The job.
        state: What is known of the search, and what follows from it.
        trouble: Why it cannot go on at the moment; None if it can.

    Raises:
        JournalMismatch: The journal holds other trials than the job's optimizer asks for.
    """

    def __init__(
        self,
        job: Job,
        store: Store,
        on_event: Callable[[Event], None] = lambda _: None,
        *,
        state: SearchState | None = None,
    ) -> None:
        self.job = job
        self.state = replayed(job, store, on_event) if state is None else state
        self.trouble: str | None = None
        self._store = store
        self._pool: Pool | None = None
        self._began = 0.0
        self._start_up = 0.0  # seconds until the first training began
        self._taken = False  # whether one has ended in this process
        self._written = self.state.events  # events in the journal
        self._queue: OrderedDict[str, Evaluation] = OrderedDict()  # to be submitted, by key
        for asked in {id(asked): asked for asked in self.state.unanswered.values()}.values():
            self._queue.update(self.state.to_train(asked))
        self._flying: dict[str, Evaluation] = {}
        self._expected: dict[str, float] = {}  # seconds, of what waits
        self._fresh: set[str] = set()  # keys of what was asked just now, when the archive was looked into
        self._unwritten: list[Event] = []  # applied, and to be journalled before anything is done about it
        self._final: list[tuple[Evaluation, Result]] = []  # to be archived with them
        self._patience = 0.0
        self._thread: Executor | None = None  # where the store is used
        self._asking: Executor | None = None  # where methods that ponder do so
        self._turns = Turns()
        self._forget: Callable[[list[str]], None] = lambda _: None
        self._on_change: Callable[[Search], None] = lambda _: None
        self._on_trial: OnTrial | None = None
        self._notice: Notice | None = None
        self._wanted: list[tuple[Enqueued, asyncio.Future[None]]] = []  # to be noted between two questions
        self._untold: list[EndedTrial] = []  # trials that have ended, and the user does not know yet

    # --- what the outside may look at

    @property
    def running(self) -> int:
        """Evaluations that a slot is running now."""
        return min(len(self._flying), self.slots)  # others wait beside those

    @property
    def slots(self) -> int:
        """Slots that the pool has now."""
        return 0 if self._pool is None else self._pool.slots

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of this process's part of the search."""
        return 0.0 if self._pool is None else self._pool.time() - self._began

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at the pace of this process so far; None where that cannot be said.

        What passed before the first training began, such as the start of workers, is no part of the pace.
        """
        state, planned = self.state, self.state.optimizer.planned
        done = state.told - state.replayed
        if not planned or not done or state.finished():
            return None
        return max(self.seconds - self._start_up, 0.0) / done * (planned - state.told)

    # --- the loop

    async def run(
        self,
        pool: Pool,
        on_change: Callable[[Search], None] = lambda _: None,
        forget: Callable[[list[str]], None] = lambda _: None,
        patience: float = 0.0,
        thread: Executor | None = None,
        asking: Executor | None = None,
        on_trial: OnTrial | None = None,
        notice: Notice | None = None,
    ) -> None:
        """Run to the end. When cancelled, the journal holds all that was told, and a new search goes on from there.

        Args:
            pool: Where evaluations run.
            on_change: Called after every step with this search, for progress.
            forget: Called with the keys of evaluations whose checkpoints nobody will continue from any more.
            patience: Seconds to wait for a store that is away; meanwhile nothing new is started, and :attr:`trouble`
                says why.
            thread: Where the store is used, so that one that is slow holds up nobody else in this process's event
                loop; None uses it in the loop, which takes the least time.
            asking: Where a method that takes long to ask does so, likewise.
            notice: Told at the end, and when a trial fails for the first time.
            on_trial: The user's, called with each trial that has ended, once that is journalled. It may end the search.

        Raises:
            AllFailed: Its first trainings have all failed for one reason.
            StoreUnavailable: The store was away for longer.
        """
        self.check_failed()
        self._pool, self._began, self._forget = pool, pool.time(), forget
        self._start_up, self._taken = 0.0, False
        self._patience, self._on_change, self._thread, self._asking = patience, on_change, thread, asking
        self._on_trial, self._notice = on_trial, notice
        if on_trial is not None or notice is not None:
            self.state.tell_of_trials(self._on_told)
        try:
            await self._run(pool)
        finally:
            self._on_change, self._forget = _no_more, _no_more  # who listens may have this search: they leave together
        self.check_failed()

    async def _run(self, pool: Pool) -> None:
        state = self.state
        await self._with_store(lambda: self._store.set_status(self.job.name, JobStatus.RUNNING))
        await self._begin(pool)
        pool.open(lambda key, metrics: self._on_report(pool, key, metrics))
        try:
            while not state.finished():
                waiting = await self._fill(pool)
                pool.want(self._more())
                self._on_change(self)
                if not waiting:
                    await asyncio.sleep(0)  # a converged swarm has much to ask and nothing to wait for
                elif not state.finished():
                    await self._take(await pool.next(), pool.time())
                    await self._tell_user(pool.time())
            pool.close()
            self._take_wanted()  # which are refused
            state.let_go()
            await self._write()
            status = JobStatus.FAILED if state.failed else JobStatus.FINISHED
            await self._with_store(lambda: self._store.set_status(self.job.name, status))
            self._notify("ended", state.end_reason or "")
        except BaseException:
            for _, written in self._wanted:
                written.cancel()
            with contextlib.suppress(StoreUnavailable):
                await in_thread(self._thread, lambda: self._store.set_status(self.job.name, JobStatus.STOPPED))
            raise

    async def enqueue(self, configurations: Sequence[Params], user: str, now: float) -> None:
        """Have these configurations tried before any other; once this returns, that is journalled.

        Args:
            configurations: Hyper-parameters by name, whole or in part.
            user: Who wants that.
            now: Seconds since the epoch.

        Raises:
            InvalidInput: The search asks for nothing more, or one does not belong to its space.
        """
        assert self.job.space is not None
        given = tuple(self.job.space.normalised(each) for each in configurations)
        self.state.check_enqueued(given)
        event = Enqueued(configurations=given, user=user, time=now)
        if self._pool is None:  # nobody runs it yet, so nobody else writes
            self._note(event)
            await self._write()
            return
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted.append((event, written))
        await written

    def stop(self, reason: str, now: float) -> None:
        """Ask for nothing more, as by a rule of ``stop``; what was asked for is trained.

        Args:
            reason: Why.
            now: Seconds since the epoch.
        """
        if not self.state.finished():
            self._note(Stopped(reason=reason, time=now))

    def check_failed(self) -> None:
        """Nothing, unless it ended because its first trainings had all failed.

        Raises:
            AllFailed: It did.
        """
        if self.state.failed:
            raise AllFailed(f"{self.job.name} has ended: {self.state.end_reason}")

    async def _begin(self, pool: Pool) -> None:
        """Join what an earlier run has left running, and note that somebody runs the job again, or still."""
        if self.state.finished():
            return
        if self.state.rule is not None:  # they run since before, or go on from what they have saved
            self.state.rule.skip(self._queue)
        joined = self._rejoin(pool)
        if self.state.begun:
            self._note(Resumed(version=__version__, joined=joined, time=pool.time()))
        else:
            known = await self._with_store(lambda: known_before(self.job, self._store))
            known += imported(self.job, known)
            self._note(Began(version=__version__, job=self.job.to_dict(), known=known, time=pool.time()))

    async def _with_store(self, work: Callable[[], T]) -> T:
        """Do what needs the store; while that is away, try again for as long as there is patience."""
        try:
            return await in_thread(self._thread, work)
        except StoreUnavailable as error:
            if not self._patience:
                raise
            self.trouble = str(error)
            self._on_change(self)
        done = await patiently_awaited(lambda: in_thread(self._thread, work), self._patience, StoreUnavailable)
        self.trouble = None
        return done

    async def _fill(self, pool: Pool) -> bool:
        """Give every free slot something to do, and answer what needs no slot; whether only results can bring us on.

        A method with generations is asked for all of one at once, since its order is ours to choose; any other is
        asked late, when it knows most.
        """
        taken = self._take_wanted()
        asked = await self._ask(pool)
        await self._write()
        for written in taken:
            written.set_result(None)
        if self.state.finished():
            return True
        if asked:
            self._rejoin(pool)
        if asked and len(self._queue) > 1:
            self._put_longest_first()
        chosen, answers = await self._choose(pool)
        for each in chosen:
            if await self._turns.give() and not pool.free():  # slots have left meanwhile
                break
            self._submit(pool, [self._queue.pop(each.key)])
        for answer in answers.values():
            del self._queue[answer.key]
            self._note(without_curve(Answered(result=answer, time=pool.time())))
            await self._turns.give()
        return asked < _EVENTS_PER_COMMIT and not answers

    def _more(self) -> int:
        """How many evaluations could begin now besides those that run, if there were more slots."""
        state, planned = self.state, self.state.optimizer.planned
        if state.optimizer.generational or state.finished():
            return len(self._queue)
        return max(len(self._queue), 1 if planned is None else planned - state.told - len(self._flying))

    async def _ask(self, pool: Pool) -> int:
        """Ask for what the free slots can take, and end what needs no slot any more; how much was asked."""
        state = self.state
        asked, free = 0, pool.free() + self._spare(pool)
        self._fresh = set()
        while state.only_the_end_is_left() or (state.optimizer.generational and free) or len(self._queue) < free:
            if state.ponders:
                await in_thread(self._asking, state.prepare)
            event: Request | Event | None = state.next(pool.time())
            if isinstance(event, Request):
                event = state.ask(event, await self._answers(event.unknown), pool.time())
                self._fresh.update(each.key for each in event.evaluations)
            if event is None:
                break
            self._note(event)
            await self._tell_user(pool.time())
            await self._turns.give()
            asked += 1
            if asked >= _EVENTS_PER_COMMIT:
                break
        return asked

    async def _answers(self, keys: Sequence[str]) -> dict[str, Result]:
        """What the archive of all jobs answers."""
        return await self._with_store(lambda: self._store.answers(keys)) if keys else {}

    async def _choose(self, pool: Pool) -> tuple[list[Evaluation], dict[str, Result]]:
        """What the free slots can take, and the answers to what another search has trained while it waited."""
        first = list(islice(self._queue.values(), pool.free() + self._spare(pool)))
        answers = await self._answers([each.key for each in first if each.key not in self._fresh])
        chosen = [each for each in first if each.key not in answers]
        return chosen[: pool.free() + self._spare(pool)], answers  # slots may have left meanwhile

    def _spare(self, pool: Pool) -> int:
        """How many evaluations may wait beside those that run, for a method that is not worse off if it asks sooner.

        One that is asked late for what it knows then is left alone, and on one slot its order is the results'.
        """
        optimizer = self.state.optimizer
        late = not optimizer.generational and (optimizer.ponders or pool.slots == 1)
        return 0 if late or optimizer.inherits else pool.spare()

    def _note(self, event: Event) -> None:
        """Apply what has happened; it is written before anything is done about it."""
        self._unwritten.append(event)
        self.state.apply(event)
        if isinstance(event, Asked) and any(self.state.unanswered.get(each.key) is event for each in event.evaluations):
            self._queue.update(self.state.to_train(event))

    def _rejoin(self, pool: Pool) -> bool:
        """Join what runs already, if anything: another search may train the same, another master may have begun it."""
        running = pool.running(list(self._queue))
        self._submit(pool, [self._queue.pop(key) for key in list(self._queue) if key in running])
        return bool(running)

    def _submit(self, pool: Pool, evaluations: list[Evaluation]) -> None:
        if evaluations:
            self._flying.update((evaluation.key, evaluation) for evaluation in evaluations)
            if self.state.rule is not None:
                self.state.rule.skip(pool.running([evaluation.key for evaluation in evaluations]))
            pool.submit(evaluations)

    def _take_wanted(self) -> list[asyncio.Future[None]]:
        """Note what was enqueued meanwhile; whom to tell when it is written."""
        wanted, self._wanted = self._wanted, []
        taken = []
        for event, written in wanted:
            if written.done():  # nobody waits for it any more
                continue
            try:
                self.state.check_enqueued(event.configurations)
                self._note(event)
                taken.append(written)
            except InvalidInput as error:
                written.set_exception(error)
        return taken

    def _put_longest_first(self) -> None:
        """Sort what waits by its expected duration, which is computed once: a large population is asked in parts."""
        expected, known = self.state.durations.expected, self._expected
        self._expected = {key: known.get(key) or expected(e.params, e.budget) for key, e in self._queue.items()}
        for key in sorted(self._queue, key=self._expected.__getitem__, reverse=True):
            self._queue.move_to_end(key)

    async def _take(self, results: Iterable[Result], now: float) -> None:
        """Tell what ended; run again what is not to blame for its end. Written with what is asked for next."""
        for result in results:
            if not self._taken:
                self._taken, self._start_up = True, max(self.seconds - result.seconds, 0.0)
            evaluation = self._flying.pop(result.key)
            event = self.state.judge(evaluation, result, now)
            if not isinstance(event, Answered):
                self._queue[result.key] = evaluation
                self._queue.move_to_end(result.key, last=False)
            elif event.result.answers_others:
                self._final.append((evaluation, event.result))
            self._note(without_curve(event))
            await self._turns.give()

    def _on_report(self, pool: Pool, key: str, metrics: Mapping[str, float]) -> None:
        """A training has reported: end it if it is hopeless."""
        rule = self.state.rule
        if rule is not None and key in self._flying and rule.hopeless(key, metrics):
            pool.prune(key, rule.judged(metrics) or "")

    async def _tell_user(self, now: float) -> None:
        """Tell the user's function of the trials that have ended, which are journalled first.

        If it fails at one, it is told of the others all the same: whoever goes on does not know what it was told.
        """
        if self._on_trial is None or not self._untold:
            return
        await self._write()
        failed: Exception | None = None
        while self._untold:
            try:
                reason = said_to_stop(self._on_trial, self._untold.pop(0))
            except Exception as error:
                failed, reason = failed or error, None
            if reason is not None:
                self.stop(reason, now)
        if failed is not None:
            raise failed

    def _on_told(self, trial: Trial, found: Outcome) -> None:
        """A trial has ended; those who listen are told."""
        if found.fitness is None and self.state.counts["failed"] == 1:
            self._notify("failed", f"trial {trial.id}: {found.error}")
        if self._on_trial is not None:
            self._untold.append(EndedTrial.of(trial, found))

    def _notify(self, event: Occasion, reason: str) -> None:
        if self._notice is not None:
            best = self.state.best
            known = None if best is None else {"trial": best.trial.id, "params": best.params, "fitness": best.fitness}
            self._notice.tell(event, reason, known, dict(self.state.counts))

    # --- the journal

    async def _write(self) -> None:
        """Commit what has happened to the journal and the archive, in one transaction."""
        if self._unwritten:
            events, final = list(self._unwritten), list(self._final)
            await self._with_store(lambda: self._store.append(self.job.name, self._written, events, final))
            self._written += len(events)
            del self._unwritten[: len(events)], self._final[: len(final)]
        if unneeded := self.state.take_unneeded():
            self._forget(unneeded)


def _no_more(_: object) -> None:
    """Nobody listens."""


def replayed(job: Job, store: Store, on_event: Callable[[Event], None] = lambda _: None) -> SearchState:
    """What a store's journal tells of a job's search: for whoever only looks.

    Args:
        job: The job.
        store: Where its journal is.
        on_event: Called with each event before it is applied.

    Raises:
        JournalMismatch: The journal holds other trials than the job's optimizer asks for.
    """
    durations = store.durations(job.code.fingerprint, _DURATIONS_READ)
    return replay(job, store.events(job.name), durations, on_event)


def fresh_state(job: Job, store: Store) -> SearchState:
    """What is known of a job's search before its journal is replayed."""
    return SearchState(job, store.durations(job.code.fingerprint, _DURATIONS_READ))
