"""A job that the master runs: its replay, then its search.

What takes its time is done in threads, so that one job's long journal, slow store or slow storage of checkpoints holds
up no other: the master's event loop only decides.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import posixpath
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from swarm.blocking import in_daemon, in_thread
from swarm.errors import InvalidInput, StoreUnavailable, SwarmError
from swarm.job.job import Job
from swarm.job.stored_problem import Codes
from swarm.pool.dask_pool import DaskPool
from swarm.pool.fair_share import Share
from swarm.pool.slots import Slots
from swarm.search.checkpoint_cleanup import CheckpointCleanup
from swarm.search.search import Search
from swarm.service.published.job_state import ended_state, state_of
from swarm.service.published.publisher import Publisher
from swarm.service.snapshots import EVERY, Snapshots
from swarm.steering.notice import Notice
from swarm.store.records import JobStatus, State, StoredJob, Submission
from swarm.store.run_lock import running
from swarm.store.sql import Store
from swarm.trial import Params, resource

REPLAYS_ALLOWED = 3  # that are begun and do not end, since their master dies
_POLL_SECONDS = 1.0
_REACH_SECONDS = 10.0  # for checkpoints to be reached
_SLOTLESS_SECONDS = 60.0  # without a slot that a job uses, until that is said
_UNFIT_SECONDS = 30.0  # for workers to say what is installed
_log = logging.getLogger("swarm.master")

T = TypeVar("T")
Unfit = Callable[[Iterable[str]], Awaitable[str | None]]


class SetAside(SwarmError):
    """A job took its master down too often while it was replayed."""


@dataclass(frozen=True)
class Places:
    """Where trainings leave what others need.

    Attributes:
        results: Folder that all workers see, for finished evaluations; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
        allowed: Where jobs may have their checkpoints: URLs or folders, and all below; None leaves them the choice.
    """

    results: str | None = None
    checkpoints: str | None = None
    allowed: tuple[str, ...] | None = None

    def check(self, job: Job) -> None:
        """Refuse a job that would keep its checkpoints elsewhere.

        Raises:
            InvalidInput: It would.
        """
        named = job.checkpoints
        if self.allowed is None or not isinstance(named, str):
            return
        place = _normal(named)
        if not any(place == each or place.startswith(f"{each.rstrip('/')}/") for each in map(_normal, self.allowed)):
            allowed = " and ".join(self.allowed) or "none that a job names"
            raise InvalidInput(
                f"job {job.name!r} would keep its checkpoints at {named}, and the places that this service allows are "
                f"{allowed}: take one there, or checkpoints: true (setting swarm.checkpoint-places of the master)"
            )


def _normal(place: str) -> str:
    """A URL or path without detours."""
    scheme, found, path = place.rpartition("://")
    if not found:
        return os.path.realpath(Path(path).expanduser())
    return f"{scheme.lower()}://{posixpath.normpath(path)}"


@dataclass(frozen=True)
class Means:
    """What all jobs of a master use.

    Attributes:
        store: Where everything is.
        slots: The slots of the cluster.
        places: Where trainings leave what others need.
        forgetting: Gives what deletes checkpoints by key, from where they are.
        unfit: Says why the workers cannot run a job with such requirements, or None.
        codes: The jobs' code, each content once in memory.
        thread: Where the store is used.
        asking: Where methods that take long to ask do so.
        threads: Where jobs are built, and journals are replayed.
        deleting: Tasks that delete checkpoints.
        aside: Tasks that renew snapshots.
        replaying: Held while a journal is replayed.
    """

    store: Store
    slots: Slots
    places: Places
    forgetting: Callable[[str | None], Callable[[list[str]], None]]
    unfit: Unfit
    codes: Codes
    thread: Executor
    asking: Executor
    threads: Executor
    deleting: set[asyncio.Task[None]] = field(default_factory=set)
    aside: set[asyncio.Task[None]] = field(default_factory=set)
    replaying: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def in_store(self, work: Callable[[], T]) -> T:
        """Do what uses the store, which may be slow."""
        return await in_thread(self.thread, work)


class Hosted:
    """A job that the master runs.

    Args:
        stored: The job as the store keeps it.
        submission: What the service knows of it besides.
        means: What it may use.

    Attributes:
        submission: As above; it changes when somebody steers the job.
        share: Its claim to slots.
        search: Its search, once its journal is replayed.
        outlet: What the pages are told of it, likewise.
        pool: Its slots, while it is searched.
        work: The task that runs it.
        changed: Whether its state may be another than when it was last looked at.
        known: Set once it is known what it wants of what an earlier master left.
        settled: Keys of results that the journal has, and nobody has been told so yet.
    """

    def __init__(self, stored: StoredJob, submission: Submission, means: Means) -> None:
        self.stored = stored
        self.submission = submission
        self.share = Share(submission.priority, submission.most, closed=True, paused=submission.state is State.PAUSED)
        self.search: Search | None = None
        self.outlet: Publisher | None = None
        self.pool: DaskPool | None = None
        self.work: asyncio.Task[None] | None = None
        self.changed = True
        self.settled: list[str] = []
        self.known = asyncio.Event()
        self._means = means
        self._snapshot = 0  # events when the latest was begun
        self._renewing: asyncio.Task[None] | None = None
        self._over = threading.Event()  # so that no snapshot is renewed any more
        self._trouble = None if stored.status is JobStatus.NEW else "its journal is being replayed"
        self._slotless: float | None = None  # since when there is no slot for it

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.stored.name

    @property
    def replicas(self) -> int:
        """Slots that one training takes."""
        return int(self.stored.spec.get("replicas", 1))

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands, as plain data."""
        if self.search is None:
            return {**ended_state(self.stored, self.submission), "trouble": self._trouble}
        found = state_of(self.search.state, self.submission, self.search)
        return found if self._trouble is None else {**found, "trouble": self._trouble}

    @property
    def unanswered(self) -> set[str]:
        """Keys of what it has to train, or is training; none while that is not known."""
        return set() if self.search is None else set(self.search.state.unanswered)

    # --- its replay

    async def replay(self) -> None:
        """Build the job, and replay its journal; one with a journal waits for those before it.

        Raises:
            SetAside: That has taken the master down too often.
            SwarmError: The job cannot be built, or its journal not replayed; StoreUnavailable may pass.
        """
        if self.search is not None:
            return
        if self.stored.status is JobStatus.NEW:
            await self._replay()
            return
        async with self._means.replaying:
            await self._counted()

    async def _counted(self) -> None:
        """Replay, and remember until the end that it was begun."""
        store = self._means.store
        begun = await self._means.in_store(lambda: store.begin_replay(self.name))
        try:
            if begun > REPLAYS_ALLOWED:
                raise SetAside(
                    f"it is set aside: its replay was begun {REPLAYS_ALLOWED} times and the master died each time; "
                    "see the master's log, give it more memory if it needs that, and submit the job again"
                )
            await self._replay()
        finally:
            await self._means.in_store(lambda: store.end_replay(self.name))

    async def _replay(self) -> None:
        stopped = threading.Event()
        try:
            self.search, self.outlet = await in_thread(self._means.threads, lambda: self._replayed(stopped))
        except asyncio.CancelledError:
            stopped.set()
            raise
        self.known.set()
        self._say(None)

    def _replayed(self, stopped: threading.Event) -> tuple[Search, Publisher]:
        """In a thread."""
        store = self._means.store
        code = self._means.codes.of(self.name)
        hash(code())  # now, while there is time to wait for the store; bytes remember their hash
        job = Job.from_dict(self.stored.spec, code)

        def check() -> None:
            if stopped.is_set():
                raise InterruptedError

        state, outlet = Snapshots(store).replay(job, check)
        self._snapshot = state.events
        state.optimizer.prepare()  # whatever it imports for that is imported here, which may take a second
        return Search(job, store, state=state), outlet

    # --- its search

    async def run(self) -> None:
        """Search to the end, as soon as nobody else does.

        Raises:
            SwarmError: It cannot be run, or has failed.
        """
        await self._wait_for_runs()
        await self._run()

    async def _wait_for_runs(self) -> None:
        """Wait while somebody runs the job without us, and take up what they have found."""
        waited = False
        while (trouble := await self._means.in_store(self._runs_elsewhere)) is not None:
            waited = True
            self._say(trouble)
            await asyncio.sleep(_POLL_SECONDS)
        if waited:
            async with self._means.replaying:
                await self._replay()

    def _runs_elsewhere(self) -> str | None:
        """Why it cannot be run here now; in a thread."""
        try:
            who = running(self._means.store, self.name)
        except StoreUnavailable as error:
            return str(error)
        return None if who is None else f"waits for its end elsewhere: it is run by {who}"

    async def _run(self) -> None:
        assert self.search is not None
        job, means = self.search.job, self._means
        checkpoints = job.checkpoints if isinstance(job.checkpoints, str) else None
        if job.checkpoints and checkpoints is None:
            checkpoints = means.places.checkpoints
        if job.optimizer.inherits and checkpoints is None:
            raise InvalidInput(
                f"job {job.name!r} hands trainings on, but there is no place for their checkpoints that all workers "
                "see: give one, checkpoints: a folder or URL in the job, or start the master with --checkpoints"
            )
        forget = await self._deletions(checkpoints)
        self.share.user = means.slots.user(self.submission.owner, resource(job.gpus_per_training))
        self.pool = DaskPool(
            means.slots,
            job.code.pickle,
            results=means.places.results,
            checkpoints=checkpoints,
            resource=resource(job.gpus_per_training),
            share=self.share,
            replicas=job.replicas,
        )
        async with self.pool as pool:
            while pool.slots < job.replicas:
                wanted = "a worker that offers a" if job.replicas == 1 else f"workers that offer {job.replicas} times a"
                self._say(f"waits for {wanted} {pool.resource} slot")
                await pool.next()
            self._say(None)
            reason = await self._unfit([*self.submission.environment, *job.requirements])
            if reason is not None:
                raise InvalidInput(f"the workers cannot run it: {reason}")
            notice = None if job.notify is None else Notice(job.notify, job.name)
            store, show = means.thread, lambda _: self._on_change()
            await self.search.run(pool, show, forget, math.inf, store, means.asking, notice=notice)
        await forget.done()

    def look_for_slots(self, now: float) -> None:
        """Say it when there has been no slot of its class for long, and when there is one again.

        Args:
            now: Seconds on a clock that only goes forward.
        """
        if self.pool is None or self.submission.state is State.PAUSED or self.pool.slots >= self.replicas:
            if self._slotless is not None and now - self._slotless >= _SLOTLESS_SECONDS:
                self._say(None)
            self._slotless = None
            return
        self._slotless = now if self._slotless is None else self._slotless
        if now - self._slotless >= _SLOTLESS_SECONDS:
            text = self._without_slots(int((now - self._slotless) // 60))
            if text != self._trouble:
                self._say(text)

    def _without_slots(self, minutes: int) -> str:
        assert self.pool is not None
        kind, slots, workers = self.pool.resource, self._means.slots, self._means.slots.workers()
        few = f"fewer than the {self.replicas} slots of class {kind} of one training"
        what = few if self.pool.slots else f"no slot of class {kind}"
        offers = sorted(slots.classes())
        there = "no worker is connected"
        if workers:
            there = f"{workers} {'worker is' if workers == 1 else 'workers are'} connected"
        if offers and kind not in offers:
            there += f", with slots of class {' and '.join(offers)}"
        return f"{what} for {minutes} min; {there}: start one, {self.pool.starting}"

    async def _unfit(self, requirements: list[str]) -> str | None:
        """Why the workers cannot run it; what hangs is not waited for, and says nothing."""
        try:
            async with asyncio.timeout(_UNFIT_SECONDS):
                return await self._means.unfit(requirements)
        except TimeoutError:
            _log.warning("job %s: not all workers have said what is installed", self.name)
            return None

    async def _deletions(self, checkpoints: str | None) -> CheckpointCleanup:
        """What deletes the job's checkpoints; a place that cannot be reached now may be reached later.

        Raises:
            InvalidInput: There can be no such place.
        """
        opened = partial(self._means.forgetting, checkpoints)
        try:
            await in_daemon(opened, _REACH_SECONDS)
        except (ValueError, ImportError) as error:
            raise InvalidInput(f"the checkpoints of job {self.name!r} cannot be at {checkpoints}: {error}") from None
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            _log.warning("job %s: %s cannot be reached now: %s", self.name, checkpoints, reason)
        return CheckpointCleanup(self.name, opened, self._means.deleting)

    def _on_change(self) -> None:
        self.changed = True
        if self.pool is not None and self.search is not None and self.search.trouble is None:  # all is written
            self.settled += self.pool.taken
            self.pool.taken = []
        due = self.search is not None and self.search.state.events - self._snapshot >= EVERY
        if self.search is not None and due and (self._renewing is None or self._renewing.done()):
            self._snapshot = self.search.state.events
            self._renewing = asyncio.ensure_future(self._renew_snapshot(self.search.job))
            self._means.aside.add(self._renewing)
            self._renewing.add_done_callback(self._means.aside.discard)

    async def _renew_snapshot(self, job: Job) -> None:
        """Have a thread replay what the last snapshot does not know, and write a new one."""
        async with self._means.replaying:
            try:
                replay = partial(Snapshots(self._means.store).replay, job, self._check_going_on)
                await in_thread(self._means.threads, replay)
            except InterruptedError:
                pass
            except Exception as error:  # the next time, or never: it is only a cache
                _log.warning("job %s: no snapshot is kept: %s", self.name, error)

    def _check_going_on(self) -> None:
        if self._over.is_set():
            raise InterruptedError

    async def renew_no_more(self) -> None:
        """Write no snapshot from now on: that of a job that has ended would stay for ever."""
        self._over.set()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def _say(self, trouble: str | None) -> None:
        self._trouble, self.changed = trouble, True

    # --- what others ask of it

    def steer(self, submission: Submission) -> None:
        """Give it another share, let it pause, or go on."""
        self.submission, self.changed = submission, True
        self._means.slots.charge()
        self.share.weigh(submission.priority)
        self.share.most = submission.most
        paused = submission.state is State.PAUSED
        if self.pool is None:
            self.share.paused = paused
        else:
            self.pool.pause(paused)

    def stop(self, reason: str) -> None:
        """Have it ask for nothing more, and end with what it has.

        Raises:
            InvalidInput: Its journal is not replayed yet.
        """
        self._known_search().stop(reason, time.time())
        self.changed = True
        if self.pool is not None:
            self.pool.wake()

    async def enqueue(self, configurations: Sequence[Params], user: str) -> None:
        """Have it try these configurations before any other; journalled when this returns.

        Raises:
            InvalidInput: It asks for nothing more, its journal is not replayed yet, or they are not of its space.
        """
        coming = asyncio.ensure_future(self._known_search().enqueue(configurations, user, time.time()))
        self.changed = True
        await asyncio.sleep(0)
        if self.pool is not None:
            self.pool.wake()
        try:
            await coming
        except asyncio.CancelledError:
            if coming.cancelled():  # the search was taken away meanwhile, to be taken up again
                raise InvalidInput(f"job {self.name!r} is just being taken up again: try again in a moment") from None
            raise

    def _known_search(self) -> Search:
        if self.search is None:
            raise InvalidInput(f"job {self.name!r} is just being taken up from its journal: try again in a moment")
        return self.search

    async def leave(self) -> None:
        """End its work; its trainings go on, for whoever takes the job up next."""
        work, self.work = self.work, None  # which knows how it ended, and so this job
        if work is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def cancel(self) -> None:
        """End its work, its trainings included."""
        await self.leave()
        if self.pool is not None:
            await self.pool.cancel()

    async def left_running(self) -> set[str]:
        """Keys of what an earlier master may have left running for it; replayed for that, if it had not been."""
        if self.search is None:
            try:
                async with self._means.replaying:
                    await self._replay()
            except SwarmError as error:
                _log.warning("job %s: what it left running is not known: %s", self.name, error)
        return self.unanswered
