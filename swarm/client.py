"""The client of the service: submit a job, leave, come back from anywhere, look, steer.

It needs the scheduler's address alone. Every call opens a connection and closes it, so a laptop may sleep in between
and the scheduler be restarted.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import platform
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import Security
from distributed.core import connect, send_recv

from swarm import errors
from swarm.blocking import wait_for
from swarm.config import settings
from swarm.errors import InvalidInput, JobNotFound, NoMaster, NoService, SchedulerUnreachable, SwarmError
from swarm.job.job import Job
from swarm.job.stored_problem import advice
from swarm.main_guard import check_guarded
from swarm.service.job_state import ENDED, JobState
from swarm.store.events import Event, read_event
from swarm.trial import plain

if TYPE_CHECKING:
    import pandas as pd

    from swarm.search.state import SearchState

__all__ = ["ENDED", "Client", "JobHandle", "JobState", "environment"]


_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0  # the scheduler itself waits for the master for half as long
_POLL_SECONDS = 0.5
_log = logging.getLogger("swarm.client")

T = TypeVar("T")


class Client:
    """Talks to the service behind a Dask scheduler.

    Args:
        address: The scheduler's address, ``tcp://host:8786``; None takes Dask's own configuration
            (``DASK_SCHEDULER_ADDRESS``).
        asynchronous: Every method that talks returns an awaitable.
        security: TLS; None takes Dask's configuration (``distributed.comm.tls``).
        user: Who you are, where no certificate says it.

    Raises:
        InvalidInput: There is no address, or no certificate for one with TLS.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        asynchronous: bool = False,
        security: Security | None = None,
        user: str | None = None,
    ) -> None:
        address = address or settings().scheduler_address
        if address is None:
            raise InvalidInput("give the scheduler's address, tcp://host:8786, or set DASK_SCHEDULER_ADDRESS")
        self.address: str = address
        self.asynchronous = asynchronous
        self._user = user or getpass.getuser()
        self._arguments = (security or Security()).get_connection_args("client")
        if self.address.startswith("tls://") and self._arguments["ssl_context"] is None:
            raise InvalidInput(
                f"{self.address} speaks TLS, but you have no certificate: set Dask's distributed.comm.tls.ca-file, "
                "distributed.comm.tls.client.cert and distributed.comm.tls.client.key (DASK_CONFIG=…/tls.yaml)"
            )

    def __repr__(self) -> str:
        return f"<swarm.Client {self.address}>"

    # --- what a user calls

    def submit(self, job: Job, *, priority: float = 1.0, most: int | None = None, retry_failed: bool = False) -> Any:
        """Submit a job, and leave it to the master; the same job again goes on with it.

        Args:
            job: What to search.
            priority: Its share of the slots is in proportion to its priority.
            most: It never uses more slots than this; None is no limit.
            retry_failed: Train again what has failed in it, if it has ended: it goes on from before its first failure,
                and nothing that succeeded is trained twice.

        Returns:
            Its :class:`JobHandle`.

        Raises:
            JobConflict: There is another job of that name.
            InvalidInput: Failed trainings of a job that has not ended cannot be trained again yet.
            NoMaster, NoService, SchedulerUnreachable: There is nobody to take it.
        """
        check_guarded("Client.submit()")
        if said := advice(job.name, job.code.pickle):
            _log.warning(said)
        data = {
            "spec": job.to_dict(),
            "priority": float(priority),
            "most": plain(most),
            "environment": environment(),
            **({"retry_failed": True} if retry_failed else {}),  # which an earlier master would not know
        }
        return self._then(self._call("submit", data, job.code.pickle), lambda _: JobHandle(self, job.name))

    def jobs(self) -> Any:
        """The states of all jobs, a list of :class:`JobState`."""
        return self._then(self._states(None), lambda states: states)

    def attach(self, name: str) -> Any:
        """The :class:`JobHandle` of a job that somebody submitted.

        Raises:
            JobNotFound: There is none of that name.
        """
        return self._then(self._states([name]), lambda _: JobHandle(self, name))

    def hello(self) -> Any:
        """Version of the service, and whether a master is there: ``{"version": …, "master": True}``.

        Raises:
            NoService, SchedulerUnreachable: There is no service.
        """
        return self._then(self._ask("swarm_hello"), lambda answer: answer)

    def slots(self) -> Any:
        """What each slot of the cluster trains now, a list; see :func:`swarm.scheduler.slot_status.occupancy`."""
        return self._then(self._ask("swarm_slots"), lambda slots: slots)

    # --- inside

    async def _states(self, names: list[str] | None) -> list[JobState]:
        answer = await self._ask("swarm_states", names=names)
        _raise_error(answer)
        states = [JobState(**json.loads(state)) for state in answer]
        if names is not None and len(states) < len(names):
            raise JobNotFound(f"the service has no job {names[0]!r}; list them with: swarm jobs")
        return states

    async def _call(self, method: str, data: dict[str, Any], blob: bytes = b"") -> Any:
        answer = await self._ask("swarm_call", method=method, data=json.dumps(data), blob=blob, user=self._user)
        _raise_error(answer)
        return json.loads(answer["ok"])

    async def _ask(self, handler: str, **arguments: Any) -> Any:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):  # Dask's own limit does not hold for the greeting
                comm = await connect(self.address, timeout=_CONNECT_SECONDS, **self._arguments)
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SchedulerUnreachable(
                f"no scheduler answers at {self.address} ({reason}); is it started, and is your certificate its own?"
            ) from None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await send_recv(comm, op=handler, **arguments)
        except TimeoutError:
            raise SchedulerUnreachable(
                f"the scheduler at {self.address} has not answered for {_ANSWER_SECONDS:.0f} s; does it hang?"
            ) from None
        except OSError as error:
            raise SchedulerUnreachable(f"the scheduler at {self.address} hung up: {error}") from None
        finally:
            comm.abort()
        if answer is None:
            raise NoService(f"the scheduler at {self.address} has no service for jobs; start it with: swarm scheduler")
        return answer

    def _then(self, work: Coroutine[Any, Any, T], finish: Callable[[T], Any]) -> Any:
        """The finished answer, or in an asynchronous client what to await for it."""

        async def both() -> Any:
            return finish(await work)

        return both() if self.asynchronous else wait_for(both)


