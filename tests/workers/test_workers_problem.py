from __future__ import annotations

import cloudpickle
import numpy as np
import pytest

from swarm.errors import Infeasible, InvalidProblem
from workers.problem import REASON_LIMIT, TRACEBACK_LIMIT, explain, load, score


@pytest.mark.parametrize("returned", [0.5, 1, True, np.float32(0.5), np.array(0.5), {"fitness": np.int64(3)}])
def test_a_finite_number_is_a_fitness(returned):
    fitness, metrics = score(returned)
    assert type(fitness) is float
    assert metrics == {}


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (float("nan"), "nan"),
        (np.float64("-inf"), "inf"),
        (None, "None"),
        ("0.5", "'0.5'"),
        (np.zeros(2), "array"),
        ({"fitness": float("inf")}, "inf"),
        ({"loss": 1.0}, 'returned loss, but no "fitness"'),
        ({}, 'no "fitness"'),
    ],
)
def test_what_is_no_finite_number_is_refused_with_the_reason(returned, reason):
    with pytest.raises(InvalidProblem, match=reason):
        score(returned)


def test_the_other_finite_numbers_are_metrics():
    returned = {"fitness": 1, "loss": np.float32(0.25), "bad": float("nan"), "note": "text", "epochs": 3}
    assert score(returned) == (1.0, {"loss": 0.25, "epochs": 3.0})


def test_a_problem_that_cannot_be_called_is_refused():
    with pytest.raises(InvalidProblem, match="dict cannot be called"):
        load(cloudpickle.dumps({}))


def test_an_error_is_explained_by_one_line_and_a_bounded_traceback():
    try:
        raise ValueError("first\n" + "long " * 10_000)
    except ValueError as caught:
        reason, below = explain(caught).split("\n", 1)
    assert reason == "ValueError: first"
    assert len(below) <= TRACEBACK_LIMIT


def test_a_long_reason_is_cut():
    assert len(explain(ValueError("x" * 10_000)).split("\n", 1)[0]) == REASON_LIMIT


def test_an_infeasible_configuration_is_explained_without_a_traceback():
    assert explain(Infeasible("the pool is too large")) == "Infeasible: the pool is too large"


def test_the_fitness_may_be_another_metric_or_a_weighted_sum():
    returned = {"fitness": 0.9, "loss": 0.25, "parameters": 1000}
    assert score(returned, {"loss": 1.0})[0] == 0.25
    fitness, metrics = score(returned, {"loss": 1.0, "parameters": 1e-3})
    assert fitness == 1.25 and metrics["parameters"] == 1000
    with pytest.raises(InvalidProblem, match="the fitness is made of speed, but the training returned fitness, loss"):
        score(returned, {"speed": 1.0})
