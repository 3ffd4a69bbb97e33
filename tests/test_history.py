"""A run's tables say what its journal says: what was trained and saved, when, where, and who descends from whom."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from swarm import PBT, PSO, Hyperband, Integer, Job, Random, Real
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.runs.history import History
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation, Status

OpenStore = Callable[..., Store]
SPACE = {"x": Integer(0, 20), "y": Integer(0, 20)}


def bowl(params: Any, ctx: Any = None) -> float:
    """Best, 0, at x = 7, y = 12."""
    return -((params["x"] - 7) ** 2) - (params["y"] - 12) ** 2


def resumed(params: Any, ctx: Any = None) -> float:
    return float(params["lr"])


resumed.resumable = True  # type: ignore[attr-defined]


def seconds(evaluation: Evaluation) -> float:
    return 10.0 + evaluation.params["x"]


def searched(store: Store, pool: VirtualPool | None = None, **changes: Any) -> tuple[Search, History]:
    defaults = {"name": "job", "problem": bowl, "space": SPACE, "optimizer": PSO.paper(generations=12), "seed": 3}
    job = Job(**defaults | changes)
    enroll(job, store)
    search = Search(job, store)
    asyncio.run(search.run(pool or VirtualPool(3, lambda e: bowl(e.params), seconds)))
    return search, History(store.events(job.name), sign=job.sign, gpus=job.gpus)


def test_what_was_not_trained_saved_the_seconds_of_the_training_that_answered(open_store: OpenStore) -> None:
    search, history = searched(open_store())
    rows = history.evaluations
    assert dict(Counter(rows["source"])) == {name: n for name, n in search.state.counts.items() if n}
    assert (rows["seconds"] == [10.0 + search_params["x"] for search_params in history.params.values()]).all()
    saved = rows[rows["source"] != "trained"]
    assert len(saved) > 10
    assert history.generations["saved_seconds"].sum() == saved["seconds"].sum()
    assert history.generations["saved_hours"].iloc[-1] == pytest.approx(saved["seconds"].sum() / 3600)
    assert history.generations["trained_seconds"].sum() == search.state.trained_seconds


def test_gpu_hours_count_every_gpu_of_a_training(open_store: OpenStore) -> None:
    search, history = searched(open_store(), gpus_per_training=2)
    assert history.generations["trained_hours"].iloc[-1] == pytest.approx(2 * search.state.trained_seconds / 3600)


def test_the_generations_are_those_of_the_search(open_store: OpenStore) -> None:
    search, history = searched(open_store())
    for row in history.generations.itertuples():
        known = search.state.generations[row.generation]
        assert (row.low, row.high, row.evaluations) == (known.low, known.high, known.asked)
        assert row.mean == pytest.approx(known.mean)
        assert row.seconds == known.end - known.start
    assert list(history.bands["low"]) == list(history.generations["low"])


def test_the_best_so_far_ends_at_the_best(open_store: OpenStore) -> None:
    search, history = searched(open_store())
    assert search.state.best is not None
    assert history.points["best"].is_monotonic_increasing
    assert history.points["best"].iloc[-1] == history.bands["best"].iloc[-1] == search.state.best.fitness
    assert history.points["trial"][history.points["is_best"]].iloc[-1] == search.state.best.trial.id
    assert history.points["evaluations"].iloc[-1] == len(history.evaluations)


def test_the_best_so_far_of_each_generation_knows_nothing_of_later_ones_though_folds_run_ahead(
    open_store: OpenStore,
) -> None:
    pool = VirtualPool(1, lambda e: bowl(e.params) + 100 * e.fold, lambda e: 1.0 + 50 * (e.fold == 0))
    _, history = searched(open_store(), pool, folds=3, optimizer=PSO(particles=3, generations=4))
    assert list(history.bands["best"]) == list(history.bands["high"].cummax())


def test_at_most_so_many_slots_are_busy_as_there_are(open_store: OpenStore) -> None:
    search, history = searched(open_store())
    assert history.busy["busy"].max() == 3
    assert history.busy["busy"].iloc[-1] == 0
    worked = (history.busy["busy"].to_numpy()[:-1] * np.diff(history.busy["time"])).sum()
    assert worked == pytest.approx(search.state.trained_seconds)
    share = history.utilisation
    assert list(share.index) == ["virtual-0", "virtual-1", "virtual-2"]
    assert share.sum() * (history.end - history.start) == pytest.approx(search.state.trained_seconds)


def test_failures_and_what_ran_again_are_told_apart(open_store: OpenStore) -> None:
    runs: Counter[str] = Counter()

    def train(evaluation: Evaluation) -> float | Status | None:
        runs[evaluation.key] += 1
        if evaluation.params["x"] % 2:
            return None
        return Status.LOST if runs[evaluation.key] == 1 else bowl(evaluation.params)

    search, history = searched(open_store(), VirtualPool(3, train, seconds))
    assert history.again == {"lost": sum(count == 2 for count in runs.values())}
    failed = history.trainings[history.trainings["kind"] == "failed"]
    assert set(failed["error"]) == {"simulated failure"}
    assert len(history.points) == search.state.told - search.state.counts["failed"]


def test_one_generation_is_drawn_by_trial(open_store: OpenStore) -> None:
    _, history = searched(open_store(), optimizer=Random(trials=60))
    assert not history.by_generation
    assert sorted(history.points["x"]) == list(range(60))
    assert len(history.bands) == 12


def test_trials_trained_longest_are_the_best(open_store: OpenStore) -> None:
    pool = VirtualPool(3, lambda e: bowl(e.params) - (e.budget or 0.0), seconds)
    search, history = searched(open_store(), pool, optimizer=Hyperband(min_budget=1, max_budget=9, iterations=2))
    assert search.state.best is not None
    best = history.best_trials(3)
    assert best["trial"].iloc[0] == search.state.best.trial.id
    assert best["budget"].is_monotonic_decreasing
    assert history.points["best"].iloc[-1] == search.state.best.fitness


def test_the_winner_descends_from_its_parents_without_a_gap(open_store: OpenStore) -> None:
    space = {"lr": Real(0.01, 1.0, default=0.1)}
    _, history = searched(
        open_store(),
        VirtualPool(4, lambda e: e.params["lr"], lambda _: 1.0),
        problem=resumed,
        space=space,
        optimizer=PBT(population=4, max_budget=5),
        checkpoints=True,
    )
    line = history.lineage[history.lineage["winner"]].sort_values("generation")
    assert list(line["generation"]) == [0, 1, 2, 3, 4]
    assert list(line["parent"].iloc[1:]) == list(line["trial"].iloc[:-1])
    assert list(line["parent_member"].iloc[1:]) == list(line["member"].iloc[:-1])


def test_a_journal_without_events_has_empty_tables() -> None:
    history = History([])
    tables = ("trials", "evaluations", "trainings", "busy", "points", "bands", "generations", "folds", "lineage")
    assert [len(getattr(history, name)) for name in tables] == [0] * len(tables)
    assert (history.start, history.end, history.version) == (0.0, 0.0, None)