class JobHandle:
    """A job of the service. In an asynchronous client its methods return awaitables.

    Args:
        client: The client.
        name: Name of the job.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    def __repr__(self) -> str:
        return f"<swarm.JobHandle {self.name} at {self.client.address}>"

    def _repr_html_(self) -> str:
        return f"<code>{self!r}</code>" if self.client.asynchronous else str(self.state()._repr_html_())

    def state(self) -> Any:
        """Where the job stands: a :class:`JobState`.

        Raises:
            JobNotFound: The service does not know it.
        """
        return self.client._then(self.client._states([self.name]), lambda states: states[0])

    @property
    def status(self) -> Any:
        """``active``, ``paused``, ``finished``, ``cancelled`` or ``failed``."""
        return self.client._then(self.client._states([self.name]), lambda states: states[0].state)

    @property
    def best(self) -> Any:
        """The best trial so far: ``{"trial": id, "params": {…}, "fitness": …, "metrics": {…}}``, or None."""
        return self.client._then(self.client._states([self.name]), lambda states: states[0].best)

    @property
    def priority(self) -> Any:
        """Its share of the slots is in proportion to its priority; it can be set."""
        return self.client._then(self.client._states([self.name]), lambda states: states[0].priority)

    @priority.setter
    def priority(self, priority: float) -> None:
        if self.client.asynchronous:
            raise TypeError("with an asynchronous client: await handle.share(priority=…)")
        self.share(priority=priority)

    def events(self) -> Any:
        """The job's journal, a list of :class:`~swarm.store.Event`."""
        return self.client._then(self._events(), lambda events: events)

    @property
    def history(self) -> Any:
        """One row per trial, a data frame; see :func:`swarm.runs.history.trials` for the columns."""
        return self.client._then(self._events(), _trials)

    def search(self) -> Any:
        """What the job's journal tells, a :class:`~swarm.search.SearchState`."""

        async def replayed() -> SearchState:
            spec = await self.client._call("describe", {"name": self.name})
            from swarm.search.state import replay

            return replay(Job.from_dict(spec, b""), await self._events())

        return self.client._then(replayed(), lambda search: search)

    def wait(
        self,
        progress: bool = False,
        timeout: float | None = None,
        on_change: Callable[[JobState], None] | None = None,
    ) -> Any:
        """Wait until the job has ended; you may stop waiting at any time, it goes on.

        Args:
            progress: Show how it goes.
            timeout: Seconds to wait at most.
            on_change: Called with each new state.

        Returns:
            The last :class:`JobState`.

        Raises:
            TimeoutError: It has not ended in time.
        """
        if not progress:
            return self.client._then(self._wait(timeout, on_change or (lambda _: None)), lambda state: state)
        from swarm.terminal.progress import JobProgress, console

        async def shown() -> JobState:
            with JobProgress(console()) as show:
                return await self._wait(timeout, show)

        return self.client._then(shown(), lambda state: state)

    def cancel(self) -> Any:
        """End it for good, trainings included. What was trained stays in the archive."""
        return self._steer("cancel")

    def pause(self) -> Any:
        """Start no more trainings; those that run end as they are."""
        return self._steer("pause")

    def resume(self) -> Any:
        """Go on after a pause."""
        return self._steer("resume")

    def share(self, priority: float | None = None, most: int | None = None) -> Any:
        """Give it another share of the slots.

        Args:
            priority: The share is in proportion to this; None leaves it.
            most: It never uses more slots than this, 0 is no limit; None leaves it.
        """
        return self._steer("share", priority=None if priority is None else float(priority), most=plain(most))

    # --- inside

    def _steer(self, method: str, **data: Any) -> Any:
        return self.client._then(
            self.client._call(method, {"name": self.name, **data}), lambda state: JobState(**state)
        )

    async def _events(self) -> list[Event]:
        found: list[Event] = []
        while True:
            page = await self.client._call("events", {"name": self.name, "after": len(found)})
            if not page:
                return found
            found += [read_event(*event) for event in page]

    async def _wait(self, timeout: float | None, on_change: Callable[[JobState], None]) -> JobState:
        deadline = None if timeout is None else time.monotonic() + timeout
        last: JobState | None = None
        state: JobState | None
        while True:
            try:
                [state] = await self.client._states([self.name])
            except (SchedulerUnreachable, NoMaster) as error:
                if last is None and isinstance(error, SchedulerUnreachable):
                    raise  # perhaps it is the wrong address
                state = last  # the scheduler is being restarted, or waits for its master
            if state is not None and state != last:
                on_change(state)
                last = state
            if state is not None and state.ended:
                return state
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.name} has not ended in {timeout:g} s; it goes on")
            await asyncio.sleep(_POLL_SECONDS)


def _raise_error(answer: Any) -> None:
    """Raise what the service raised."""
    if isinstance(answer, dict) and "error" in answer:
        kind, text = answer["error"]
        found = getattr(errors, kind, None)
        raise found(text) if isinstance(found, type) and issubclass(found, SwarmError) else SwarmError(text)


def environment() -> list[str]:
    """What a worker needs to unpickle what is pickled here: the same Python, since byte code is part of it."""
    major, minor, _ = platform.python_version_tuple()
    return [f"python=={major}.{minor}.*"]


def _trials(events: list[Event]) -> pd.DataFrame:
    from swarm.runs.history import trials

    return trials(iter(events))
