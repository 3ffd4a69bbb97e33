"""The note on a trial: a field to write it in where that may be done, else its text."""

from __future__ import annotations

from collections.abc import Callable

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
        self._text = TextAreaInput(title="note", rows=2, max_length=2000, width=320, stylesheets=[WIDGETS])
        self._keep = Button(label="keep note", width=100, stylesheets=[WIDGETS])
        self._keep.on_click(self._write)
        self._said = Div(disable_math=True, render_as_text=True, align="center")
        self.root = column(self._text, row(self._keep, self._said), visible=False)

    def show(self, job: str, point: Point) -> None:
        """Show the note on this trial."""
        notes = self._board.notes(job)
        self._job, self._point = job, point
        self.root.visible = notes is not None
        self._text.value = (notes or {}).get(point.trial, "")
        self._say("")

    def _write(self) -> None:
        if self._point is None:
            return
        refused = self._board.write_note(self._job, self._point.trial, self._point.key, self._text.value or "")
        self._say(refused or "kept")
        if refused is None:
            self._written()

    def _say(self, text: str) -> None:
        if self._said.text != text:
            self._said.text = text
