"""The master: hosts the searches of all jobs that were submitted, on the slots of one Dask cluster.

Its only state is the store. It may be killed at any moment: trainings go on, and the next master serves at once. It
replays the journals beside that, one after the other, joins what runs, and takes what has ended from the scheduler.
Only one master holds the store's lease; others wait for it to expire.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from distributed import Client

from swarm.blocking import in_daemon, in_thread
from swarm.config import settings
from swarm.errors import (
    AllFailed,
    ClusterError,
    InvalidInput,
    JobConflict,
    JobNotFound,
    LeaseLost,
    NoService,
    NotAllowed,
    StoreDamaged,
    StoreUnavailable,
    SwarmError,
)
from swarm.job.job import Job
from swarm.job.raised import Differences
from swarm.job.stored_problem import Codes
from swarm.pool.slots import Slots
from swarm.pool.task_names import key_of
from swarm.search.patience import patiently_awaited
from swarm.search.retry import retry
from swarm.service import ended_jobs
from swarm.service.health import StoreWatch
from swarm.service.hosted import Hosted, Means, Places, Unfit
from swarm.service.inbox import Inbox
from swarm.service.mirror import Mirror
from swarm.service.protocol import MASTER, PROTOCOL
from swarm.service.published.job_state import ended_state, is_shared
from swarm.service.quotas import Holdings, Quotas
from swarm.service.requests import PAGE, Describe, Enqueue, Events, Jobs, Steer, Submit, Weigh, check_user, parse
from swarm.steering.extension import differences, extend
from swarm.steering.notice import check_posting
from swarm.store.records import State, StoredJob, Submission
from swarm.store.sql import Store
from swarm.trial import Result

_BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_PUBLISH_SECONDS = 0.2
_log = logging.getLogger("swarm.master")

T = TypeVar("T")


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
        keep_ended: Jobs that ended more than so many seconds ago are deleted; None keeps them for ever.
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
    ) -> None:
        self._client = client
        self._slots = slots
        self._store = store
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._admins = frozenset({*admins, MASTER})
        self._keep_ended = keep_ended
        self._shared = shared or not client.scheduler.address.startswith("tls://")
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
        self._adding = asyncio.Lock()
        self._inbox = Inbox(client, self._serve, slots.watch, self._writing)
        self._holdings = Holdings(Quotas.of(settings()))
        self._weights: dict[str, float] = {}  # of the users whose weight is not 1
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

    async def _in_store(self, work: Callable[[], T]) -> T:
        """Do what uses the store, which may be slow."""
        return await in_thread(self._thread, work)

    # --- taking over

    async def _take_office(self) -> None:
        hello = await self._client.scheduler.swarm_hello()
        if hello is None:
            address = self._client.scheduler.address
            raise NoService(f"the scheduler at {address} has no service for jobs; start it with: swarm scheduler")
        if hello["protocol"] != PROTOCOL:
            raise NoService(f"the scheduler has dask-swarm {hello['version']}, which this one cannot talk to; upgrade")
        self._reports = "health" in hello
        self._weights = await self._in_store(self._store.weights)
        for user, weight in self._weights.items():
            self._slots.weigh(user, weight)
        heard = hello.get("heard") or 0.0
        if not hello["master"] or heard > self._lease_seconds:  # else that one may be right
            seen = hello.get("term", 0)
            await self._in_store(lambda: self._store.outrank(seen))  # of a store that was restored from a backup
        for job, submission in await self._in_store(self._active):
            self._hosted[job.name] = Hosted(job, submission, self._means)
            self._holdings.hold(job.name, submission.owner, b"")  # until its code is read
        readers = None if self._shared else sorted(self._admins)
        found = await self._client.scheduler.swarm_attach(
            master=self._client.id, term=self._store.term, readers=readers
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
            await self._add(await in_thread(self._threads, lambda: job.following(best.params)), submission)
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
        stored = await self._in_store(ended)
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
            about = {"name": self._holder, "weights": self._weights}
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

    async def _keep_publishing(self) -> None:
        while True:
            await self._mirror.update()
            await self._mirror.draw()
            await asyncio.sleep(_PUBLISH_SECONDS)

    # --- requests

    async def _serve(self, method: str, data: str, blob: bytes, user: str) -> Any:
        done = await self._do(method, data, blob, user)
        if isinstance(done, dict) and "state" in done:  # whoever asked may look at once
            await self._mirror.update([done])
        return done

    async def _do(self, method: str, data: str, blob: bytes, user: str) -> Any:
        check_user(user)
        request = await in_thread(self._writing, lambda: parse(method, data, blob))
        changes: dict[type, Callable[[Any, str], Awaitable[dict[str, Any]]]] = {
            Submit: self._submit,
            Steer: self._steer,
            Enqueue: self._enqueue,
            Weigh: self._weigh,
        }
        if type(request) in changes:
            return await changes[type(request)](request, user)
        if isinstance(request, Jobs):
            return await self._in_store(lambda: ended_jobs.page(self._store, request, self._reader(user)))
        assert isinstance(request, Events | Describe)
        await self._check_reader(request.name, user)
        if isinstance(request, Events):
            name, after = request.name, request.after
            return await self._in_store(lambda: _page(self._store, name, after))
        described = request.name
        return (await self._in_store(lambda: self._store.job(described))).spec

    async def _submit(self, request: Submit, user: str) -> dict[str, Any]:
        job = await in_thread(self._threads, lambda: _built(request))
        if (owner := await self._owner_of(job.name)) is not None and not self._may_read(owner, user):
            raise JobConflict(f"there is another job named {job.name!r}, which belongs to {owner!r}: take another name")
        submission = Submission(
            job.name, user, request.priority, request.most, environment=tuple(sorted({*request.environment}))
        )
        return await self._add(job, submission, retry_failed=request.retry_failed)

    async def _add(self, job: Job, submission: Submission, *, retry_failed: bool = False) -> dict[str, Any]:
        """Take a job in; the same job again is what it was, and goes on if it was cancelled or has failed.

        If that is wanted, it goes on even if it is finished, and trains again what has failed.
        """
        _check_most(job.name, job.replicas, submission.most)
        await self._check_place(job)
        check_posting(job.notify, settings().notify_hosts)
        async with self._adding:
            try:
                stored = await self._in_store(lambda: self._store.job(job.name))
            except JobNotFound:
                return await self._add_new(job, submission)
            return await self._add_again(job, stored, submission, retry_failed)

    async def _check_place(self, job: Job) -> None:
        """Refuse a job that would keep its checkpoints where none may be; to look at a place may take for ever."""
        if not isinstance(job.checkpoints, str):
            return
        try:
            await in_daemon(lambda: self._means.places.check(job), _ANSWER_SECONDS)
        except TimeoutError:
            raise InvalidInput(
                f"the checkpoints of job {job.name!r} cannot be at {job.checkpoints}, which has not answered for "
                f"{_ANSWER_SECONDS:.0f} s: take another place, or checkpoints: true"
            ) from None

    async def _add_new(self, job: Job, submission: Submission) -> dict[str, Any]:
        self._holdings.check(submission.owner, job.code.pickle)

        def added() -> StoredJob:
            self._store.submit(submission, job.to_dict(), job.code.pickle)
            return self._store.job(job.name)

        return self._take_in(await self._in_store(added), submission, job.code.pickle)

    async def _add_again(
        self, job: Job, stored: StoredJob, submission: Submission, retry_failed: bool
    ) -> dict[str, Any]:
        found = await in_thread(self._threads, lambda: differences(job, stored, "there is"))
        if job.name in self._hosted:
            if retry_failed:
                raise InvalidInput(
                    f"job {job.name!r} is {self._hosted[job.name].submission.state}: what has failed can be trained "
                    f"again when it has ended; wait for that, or end it: swarm cancel {job.name}"
                )
            if found.raised:
                return await self._raise_limits(self._hosted[job.name], job, found, submission.owner)
            return self._hosted[job.name].state
        before = await self._in_store(lambda: self._store.submission(job.name))
        if before is None:
            raise JobConflict(f"the store has a run named {job.name!r} that was not submitted; take another name")
        if before.state is State.FINISHED and not retry_failed and not found.raised:
            return ended_state(stored, before)
        self._check_owner(before.owner, job.name, submission.owner)
        self._holdings.check(submission.owner, job.code.pickle)
        if retry_failed:
            failed = await self._in_store(lambda: retry(self._store, job, self._means.places.results))
            if not failed and not found.raised and before.state is State.FINISHED:
                return ended_state(stored, before)
            self._slots.forget(failed)

        def again() -> StoredJob:
            extend(self._store, job, found)
            self._store.end_replay(job.name)  # it may have been set aside
            self._store.set_submission(submission)
            return self._store.job(job.name)

        return self._take_in(await self._in_store(again), submission, job.code.pickle)

    async def _raise_limits(self, hosted: Hosted, job: Job, found: Differences, user: str) -> dict[str, Any]:
        """Have a job that goes on do so with higher limits: taken up anew from its journal, while its trainings run."""
        self._check_owner(hosted.submission.owner, job.name, user)
        await hosted.leave()

        def extended() -> StoredJob:
            extend(self._store, job, found)
            return self._store.job(job.name)

        stored = await self._in_store(extended)
        state = self._take_in(stored, hosted.submission, job.code.pickle)
        if not hosted.known.is_set():
            self._slots.watch(_know_as_soon_as(hosted, self._hosted[job.name]))
        return state

    def _take_in(self, stored: StoredJob, submission: Submission, code: bytes) -> dict[str, Any]:
        self._holdings.hold(submission.job, submission.owner, code)
        hosted = self._hosted[submission.job] = Hosted(stored, submission, self._means)
        self._start(hosted)
        _log.info("job %s of %s", submission.job, submission.owner)
        return hosted.state

    async def _hosted_for(self, name: str, user: str) -> Hosted:
        """The job of that name, which has not ended, for somebody who may steer it."""
        hosted = self._hosted.get(name)
        if hosted is None:
            before = await self._in_store(lambda: self._store.submission(name))
            if before is None:
                raise JobNotFound(f"there is no job {name!r}; list them with: swarm jobs")
            raise InvalidInput(f"job {name!r} is {before.state} already")
        self._check_owner(hosted.submission.owner, name, user)
        return hosted

    async def _enqueue(self, request: Enqueue, user: str) -> dict[str, Any]:
        hosted = await self._hosted_for(request.name, user)
        await hosted.enqueue(request.configurations, user)
        return hosted.state

    async def _steer(self, request: Steer, user: str) -> dict[str, Any]:
        hosted = await self._hosted_for(request.name, user)
        if request.method == "cancel":
            return await self._cancel(hosted)
        if request.method == "stop":
            hosted.stop(f"stopped by {user}")
            return hosted.state
        submission = hosted.submission
        if request.method == "share":
            priority = submission.priority if request.priority is None else request.priority
            most = submission.most if request.most is None else request.most or None
            _check_most(hosted.name, hosted.replicas, most)
            submission = replace(submission, priority=priority, most=most)
        else:
            submission = replace(submission, state=State.PAUSED if request.method == "pause" else State.ACTIVE)
        await self._in_store(lambda: self._store.set_submission(submission))
        hosted.steer(submission)
        return hosted.state

    async def _weigh(self, request: Weigh, user: str) -> dict[str, Any]:
        """Give a user another weight; the weights that are not 1 then."""
        if user not in self._admins:
            raise NotAllowed(
                f"only administrators weigh users, and you are {user!r}: ask one, or have whoever runs the master name "
                "you in its setting swarm.admins"
            )

        def weighed() -> dict[str, float]:
            self._store.set_weight(request.user, request.weight)
            return self._store.weights()

        self._weights = await self._in_store(weighed)
        self._slots.weigh(request.user, request.weight)
        return {"weights": self._weights}

    async def _cancel(self, hosted: Hosted) -> dict[str, Any]:
        submission = replace(hosted.submission, state=State.CANCELLED, summary=hosted.state)
        await self._in_store(lambda: self._store.set_submission(submission))
        await hosted.cancel()
        state = await self._end(hosted, submission)
        self._slots.watch(self._abandon(hosted))
        return state

    async def _abandon(self, hosted: Hosted) -> None:
        """End what an earlier master has left running for a job that is cancelled."""
        try:
            left = await hosted.left_running()
            await self._slots.abandon(left - {key for other in self._hosted.values() for key in other.unanswered})
        finally:
            hosted.known.set()

    async def _owner_of(self, name: str) -> str | None:
        hosted = self._hosted.get(name)
        submission = await self._in_store(lambda: self._store.submission(name)) if hosted is None else hosted.submission
        return None if submission is None else submission.owner

    def _reader(self, user: str) -> str | None:
        """Whose jobs alone a user may read; None if everybody's."""
        return None if self._shared or user in self._admins else user

    def _may_read(self, owner: str | None, user: str) -> bool:
        return self._reader(user) in (None, owner)

    async def _check_reader(self, name: str, user: str) -> None:
        owner = await self._owner_of(name)
        if self._may_read(owner, user) and owner is not None:
            return
        hosted = self._hosted.get(name)
        stored = await self._in_store(lambda: self._store.job(name)) if hosted is None else hosted.stored
        if not self._may_read(owner, user) and not is_shared(stored):
            raise NotAllowed(
                f"job {name!r} is not yours to read, {user!r}: ask {owner or 'an administrator'}, or have it submitted "
                "with shared: true, or the master configured with swarm.shared"
            )

    def _check_owner(self, owner: str, name: str, user: str) -> None:
        if user != owner and user not in self._admins:
            raise NotAllowed(f"job {name!r} belongs to {owner!r}, and you are {user!r}: ask them, or an administrator")


async def _know_as_soon_as(hosted: Hosted, other: Hosted) -> None:
    """What a job wants of what an earlier master left is known once it is of what took its place."""
    await other.known.wait()
    hosted.known.set()


def _tell(name: str, error: StoreDamaged) -> None:
    _log.error("job %s is left out: %s", name, error)


def _built(request: Submit) -> Job:
    """The job that is submitted. In a thread."""
    hash(request.problem)  # which takes its time, once
    return Job.from_dict(request.spec, request.problem)


def _page(store: Store, name: str, after: int) -> list[Any]:
    """A page of a job's journal, as plain data. In a thread."""
    return [[event.kind, event.data, event.time] for event in store.events(name, after, PAGE)]


def _check_most(name: str, replicas: int, most: int | None) -> None:
    """Refuse a limit below which no training of the job could ever begin."""
    if most is not None and most < replicas:
        raise InvalidInput(
            f"a training of job {name!r} takes {replicas} slots, its replicas, and it may use {most}: "
            f"give --max-slots {replicas} (in Python, most={replicas}) or more, or no limit"
        )
