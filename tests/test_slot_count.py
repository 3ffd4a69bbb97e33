"""Which of a cluster's slots count, those to which Dask gives work now, and whose they are."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker, get_worker
from distributed.core import Status

from swarm import Integer, Job, Random
from swarm.cluster import quiet_dask, slots_of
from swarm.dask_pool import DaskPool
from swarm.errors import InvalidInput
from swarm.runner import run
from swarm.trial import Status as Ended
from swarm.trial import Trial

quiet_dask()
OPTIONS = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


async def test_a_worker_that_takes_no_work_now_offers_no_slot_until_it_does() -> None:
    # Dask would queue its share behind the training of another worker, although a slot becomes free in a moment.
    async with (
        Scheduler(port=0, **OPTIONS) as scheduler,
        Worker(scheduler.address, resources={"GPU": 1}, nthreads=1, **OPTIONS) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        worker.status = Status.paused  # or it has registered a moment ago, and is not ready
        while scheduler.running:
            await client.scheduler.identity()
        async with slots_of(client) as slots:
            assert slots.total() == 0
            worker.status = Status.running
            while not slots.total():
                await client.scheduler.identity()
            assert slots.total() == 1


async def test_a_run_on_slots_that_a_master_divides_is_sent_to_the_master(tmp_path: Path) -> None:
    job = Job(name="job", problem=lambda params, ctx: 0.0, space={"x": Integer(0, 9)}, optimizer=Random(trials=1))
    async with (
        Scheduler(port=0, preload=["swarm.scheduler"], **OPTIONS) as scheduler,
        Client(scheduler.address, asynchronous=True) as master,
    ):
        await master.scheduler.swarm_attach(master=master.id, term=0)
        with pytest.raises(InvalidInput, match="swarm submit JOB.yaml --scheduler tcp://"):
            await asyncio.to_thread(run, job, scheduler=scheduler.address, store=f"{tmp_path}/own.db", progress=False)
    assert list(tmp_path.iterdir()) == []


def endless(params: Any, ctx: Any) -> float:
    """Until its worker closes."""
    worker = get_worker()
    while worker.status is Status.running:
        time.sleep(0.05)
    return 0.0


async def test_slots_are_heard_of_again_when_the_scheduler_was_started_anew() -> None:
    worker = {"resources": {"GPU": 1}, "nthreads": 1, **OPTIONS}
    first = await Scheduler(port=0, **OPTIONS)
    address, port = first.address, first.port
    old = [await Worker(address, **worker) for _ in range(2)]
    job = Job(name="job", problem=endless, space={"x": Integer(0, 9)}, optimizer="Grid", isolation="thread")
    async with (
        Client(address, asynchronous=True) as client,
        slots_of(client) as slots,
        DaskPool(slots, job.code.pickle) as pool,
    ):
        assert slots.total() == 2
        pool.submit(job.evaluations(Trial(id=0, params={"x": 1})))
        await first.close()
        await asyncio.gather(*(each.close() for each in old))
        async with Scheduler(port=port, **OPTIONS) as second, Worker(second.address, **worker), asyncio.timeout(30):
            lost = await pool.next()
            while not lost:
                lost = await pool.next()
            assert lost[0].status is Ended.LOST
            while slots.total() != 1:
                await pool.next()
            async with Worker(second.address, **worker):  # of which it hears as it happens
                while slots.total() != 2:
                    await pool.next()
