"""How a client asks the service: one question, one connection, which is closed after the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from distributed.core import connect, send_recv

from swarm import errors
from swarm.errors import (
    InvalidInput,
    JobNotFound,
    NoMaster,
    NoService,
    SchedulerUnreachable,
    StoreUnavailable,
    SwarmError,
)
from swarm.service.published.job_state import ENDED, JobState
from swarm.service.requests import PAGE_OF_JOBS
from swarm.store.events import Event, read_event

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0  # the scheduler itself waits for the master for half as long
_POLL_SECONDS = 0.5
_SILENT_SECONDS = 5.0  # a master that was not heard for so long does not answer

T = TypeVar("T")


class Line:
    """A connection to the scheduler, for as many questions as belong together.

    Args:
        comm: Dask's connection.
        address: The scheduler's address.
        user: Who asks.
    """

    def __init__(self, comm: Any, address: str, user: str) -> None:
        self._comm = comm
        self._address = address
        self._user = user

    async def ask(self, handler: str, **arguments: Any) -> Any:
        """The answer of a handler that our plugin has installed in the scheduler.

        Raises:
            SchedulerUnreachable: The scheduler does not answer in time, or hangs up.
            NoService: The scheduler has no such handler.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await send_recv(self._comm, op=handler, **arguments)
        except TimeoutError:
            raise SchedulerUnreachable(
                f"the scheduler at {self._address} has not answered for {_ANSWER_SECONDS:.0f} s; does it hang?"
            ) from None
        except OSError as error:
            raise SchedulerUnreachable(f"the scheduler at {self._address} hung up: {error}") from None
        if answer is None:
            raise NoService(f"the scheduler at {self._address} has no service for jobs; start it with: swarm scheduler")
        return answer

    async def call(self, method: str, data: dict[str, Any], blob: bytes = b"") -> Any:
        """The master's answer to a request.

        Raises:
            SwarmError: What the master raised, and the errors of :meth:`ask`.
        """
        answer = await self.ask("swarm_call", method=method, data=json.dumps(data), blob=blob, user=self._user)
        _raise_error(answer)
        return json.loads(answer["ok"])

    async def states(self, names: list[str] | None) -> list[JobState]:
        """The states of these jobs, or of all, that the scheduler knows."""
        answer = await self.ask("swarm_states", names=names)
        _raise_error(answer)
        return [JobState.read(state) for state in answer]


