"""Runs as other programs read them: each is read back by the program's own library."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from swarm import Choice, Integer, Job, Random, Real, run
from swarm.cli import app
from swarm.config import quiet_dask
from swarm.errors import InvalidInput
from swarm.runner import Run, enroll
from swarm.runs.export import entries, to_mlflow, to_optuna, to_parquet, to_tensorboard
from swarm.search import SearchState
from swarm.search.state import Request
from swarm.store import Store

quiet_dask()

TRIALS = 12


def train(params: Any, ctx: Any) -> dict[str, float]:
    if params["x"] > 7:
        raise ValueError("too large")
    for epoch in (1, 2):
        ctx.report(epoch=epoch, val_accuracy=0.1 * epoch * params["x"])
    return {"fitness": 0.2 * params["x"], "parameters": 100.0 * params["x"]}


SPACE = {"x": Integer(0, 9), "rate": Real(1e-4, 0.1, log=True), "kind": Choice("adam", 3, True), "batch": 32}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    job = Job(name="job", problem=train, space=SPACE, optimizer=Random(trials=TRIALS), isolation="thread", seed=3)
    return run(job, slots=1, store=f"{tmp_path_factory.mktemp('run')}/swarm.db", progress=False)


def test_entries_hold_what_is_known_of_each_trial(found: Run) -> None:
    for entry, row in zip(entries(found), found.history.to_dict("records"), strict=True):
        assert (entry.trial, entry.params["x"], entry.status) == (row["trial"], row["x"], row["status"])
        assert (entry.start, entry.end) == (row["start"], row["end"])
        if entry.status == "failed":
            assert entry.fitness is None and "too large" in entry.about["error"]
        else:
            assert entry.fitness == row["fitness"]
            assert entry.metrics == {"parameters": 100.0 * entry.params["x"]}
            assert [point["epoch"] for point in entry.curve] == [1, 2]
    assert {entry.status for entry in entries(found)} == {"ok", "failed"}


def test_parquet_holds_the_table_of_trials(found: Run, tmp_path: Path) -> None:
    to_parquet(found, tmp_path / "trials.parquet")
    table = pd.read_parquet(tmp_path / "trials.parquet")
    expected = found.history.assign(kind=found.history["kind"].map(str))  # options of several types become texts
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_an_optuna_study_holds_spaces_states_values_and_curves(found: Run, tmp_path: Path) -> None:
    import optuna

    storage = f"sqlite:///{tmp_path}/study.db"
    assert to_optuna(found, storage) == TRIALS
    study = optuna.load_study(study_name="job", storage=storage)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert found.best is not None
    assert study.best_value == found.best.fitness
    assert study.best_trial.params == {name: v for name, v in found.best.params.items() if name != "batch"}
    for trial, entry in zip(study.trials, entries(found), strict=True):
        assert trial.state.name == {"ok": "COMPLETE", "failed": "FAIL"}[entry.status]
        assert trial.intermediate_values == {int(p["epoch"]): p["val_accuracy"] for p in entry.curve}
        assert trial.distributions["rate"] == optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)
        assert trial.distributions["x"] == optuna.distributions.IntDistribution(0, 9)
        assert trial.distributions["kind"] == optuna.distributions.CategoricalDistribution(("adam", 3, True))
        assert trial.datetime_start is not None and trial.datetime_start.timestamp() == pytest.approx(entry.start)
        assert trial.user_attrs["source"] == "trained"
    with pytest.raises(InvalidInput, match="has a study 'job' already; delete it with: optuna delete-study"):
        to_optuna(found, storage)
    with pytest.raises(InvalidInput, match="Optuna cannot use 'nowhere://'"):
        to_optuna(found, "nowhere://")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_finds_hyper_parameters_and_curves(found: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert to_tensorboard(found, tmp_path) == TRIALS
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    entry = next(entry for entry in entries(found) if entry.status == "ok")
    read = EventAccumulator(str(tmp_path / "job" / f"trial-{entry.trial:05d}"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("val_accuracy")] == [
        (p["epoch"], pytest.approx(p["val_accuracy"])) for p in entry.curve
    ]
    assert read.Scalars("fitness")[0].value == pytest.approx(entry.fitness)
    content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.hparams["x"].number_value == entry.params["x"]
    assert start.start_time_secs == entry.start
    with pytest.raises(InvalidInput, match="exists already"):
        to_tensorboard(found, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_a_run_per_trial(found: Run, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra that brings much along")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert to_mlflow(found, uri) == TRIALS
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("job")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    assert len(runs) == TRIALS
    best = max(runs, key=lambda each: each.data.metrics.get("fitness", -1))
    assert found.best is not None
    assert best.data.params["x"] == str(found.best.params["x"])
    assert {each.info.status for each in runs} == {"FINISHED", "FAILED"}
    with pytest.raises(InvalidInput, match="MLflow at .* does not take it"):
        to_mlflow(found, uri)


def test_a_trial_that_is_running_is_exported_as_that(tmp_path: Path) -> None:
    store = Store(f"{tmp_path}/swarm.db")
    job = Job(name="job", problem=train, space=SPACE, optimizer=Random(trials=2))
    enroll(job, store)
    state = SearchState(job)
    request = state.next(5.0)
    assert isinstance(request, Request)
    store.append("job", 0, [state.ask(request, {}, 5.0)])
    store.close()
    loaded = Run.load("job", f"{tmp_path}/swarm.db")
    [entry] = entries(loaded)
    assert (entry.status, entry.fitness, entry.start, entry.end) == ("running", None, 5.0, None)
    assert to_optuna(loaded, f"sqlite:///{tmp_path}/study.db") == 1


def test_the_command_writes_several_at_once_and_names_what_is_missing(
    found: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["--csv", f"{tmp_path}/t.csv", "--parquet", f"{tmp_path}/t.parquet"]
    done = CliRunner().invoke(app, ["export", "job", "--store", found.store, *files])
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(tmp_path / "t.csv")) == len(pd.read_parquet(tmp_path / "t.parquet")) == TRIALS
    assert "t.parquet" in done.stdout
    plain = CliRunner().invoke(app, ["export", "job", "--store", found.store])
    assert plain.stdout == (tmp_path / "t.csv").read_text()
    for package, extra in (("pyarrow", "parquet"), ("optuna", "optuna"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, package, None)
        refused = CliRunner().invoke(app, ["export", "job", "--store", found.store, f"--{extra}", f"{tmp_path}/x"])
        assert f"pip install 'dask-swarm[{extra}]'" in str(refused.exception)
