"""Each count of a job has a bound, looked at before anything is built; the refusal says what to lower or raise."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from pathlib import Path
from typing import Any

import dask
import pytest

from swarm import Choice, Integer, Job, Real
from swarm.errors import InvalidInput
from swarm.optimizers import OPTIMIZERS

HUGE = 10**9
GA = {"name": "GA", "population": 4, "generations": 2}


def train(params: Any, ctx: Any) -> float:
    return 0.0


def make_job(**changes: Any) -> Job:
    data = {"name": "a", "problem": train, "space": {"x": Real(0, 1)}, "optimizer": {"name": "PSO", "particles": 3}}
    return Job(**{**data, **changes})


METHODS: dict[str, dict[str, Any]] = {
    "PSO": {"particles": HUGE},
    "AsyncPSO": {"particles": HUGE},
    "Random": {"trials": HUGE},
    "Grid": {"points": HUGE},
    "Staged": {"stages": [[1, HUGE]]},
    "TPE": {"trials": 9, "candidates": HUGE},
    "Hyperband": {"min_budget": 1, "max_budget": HUGE},
    "BOHB": {"min_budget": 1, "max_budget": 9, "candidates": HUGE},
    "GA": {"population": HUGE},
    "PBT": {"population": HUGE},
    "Demes": {"of": GA, "rows": 10**5, "columns": 10**5},
    "MuPlusLambda": {"children": HUGE},
    "Rescored": {"of": {"name": "Random", "trials": 9}, "top": HUGE},
    "SurrogatePSO": {"near": HUGE},
}
MORE = {
    "demes of many": {"name": "Demes", "of": {**GA, "population": 10**4}, "rows": 9, "columns": 9},
    "many weight parents": {"name": "PBT", "population": 4, "weight_parents": HUGE},
    "overproduced": {"name": "GA", "population": 15_000, "children": "overproduce"},
    "within another": {"name": "Rescored", "of": {"name": "PSO", "particles": HUGE}, "budget": 5},
    "too much to wait for": {"name": "TPE", "model": "hpbandster", "trials": 9, "min_points": HUGE},
    "a bracket of millions": {"name": "Hyperband", "min_budget": 1e-300, "max_budget": 1e300, "eta": 2},
    "slices without number": {"name": "PBT", "population": 4, "max_budget": 1e300, "slice": 1e-300},
    "beyond all numbers": {"name": "PSO", "generations": 10**400},
    "all the values of five digits": {"name": "Grid", "points": HUGE},
}
JOBS: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": {"name": name, **options}, "checkpoints": True} for name, options in METHODS.items()},
    **{name: {"optimizer": method, "checkpoints": True} for name, method in MORE.items()},
    "repeats": {"repeats": HUGE},
    "folds times repeats": {"repeats": 101, "folds": 10, "fold_mode": "mean"},
    "particles of all folds": {"optimizer": {"name": "PSO", "particles": 3000}, "folds": 10},
    "particles times dimensions": {
        "optimizer": {"name": "PSO", "particles": 10_000},
        "space": {f"x{i}": Real(0, 1) for i in range(200)},
    },
    "parameters": {"space": {f"x{i}": Integer(0, 9) for i in range(1001)}},
    "options of a choice": {"space": {"x": Choice(*range(10_001))}},
    "options of a choice, as data": {"space": {"x": {"choice": list(range(10**6))}}},
    "a long name": {"space": {"x" * 201: Real(0, 1)}},
    "depth": {"fitness": {"a": json.loads("[" * 60 + "]" * 60)}},
    "bytes": {"requirements": ["x" * 10**6, "y" * 10**6]},
    "metrics": {"fitness": {f"m{i}": 1.0 for i in range(101)}, "direction": "minimize"},
    "what follows": {
        "then": {"optimizer": {"name": "PBT", "population": HUGE}, "search": ["x"]},
        "checkpoints": "/tmp/kept",
    },
}


def test_every_method_has_something_that_can_be_too_large() -> None:
    assert set(METHODS) == set(OPTIMIZERS)


@pytest.mark.parametrize("case", JOBS)
def test_a_job_that_is_too_large_is_refused_at_once_with_the_remedy(case: str) -> None:
    changes = JOBS[case]
    if case.startswith("all the values"):
        changes = {**changes, "space": {"x": Real(1e-300, 1e300, log=True, digits=5)}}
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(InvalidInput) as refused:
        make_job(**changes)
    seconds, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert any(word in str(refused.value) for word in ("lower", "raise", "fewer", "shorten", "allowed", "leave out"))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000
    assert seconds < 5 and most < 150e6  # tracing costs the most of it


@pytest.mark.parametrize(
    ("setting", "value", "changes"),
    [
        ("max-repeats", 10**10, {"repeats": 2000}),
        ("max-population", 10**10, {"optimizer": {"name": "PSO", "particles": 30_000, "generations": 0}}),
        ("max-evaluations", 10**12, {"optimizer": {"name": "Random", "trials": HUGE}}),
        ("max-options", 10**6, {"space": {"x": Choice(*range(10_001))}}),
    ],
)
def test_a_limit_is_a_setting(setting: str, value: int, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"swarm.{setting}"):
        make_job(**changes)
    with dask.config.set({f"swarm.{setting}": value}):
        assert make_job(**changes).space is not None


def test_a_master_with_lower_limits_refuses_what_a_client_took() -> None:
    spec = make_job(repeats=9).to_dict()
    with dask.config.set({"swarm.max-repeats": 5}), pytest.raises(InvalidInput, match=r"swarm\.max-repeats"):
        Job.from_dict(spec, b"")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "field",
    ["stop.target", "stop.seconds", "stop.gpu_hours", "stop.evaluations", "time_limit", "gpus_per_training", "version"],
)
def test_a_number_that_is_none_is_refused(field: str, number: float) -> None:
    outer, _, inner = field.partition(".")
    with pytest.raises(InvalidInput, match="GPUs" if "gpus" in field and not inner else inner or outer):
        make_job(**{outer: {inner: number} if inner else number})


BOMBS = {
    "aliases": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
    "merged keys": "a: &a {k: v}\n"
    + "".join(f"{y}: &{y} {{<<: [{','.join([f'*{x}'] * 10)}]}}\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
    "itself": "a: &a [*a]\n",
    "flow": "a: " + "[" * 100_000,
    "blocks": "- " * 100_000 + "x",
    "size": "a: [" + "1, " * 500_000 + "1]",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_job_file_that_would_fill_the_memory_is_refused_at_once(tmp_path: Path, bomb: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"{BOMBS[bomb]}\n")
    began = time.process_time()
    with pytest.raises(InvalidInput, match=r"swarm\.max-(specification|depth)"):
        Job.from_file(file)
    assert time.process_time() - began < 2


KNOWN = {
    "self: 1": "unknown key 'self'",
    "1: 2": "unknown key 1",
    "optimizer: {name: Rescored, of: {particles: 3}}": "an optimizer is a name",
    "problem: mae-sampling\noptions: {data: {name: sine}, layers: [1]}": "options",
    "options: [1]": "options are arguments by name",
    "then: {1: 2}": "unknown key 1",
    "optimizer: {name: PSO, 1: 2}": "names of options are texts",
    "optimizer: {name: GA, initial: [{1: 2}]}": "1",
    "optimizer: {name: Replay, steps: [1]}": "steps",
    "version: 2026-02-31": "is not YAML",
    "name: 'a b'": "cannot name a job",
    'name: "a\\nb"': "cannot name a job",
}


@pytest.mark.parametrize("line", KNOWN)
def test_a_slip_in_a_job_file_is_one_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "job.yaml"
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    return 0.0\n")
    given = {text.partition(":")[0] for text in line.splitlines()}
    rest = {
        "name": "a",
        "problem": "train.py:train",
        "space": "{x: {real: [0, 1]}}",
        "optimizer": "{name: Random, trials: 3}",
    }
    lines = [*line.splitlines(), *(f"{key}: {value}" for key, value in rest.items() if key not in given)]
    file.write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=KNOWN[line]) as refused:
        Job.from_file(file)
    assert "\n" not in str(refused.value)


def test_a_search_with_nothing_left_to_try_ends_however_often_it_restarts() -> None:
    method = {"name": "MuPlusLambda", "population": 2, "migrants": 2, "evaluations": 1, "restarts": HUGE}
    optimizer = make_job(optimizer=method).start()
    while not optimizer.done:
        trial = optimizer.ask()
        assert trial is not None
        optimizer.tell(trial, 1.0)
    assert optimizer.planned == 2


def test_a_finite_space_of_any_size_has_a_plan() -> None:
    space = {f"x{i}": Integer(0, 2**50) for i in range(50)}
    with pytest.raises(InvalidInput, match=r"swarm\.max-evaluations"):
        make_job(space=space, optimizer={"name": "Random", "proportion": 0.5})
