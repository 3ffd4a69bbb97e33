"""Buttons that pause, resume, cancel and prioritise the chosen job, for users who know the service's token.

A browser may send whatever it likes for what its page does not show: so each button asks whether the token was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from html import escape
from typing import Any, Protocol

from bokeh.layouts import row
from bokeh.models.widgets import Button, Div, NumericInput, PasswordInput

from swarm.dashboard.board import Shows
from swarm.dashboard.theme import WIDGETS
from swarm.store.records import State

_CONFIRM = 8  # updates of the page for which a first click on cancel counts: four seconds
_FIRST = "cancel"


class Desk(Protocol):
    """Takes what pages ask the master for; see :class:`swarm.scheduler.desk.PageDesk`."""

    @property
    def open(self) -> bool:
        """Whether there is a token, without which the pages only show."""

    def admits(self, token: str) -> bool:
        """Whether this is the token."""

    async def steer(self, method: str, name: str, **changes: Any) -> str | None:
        """Have the master do something to a job; why it did not, or None."""


class Steering:
    """The row of buttons above the table of jobs.

    Args:
        board: What is shown.
        desk: Takes what is asked for.
        admit: Called when the token was given.

    Attributes:
        root: What is shown.
    """

    def __init__(self, board: Shows, desk: Desk, admit: Callable[[], None] = lambda: None) -> None:
        self._board, self._desk, self._admit = board, desk, admit
        self._admitted, self._job, self._left, self._shown = False, "", 0, ("", 0.0)
        self._answer = ""
        self._tasks: set[asyncio.Task[None]] = set()
        looks: dict[str, Any] = {"align": "end", "stylesheets": [WIDGETS]}
        self._token = PasswordInput(title="token, to steer jobs", width=180, stylesheets=[WIDGETS])
        self._enter = Button(label="unlock", width=80, **looks)
        self._pause = Button(label="pause", width=80, **looks)
        self._cancel = Button(label=_FIRST, width=140, **looks)
        self._priority = NumericInput(
            title="priority", mode="float", low=1e-6, high=1e6, width=90, stylesheets=[WIDGETS]
        )
        self._set = Button(label="set priority", width=100, **looks)
        self._said = Div(disable_math=True, align="end")
        self._enter.on_click(self._unlock)
        self._token.on_change("value", lambda attr, old, new: self._unlock() if new else None)
        self._pause.on_click(self._pause_or_go_on)
        self._cancel.on_click(self._cancel_at_the_second)
        self._set.on_click(lambda: self._ask("share", priority=float(self._priority.value or 1.0)))
        self._locked, self._unlocked = (
            [self._token, self._enter],
            [self._pause, self._cancel, self._priority, self._set],
        )
        self.root = row(styles={"flex-wrap": "wrap"}, sizing_mode="stretch_width", visible=desk.open)
        self._arrange()

    def update(self, job: str | None) -> None:
        """Offer what can be done to this job."""
        if job != self._job:
            self._job, self._left, self._answer = job or "", 0, ""
        self._left = max(0, self._left - 1)
        shown = self._board.shown.get(self._job)
        state = {} if shown is None else shown.state
        there = state.get("state") in (State.ACTIVE, State.PAUSED)
        for button in (self._pause, self._cancel, self._set):
            button.disabled = not there
        self._pause.label = "unpause" if state.get("state") == State.PAUSED else "pause"
        self._cancel.label = "really cancel?" if self._left else _FIRST
        priority = state.get("priority")
        if isinstance(priority, int | float) and self._shown != (self._job, priority):
            self._shown = self._job, float(priority)
            self._priority.value = float(priority)
        said = f"<b>{escape(self._job)}</b> {escape(self._answer)}" if self._admitted else escape(self._answer)
        if self._said.text != said:
            self._said.text = said

    def _arrange(self) -> None:
        self.root.children = [*(self._unlocked if self._admitted else self._locked), self._said]

    def _unlock(self) -> None:
        given = self._token.value
        if not given or self._admitted:
            return
        self._admitted = self._desk.admits(given)
        if self._admitted:
            self._admit()
        self._token.value = ""
        self._answer = "" if self._admitted else "that is not the token; wait a second"
        self._arrange()
        self.update(self._job)

    def _pause_or_go_on(self) -> None:
        shown = self._board.shown.get(self._job)
        paused = shown is not None and shown.state.get("state") == State.PAUSED
        self._ask("resume" if paused else "pause")

    def _cancel_at_the_second(self) -> None:
        """Cancel at the second click, since nothing brings a job back."""
        if self._left:
            self._left = 0
            self._ask("cancel")
        else:
            self._left = _CONFIRM
            self._cancel.label = "really cancel?"

    def _ask(self, method: str, **changes: Any) -> None:
        if not self._admitted:
            return
        task = asyncio.get_running_loop().create_task(self._asked(self._job, method, changes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked(self, job: str, method: str, changes: dict[str, Any]) -> None:
        self._answer = "…"
        refusal = await self._desk.steer(method, job, **changes)
        self._answer = refusal or "done"
