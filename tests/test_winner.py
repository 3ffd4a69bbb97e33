"""The winner's network: kept while the others go, saved, scored, trained on, and trained again where it is gone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from swarm import PBT, PSO, Hyperband, Integer, Job, Random, Real
from swarm.cli import app
from swarm.cluster.connect import forgetting
from swarm.errors import InvalidInput, InvalidJob, InvalidProblem, SwarmError
from swarm.pool.virtual import VirtualPool
from swarm.runner import Run, enroll
from swarm.runs.winner import Winner
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import process
from swarm.workers.problem import attempt, load

SPACE = {"lr": Real(0.01, 0.4, digits=2), "units": Integer(1, 9)}


class Descent:
    """Gradient descent on w² from a start that the seed draws, an epoch a step; its state is its checkpoint."""

    resumable = True

    def __call__(self, params: Any, ctx: Any) -> float:
        import numpy as np

        state = ctx.restore()
        w = np.random.default_rng(ctx.seed).uniform(1, 2) if state is None else float(state.arrays["w"])
        epoch = 0 if state is None else state.meta["epoch"]
        while epoch < (ctx.budget or 3):
            w, epoch = w - 2 * params["lr"] * w, epoch + 1
            ctx.report(epoch=epoch, w=w)
        ctx.save({"w": np.array(w)}, epoch=epoch)
        return float(w * w)

    def test(self, params: Any, ctx: Any) -> float:
        state = ctx.restore()
        return 100 * float(state.arrays["w"]) ** 2


def job_of(problem: Any = None, **changes: Any) -> Job:
    defaults: dict[str, Any] = {
        "name": "descent",
        "problem": problem or Descent(),
        "space": SPACE,
        "optimizer": PSO(particles=4, generations=2),
        "direction": "minimize",
        "isolation": "thread",
        "test": False,
    }
    return Job(**{**defaults, **changes})


@pytest.fixture(autouse=True, scope="module")
def _no_server_outlives_its_tests() -> Iterator[None]:
    yield
    process.close()


def run(job: Job, folder: Path) -> Run:
    """Run a job to its end: real trainings and checkpoints, on virtual slots."""
    url, problem, store = f"{folder}/swarm.db.artifacts/checkpoints", load(job.code.pickle), Store(f"{folder}/swarm.db")
    enroll(job, store)
    pool = VirtualPool(2, train=lambda evaluation: attempt(problem, evaluation, lambda _: None, url).fitness)
    asyncio.run(Search(job, store).run(pool, forget=forgetting(url)))
    store.close()
    return Run.load(job.name, f"{folder}/swarm.db")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose best is kept."""
    return run(job_of(), tmp_path_factory.mktemp("run"))


def kept(found: Run) -> CheckpointStore:
    return CheckpointStore(f"{found.store}.artifacts/checkpoints")


def saved(folder: Path) -> float:
    with np.load(folder / "checkpoint.npz") as arrays:
        return float(arrays["w"])


# --- what is kept


def test_of_a_search_in_whole_trainings_the_checkpoint_of_the_best_is_kept_alone(found: Run) -> None:
    assert found.best is not None
    assert kept(found).keys() == {evaluation.key for evaluation in found.job.evaluations(found.best.trial)}


def test_no_more_than_a_handful_is_kept_while_a_search_runs(tmp_path: Path) -> None:
    there: set[str] = set()
    most = 0

    def train(evaluation: Evaluation) -> float:
        nonlocal most
        there.add(evaluation.key)
        most = max(most, len(there))
        return float(evaluation.params["lr"])

    job, store = job_of(optimizer=Random(trials=200)), Store(f"{tmp_path}/swarm.db")
    enroll(job, store)
    search = Search(job, store)
    asyncio.run(search.run(VirtualPool(2, train=train), forget=there.difference_update))
    assert most <= 10
    assert search.state.best is not None
    assert there == {evaluation.key for evaluation in job.evaluations(search.state.best.trial)}
    store.close()


def test_a_job_that_keeps_no_checkpoints_forgets_none(tmp_path: Path) -> None:
    job, store = job_of(optimizer=Random(trials=50), checkpoints=False), Store(f"{tmp_path}/swarm.db")
    enroll(job, store)
    asyncio.run(Search(job, store).run(VirtualPool(2, train=lambda e: 1.0), forget=lambda _: pytest.fail("forgotten")))
    store.close()


def test_a_job_lets_go_only_of_what_was_trained_for_it(tmp_path: Path) -> None:
    store, forgotten = Store(f"{tmp_path}/swarm.db"), list[str]()
    first = job_of(optimizer=Random(trials=8))
    other = job_of(name="other", optimizer=Random(trials=40))
    winners = []
    for job in (first, other):
        enroll(job, store)
        search = Search(job, store)
        asyncio.run(search.run(VirtualPool(1, train=lambda e: -float(e.params["units"])), forget=forgotten.extend))
        assert search.state.best is not None
        winners.append(job.evaluations(search.state.best.trial)[0].key)
    assert search.state.counts["archive"] >= 8, "the same trials, and more"
    assert not set(winners) & set(forgotten)
    store.close()


def saving(params: Any, ctx: Any) -> float:
    ctx.save({"w": np.zeros(3)})
    return 1.0


def test_beside_a_store_that_is_on_another_machine_nothing_is_left(tmp_path: Path) -> None:
    url, task = f"{tmp_path}/swarm.db.artifacts/checkpoints", cloudpickle.dumps(saving)
    there = evaluate(task, Evaluation.of("p", {"x": 1}, isolation="thread"), checkpoints=url)
    assert there.fitness == 1.0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "swarm.db").touch()
    here = evaluate(task, Evaluation.of("p", {"x": 1}, isolation="thread"), checkpoints=url)
    assert CheckpointStore(url).keys() == {here.key}


