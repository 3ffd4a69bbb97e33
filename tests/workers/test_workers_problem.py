from __future__ import annotations

import itertools
import os
from math import floor

import cloudpickle
import msgpack
import numpy as np
import pytest

from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Criterion
from swarm.workers.problem import REASON_LIMIT, TRACEBACK_LIMIT, explain, load, score


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


def test_an_error_that_names_a_file_whose_name_is_not_utf_8_can_be_sent():
    name = os.fsdecode(b"caf\xe9")
    explained = explain(FileNotFoundError(2, "No such file or directory", name))
    assert explained.startswith(f"FileNotFoundError: [Errno 2] No such file or directory: {name!r}\n")
    assert explain(Infeasible(f"no file {name}")) == "Infeasible: no file caf\\udce9"
    assert len(explain(ValueError(name * 1000)).split("\n", 1)[0]) == REASON_LIMIT
    assert msgpack.unpackb(msgpack.packb(explain(ValueError(name)))).startswith("ValueError: caf\\udce9\n")


def test_an_infeasible_configuration_is_explained_without_a_traceback():
    assert explain(Infeasible("the pool is too large")) == "Infeasible: the pool is too large"


def test_the_fitness_may_be_another_metric_or_a_weighted_sum():
    returned = {"fitness": 0.9, "loss": 0.25, "parameters": 1000}
    assert score(returned, {"loss": 1.0})[0] == 0.25
    fitness, metrics = score(returned, {"loss": 1.0, "parameters": 1e-3})
    assert fitness == 1.25 and metrics["parameters"] == 1000
    with pytest.raises(InvalidProblem, match="the fitness is made of speed, but the training returned fitness, loss"):
        score(returned, {"speed": 1.0})


# --- a list of criteria, the first of which decides

ACCURATE_THEN_SMALL = (
    Criterion(metric="accuracy", direction="maximize", tolerance=0.01),
    Criterion(metric="parameters", direction="minimize"),
)


def figure(criteria, *values):
    return score(dict(zip([each.metric for each in criteria], values, strict=True)), criteria)[0]


def test_the_first_metric_decides_unless_two_trainings_are_alike_in_it():
    worse_and_small, better_and_large = figure(ACCURATE_THEN_SMALL, 0.96, 10), figure(ACCURATE_THEN_SMALL, 0.98, 1e9)
    assert worse_and_small < better_and_large
    alike_and_large, alike_and_small = (
        figure(ACCURATE_THEN_SMALL, 0.974, 61_707),
        figure(ACCURATE_THEN_SMALL, 0.966, 61_706),
    )
    assert alike_and_large < alike_and_small
    assert worse_and_small < alike_and_large < alike_and_small < better_and_large


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_figure_stays_within_a_tolerance_of_the_first_metric_and_has_its_direction(direction):
    criteria = (Criterion(metric="loss", direction=direction, tolerance=0.1), ACCURATE_THEN_SMALL[1])
    for loss, parameters in itertools.product([-3.21, 0.0, 0.04, 17.77], [0, 1, 1e12]):
        assert abs(figure(criteria, loss, parameters) - loss) < 0.1
    small, large = figure(criteria, 0.5, 1), figure(criteria, 0.5, 2)
    assert small < large if direction == "minimize" else small > large


def test_many_trainings_are_sorted_as_their_rounded_metrics_are():
    """Three metrics of both directions, over many orders of magnitude, against Python's order of tuples."""
    rng = np.random.default_rng(7)
    criteria = (
        Criterion(metric="error", direction="minimize", tolerance=0.02),
        Criterion(metric="speed", direction="maximize", tolerance=5.0),
        Criterion(metric="parameters", direction="minimize"),
    )
    rows = [
        (float(error), float(speed), float(parameters))
        for error, speed, parameters in zip(
            rng.random(3000) / 5, 100 * rng.random(3000), np.rint(10 ** rng.uniform(0, 5, 3000)), strict=True
        )
    ]
    by_figure = sorted(rows, key=lambda row: figure(criteria, *row))
    by_tuple = sorted(rows, key=lambda row: (floor(row[0] / 0.02 + 0.5), -floor(row[1] / 5 + 0.5), row[2]))
    rounded = [(floor(e / 0.02 + 0.5), floor(s / 5 + 0.5), p) for e, s, p in by_figure]
    assert rounded == [(floor(e / 0.02 + 0.5), floor(s / 5 + 0.5), p) for e, s, p in by_tuple]
    assert len(set(rounded)) > 2500


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e7, 1e12])
def test_the_second_metric_counts_to_the_millionth_part_whatever_its_size(size):
    assert figure(ACCURATE_THEN_SMALL, 0.97, size) > figure(ACCURATE_THEN_SMALL, 0.97, size * (1 + 1e-6))


def test_the_last_metric_may_have_a_tolerance_too():
    criteria = (ACCURATE_THEN_SMALL[0], Criterion(metric="seconds", direction="minimize", tolerance=10.0))
    assert figure(criteria, 0.97, 42) == figure(criteria, 0.971, 38)


def test_criteria_of_what_the_training_did_not_return_are_refused():
    with pytest.raises(InvalidProblem, match="the fitness is made of parameters, but the training returned accuracy"):
        score({"accuracy": 0.9}, ACCURATE_THEN_SMALL)
