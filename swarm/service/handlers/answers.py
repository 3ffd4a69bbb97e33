"""Each kind of request has its answer: it changes something, or reads what the store has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from swarm.service import ended_jobs
from swarm.service.handlers.access import Access
from swarm.service.handlers.admission import Admission
from swarm.service.handlers.control import Control
from swarm.service.handlers.trials import Trials
from swarm.service.handlers.weights import Weights
from swarm.service.hosted import Means
from swarm.service.requests import PAGE, Describe, Enqueue, Events, Jobs, OfTrials, Request, Steer, Submit, Weigh
from swarm.store.sql import Store


class Answers:
    """Has each request done by whom it concerns.

    Args:
        means: What all jobs of the master use.
        access: Who may read which jobs.
        admission: Takes jobs in.
        control: Changes what becomes of them.
        weights: Those of the users.
        trials: What is known of single trials.
    """

    def __init__(
        self,
        means: Means,
        access: Access,
        admission: Admission,
        control: Control,
        weights: Weights,
        trials: Trials,
    ) -> None:
        self._means = means
        self._store = means.store
        self._access = access
        self._trials = trials
        self._changes: dict[type, Callable[[Any, str], Awaitable[dict[str, Any]]]] = {
            Submit: admission.submit,
            Steer: control.steer,
            Enqueue: control.enqueue,
            Weigh: weights.weigh,
        }

    async def answer(self, request: Request, user: str) -> Any:
        """The answer to a request, as plain data.

        Args:
            request: What is asked for.
            user: Who asks.

        Raises:
            SwarmError: It is refused, or cannot be done; the text says why.
        """
        if type(request) in self._changes:
            return await self._changes[type(request)](request, user)
        if isinstance(request, Jobs):
            return await self._means.in_store(lambda: ended_jobs.page(self._store, request, self._access.reader(user)))
        if isinstance(request, OfTrials):
            return await self._trials.answer(request, user)
        assert isinstance(request, Events | Describe)
        await self._access.check_reader(request.name, user)
        if isinstance(request, Events):
            name, after = request.name, request.after
            return await self._means.in_store(lambda: _page(self._store, name, after))
        described = request.name
        return (await self._means.in_store(lambda: self._store.job(described))).spec


def _page(store: Store, name: str, after: int) -> list[Any]:
    """A page of a job's journal, as plain data. In a thread."""
    return [[event.kind, event.data, event.time] for event in store.events(name, after, PAGE)]
