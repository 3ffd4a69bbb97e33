"""One worker process with several slots: who has which, what the pages show of it, and what its end costs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm import Integer, Job, Random
from swarm.cluster.connect import embedded, pool_on
from swarm.config import quiet_dask
from swarm.pool.dask_pool import DaskPool
from swarm.trial import Evaluation, Isolation, Result, Status, Trial
from swarm.workers.node.supervisor import make_slots

quiet_dask()
BOTH = pytest.mark.parametrize("isolation", ["process", "thread"])


def waits(folder: Path) -> Callable[..., dict[str, float]]:
    """A training that says that it is there, and ends once it may, or as it is told."""

    def train(params: Any, ctx: Any) -> dict[str, float]:
        x, server = params["x"], psutil.Process().parent()
        first = not (folder / f"here {x}").exists()
        (folder / f"here {x}").touch()
        while not (folder / f"go {x}").exists():
            time.sleep(0.01)
        match (folder / f"go {x}").read_text() if first else "":
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill the worker":
                server.parent().kill()
                time.sleep(60)
        return {"fitness": float(x), "pid": os.getpid(), "server": server.pid}

    return train


def job_of(folder: Path, isolation: Isolation) -> Job:
    space = {"x": Integer(0, 9)}
    return Job(name="job", problem=waits(folder), space=space, optimizer=Random(trials=1), isolation=isolation)


def evaluations(job: Job, *numbers: int) -> list[Evaluation]:
    return [job.evaluations(Trial(id=x, params={"x": x}))[0] for x in numbers]


@asynccontextmanager
async def pool_of(job: Job, slots: int = 2) -> AsyncIterator[tuple[Any, DaskPool]]:
    async with embedded(make_slots(slots=slots)) as client, pool_on(client, job, None) as pool, asyncio.timeout(120):
        await pool.wait_for_slots(60)
        assert pool.slots == slots
        yield client, pool


async def ended(pool: DaskPool, number: int) -> dict[str, Result]:
    found: dict[str, Result] = {}
    while len(found) < number:
        found |= {result.key: result for result in await pool.next()}
    return found


async def until_there(folder: Path, *numbers: int) -> None:
    while not all((folder / f"here {x}").exists() for x in numbers):
        await asyncio.sleep(0.01)


def go(folder: Path, *numbers: int, how: str = "") -> None:
    for x in numbers:
        (folder / "told").write_text(how)
        (folder / "told").rename(folder / f"go {x}")


@BOTH
async def test_each_slot_has_a_row_that_names_what_it_trains(tmp_path: Path, isolation: Isolation) -> None:
    job = job_of(tmp_path, isolation)
    names = [slot.name for slot in make_slots(slots=3)]
    first, second = evaluations(job, 1, 2)
    async with pool_of(job, 3) as (client, pool):
        pool.submit([first, second])
        await until_there(tmp_path, 1, 2)
        rows = await client.scheduler.swarm_slots()
        go(tmp_path, 1, 2)
        found = await ended(pool, 2)
        after = await client.scheduler.swarm_slots()
        health = (await client.scheduler.swarm_hello())["health"]
    assert [row["slot"] for row in rows] == [row["slot"] for row in after] == names
    assert {row["slot"]: row["key"] for row in rows if row["key"]} == {
        result.slot: key for key, result in found.items()
    }
    assert health["workers"] == 1
    assert health["slots"]["GPU"]["offered"] == 3


@BOTH
async def test_a_worker_that_dies_takes_all_its_trainings_along_and_none_is_blamed(
    tmp_path: Path, isolation: Isolation
) -> None:
    job = job_of(tmp_path, isolation)
    both = evaluations(job, 1, 2)
    async with pool_of(job) as (_, pool):
        pool.submit(both)
        await until_there(tmp_path, 1, 2)
        go(tmp_path, 1, how="kill the worker")
        lost = await ended(pool, 2)
        assert {result.status for result in lost.values()} == {Status.LOST}
        assert not any(result.blamed for result in lost.values())
        assert all("went away" in str(result.error) for result in lost.values())
        await pool.wait_for_slots(60)
        go(tmp_path, 2)
        pool.submit(both)
        assert {result.status for result in (await ended(pool, 2)).values()} == {Status.OK}


@BOTH
async def test_a_training_that_dies_is_blamed_and_its_neighbour_goes_on(tmp_path: Path, isolation: Isolation) -> None:
    job = job_of(tmp_path, isolation)
    first, second = evaluations(job, 1, 2)
    async with pool_of(job) as (_, pool):
        pool.submit([first, second])
        await until_there(tmp_path, 1, 2)
        go(tmp_path, 1, how="die")
        died = (await ended(pool, 1))[first.key]
        go(tmp_path, 2)
        trained = (await ended(pool, 1))[second.key]
    assert (died.status, died.blamed, trained.status) == (Status.CRASHED, True, Status.OK)
    assert "SIGKILL" in str(died.error)


async def test_cheap_functions_have_a_process_per_slot_that_stays(tmp_path: Path) -> None:
    job = job_of(tmp_path, "thread")
    found = []
    async with pool_of(job) as (_, pool):
        for pair in ((1, 2), (3, 4), (5, 6)):
            pool.submit(evaluations(job, *pair))
            await until_there(tmp_path, *pair)
            go(tmp_path, *pair)
            found += (await ended(pool, 2)).values()
    pids = {result.metrics["pid"] for result in found}
    assert len(pids) == 2, "one for each slot"
    assert pids.isdisjoint({result.metrics["server"] for result in found})
    assert len({(result.slot, result.metrics["pid"]) for result in found}) == 2
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)
