"""The note on a trial: a field to write it in where that may be done, else its text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bokeh.layouts import column, row
from bokeh.models.widgets import Button, Div, TextAreaInput

from swarm.dashboard.board import Shows
from swarm.dashboard.theme import WIDGETS
from swarm.service.published.snapshot import Point


class NoteField:
    """The note on the trial that is looked at.

    Args:
        board: What is shown, which keeps the notes.
        written: Called when a note was written.

    Attributes:
        root: What is shown, once there is a trial.
    """

    def __init__(self, board: Shows, written: Callable[[], None]) -> None:
        self._board, self._written = board, written
        self._job = ""
        self._point: Point | None = None
        self._known: str | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._answers: list[str | None] = []  # what came of the last note, until it is shown
        self._text = TextAreaInput(title="note", rows=2, max_length=2000, width=320, stylesheets=[WIDGETS])
        self._keep = Button(label="keep note", width=100, stylesheets=[WIDGETS])
        self._keep.on_click(self._write)
        self._said = Div(disable_math=True, render_as_text=True, align="center")
        self.root = column(self._text, row(self._keep, self._said), visible=False)

    def show(self, job: str, point: Point) -> None:
        """Show the note on this trial."""
        self._job, self._point, self._known = job, point, None
        self.update()
        self._say("" if self._board.writes(job) else "notes can be read here, not written")

    def update(self) -> None:
        """Show what became of a note, and the note as it is now, if somebody has changed it."""
        if self._point is None:
            return
        if self._answers:
            self._done(self._answers.pop())
        notes, may = self._board.notes(self._job), self._board.writes(self._job)
        for part in (self._text, self._keep):
            part.disabled = not may
        known = (notes or {}).get(self._point.trial, "")
        self.root.visible = notes is not None and (may or bool(known))
        if known != self._known:
            self._known = self._text.value = known

    def _write(self) -> None:
        if self._point is None:
            return
        answer = self._board.write_note(self._job, self._point.trial, self._point.key, self._text.value or "")
        if answer is None or isinstance(answer, str):
            self._done(answer)
            return
        self._say("…")
        task = asyncio.ensure_future(self._written_later(answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _written_later(self, answer: Awaitable[str | None]) -> None:
        """Keep the answer for the next update: only there may the page change."""
        self._answers = [await answer]

    def _done(self, refused: str | None) -> None:
        self._say(refused or "kept")
        if refused is None:
            self._written()

    def _say(self, text: str) -> None:
        if self._said.text != text:
            self._said.text = text
