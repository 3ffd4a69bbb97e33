"""Which of a cluster's slots count, those to which Dask gives work now, and whose they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from distributed import Client, Scheduler, Worker
from distributed.core import Status

from swarm import Integer, Job, Random
from swarm.cluster import quiet_dask, slots_of
from swarm.errors import InvalidInput
from swarm.runner import run

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
