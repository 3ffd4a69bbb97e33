"""How a client asks the service: one question, one connection, which is closed after the answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from distributed.comm.core import Comm, FatalCommClosedError
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
from swarm.steering.ended_trial import Endings, OnTrial, said_to_stop
from swarm.store.events import Event, read_event

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0  # the scheduler itself waits for the master for half as long
_POLL_SECONDS = 0.5
_RETRY_SECONDS = 0.25
_WITHOUT_ANSWER = "has not answered"  # a master that is there, and may have done what it was asked for
_SILENT_SECONDS = 5.0  # a master that was not heard for so long does not answer

_log = logging.getLogger("swarm.client")
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


class _NeverThere(SchedulerUnreachable):
    """No scheduler will ever answer at this address."""


class Connection:
    """Asks the service behind a Dask scheduler.

    Why not one connection that stays open? A laptop may sleep between two questions, and the scheduler be restarted.

    Args:
        address: The scheduler's address.
        user: Who asks, where no certificate says it.
        arguments: What Dask's ``connect`` needs beside the address, such as the TLS context.
        patience: Seconds to wait for a scheduler and a master that are still starting, or are being replaced.
    """

    def __init__(self, address: str, user: str, arguments: dict[str, Any], patience: float = 0.0) -> None:
        self._address = address
        self._user = user
        self._arguments = arguments
        self._patience = patience

    @asynccontextmanager
    async def open(self, *, at_once: bool = False) -> AsyncIterator[Line]:
        """A line to the scheduler.

        Args:
            at_once: Do not wait for a scheduler that is still starting.

        Raises:
            SchedulerUnreachable: Nothing answers at the address.
        """
        comm = await self._connected() if at_once else await self._patiently(SchedulerUnreachable, self._connected)
        try:
            yield Line(comm, self._address, self._user)
        finally:
            comm.abort()

    async def ask(self, handler: str, *, at_once: bool = False, **arguments: Any) -> Any:
        """The answer to one question, as :meth:`Line.ask` gives it."""
        async with self.open(at_once=at_once) as line:
            return await line.ask(handler, **arguments)

    async def _connected(self) -> Comm:
        """A connection to the scheduler."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):  # Dask's own limit does not hold for the greeting
                return await connect(self._address, timeout=_CONNECT_SECONDS, **self._arguments)
        except (FatalCommClosedError, ValueError) as error:  # a certificate, or an address, that is never taken
            raise _NeverThere(self._unreachable(error)) from None
        except (OSError, TimeoutError) as error:
            raise SchedulerUnreachable(self._unreachable(error)) from None

    def _unreachable(self, error: Exception) -> str:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"no scheduler answers at {self._address} ({reason}); is it started, and is your certificate its own?"

    async def _patiently(self, missing: type[SwarmError], work: Callable[[], Awaitable[T]]) -> T:
        """Do what needs a scheduler or master that may still be starting: wait for it as long as there is patience."""
        deadline, said = time.monotonic() + self._patience, False
        while True:
            try:
                return await work()
            except missing as error:
                if (
                    isinstance(error, _NeverThere)
                    or _WITHOUT_ANSWER in str(error)
                    or time.monotonic() + _RETRY_SECONDS > deadline
                ):
                    raise
                if not said:
                    _log.warning("%s; waiting for that, at most %g s", error, self._patience)
                said = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def call(self, method: str, data: dict[str, Any], blob: bytes = b"") -> Any:
        """The answer to one request, as :meth:`Line.call` gives it."""

        async def called() -> Any:
            async with self.open() as line:
                return await line.call(method, data, blob)

        return await self._patiently(NoMaster, called)

    async def steer(self, method: str, name: str, **data: Any) -> JobState:
        """Where a job stands after a request that changes it."""
        return JobState.of(await self.call(method, {"name": name, **data}))

    async def jobs(self, limit: int | None, state: str | None) -> list[JobState]:
        """Where the jobs stand: the latest that have ended, in the order of their ends, then those that go on.

        Args:
            limit: At most so many that have ended; None for all.
            state: Only those in this state; None for all.
        """

        async def asked() -> tuple[list[JobState], list[JobState]]:
            async with self.open() as line:
                mirrored = await line.states(None)
                if state is not None and state not in ENDED:
                    return mirrored, []
                states = [] if state is None else [state]
                known = [each for each in reversed(mirrored) if each.ended and state in (None, each.state)][:limit]
                return mirrored, await _from_master(line, lambda: _ended(line, limit, states), known)

        mirrored, ended = await self._patiently(NoMaster, asked)
        names = {each.name for each in ended}  # what has just ended is in both
        live = [each for each in mirrored if not each.ended and each.name not in names]
        return [*reversed(ended), *(each for each in live if state in (None, each.state))]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""

        async def asked() -> dict[str, int]:
            async with self.open() as line:

                async def counted() -> dict[str, int]:
                    return dict((await line.call("jobs", {"limit": 1}))["counts"])

                known = Counter(each.state for each in await line.states(None))
                return await _from_master(line, counted, dict(known))

        return await self._patiently(NoMaster, asked)

    async def state(self, name: str) -> JobState:
        """Where one job stands.

        Raises:
            JobNotFound: The service does not know it.
        """

        async def asked() -> list[JobState]:
            async with self.open() as line:
                states = await line.states([name])  # it may have ended long ago, and be known to the master alone
                return states or await _from_master(line, lambda: _long_ended(line, name), [])

        states = await self._patiently(NoMaster, asked)
        if not states:
            raise JobNotFound(f"the service has no job {name!r}; list them with: swarm jobs")
        return states[0]

    async def events(self, name: str, after: int = 0) -> list[Event]:
        """A job's journal, which arrives in pages; on request from event ``after`` on."""
        found: list[Event] = []

        async def read() -> None:
            async with self.open() as line:
                while page := await line.call("events", {"name": name, "after": after + len(found)}):
                    found.extend(read_event(*event) for event in page)

        await self._patiently(NoMaster, read)
        return found

    async def ended(
        self,
        name: str,
        timeout: float | None,
        on_change: Callable[[JobState], object],
        on_trial: OnTrial | None = None,
    ) -> JobState:
        """Wait until a job has ended, and return its last state.

        Args:
            name: Name of the job.
            timeout: Seconds to wait at most; None waits as long as it takes.
            on_change: Called with each new state.
            on_trial: Called with each trial that has ended; it may have the job stop.

        Raises:
            TimeoutError: It has not ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        last: JobState | None = None
        state: JobState | None
        trials = None if on_trial is None else _Trials(self, name, on_trial)
        while True:
            try:
                state = await self.state(name)
                if trials is not None and state != last:
                    await trials.tell(state)
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


class _Trials:
    """Tells a function of the user's of the trials of a job that have ended.

    Args:
        connection: Asks the service.
        name: Name of the job.
        on_trial: The function.
    """

    def __init__(self, connection: Connection, name: str, on_trial: OnTrial) -> None:
        self._connection, self._name, self._on_trial = connection, name, on_trial
        self._endings, self._read = Endings(), 0
        self._wants_end = False

    async def tell(self, state: JobState) -> None:
        """Tell it of those that have ended since, and have the job stop if it says so."""
        events = await self._connection.events(self._name, self._read)
        self._read += len(events)
        for trial in (trial for event in events for trial in self._endings.of(event)):
            self._wants_end = said_to_stop(self._on_trial, trial) is not None or self._wants_end
        if self._wants_end and not state.ended:
            with contextlib.suppress(InvalidInput):  # it has ended just now, or is being taken up: the next time
                await self._connection.steer("stop", self._name)
                self._wants_end = False


def _raise_error(answer: Any) -> None:
    """Raise what the service raised."""
    if isinstance(answer, dict) and "error" in answer:
        kind, text = answer["error"]
        found = getattr(errors, kind, None)
        raise found(text) if isinstance(found, type) and issubclass(found, SwarmError) else SwarmError(text)
