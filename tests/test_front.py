"""Several targets with any method: the front, its hypervolume, what searches along it; and constraints on metrics."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from operator import le
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_search import make_job
from test_several_targets import searched

from swarm import (
    BOHB,
    GA,
    PSO,
    TPE,
    AsyncPSO,
    Demes,
    Grid,
    Hyperband,
    Job,
    MuPlusLambda,
    Random,
    Real,
    Rescored,
    Run,
    Space,
    Staged,
    SurrogatePSO,
    run,
)
from swarm.errors import InvalidInput, InvalidJob
from swarm.optimizers.base import Optimizer
from swarm.optimizers.front import crowding, hypervolume, ordered, ranks, scalarised, undominated
from swarm.report import write
from swarm.runs.history import History
from swarm.search import Search
from swarm.service.published.publisher import Publisher
from swarm.store import Store

OpenStore = Callable[..., Store]
TARGETS = {"error": "minimize", "size": "minimize"}


def measured(params: Any, ctx: Any) -> dict[str, float]:
    """Schaffer's problem, twice over: the front is where x is from 0 to 2, and y is 0."""
    x, y = params["x"], params["y"]
    return {"error": x**2 + y**2, "size": (x - 2) ** 2 + y**2, "speed": 10 * x}


def job_of(**changes: Any) -> Job:
    space = {"x": Real(-4, 4), "y": Real(-4, 4)}
    return Job(**{"name": "j", "problem": measured, "space": space, "fitness": TARGETS, **changes})


METHODS: list[Optimizer] = [
    Random(trials=30),
    Grid(points=5),
    PSO(particles=5, generations=5),
    AsyncPSO(particles=5, generations=5),
    GA(population=6, generations=5),
    TPE(trials=30),
    SurrogatePSO(trials=24, particles=5),
    MuPlusLambda(evaluations=20, restarts=0),
    Hyperband(min_budget=1, max_budget=9, iterations=4),
    BOHB(min_budget=1, max_budget=9, iterations=4),
    Staged(stages=[[1, 10], [3, 6]]),
    Demes(of=GA(population=4, generations=3)),
    Rescored(of=Random(trials=12), top=4),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
def test_any_method_searches_for_several_targets_and_has_the_front_of_its_trials(
    method: Optimizer, open_store: OpenStore
) -> None:
    job, store = job_of(optimizer=method), open_store()
    state = searched(job, store).state
    rows = History(store.events("j"), sign=1, leaders=state.leaders).trials
    rows = rows[rows["budget"].fillna(0) == rows["budget"].fillna(0).max()]
    losses = list(zip(rows["fitness"], rows["size"], strict=True))
    alone = {
        int(trial)
        for trial, mine in zip(rows["trial"], losses, strict=True)
        if not any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in losses)
    }
    assert {best.trial.id for best in state.front} == alone and alone
    assert [best.fitness for best in state.front] == sorted(best.fitness for best in state.front)
    assert state.best is not None and (isinstance(method, MuPlusLambda) or state.best.trial.id in alone)
    again = Search(job, store).state
    assert (again.best, again.front) == (state.best, state.front)


def test_a_generation_does_not_depend_on_the_number_of_slots(open_store: OpenStore) -> None:
    for method in (GA(population=6, generations=5), PSO(particles=6, generations=5)):
        job = job_of(optimizer=method)
        few, many = (searched(job, open_store(f"{type(method).__name__}{slots}"), slots).state for slots in (1, 40))
        assert few.front == many.front and few.best == many.best


def zdt1(params: Any) -> tuple[float, float]:
    """Zitzler, Deb and Thiele's first problem, of six dimensions."""
    x = list(params.values())
    g = 1 + 9 * sum(x[1:]) / 5
    return x[0], g * (1 - float(np.sqrt(x[0] / g)))


def volume(method: Optimizer, seed: int) -> float:
    """What the trials of a search dominate."""
    optimizer = method.start(Space({f"x{place}": Real(0, 1) for place in range(6)}), seed=seed)
    found = []
    while not optimizer.done:
        trial = optimizer.ask()
        assert trial is not None
        found.append(zdt1(trial.params))
        optimizer.tell(trial, found[-1] if optimizer.compares else found[-1][0])
    return hypervolume(found, (1.0, 6.0))


