"""How a client asks the service: one question, one connection, which is closed after the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from distributed.core import connect, send_recv

from swarm import errors
from swarm.errors import JobNotFound, NoMaster, NoService, SchedulerUnreachable, SwarmError
from swarm.service.job_state import JobState
from swarm.store.events import Event, read_event

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0  # the scheduler itself waits for the master for half as long
_POLL_SECONDS = 0.5


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

    async def ask(self, handler: str, **arguments: Any) -> Any:
        """The answer of a handler that our plugin has installed in the scheduler.

        Raises:
            SchedulerUnreachable: The scheduler does not answer in time, or hangs up.
            NoService: The scheduler has no such handler.
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
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await send_recv(comm, op=handler, **arguments)
        except TimeoutError:
            raise SchedulerUnreachable(
                f"the scheduler at {self._address} has not answered for {_ANSWER_SECONDS:.0f} s; does it hang?"
            ) from None
        except OSError as error:
            raise SchedulerUnreachable(f"the scheduler at {self._address} hung up: {error}") from None
        finally:
            comm.abort()
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

    async def steer(self, method: str, name: str, **data: Any) -> JobState:
        """Where a job stands after a request that changes it."""
        return JobState(**await self.call(method, {"name": name, **data}))

    async def states(self) -> list[JobState]:
        """Where all jobs stand."""
        return await self._states(None)

    async def state(self, name: str) -> JobState:
        """Where one job stands.

        Raises:
            JobNotFound: The service does not know it.
        """
        states = await self._states([name])
        if not states:
            raise JobNotFound(f"the service has no job {name!r}; list them with: swarm jobs")
        return states[0]

    async def _states(self, names: list[str] | None) -> list[JobState]:
        answer = await self.ask("swarm_states", names=names)
        _raise_error(answer)
        return [JobState.read(state) for state in answer]

    async def events(self, name: str) -> list[Event]:
        """A job's journal, which arrives in pages."""
        found: list[Event] = []
        while page := await self.call("events", {"name": name, "after": len(found)}):
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


def _raise_error(answer: Any) -> None:
    """Raise what the service raised."""
    if isinstance(answer, dict) and "error" in answer:
        kind, text = answer["error"]
        found = getattr(errors, kind, None)
        raise found(text) if isinstance(found, type) and issubclass(found, SwarmError) else SwarmError(text)
