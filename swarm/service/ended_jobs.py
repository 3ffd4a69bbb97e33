"""Jobs that have ended: nobody keeps them in memory, whoever asks for them gets them from the store by the page."""

from __future__ import annotations

import logging
from typing import Any

from swarm.errors import StoreDamaged
from swarm.service.job_state import ended_state
from swarm.service.requests import Jobs
from swarm.store.records import State
from swarm.store.sql import Store

_log = logging.getLogger("swarm.master")


def page(store: Store, request: Jobs) -> dict[str, Any]:
    """A page of the jobs that have ended, as plain data.

    Args:
        store: Where they are.
        request: Which page.

    Returns:
        ``states`` as :class:`swarm.service.job_state.JobState` has them, the latest first; ``next``, what ``when`` and
        ``last`` of the request for the next page are, or None if this one is the last; ``counts``, how many jobs are
        in each state.
    """
    if request.name is not None:
        return {"states": _one(store, request.name), "next": None, "counts": {}}
    after = None if request.when is None else (request.when, request.last)
    states = [State(each) for each in request.states]
    rows = store.ended(request.limit, after, states=states, on_damage=_tell)
    last = rows[-1][1] if rows else None
    return {
        "states": [ended_state(job, submission) for job, submission in rows],
        "next": None if last is None or len(rows) < request.limit else [last.ended, last.job],
        "counts": {state.value: number for state, number in store.counts().items()},
    }


def _one(store: Store, name: str) -> list[dict[str, Any]]:
    submission = store.submission(name)
    return [] if submission is None or not submission.state.ended else [ended_state(store.job(name), submission)]


def _tell(name: str, error: StoreDamaged) -> None:
    _log.warning("job %s is not listed: %s", name, error)