@pytest.mark.parametrize("method", [GA(population=20, generations=6, mutation=0.2), SurrogatePSO(trials=50)], ids=repr)
def test_a_method_that_searches_along_the_front_covers_more_of_it_than_chance(method: Optimizer) -> None:
    trials = method.start(Space({"x": Real(0, 1)})).planned
    guided = [volume(method, seed) for seed in range(5)]
    chance = [volume(Random(trials=trials), seed) for seed in range(5)]
    assert np.median(guided) > np.median(chance)


def test_the_front_is_a_table_of_the_run_and_a_part_of_its_report(tmp_path: Path) -> None:
    job = job_of(optimizer=Random(trials=40), isolation="thread")
    found = run(job, slots=1, store=tmp_path / "a.db", progress=False)
    assert list(found.front.columns) == ["trial", "x", "y", "metrics.error", "size"]
    assert found.front["metrics.error"].is_monotonic_increasing and found.front["size"].is_monotonic_decreasing
    write(Run.load("j", tmp_path / "a.db"), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"{len(found.front)} are dominated by no other" in page and "Hypervolume of the front" in page


def test_a_run_with_one_fitness_has_no_front_and_says_how_to_have_one(tmp_path: Path) -> None:
    job = job_of(optimizer=Random(trials=2), isolation="thread", fitness="error", direction="minimize")
    with pytest.raises(InvalidInput, match="name several targets in the job"):
        _ = run(job, slots=1, store=tmp_path / "a.db", progress=False).front


def test_folds_that_are_searched_apart_have_no_common_front() -> None:
    with pytest.raises(InvalidJob, match="say fold_mode: mean"):
        job_of(optimizer=Random(trials=3), folds=2)
    assert job_of(optimizer=Random(trials=3), folds=2, fold_mode="mean").targets == TARGETS


# --- constraints


def constrained(wanted: Any, **changes: Any) -> Job:
    defaults = {"fitness": "error", "direction": "minimize", "constraints": wanted, "optimizer": Random(trials=60)}
    return job_of(**{**defaults, **changes})


@pytest.mark.parametrize(
    "method", [Random(trials=60), GA(population=8, generations=6), SurrogatePSO(trials=40), TPE(trials=40)], ids=repr
)
def test_the_best_meets_the_constraints_and_every_reader_says_the_same(
    method: Optimizer, open_store: OpenStore
) -> None:
    job, store = constrained({"speed": ">= 10", "size": "< 4"}, optimizer=method), open_store()
    outlet = Publisher(job)
    state = searched(job, store).state
    replayed = Search(job, store, outlet.note).state
    best = state.best
    assert best is not None and best.metrics["speed"] >= 10 and best.metrics["size"] < 4
    history = History(store.events("j"), sign=1, leaders=state.leaders)
    rows = history.trials[(history.trials["speed"] >= 10) & (history.trials["size"] < 4)]
    assert best.fitness == rows["fitness"].min()
    assert history.best == best.trial.id == replayed.best.trial.id  # type: ignore[union-attr]
    lead = outlet.memory().lead
    assert lead is not None and (lead.trial, lead.fitness) == (best.trial.id, best.fitness)
    assert sum(state.unmet.values()) == len(history.trials) - len(rows) > 0
    assert state.counts["failed"] == 0


def test_where_no_trial_meets_them_there_is_no_best_and_the_run_says_why(tmp_path: Path, capsys: Any) -> None:
    from swarm.terminal.tables import summary
    from swarm.terminal.text import console

    job = constrained({"speed": ">= 1000"}, optimizer=Random(trials=5), isolation="thread")
    found = run(job, slots=1, store=tmp_path / "a.db", progress=False)
    assert found.best is None and found.status == "finished"
    console().print(summary(found.state, found.status))
    assert "5 trials did not meet speed >= 1000" in capsys.readouterr().out
    assert len(found.history) == 5
    write(found, tmp_path / "report.html")
    lacking = constrained({"latency": "<= 1"}, optimizer=Random(trials=2), isolation="thread", name="k")
    state = run(lacking, slots=1, store=tmp_path / "a.db", progress=False).state
    assert list(state.unmet) == ["latency <= 1, but the training returned no latency"]


def test_the_front_has_only_what_meets_the_constraints(open_store: OpenStore) -> None:
    state = searched(job_of(optimizer=Random(trials=60), constraints={"speed": "<= 5"}), open_store()).state
    assert state.front and all(best.metrics["speed"] <= 5 for best in state.front)


@pytest.mark.parametrize("wanted", [{"a": "20"}, {"a": "== 3"}, {"a": 3}, {"a": "<= x"}, {"a": ">= 1 or 2"}, "a <= 3"])
def test_a_constraint_that_is_none_is_refused_with_what_to_write(wanted: Any) -> None:
    with pytest.raises(InvalidJob, match="<= 20"):
        constrained(wanted)


def test_a_constraint_has_one_spelling_and_earlier_jobs_have_none() -> None:
    assert constrained({"size": "<=4e0"}).constraints == {"size": "<= 4e0"}
    earlier = {key: value for key, value in make_job().to_dict().items() if key not in ("constraints", "first")}
    assert make_job().differences(earlier) == []


# --- known answers, worked out by hand


def test_ranks_crowding_and_order_are_those_of_nsga_ii() -> None:
    losses = [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0), (3.0, 4.0), (5.0, 5.0), (2.0, 3.0)]
    assert ranks(losses) == [0, 0, 0, 1, 2, 0]
    assert sorted(undominated(losses)) == [0, 1, 2, 5]
    assert crowding([(0.0, 4.0), (1.0, 2.0), (3.0, 1.0), (4.0, 0.0)]) == [np.inf, 0.75 + 0.75, 0.75 + 0.5, np.inf]
    assert ordered([(0.0, 4.0), (3.0, 1.0), (1.0, 2.0), (4.0, 0.0), (9.0, 9.0)]) == [0, 3, 2, 1, 4]


