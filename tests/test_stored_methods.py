"""A store of the version before methods drew again what is known: its journals are replayed, and gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from dumps import restored

from swarm import PSO, Job
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Asked
from swarm.trial import Evaluation, Trial

METHODS = (
    *("pso", "async-pso", "random", "tpe", "bohb", "hyperband", "ga", "demes", "evolution", "staged", "rescored"),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with restored("stored_methods", tmp_path) as opened:
        yield opened


def loss(evaluation: Evaluation) -> float:
    """What the trainings of that store had returned."""
    p = evaluation.params
    return (p["n"] - 3) ** 2 + (p["k"] - 2) ** 2 / 2 + p.get("width", 0) / 8 + (p["act"] == "b") / 4


def job_of(store: Store, name: str) -> Job:
    return Job.from_dict(store.job(name).spec, b"")


def asked(store: Store, name: str) -> list[Trial]:
    trials = [event.trial for event in store.events(name) if isinstance(event, Asked)]
    return sorted(trials, key=lambda trial: trial.id)


def test_the_store_holds_a_job_of_each_method_that_could_repeat_itself(store: Store) -> None:
    assert sorted(store.specs()) == sorted(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_its_journal_is_replayed_to_its_end_and_gone_on_with_from_its_middle(store: Store, name: str) -> None:
    whole = Search(job_of(store, name), store)
    assert whole.state.finished() and whole.state.counts["archive"] + whole.state.counts["in_flight"] > 0
    trials, half = asked(store, name), store.length(name) // 2
    store.cut(name, half, [])
    half_way = Search(job_of(store, name), store)
    assert 0 < half_way.state.told < whole.state.told
    pool = VirtualPool(3, loss, lambda e: 1.0 + e.params["n"] + e.seed % 7)
    asyncio.run(half_way.run(pool))
    if whole.state.optimizer.generational:  # of the others who comes when is another order after a stop
        assert asked(store, name) == trials
    assert half_way.state.told == whole.state.told and half_way.state.best is not None


def test_a_job_of_today_under_its_name_is_told_what_has_changed(store: Store) -> None:
    old = store.job("pso").spec
    today = Job.from_dict(
        {**old, "optimizer": {"name": "PSO", "particles": 4, "generations": 7, "known": "again"}}, b""
    )
    assert today.differences(old) == [
        f"optimizer.{option} is {now!r}, was {then!r}"
        for option, now, then in (
            ("known", "again", "answer"),
            ("inertia", 0.7298, 0.5),
            ("cognitive", 1.49618, 0.5),
            ("social", 1.49618, 0.5),
            ("velocity", "halfway", "uniform"),
        )
    ]
    assert job_of(store, "pso").optimizer == PSO.paper(particles=4, generations=7)
    assert job_of(store, "pso").differences(old) == []
