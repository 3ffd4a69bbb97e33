"""Population-based training through the whole system: checkpoints handed on, kept as long as needed, and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swarm import GA, PBT, Demes, Integer, Job, Real, run
from swarm.cluster.connect import embedded, forgetting, pool_on
from swarm.config import quiet_dask
from swarm.errors import AllFailed, InvalidJob
from swarm.runner import Run, enroll
from swarm.runs.schedule import plot, replay
from swarm.search import Search
from swarm.store import Store
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.node.supervisor import make_slots

quiet_dask()

SWARM = str(Path(sys.executable).with_name("swarm"))
SPACE = {"lr": Real(1e-3, 0.9, log=True, default=0.02), "momentum": Real(0.0, 0.99, default=0.5)}
POPULATION = 5


class Descent:
    """Gradient descent with momentum on w² from 1, an epoch a step; its state is its checkpoint."""

    resumable = True
    changeable = ("lr", "momentum")
    name = "descent"

    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        import numpy as np

        state = ctx.restore()
        w, v, epoch = (1.0, 0.0, 0) if state is None else (*state.arrays["wv"], state.meta["epoch"])
        while epoch < ctx.budget:
            v = params["momentum"] * v - params["lr"] * 2 * w
            w, epoch = w + v, epoch + 1
        self.before_save(params, ctx, epoch)
        ctx.save({"wv": np.array([w, v])}, epoch=epoch)
        return {"fitness": float(w * w), "w": float(w)}

    def before_save(self, params: Any, ctx: Any, epoch: int) -> None:
        pass

    def test(self, params: Any, ctx: Any) -> dict[str, float]:
        state = ctx.restore()
        return {"fitness": 100 * float(state.arrays["wv"][0] ** 2)}


def job_of(problem: Any = None, **changes: Any) -> Job:
    defaults: dict[str, Any] = {
        "name": "pbt",
        "problem": problem or Descent(),
        "space": SPACE,
        "optimizer": PBT(population=POPULATION, max_budget=6, mutation=0.3),
        "direction": "minimize",
        "isolation": "thread",
    }
    return Job(**{**defaults, **changes})


def trajectory(found: Run) -> pd.DataFrame:
    columns = ["trial", "generation", "member", "parent", "budget", "fitness", "lr", "momentum"]
    return found.history[columns].sort_values("trial", ignore_index=True)


def test_a_population_trains_on_and_its_winner_is_scored_as_it_was_trained(tmp_path: Path) -> None:
    found = run(job_of(), slots=2, store=f"{tmp_path}/swarm.db", progress=False)
    assert found.best is not None and found.best.trial.budget == 6
    assert found.counts["failed"] == 0
    assert found.tests[0].fitness == pytest.approx(100 * found.best.fitness, rel=1e-12)
    last = found.history[found.history["budget"] == 6]
    assert found.best.fitness == last["fitness"].min() < found.history[found.history["budget"] == 1]["fitness"].min()


def test_the_schedule_of_the_winner_replays_to_the_same_network(tmp_path: Path) -> None:
    store = f"{tmp_path}/swarm.db"
    found = run(job_of(), slots=2, store=store, progress=False)
    schedule = found.schedule
    assert list(schedule["budget"]) == [1, 2, 3, 4, 5, 6]
    assert schedule["fitness"].iloc[-1] == found.best.fitness
    assert {"lr", "momentum", "mean_lr", "mean_momentum"} <= set(schedule.columns)
    again = run(replay(found, name="again", repeats=2), slots=2, store=store, progress=False)
    assert again.best.fitness == pytest.approx(found.best.fitness, rel=1e-12)
    plot(schedule, tmp_path / "schedule.html", "Schedule")
    assert "momentum" in (tmp_path / "schedule.html").read_text()


def test_a_run_without_slices_has_no_schedule(tmp_path: Path) -> None:
    job = Job(
        name="ga", problem=lambda params, ctx: params["x"], space={"x": Integer(1, 99, default=9)},
        optimizer=GA(population=4, generations=1), isolation="thread",
    )  # fmt: skip
    found = run(job, slots=1, store=f"{tmp_path}/swarm.db", progress=False)
    with pytest.raises(InvalidJob, match="has no schedule: only methods that hand trainings on"):
        _ = found.schedule


class _Team(Descent):
    """Three descents; a child takes the parents' in turn. The fitness is that of their mean."""

    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        import numpy as np

        parents = ctx.restore_all()
        team = [parents[i % len(parents)].arrays["w"][i] if parents else 1.0 + i for i in range(3)]
        w = np.array(team) * (1 - params["lr"])
        self.before_save(params, ctx, 0)
        ctx.save({"w": w}, parents=len(parents), before=[float(one) for one in team])
        return {"fitness": float(abs(w.mean())), "parents": len(parents)}

    test = None


def team_of(**changes: Any) -> Job:
    return job_of(_Team(), optimizer=PBT(population=POPULATION, max_budget=6, weight_parents=3, **changes))


