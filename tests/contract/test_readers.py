"""Whoever reads a run says the same: which trial is the best, how good it is, and what else its training returned.

Over every method, with ties, folds, repeats, failures, and answers that come in any order. What is right is worked out
here from the journal, by fractions.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console
from test_optimizers import DEMES, OPTIONS, RESCORED, VARIANTS
from typer.testing import CliRunner

from swarm import Choice, Integer, Job, Random, Real
from swarm.cli import app
from swarm.client import JobState
from swarm.config import quiet_dask
from swarm.dashboard.board import Board
from swarm.dashboard.searches import Fitness
from swarm.optimizers import OPTIMIZERS
from swarm.plain import canonical
from swarm.pool.virtual import VirtualPool
from swarm.report import write
from swarm.report.compare import Comparison
from swarm.runner import Run, enroll
from swarm.runs.export import entries, to_optuna, to_parquet
from swarm.runs.history import History
from swarm.runs.winner import Winner
from swarm.search import Search
from swarm.service.published.job_state import ended_state, state_of
from swarm.service.published.publisher import Publisher
from swarm.service.published.snapshot import View
from swarm.store import Event, Store, Submission
from swarm.terminal.tables import generation_table, summary
from swarm.trial import Evaluation, mean

quiet_dask()

SPACE = {  # some are called like a column
    "x": Integer(0, 9),
    "fitness": Real(0.1, 1, digits=1),
    "status": Choice("a", "b"),
    "loss": Integer(1, 3),  # so is a metric
}
METHODS = {
    **{name: OPTIMIZERS[method](**options) for name, (method, options) in VARIANTS.items()},
    **{f"Demes of {of}": OPTIMIZERS["Demes"](of=OPTIMIZERS[of](**OPTIONS[of]), **DEMES[of]) for of in DEMES},
    **{
        f"Rescored of {of}": OPTIMIZERS["Rescored"](of=OPTIMIZERS[of](**OPTIONS[of]), top=4, budget=81)
        for of in RESCORED
    },
    "several targets": OPTIMIZERS["MuPlusLambda"](evaluations=20, gene_rate=0.5),
}
COLUMNS = {"x": "x", "fitness": "params.fitness", "status": "params.status", "loss": "loss"}
METRICS = {"loss": "metrics.loss", "seconds": "metrics.seconds", "size": "size"}
MODES: dict[str, dict[str, Any]] = {
    "one training": {"direction": "maximize"},
    "a swarm per fold": {"direction": "minimize", "folds": 3},
    "mean of folds": {"direction": "maximize", "folds": 3, "fold_mode": "mean"},
    "repeats": {"direction": "minimize", "repeats": 3},
}


TARGETS = {"loss": "minimize", "size": "maximize", "seconds": "minimize"}
SUBMISSION = Submission("job", "me")


def train(params: Any, ctx: Any = None) -> float:
    """Never called: the pool is virtual."""
    raise NotImplementedError


train.resumable = True  # type: ignore[attr-defined]


def measured(evaluation: Evaluation) -> Mapping[str, float] | None:
    """Few different values, so that many are equal; now and then one fails; folds and repeats differ a little."""
    said = canonical(evaluation.params), evaluation.budget, evaluation.fold, evaluation.repeat
    digest = hashlib.sha256(repr(said).encode()).digest()  # not of the key, which another version would change
    if digest[0] < 64:
        return None
    fitness = 1.7 + 0.1 * (evaluation.params["x"] // 4) + 0.1 * (digest[1] % 3)
    if evaluation.merit is not None:
        fitness = digest[2] % 4 / 7
    return {"fitness": fitness, "loss": digest[2] % 4 / 7, "seconds": digest[3] % 5 / 3, "size": evaluation.params["x"]}


@dataclass
class Searched:
    """A run that has ended: as its store has it, and as the pages were told of it while it ran."""

    run: Run
    events: list[Event]
    live: View
    board: Board

    @property
    def history(self) -> History:
        job = self.run.job
        return History(self.events, sign=job.sign, leaders=self.run.state.leaders)


def searched(folder: Path, name: str, mode: str) -> Searched:
    """Search on a virtual pool where trainings end in any order, and read the run back from its store."""
    fields = MODES[mode]
    if name == "several targets":
        if mode == "a swarm per fold":
            pytest.skip("several targets are for one search over all folds")
        fields = {**fields, "direction": None, "fitness": TARGETS}
    job = Job(name="job", problem=train, space=SPACE, optimizer=METHODS[name], seed=4, test=False, **fields)
    outlet, live, times, board = Publisher(job), View(job.direction or ""), random.Random(1), Board(None)
    url = f"sqlite:///{folder}/swarm.db"

    def note(event: Event) -> None:
        live.apply(event)
        outlet.note(event)
        if times.random() < 0.1 and (message := outlet.message()) is not None:
            board.tell("me", {} if board.shown else {"job": "{}"}, {"job": message})

    with closing(Store(url)) as store:
        enroll(job, store)
        search = Search(job, store, note)
        asyncio.run(search.run(VirtualPool(5, measured, lambda _: times.uniform(1, 9))))
        board.tell(
            "me", {"job": json.dumps(state_of(search.state, SUBMISSION, search))}, {"job": outlet.message() or "{}"}
        )
        return Searched(Run.load("job", url), list(store.events("job")), live, board)


def right(found: Searched) -> tuple[int, float]:
    """The best trial and its fitness, by the definition: largest budget, best exact mean, lowest number."""
    answers = {event.data["key"]: event.data for event in found.events if event.kind == "result"}
    ranked = []
    for event in found.events:
        if event.kind == "asked":
            results = [each["result"] or answers[each["key"]] for each in event.data["evaluations"]]
            if all(result["fitness"] is not None for result in results):
                fitness = float(sum(Fraction(result["fitness"]) for result in results) / len(results))
                ranked.append((-(event.data["budget"] or 0), found.run.job.sign * fitness, event.data["id"]))
    _, loss, trial = min(ranked)
    return trial, found.run.job.sign * loss


def readers(found: Searched) -> Iterator[tuple[str, tuple[int, float]]]:
    """What everybody says who says which trial is the best."""
    run, history = found.run, found.history
    assert run.best is not None
    yield "run.best", (run.best.trial.id, run.best.fitness)
    state = state_of(run.state, SUBMISSION)
    yield "state", (state["best"]["trial"], state["best"]["fitness"])
    table = run.history.set_index("trial")
    yield "history", (run.best.trial.id, table["fitness"][run.best.trial.id])
    top = history.best_trials(3).iloc[0]
    yield "best configurations", (top["trial"], top["fitness"])
    points = history.points.set_index("trial")["fitness"]
    assert history.best is not None
    yield "best of the tables", (history.best, points[history.best])
    yield "line over answers", (history.best, history.points["best"].iloc[-1])
    yield "line over generations", (history.best, history.bands["best"].iloc[-1])
    shown = found.board.shown["job"].view
    assert shown is not None
    for name, view in (("view", found.live), ("page", shown), ("sent", View.from_dict(plain(shown.to_dict())))):
        assert view.lead is not None
        yield name, (view.lead.trial, view.lead.fitness)
        yield f"{name}'s first", (view.ordered()[0].trial, view.ordered()[0].fitness or 0.0)
    exported = {entry.trial: entry for entry in entries(run)}
    yield "export", (run.best.trial.id, exported[run.best.trial.id].fitness or 0.0)


def plain(data: Any) -> Any:
    return json.loads(json.dumps(data))


@pytest.mark.matrix
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", METHODS)
def test_all_readers_agree_to_the_last_bit_on_which_is_best(name: str, mode: str, tmp_path: Path) -> None:
    found = searched(tmp_path, name, mode)
    best = found.run.best
    assert best is not None and found.run.counts["failed"] > 0
    expected = (best.trial.id, best.fitness) if name == "several targets" else right(found)
    said = dict(readers(found))
    assert said == dict.fromkeys(said, expected)
    page = Fitness(found.board)
    page.update("job")
    assert f"best <b>{best.fitness:.6g}</b>" in page._said.text
    assert page._bands.data["best"][-1] == best.fitness
    out = Console(file=io.StringIO(), width=200)
    out.print(generation_table(found.run.state), summary(found.run.state, "finished"))
    assert ["fitness", f"{best.fitness:.6g}"] in [line.split() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    row = found.run.history.set_index("trial").loc[best.trial.id]
    for parameter, column in COLUMNS.items():
        assert row[column] == best.params[parameter]
    for metric, column in METRICS.items():
        assert row[column] == best.metrics[metric] == mean_of(found, best.trial.id, metric)


def mean_of(found: Searched, trial: int, metric: str) -> float:
    answers = {event.data["key"]: event.data for event in found.events if event.kind == "result"}
    asked = next(event.data for event in found.events if event.kind == "asked" and event.data["id"] == trial)
    results = [each["result"] or answers[each["key"]] for each in asked["evaluations"]]
    return float(sum(Fraction(result["metrics"][metric]) for result in results) / len(results))


@pytest.mark.parametrize("name", ["PSO", "PBT", "Hyperband", "several targets"])
def test_what_is_written_for_others_names_the_same_best(name: str, tmp_path: Path) -> None:
    found = searched(tmp_path, name, "mean of folds")
    run, best = found.run, found.run.best
    assert best is not None
    store = ["--store", run.store]
    written = CliRunner().invoke(app, ["export", "job", *store, "--csv", f"{tmp_path}/t.csv"])
    assert written.exit_code == 0, written.output
    to_parquet(run, tmp_path / "t.parquet")
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert list(table.columns) == list(run.history.columns)
    row = table.set_index("trial").loc[best.trial.id]
    assert (row["fitness"], row["status"], row["metrics.loss"]) == (best.fitness, "ok", best.metrics["loss"])
    assert {name: row[column] for name, column in COLUMNS.items()} == best.params
    rows = {int(each["trial"]): each for each in csv.DictReader((tmp_path / "t.csv").read_text().splitlines())}
    line = rows[best.trial.id]
    assert (float(line["fitness"]), line["status"]) == (best.fitness, "ok")
    assert (float(line["metrics.loss"]), line["params.status"]) == (best.metrics["loss"], best.params["status"])
    printed = CliRunner().invoke(app, ["best", "job", *store])
    assert yaml.safe_load(printed.stdout) == best.params
    assert Winner.of(run).params == best.params
    report = tmp_path / "report.html"
    write(run, report)
    text = report.read_text()
    assert f"trial {best.trial.id}, generation {best.trial.generation}" in text
    assert f"the best, {best.fitness:.5g}, is trial {best.trial.id} of generation" in text
    compared = Comparison([run, run])
    assert list(compared.table()["best"]) == [best.fitness] * 2
    assert [rows["best"].iloc[-1] for rows in compared.progress()[0].values()] == [best.fitness] * 2
    assert CliRunner().invoke(app, ["compare", "job", "job", *store]).exit_code == 0


@pytest.mark.parametrize("name", ["PSO", "PBT", "Hyperband", "several targets"])
def test_a_study_of_optuna_has_the_same_best(name: str, tmp_path: Path) -> None:
    import optuna

    found = searched(tmp_path, name, "mean of folds")
    best = found.run.best
    assert best is not None
    to_optuna(found.run, f"sqlite:///{tmp_path}/study.db")
    study = optuna.load_study(study_name="job", storage=f"sqlite:///{tmp_path}/study.db")
    assert study.user_attrs["best_trial"] == best.trial.id
    trial = study.trials[best.trial.id] if name == "several targets" else study.best_trial
    assert (trial.user_attrs["trial"], trial.value) == (best.trial.id, best.fitness)
    assert trial.params == best.params
    assert {name: trial.user_attrs[column] for name, column in METRICS.items()} == best.metrics
    assert (trial.user_attrs["source"], trial.user_attrs["generation"]) == ("trained", best.trial.generation)


def test_a_mean_that_is_shown_as_the_target_has_reached_it(tmp_path: Path) -> None:
    fields = {"folds": 3, "fold_mode": "mean", "stop": {"target": 1.1}}
    job = Job(name="job", problem=train, space=SPACE, optimizer=Random(trials=9), **fields)
    with closing(Store(f"{tmp_path}/swarm.db")) as store:
        enroll(job, store)
        search = Search(job, store)
        asyncio.run(search.run(VirtualPool(3, lambda each: (1.0, 1.1, 1.2)[each.fold])))
    assert search.state.best is not None and search.state.best.fitness == 1.1
    assert search.state.end_reason == "target reached" and search.state.told < 9


def test_the_mean_of_equals_is_what_they_are_in_any_order_and_however_large() -> None:
    for value in (0.1, 1.7, 1e308, -1.1e-310):
        assert mean([value] * 49) == value
    values = [1e16, 1.0, -1e16, 0.3]
    assert mean(values) == mean(values[::-1]) == 1.3 / 4


def test_a_job_that_ended_under_an_earlier_version_has_a_best_without_metrics(tmp_path: Path) -> None:
    found = searched(tmp_path, "Random", "one training")
    summary_then = state_of(found.run.state, SUBMISSION)
    del summary_then["best"]["metrics"]
    with closing(Store(found.run.store)) as store:
        state = JobState(**ended_state(store.job("job"), replace(SUBMISSION, state="finished", summary=summary_then)))
    assert state.best is not None and state.best["metrics"] == {}
    cells = re.findall("<th>(.*?)</th><td>(.*?)</td>", state._repr_html_())
    assert dict(cells)["state"] == "finished" and dict(cells)["params.status"] in ("a", "b")
