"""Runs are compared fold by fold, and only where that makes sense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from typer.testing import CliRunner

from swarm import PSO, Integer, Job, Random
from swarm.cli import app
from swarm.errors import InvalidInput
from swarm.pool.virtual import VirtualPool
from swarm.report.compare import Comparison, wilcoxon
from swarm.runner import Run, enroll
from swarm.search import Search
from swarm.store import Store

SPACE = {"x": Integer(0, 1000), "y": Integer(0, 1000)}


class Bowl:
    """Best, 0, at x = y = 500; scores of the test set are lower by one."""

    name = "bowl"

    def __call__(self, params: Any, ctx: Any = None) -> float:
        return -abs(params["x"] - 500) - abs(params["y"] - 500)

    def test(self, params: Any, ctx: Any = None) -> float:
        return self(params) - 1.0


def searched(folder: Any, name: str, optimizer: Any, **changes: Any) -> Run:
    url = f"sqlite:///{folder}/swarm.db"
    store = Store(url)
    job = Job(name=name, problem=Bowl(), space=SPACE, optimizer=optimizer, **changes)
    enroll(job, store)
    pool = VirtualPool(4, lambda e: Bowl()(e.params) - (e.purpose == "test"), lambda e: 1.0 + e.fold)
    asyncio.run(Search(job, store).run(pool))
    store.close()
    return Run.load(name, url)


@pytest.mark.parametrize(
    ("first", "second", "p", "method"),
    [
        (range(10), [x + 1 + x / 10 for x in range(10)], 2 / 2**10, "exact"),
        ([x + 1 + x / 10 for x in range(10)], range(10), 2 / 2**10, "exact"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], 1.0, "exact"),
        ([0.0] * 6, [1.0, -2.0, 3.0, -4.0, 5.0, -6.0], 0.84375, "exact"),
        ([0.0] * 6, [1.0, 1.0, 2.0, 2.0, 3.0, 0.0], 0.0412, "asymptotic"),
    ],
)
def test_wilcoxon_has_its_known_answers(first: Any, second: Any, p: float, method: str) -> None:
    assert wilcoxon(list(first), list(second)) == (pytest.approx(p, abs=5e-5), method)


def test_a_swarm_is_better_than_chance_on_every_fold(tmp_path: Any) -> None:
    swarm = searched(tmp_path, "swarm", PSO(particles=6, generations=9), folds=10)
    chance = searched(tmp_path, "chance", Random(trials=20), folds=10)
    comparison = Comparison([chance, swarm])
    (test,) = comparison.paired()
    assert (test.first, test.second, test.measure, test.pairs) == ("chance", "swarm", "test score", 10)
    assert test.difference > 0
    assert test.p < 0.01
    assert test.verdict == "a difference"
    rows = comparison.table().set_index("run")
    assert list(rows["trials"]) == [200, 600]
    assert (rows["trained"] + rows["saved"] == rows["trials"]).all()
    assert rows["best"]["swarm"] == swarm.best.fitness
    assert rows["test"]["swarm"] == pytest.approx(sum(r.fitness for r in swarm.tests.values()) / 10)
    assert comparison.caution is None


def test_progress_ends_at_the_best_and_at_the_last_evaluation(tmp_path: Any) -> None:
    runs = [searched(tmp_path, f"run-{seed}", Random(trials=30), seed=seed) for seed in (1, 2)]
    progress, unit = Comparison(runs).progress()
    assert unit.name == "s"
    for run in runs:
        assert progress[run.job.name].iloc[-1]["best"] == run.best.fitness
        assert progress[run.job.name].iloc[-1]["evaluations"] == 30


def test_without_folds_in_common_there_is_no_test(tmp_path: Any) -> None:
    runs = [searched(tmp_path, f"run-{seed}", Random(trials=5), seed=seed) for seed in (1, 2)]
    assert Comparison(runs).paired() == []
    assert "needs runs with cross-validation folds in common" in Comparison(runs).page().html()


def test_few_folds_are_said_to_be_too_few(tmp_path: Any) -> None:
    runs = [searched(tmp_path, f"run-{seed}", Random(trials=9), seed=seed, folds=3) for seed in (1, 2)]
    assert "too few" in Comparison(runs).paired()[0].verdict


def test_what_does_not_compare_is_refused(tmp_path: Any) -> None:
    run = searched(tmp_path, "one", Random(trials=3))
    other = searched(tmp_path, "other", Random(trials=3), direction="minimize")
    with pytest.raises(InvalidInput, match="two runs or more"):
        Comparison([run])
    with pytest.raises(InvalidInput, match="one is to maximize it, other is to minimize it"):
        Comparison([run, other])


def test_the_command_prints_a_table_and_writes_a_page(tmp_path: Any) -> None:
    for seed in (1, 2):
        searched(tmp_path, f"run-{seed}", Random(trials=9), seed=seed, folds=6)
    page = tmp_path / "page.html"
    store = f"sqlite:///{tmp_path}/swarm.db"
    done = CliRunner().invoke(app, ["compare", "run-1", "run-2", "--store", store, "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "Wilcoxon p = " in done.output
    assert "Comparison of 2 runs" in page.read_text()
