"""Learning how long trainings take, and what it is good for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from swarm import PSO, Choice, Integer, Job, Real
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.search.durations import Durations
from swarm.space import Space
from swarm.store import Store
from swarm.trial import Evaluation

SPACE = Space({"filters": Integer(1, 64), "units": Real(8, 4096, log=True)})


def cost(params: Any) -> float:
    """Seconds that grow with the sizes of a network."""
    return 0.05 * params["filters"] ** 0.8 * params["units"] ** 0.3


def test_as_long_as_nothing_is_learned_what_is_larger_is_expected_to_take_longer() -> None:
    durations = Durations(SPACE)
    small, large = {"filters": 2, "units": 16.0}, {"filters": 60, "units": 2000.0}
    assert durations.expected(small) < durations.expected(large) < durations.expected(large, 3.0)
    assert Durations(Space({"act": Choice("a", "b")})).expected({"act": "b"}) == 1.0


def test_expectations_come_close_after_a_few_generations() -> None:
    durations = Durations(SPACE)
    rng = np.random.default_rng(1)
    for _ in range(60):
        params = SPACE.sample(rng)
        durations.learn(params, None, cost(params) * rng.lognormal(0.0, 0.1))
    errors = [math.log(durations.expected(p) / cost(p)) for p in (SPACE.sample(rng) for _ in range(200))]
    assert np.median(np.abs(errors)) < 0.15


def test_twice_the_budget_is_expected_to_take_twice_as_long() -> None:
    durations = Durations(SPACE)
    rng = np.random.default_rng(2)
    for budget in (1.0, 3.0, 9.0) * 30:
        params = SPACE.sample(rng)
        durations.learn(params, budget, budget * cost(params))
    params = SPACE.sample(rng)
    assert durations.expected(params, 6.0) / durations.expected(params, 3.0) == pytest.approx(2.0, rel=0.05)


def test_a_new_job_knows_the_durations_of_earlier_jobs_of_its_problem(open_store: Callable[..., Store]) -> None:
    store = open_store()
    job = Job(
        name="a", problem=lambda params, ctx: 0.0, space=SPACE, optimizer=PSO(particles=32, generations=2), seed=1
    )
    enroll(job, store)
    asyncio.run(Search(job, store).run(VirtualPool(16, lambda e: 0.5, lambda e: cost(e.params))))
    other = job.model_copy(update={"name": "b", "seed": 2})
    enroll(other, store)
    search = Search(other, store)
    pool = VirtualPool(4, lambda e: 0.5, lambda e: cost(e.params))
    asyncio.run(search.run(pool))
    first = [e.data for e in store.events("b") if e.kind == "result" and e.data["start"] == 0.0]
    asked = [e.data for e in store.events("b") if e.kind == "asked" and e.data["generation"] == 0]
    longest = sorted((cost(entry["params"]) for entry in asked), reverse=True)[:4]
    assert len(first) == 4
    assert sum(entry["seconds"] for entry in first) > 0.95 * sum(longest)


def test_longest_first_shortens_a_run_and_changes_nothing_else(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(
        name="job", problem=lambda params, ctx: 0.0, space=SPACE, optimizer=PSO(particles=32, generations=15), seed=1
    )

    def run(store: Store) -> tuple[Search, float]:
        enroll(job, store)
        search = Search(job, store)

        def fitness(evaluation: Evaluation) -> float:
            return -abs(evaluation.params["filters"] - 50) - abs(math.log(evaluation.params["units"] / 900))

        pool = VirtualPool(16, fitness, lambda e: cost(e.params))
        asyncio.run(search.run(pool))
        return search, pool.now

    first, seconds = run(open_store("longest-first"))
    monkeypatch.setattr(Durations, "expected", lambda self, params, budget=None: 1.0)
    second, seconds_as_asked = run(open_store("as-asked"))
    assert (first.state.best, first.state.counts) == (second.state.best, second.state.counts)
    assert seconds < 0.95 * seconds_as_asked