@pytest.mark.parametrize("update", ["sync", "async"])
async def test_a_child_takes_over_the_checkpoints_of_several_parents(tmp_path: Path, update: str) -> None:
    job, store, url = team_of(update=update), Store(f"{tmp_path}/swarm.db"), str(tmp_path / "checkpoints")
    enroll(job, store)
    async with embedded(make_slots(slots=2)) as client, pool_on(client, job, None, url) as pool:
        search = Search(job, store)
        await search.run(pool, forget=forgetting(url))
    assert search.state.counts["failed"] == 0, search.errors
    asked = [event.data for event in store.events("pbt") if event.kind == "asked"]
    results = {event.data["key"]: event.data for event in store.events("pbt") if event.kind == "result"}
    for trial in asked:
        parents = results[trial["evaluations"][0]["key"]]["metrics"]["parents"]
        assert parents == (0 if trial["parent"] is None else 1 + len(trial["donors"]))
    assert any(trial["donors"] for trial in asked)
    assert len(CheckpointStore(url).keys()) == 1, "of the winner"
    again = Search(job, store)
    assert again.state.finished() and again.state.best == search.state.best
    store.close()


def test_a_training_of_one_network_is_told_that_it_cannot_have_several_parents(tmp_path: Path) -> None:
    job = job_of(optimizer=PBT(population=POPULATION, max_budget=2, weight_parents=3), test=False)
    found = run(job, slots=1, store=f"{tmp_path}/swarm.db", progress=False)
    assert any("call ctx.restore_all(), as ensembles do" in error for error in found.state.errors)


@pytest.mark.parametrize(
    ("optimizer", "bound"),
    [
        (PBT(population=POPULATION, max_budget=6, mutation=0.3), 2 * POPULATION + 1),
        (PBT(population=POPULATION, max_budget=6, update="async"), 2 * POPULATION + 1 + 16),
        (Demes(of=PBT(population=POPULATION, max_budget=6), rows=1, columns=2, interval=1), 2 * (3 * POPULATION + 1)),
    ],
)
async def test_no_more_checkpoints_are_kept_than_may_be_continued(tmp_path: Path, optimizer: Any, bound: int) -> None:
    job, store = job_of(optimizer=optimizer, test=False), Store(f"{tmp_path}/swarm.db")
    enroll(job, store)
    kept = CheckpointStore(str(tmp_path / "checkpoints"))
    most = 0

    def count(search: Search) -> None:
        nonlocal most
        most = max(most, len(kept.keys()))

    url = str(tmp_path / "checkpoints")
    async with embedded(make_slots(slots=2)) as client, pool_on(client, job, None, url) as pool:
        search = Search(job, store)
        await search.run(pool, count, forgetting(url))
    store.close()
    assert search.state.counts["failed"] == 0
    assert POPULATION <= most <= bound
    assert len(kept.keys()) == 1  # of the winner


class _Deleting(Descent):
    """Takes the checkpoint of one individual away when generation 2 is trained."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def before_save(self, params: Any, ctx: Any, epoch: int) -> None:
        from pathlib import Path

        mark = Path(self.folder) / "deleted"
        files = sorted(Path(self.folder).glob("swarm.db.artifacts/checkpoints/*.npz"))
        if epoch == 2 and not mark.exists():
            mark.write_text(files[0].stem)
            files[0].unlink()
        elif epoch == 4 and not (Path(self.folder) / "damaged").exists():
            (Path(self.folder) / "damaged").write_text("")
            newest = max(files, key=lambda file: file.stat().st_mtime)
            newest.write_bytes(newest.read_bytes()[:-40])


def test_a_missing_or_damaged_checkpoint_fails_those_who_need_it_and_nobody_else(tmp_path: Path) -> None:
    found = run(job_of(_Deleting(str(tmp_path)), test=False), slots=1, store=f"{tmp_path}/swarm.db", progress=False)
    failed = found.history[found.history["status"] == "failed"]
    assert 0 <= len(failed) < len(found.history) / 2
    assert found.best is not None and found.best.trial.budget == 6
    assert all("checkpoint" in error for error in failed["error"])
    assert failed["budget"].isin([2, 3, 4, 5, 6]).all()


class _Silent(Descent):
    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        if params["lr"] > 0.02:
            ctx.restore()
        return {"fitness": 1.0}


def test_a_training_that_hands_nothing_on_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(AllFailed, match=r"call ctx\.save\(\)"):
        run(job_of(_Silent(), test=False), slots=1, store=f"{tmp_path}/swarm.db", progress=False)


class _Killed(Descent):
    """Kills the worker while it writes a checkpoint: all of it is written, but not yet under its name."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def before_save(self, params: Any, ctx: Any, epoch: int) -> None:
        import os
        import time

        import psutil

        if epoch == 3 and not os.path.exists(self.mark):  # noqa: PTH110

            def fsync(_: int) -> None:
                with open(self.mark, "w") as mark:  # noqa: PTH123
                    mark.write("killed")
                psutil.Process().parent().parent().kill()  # the worker; the parent is its fork server
                time.sleep(60)  # until the parent-death signal

            os.fsync = fsync


