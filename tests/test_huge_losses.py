"""Losses at the end of the floats, through all that reads a run: warnings are errors, so an overflow fails."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm import PSO, Choice, Integer, Job, Real
from swarm.dashboard.searches import _bands, _nodes, _point_columns
from swarm.pool.virtual import VirtualPool
from swarm.report import write
from swarm.report.compare import Comparison, wilcoxon
from swarm.report.figures import figures
from swarm.report.tables import Tables
from swarm.runner import Run, enroll
from swarm.runs.history import History
from swarm.runs.importance import importance
from swarm.search import Search
from swarm.search.pruning import MedianRule
from swarm.service.published.snapshot import View
from swarm.space import Space
from swarm.store import Store
from swarm.store.outcome import outcome
from swarm.store.records import Source
from swarm.trial import Criterion, Result, Status
from swarm.workers.problem import lexicographic

HUGE = sys.float_info.max
VALUES = {"both signs": [1e308, -1e308, HUGE, 3.0, None, -HUGE], "all large": [1.7e308], "all low": [-1.7e308]}


def train(params: Any, ctx: Any) -> float:
    return 0.0


def searched(folder: Path, values: list[float | None], name: str = "job", **changes: Any) -> Run:
    space = {"x": Integer(0, 40), "y": Real(0, 1), "c": Choice("a", "b")}
    job = Job(
        **{"name": name, "problem": train, "space": space, "optimizer": PSO(particles=5, generations=3), **changes}
    )
    draws = np.random.default_rng(1)
    with closing(Store(f"{folder}/swarm.db")) as store:
        enroll(job, store)
        pool = VirtualPool(4, lambda _: values[int(draws.integers(len(values)))])
        asyncio.run(Search(job, store).run(pool))
    return Run.load(name, f"{folder}/swarm.db")


@pytest.mark.parametrize("mode", [{}, {"folds": 3}, {"folds": 3, "fold_mode": "mean"}, {"direction": "minimize"}])
@pytest.mark.parametrize("kind", VALUES)
def test_every_reader_of_a_run_has_finite_numbers(tmp_path: Path, kind: str, mode: dict[str, Any]) -> None:
    found = searched(tmp_path, VALUES[kind], **mode)
    for row in found.state.generations.values():
        assert math.isfinite(row.mean) and row.low <= row.mean <= row.high
    history = Tables(found).history
    for table in (history.bands, history.generations):
        assert np.isfinite(table[["low", "mean", "high"]].dropna().to_numpy()).all()
        assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"]) | table["mean"].isna()).all()
    view = View(found.job.direction or "maximize")
    with closing(Store(found.store)) as store:
        for event in store.events("job"):
            view.apply(event)
    json.dumps(view.to_dict(), allow_nan=False)
    for columns in (_bands(view), _point_columns(view.points, ()), _nodes(view.points)):
        for name in {"low", "mean", "high", "best", "fitness"} & set(columns):
            numbers = np.asarray(columns[name], float)
            assert (np.abs(numbers[~np.isnan(numbers)]) <= 1e300).all()


def test_a_report_and_its_figures_are_drawn(tmp_path: Path) -> None:
    found = searched(tmp_path, VALUES["both signs"], folds=2)
    write(found, tmp_path / "report.html")
    for name, figure in figures(Tables(found)):
        if name in ("fitness", "search-space"):
            figure.savefig(tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_runs_are_compared(tmp_path: Path) -> None:
    runs = [searched(tmp_path, VALUES["both signs"], name, folds=4, seed=seed) for seed, name in enumerate("ab")]
    comparison = Comparison(runs)
    [paired] = comparison.paired()
    assert not math.isnan(paired.difference) and 0 <= paired.p <= 1
    comparison.write(tmp_path / "comparison.html")


def test_ranks_of_differences_do_not_depend_on_the_scale() -> None:
    draws = np.random.default_rng(2)
    first, second = draws.uniform(-1, 1, 8), draws.uniform(-1, 1, 8)
    assert wilcoxon(list(first), list(second)) == wilcoxon(list(first * 2.0**1023), list(second * 2.0**1023))


def test_importance_does_not_depend_on_the_scale() -> None:
    space, draws = Space({"x": Real(0, 1), "y": Real(0, 1)}), np.random.default_rng(4)
    tried = [space.sample(draws) for _ in range(40)]
    found = [
        importance(space, tried, [scale * params["x"] for params in tried]) for scale in (2.0**-1000, 1.0, 2.0**1023)
    ]
    assert found[0] is not None and found[1] is not None and found[2] is not None
    assert found[0].table.equals(found[1].table) and found[2].table.equals(found[1].table)
    assert found[0].r2 == found[1].r2 == found[2].r2 > 0.8


def test_the_fitness_of_a_trial_is_the_mean_of_its_folds() -> None:
    answer = Result(key="k", status=Status.OK, fitness=HUGE)
    assert outcome([Source.TRAINED] * 3, [answer] * 3).fitness == HUGE


def test_criteria_may_be_as_large_as_they_like() -> None:
    criteria = (
        Criterion(metric="a", direction="maximize", tolerance=1e-3),
        Criterion(metric="b", direction="minimize", tolerance=None),
    )
    figures = [lexicographic({"a": a, "b": 1e308}, criteria) for a in (-HUGE, -1.0, 1.0, 1e308, HUGE)]
    assert figures == sorted(figures) and all(map(math.isfinite, figures))
    assert lexicographic({"a": 1.0, "b": HUGE}, criteria) < lexicographic({"a": 1.0, "b": -HUGE}, criteria)


def test_a_training_is_pruned_by_the_same_rule_whatever_the_scale() -> None:
    verdicts = []
    for scale in (1.0, 2.0**1022):
        rule = MedianRule("loss", sign=1, after=0, trainings=2)
        for number in range(4):
            for value in (1.0, 3.0, 2.0):
                rule.hopeless(f"known-{number}", {"loss": scale * value})
            rule.ended(f"known-{number}", well=True)
        verdicts.append([rule.hopeless("new", {"loss": scale * value}) for value in (3.5, 2.5, 2.1, 1.9)])
    assert verdicts[0] == verdicts[1] == [True, True, True, False]


def test_a_run_without_any_success_has_no_range() -> None:
    assert History([]).bands.empty
