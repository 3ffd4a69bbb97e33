"""Earlier results as knowledge: from a run, a table, Optuna or the job; learned from, and counted as no trainings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_search import bowl, make_job, make_pool, search, trajectory
from typer.testing import CliRunner

from swarm import (
    BOHB,
    GA,
    PBT,
    PSO,
    TPE,
    Choice,
    Grid,
    Hyperband,
    Integer,
    Job,
    Random,
    Real,
    Run,
    Staged,
    SurrogatePSO,
    run,
)
from swarm.cli import app
from swarm.errors import InvalidJob
from swarm.job.earlier.belonging import MOST
from swarm.optimizers.base import Optimizer
from swarm.runs.export import to_optuna, to_parquet
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Began

OpenStore = Callable[..., Store]
BEST = {"x": 7, "y": 12}
KNOWN = [{"params": {"x": x, "y": y}, "fitness": bowl({"x": x, "y": y})} for x in (0, 6, 7, 20) for y in (3, 12, 13)]
METHODS: list[Optimizer] = [
    SurrogatePSO(trials=12),
    TPE(trials=12),
    BOHB(min_budget=1, max_budget=3, iterations=3),
    PSO(particles=4, generations=2),
    GA(population=4, generations=2),
    Random(trials=8),
    Grid(),
    Hyperband(min_budget=1, max_budget=3, iterations=3),
    Staged(stages=[[1, 6]]),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("folds", [1, 2])
def test_any_method_begins_with_them_and_none_is_a_trial_or_a_training(
    method: Optimizer, folds: int, open_store: OpenStore
) -> None:
    store, pool = open_store(), make_pool(1)
    job = make_job(optimizer=method, results=KNOWN, folds=folds)
    state = search(job, store, pool).state
    assert state.counts["imported"] == len(KNOWN)
    assert state.told == len(trajectory(store)) and state.counts["trained"] == pool.submitted
    if not method.takes_results or isinstance(method, SurrogatePSO):
        assert trajectory(store)[0][3] == BEST, "the best of them is among its first"
    again = Search(job, store).state
    assert (again.best, again.counts, again.told) == (state.best, state.counts, state.told)
    other = search(make_job(optimizer=method, folds=folds), open_store("other"), make_pool(1)).state
    assert "imported" not in other.counts
    assert [row[3] for row in trajectory(open_store("other"))] != [row[3] for row in trajectory(store)]


def test_a_job_names_no_places_but_results_and_goes_on_when_those_places_have_changed(
    tmp_path: Path, open_store: OpenStore
) -> None:
    table = tmp_path / "known.csv"
    table.write_text("x,y,fitness\n7,12,0\n")
    job, store = make_job(results=[{"csv": table}], optimizer=Random(trials=4)), open_store()
    assert job.results == [{"params": BEST, "fitness": 0.0}]
    search(job, store)
    table.write_text("x,y,fitness\n1,1,-3\n2,2,-4\n")
    later = make_job(results=[{"csv": table}], optimizer=Random(trials=6))
    state = search(later, store).state
    assert (state.counts["imported"], state.told) == (1, 6), "what it began with is in its journal"


def trained(params: Any, ctx: Any) -> float:
    return float(params["n"]) - abs(params["lr"] - 0.1) + (params["act"] == "relu") + (params["flag"] is True)


SPACE = {
    "n": Integer(1, 8),
    "lr": Real(0.001, 1, log=True),
    "act": Choice("relu", "tanh"),
    "flag": Choice(True, False),
    "batch": 32,
    "status": Integer(0, 3),  # called like a column
}


@pytest.fixture
def before(tmp_path: Path) -> Run:
    job = Job(name="before", problem=trained, space=SPACE, optimizer=Random(trials=12), isolation="thread")
    return run(job, slots=1, store=tmp_path / "swarm.db", progress=False)


def then(results: Any, **changes: Any) -> Job:
    defaults = {"name": "then", "problem": trained, "space": SPACE, "optimizer": TPE(trials=4), "results": results}
    return Job(**{**defaults, **changes})


@pytest.mark.parametrize("kind", ["run", "csv", "parquet", "optuna"])
def test_what_one_run_has_found_another_knows_exactly(kind: str, before: Run, tmp_path: Path) -> None:
    rows = {each["trial"]: each["fitness"] for each in before.history.to_dict("records")}
    if kind == "csv":
        before.history.to_csv(tmp_path / "a.csv", index=False)
    elif kind == "parquet":
        to_parquet(before, tmp_path / "a.parquet")
    elif kind == "optuna":
        pytest.importorskip("optuna")
        to_optuna(before, f"sqlite:///{tmp_path}/study.db")
    sources: dict[str, dict[str, Any]] = {
        "run": {"run": "before", "store": tmp_path / "swarm.db"},
        "csv": {"csv": tmp_path / "a.csv"},
        "parquet": {"parquet": tmp_path / "a.parquet"},
        "optuna": {"optuna": f"sqlite:///{tmp_path}/study.db"},
    }
    job = then([sources[kind]])
    with closing(Store(tmp_path / "swarm.db")) as store:
        asked = [event.trial.params for event in store.events("before") if event.kind == "asked"]  # type: ignore[attr-defined]
    assert [each["params"] for each in job.results] == asked
    assert [each["fitness"] for each in job.results] == pytest.approx(list(rows.values()))
    assert all(type(each["params"]["flag"]) is bool for each in job.results)


def test_a_job_file_names_places_beside_itself_and_the_command_line_adds_some(before: Run, tmp_path: Path) -> None:
    before.history.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    return params['n']\n")
    spec = {
        "name": "then",
        "problem": "train.py:train",
        "space": {"n": {"integer": [1, 8]}},
        "optimizer": {"name": "Random", "trials": 3},
        "isolation": "thread",
        "results": [{"csv": "a.csv"}, {"params": {"n": 8}, "fitness": 100}],
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    job = Job.from_file(tmp_path / "job.yaml")
    assert {"params": {"n": 8}, "fitness": 100.0} in job.results and len(job.results) <= 8
    added = f"run:before --store {tmp_path}/swarm.db".split()
    done = CliRunner().invoke(app, ["import", str(tmp_path / "job.yaml"), *added, "--check"])
    assert done.exit_code == 0 and "belong to the space of then; the best is" in done.output
    done = CliRunner().invoke(app, ["import", str(tmp_path / "job.yaml"), *added, "--slots", "1"])
    assert done.exit_code == 0 and "earlier results, which are none of these trainings" in done.output
    found = Run.load("then", tmp_path / "swarm.db")
    assert (found.counts["trained"], len(found.history)) == (3, 3) and found.counts["imported"] > 0


@pytest.mark.parametrize(
    ("results", "complaint"),
    [
        ([{"csv": "none.csv"}], r"results\[0\]: .*none.csv cannot be read"),
        ([{"params": {"n": 3}}], "a mapping and a number"),
        ([{"params": {"n": 99}, "fitness": 1}], "none of its 1 results belongs to the space"),
        ([{"cvs": "a.csv"}], r"is no source: write \{run: NAME"),
        ([{"run": "nobody", "store": "none.db"}], "run 'nobody'"),
        (["a.csv"], "is no source"),
        ([{"csv": "a.csv", "fitnes": "x"}], "did you mean 'fitness'"),
    ],
    ids=str,
)
def test_what_is_no_result_is_refused_with_what_to_write(results: Any, complaint: str) -> None:
    with pytest.raises(InvalidJob, match=complaint):
        then(results)


def test_results_to_maximize_are_none_for_a_job_that_minimizes(before: Run, tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match="is to maximize, that of the job to minimize: they do not compare"):
        then([{"run": "before", "store": tmp_path / "swarm.db"}], direction="minimize")


def test_of_very_many_the_best_half_is_kept_and_some_of_the_rest() -> None:
    many = [{"params": {"x": i, "y": 0}, "fitness": float(i)} for i in range(3 * MOST)]
    job = make_job(space={"x": Integer(0, 10**6), "y": Integer(0, 9)}, results=many)
    kept = [each["fitness"] for each in job.results]
    assert len(kept) == MOST and max(kept) == 3 * MOST - 1 and min(kept) == 0


def test_an_event_of_an_earlier_version_knows_of_no_imports(open_store: OpenStore) -> None:
    store = open_store()
    known = ({"params": {"x": 7, "y": 12}, "loss": 0.0},)
    job = make_job(optimizer=SurrogatePSO(trials=3))
    store.add_job("job", job.to_dict(), b"")
    store.append("job", 0, [Began(version="0.9", known=known)])
    state = search(job, store).state
    assert "imported" not in state.counts and trajectory(store)[0][3] == BEST


def test_pbt_that_has_no_room_for_them_begins_without() -> None:
    options: dict[str, Any] = {"checkpoints": True, "space": {"rate": Real(0, 1)}, "problem": trained, "name": "p"}
    job = Job(
        **options,
        optimizer=PBT(population=2),
        first=[{"rate": 0.1}, {"rate": 0.2}],
        results=[{"params": {"rate": 0.5}, "fitness": 1}],
    )
    from swarm.job.warm_start import imported
    from swarm.search.state import SearchState

    state = SearchState(job)
    state.apply(Began(version="1", known=imported(job)))
    assert [trial and trial.params["rate"] for trial in (state.optimizer.ask(), state.optimizer.ask())] == [0.1, 0.2]
