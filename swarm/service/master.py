"""The master: hosts the searches of all jobs that were submitted, on the slots of one Dask cluster.

Its only state is the store. It may be killed at any moment: trainings go on, and the next master replays the journals,
joins what runs, and takes what has ended meanwhile from the scheduler. Only one master holds the store's lease; others
wait for it to expire.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from distributed import Client

from swarm.errors import (
    AllFailed,
    ClusterError,
    InvalidInput,
    JobConflict,
    JobNotFound,
    LeaseLost,
    NoService,
    NotAllowed,
    StoreUnavailable,
    SwarmError,
)
from swarm.job.job import Job
from swarm.job.stored_problem import Codes
from swarm.pool.dask_pool import DaskPool
from swarm.pool.fair_share import Share
from swarm.pool.slots import Slots
from swarm.pool.task_names import key_of
from swarm.search.retry import retry
from swarm.search.search import Search
from swarm.service import ended_jobs
from swarm.service.checkpoint_cleanup import CheckpointCleanup
from swarm.service.inbox import Inbox
from swarm.service.job_state import ended_state, state_of
from swarm.service.protocol import PROTOCOL, SETTLED
from swarm.service.publisher import Publisher
from swarm.service.requests import PAGE, Describe, Events, Jobs, Steer, Submit, parse
from swarm.store.records import State, StoredJob, Submission
from swarm.store.run_lock import running
from swarm.store.sql import Store
from swarm.trial import Result, resource

_BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_PUBLISH_SECONDS = 0.2
_log = logging.getLogger("swarm.master")

Unfit = Callable[[Iterable[str]], Awaitable[str | None]]


@dataclass(frozen=True)
class Places:
    """Where trainings leave what others need.

    Attributes:
        results: Folder that all workers see, for finished evaluations; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
    """

    results: str | None = None
    checkpoints: str | None = None


@dataclass(eq=False)
class _Hosted:
    """A job that is being searched."""

    submission: Submission
    job: Job
    search: Search
    share: Share
    pool: DaskPool | None = None
    work: asyncio.Task[None] | None = None
    changed: bool = True

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands, as plain data."""
        return state_of(self.search.state, self.submission, self.search)


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
        keep_ended: float | None = None,
    ) -> None:
        self._client = client
        self._slots = slots
        self._store = store
        self._holder = holder
        self._places = places
        self._forgetting = forgetting
        self._unfit = unfit
        self._lease_seconds = lease_seconds
        self._admins = frozenset(admins)
        self._keep_ended = keep_ended
        self._hosted: dict[str, _Hosted] = {}
        self._ended: dict[str, dict[str, Any]] = {}  # last states of the jobs that are not hosted
        self._outlets: dict[str, Publisher] = {}
        self._unpublished: list[str] = []
        self._settled: list[str] = []
        self._desk = Inbox(client, self._serve, slots.watch)
        self._deleting: set[asyncio.Task[None]] = set()
        self._codes = Codes(store)
        self._store_away = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            NoService: The scheduler was started without our plugin.
            ClusterError, OSError: The scheduler is gone, or obeys another master.
            LeaseLost: Another master has taken over the store.
        """
        await self._take_office()
        self._desk.open()
        chores = [asyncio.ensure_future(chore) for chore in (self._keep_office(), self._keep_publishing())]
        if (keep := self._keep_ended) is not None:
            places = self._forgetting, self._places.checkpoints
            deleting = ended_jobs.keep_deleting(self._store, keep, *places, lambda name: self._ended.pop(name, None))
            chores.append(asyncio.ensure_future(deleting))
        try:
            await asyncio.wait([self._over, *chores], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._over, *chores):
                if ended.done():
                    ended.result()
        finally:
            works = [hosted.work for hosted in self._hosted.values() if hosted.work is not None]
            ending = [*chores, *works, *self._deleting]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            self._desk.close()

    # --- taking over

    async def _take_office(self) -> None:
        hello = await self._client.scheduler.swarm_hello()
        if hello is None:
            address = self._client.scheduler.address
            raise NoService(f"the scheduler at {address} has no service for jobs; start it with: swarm scheduler")
        if hello["protocol"] != PROTOCOL:
            raise NoService(f"the scheduler has dask-swarm {hello['version']}, which this one cannot talk to; upgrade")
        if not hello["master"] or (hello.get("heard") or 0.0) > self._lease_seconds:  # else that one may be right
            self._store.outrank(hello.get("term", 0))  # ours is lower in a store that was restored from a backup
        submissions = {submission.job: submission for submission in self._store.submissions()}
        for job in self._store.jobs():
            submission = submissions.get(job.name)
            if submission is None:  # a run of this machine's own
                continue
            if not submission.state.ended:
                self._host(job, submission)
            else:
                self._ended[job.name] = ended_state(job, submission)
        found = await self._client.scheduler.swarm_attach(master=self._client.id, term=self._store.term)
        wanted = {key for hosted in self._hosted.values() for key in hosted.search.state.unanswered}
        running: dict[str, list[str]] = {}
        for name, slot in found["running"].items():  # the Dask keys of an evaluation and of its replicas hold its own
            key = key_of(name)
            if key in wanted:
                running.setdefault(key, []).append(slot)
        results = [Result.from_dict(result) for result in found["results"] if result["key"] in wanted]
        self._slots.follow(running, results)
        _log.info(
            "%d jobs, %d trainings run on, %d have ended meanwhile", len(self._hosted), len(running), len(results)
        )
        states = [hosted.state for hosted in self._hosted.values()]
        await self._publish([*states, *self._ended.values()], reset=True)
        for hosted in self._hosted.values():
            self._start(hosted)

    def _host(self, stored: StoredJob, submission: Submission) -> _Hosted | None:
        """Replay a job's journal."""
        try:
            code = self._codes.of(stored.name)
            code()  # now, while whoever calls can wait for the store
            job = Job.from_dict(stored.spec, code)
            outlet = Publisher(job)
            search = Search(job, self._store, outlet.note)
        except StoreUnavailable:
            raise
        except SwarmError as error:
            self._end(stored, replace(submission, state=State.FAILED, reason=str(error)))
            return None
        share = Share(submission.priority, submission.most, closed=True, paused=submission.state is State.PAUSED)
        self._outlets[job.name] = outlet
        hosted = self._hosted[job.name] = _Hosted(submission, job, search, share)
        return hosted

    def _start(self, hosted: _Hosted) -> None:
        hosted.work = asyncio.ensure_future(self._search(hosted))

    # --- one job

    async def _search(self, hosted: _Hosted) -> None:
        """Search to the end, and note how it ended."""
        job = hosted.job
        state, reason = State.FINISHED, None
        try:
            await self._wait_for_runs(hosted)
            await self._run_search(hosted)
        except (LeaseLost, ClusterError, OSError) as error:
            self._leave(error)
            return
        except JobConflict as error:  # another master writes its journal, or a `swarm run` of the same name
            self._leave(LeaseLost(str(error)))
            return
        except AllFailed as error:
            assert hosted.pool is not None
            await hosted.pool.cancel()
            state, reason = State.FAILED, f"{error}; mend that, and submit it again with --retry-failed"
        except SwarmError as error:
            state, reason = State.FAILED, str(error)
        except Exception as error:
            _log.exception("job %s", job.name)
            state, reason = State.FAILED, f"{type(error).__name__}: {error}; report this as a bug"
        try:
            if state is State.FINISHED:
                reason = self._follow(hosted)
            ended = replace(hosted.submission, state=state, reason=reason, summary=hosted.state)
            self._end(self._store.job(job.name), ended)
        except (LeaseLost, StoreUnavailable) as error:
            self._leave(error)

    def _follow(self, hosted: _Hosted) -> str | None:
        """Begin the second search of a job that has one, with its share as it is now; why it cannot begin, or None."""
        job, best = hosted.job, hosted.search.state.best
        if job.then is None or best is None:
            return None
        submission = replace(hosted.submission, job=f"{job.name}-then", reason=None, summary=None)
        try:
            self._add(job.following(best.params), submission)
        except (LeaseLost, StoreUnavailable):
            raise
        except SwarmError as error:
            _log.warning("job %s: its second search was not begun: %s", job.name, error)
            return f"its second search was not begun: {error}"
        return None

    async def _wait_for_runs(self, hosted: _Hosted) -> None:
        """Wait while somebody runs the job without us, and take up what they have found."""
        job, waited = hosted.job, False
        while (who := running(self._store, job.name)) is not None:
            waited = True
            hosted.search.trouble = f"waits for its end elsewhere: it is run by {who}"
            hosted.changed = True
            await asyncio.sleep(_BEAT_SECONDS)
        if waited:
            outlet = self._outlets[job.name] = Publisher(job)
            hosted.search = Search(job, self._store, outlet.note)

    async def _run_search(self, hosted: _Hosted) -> None:
        job = hosted.job
        checkpoints = job.checkpoints if isinstance(job.checkpoints, str) else None
        if job.checkpoints and checkpoints is None:
            checkpoints = self._places.checkpoints
        if job.optimizer.inherits and checkpoints is None:
            raise InvalidInput(
                f"job {job.name!r} hands trainings on, but there is no place for their checkpoints that all workers "
                "see: give one, checkpoints: a folder or URL in the job, or start the master with --checkpoints"
            )
        forget = await self._deletions(job.name, checkpoints)
        hosted.pool = DaskPool(
            self._slots,
            job.code.pickle,
            results=self._places.results,
            checkpoints=checkpoints,
            resource=resource(job.gpus_per_training),
            share=hosted.share,
            replicas=job.replicas,
        )
        async with hosted.pool as pool:
            while pool.slots < job.replicas:
                wanted = "a worker that offers a" if job.replicas == 1 else f"workers that offer {job.replicas} times a"
                hosted.search.trouble = f"waits for {wanted} {pool.resource} slot"
                hosted.changed = True
                await pool.next()
            hosted.search.trouble = None
            reason = await self._unfit([*hosted.submission.environment, *job.requirements])
            if reason is not None:
                raise InvalidInput(f"the workers cannot run it: {reason}")
            await hosted.search.run(pool, lambda _: self._on_change(hosted), forget, patience=math.inf)
        await forget.done()

    async def _deletions(self, name: str, checkpoints: str | None) -> CheckpointCleanup:
        """What deletes a job's checkpoints; a place that cannot be reached now may be reached later.

        Raises:
            InvalidInput: There can be no such place.
        """
        opened = partial(self._forgetting, checkpoints)
        try:
            await asyncio.to_thread(opened)
        except (ValueError, ImportError) as error:
            raise InvalidInput(f"the checkpoints of job {name!r} cannot be at {checkpoints}: {error}") from None
        except Exception as error:
            _log.warning("job %s: %s cannot be reached now: %s: %s", name, checkpoints, type(error).__name__, error)
        return CheckpointCleanup(name, opened, self._deleting)

    def _on_change(self, hosted: _Hosted) -> None:
        hosted.changed = True
        if hosted.pool is not None and hosted.search.trouble is None:  # all that it took is written
            self._settled += hosted.pool.taken
            hosted.pool.taken = []

    def _end(self, stored: StoredJob, submission: Submission) -> None:
        self._store.set_submission(submission)
        self._hosted.pop(submission.job, None)
        self._ended[submission.job] = ended_state(stored, submission)
        self._unpublished.append(submission.job)

    def _leave(self, error: BaseException) -> None:
        """This term of office is over."""
        if not self._over.done():
            self._over.set_exception(error)

    # --- staying in office, and telling the scheduler

    async def _keep_office(self) -> None:
        while True:
            self._renew_lease()
            async with asyncio.timeout(_ANSWER_SECONDS):
                waiting = await self._client.scheduler.swarm_beat(master=self._client.id)
            if waiting is None:
                raise ClusterError("the scheduler was restarted, or obeys another master")
            self._desk.take_up(waiting)  # such as came before the scheduler knew that we listen
            await asyncio.sleep(_BEAT_SECONDS)

    def _renew_lease(self) -> None:
        """Stay in office while the store is away, where nobody can take over; what we write is fenced anyway."""
        try:
            renewed = self._store.lease(self._holder, self._lease_seconds)
        except StoreUnavailable as error:
            if not self._store_away:
                _log.warning("%s; waiting for it", error)
            self._store_away = True
            return
        self._store_away = False
        if not renewed:
            raise LeaseLost("another master holds the lease")

    async def _keep_publishing(self) -> None:
        while True:
            changed = [hosted for hosted in self._hosted.values() if hosted.changed]
            states = [hosted.state for hosted in changed] + [self._ended[name] for name in self._unpublished]
            for hosted in changed:
                hosted.changed = False
            self._unpublished = []
            views = {name: message for name, outlet in self._outlets.items() if (message := outlet.message())}
            self._outlets = {name: outlet for name, outlet in self._outlets.items() if name in self._hosted}
            if states or views:
                await self._publish(states, views)
            if self._settled:
                settled, self._settled = self._settled, []
                await self._client.log_event(SETTLED, settled)
            await asyncio.sleep(_PUBLISH_SECONDS)

    async def _publish(
        self, states: Iterable[dict[str, Any]], views: dict[str, str] | None = None, *, reset: bool = False
    ) -> None:
        named = {state["name"]: json.dumps(state) for state in states}
        await self._client.scheduler.swarm_publish(
            states=named, views=views or {}, publisher=self._client.id, reset=reset
        )

    # --- requests

    async def _serve(self, method: str, data: str, blob: bytes, user: str) -> Any:
        done = await self._do(method, data, blob, user)
        if isinstance(done, dict) and "state" in done:  # whoever asked may look at once
            await self._publish([done])
        return done

    async def _do(self, method: str, data: str, blob: bytes, user: str) -> Any:
        request = parse(method, data, blob)
        if isinstance(request, Submit):
            return self._submit(request, user)
        if isinstance(request, Steer):
            return await self._steer(request, user)
        if isinstance(request, Events):
            events = self._store.events(request.name, request.after, PAGE)
            return [[event.kind, event.data, event.time] for event in events]
        if isinstance(request, Jobs):
            return ended_jobs.page(self._store, request)
        assert isinstance(request, Describe)
        return self._store.job(request.name).spec

    def _submit(self, request: Submit, user: str) -> dict[str, Any]:
        job = Job.from_dict(request.spec, request.problem)
        submission = Submission(
            job.name, user, request.priority, request.most, environment=tuple(sorted({*request.environment}))
        )
        return self._add(job, submission, retry_failed=request.retry_failed)

    def _add(self, job: Job, submission: Submission, *, retry_failed: bool = False) -> dict[str, Any]:
        """Take a job in; the same job again is what it was, and goes on if it was cancelled or has failed.

        If that is wanted, it goes on even if it is finished, and trains again what has failed.
        """
        _check_most(job, submission.most)
        try:
            stored = self._store.job(job.name)
        except JobNotFound:
            self._store.submit(submission, job.to_dict(), job.code.pickle)
            return self._take_in(self._store.job(job.name), submission)
        differences = job.differences(stored.spec)
        if differences:
            raise JobConflict(
                f"there is another job named {job.name!r}: {'; '.join(differences)}. Take another name, or submit the "
                "same job to go on with it"
            )
        if job.name in self._hosted:
            if retry_failed:
                raise InvalidInput(
                    f"job {job.name!r} is {self._hosted[job.name].submission.state}: what has failed can be trained "
                    f"again when it has ended; wait for that, or end it: swarm cancel {job.name}"
                )
            return self._hosted[job.name].state
        if job.name not in self._ended:
            raise JobConflict(f"the store has a run named {job.name!r} that was not submitted; take another name")
        if self._ended[job.name]["state"] == State.FINISHED and not retry_failed:
            return self._ended[job.name]
        self._check_owner(self._ended[job.name]["owner"], job.name, submission.owner)
        if retry_failed:
            failed = retry(self._store, job, self._places.results)
            if not failed and self._ended[job.name]["state"] == State.FINISHED:
                return self._ended[job.name]
            self._slots.forget(failed)
        self._store.set_submission(submission)
        return self._take_in(stored, submission)

    def _take_in(self, stored: StoredJob, submission: Submission) -> dict[str, Any]:
        self._ended.pop(submission.job, None)
        hosted = self._host(stored, submission)
        if hosted is None:
            return self._ended[submission.job]
        self._start(hosted)
        _log.info("job %s of %s", submission.job, submission.owner)
        return hosted.state

    async def _steer(self, request: Steer, user: str) -> dict[str, Any]:
        hosted = self._hosted.get(request.name)
        if hosted is None:
            if request.name not in self._ended:
                raise JobNotFound(f"there is no job {request.name!r}; list them with: swarm jobs")
            state = self._ended[request.name]
            raise InvalidInput(f"job {request.name!r} is {state['state']} already")
        self._check_owner(hosted.submission.owner, request.name, user)
        if request.method == "cancel":
            return await self._cancel(hosted)
        submission = hosted.submission
        if request.method == "share":
            priority = submission.priority if request.priority is None else request.priority
            most = submission.most if request.most is None else request.most or None
            _check_most(hosted.job, most)
            submission = replace(submission, priority=priority, most=most)
        else:
            submission = replace(submission, state=State.PAUSED if request.method == "pause" else State.ACTIVE)
        self._store.set_submission(submission)
        hosted.submission, hosted.changed = submission, True
        self._slots.charge()
        hosted.share.weigh(submission.priority)
        hosted.share.most = submission.most
        paused = submission.state is State.PAUSED
        if hosted.pool is None:
            hosted.share.paused = paused
        else:
            hosted.pool.pause(paused)
        return hosted.state

    async def _cancel(self, hosted: _Hosted) -> dict[str, Any]:
        submission = replace(hosted.submission, state=State.CANCELLED, summary=hosted.state)
        self._store.set_submission(submission)
        assert hosted.work is not None
        hosted.work.cancel()
        await asyncio.gather(hosted.work, return_exceptions=True)
        if hosted.pool is not None:
            await hosted.pool.cancel()
        others = {
            key for other in self._hosted.values() if other is not hosted for key in other.search.state.unanswered
        }
        await self._slots.abandon(hosted.search.state.unanswered.keys() - others)
        self._end(self._store.job(submission.job), submission)
        return self._ended[submission.job]

    def _check_owner(self, owner: str, name: str, user: str) -> None:
        if user != owner and user not in self._admins:
            raise NotAllowed(f"job {name!r} belongs to {owner!r}, and you are {user!r}: ask them, or an administrator")


def _check_most(job: Job, most: int | None) -> None:
    """Refuse a limit below which no training of the job could ever begin."""
    if most is not None and most < job.replicas:
        raise InvalidInput(
            f"a training of job {job.name!r} takes {job.replicas} slots, its replicas, and it may use {most}: "
            f"give --max-slots {job.replicas} (in Python, most={job.replicas}) or more, or no limit"
        )
