"""Servers of several problems in one worker, forked from a base that has imported the frameworks for them all."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from modules import put_away

from swarm import Integer, Job, Random
from swarm.cluster.connect import embedded, slots_of
from swarm.config import quiet_dask
from swarm.pool.dask_pool import DaskPool
from swarm.trial import Result, Status, Trial
from swarm.workers.node.supervisor import make_slots

quiet_dask()
PROBLEM = """
import os, sys
HAD = "tensorflow" in sys.modules
if "SWARM_CODE" in os.environ:  # where it trains
    {first}
    import tensorflow, keras

def train(params, ctx):
    server = os.getppid()
    (above,) = [line.split()[1] for line in open(f"/proc/{{server}}/status") if line.startswith("PPid:")]
    return {{"fitness": 1.0, "had": HAD, "above": int(above)}}
"""


def job_of(folder: Path, name: str, first: str) -> Job:
    """One whose module imports TensorFlow at its top, after it has said whether that was there already."""
    text = PROBLEM.format(first=first)
    (folder / f"{name}.py").write_text(text)
    space = {"x": Integer(0, 9)}
    return Job(name=name, problem=f"{folder / name}.py:train", space=space, optimizer=Random(trials=1))


@asynccontextmanager
async def one_worker() -> AsyncIterator[tuple[Any, Any]]:
    async with embedded(make_slots(slots=2)) as client, slots_of(client) as slots, asyncio.timeout(300):
        while slots.total() < 2:
            await asyncio.sleep(0.01)
        yield client, slots


async def trained(slots: Any, job: Job, x: int = 0) -> Result:
    async with DaskPool(slots, job.code.pickle) as pool:
        pool.submit(job.evaluations(Trial(id=x, params={"x": x})))
        while not (ended := await pool.next()):
            pass
    assert ended[0].status is Status.OK, ended[0].error
    return ended[0]


@pytest.mark.slow
async def test_a_framework_is_imported_once_for_all_problems_unless_one_wants_it_otherwise(tmp_path: Path) -> None:
    settings = dict.fromkeys(("one", "two", "other", "three"), "pass")
    settings["other"] = "os.environ['TF_NUM_INTEROP_THREADS'] = '2'"
    jobs = [job_of(tmp_path, name, first) for name, first in settings.items()]
    async with one_worker() as (client, slots):
        (worker,) = (await client.run(os.getpid)).values()
        first, second, other, third = [(await trained(slots, job, x)).metrics for x, job in enumerate(jobs)]
    assert [found["had"] for found in (first, second, other, third)] == [1, 1, 0, 1]
    assert {found["above"] for found in (first, second, other, third)} == {worker}


def tells(params: Any, ctx: Any) -> dict[str, float]:
    return {"fitness": params["x"], "server": os.getppid()}


def base_of(worker: int) -> psutil.Process:
    """The first child of the worker that serves no problem."""
    return min(psutil.Process(worker).children(), key=lambda child: child.pid)


async def test_servers_outlive_the_base_but_not_the_worker(tmp_path: Path) -> None:
    job = Job(name="a", problem=tells, space={"x": Integer(0, 9)}, optimizer=Random(trials=1))
    other = Job(name="b", problem=f"{__file__}:tells", space={"x": Integer(0, 9)}, optimizer=Random(trials=1))
    async with one_worker() as (client, slots):
        (worker,) = (await client.run(os.getpid)).values()
        server = int((await trained(slots, job)).metrics["server"])
        base = base_of(worker)
        assert base.pid != server
        base.kill()
        assert int((await trained(slots, job, 1)).metrics["server"]) == server
        assert (await trained(slots, other, 2)).fitness == 2, "another base, or none, is no trouble"
        below = psutil.Process(worker).children(recursive=True)
    _, alive = psutil.wait_procs(below, timeout=20)
    assert alive == []


async def test_a_server_that_dies_is_replaced_and_reaped(tmp_path: Path) -> None:
    job = Job(name="a", problem=tells, space={"x": Integer(0, 9)}, optimizer=Random(trials=1))
    async with one_worker() as (_, slots):
        server = int((await trained(slots, job)).metrics["server"])
        os.kill(server, 9)
        assert int((await trained(slots, job, 1)).metrics["server"]) != server
        assert not psutil.pid_exists(server)


def test_the_scout_lets_nobody_catch_what_it_says() -> None:
    from swarm.workers.isolation.scout import NeededError, Scout

    with put_away("tensorflow", "keras"), Scout(["keras"]) as scout:
        try:
            import tensorflow  # noqa: F401
        except Exception:
            pytest.fail("a problem that can do without would have caught it")
        except NeededError:
            pass
    assert scout.needed == ["tensorflow"]
    assert scout not in sys.meta_path
