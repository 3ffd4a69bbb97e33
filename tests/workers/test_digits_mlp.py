"""The perceptron on the digits: its gradient is that of the cross-entropy, and it needs no Keras."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm import Job
from swarm.cluster.connect import missing
from swarm.errors import InvalidProblem
from swarm.trial import Evaluation
from swarm.workers.context import Context
from swarm.workers.models.digits_mlp import SPACE, Perceptron, problem

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "digits.yaml"
DEFAULTS = {name: domain["default"] for name, domain in SPACE.items()}
PLAIN = {"momentum": 0.0, "dropout": 0.0}


def trained(seed: int = 1, **changes: Any) -> dict[str, float]:
    params = {**DEFAULTS, **changes}
    return problem()(params, Context(params=params, seed=seed))


def cross_entropy(weights: list[Any], x: Any, y: Any) -> float:
    """Of a perceptron with these weights, in double precision, written down independently of it."""
    for number, each in enumerate(weights):
        x = (np.maximum(x, 0) if number else x) @ each[:-1] + each[-1]
    shifted = x - x.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]))


def test_a_step_follows_the_gradient_of_the_cross_entropy() -> None:
    rng = np.random.default_rng(3)
    network = Perceptron((5, 4, 3, 2), rng)
    x, y = rng.standard_normal((7, 5), np.float32), rng.integers(2, size=7)
    before = [each.astype(np.float64) for each in network._weights]
    network.step(x, y, 1.0, PLAIN, rng)
    for layer, weights in enumerate(before):
        gradient = weights - network._weights[layer]
        for place in np.ndindex(weights.shape):
            sides = []
            for move in (1e-5, -1e-5):
                moved = [each.copy() for each in before]
                moved[layer][place] += move
                sides.append(cross_entropy(moved, x.astype(np.float64), y))
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-5)


def test_momentum_carries_the_last_move_on() -> None:
    rng = np.random.default_rng(3)
    network = Perceptron((5, 4, 3, 2), rng)
    x, y = rng.standard_normal((7, 5), np.float32), rng.integers(2, size=7)
    first = [each.copy() for each in network._weights]
    network.step(x, y, 1.0, PLAIN, rng)
    moved = [after - before for before, after in zip(first, network._weights, strict=True)]
    second = [each.copy() for each in network._weights]
    network.step(x, y, 0.0, {**PLAIN, "momentum": 0.5}, rng)
    for move, before, after in zip(moved, second, network._weights, strict=True):
        assert after - before == pytest.approx(move / 2, abs=1e-6)


def test_the_same_seed_gives_the_same_network_and_what_fits_learns() -> None:
    assert trained(seed=1) == trained(seed=1) != trained(seed=2)
    assert trained()["fitness"] > 0.8
    params = {**DEFAULTS, "momentum": 0.8}
    assert problem(epochs=6).test(params, Context(params=params, seed=1))["fitness"] > 0.93


def test_a_network_that_diverges_guesses_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    params = {**DEFAULTS, "learning_rate": 1.0, "momentum": 0.99, "batch_size": 8}
    found = problem().test(params, Context(params=params, seed=1))
    assert 0 <= found["fitness"] < 0.2
    assert capfd.readouterr() == ("", "")


def test_a_budget_is_a_number_of_epochs_and_each_is_reported() -> None:
    said: list[Any] = []
    context = Context.of(Evaluation.of("perceptron", DEFAULTS, budget=2), said.append)
    assert problem()(DEFAULTS, context)["epochs"] == 2
    assert [point["epoch"] for point in said] == [1, 2]


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": 2.5}, {"splits": 1}, {"splits": True}])
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidProblem, match=next(iter(options))):
        problem(**options)


def test_the_example_needs_no_keras() -> None:
    job = Job.from_file(EXAMPLE)
    assert missing(job) == []
    assert not any(name.startswith(("keras", "tensorflow")) for name in problem().preload)
    assert {name for name in sys.modules if name.partition(".")[0] == "sklearn"}, "the digits come with it"
