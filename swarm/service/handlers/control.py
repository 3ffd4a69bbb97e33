"""What users have the jobs do that the master runs: pause, go on, stop, end for good, try what they enqueue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from swarm.errors import InvalidInput, JobNotFound
from swarm.service.handlers.access import Access
from swarm.service.hosted import Hosted, Means
from swarm.service.requests import Enqueue, Steer, check_most
from swarm.store.records import State, Submission


class Control:
    """Changes what becomes of jobs.

    Args:
        means: What all jobs of the master use.
        hosted: The jobs that the master runs, by name.
        access: Who may steer which jobs.
        end: Notes how a job has ended, forgets it, and gives its last state.
    """

    def __init__(
        self,
        means: Means,
        hosted: Mapping[str, Hosted],
        access: Access,
        end: Callable[[Hosted, Submission], Awaitable[dict[str, Any]]],
    ) -> None:
        self._means = means
        self._store = means.store
        self._hosted = hosted
        self._access = access
        self._end = end

    async def _hosted_for(self, name: str, user: str) -> Hosted:
        """The job of that name, which has not ended, for somebody who may steer it."""
        hosted = self._hosted.get(name)
        if hosted is None:
            before = await self._means.in_store(lambda: self._store.submission(name))
            if before is None:
                raise JobNotFound(f"there is no job {name!r}; list them with: swarm jobs")
            raise InvalidInput(f"job {name!r} is {before.state} already")
        self._access.check_owner(hosted.submission.owner, name, user)
        return hosted

    async def enqueue(self, request: Enqueue, user: str) -> dict[str, Any]:
        """Have a job try configurations before any other; where it stands then."""
        hosted = await self._hosted_for(request.name, user)
        await hosted.enqueue(request.configurations, user)
        return hosted.state

    async def steer(self, request: Steer, user: str) -> dict[str, Any]:
        """End a job, let it pause or go on, or give it another share; where it stands then."""
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
            check_most(hosted.name, hosted.replicas, most)
            submission = replace(submission, priority=priority, most=most)
        else:
            submission = replace(submission, state=State.PAUSED if request.method == "pause" else State.ACTIVE)
        await self._means.in_store(lambda: self._store.set_submission(submission))
        hosted.steer(submission)
        return hosted.state

    async def _cancel(self, hosted: Hosted) -> dict[str, Any]:
        submission = replace(hosted.submission, state=State.CANCELLED, summary=hosted.state)
        await self._means.in_store(lambda: self._store.set_submission(submission))
        await hosted.cancel()
        state = await self._end(hosted, submission)
        self._means.slots.watch(self._abandon(hosted))
        return state

    async def _abandon(self, hosted: Hosted) -> None:
        """End what an earlier master has left running for a job that is cancelled."""
        try:
            left = await hosted.left_running()
            await self._means.slots.abandon(left - {key for other in self._hosted.values() for key in other.unanswered})
        finally:
            hosted.known.set()
