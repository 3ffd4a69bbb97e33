"""A job of the service for which no worker offers a slot: it says so, and what to start."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from distributed import Worker
from test_master import job_of, mastered, scheduler, worker

import swarm.service.hosted
from swarm.client import Client
from swarm.terminal.tables import job_table
from swarm.terminal.text import Console


async def test_a_job_waits_for_workers_and_says_so(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address):
        handle = await Client(served.address, asynchronous=True).submit(job_of(), priority=2.0, most=3)
        state = await handle.state()
        while state.trouble is None:
            state = await handle.state()
        assert state.trouble == "waits for a worker that offers a GPU slot"
        assert (state.state, state.priority, state.most, state.told) == ("active", 2.0, 3, 0)
        assert (await handle.share(priority=5.0, most=0)).priority == 5.0
        assert (await handle.state()).most is None
        assert [state.name for state in await handle.client.jobs()] == ["job"]


async def test_a_job_without_slots_for_a_minute_says_so_and_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm.service.hosted, "_SLOTLESS_SECONDS", 0.0)
    async with scheduler() as started, mastered(tmp_path, started.address):
        client = Client(started.address, asynchronous=True)
        two = {"gpus_per_training": 2, "isolation": "thread"}
        handle = await client.submit(job_of(**two))

        async def said(text: str) -> str:
            while text not in ((await handle.state()).trouble or ""):
                await asyncio.sleep(0.05)
            return str((await handle.state()).trouble)

        async with asyncio.timeout(60):
            trouble = await said("no slot of class GPU-2 for 0 min; no worker is connected")
            assert f"swarm worker {started.address} --gpus all --gpus-per-training 2" in trouble
            async with worker(started.address):
                assert "1 worker is connected, with slots of class GPU:" in await said("1 worker")
                listed = Console(width=200, file=io.StringIO())
                listed.print(job_table(await client.jobs()))
                assert "job: no slot of class GPU-2" in listed.file.getvalue()
            async with Worker(started.address, nthreads=1, resources={"GPU-2": 1}, dashboard=False):
                while (await handle.state()).trouble is not None:
                    await asyncio.sleep(0.05)
