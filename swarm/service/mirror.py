"""Keeps the scheduler's mirror of the master's jobs, and what its pages show, up to date."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from distributed import Client

from swarm.blocking import in_thread
from swarm.service.hosted import Hosted
from swarm.service.protocol import SETTLED

_TOGETHER = 200_000  # characters of pictures that are sent at a time


class Mirror:
    """Tells the scheduler what has changed, one message after the other: the latest one is the newest.

    Args:
        client: An asynchronous client of the cluster.
        hosted: The jobs that the master runs, by name.
        thread: Where texts are written, which takes its time for a large picture.
    """

    def __init__(self, client: Client, hosted: Mapping[str, Hosted], thread: Executor) -> None:
        self._client = client
        self._hosted = hosted
        self._thread = thread
        self._left: list[Hosted] = []  # that have ended, and have something to tell yet
        self._last: dict[str, dict[str, Any]] = {}  # last states of jobs that are not hosted any more
        self._telling = asyncio.Lock()

    def ended(self, hosted: Hosted, state: dict[str, Any]) -> None:
        """A job is not hosted any more, and this is its last state."""
        self._left.append(hosted)
        self._last[hosted.name] = state

    async def reset(self) -> None:
        """Tell the states of all jobs, and that there are no others."""
        async with self._telling:
            await self._publish([hosted.state for hosted in self._hosted.values()], reset=True)

    async def update(self, asked: Iterable[dict[str, Any]] = ()) -> None:
        """Tell how jobs stand, where that has changed.

        Args:
            asked: States that somebody was told, and which are to be seen as soon as that.
        """
        async with self._telling:
            self._last |= {state["name"]: state for state in asked if state["name"] not in self._last}
            last, self._last = self._last, {}
            states = [state for name, state in last.items() if name not in self._hosted]
            for name, hosted in self._hosted.items():
                if hosted.changed or name in last:
                    hosted.changed = False
                    states.append(hosted.state)
            if states:
                await self._publish(states)

    async def draw(self) -> None:
        """Tell what there is to see of jobs whose states were told, and which results the journals have.

        One job after the other: the first pictures of many are large, and are not all in memory at a time.
        """
        telling, self._left = [*self._left, *self._hosted.values()], []
        views: dict[str, str] = {}
        for each in telling:
            if each.outlet is not None and (taken := each.outlet.taken()) is not None:
                views[each.name] = await in_thread(self._thread, taken)
            if sum(map(len, views.values())) > _TOGETHER:
                await self._show(views)
                views = {}
        if views:
            await self._show(views)
        settled = [key for each in telling for key in each.settled]
        for each in telling:
            each.settled = []
        if settled:
            await self._client.log_event(SETTLED, settled)

    async def _show(self, views: dict[str, str]) -> None:
        await self._client.scheduler.swarm_publish(states={}, views=views, publisher=self._client.id, reset=False)

    async def _publish(self, states: list[dict[str, Any]], *, reset: bool = False) -> None:
        named = await in_thread(self._thread, lambda: {state["name"]: json.dumps(state) for state in states})
        await self._client.scheduler.swarm_publish(states=named, views={}, publisher=self._client.id, reset=reset)