class Connection:
    """Asks the service behind a Dask scheduler.

    Why not one connection that stays open? A laptop may sleep between two questions, and the scheduler be restarted.

    Args:
        address: The scheduler's address.
        user: Who asks, where no certificate says it.
        arguments: What Dask's ``connect`` needs beside the address, such as the TLS context.
    """

    def __init__(self, address: str, user: str, arguments: dict[str, Any]) -> None:
        self._address = address
        self._user = user
        self._arguments = arguments

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        """A line to the scheduler.

        Raises:
            SchedulerUnreachable: Nothing answers at the address.
        """
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):  # Dask's own limit does not hold for the greeting
                comm = await connect(self._address, timeout=_CONNECT_SECONDS, **self._arguments)
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SchedulerUnreachable(
                f"no scheduler answers at {self._address} ({reason}); is it started, and is your certificate its own?"
            ) from None
        try:
            yield Line(comm, self._address, self._user)
        finally:
            comm.abort()

    async def ask(self, handler: str, **arguments: Any) -> Any:
        """The answer to one question, as :meth:`Line.ask` gives it."""
        async with self.open() as line:
            return await line.ask(handler, **arguments)

    async def call(self, method: str, data: dict[str, Any], blob: bytes = b"") -> Any:
        """The answer to one request, as :meth:`Line.call` gives it."""
        async with self.open() as line:
            return await line.call(method, data, blob)

    async def steer(self, method: str, name: str, **data: Any) -> JobState:
        """Where a job stands after a request that changes it."""
        return JobState.of(await self.call(method, {"name": name, **data}))

    async def jobs(self, limit: int | None, state: str | None) -> list[JobState]:
        """Where the jobs stand: the latest that have ended, in the order of their ends, then those that go on.

        Args:
            limit: At most so many that have ended; None for all.
            state: Only those in this state; None for all.
        """
        async with self.open() as line:
            mirrored = await line.states(None)
            ended: list[JobState] = []
            if state is None or state in ENDED:
                states = [] if state is None else [state]
                known = [each for each in reversed(mirrored) if each.ended and state in (None, each.state)][:limit]
                ended = await _from_master(line, lambda: _ended(line, limit, states), known)
        names = {each.name for each in ended}  # what has just ended is in both
        live = [each for each in mirrored if not each.ended and each.name not in names]
        return [*reversed(ended), *(each for each in live if state in (None, each.state))]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        async with self.open() as line:

            async def counted() -> dict[str, int]:
                return dict((await line.call("jobs", {"limit": 1}))["counts"])

            return await _from_master(line, counted, dict(Counter(each.state for each in await line.states(None))))

    async def state(self, name: str) -> JobState:
        """Where one job stands.

        Raises:
            JobNotFound: The service does not know it.
        """
        async with self.open() as line:
            states = await line.states([name])
            if not states:  # it may have ended long ago
                states = await _from_master(line, lambda: _long_ended(line, name), [])
        if not states:
            raise JobNotFound(f"the service has no job {name!r}; list them with: swarm jobs")
        return states[0]

    async def events(self, name: str) -> list[Event]:
        """A job's journal, which arrives in pages."""
        found: list[Event] = []
        async with self.open() as line:
            while page := await line.call("events", {"name": name, "after": len(found)}):
                found += [read_event(*event) for event in page]
        return found

    async def ended(self, name: str, timeout: float | None, on_change: Callable[[JobState], object]) -> JobState:
        """Wait until a job has ended, and return its last state.

        Args:
            name: Name of the job.
            timeout: Seconds to wait at most; None waits as long as it takes.
            on_change: Called with each new state.

        Raises:
            TimeoutError: It has not ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        last: JobState | None = None
        state: JobState | None
        while True:
            try:
                state = await self.state(name)
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
                raise TimeoutError(f"job {name} has not ended in {timeout:g} s; it goes on")
            await asyncio.sleep(_POLL_SECONDS)


async def _from_master(line: Line, ask: Callable[[], Awaitable[T]], known: T) -> T:
    """What the master answers from its store; what the scheduler knows, if it cannot answer."""
    hello = await line.ask("swarm_hello")
    if not hello["master"] or (hello.get("heard") or 0.0) > _SILENT_SECONDS:
        return known
    try:
        return await ask()
    except (NoMaster, StoreUnavailable, InvalidInput):  # the last of an earlier version, which has no such request
        return known


async def _ended(line: Line, limit: int | None, states: list[str]) -> list[JobState]:
    """Jobs that have ended, which arrive in pages, the latest first."""
    found: list[JobState] = []
    left = limit
    place: dict[str, Any] = {}
    while left is None or left > 0:
        size = PAGE_OF_JOBS if left is None else min(left, PAGE_OF_JOBS)
        page = await line.call("jobs", {"limit": size, "states": states, **place})
        found += [JobState.of(state) for state in page["states"]]
        if page["next"] is None:
            break
        place = dict(zip(("when", "last"), page["next"], strict=True))
        left = None if left is None else left - size
    return found


async def _long_ended(line: Line, name: str) -> list[JobState]:
    return [JobState.of(state) for state in (await line.call("jobs", {"name": name}))["states"]]


def _raise_error(answer: Any) -> None:
    """Raise what the service raised."""
    if isinstance(answer, dict) and "error" in answer:
        kind, text = answer["error"]
        found = getattr(errors, kind, None)
        raise found(text) if isinstance(found, type) and issubclass(found, SwarmError) else SwarmError(text)
