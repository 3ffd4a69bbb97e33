"""What a search tells the scheduler's pages: all that there is to see at first, then what has happened since."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from swarm.job.job import Job
from swarm.search.search import Search
from swarm.service.inbox import Inbox
from swarm.service.published.job_state import state_of
from swarm.service.published.snapshot import View
from swarm.store.events import Event, without_curve
from swarm.store.records import JobStatus, State, Submission

if TYPE_CHECKING:
    from distributed import Client

Answer = Callable[..., Awaitable[Any]]
_PUBLISH_SECONDS = 0.25
_UNSENT = 1000  # events that take about as much space as the whole picture


class Publisher:
    """Collects the events of one search until they are sent.

    Args:
        job: What is searched.
    """

    def __init__(self, job: Job) -> None:
        self._view = View(job.direction or "maximize")
        self._view.led = bool(job.targets or job.constraints)
        self._job = {key: value for key, value in job.to_dict().items() if key != "problem"}
        self._unsent: list[Event] | None = None  # None sends the whole picture

    def note(self, event: Event) -> None:
        """Something has happened: what a search calls with each event."""
        event = without_curve(event)
        self._view.apply(event)
        if self._unsent is not None:
            self._unsent.append(event)
            if len(self._unsent) > _UNSENT:
                self._unsent = None

    def memory(self) -> View:
        """What is shown now; it changes with what happens."""
        return self._view

    def recall(self, view: View) -> None:
        """Go on from what was shown once."""
        self._view, self._unsent = view, None

    def begin_again(self) -> None:
        """Send the whole picture next, to a scheduler that has lost what it was told."""
        self._unsent = None

    def message(self) -> str | None:
        """What to send, as JSON; None if nothing has happened since the last call."""
        taken = self.taken()
        return None if taken is None else taken()

    def taken(self) -> Callable[[], str] | None:
        """What gives the :meth:`message` of this moment, whatever happens meanwhile: in a thread, if it is a large one.

        None if there is none.
        """
        unsent, self._unsent = self._unsent, []
        if unsent is None:
            view = self._view.taken()
            return lambda: _picture(self._job, view())
        return (lambda: _events(unsent)) if unsent else None


def _picture(job: Mapping[str, Any], view: dict[str, Any]) -> str:
    """The whole picture, point by point: the interpreter goes on with nothing else while it writes one text."""
    points = _joined(view.pop("points"))
    return f'{{"job": {json.dumps(job)}, "view": {{"points": {points}, {json.dumps(view)[1:]}}}'


def _events(events: Sequence[Event]) -> str:
    return f'{{"events": {_joined([[event.kind, event.data, event.time] for event in events])}}}'


def _joined(parts: Sequence[Any]) -> str:
    return f"[{', '.join(map(json.dumps, parts))}]"


@asynccontextmanager
async def showing(client: Client, search: Search, outlet: Publisher, answer: Answer | None) -> AsyncIterator[None]:
    """Keep the pages of the client's scheduler up to date with a search; nothing where it has no such pages.

    Args:
        client: An asynchronous client of the cluster.
        search: The search.
        outlet: Has collected its events.
        answer: Answers what the pages ask about its trials; None leaves that unanswered.
    """
    if await client.scheduler.swarm_hello() is None:
        yield
        return
    chores: set[asyncio.Future[None]] = set()

    def watch(work: Awaitable[None]) -> None:
        chore = asyncio.ensure_future(work)
        chores.add(chore)
        chore.add_done_callback(chores.discard)

    inbox = None if answer is None else Inbox(client, answer, watch, None)
    if inbox is not None:
        inbox.open()
    submission = Submission(search.job.name, getpass.getuser())

    async def publish(state: str) -> None:
        message = outlet.message()
        if message is not None or state != State.ACTIVE:
            named: dict[str, Any] = {
                "states": {submission.job: json.dumps({**state_of(search.state, submission, search), "state": state})},
                "views": {} if message is None else {submission.job: message},
            }
            await client.scheduler.swarm_publish(publisher=client.id, **named)

    async def keep_publishing() -> None:
        while True:
            try:
                await publish(State.ACTIVE)
            except OSError:  # the scheduler is being restarted
                outlet.begin_again()
            await asyncio.sleep(_PUBLISH_SECONDS)

    chore = asyncio.ensure_future(keep_publishing())
    try:
        yield
    finally:
        if inbox is not None:
            inbox.close()
        for each in (chore, *chores):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # a nicety: the run does not depend on it
            await chore
        with contextlib.suppress(OSError):
            await publish(JobStatus.FINISHED if search.state.finished() else JobStatus.STOPPED)
