"""Jobs that have ended: nobody keeps them in memory, whoever asks for them gets them from the store by the page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swarm.errors import StoreDamaged
from swarm.search.deletion import Delete, expired
from swarm.service.job_state import ended_state, outside
from swarm.service.requests import Jobs
from swarm.store.records import State
from swarm.store.sql import Store

if TYPE_CHECKING:
    from swarm.service.hosted import Places

_log = logging.getLogger("swarm.master")


def page(store: Store, request: Jobs, reader: str | None = None) -> dict[str, Any]:
    """A page of the jobs that have ended, as plain data.

    Args:
        store: Where they are.
        request: Which page.
        reader: Who asks, and may read what jobs of their own alone have found; None may read everybody's.

    Returns:
        ``states`` as :class:`swarm.service.job_state.JobState` has them, the latest first; ``next``, what ``when`` and
        ``last`` of the request for the next page are, or None if this one is the last; ``counts``, how many jobs are
        in each state.
    """
    if request.name is not None:
        return {"states": [_shown(state, reader) for state in _one(store, request.name)], "next": None, "counts": {}}
    after = None if request.when is None else (request.when, request.last)
    states = [State(each) for each in request.states]
    rows = store.ended(request.limit, after, states=states, on_damage=_tell)
    last = rows[-1][1] if rows else None
    return {
        "states": [_shown(ended_state(job, submission), reader) for job, submission in rows],
        "next": None if last is None or len(rows) < request.limit else [last.ended, last.job],
        "counts": {state.value: number for state, number in store.counts().items()},
    }


def clear(store: Store, before: float, forgetting: Callable[[str | None], Delete], places: Places) -> int:
    """Delete some of the jobs that ended long ago, the oldest first; how many. Takes its time: in a thread.

    Args:
        store: Where they are.
        before: Those that have ended before this moment, seconds since the epoch.
        forgetting: Gives what deletes checkpoints by key, from where they are.
        places: Where trainings leave what others need.
    """
    found = expired(store, before)
    for each in found:
        each.do(forgetting(each.place or places.checkpoints))
        _log.info("job %s was deleted: it ended long ago", each.name)
    return len(found)


def _shown(state: dict[str, Any], reader: str | None) -> dict[str, Any]:
    return state if reader in (None, state["owner"]) else outside(state)


def _one(store: Store, name: str) -> list[dict[str, Any]]:
    submission = store.submission(name)
    return [] if submission is None or not submission.state.ended else [ended_state(store.job(name), submission)]


def _tell(name: str, error: StoreDamaged) -> None:
    _log.warning("job %s is not listed: %s", name, error)
