"""Jobs that have ended: a client gets them from the store by the page, and one day they are deleted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from swarm.errors import LeaseLost, StoreDamaged
from swarm.search.deletion import Delete, Deletion, expired
from swarm.service.published.job_state import ended_state, outside
from swarm.service.requests import Jobs
from swarm.store.records import State
from swarm.store.sql import Store

_PAUSE_SECONDS = 60.0
_log = logging.getLogger("swarm.master")


def page(store: Store, request: Jobs, reader: str | None = None) -> dict[str, Any]:
    """A page of the jobs that have ended, as plain data.

    Args:
        store: Where they are.
        request: Which page.
        reader: Who asks, and may read what jobs of their own alone have found; None may read everybody's.

    Returns:
        ``states`` as :class:`swarm.service.published.job_state.JobState` has them, the latest first; ``next``, what
        ``when`` and ``last`` of the request for the next page are, or None if this one is the last; ``counts``, how
        many jobs are in each state, with the first page.
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
        "counts": {} if after else {state.value: number for state, number in store.counts().items()},
    }


async def keep_deleting(
    store: Store,
    seconds: float,
    deleting: Callable[[str | None], Delete],
    checkpoints: str | None = None,
    gone: Callable[[str], object] = lambda _: None,
) -> None:
    """Delete jobs that ended longer ago than they are kept, until cancelled; what they have trained stays.

    Args:
        store: Where they are.
        seconds: How long they are kept after their end.
        deleting: Gives what deletes checkpoints by key, from where they are.
        checkpoints: Where those are of jobs that do not say it themselves.
        gone: Told the name of each job that was deleted.

    Raises:
        LeaseLost: Another master has taken over the store.
    """
    while True:
        found = []
        try:
            found = await asyncio.to_thread(expired, store, time.time() - seconds)
            for each in found:
                if await asyncio.to_thread(_delete, each, deleting, checkpoints):
                    _log.info("job %s was deleted: it ended more than %.0f s ago", each.name, seconds)
                    gone(each.name)
        except LeaseLost:
            raise
        except Exception as error:  # the store, or the place of the checkpoints, is away: it is done later
            _log.warning("jobs that ended long ago are not deleted now: %s: %s", type(error).__name__, error)
            found = []
        await asyncio.sleep(0.0 if found else _PAUSE_SECONDS)


def _delete(gone: Deletion, deleting: Callable[[str | None], Delete], checkpoints: str | None) -> bool:
    return gone.do(deleting(gone.place or checkpoints) if gone.checkpoints else lambda _: None)


def _shown(state: dict[str, Any], reader: str | None) -> dict[str, Any]:
    return state if reader in (None, state["owner"]) or state.get("shared") else outside(state)


def _one(store: Store, name: str) -> list[dict[str, Any]]:
    submission = store.submission(name)
    return [] if submission is None or not submission.state.ended else [ended_state(store.job(name), submission)]


def _tell(name: str, error: StoreDamaged) -> None:
    _log.warning("job %s is not listed: %s", name, error)
