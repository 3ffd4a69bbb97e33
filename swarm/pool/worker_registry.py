"""Which slots a Dask cluster has, kept up to date while workers come and go and the scheduler is restarted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from distributed import Client

from swarm.errors import ClusterError
from swarm.pool.task_names import GPU

_RECOUNT_SECONDS = 0.1
_LOOK_SECONDS = 10.0  # between two looks at the scheduler, where there is no news of it


class WorkerRegistry:
    """The workers of a cluster, with the slots that each offers now.

    Args:
        client: An asynchronous client.
        topics: What else to hear of: handlers by Dask event topic, which a new scheduler is told of again.
    """

    def __init__(self, client: Client, topics: Mapping[str, Callable[[Any], None]]) -> None:
        self._client = client
        self._topics = {"all": self._on_event, **topics}
        self._workers: dict[str, Mapping[str, int]] = {}  # slots by resource, by worker address
        self._stale = asyncio.Event()
        self._scheduler: str | None = None  # which one we have subscribed at
        self._gone: ClusterError | None = None
        self._address = ""  # of the scheduler

    def total(self, resource: str = GPU) -> int:
        """Number of slots of this class, over all workers."""
        return sum(slots.get(resource, 0) for slots in self._workers.values())

    def workers(self) -> int:
        """Number of workers, whatever they offer."""
        return len(self._workers)

    def classes(self) -> set[str]:
        """The classes of the slots that there are."""
        return {name for slots in self._workers.values() for name, amount in slots.items() if amount}

    def wide(self, resource: str = GPU) -> bool:
        """Whether there are workers that offer slots of this class, and each of these has several."""
        offered = [slots[resource] for slots in self._workers.values() if slots.get(resource)]
        return bool(offered) and min(offered) > 1

    @property
    def gone(self) -> bool:
        """Whether the scheduler is gone for good."""
        return self._gone is not None

    def check(self) -> None:
        """See that there is a scheduler, or that it may come back.

        Raises:
            ClusterError: Dask's client has given it up.
        """
        self._note_the_end()
        if self._gone is not None:
            raise self._gone

    def doubt(self) -> None:
        """Look again: the scheduler may be another one, with other workers."""
        self._stale.set()

    def strike(self, address: str) -> None:
        """This worker is gone."""
        self._workers.pop(address, None)

    async def count(self) -> bool:
        """Ask the scheduler; whether anything has changed.

        Raises:
            OSError: It cannot be reached at the moment.
        """
        before = self._workers
        self._address = self._client.scheduler.address
        found = await self._client.scheduler.identity(n_workers=-1)
        if self._scheduler != found["id"]:
            if self._client.status == "running":  # else it is connecting, and what it says has to wait
                self._listen()
                self._scheduler = found["id"]
            self._doubt_soon()  # who has joined before it heard of us
        self._workers = {
            address: {
                name: min(int(amount), worker["nthreads"])
                for name, amount in worker["resources"].items()
                if name.startswith(GPU)
            }
            for address, worker in found["workers"].items()
            if worker["status"] == "running"
        }
        if len(self._workers) < len(found["workers"]):  # one has only just come, or is paused: Dask passes it over
            self._doubt_soon()
        return self._workers != before

    async def keep(self, look: Callable[[], Awaitable[None]]) -> None:
        """Call ``look()``, which counts, whenever there is news, and now and then without; until the scheduler is gone.

        Dask's client closes itself when the scheduler did not come back in time.
        """
        while not self.gone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):  # wait_for would lose a cancellation in the same moment
                    await self._stale.wait()
            self._stale.clear()
            try:
                await look()
            except Exception:
                self._doubt_soon()  # the client is reconnecting
                self._note_the_end()

    def _note_the_end(self) -> None:
        """Dask's client closes itself when the scheduler did not come back in time."""
        if self._gone is None and self._client is not None and self._client.status in ("closing", "closed"):
            self._gone = ClusterError(
                f"the scheduler at {self._address} went away and did not come back; what has ended is kept: when it is "
                "there, the same command goes on"
            )

    def unlisten(self) -> None:
        """Hear of nothing any more."""
        for topic in self._topics:
            with contextlib.suppress(Exception):  # a client that is closing may have dropped it by itself
                self._client.unsubscribe_topic(topic)

    def _listen(self) -> None:
        """Hear of workers and results; a scheduler that was restarted knows of no subscription."""
        self.unlisten()
        for topic, handler in self._topics.items():
            self._client.subscribe_topic(topic, handler)

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") in ("add-worker", "remove-worker"):
            self.doubt()

    def _doubt_soon(self) -> None:
        asyncio.get_running_loop().call_later(_RECOUNT_SECONDS, self.doubt)
