"""What a cluster that scales by itself needs to see: tasks that wait for more workers than there are.

Dask asks for workers by the tasks that wait for one, and by how long those of their name take. Trainings themselves do
not wait at Dask, which would send them to workers that are busy; so tasks of their name stand for them, which nothing
ever runs.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable

from distributed import Client, Future

from swarm.pool.task_names import task_name

_NEVER = {"swarm-wish": 1}  # of which no worker has any
_MOST = 200  # Dask counts no more of them one by one


class Wishes:
    """The tasks that stand for trainings without a slot, where the cluster scales by itself.

    Args:
        client: An asynchronous client.
        scaling: Says whether it does; None is no.

    Attributes:
        scales: What it has said last.
    """

    def __init__(self, client: Client, scaling: Callable[[], Awaitable[bool]] | None = None) -> None:
        self.scales = False
        self._client = client
        self._scaling = scaling
        self._waiting: dict[object, int] = {}
        self._tasks: list[Future] = []

    async def look(self) -> None:
        """See whether the cluster scales by itself, now."""
        if self._scaling is not None:
            self.scales = await self._scaling()
            self._tell()

    def want(self, who: object, trainings: int) -> None:
        """Note how many of this one's trainings wait for a slot from now on."""
        if self._waiting.get(who, 0) != trainings:
            self._waiting[who] = trainings
            self._tell()

    def forget(self, who: object) -> None:
        """This one wants no slots any more."""
        self._waiting.pop(who, None)
        self._tell()

    def _tell(self) -> None:
        number = min(max(0, sum(self._waiting.values())), _MOST) if self.scales else 0
        self._tasks = [task for task in self._tasks if task.status == "pending"]  # else the scheduler was restarted
        with contextlib.suppress(Exception):  # a client that is connecting: the next call will do
            while len(self._tasks) > number:
                self._tasks.pop().release()
            while len(self._tasks) < number:
                name = task_name("fitness", f"wish{uuid.uuid4().hex}")
                self._tasks.append(self._client.submit(_nothing, key=name, resources=_NEVER, pure=False))


def _nothing() -> None:
    """Never runs."""
