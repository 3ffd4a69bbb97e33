"""Takes jobs in: new ones, those that are submitted again, and second searches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from swarm.blocking import in_daemon, in_thread
from swarm.config import settings
from swarm.errors import InvalidInput, JobConflict, JobNotFound
from swarm.job.job import Job
from swarm.job.raised import Differences
from swarm.search.retry import retry
from swarm.service.handlers.access import Access
from swarm.service.hosted import Hosted, Means
from swarm.service.published.job_state import ended_state
from swarm.service.quotas import Holdings
from swarm.service.requests import Submit, check_most
from swarm.steering.extension import differences, extend
from swarm.steering.notice import check_posting
from swarm.store.records import State, StoredJob, Submission

_PLACE_SECONDS = 10.0  # for a place of checkpoints to answer
_log = logging.getLogger("swarm.master")


class Admission:
    """Takes jobs in, one after the other.

    Args:
        means: What all jobs of the master use.
        hosted: The jobs that the master runs, by name, to which a job is added.
        holdings: What their users have of their quotas.
        access: Who may read and steer which jobs.
        start: Has a job that was added do its work.
    """

    def __init__(
        self,
        means: Means,
        hosted: dict[str, Hosted],
        holdings: Holdings,
        access: Access,
        start: Callable[[Hosted], None],
    ) -> None:
        self._means = means
        self._store = means.store
        self._hosted = hosted
        self._holdings = holdings
        self._access = access
        self._start = start
        self._adding = asyncio.Lock()

    async def submit(self, request: Submit, user: str) -> dict[str, Any]:
        """Take in what a user submits; where the job stands then."""
        job = await in_thread(self._means.threads, lambda: _built(request))
        if (owner := await self._access.owner_of(job.name)) is not None and not self._access.may_read(owner, user):
            raise JobConflict(f"there is another job named {job.name!r}, which belongs to {owner!r}: take another name")
        submission = Submission(
            job.name, user, request.priority, request.most, environment=tuple(sorted({*request.environment}))
        )
        return await self.add(job, submission, retry_failed=request.retry_failed)

    async def add(self, job: Job, submission: Submission, *, retry_failed: bool = False) -> dict[str, Any]:
        """Take a job in; the same job again is what it was, and goes on if it was cancelled or has failed.

        If that is wanted, it goes on even if it is finished, and trains again what has failed.
        """
        check_most(job.name, job.replicas, submission.most)
        await self._check_place(job)
        check_posting(job.notify, settings().notify_hosts)
        async with self._adding:
            try:
                stored = await self._means.in_store(lambda: self._store.job(job.name))
            except JobNotFound:
                return await self._add_new(job, submission)
            return await self._add_again(job, stored, submission, retry_failed)

    async def _check_place(self, job: Job) -> None:
        """Refuse a job that would keep its checkpoints where none may be; to look at a place may take for ever."""
        if not isinstance(job.checkpoints, str):
            return
        try:
            await in_daemon(lambda: self._means.places.check(job), _PLACE_SECONDS)
        except TimeoutError:
            raise InvalidInput(
                f"the checkpoints of job {job.name!r} cannot be at {job.checkpoints}, which has not answered for "
                f"{_PLACE_SECONDS:.0f} s: take another place, or checkpoints: true"
            ) from None

    async def _add_new(self, job: Job, submission: Submission) -> dict[str, Any]:
        self._holdings.check(submission.owner, job.code.pickle)

        def added() -> StoredJob:
            self._store.submit(submission, job.to_dict(), job.code.pickle)
            return self._store.job(job.name)

        return self._take_in(await self._means.in_store(added), submission, job.code.pickle)

    async def _add_again(
        self, job: Job, stored: StoredJob, submission: Submission, retry_failed: bool
    ) -> dict[str, Any]:
        found = await in_thread(self._means.threads, lambda: differences(job, stored, "there is"))
        if job.name in self._hosted:
            if retry_failed:
                raise InvalidInput(
                    f"job {job.name!r} is {self._hosted[job.name].submission.state}: what has failed can be trained "
                    f"again when it has ended; wait for that, or end it: swarm cancel {job.name}"
                )
            if found.raised:
                return await self._raise_limits(self._hosted[job.name], job, found, submission.owner)
            return self._hosted[job.name].state
        before = await self._means.in_store(lambda: self._store.submission(job.name))
        if before is None:
            raise JobConflict(f"the store has a run named {job.name!r} that was not submitted; take another name")
        if before.state is State.FINISHED and not retry_failed and not found.raised:
            return ended_state(stored, before)
        self._access.check_owner(before.owner, job.name, submission.owner)
        self._holdings.check(submission.owner, job.code.pickle)
        if retry_failed:
            failed = await self._means.in_store(lambda: retry(self._store, job, self._means.places.results))
            if not failed and not found.raised and before.state is State.FINISHED:
                return ended_state(stored, before)
            self._means.slots.forget(failed)

        def again() -> StoredJob:
            extend(self._store, job, found)
            self._store.end_replay(job.name)  # it may have been set aside
            self._store.set_submission(submission)
            return self._store.job(job.name)

        return self._take_in(await self._means.in_store(again), submission, job.code.pickle)

    async def _raise_limits(self, hosted: Hosted, job: Job, found: Differences, user: str) -> dict[str, Any]:
        """Raise the limits of a job that goes on: it is taken up again from its journal, while its trainings run."""
        self._access.check_owner(hosted.submission.owner, job.name, user)
        await hosted.leave()

        def extended() -> StoredJob:
            extend(self._store, job, found)
            return self._store.job(job.name)

        stored = await self._means.in_store(extended)
        state = self._take_in(stored, hosted.submission, job.code.pickle)
        if not hosted.known.is_set():
            self._means.slots.watch(_know_as_soon_as(hosted, self._hosted[job.name]))
        return state

    def _take_in(self, stored: StoredJob, submission: Submission, code: bytes) -> dict[str, Any]:
        self._holdings.hold(submission.job, submission.owner, code)
        hosted = self._hosted[submission.job] = Hosted(stored, submission, self._means)
        self._start(hosted)
        _log.info("job %s of %s", submission.job, submission.owner)
        return hosted.state


async def _know_as_soon_as(hosted: Hosted, other: Hosted) -> None:
    """What a job wants of what an earlier master left is known once it is of what took its place."""
    await other.known.wait()
    hosted.known.set()


def _built(request: Submit) -> Job:
    """The job that is submitted. In a thread."""
    hash(request.problem)  # which takes its time, once
    return Job.from_dict(request.spec, request.problem)
