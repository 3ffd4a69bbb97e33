"""What pages ask of single trials: what a training has left, and the notes that people wrote."""

from __future__ import annotations

from typing import Any

from swarm.errors import JobNotFound
from swarm.service.handlers.access import Access
from swarm.service.hosted import Means
from swarm.service.published.of_trials import Look, check_asked, in_time, write, written
from swarm.service.requests import Notes, OfTrials, WriteNote


class Trials:
    """Answers for the jobs of a master's store.

    Args:
        means: What all jobs of the master use.
        access: Who may read and steer which jobs.
        look: Reads what the training of an evaluation has left.
    """

    def __init__(self, means: Means, access: Access, look: Look) -> None:
        self._means = means
        self._access = access
        self._look = look

    async def answer(self, request: OfTrials, user: str) -> Any:
        """The answer to a request, as plain data.

        Raises:
            SwarmError: It is refused, or cannot be done; the text says why.
        """
        store, name = self._means.store, request.name
        if isinstance(request, WriteNote):
            owner = await self._access.owner_of(name)
            if owner is None:
                raise JobNotFound(f"there is no job {name!r}; list them with: swarm jobs")
            self._access.check_owner(owner, name, user)
            await self._means.in_store(lambda: write(store, request))
            return await self._means.in_store(lambda: written(store, name))
        await self._access.check_reader(name, user)
        if isinstance(request, Notes):
            return await self._means.in_store(lambda: written(store, name))
        await self._means.in_store(lambda: check_asked(store, request))
        found = await in_time(lambda: self._look(store, request.key))
        return found.to_dict()
