"""A scheduler's pages as one visitor sees them: what the scheduler knows, and what lies where the store is, on request.

A scheduler sees no store. So what a training printed and left, and the notes on trials, are asked of the process
that runs the job, when a visitor looks at them; the page shows the answer when it comes.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from swarm.dashboard.board import Shown, Shows
from swarm.store.left import PICTURES, File, Left

_KEPT = 4  # trainings whose files are in memory for a visitor
_AGAIN_SECONDS = 5.0  # until notes are asked for again, and what could not be had
_NOT_SHOWN = "what it printed and left is shown to who gives the token, on the page Jobs"
_NEVER_SHOWN = "what it printed and left is not shown here: only its owner may read it (swarm.dashboard-token)"


class LookingDesk(Protocol):
    """Takes what pages ask for; see :class:`swarm.scheduler.desk.PageDesk`."""

    @property
    def open(self) -> bool:
        """Whether there is a token."""

    def reads(self, job: str, admitted: bool) -> bool:
        """Whether a visitor may read what is kept of a job's trials."""

    def writes(self, admitted: bool) -> bool:
        """Whether a visitor may write notes."""

    async def look(self, method: str, name: str, admitted: bool, **more: Any) -> dict[str, Any]:
        """Ask about the trials of a job, or write a note on one."""


class Visit:
    """What the pages show to one visitor; see :class:`swarm.dashboard.board.Shows`.

    Args:
        board: What the scheduler knows.
        desk: Takes what is asked for.

    Attributes:
        admitted: Whether the visitor has given the token.
    """

    def __init__(self, board: Shows, desk: LookingDesk) -> None:
        self._board, self._desk = board, desk
        self.admitted = False
        self._left: OrderedDict[str, Left | str] = OrderedDict()  # by key; a text says why it is not there
        self._notes: dict[str, dict[int, tuple[str, str]]] = {}  # key and text by trial, by job
        self._asked: dict[tuple[str, str], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def admit(self) -> None:
        """The visitor has given the token."""
        self.admitted = True

    @property
    def shown(self) -> OrderedDict[str, Shown]:
        """Jobs by name."""
        return self._board.shown

    @property
    def weights(self) -> dict[str, float]:
        """Of the users whose weight is not 1, by name."""
        return self._board.weights

    @property
    def slots(self) -> list[str]:
        """Names of the workers' slots, in order."""
        return self._board.slots

    def curve(self, key: str) -> Sequence[Mapping[str, float]]:
        """What an evaluation has reported on the way."""
        return self._board.curve(key)

    def left(self, job: str, key: str) -> Left | str:
        """What the training of an evaluation has left, or why that is not shown; an empty text until it is there."""
        if not self._desk.reads(job, self.admitted):
            return _NOT_SHOWN if self._desk.open else _NEVER_SHOWN
        known = self._left.get(key, "")
        if isinstance(known, str) and self._is_due("left", key):
            self._begin(self._look(job, key))
        return known

    def address(self, key: str, file: File) -> str | None:
        """Where a browser gets a file: a picture that has come along, from there; nothing else."""
        if file.kind not in PICTURES or file.content is None:
            return None
        return f"data:{PICTURES[file.kind]};base64,{b64encode(file.content).decode('ascii')}"

    def notes(self, job: str) -> Mapping[int, str] | None:
        """What people wrote on the trials of a job, by number, as of lately; None if the visitor may not read it."""
        if not self._desk.reads(job, self.admitted):
            return None
        if self._is_due("notes", job):
            self._begin(self._read_notes(job))
        view = self.shown[job].view if job in self.shown else None
        keys = {} if view is None else {point.trial: point.key for point in view.points}
        return {trial: text for trial, (key, text) in self._notes.get(job, {}).items() if keys.get(trial) == key}

    def writes(self, job: str) -> bool:
        """Whether the visitor may write notes on the trials of a job."""
        return self._desk.writes(self.admitted)

    def write_note(self, job: str, trial: int, key: str, text: str) -> Awaitable[str | None]:
        """Have a note written on a trial; why that was not done, or None."""
        return self._write(job, trial, key, text)

    # --- what is asked

    def _is_due(self, what: str, of: str) -> bool:
        """Whether it is time to ask, for the first time or again; it is asked then."""
        now = time.monotonic()
        if now - self._asked.get((what, of), float("-inf")) < _AGAIN_SECONDS:
            return False
        self._asked = {key: when for key, when in self._asked.items() if now - when < _AGAIN_SECONDS}
        self._asked[what, of] = now
        return True

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, job: str, key: str) -> None:
        answer = await self._desk.look("left", job, self.admitted, key=key)
        self._left[key] = _read(answer, Left.from_dict)
        self._left.move_to_end(key)
        while len(self._left) > _KEPT:
            self._left.popitem(last=False)

    async def _read_notes(self, job: str) -> None:
        self._take_notes(job, await self._desk.look("notes", job, self.admitted))

    async def _write(self, job: str, trial: int, key: str, text: str) -> str | None:
        answer = await self._desk.look("note", job, self.admitted, trial=trial, key=key, text=text)
        return self._take_notes(job, answer)

    def _take_notes(self, job: str, answer: dict[str, Any]) -> str | None:
        found = _read(answer, lambda rows: {int(trial): (str(key), str(text)) for trial, key, text in rows})
        if isinstance(found, str):
            return found
        self._notes[job] = found
        return None


def _read(answer: dict[str, Any], made: Callable[[Any], Any]) -> Any:
    """What an answer holds, or why it holds nothing, as a text."""
    if "error" in answer:
        return str(answer["error"][1])
    try:
        return made(json.loads(answer["ok"]))
    except (ValueError, TypeError, KeyError) as error:
        return f"the answer cannot be read: {type(error).__name__}"
