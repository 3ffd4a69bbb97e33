"""What has failed in a job of the service: whom it concerns, how the job ends, and how it is tried again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_master import job_of, mastered, scheduler, worker

from swarm import Client, Grid, Infeasible, Integer, Random
from swarm.errors import InvalidInput, NotAllowed


def reading(path: Path, trained: Path) -> Any:
    """A training that needs a file, and notes what it trains in another."""

    def train(params: Any, ctx: Any) -> float:
        with trained.open("a") as log:
            log.write(f"{params['x']}\n")
        if params["x"] == 9:
            raise Infeasible("nine is too many")
        return float(path.read_text()) + params["x"]

    return train


async def test_a_job_whose_trainings_all_fail_ends_as_failed_and_is_retried(tmp_path: Path) -> None:
    data, trained = tmp_path / "data", tmp_path / "trained"
    job = job_of(problem=reading(data, trained), optimizer=Grid(), isolation="thread")
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        ann, bob = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "bob"))
        handle = await ann.submit(job)
        state = await handle.wait(timeout=60)
        assert state.state == "failed"
        assert "its first 5 trainings have all failed: FileNotFoundError" in state.reason
        assert "test_failed_jobs.py, line " in state.reason and "return float(path.read_text())" in state.reason
        assert "--retry-failed" in state.reason
        assert state.counts["archive"] == 0
        assert (await (await ann.submit(job)).wait(timeout=60)).state == "failed", "nothing has changed"
        data.write_text("0")
        with pytest.raises(NotAllowed):
            await bob.submit(job, retry_failed=True)
        trained.unlink()
        state = await (await ann.submit(job, retry_failed=True)).wait(timeout=60)
        assert (state.state, state.best["fitness"], state.counts["failed"]) == ("finished", 8.0, 1)
        assert sorted(trained.read_text().split()) == [str(x) for x in range(10)]
        trained.unlink()
        state = await (await ann.submit(job, retry_failed=True)).wait(timeout=60)
        assert (state.state, trained.read_text()) == ("finished", "9\n")
        assert (await handle.search()).counts == state.counts


async def test_a_job_that_has_not_ended_is_not_retried(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        await client.submit(job_of())
        with pytest.raises(InvalidInput, match=r"job 'job' is active.*swarm cancel job"):
            await client.submit(job_of(), retry_failed=True)
        assert await (await client.attach("job")).status == "active"


async def test_a_failure_of_one_job_is_none_of_another_that_has_joined_its_training(tmp_path: Path) -> None:
    """Both ask for the same position at once; the first training raises, for no fault of the configuration."""
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    os.mkfifo(gate)

    def train(params: Any, ctx: Any) -> float:
        try:
            begun.touch(exist_ok=False)
        except FileExistsError:
            return 1.0
        gate.read_text()  # returns when somebody has written
        raise OSError("the disk was away")

    jobs = [
        job_of(name, problem=train, space={"x": Integer(0, 9)}, optimizer=Random(trials=1), isolation="thread")
        for name in ("one", "two")
    ]
    async with (
        scheduler() as served,
        worker(served.address),
        worker(served.address),
        mastered(tmp_path, served.address),
    ):
        client = Client(served.address, asynchronous=True)
        handles = [await client.submit(job) for job in jobs]
        states = [await handle.state() for handle in handles]
        while not all(state.running for state in states):
            states = [await handle.state() for handle in handles]
        gate.write_text("go on")
        states = [await handle.wait(timeout=60) for handle in handles]
    assert [state.counts["failed"] for state in states] == [1, 0]