@pytest.mark.slow
def test_a_worker_killed_while_it_writes_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    undisturbed = run(job_of(), slots=1, store=f"{tmp_path}/undisturbed.db", progress=False)
    problem = _Killed(str(tmp_path / "mark"))
    found = run(job_of(problem, isolation="process"), slots=2, store=f"{tmp_path}/swarm.db", progress=False)
    assert (tmp_path / "mark").exists()
    pd.testing.assert_frame_equal(trajectory(found), trajectory(undisturbed))
    assert found.counts["failed"] == 0


TRAIN = """
import numpy as np


class Descent:
    resumable = True
    space = {"lr": {"real": [1.0e-3, 0.9], "log": True, "default": 0.02}}

    def __call__(self, params, ctx):
        state = ctx.restore()
        w, epoch = (1.0, 0) if state is None else (float(state.arrays["w"]), state.meta["epoch"])
        while epoch < ctx.budget:
            w, epoch = w - params["lr"] * 2 * w, epoch + 1
        ctx.save({"w": np.array(w)}, epoch=epoch)
        return w * w
"""

JOB = """
name: descent
problem: train.py:Descent
optimizer: {name: PBT, population: 6, max_budget: 8, mutation: 0.3}
direction: minimize
"""


@pytest.mark.slow
def test_a_master_killed_in_generation_5_resumes_to_the_same_population_and_winner(tmp_path: Path) -> None:
    def swarm(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(TRAIN)
        (folder / "job.yaml").write_text(JOB)
        return subprocess.Popen(
            [SWARM, *arguments, "--slots", "2"], cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def checkpoints(folder: Path) -> dict[str, bytes]:
        files = (folder / "swarm.db.artifacts" / "checkpoints").glob("*.npz")
        return {file.name: np.load(file)["w"].tobytes() for file in files}

    with swarm(tmp_path / "undisturbed", "run", "job.yaml") as process:
        assert process.wait(200) == 0
    with swarm(tmp_path / "killed", "run", "job.yaml") as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "generation 4:" in line)
        os.killpg(process.pid, signal.SIGKILL)
    with swarm(tmp_path / "killed", "resume", "descent") as process:
        assert process.wait(200) == 0
    runs = [Run.load("descent", f"{tmp_path}/{name}/swarm.db") for name in ("undisturbed", "killed")]
    columns = ["trial", "parent", "budget", "fitness", "lr"]
    tables = [found.history[columns].sort_values("trial", ignore_index=True) for found in runs]
    pd.testing.assert_frame_equal(*tables)
    assert runs[0].best == runs[1].best
    assert checkpoints(tmp_path / "undisturbed") == checkpoints(tmp_path / "killed")
    assert len(checkpoints(tmp_path / "killed")) == 1


def test_options_from_a_store_give_the_same_keys_as_those_in_python() -> None:
    job = job_of()
    stored = Job.from_dict(job.to_dict(), job.code.pickle)
    keys = [[evaluation.key for evaluation in one.evaluations(one.start().ask())] for one in (job, stored)]
    assert keys[0] == keys[1]


def test_a_training_that_cannot_be_handed_on_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidJob, match="through checkpoints, which problem .* does not say it keeps"):
        job_of(lambda params, ctx: 1.0)
    with pytest.raises(InvalidJob, match="but filters would change its shape"):
        job_of(space={**SPACE, "filters": Integer(1, 9, default=3)})
    with pytest.raises(InvalidJob, match="no place for their checkpoints"):
        run(job_of(), slots=1, store="sqlite://", progress=False)


def test_a_second_search_follows_around_what_the_first_has_found(tmp_path: Path) -> None:
    job = job_of(
        name="phases",
        space={**SPACE, "filters": Integer(1, 9, default=3)},
        optimizer=GA(population=4, generations=2, initial="uniform"),
        problem=_Phased(),
        then={"optimizer": PBT(population=4, max_budget=3), "search": ["lr"]},
    )
    found = run(job, slots=2, store=f"{tmp_path}/swarm.db", progress=False)
    assert found.before is not None and found.before.job.name == "phases"
    assert found.job.name == "phases-then"
    assert set(found.history["filters"]) == {found.before.best.params["filters"]} == {found.best.params["filters"]}
    assert found.history["lr"].iloc[0] == found.before.best.params["lr"] and found.history["lr"].nunique() > 1
    again = run(job, slots=2, store=f"{tmp_path}/swarm.db", progress=False)
    assert again.best == found.best and again.before.best == found.before.best
    with pytest.raises(InvalidJob, match=r"then.search: depth is not searched before; name some of lr"):
        job_of(then={"optimizer": PBT(), "search": ["depth"]})
    with pytest.raises(InvalidJob, match="but filters would change its shape"):
        job_of(space=job.space, optimizer=GA(), then={"optimizer": PBT(), "search": ["filters"]})


class _Phased(Descent):
    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        if ctx.budget is None:
            return {"fitness": params["lr"] + params["filters"]}
        return super().__call__(params, ctx)
