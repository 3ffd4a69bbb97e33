"""Trainings of several replicas on a real Dask cluster: together or not at all, and nobody else pays for one's end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from swarm import Integer, Job, Random
from swarm.cluster.connect import embedded, slots_of
from swarm.config import quiet_dask
from swarm.errors import InvalidJob, NoSlots
from swarm.job import Stop
from swarm.pool.dask_pool import DaskPool
from swarm.pool.slots import Slots
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Result, Status, Trial
from swarm.workers.node.supervisor import make_slots

pytestmark = pytest.mark.asyncio(loop_scope="module")
quiet_dask()
SLOTS = 3


def fit(params: Any, ctx: Any) -> dict[str, float]:
    """Least squares by gradient descent; returns the weights."""
    replicas, rng = ctx.replicas, np.random.default_rng(1)
    x = rng.normal(size=(101, 3))
    y = x @ np.array([1.0, -2.0, 3.0])
    weights = replicas.start(np.zeros(3))
    for step in range(60):
        whole = np.arange(step * 7, step * 7 + 7) % len(x)
        mine = whole[replicas.rank :: replicas.size] if replicas.sync else whole
        change = -0.1 * x[mine].T @ (x[mine] @ weights - y[mine]) / len(whole)
        if replicas.sync:
            weights = weights + replicas.mean(replicas.size * change)
        elif step % replicas.size == replicas.rank:
            weights = replicas.push(change)
    if not replicas.sync:
        weights = replicas.settle()
    error = float(np.abs(weights - [1.0, -2.0, 3.0]).max())
    return {"fitness": -error, **{f"w{i}": float(weight) for i, weight in enumerate(weights)}}


def job_of(problem: Any, name: str = "job", **changes: Any) -> Job:
    defaults = {"space": {"x": Integer(0, 999)}, "optimizer": Random(trials=4), "test": False}
    return Job(**{"name": name, "problem": problem, **defaults, **changes})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Slots]:
    async with embedded(make_slots(slots=SLOTS)) as client, slots_of(client) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def slots(cluster: Slots) -> Slots:
    """Three slots, all of them there."""
    async with DaskPool(cluster, b"", replicas=SLOTS) as pool:
        await pool.wait_for_slots(60)
    return cluster


async def trained(slots: Slots, job: Job, **changes: Any) -> Result:
    async with DaskPool(slots, job.code.pickle, replicas=job.replicas, **changes) as pool:
        pool.submit(job.evaluations(Trial(id=0, params={"x": 3})))
        while not (ended := await pool.next()):
            pass
        return ended[0]


async def test_replicas_train_together_what_one_trains_alone(slots: Slots) -> None:
    alone = await trained(slots, job_of(fit))
    assert alone.status is Status.OK
    for replicas in (2, 3):
        both = await trained(slots, job_of(fit, replicas=replicas))
        assert both.status is Status.OK, both.error
        for name in ("w0", "w1", "w2"):
            assert both.metrics[name] == pytest.approx(alone.metrics[name], abs=1e-6)
        assert both.key != alone.key
    free = await trained(slots, job_of(fit, replicas=2, sync=False))
    assert free.fitness == pytest.approx(alone.fitness, abs=0.1)
    assert slots.used() == 0


async def searched(slots: Slots, store: Store, job: Job) -> tuple[Search, DaskPool]:
    enroll(job, store)
    search = Search(job, store)
    async with DaskPool(slots, job.code.pickle, replicas=job.replicas) as pool:
        await search.run(pool)
    return search, pool


async def test_jobs_of_one_two_and_three_replicas_share_three_slots_to_the_end(slots: Slots, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "swarm.db"))
    jobs = [job_of(fit, f"job-{size}", replicas=size) for size in (1, 2, 3)]
    found = await asyncio.wait_for(asyncio.gather(*(searched(slots, store, job) for job in jobs)), 120)
    for search, pool in found:
        assert search.state.counts["trained"] == 4 and search.state.counts["failed"] == 0
        assert pool.share.used == 0
        assert pool.share.seconds >= 0.9 * search.job.replicas * search.state.trained_seconds
    store.close()


def dying(folder: Path, whom: str) -> Any:
    """A training whose second replica dies in its first attempt; each attempt leaves a line for every replica."""

    def train(params: Any, ctx: Any) -> float:
        import os
        import signal

        import psutil

        replicas = ctx.replicas
        with (folder / "begun").open("a") as log:
            log.write(f"{params['x']}/{replicas.rank}\n")
        replicas.start(np.zeros(2))
        if replicas.rank == 1 and params["x"] == 3 and not (folder / "died").exists():
            (folder / "died").touch()
            worker = psutil.Process().parent().ppid()
            os.kill({"itself": os.getpid(), "its worker": worker}[whom], signal.SIGKILL)
            signal.pause()
        return float(replicas.mean(np.full(1, 0.5))[0])

    return train


@pytest.mark.parametrize(("whom", "status"), [("itself", Status.CRASHED), ("its worker", Status.LOST)])
async def test_a_killed_replica_costs_only_its_own_training(
    slots: Slots, tmp_path: Path, whom: str, status: Status
) -> None:
    store = Store(str(tmp_path / "swarm.db"))
    job = job_of(dying(tmp_path, whom), space={"x": Integer(1, 4)}, optimizer=Random(trials=4), replicas=2)
    other = job_of(fit, "other", optimizer=Random(trials=12))
    (search, _), (beside, _) = await asyncio.gather(searched(slots, store, job), searched(slots, store, other))
    again = [event.data for event in store.events("job") if event.kind == "again"]
    assert {event["status"] for event in again} == {status}
    assert [event["key"] for event in again if event["blamed"]] == [again[0]["key"]] * (whom == "itself")
    assert search.state.counts["failed"] == beside.state.counts["failed"] == 0
    beside_it = {event.data["status"] for event in store.events("other") if event.kind == "again"}
    assert beside_it <= ({Status.LOST} if whom == "its worker" else set())  # all slots of the machine are its worker's
    begun = Counter((tmp_path / "begun").read_text().split())
    assert begun == {f"{x}/{rank}": 2 if x == 3 else 1 for x in (1, 2, 3, 4) for rank in (0, 1)}
    store.close()


async def test_a_replica_that_fails_fails_its_training_with_its_own_reason(slots: Slots) -> None:
    def train(params: Any, ctx: Any) -> float:
        if ctx.replicas.rank == 1:
            raise MemoryError("no room on this machine")
        return float(ctx.replicas.mean(np.ones(1))[0])

    result = await trained(slots, job_of(train, replicas=2))
    assert result.status is Status.FAILED
    assert str(result.error).startswith("MemoryError: no room on this machine")


async def test_replicas_that_find_too_few_slots_are_refused(slots: Slots) -> None:
    async with DaskPool(slots, b"", replicas=4) as pool:
        with pytest.raises(NoSlots, match="has 3 GPU slots, and a training takes 4; start some"):
            await pool.wait_for_slots(0.1)


async def test_a_training_has_replicas_or_several_gpus() -> None:
    with pytest.raises(InvalidJob, match="several replicas, or several GPUs on one machine: give one of them"):
        job_of(fit, replicas=2, gpus_per_training=2)


async def test_gpu_hours_count_every_replica(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "swarm.db"))
    job = job_of(fit, replicas=4, stop=Stop(gpu_hours=1))
    enroll(job, store)
    search = Search(job, store)
    search.state.trained_seconds = 1000
    assert search.state.gpu_seconds == 4000
    store.close()
