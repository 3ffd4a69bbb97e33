"""The client of the service: submit a job, leave, come back from anywhere, look, steer.

It needs the scheduler's address alone. Every call opens a connection and closes it, so a laptop may sleep in between
and the scheduler be restarted.
"""

from __future__ import annotations

import getpass
import logging
import platform
from collections.abc import Callable, Coroutine, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from distributed import Security

from swarm.blocking import wait_for
from swarm.client.connection import Connection
from swarm.config import settings
from swarm.errors import InvalidInput, InvalidSpace
from swarm.job.job import Job
from swarm.job.stored_problem import advice
from swarm.main_guard import check_guarded
from swarm.service.health import health_in
from swarm.service.published.job_state import ENDED, BestTrial, JobState
from swarm.space.constraint import Function
from swarm.steering.ended_trial import OnTrial
from swarm.store.events import Event
from swarm.store.records import State
from swarm.trial import plain, plain_data
from swarm.users_dask import Named, users_dask

if TYPE_CHECKING:
    import pandas as pd

    from swarm.search.state import SearchState

__all__ = ["ENDED", "AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "JobState", "environment"]


_log = logging.getLogger("swarm.client")

T = TypeVar("T")
Coming = Coroutine[Any, Any, T]  # what an asynchronous client gives: await it


class _Connected:
    """What clients of both kinds are made of. (Type checkers take ``__new__`` for the constructor of a class only if
    its ``__init__`` is inherited.)
    """

    def __init__(
        self,
        address: Named | None = None,
        *,
        asynchronous: bool = False,
        security: Security | None = None,
        user: str | None = None,
        patience: float | None = None,
    ) -> None:
        named = address or settings().scheduler_address
        if named is None:
            raise InvalidInput("give the scheduler's address, tcp://host:8786, or set DASK_SCHEDULER_ADDRESS")
        users = users_dask(named, beside=not asynchronous)
        self.address: str = users.address
        self.asynchronous = asynchronous
        arguments = (security or users.security or Security()).get_connection_args("client")
        if self.address.startswith("tls://") and arguments["ssl_context"] is None:
            raise InvalidInput(
                f"{self.address} speaks TLS, but you have no certificate: set Dask's distributed.comm.tls.ca-file, "
                "distributed.comm.tls.client.cert and distributed.comm.tls.client.key (DASK_CONFIG=…/tls.yaml)"
            )
        seconds = settings().client_patience_seconds if patience is None else float(patience)
        self._connection = Connection(self.address, user or getpass.getuser(), arguments, seconds)

    def __repr__(self) -> str:
        return f"<swarm.Client {self.address}>"

    def __enter__(self) -> Self:
        if self.asynchronous:
            raise TypeError("with an asynchronous client: async with Client(…, asynchronous=True) as client")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        """Nothing is left to close: every call opens a connection and closes it."""

    def _then(self, work: Coming[T]) -> T:
        """The answer, or in an asynchronous client what to await for it, as :class:`AsyncClient` has the types say."""
        return work if self.asynchronous else wait_for(lambda: work)  # type: ignore[return-value]


class Client(_Connected):
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
        check_guarded("Client.submit()")
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
        return self._then(self._connection.jobs(limit, state))

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

    def _handle(self, name: str) -> JobHandle:
        return (AsyncJobHandle if self.asynchronous else JobHandle)(self, name)


class JobHandle:
    """A job of the service: look how far it is, wait for it, steer it.

    The handle holds the job's name and no state, so that everything it tells is what the service knows at that moment.

    Args:
        client: The client that asks.
        name: Name of the job.

    Attributes:
        client: The client that asks.
        name: Name of the job.

    Example:
        ::

            from swarm import Client

            handle = Client("tcp://127.0.0.1:8786").attach("valley")
            print(handle.status)  # active
            handle.priority = 3  # three times the slots of a job of priority 1
            state = handle.wait(timeout=3600)
            print(state.end_reason, state.counts)
            print(handle.history.tail())
    """

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    def __repr__(self) -> str:
        return f"<swarm.JobHandle {self.name} at {self.client.address}>"

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>" if self.client.asynchronous else str(self.state()._repr_html_())

    def state(self) -> JobState:
        """Where the job stands: progress, best, errors, in one answer of the service.

        Raises:
            JobNotFound: The service does not know the job.
            NoService, SchedulerUnreachable: There is no service.
        """
        return self.client._then(self._connection.state(self.name))

    @property
    def status(self) -> str:
        """``active``, ``paused``, ``finished``, ``cancelled`` or ``failed``."""
        return self._now(lambda state: state.state)

    @property
    def best(self) -> BestTrial | None:
        """The best trial so far: ``{"trial": id, "params": {…}, "fitness": …, "metrics": {…}}``.

        None while no training has succeeded.
        """
        return self._now(lambda state: state.best)

    @property
    def priority(self) -> float:
        """The job's share of your slots is in proportion to its priority; assign another to change it."""
        return self._now(lambda state: state.priority)

    @priority.setter
    def priority(self, priority: float) -> None:
        if self.client.asynchronous:
            raise TypeError("with an asynchronous client: await handle.share(priority=…)")
        self.share(priority=priority)

    def events(self) -> list[Event]:
        """The job's journal, from its first event on."""
        return self.client._then(self._connection.events(self.name))

    @property
    def history(self) -> pd.DataFrame:
        """One row per trial, a data frame; see :func:`swarm.runs.history.trials` for the columns."""

        async def read() -> pd.DataFrame:
            from swarm.runs.history import trials

            return trials(iter(await self._connection.events(self.name)))

        return self.client._then(read())

    def search(self) -> SearchState:
        """What is known of the job's search, replayed from its journal."""

        async def replayed() -> SearchState:
            from swarm.search.state import replay

            spec = await self._connection.call("describe", {"name": self.name})
            return replay(Job.from_dict(spec, b""), await self._connection.events(self.name))

        return self.client._then(replayed())

    def wait(
        self,
        progress: bool = False,
        timeout: float | None = None,
        on_change: Callable[[JobState], object] | None = None,
        on_trial: OnTrial | None = None,
    ) -> JobState:
        """Wait until the job has ended. You may stop waiting at any time: the job goes on.

        A master or scheduler that is restarted meanwhile does not end the wait.

        Args:
            progress: Show how the job goes, live in a terminal.
            timeout: Seconds to wait at most; None waits as long as it takes.
            on_change: Called with each new state; not together with ``progress``, which shows them.
            on_trial: Called in this process with each trial that has ended, a :class:`swarm.EndedTrial`, from the first
                trial of the job on. If it returns True or raises :class:`swarm.StopSearch`, the job is :meth:`stopped
                <stop>`, and its end is waited for. What else it raises passes, and the job goes on.

        Returns:
            The last state of the job.

        Raises:
            TimeoutError: The job has not ended in time.
            JobNotFound: The service does not know the job.
            NoService, SchedulerUnreachable: There is no service.
        """
        if not progress:
            watch = on_change or (lambda _: None)
            return self.client._then(self._connection.ended(self.name, timeout, watch, on_trial))
        from swarm.terminal.progress import JobProgress, console

        async def shown() -> JobState:
            with JobProgress(console()) as show:
                return await self._connection.ended(self.name, timeout, show, on_trial)

        return self.client._then(shown())

    def cancel(self) -> JobState:
        """End the job for good, its running trainings included. What was trained stays in the archive.

        Raises:
            NotAllowed: The job is somebody else's; so for every method below.
        """
        return self._steer("cancel")

    def enqueue(self, *configurations: Mapping[str, Any]) -> JobState:
        """Have the job try configurations before any other: as soon as its method asks for the next trial.

        They count as its trials, and the method learns from them; what one lacks is drawn at random. A method with
        generations tries them in the next one. What the archive knows, it answers. They are journalled when this
        returns, so that they are tried whatever happens to the master.

        Args:
            *configurations: Hyper-parameters by name, whole or in part: ``{"rate": 0.01}``.

        Raises:
            InvalidInput: The job asks for nothing more, or one does not belong to its space; none is taken then.
        """
        return self._steer("enqueue", configurations=[plain_data(dict(each)) for each in configurations])

    def stop(self) -> JobState:
        """Have the job ask for nothing more, as a rule of ``stop`` would: what was asked for is trained, then it ends.

        It ends as finished; with a higher limit it may be submitted again to go on.
        """
        return self._steer("stop")

    def pause(self) -> JobState:
        """Start no more trainings of the job. Those that run are trained to their end."""
        return self._steer("pause")

    def resume(self) -> JobState:
        """Go on after a pause."""
        return self._steer("resume")

    def share(self, priority: float | None = None, most: int | None = None) -> JobState:
        """Give the job another share of the slots.

        Args:
            priority: The share is in proportion to this; None leaves it.
            most: The job never uses more slots than this, 0 is no limit; None leaves it.
        """
        return self._steer("share", priority=None if priority is None else float(priority), most=plain(most))

    # --- inside

    @property
    def _connection(self) -> Connection:
        return self.client._connection

    def _now(self, of: Callable[[JobState], T]) -> T:
        async def looked() -> T:
            return of(await self._connection.state(self.name))

        return self.client._then(looked())

    def _steer(self, method: str, **data: Any) -> JobState:
        return self.client._then(self._connection.steer(method, self.name, **data))


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


class AsyncJobHandle(JobHandle):
    """A :class:`JobHandle` whose methods and properties are awaitables: ``await handle.status``.

    Its priority is changed by ``await handle.share(priority=…)``, since an assignment cannot be awaited.

    Example:
        ::

            import asyncio
            from swarm import AsyncClient

            async def best_of(name: str) -> object:
                handle = await AsyncClient("tcp://127.0.0.1:8786").attach(name)
                await handle.wait()
                return await handle.best

            print(asyncio.run(best_of("valley")))
    """

    if TYPE_CHECKING:  # as for AsyncClient

        def state(self) -> Coming[JobState]: ...  # type: ignore[override]  # noqa: D102
        @property
        def status(self) -> Coming[str]: ...  # type: ignore[override]  # noqa: D102
        @property
        def best(self) -> Coming[BestTrial | None]: ...  # type: ignore[override]  # noqa: D102
        @property  # type: ignore[misc]
        def priority(self) -> Coming[float]: ...  # type: ignore[override]  # noqa: D102
        def events(self) -> Coming[list[Event]]: ...  # type: ignore[override]  # noqa: D102
        @property
        def history(self) -> Coming[pd.DataFrame]: ...  # type: ignore[override]  # noqa: D102
        def search(self) -> Coming[SearchState]: ...  # type: ignore[override]  # noqa: D102
        def wait(  # type: ignore[override]  # noqa: D102
            self,
            progress: bool = False,
            timeout: float | None = None,
            on_change: Callable[[JobState], object] | None = None,
            on_trial: OnTrial | None = None,
        ) -> Coming[JobState]: ...
        def cancel(self) -> Coming[JobState]: ...  # type: ignore[override]  # noqa: D102
        def enqueue(self, *configurations: Mapping[str, Any]) -> Coming[JobState]: ...  # type: ignore[override]  # noqa: D102
        def stop(self) -> Coming[JobState]: ...  # type: ignore[override]  # noqa: D102
        def pause(self) -> Coming[JobState]: ...  # type: ignore[override]  # noqa: D102
        def resume(self) -> Coming[JobState]: ...  # type: ignore[override]  # noqa: D102
        def share(  # type: ignore[override]  # noqa: D102
            self, priority: float | None = None, most: int | None = None
        ) -> Coming[JobState]: ...


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


def environment() -> list[str]:
    """What a worker needs to unpickle what is pickled here: the same Python, since byte code is part of it."""
    major, minor, _ = platform.python_version_tuple()
    return [f"python=={major}.{minor}.*"]
