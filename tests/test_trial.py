"""What crosses the wire."""

from __future__ import annotations

import json
import math
import pickle
import sys

import numpy as np
import pytest

from swarm.plain import canonical
from swarm.trial import Criterion, Direction, Evaluation, Result, Status, mean


def test_equal_configurations_have_one_canonical_text_whatever_the_order() -> None:
    assert canonical({"b": 1, "a": 0.1}) == canonical({"a": 0.1, "b": 1}) == '{"a":0.1,"b":1}'


def test_integers_and_floats_of_one_value_are_two_configurations() -> None:
    assert canonical({"a": 1}) != canonical({"a": 1.0})


def test_true_and_1_are_two_configurations() -> None:
    assert len({canonical({"a": value}) for value in (True, 1, 1.0, "1")}) == 4


def test_zero_has_no_sign() -> None:
    assert canonical({"a": -0.0, "b": [-0.0, {"c": -0.0}]}) == canonical({"a": 0.0, "b": [0.0, {"c": 0.0}]})
    assert Evaluation.of("p", {"a": -0.0}).key == Evaluation.of("p", {"a": 0.0}).key
    assert Evaluation.of("p", {"a": np.float64(-0.0)}).key == Evaluation.of("p", {"a": 0.0}).key


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("adam"), "adam"),
        (np.array(3), 3),
        (np.array(0.5), 0.5),
        (np.array(True), True),
    ],
)
def test_what_numpy_has_calculated_is_a_value_of_python(given: object, value: object) -> None:
    found = Evaluation.of("p", {"a": given})  # type: ignore[dict-item]
    assert found.params == {"a": value} and type(found.params["a"]) is type(value)
    assert found.key == Evaluation.of("p", {"a": value}).key  # type: ignore[dict-item]
    assert canonical({"a": given}) == canonical({"a": value})  # type: ignore[dict-item]


def test_numbers_of_numpy_beside_the_configuration_are_those_of_python() -> None:
    plain = Evaluation.of("p", {"a": 1}, budget=3.0, fold=2, repeat=1, replicas=2, time_limit=5.0, merit={"loss": 0.5})
    numpy = Evaluation.of(
        "p",
        {"a": np.int64(1)},
        budget=np.int64(3),
        fold=np.int64(2),
        repeat=np.array(1),
        replicas=np.int8(2),
        time_limit=np.float32(5),
        merit={"loss": np.float32(0.5)},
    )
    assert numpy == plain and repr(numpy) == repr(plain)
    tolerances = [
        Criterion(metric="loss", direction="minimize", tolerance=each).tolerance for each in (np.float32(0.5), 0.5)
    ]
    assert repr(tolerances) == "[0.5, 0.5]"


@pytest.mark.parametrize("scale", [2.0**-500, 1.0, 2.0**1022])
def test_a_mean_is_that_of_numbers_of_any_size(scale: float) -> None:
    assert mean([scale * value for value in (1.0, 3.0, 2.0, -2.0)]) == scale
    assert mean([3.5 * scale] * 3) == 3.5 * scale
    assert mean([sys.float_info.max] * 5) == sys.float_info.max
    assert mean([1.7, 1.9, 1.8]) == 1.8


def test_a_configuration_with_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": math.nan})


def test_whatever_changes_the_training_changes_the_key() -> None:
    base = {"problem": "p", "params": {"a": 1}}
    variants = [
        {},
        {"problem": "q"},
        {"params": {"a": 2}},
        {"budget": 3.0},
        {"fold": 1},
        {"repeat": 1},
        {"purpose": "test"},
        {"parent": "abc"},
        {"salt": "job/1"},
        {"donors": ["abc"]},
        {"donors": ["abc", "def"]},
    ]
    keys = [Evaluation.of(**{**base, **variant}).key for variant in variants]
    assert len(set(keys)) == len(keys)


def test_how_it_is_run_does_not_change_the_key() -> None:
    first = Evaluation.of("p", {"a": 1})
    second = Evaluation.of("p", {"a": 1}, isolation="thread")
    assert (first.key, first.seed) == (second.key, second.seed)


def test_the_seed_comes_from_the_key_and_fits_every_library() -> None:
    seeds = [Evaluation.of("p", {"a": number}).seed for number in range(200)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_key_is_the_same_in_every_version() -> None:
    """A change of the key would make every archive worthless: it needs a reason and a new schema."""
    assert Evaluation.of("p", {"a": 1, "b": 0.5}, fold=2).key == "35e294a6a656046314f85b77d2575ba38b0c158d"


@pytest.mark.parametrize("fitness", [None, math.nan, math.inf, -math.inf])
def test_a_result_that_is_ok_has_a_finite_fitness(fitness: float | None) -> None:
    with pytest.raises(ValueError, match="finite fitness"):
        Result(key="k", status=Status.OK, fitness=fitness)


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.OK, Status.PRUNED)])
def test_a_result_that_is_not_ok_has_no_fitness(status: Status) -> None:
    with pytest.raises(ValueError, match="no fitness"):
        Result(key="k", status=status, fitness=0.5)


def test_a_result_survives_json_and_pickle() -> None:
    result = Result(
        key="k", status=Status.OK, fitness=0.5, metrics={"loss": 0.1}, curve=({"epoch": 1.0},), slot="host:gpu"
    )
    assert Result.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result
    assert pickle.loads(pickle.dumps(result)) == result


def test_every_merit_is_another_evaluation() -> None:
    def criteria(tolerance: float | None = 0.1, direction: Direction = "minimize") -> tuple[Criterion, ...]:
        first = Criterion(metric="loss", direction=direction, tolerance=tolerance)
        return first, Criterion(metric="size", direction="minimize")

    merits = [None, {"loss": 1.0}, criteria(), criteria(0.2), criteria(direction="maximize"), criteria()[::-1]]
    keys = [Evaluation.of("p", {"a": 1}, merit=merit).key for merit in merits]
    assert len(set(keys)) == len(keys)
    assert Evaluation.of("p", {"a": 1}, merit=list(criteria())).key == keys[2]
