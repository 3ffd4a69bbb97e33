"""The budget of wall-clock time is the job's, not that of a process that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from swarm import Integer, Job, Random
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Resumed

OpenStore = Callable[..., Store]
JOB = Job(
    name="job",
    problem=lambda params, ctx: 0.0,
    space={"x": Integer(0, 10**6)},
    optimizer=Random(trials=100),
    stop={"seconds": 35.0},
)


def go_on(store: Store, now: float) -> Search:
    """Run the job from this moment on, two trainings of ten seconds at a time."""
    enroll(JOB, store)
    pool = VirtualPool(2, train=lambda _: 1.0, seconds=lambda _: 10.0)
    pool.now = now
    found = Search(JOB, store)
    asyncio.run(found.run(pool))
    return found


def stopped_at(seconds: float, open_store: OpenStore) -> Store:
    """A store whose job was begun at time 0 and whose master died at that time."""
    whole, store = open_store("whole"), open_store("stopped")
    go_on(whole, 0.0)
    enroll(JOB, store)
    store.append("job", 0, [event for event in whole.events("job") if event.time <= seconds])
    return store


@pytest.mark.parametrize("now", [10.0, 100_000.0])
def test_time_when_nobody_runs_the_job_does_not_count(now: float, open_store: OpenStore) -> None:
    store = stopped_at(10.0, open_store)
    found = go_on(store, now)
    assert (found.state.told, found.state.end_reason) == (8, "time used up")  # as many as without the break
    assert list(store.events("job"))[-1].time - found.state.since == 40.0


def test_time_without_a_master_counts_if_the_trainings_ran_on(open_store: OpenStore) -> None:
    store = stopped_at(10.0, open_store)
    written = len(list(store.events("job")))
    store.append("job", written, [Resumed(version="1", joined=True, time=30.0)])
    found = go_on(store, 30.0)
    assert (found.state.told, found.state.end_reason) == (4, "time used up")
    assert list(store.events("job"))[-1].time - found.state.since == 40.0
