"""The client of the service: submit a job, leave, come back from anywhere, look, steer.

It needs the scheduler's address alone. Every call opens a connection and closes it, so a laptop may sleep in between
and the scheduler be restarted.
"""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING, Any, Literal, overload

from distributed import Security

from swarm.client.base import BaseClient, Coming
from swarm.client.handle import AsyncJobHandle, JobHandle
from swarm.client.jobs import Jobs
from swarm.code.main_guard import check_first
from swarm.errors import InvalidInput, InvalidSpace, SwarmError
from swarm.job.job import Job, check_job
from swarm.job.stored_problem import advice
from swarm.manners.notebook import facts
from swarm.manners.users_dask import Named
from swarm.plain import plain
from swarm.service.health import health_in
from swarm.service.published.job_state import ENDED, JobState
from swarm.space.constraint import Function
from swarm.store.records import State

__all__ = ["ENDED", "AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "JobState", "environment"]


_log = logging.getLogger("swarm.client")


class Client(BaseClient):
    """Talks to the service behind a Dask scheduler: submits jobs, finds them again, lists them.

    A job belongs to the service once :meth:`submit` has returned. The script may end and the machine be switched off;
    a client anywhere else :meth:`attaches <attach>` to the job by its name.

    Args:
        address: The scheduler's address, ``tcp://host:8786``, or a ``distributed.Client`` or cluster of it; None takes
            Dask's own configuration (``DASK_SCHEDULER_ADDRESS``).
        asynchronous: Make an :class:`AsyncClient`, whose methods return awaitables.
        security: TLS certificates; None takes those of the client or cluster that was given, else Dask's configuration
            (``distributed.comm.tls``).
        user: Your name, by which the service tells who owns a job; None is your login name. A TLS certificate
            outranks it.
        patience: Seconds for which every call waits for a scheduler or a master that is still starting, or is being
            replaced; None takes the setting ``swarm.client-patience-seconds``, 30. :meth:`hello` and :meth:`health` do
            not wait.

    It holds no connection between two calls, so there is nothing to close; ``with Client(…) as client:`` works as with
    Dask's own, and so does ``async with`` of an asynchronous one.

    Attributes:
        address: The scheduler's address.
        asynchronous: Whether its methods return awaitables.

    Raises:
        InvalidInput: There is no address, or no certificate for an address with TLS.

    Example:
        ::

            from swarm import Client, Job

            with Client("tcp://127.0.0.1:8786") as client:
                handle = client.submit(Job.from_file("digits.yaml"), priority=2)
                state = handle.wait(progress=True)  # or leave, and later: client.attach("digits")
            if state.best is not None:
                print(state.best["fitness"], state.best["params"])
    """

    @overload
    def __new__(
        cls,
        address: Named | None = None,
        *,
        asynchronous: Literal[False] = False,
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> Client: ...
    @overload
    def __new__(
        cls,
        address: Named | None = None,
        *,
        asynchronous: Literal[True],
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> AsyncClient: ...
    @overload
    def __new__(
        cls,
        address: Named | None = None,
        *,
        asynchronous: bool,
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> Client: ...
    def __new__(
        cls,
        address: Named | None = None,
        *,
        asynchronous: bool = False,
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> Client:
        """A client of the kind that is asked for."""
        return super().__new__(AsyncClient if asynchronous and cls is Client else cls)

    def submit(
        self, job: Job, *, priority: float = 1.0, most: int | None = None, retry_failed: bool = False
    ) -> JobHandle:
        """Submit a job, and leave it to the master; submitting the same job again goes on with it.

        Args:
            job: What to search.
            priority: The job's share of your slots is in proportion to its priority.
            most: The job never uses more slots than this; None is no limit.
            retry_failed: Train again what has failed in the job, if it has ended: it goes on from before its first
                failure, and nothing that succeeded is trained twice.

        Returns:
            The job's handle, as soon as the master has the job in its store: nothing is lost if either of you goes.

        Raises:
            JobConflict: There is another job of that name.
            InvalidInput: Failed trainings of a job that has not ended cannot be trained again yet; or a constraint is a
                function that only this script has.
            NoMaster: No master is connected to the scheduler to take the job.
            NoService: The scheduler was not started with ``swarm scheduler``.
            SchedulerUnreachable: Nothing answers at the address.
        """
        check_first("Client.submit()")
        check_job(job, "client.submit(job)")
        _check_constraints(job)
        if said := advice(job.name, job.code.pickle):
            _log.warning(said)
        data = {
            "spec": job.to_dict(),
            "priority": float(priority),
            "most": plain(most),
            "environment": environment(),
            **({"retry_failed": True} if retry_failed else {}),  # which an earlier master would not know
        }

        async def submitted() -> JobHandle:
            await self._connection.call("submit", data, job.code.pickle)
            return self._handle(job.name)

        return self._then(submitted())

    def jobs(self, limit: int | None = 100, state: str | None = None) -> list[JobState]:
        """Where the jobs of the service stand: the latest that have ended, then those that go on.

        Args:
            limit: Only the latest so many of those that have ended, of which there may be many thousands; None for all.
            state: Only those that are ``active``, ``paused``, ``finished``, ``cancelled`` or ``failed``.

        Raises:
            InvalidInput: There is no such state, or the limit is below 0.
            NoService, SchedulerUnreachable: There is no service.
        """
        if state is not None and state not in list(State):
            raise InvalidInput(f"a job is {', '.join(State)}, not {state!r}")
        if limit is not None and limit < 0:
            raise InvalidInput(f"limit is {limit}: at most so many jobs that have ended, 0 or more, or None for all")

        async def found() -> Jobs:
            return Jobs(await self._connection.jobs(limit, state))

        return self._then(found())

    def counts(self) -> dict[str, int]:
        """How many jobs of the service are in each state: ``{"active": 3, "finished": 19_402}``.

        Raises:
            NoService, SchedulerUnreachable: There is no service.
        """
        return self._then(self._connection.counts())

    def attach(self, name: str) -> JobHandle:
        """The handle of a job that somebody submitted, from here or elsewhere.

        Args:
            name: Name of the job.

        Raises:
            JobNotFound: There is none of that name.
            NoService, SchedulerUnreachable: There is no service.
        """

        async def found() -> JobHandle:
            await self._connection.state(name)
            return self._handle(name)

        return self._then(found())

    def hello(self) -> dict[str, Any]:
        """Version of the service, and whether a master is there: ``{"version": …, "master": True, …}``.

        ``heard`` is how many seconds ago the master was heard of last, ``term`` the latest that was in office.

        Raises:
            NoService, SchedulerUnreachable: There is no service.
        """
        return self._then(self._connection.ask("swarm_hello", at_once=True))

    def health(self) -> dict[str, Any]:
        """Whether the service is well, and what is wrong with it.

        ``ok``, and the ``problems``, a sentence each: no master is connected, it has not been heard of lately, its
        store does not answer. Beside them ``name``, ``term`` and ``silent_seconds`` of the master, ``store``
        (``answers``, ``in trouble``, ``unknown``), ``standbys``, the names of masters that wait for the office,
        ``workers``, ``slots``, and ``requests`` that wait for the master.

        Raises:
            NoService, SchedulerUnreachable: There is no service.
        """

        async def found() -> dict[str, Any]:
            return health_in(await self._connection.ask("swarm_hello", at_once=True))

        return self._then(found())

    def weigh(self, user: str, weight: float) -> dict[str, float]:
        """Give a user another weight: slots are divided between users in proportion to it, then between their jobs.

        Args:
            user: Name of the user.
            weight: The new weight; everybody has 1 who was given none.

        Returns:
            The weights that are not 1, by the user's name.

        Raises:
            NotAllowed: You are no administrator of the service.
            NoService, SchedulerUnreachable: There is no service.
        """

        async def weighed() -> dict[str, float]:
            answer = await self._connection.call("weigh", {"user": user, "weight": float(weight)})
            return dict(answer["weights"])

        return self._then(weighed())

    def weights(self) -> dict[str, float]:
        """The weights of the users whose weight is not 1, by name.

        Raises:
            NoService, SchedulerUnreachable: There is no service.
        """

        async def found() -> dict[str, float]:
            return dict((await self._connection.ask("swarm_hello")).get("weights", {}))  # an earlier one has none

        return self._then(found())

    def slots(self) -> list[dict[str, Any]]:
        """What each slot of the cluster trains now; see :func:`swarm.scheduler.slot_status.occupancy` for the keys.

        Raises:
            NoService, SchedulerUnreachable: There is no service.
        """
        return self._then(self._connection.ask("swarm_slots"))

    def _repr_html_(self) -> str:
        about = {"service": self.address}
        if not self.asynchronous:  # whose event loop would stand still
            about |= _told_of(self)
        return facts(about)

    def _handle(self, name: str) -> JobHandle:
        return (AsyncJobHandle if self.asynchronous else JobHandle)(self, name)


class AsyncClient(Client):
    """A client whose methods return awaitables; ``Client(address, asynchronous=True)`` makes one.

    It does what :class:`Client` does. Only the types of what its methods return differ.

    Example:
        ::

            import asyncio
            from swarm import Client, Job

            async def main() -> None:
                client = Client("tcp://127.0.0.1:8786", asynchronous=True)
                handle = await client.submit(Job.from_file("digits.yaml"))
                print((await handle.wait()).best)

            asyncio.run(main())
    """

    def __init__(
        self,
        address: Named | None = None,
        *,
        asynchronous: Literal[True] = True,
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> None:
        super().__init__(address, asynchronous=asynchronous, security=security, user=user, patience=patience)

    if TYPE_CHECKING:  # no override that a Client could stand in for, which nothing asks of it

        def submit(  # type: ignore[override]  # noqa: D102
            self, job: Job, *, priority: float = 1.0, most: int | None = None, retry_failed: bool = False
        ) -> Coming[AsyncJobHandle]: ...
        def jobs(  # type: ignore[override]  # noqa: D102
            self, limit: int | None = 100, state: str | None = None
        ) -> Coming[list[JobState]]: ...
        def counts(self) -> Coming[dict[str, int]]: ...  # type: ignore[override]  # noqa: D102
        def attach(self, name: str) -> Coming[AsyncJobHandle]: ...  # type: ignore[override]  # noqa: D102
        def hello(self) -> Coming[dict[str, Any]]: ...  # type: ignore[override]  # noqa: D102
        def health(self) -> Coming[dict[str, Any]]: ...  # type: ignore[override]  # noqa: D102
        def weigh(self, user: str, weight: float) -> Coming[dict[str, float]]: ...  # type: ignore[override]  # noqa: D102
        def weights(self) -> Coming[dict[str, float]]: ...  # type: ignore[override]  # noqa: D102
        def slots(self) -> Coming[list[dict[str, Any]]]: ...  # type: ignore[override]  # noqa: D102


def _check_constraints(job: Job) -> None:
    """Refuse a job with a constraint that no master could ask.

    Raises:
        InvalidSpace: One is a function that does more than to compare.
    """
    for each in job.space.constraints if job.space else ():
        if isinstance(each, Function):
            raise InvalidSpace(
                f"constraint {each.text} is a function that only this script has, and the master runs no code of "
                "users: write it as an expression, such as units_2 <= units_1"
            )


def _told_of(client: Client) -> dict[str, str]:
    """How the service of a client is; what keeps it from saying so, if it does not answer."""
    try:
        health, counts = client.health(), client.counts()
    except SwarmError as error:
        return {"state": str(error)}
    slots = [f"{each['busy']:g} of {each['offered']:g} {name} slots" for name, each in health.get("slots", {}).items()]
    return {
        "state": "; ".join(health["problems"]) or "well",
        "busy": ", ".join(slots) or "no worker offers a slot",
        "jobs": ", ".join(f"{number:,} {state}" for state, number in counts.items()) or "none",
    }


def environment() -> list[str]:
    """What a worker needs to unpickle what is pickled here: the same Python, since byte code is part of it."""
    major, minor, _ = platform.python_version_tuple()
    return [f"python=={major}.{minor}.*"]
