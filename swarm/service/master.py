"""The master: hosts the searches of all jobs that were submitted, on the slots of one Dask cluster.

Its only state is the store. It may be killed at any moment: trainings go on, and the next master serves at once. It
replays the journals beside that, one after the other, joins what runs, and takes what has ended from the scheduler.
Only one master holds the store's lease; others wait for it to expire.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from distributed import Client

from swarm.blocking import in_thread
from swarm.config import settings
from swarm.errors import (
    AllFailed,
    ClusterError,
    JobConflict,
    LeaseLost,
    NoService,
    StoreDamaged,
    StoreUnavailable,
    SwarmError,
)
from swarm.job.job import Job
from swarm.job.stored_problem import Codes
from swarm.pool.slots import Slots
from swarm.pool.task_names import key_of
from swarm.search.patience import patiently_awaited
from swarm.service import ended_jobs
from swarm.service.handlers.access import Access
from swarm.service.handlers.admission import Admission
from swarm.service.handlers.answers import Answers
from swarm.service.handlers.control import Control
from swarm.service.handlers.trials import Trials
from swarm.service.handlers.weights import Weights
from swarm.service.health import StoreWatch
from swarm.service.hosted import Hosted, Means, Places, Unfit
from swarm.service.inbox import Inbox
from swarm.service.mirror import Mirror
from swarm.service.protocol import PROTOCOL
from swarm.service.published.job_state import ended_state
from swarm.service.published.of_trials import Look
from swarm.service.quotas import Holdings, Quotas
from swarm.service.requests import check_user, parse
from swarm.store.left import Left
from swarm.store.records import State, StoredJob, Submission
from swarm.store.sql import Store
from swarm.trial import Result

_BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_PUBLISH_SECONDS = 0.2
_log = logging.getLogger("swarm.master")


class Master:
    """One term of office of a master: from taking over to losing the scheduler or the lease.

    Args:
        client: An asynchronous client of the cluster.
        slots: Its slots, entered.
        store: Where everything is; this process holds its lease.
        holder: Name under which it holds the lease.
        places: Where trainings leave what others need.
        forgetting: Gives what deletes checkpoints by key, from where they are.
        unfit: Says why the workers cannot run a job with such requirements, or None.
        lease_seconds: A standby takes over when this master has been silent for so long.
        admins: Who may steer everybody's jobs.
        shared: Everybody who has a certificate may read everybody's jobs; without TLS everybody may.
        keep_ended: Seconds after which a job that has ended is deleted; None keeps it.
        look: Reads what the training of an evaluation has left, for the pages.
    """

    def __init__(
        self,
        client: Client,
        slots: Slots,
        store: Store,
        *,
        holder: str,
        places: Places,
        forgetting: Callable[[str | None], Callable[[list[str]], None]],
        unfit: Unfit,
        lease_seconds: float = 10.0,
        admins: Iterable[str] = (),
        shared: bool = False,
        keep_ended: float | None = None,
        look: Look = lambda store, key: Left(),
    ) -> None:
        self._client = client
        self._slots = slots
        self._store = store
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._keep_ended = keep_ended
        self._thread = ThreadPoolExecutor(1, "swarm-store")
        self._leases = ThreadPoolExecutor(1, "swarm-lease")
        self._asking = ThreadPoolExecutor(1, "swarm-asks")
        self._threads = ThreadPoolExecutor(4, "swarm-jobs")
        self._writing = ThreadPoolExecutor(1, "swarm-texts")
        self._means = Means(
            store, slots, places, forgetting, unfit, Codes(store), self._thread, self._asking, self._threads
        )
        self._hosted: dict[str, Hosted] = {}
        self._mirror = Mirror(client, self._hosted, self._writing)
        self._inbox = Inbox(client, self._serve, slots.watch, self._writing)
        self._holdings = Holdings(Quotas.of(settings()))
        shared = shared or not client.scheduler.address.startswith("tls://")
        self._access = Access(self._means, self._hosted, admins=admins, shared=shared)
        self._weights = Weights(self._means, self._access)
        self._admission = Admission(self._means, self._hosted, self._holdings, self._access, self._start)
        control = Control(self._means, self._hosted, self._access, self._end)
        trials = Trials(self._means, self._access, look)
        self._answers = Answers(self._means, self._access, self._admission, control, self._weights, trials)
        self._watch = StoreWatch()
        self._reports = True  # whether the scheduler takes more than a beat; an earlier version does not
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            NoService: The scheduler was started without our plugin.
            ClusterError, OSError: The scheduler is gone, or obeys another master.
            LeaseLost: Another master has taken over the store.
        """
        chores: list[asyncio.Future[None]] = []
        try:
            await self._take_office()
            self._inbox.open()
            chores += map(asyncio.ensure_future, (self._keep_office(), self._keep_lease(), self._keep_publishing()))
            if (keep := self._keep_ended) is not None:
                means = self._means
                deleting = ended_jobs.keep_deleting(self._store, keep, means.forgetting, means.places.checkpoints)
                chores.append(asyncio.ensure_future(deleting))
            serving = {self._over, *chores}
            chores.append(asyncio.ensure_future(self._disown()))
            await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            for ended in serving:
                if ended.done():
                    ended.result()
        finally:
            works = [hosted.work for hosted in self._hosted.values() if hosted.work is not None]
            ending = [*chores, *works, *self._means.deleting, *self._means.aside]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            self._inbox.close()
            for executor in (self._thread, self._leases, self._asking, self._threads, self._writing):
                executor.shutdown(wait=False, cancel_futures=True)

    # --- taking over

    async def _take_office(self) -> None:
        hello = await self._client.scheduler.swarm_hello()
        if hello is None:
            address = self._client.scheduler.address
            raise NoService(f"the scheduler at {address} has no service for jobs; start it with: swarm scheduler")
        if hello["protocol"] != PROTOCOL:
            raise NoService(f"the scheduler has dask-swarm {hello['version']}, which this one cannot talk to; upgrade")
        self._reports = "health" in hello
        await self._weights.load()
        heard = hello.get("heard") or 0.0
        if not hello["master"] or heard > self._lease_seconds:  # else that one may be right
            seen = hello.get("term", 0)
            await self._means.in_store(lambda: self._store.outrank(seen))  # of a store that was restored from a backup
        for job, submission in await self._means.in_store(self._active):
            self._hosted[job.name] = Hosted(job, submission, self._means)
            self._holdings.hold(job.name, submission.owner, b"")  # until its code is read
        found = await self._client.scheduler.swarm_attach(
            master=self._client.id, term=self._store.term, readers=self._access.readers
        )
        running: dict[str, list[str]] = {}
        for name, slot in found["running"].items():  # the Dask keys of an evaluation and of its replicas hold its own
            if key := key_of(name):
                running.setdefault(key, []).append(slot)
        self._slots.follow(running, [Result.from_dict(result) for result in found["results"]])
        said = "%d jobs to go on with, %d trainings run on, %d have ended meanwhile"
        _log.info(said, len(self._hosted), len(running), len(found["results"]))
        await self._mirror.reset()
        for hosted in self._hosted.values():
            self._start(hosted)

    def _active(self) -> list[tuple[StoredJob, Submission]]:
        """The jobs that have not ended, the oldest first; what cannot be read is said, and left out. In a thread."""
        found = []
        for submission in self._store.submissions(active=True, on_damage=_tell):
            try:
                found.append((self._store.job(submission.job), submission))
            except StoreDamaged as error:
                _tell(submission.job, error)
        return found

    def _start(self, hosted: Hosted) -> None:
        hosted.work = asyncio.ensure_future(self._work(hosted))

    async def _disown(self) -> None:
        """Once all journals are replayed: what runs or has ended, and no job wants, is nobody's."""
        for known in [hosted.known for hosted in self._hosted.values()]:  # not the jobs: some end, and leave memory
            await known.wait()
        self._slots.keep({key for hosted in self._hosted.values() for key in hosted.unanswered})

    # --- one job

    async def _work(self, hosted: Hosted) -> None:
        """Replay, search to the end, and note how it ended."""
        state, reason = State.FINISHED, None
        try:
            job = await self._replay(hosted)
            self._holdings.hold(job.name, hosted.submission.owner, job.code.pickle)
            await hosted.run()
        except (LeaseLost, ClusterError, OSError) as error:
            self._leave(error)
            return
        except JobConflict as error:  # another master writes its journal, or a `swarm run` of the same name
            self._leave(LeaseLost(str(error)))
            return
        except AllFailed as error:
            if hosted.pool is not None:
                await hosted.pool.cancel()
            state, reason = State.FAILED, f"{error}; mend that, and submit it again with --retry-failed"
        except SwarmError as error:
            state, reason = State.FAILED, str(error)
        except Exception as error:
            _log.exception("job %s", hosted.name)
            state, reason = State.FAILED, f"{type(error).__name__}: {error}; report this as a bug"
        try:
            if state is State.FINISHED:
                reason = await self._follow(hosted)
            await self._end(hosted, replace(hosted.submission, state=state, reason=reason, summary=hosted.state))
        except (LeaseLost, StoreUnavailable) as error:
            self._leave(error)

    async def _replay(self, hosted: Hosted) -> Job:
        """Replay its journal; while the store is away, wait for it."""
        await patiently_awaited(hosted.replay, math.inf, StoreUnavailable)
        assert hosted.search is not None
        return hosted.search.job

    async def _follow(self, hosted: Hosted) -> str | None:
        """Begin the second search of a job that has one, with its share as it is now; why it cannot begin, or None."""
        assert hosted.search is not None
        job, best = hosted.search.job, hosted.search.state.best
        if job.then is None or best is None:
            return None
        submission = replace(hosted.submission, job=f"{job.name}-then", reason=None, summary=None)
        self._holdings.release(job.name)  # the second takes its place
        try:
            await self._admission.add(await in_thread(self._threads, lambda: job.following(best.params)), submission)
        except (LeaseLost, StoreUnavailable):
            raise
        except SwarmError as error:
            _log.warning("job %s: its second search was not begun: %s", job.name, error)
            return f"its second search was not begun: {error}"
        return None

    async def _end(self, hosted: Hosted, submission: Submission) -> dict[str, Any]:
        """A job has ended, and is forgotten here; its last state."""

        def ended() -> StoredJob:
            self._store.set_submission(submission)
            return self._store.job(submission.job)

        await hosted.renew_no_more()
        stored = await self._means.in_store(ended)
        self._hosted.pop(submission.job, None)
        self._holdings.release(submission.job)
        state = ended_state(stored, submission)
        if submission.state is not State.CANCELLED:
            hosted.known.set()
        self._mirror.ended(hosted, state)
        return state

    def _leave(self, error: BaseException) -> None:
        """This term of office is over."""
        if not self._over.done():
            self._over.set_exception(error)

    # --- staying in office, and telling the scheduler

    async def _keep_office(self) -> None:
        while True:
            about = {"name": self._holder, "weights": self._weights.known}
            report = {"trouble": self._watch.trouble, "about": about} if self._reports else {}
            async with asyncio.timeout(_ANSWER_SECONDS):
                waiting = await self._client.scheduler.swarm_beat(master=self._client.id, **report)
            if waiting is None:
                raise ClusterError("the scheduler was restarted, or obeys another master")
            self._inbox.take_up(waiting)  # such as came before the scheduler knew that we listen
            await asyncio.sleep(_BEAT_SECONDS)

    async def _keep_lease(self) -> None:
        """Stay in office while the store is away, where nobody can take over; what we write is fenced anyway.

        Raises:
            LeaseLost: The store is there, and another master holds the lease.
        """
        said: str | None = None
        while True:
            try:
                if not await in_thread(self._leases, self._renew):  # the beats go on meanwhile, and say so
                    raise LeaseLost("another master holds the lease")
                said = None
            except StoreUnavailable as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("%s; waiting for it", said)
            await asyncio.sleep(_BEAT_SECONDS)

    def _renew(self) -> bool:
        with self._watch.asking():
            return self._store.lease(self._holder, self._lease_seconds)

    def _look_for_slots(self) -> None:
        now = time.monotonic()
        for hosted in self._hosted.values():
            hosted.look_for_slots(now)

    async def _keep_publishing(self) -> None:
        while True:
            self._look_for_slots()
            await self._mirror.update()
            await self._mirror.draw()
            await asyncio.sleep(_PUBLISH_SECONDS)

    # --- requests

    async def _serve(self, method: str, data: str, blob: bytes, user: str) -> Any:
        check_user(user)
        request = await in_thread(self._writing, lambda: parse(method, data, blob))
        done = await self._answers.answer(request, user)
        if isinstance(done, dict) and "state" in done:  # whoever asked may look at once
            await self._mirror.update([done])
        return done


def _tell(name: str, error: StoreDamaged) -> None:
    _log.error("job %s is left out: %s", name, error)
