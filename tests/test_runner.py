"""The Python entry: run, resume, and what they return."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm import PSO, Integer, Job, Random, Real, run
from swarm.config import quiet_dask
from swarm.errors import JobConflict, JobNotFound, NoSlots, StoreUnavailable
from swarm.runner import Run, free_name, resume

quiet_dask()


def train(params: Any, ctx: Any) -> dict[str, float]:
    ctx.report(epoch=1, loss=0.5)
    return {"fitness": -((params["x"] - 7) ** 2), "loss": 0.25}


def make_job(**changes: Any) -> Job:
    defaults = {"name": "job", "problem": train, "space": {"x": Integer(0, 20), "y": Real(0, 1)}, "isolation": "thread"}
    return Job(**{**defaults, "optimizer": PSO(particles=4, generations=2), **changes})


def test_a_run_returns_best_counts_and_history(tmp_path: Path) -> None:
    found = run(make_job(), slots=2, store=f"{tmp_path}/swarm.db")
    history = found.history
    assert found.best is not None
    assert found.best.fitness == history["fitness"].max() == -((found.best.params["x"] - 7) ** 2)
    assert found.counts == {"trained": 12, "archive": 0, "in_flight": 0, "failed": 0}
    expected = ["trial", "generation", "member", "source", "fitness", "seconds", "start", "end", "slot", "x", "y"]
    assert set(expected) <= set(history.columns)
    assert list(history["trial"]) == list(range(12))
    assert (history["end"] >= history["start"]).all()
    assert history["slot"].nunique() == 2


def test_two_runs_in_one_process_share_the_archive(tmp_path: Path) -> None:
    store = f"{tmp_path}/swarm.db"
    first = run(make_job(), slots=1, store=store)
    second = run(make_job(name="other", seed=0), slots=1, store=store)
    assert first.counts["trained"] == second.counts["archive"] == 12


def test_running_a_finished_job_again_returns_it_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"{tmp_path}/swarm.db"
    first = run(make_job(), slots=1, store=store)
    monkeypatch.setattr("swarm.cluster.connect.embedded", lambda slots: pytest.fail("a cluster was started"))
    assert run(make_job(), slots=1, store=store).best == first.best
    assert resume("job", store=store).best == first.best


def test_the_same_name_with_another_job_is_refused(tmp_path: Path) -> None:
    store = f"{tmp_path}/swarm.db"
    run(make_job(), slots=1, store=store)
    with pytest.raises(JobConflict, match=r"optimizer.particles is 5, was 4"):
        run(make_job(optimizer=PSO(particles=5, generations=2)), slots=1, store=store)


def test_a_run_inside_a_running_loop_works_as_in_a_notebook(tmp_path: Path) -> None:
    async def cell() -> Run:
        return run(make_job(optimizer=Random(trials=3)), slots=1, store=f"{tmp_path}/swarm.db")

    assert asyncio.run(cell()).counts["trained"] == 3


def test_curves_and_metrics_are_kept(tmp_path: Path) -> None:
    from swarm.store import Store

    run(make_job(optimizer=Random(trials=1)), slots=1, store=f"{tmp_path}/swarm.db")
    store = Store(f"{tmp_path}/swarm.db")
    key = next(event.data["key"] for event in store.events("job") if event.kind == "result")
    result = store.result(key)
    assert result is not None
    assert result.metrics == {"loss": 0.25}
    assert result.curve == ({"epoch": 1.0, "loss": 0.5},)
    store.close()


def test_a_scheduler_without_slots_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Scheduler

    monkeypatch.setattr("swarm.runner._WAIT_FOR_SLOTS", 0.1)

    async def attempt() -> None:
        async with Scheduler(port=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as scheduler:
            with pytest.raises(NoSlots):
                await asyncio.to_thread(run, make_job(), scheduler=scheduler.address, store=f"{tmp_path}/swarm.db")

    asyncio.run(attempt())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store"):
        Run.load("job", f"{tmp_path}/swarm.db")
    run(make_job(optimizer=Random(trials=1)), slots=1, store=f"{tmp_path}/swarm.db")
    with pytest.raises(JobNotFound, match="no job 'jbo'"):
        resume("jbo", store=f"{tmp_path}/swarm.db")


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    store = f"{tmp_path}/swarm.db"
    assert free_name("job", store) == "job"
    for _ in range(2):
        run(make_job(name=free_name("job", store), optimizer=Random(trials=1)), slots=1, store=store)
    assert free_name("job", store) == "job-3"


def test_checkpoints_that_cannot_be_deleted_stay_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"

    class Spoiling:
        """Leaves a folder that has the name of a checkpoint, and cannot be deleted like a file."""

        resumable = True

        def __call__(self, params: Any, ctx: Any) -> float:
            ctx.save({"w": np.zeros(1)})
            for save in folder.glob("*.partial*"):
                Path(folder, f"{save.name.partition('.')[0]}.folder").mkdir(exist_ok=True)
            return float(params["x"])

    space = {"x": Integer(0, 999)}
    job = make_job(problem=Spoiling(), space=space, optimizer=Random(trials=60), checkpoints=str(folder))
    found = run(job, slots=1, store=f"{tmp_path}/swarm.db", progress=False)
    assert (found.status, found.counts["trained"], found.counts["failed"]) == ("finished", 60, 0)
    refused = [record for record in caplog.records if "cannot be deleted, and stay" in record.getMessage()]
    assert len(refused) == 1
