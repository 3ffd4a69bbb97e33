"""Who may do what on the pages, without a browser."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import Any

import dask
import pytest
from bokeh.events import ButtonClick
from bokeh.models.widgets import Button

from swarm.config import settings
from swarm.dashboard.board import Shown
from swarm.dashboard.cluster.steering import Steering
from swarm.errors import InvalidInput
from swarm.scheduler.desk import PageDesk


class Asked:
    """A master that takes note of what it is asked for."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.requests = answer, list[tuple[str, dict[str, Any], str]]()

    async def __call__(self, method: str, data: str, user: str) -> dict[str, Any]:
        self.requests.append((method, json.loads(data), user))
        return self.answer


class Jobs:
    """A board with one job."""

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self.slots: list[str] = []
        self.shown = OrderedDict(job=Shown("master", {"state": "active", "priority": 1.0}))

    def curve(self, key: str) -> list[dict[str, float]]:
        return []

    def printed(self, key: str) -> str:
        return ""


def test_without_a_token_nobody_is_admitted() -> None:
    desk = PageDesk(Asked({}), None, None)
    assert not desk.open and not desk.admits("") and not desk.admits("None")
    assert not Steering(Jobs(), desk).root.visible


async def test_a_button_does_nothing_until_the_token_is_given() -> None:
    asked = Asked({"ok": "{}"})
    steering = Steering(Jobs(), PageDesk(asked, "a secret of mine", "ann"))
    steering.update("job")
    for _ in range(2):  # what a browser can send of what its page does not show
        for button in (steering._pause, steering._cancel, steering._set):
            click(button)
    await asyncio.sleep(0)
    assert asked.requests == []
    steering._token.value = "a secret of mine"
    assert steering._token.value == ""
    click(steering._pause)
    await asyncio.gather(*steering._tasks)
    assert asked.requests == [("pause", {"name": "job"}, "ann")]


def click(button: Button) -> None:
    """What happens when the browser says that a button was clicked."""
    button._trigger_event(ButtonClick(button))


async def test_a_refusal_is_said_and_what_is_no_steering_is_refused() -> None:
    asked = Asked({"error": ["NotAllowed", "job 'job' belongs to 'bob'"]})
    desk = PageDesk(asked, "a secret of mine", "ann")
    assert await desk.steer("pause", "job") == "job 'job' belongs to 'bob'"
    assert "may not ask" in (await desk.steer("submit", "job") or "")
    assert len(asked.requests) == 1


def test_after_a_wrong_token_none_is_looked_at_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("swarm.scheduler.desk.time.monotonic", lambda: now)
    desk = PageDesk(Asked({}), "a secret of mine", None)
    assert desk.admits("a secret of mine")
    assert not desk.admits("\ud800")
    assert not desk.admits("a secret of mine")
    now = 101.5
    assert desk.admits("a secret of mine")


def test_a_token_that_is_short_is_refused_and_none_is_shown_in_the_settings() -> None:
    with dask.config.set({"swarm.dashboard-token": "short"}), pytest.raises(InvalidInput, match="dashboard-token"):
        settings()
    with dask.config.set({"swarm.dashboard-token": "a secret of mine"}):
        assert "secret" not in repr(settings())