def test_a_training_whose_checkpoint_cannot_be_written_counts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    url, task = f"{tmp_path}/file/checkpoints", cloudpickle.dumps(saving)
    whole = evaluate(task, Evaluation.of("p", {"x": 1}, isolation="thread"), checkpoints=url)
    assert whole.fitness == 1.0
    part = evaluate(task, Evaluation.of("p", {"x": 1}, slice=True, budget=1, isolation="thread"), checkpoints=url)
    assert "NotADirectoryError" in (part.error or ""), "which others must continue"


# --- what can be done with it


def test_the_best_is_printed_as_yaml_that_reads_back(found: Run) -> None:
    done = CliRunner().invoke(app, ["best", "descent", "--store", found.store])
    assert done.exit_code == 0, done.output
    assert found.best is not None
    assert yaml.safe_load(done.stdout) == found.best.params
    assert done.stderr == ""


def test_it_is_trained_further_scored_and_saved_from_where_it_was(found: Run, tmp_path: Path) -> None:
    assert found.best is not None
    steps = ["--test", "--train-more", "4", "--save", f"{tmp_path}/new/it"]
    done = CliRunner().invoke(app, ["best", "descent", "--store", found.store, *steps])
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.stdout) == found.best.params
    shrunk = (1 - 2 * found.best.params["lr"]) ** 8 * found.best.fitness  # w² after four more epochs
    assert saved(tmp_path / "new" / "it") ** 2 == pytest.approx(shrunk, rel=1e-12)
    assert f"fitness {shrunk:.6g} after 4 more epochs" in done.stderr
    assert f"{100 * shrunk:.6g} on the unseen test set" in done.stderr
    assert "epoch=7" in done.stderr and "epoch=3" not in done.stderr
    assert len(kept(found).keys()) == 1, "what was trained further is not the run's"


@pytest.mark.parametrize("lost", ["gone", "damaged"])
def test_what_was_not_kept_is_trained_again_with_the_same_outcome(found: Run, tmp_path: Path, lost: str) -> None:
    found.save(tmp_path / "kept")
    store = f"{tmp_path}/swarm.db"
    shutil.copy(found.store, store)
    if lost == "damaged":
        shutil.copytree(f"{found.store}.artifacts", f"{store}.artifacts")
        for file in Path(f"{store}.artifacts/checkpoints").iterdir():
            file.write_bytes(file.read_bytes()[:-1])
    done = CliRunner().invoke(app, ["best", "descent", "--store", store, "--save", f"{tmp_path}/again"])
    assert done.exit_code == 0, done.output
    assert "training the same configuration again, with the same seed" in done.stderr
    assert saved(tmp_path / "again") == saved(tmp_path / "kept")


def test_a_promoted_winner_is_trained_again_from_the_seed_of_its_first_slice(tmp_path: Path) -> None:
    job = job_of(optimizer=Hyperband(min_budget=1, max_budget=4, eta=2, iterations=1))
    found = run(job, tmp_path)
    assert found.best is not None and found.best.trial.parent is not None
    found.save(tmp_path / "kept")
    shutil.rmtree(f"{found.store}.artifacts/checkpoints")
    found.save(tmp_path / "again")
    assert saved(tmp_path / "again") == pytest.approx(saved(tmp_path / "kept"), rel=1e-12)


def test_of_several_trainings_of_the_best_the_best_is_taken(tmp_path: Path) -> None:
    job = job_of(optimizer=Random(trials=2), repeats=3)
    found = run(job, tmp_path)
    assert found.best is not None
    found.save(tmp_path / "it")
    keys = [evaluation.key for evaluation in job.evaluations(found.best.trial)]
    weights = [float(kept(found).load(key).arrays["w"]) for key in keys]
    assert saved(tmp_path / "it") == min(weights)


class Silent:
    def __call__(self, params: Any, ctx: Any) -> float:
        return float(params["lr"])

    def test(self, params: Any, ctx: Any) -> float:
        return ctx.seed


def test_a_training_that_saves_nothing_can_be_scored_but_not_saved(tmp_path: Path) -> None:
    found = run(job_of(Silent(), optimizer=Random(trials=2)), tmp_path)
    winner = Winner.of(found)
    assert winner.finish(test=True).tested == winner.evaluation.seed
    with pytest.raises(SwarmError, match="the training saves nothing: call ctx.save"):
        winner.finish(save=tmp_path / "it")
    assert not (tmp_path / "it").exists()


def test_what_cannot_be_done_is_refused_with_the_remedy(found: Run, tmp_path: Path) -> None:
    winner = Winner.of(found)
    with pytest.raises(InvalidInput, match="training more alone would be lost"):
        winner.finish(more=3)
    with pytest.raises(SwarmError, match="Descent is no KerasProblem.*name a folder"):
        winner.finish(save=tmp_path / "winner.keras")
    store = Store(f"{tmp_path}/swarm.db")
    enroll(job_of(), store)
    store.close()
    with pytest.raises(InvalidJob, match="no training has succeeded"):
        Winner.of(Run.load("descent", f"{tmp_path}/swarm.db"))


def test_a_winner_of_many_hands_that_is_gone_is_to_be_replayed(tmp_path: Path) -> None:
    job = job_of(optimizer=PBT(population=3, max_budget=2), space={"lr": Real(0.01, 0.4)})
    found = run(job, tmp_path)
    found.save(tmp_path / "kept")
    assert found.best is not None
    assert saved(tmp_path / "kept") ** 2 == pytest.approx(found.best.fitness)
    shutil.rmtree(f"{found.store}.artifacts/checkpoints")
    with pytest.raises(InvalidProblem, match="swarm replay descent"):
        found.save(tmp_path / "again")
