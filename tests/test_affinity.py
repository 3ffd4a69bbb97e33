"""A training that continues another goes to the machine that has the checkpoint, if that has a free slot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker

from swarm import Integer, Job, Random
from swarm.cluster.connect import pool_on
from swarm.config import SETTINGS, quiet_dask
from swarm.pool.dask_pool import DaskPool
from swarm.trial import Evaluation, Result, Trial

quiet_dask()
MACHINES = ("127.0.0.1", "127.0.0.2")
SLOTS_EACH = 2


@pytest.fixture(scope="module")
def job() -> Job:
    def train(params: Any, ctx: Any) -> float:
        import time
        from pathlib import Path

        if params["meeting"]:  # of four, who go on once all are there
            Path(params["meeting"], str(params["x"])).touch()
            while len(list(Path(params["meeting"]).iterdir())) < 4:
                time.sleep(0.01)
        return float(params["x"])

    space = {"x": Integer(0, 99), "meeting": ""}
    return Job(name="job", problem=train, space=space, optimizer=Random(trials=1), isolation="thread", test=False)


@asynccontextmanager
async def two_machines(job: Job) -> AsyncIterator[tuple[SpecCluster, DaskPool]]:
    """Two addresses of this machine, which Dask takes for two."""
    names = [f"{machine}:{number}" for machine in MACHINES for number in range(SLOTS_EACH)]
    offered = {"nthreads": 1, "resources": {"GPU": 1}, "memory_limit": 0, "dashboard": False}
    workers = {
        name: {"cls": Worker, "options": {**offered, "name": name, "host": name.partition(":")[0]}} for name in names
    }
    options = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0", "preload": ["swarm.scheduler"]}
    with dask.config.set(SETTINGS):
        cluster = SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": options}, asynchronous=True)
        async with cluster, Client(cluster, asynchronous=True) as client, pool_on(client, job, None) as pool:
            while pool.slots < len(workers):
                await pool.next()
            yield cluster, pool


def evaluation(job: Job, x: int, parent: Evaluation | None = None, meeting: str = "") -> Evaluation:
    made = job.evaluations(Trial(id=x, params={"x": x, "meeting": meeting}))[0]
    return made if parent is None else replace(made, parent=parent.key)


async def ended(pool: DaskPool, count: int) -> dict[str, Result]:
    found: dict[str, Result] = {}
    while len(found) < count:
        found |= {result.key: result for result in await pool.next()}
    return found


def machine(result: Result) -> str:
    assert result.fitness is not None, result.error
    return result.slot.partition(":")[0]


async def test_a_child_is_trained_where_its_parent_was(job: Job) -> None:
    async with two_machines(job) as (_, pool):
        parents = [evaluation(job, x) for x in range(4)]
        pool.submit(parents)
        places = {key: machine(result) for key, result in (await ended(pool, 4)).items()}
        assert set(places.values()) == set(MACHINES)
        for parent in parents:  # alone, so every slot is free
            child = evaluation(job, 10 + int(parent.params["x"]), parent)
            pool.submit([child])
            assert machine((await ended(pool, 1))[child.key]) == places[parent.key]


async def test_it_does_not_wait_for_that_machine(job: Job, tmp_path: Path) -> None:
    async with two_machines(job) as (_, pool):
        parent = evaluation(job, 0)
        pool.submit([parent])
        place = machine((await ended(pool, 1))[parent.key])
        children = [evaluation(job, x, parent, meeting=str(tmp_path)) for x in range(1, 5)]
        pool.submit(children)  # the first two fill the machine, but all four must run to end
        found = await ended(pool, 4)
        assert sorted(machine(found[each.key]) for each in children) == sorted([*MACHINES, *MACHINES])
        assert {machine(found[each.key]) for each in children[:2]} == {place}


async def test_a_machine_that_is_gone_is_not_missed(job: Job) -> None:
    async with two_machines(job) as (cluster, pool):
        parent = evaluation(job, 0)
        pool.submit([parent])
        gone = machine((await ended(pool, 1))[parent.key])
        for name in [name for name in cluster.workers if str(name).startswith(gone)]:
            await cluster.workers[name].close()
        while pool.slots > SLOTS_EACH:
            await pool.next()
        child = evaluation(job, 1, parent)
        pool.submit([child])
        assert machine((await ended(pool, 1))[child.key]) != gone


async def test_tasks_of_others_on_the_same_cluster_are_none_of_its_business(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_machines(job) as (cluster, _):
        caplog.set_level("INFO", "distributed.scheduler")
        async with Client(cluster, asynchronous=True) as other:
            assert await other.submit(sum, [1, 2], key=("chunk", 0)) == 3  # arrays of Dask have such keys
        assert "Plugin failed" not in caplog.text
