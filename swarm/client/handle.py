"""The handle of a job: look how far it is, wait for it, steer it, from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

from swarm.client.base import BaseClient, Coming
from swarm.client.connection import Connection
from swarm.errors import SwarmError
from swarm.job.job import Job
from swarm.plain import plain, plain_data
from swarm.service.published.job_state import BestTrial, JobState
from swarm.steering.ended_trial import OnTrial
from swarm.store.events import Event

if TYPE_CHECKING:
    import pandas as pd

    from swarm.search.state import SearchState

T = TypeVar("T")


class JobHandle:
    """A job of the service: look how far it is, wait for it, steer it.

    The handle holds the job's name and no state, so that everything it tells is what the service knows at that moment.

    Args:
        client (Client): The client that asks.
        name: Name of the job.

    Attributes:
        client (Client): The client that asks.
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

    def __init__(self, client: BaseClient, name: str) -> None:
        self.client: Any = client  # a Client, whose own module needs this one
        self.name = name

    def __repr__(self) -> str:
        return f"<swarm.JobHandle {self.name} at {self.client.address}>"

    def _repr_html_(self) -> str:
        named = f"<code>{escape(repr(self))}</code>"
        if self.client.asynchronous:  # whose event loop would stand still
            return named
        try:
            return str(self.state()._repr_html_())
        except SwarmError as error:
            return f"{named}: {escape(str(error))}"

    def state(self) -> JobState:
        """Where the job stands: progress, best, errors, in one answer of the service.

        Raises:
            JobNotFound: The service does not know the job.
            NoService, SchedulerUnreachable: There is no service.
        """
        return self._then(self._connection.state(self.name))

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
        return self._then(self._connection.events(self.name))

    @property
    def history(self) -> pd.DataFrame:
        """One row per trial, a data frame; see :func:`swarm.runs.history.trials` for the columns."""

        async def read() -> pd.DataFrame:
            from swarm.runs.history import trials

            return trials(iter(await self._connection.events(self.name)))

        return self._then(read())

    def search(self) -> SearchState:
        """What is known of the job's search, replayed from its journal."""

        async def replayed() -> SearchState:
            from swarm.search.state import replay

            spec = await self._connection.call("describe", {"name": self.name})
            return replay(Job.from_dict(spec, b""), await self._connection.events(self.name))

        return self._then(replayed())

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
            return self._then(self._connection.ended(self.name, timeout, watch, on_trial))
        from swarm.terminal.progress import JobProgress
        from swarm.terminal.text import console

        async def shown() -> JobState:
            with JobProgress(console()) as show:
                return await self._connection.ended(self.name, timeout, show, on_trial)

        return self._then(shown())

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
        connection: Connection = self.client._connection
        return connection

    def _then(self, work: Coming[T]) -> T:
        client: BaseClient = self.client
        return client._then(work)

    def _now(self, of: Callable[[JobState], T]) -> T:
        async def looked() -> T:
            return of(await self._connection.state(self.name))

        return self._then(looked())

    def _steer(self, method: str, **data: Any) -> JobState:
        return self._then(self._connection.steer(method, self.name, **data))


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

    if TYPE_CHECKING:  # no override that a JobHandle could stand in for, which nothing asks of it

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
