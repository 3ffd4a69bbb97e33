"""The importance of hyper-parameters: what fitness depends on matters, and too few trials say nothing."""

from __future__ import annotations

import numpy as np

from swarm.runs.importance import Importance, importance
from swarm.space import Choice, Integer, Real, Space

SPACE = Space(
    {"rate": Real(1e-4, 1.0, log=True), "units": Integer(1, 64), "kind": Choice("a", "b", "c"), "dummy": Real(0, 1)}
)


def found(count: int, noise: float = 0.0, seed: int = 0) -> Importance | None:
    """Of a fitness in which the rate counts three times as much as the kind, and nothing else counts."""
    rng = np.random.default_rng(seed)
    tried = [SPACE.sample(rng) for _ in range(count)]
    fitness = [3 * SPACE.encode(p)[0] + (p["kind"] == "b") + noise * rng.normal() for p in tried]
    return importance(SPACE, tried, fitness)


def test_what_fitness_depends_on_comes_first_and_what_it_does_not_is_near_nothing() -> None:
    result = found(120)
    assert result is not None
    assert list(result.table["name"][:2]) == ["rate", "kind"]
    assert result.table["importance"].iloc[2:].abs().max() < 0.05 < result.table["importance"].iloc[1]
    assert result.r2 > 0.8
    assert "can be trusted" in result.confidence


def test_the_same_trials_give_the_same_importance() -> None:
    first, second = found(20), found(20)
    assert first is not None
    assert second is not None
    assert first.table.equals(second.table)


def test_few_or_noisy_trials_are_said_to_be_no_more_than_a_hint() -> None:
    few, noisy = found(25), found(40, noise=20.0)
    assert few is not None
    assert noisy is not None
    assert "take the order as a hint" in few.confidence
    assert "25 are few for 4 hyper-parameters" in few.confidence
    assert "too little to say what matters" in noisy.confidence


def test_with_next_to_no_trials_or_none_that_differ_nothing_is_said() -> None:
    assert found(0) is None
    assert found(9) is None
    params = {"rate": 0.1, "units": 3, "kind": "a", "dummy": 0.5}
    assert importance(SPACE, [params] * 50, range(50)) is None
    assert importance(SPACE, [{**params, "units": i} for i in range(1, 40)], [0.5] * 39) is None


def test_conditional_hyper_parameters_have_an_importance_too() -> None:
    space = Space({"method": Choice("sgd", "adam"), "momentum": Real(0, 1)}, when={"momentum": {"method": ["sgd"]}})
    rng = np.random.default_rng(0)
    tried = [space.sample(rng) for _ in range(30)]
    result = importance(space, tried, [float(p["method"] == "sgd") for p in tried])
    assert result is not None
    assert result.table["name"].iloc[0] == "method"
