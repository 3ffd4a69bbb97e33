"""Where a job stands, as plain data: what the master mirrors to the scheduler, for clients and pages."""

from __future__ import annotations

from typing import Any

from swarm.progress import Best
from swarm.search import Search
from swarm.store import StoredJob, Submission


def state_of(search: Search, submission: Submission) -> dict[str, Any]:
    """The state of a job that is being searched; see :class:`swarm.client.JobState` for what it holds."""
    job, best = search.job, search.best
    return {
        **_submitted(submission),
        "problem": job.code.name,
        "optimizer": type(job.optimizer).__name__,
        "direction": job.direction,
        "generation": search.generation,
        "told": search.told,
        "planned": search.optimizer.planned,
        "running": search.running,
        "counts": dict(search.counts),
        "trained_seconds": search.trained_seconds,
        "seconds_left": search.seconds_left,
        "best": None if best is None else _best(best),
        "tests": {str(fold): test.fitness for fold, test in search.tests.items()},
        "errors": dict(search.errors.most_common(3)),
        "trouble": search.trouble,
        "end_reason": search.end_reason,
    }


def ended_state(stored: StoredJob, submission: Submission) -> dict[str, Any]:
    """The last state of a job that is not searched any more."""
    nothing = {
        "problem": stored.spec["problem"]["name"],
        "optimizer": stored.spec["optimizer"]["name"],
        "direction": stored.spec["direction"],
        "generation": 0,
        "told": 0,
        "planned": None,
        "counts": {},
        "trained_seconds": 0.0,
        "best": None,
        "tests": {},
        "errors": {},
        "end_reason": None,
    }
    now: dict[str, Any] = {"running": 0, "trouble": None, "seconds_left": None}
    found = {**nothing, **(submission.summary or {}), **_submitted(submission), **now}
    if found["best"] is not None:
        found["best"] = {**found["best"], "metrics": found["best"].get("metrics", {})}  # an earlier version kept none
    return found


def _best(best: Best) -> dict[str, Any]:
    return {
        "trial": best.trial.id,
        "params": best.params,
        "fitness": best.fitness,
        "metrics": dict(best.metrics),
    }


def _submitted(submission: Submission) -> dict[str, Any]:
    return {
        "name": submission.job,
        "owner": submission.owner,
        "priority": submission.priority,
        "most": submission.most,
        "state": submission.state,
        "reason": submission.reason,
    }
