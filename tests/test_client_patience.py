"""A client waits for a scheduler and a master that are still starting, or are being replaced."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from distributed import Scheduler
from services import free_port
from test_master import job_of, mastered, scheduler, worker
from typer.testing import CliRunner

from swarm import Client
from swarm.cli import app
from swarm.errors import NoMaster, SchedulerUnreachable


async def test_a_job_is_submitted_before_the_master_is_there_and_the_client_says_that_it_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with scheduler() as served:
        client = Client(served.address, asynchronous=True)
        with caplog.at_level(logging.WARNING, "swarm.client"):
            submitting = asyncio.ensure_future(client.submit(job_of(isolation="thread")))
            listing = asyncio.ensure_future(client.jobs())
            while [record.name for record in caplog.records].count("swarm.client") < 2:  # Dask may log, too
                await asyncio.sleep(0.01)
        assert "waiting for that, at most 30 s" in caplog.text
        async with mastered(tmp_path, served.address), worker(served.address):
            assert (await (await submitting).wait(timeout=60)).state == "finished"
            assert isinstance(await listing, list)


async def test_a_client_asks_before_the_scheduler_is_there() -> None:
    port = free_port()
    client = Client(f"tcp://127.0.0.1:{port}", asynchronous=True)
    asking = asyncio.ensure_future(client.slots())
    await asyncio.sleep(0)
    async with Scheduler(host="127.0.0.1", port=port, dashboard_address="127.0.0.1:0", preload=["swarm.scheduler"]):
        assert list(await asking) == []


async def test_patience_ends_and_none_is_had_for_health_or_an_address_that_is_none() -> None:
    async with scheduler() as served:
        with pytest.raises(NoMaster, match="start one: swarm master"):
            await Client(served.address, asynchronous=True, patience=0.5).submit(job_of())
        began = time.monotonic()
        assert (await Client(served.address, asynchronous=True).health())["ok"] is False
        with pytest.raises(SchedulerUnreachable):
            await Client("nonsense://127.0.0.1:1", asynchronous=True).jobs()
        assert time.monotonic() - began < 20


async def test_a_client_is_used_like_that_of_dask() -> None:
    with Client("tcp://127.0.0.1:1") as client:
        assert client.address == "tcp://127.0.0.1:1"
    async with Client("tcp://127.0.0.1:1", asynchronous=True) as other:
        assert other.asynchronous
    with pytest.raises(TypeError, match="async with"), other:
        pass


@pytest.mark.parametrize(
    ("command", "spellings"),
    [
        ("scheduler", ["--dashboard-address", "--scheduler-file"]),
        ("worker", ["--nthreads", "--nworkers", "--scheduler-file"]),
    ],
)
def test_the_spellings_of_dask_are_understood(command: str, spellings: list[str]) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert all(spelling in shown for spelling in spellings)