@pytest.mark.parametrize("targets", [1, 2, 3, 4])
def test_the_front_of_a_trial_follows_from_who_dominates_whom_with_equals_and_failures(targets: int) -> None:
    rng = random.Random(targets)
    for _ in range(100):
        values = [rng.random() for _ in range(5)] + [math.inf, 0.0, -1.0]
        losses = [tuple(rng.choice(values) for _ in range(targets)) for _ in range(rng.randint(1, 40))]
        found = ranks(losses)
        for mine, rank in zip(losses, found, strict=True):
            above = [r for other, r in zip(losses, found, strict=True) if other != mine and all(map(le, other, mine))]
            assert rank == max(above, default=-1) + 1
        assert sorted(undominated(losses)) == [place for place, rank in enumerate(found) if rank == 0]


def test_a_large_population_is_ranked_beforehand_and_bears_the_same_children() -> None:

    def born(prepared: bool) -> list[Any]:
        method = GA(population=300, generations=3).start(Space({"x": Real(0, 1), "y": Real(0, 1)}), seed=1)
        rng, found, pondered = random.Random(3), list[Any](), 0
        while len(found) < (method.planned or 0):
            if method.ponders:
                pondered += 1
                if prepared:
                    method.prepare()
            generation = [trial for trial in iter(method.ask, None) if trial is not None]
            for trial in generation:
                method.tell(trial, (rng.random(), rng.random()))
            found += [trial.params for trial in generation]
        assert pondered > 0
        return found

    assert born(prepared=True) == born(prepared=False)


def test_the_hypervolume_is_the_area_below_the_steps_and_the_volume_of_boxes() -> None:
    assert hypervolume([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], (4.0, 4.0)) == 6.0
    assert hypervolume([(1.0, 1.0), (9.0, 0.0)], (4.0, 4.0)) == 9.0
    assert hypervolume([(0.0, 0.0, 0.0)], (2.0, 3.0, 4.0)) == 24.0
    assert hypervolume([(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)], (2.0, 2.0, 2.0)) == 4.0
    assert hypervolume([], (1.0, 1.0)) == 0.0


def test_to_halve_one_target_counts_as_much_as_to_halve_another() -> None:
    assert scalarised((0.1, 2e6)) == pytest.approx(scalarised((0.2, 1e6)))
    assert scalarised((-4.0, 2.0)) == pytest.approx(scalarised((-2.0, 1.0)))
    assert scalarised((0.1, 0.0)) < scalarised((0.1, 1e-3)) < scalarised((0.11, 1e-3))
