"""No hyper-parameter and no metric stands in the place of anything else, whatever users call theirs."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from swarm import PBT, Choice, Integer, Job, Random, Real, Space
from swarm.dashboard.board import Board
from swarm.dashboard.searches import Fitness, Lineage, SearchSpace
from swarm.pool.virtual import VirtualPool
from swarm.report import write
from swarm.report.figures import figures
from swarm.report.tables import Tables
from swarm.runner import Run, enroll
from swarm.runs.export import entries, names, to_tensorboard
from swarm.runs.history import trials
from swarm.runs.importance import importance
from swarm.runs.schedule import plot, replay, schedule_columns
from swarm.search import Search
from swarm.service.published.job_state import state_of
from swarm.service.published.publisher import Publisher
from swarm.store import Store, Submission
from swarm.store.columns import TRIAL, columns
from swarm.trial import Evaluation

AWKWARD = (*TRIAL, "params.status", "params.params.status", "metrics.loss", "loss", "x", "mean_x", "index", "")
HEIRS = {"x": Real(1, 9), "mean_x": Real(1, 9), "budget": Real(1, 9), "value": Real(1, 9)}
OWN = ("trial", "generation", "status", "fitness", "seconds", "source")
CALLED_LIKE_COLUMNS = {name: Integer(0, 3) for name in (*OWN, "best", "xs", "p_xs")}


def train(params: Any, ctx: Any = None) -> float:
    """Never called: the pool is virtual."""
    raise NotImplementedError


train.resumable = True  # type: ignore[attr-defined]


def measured(evaluation: Evaluation) -> Mapping[str, float]:
    total = float(sum(evaluation.params.values()))
    return {"fitness": total, "seconds": 5.0, "x": -1.0, "trial": -2.0, "params.x": -3.0}


def searched(folder: Path, **fields: Any) -> tuple[Run, Board]:
    job = Job(name="job", problem=train, seed=1, **fields)
    outlet, board, url = Publisher(job), Board(None), f"sqlite:///{folder}/swarm.db"  # type: ignore[arg-type]
    with closing(Store(url)) as store:
        enroll(job, store)
        search = Search(job, store, outlet.note)
        asyncio.run(search.run(VirtualPool(3, measured)))
        state = json.dumps(state_of(search.state, Submission("job", "me")))
    board.tell("me", {"job": state}, {"job": outlet.message() or ""})
    return Run.load("job", url), board


def test_each_parameter_and_each_metric_has_a_column_of_its_own_whatever_they_are_called() -> None:
    for some in itertools.combinations(AWKWARD, 2):
        for others in itertools.combinations(AWKWARD, 2):
            named = columns(some, others)
            taken = [*TRIAL, *named.params.values(), *named.metrics.values()]
            assert len(set(taken)) == len(taken)
    assert columns(["lr", "status"], ["loss", "lr"]).params == {"lr": "lr", "status": "params.status"}
    assert columns(["lr", "status"], ["loss", "lr"]).metrics == {"loss": "loss", "lr": "metrics.lr"}


def test_the_history_keeps_the_trial_its_parameters_and_its_metrics_apart(tmp_path: Path) -> None:
    run, _ = searched(tmp_path, space=CALLED_LIKE_COLUMNS, optimizer=Random(trials=12))
    table = run.history
    assert table.columns.is_unique
    with closing(Store(run.store)) as store:
        asked = {event.data["id"]: event.data["params"] for event in store.events("job") if event.kind == "asked"}
    for row in table.to_dict("records"):
        params = asked[row["trial"]]
        assert {name: row[f"params.{name}"] for name in OWN} == {name: params[name] for name in OWN}
        assert row["xs"] == params["xs"] and row["fitness"] == sum(params.values())
        assert (row["status"], row["x"], row["metrics.trial"]) == ("ok", -1.0, -2.0)
        assert (row["metrics.seconds"], row["metrics.params.x"]) == (5.0, -3.0)


def test_the_report_the_figures_and_the_pages_draw_each_in_its_own_place(tmp_path: Path) -> None:
    run, board = searched(tmp_path, space=CALLED_LIKE_COLUMNS, optimizer=Random(trials=9))
    tables = Tables(run)
    for axis in tables.axes:
        drawn = tables.points.set_index("trial")[axis.column]
        assert dict(drawn) == {trial: params[axis.name] for trial, params in tables.history.params.items()}
    assert list(tables.points.set_index("trial")["fitness"]) == list(tables.history.points["fitness"])
    write(run, tmp_path / "report.html")
    assert '<th scope="col">params.trial<' in (tmp_path / "report.html").read_text()
    assert len([figure for _, figure in figures(tables)]) == 4
    page = SearchSpace(board)
    for _ in range(4):
        page.update("job")
    data = page._points.source.data
    params = [tables.history.params[trial] for trial in data["trial"]]
    assert [list(data[f"p_{name}"]) for name in CALLED_LIKE_COLUMNS] == [
        [float(each[name]) for each in params] for name in CALLED_LIKE_COLUMNS
    ]
    assert list(data["fitness"]) == [float(sum(each.values())) for each in params]
    assert {name.partition("_")[0] for name in data} >= {"trial", "fitness", "source", "p"}


def test_importance_of_a_parameter_called_fitness_is_that_of_any_other() -> None:
    configurations = [{"fitness": i % 7, "other": i // 7} for i in range(49)]
    results = [10.0 * each["other"] + each["fitness"] for each in configurations]
    found = importance(Space({"fitness": Integer(0, 6), "other": Integer(0, 6)}), configurations, results)
    renamed = [{"a": each["fitness"], "other": each["other"]} for each in configurations]
    same = importance(Space({"a": Integer(0, 6), "other": Integer(0, 6)}), renamed, results)
    assert found is not None and same is not None
    assert list(found.table["name"]) == ["other", "fitness"]
    pd.testing.assert_frame_equal(found.table.replace("fitness", "a"), same.table)


def test_a_schedule_keeps_the_budget_the_means_and_parameters_of_these_names_apart(tmp_path: Path) -> None:
    run, board = searched(tmp_path, space=HEIRS, optimizer=PBT(population=4, max_budget=3, mutation=0.5))
    table, named = run.schedule, schedule_columns(Space(HEIRS))
    assert table.columns.is_unique and list(table["budget"]) == [1, 2, 3]
    tables = Tables(run)
    everything = tables.history
    for name, (own, mean) in named.items():
        assert list(table[own]) == [everything.params[trial][name] for trial in table["trial"]]
        for row in table.to_dict("records"):
            told = everything.trials[everything.trials["generation"] == row["generation"]]["trial"]
            assert row[mean] == pytest.approx(sum(everything.params[each][name] for each in told) / 4)
        assert list(tables.schedule[name]["value"]) == list(table[own])
        assert list(tables.schedule[name]["budget"]) == [1, 2, 3]
    assert replay(run, name="again").optimizer.steps == [  # type: ignore[attr-defined]
        {"budget": budget, "params": dict(everything.params[trial])}
        for trial, budget in zip(table["trial"], (1, 2, 3), strict=True)
    ]
    plot(table, tmp_path / "schedule.html", "Schedule")
    assert all(own in (tmp_path / "schedule.html").read_text() for own, _ in named.values())
    write(run, tmp_path / "report.html")
    for page in (Fitness(board), Lineage(board)):
        for _ in range(3):
            page.update("job")


def test_exports_name_a_metric_by_the_same_rule(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = searched(tmp_path, space={"x": Integer(0, 9), "trial": Choice(1, 2)}, optimizer=Random(trials=3))
    named = {"seconds": "metrics.seconds", "x": "metrics.x", "trial": "metrics.trial", "params.x": "metrics.params.x"}
    assert names(list(entries(run))).metrics == named
    to_tensorboard(run, tmp_path)
    read = EventAccumulator(str(tmp_path / "job" / "trial-00001"))
    read.Reload()
    assert read.Scalars("fitness")[0].value == pytest.approx(run.history["fitness"][1])
    assert [read.Scalars(tag)[0].value for tag in named.values()] == [5.0, -1.0, -2.0, -3.0]


def test_a_metric_is_empty_where_a_trial_runs_has_failed_or_did_not_return_it(open_store: Callable[..., Store]) -> None:
    job = Job(name="job", problem=train, space={"x": Integer(0, 9)}, optimizer=Random(trials=10), repeats=2)
    store = open_store()
    enroll(job, store)

    def some(evaluation: Evaluation) -> Mapping[str, float] | None:
        x = float(evaluation.params["x"])
        if x > 7 and evaluation.repeat:
            return None
        return {"fitness": x, "always": x + evaluation.repeat, **({"once": 1.0} if evaluation.repeat else {})}

    asyncio.run(Search(job, store).run(VirtualPool(2, some)))
    table = trials(store.events("job")).set_index("x").sort_index()
    assert "once" not in table  # not all trainings of any trial have returned it
    assert list(table["always"])[:8] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert table["always"][8:].isna().all() and set(table["status"][8:]) == {"failed"}
    answered = 0
    beginning = [event for event in store.events("job") if event.kind == "asked" or (answered := answered + 1) < 5]
    running = trials(beginning)
    assert set(running["status"]) == {"running", "ok"} and "always" in running
    assert running["always"].notna().equals(running["status"] == "ok")
