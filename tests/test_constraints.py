"""Constraints between hyper-parameters: what they say, what they may not have in them, what they keep from training."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm import PSO, Choice, Client, Integer, Job, Random, Real, Space, run
from swarm.config import quiet_dask
from swarm.errors import InvalidOptimizer, InvalidSpace
from swarm.optimizers import GA, Grid
from swarm.plain import canonical
from swarm.runner import Run
from swarm.space.configurations import Configurations, count
from swarm.space.constraint import Expression

quiet_dask()

NAMES = ("a", "b", "a-b", "model.units", "learning-rate", "lambda", "max", "layers", "kind", "in")
PARAMS: dict[str, Any] = {
    **{"a": 3, "b": 2, "a-b": 10, "model.units": 64, "learning-rate": 0.1, "lambda": 0.5, "max": 7},
    **{"layers": [64, 32], "kind": "deep", "in": None},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("b <= a", True),
        ("a<b", False),
        ("a - b == 1", True),
        ("a-b == 10", True),
        ("model.units <= 64", True),
        ("model.units*learning-rate<6.5", True),
        ("lambda ** 2 == 0.25 and max > 3", True),
        ("max(a, b) == 3", True),
        ("1 < b < a", True),
        ("1 < b < b", False),
        ("layers[0] >= layers[-1] and len(layers) == 2", True),
        ("sum(layers) == 96", True),
        ("kind in ('deep', 'wide') or a > 100", True),
        ("kind != 'a - b'", True),
        ("not (kind == 'deep' and a < 5)", False),
        ("a % 2 == 1 if kind == 'deep' else b % 2 == 1", True),
        ("-a < +b", True),
        ("round(a / b, 1) == 1.5", True),
        ("a // b == 1 and abs(b - a) == 1", True),
        ("layers is not None", True),
        ("kind < 3", False),
        ("a / (b - 2) > 0", False),
        ("layers[7] > 0", False),
    ],
)
def test_an_expression_says_what_it_says_in_python(text: str, holds: bool) -> None:
    assert (Expression.of(text, NAMES).refusal(PARAMS) is None) is holds
    assert pickle.loads(pickle.dumps(Expression.of(text, NAMES))).text == " ".join(text.split())


def test_it_says_nothing_where_a_parameter_is_not_there() -> None:
    assert Expression.of("a < b", NAMES).refusal({"a": 3}) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a =< b", "cannot be read .*write a comparison"),
        ("a = b", "cannot be read"),
        ("", "cannot be read"),
        ("a + b", "is no comparison"),
        ("3", "is no comparison"),
        ("3 < 4", "names no hyper-parameter"),
        ("model.unit < 3", "'model.unit' .* did you mean 'model.units'"),
        ("a < units", "'units' in it, which is no hyper-parameter"),
        ("deep == kind", "texts are written 'so'"),
        ("__import__('os').system('true') == a", "calls __import__.*: there are only abs"),
        ("a.__class__ == b", "no hyper-parameter"),
        ("kind.upper() == 'DEEP'", "calls kind.upper|calls"),
        ("open('x') < a", "calls open"),
        ("max(a, b, key=len) < 3", "calls"),
        ("(lambda: 3)() < a", "calls|cannot be read"),
        ("[x for x in layers] == a", "no part of a comparison"),
        ("a < (b := 3)", "no part of a comparison"),
        ("f'{a}' == 'x'", "no part of a comparison"),
        ("layers[0:1] == a", "no part of a comparison"),
        ("min(*layers) < a", "no part of a comparison"),
        ("a @ b < 3", "no part of a comparison"),
        ("a & b < 3", "no part of a comparison"),
        ("~a < 3", "no part of a comparison"),
        ("a < 3j", "no part of a comparison"),
        ("kind == b'x'", "cannot be read|no part of a comparison"),
        ("a < ...", "no part of a comparison"),
        ("a is b", "write =="),
        ("not " * 200 + "a < b", "too many operators in each other"),
        ("(" * 300 + "a" + ")" * 300 + "< b", "cannot be read|characters"),
        ("a < " + "1" * 2000, "1000 are allowed"),
    ],
)
def test_what_is_no_expression_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InvalidSpace, match=says) as refusal:
        Expression.of(text, NAMES)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["9 ** 9 ** 9 ** 9 > a", "a * 10 ** 1000 * 10 ** 1000 > 0", "kind * 1000000000 == kind"]
)
def test_nothing_that_it_calculates_takes_long(text: str) -> None:
    began = time.process_time()
    assert "cannot be calculated" in (Expression.of(text, NAMES).refusal(PARAMS) or "")
    assert time.process_time() - began < 1


@settings(deadline=None)
@given(text=st.text(alphabet="ab <>=!()[]'\"+-*/.,0_:lambdinot", max_size=30))
def test_no_text_is_anything_but_an_expression_or_refused(text: str) -> None:
    try:
        found = Expression.of(text, NAMES)
    except InvalidSpace:
        return
    found.refusal(PARAMS)


def test_constraints_are_part_of_a_space_and_its_data() -> None:
    plain = {"a": {"integer": [1, 9]}, "b": {"integer": [1, 9]}, "constraint": "a < b"}
    space = Space.parse(plain)
    assert space.to_dict() == plain and Space.parse(space.to_dict()) == space
    assert space == Space({"a": Integer(1, 9), "b": Integer(1, 9)}, constraint="a  < b")
    assert space == Space({"a": Integer(1, 9), "b": Integer(1, 9), "constraint": "a < b"})
    assert space != Space({"a": Integer(1, 9), "b": Integer(1, 9)})
    with pytest.raises(InvalidSpace, match="constraint 'a < b' does not hold"):
        space.check({"a": 3, "b": 3})
    grouped = {"net": {"a": Integer(1, 9), "b": Integer(1, 9), "constraint": ["a < b", "b != 5"]}, "c": Integer(0, 1)}
    assert Space(grouped).to_dict()["constraint"] == ["net.a < net.b", "net.b != 5"]
    assert Space({"constraint": Choice("l1", "l2")}).names == ("constraint",)
    assert Space({"constraint": "l2", "a": Integer(1, 2)}).domains["constraint"] == "l2"


@settings(deadline=None)
@given(a=st.floats(-0.5, 1.5), b=st.floats(-0.5, 1.5), seed=st.integers(0, 2**32))
def test_every_position_stands_for_something_allowed_always_the_same(a: float, b: float, seed: int) -> None:
    space = Space({"a": Real(0, 1), "b": Real(0, 1), "k": Choice("x", None)}, constraint="a + b < 0.4 and k is None")
    params = space.decode([a, b, a])
    space.check(params)
    assert space.decode([a, b, a]) == params
    space.check(space.sample(np.random.default_rng(seed)))
    if space.allows(raw := space.unconstrained([a, b, a])):
        assert params == raw


def test_what_is_refused_moves_no_further_than_it_has_to() -> None:
    space = Space({"a": Real(0, 1), "b": Real(0, 1), "c": Real(0, 1)}, constraint="a <= b")
    found = space.decode([0.51, 0.5, 0.3])
    assert found["c"] == 0.3 and abs(found["a"] - 0.5) < 0.1 and abs(found["b"] - 0.5) < 0.1


@pytest.mark.parametrize(
    "parameters",
    [
        {"a": Real(0, 1), "b": Real(0, 1)},
        {"a": Integer(0, 9), "b": Integer(10, 19)},
        {"a": Choice("x", "y"), "b": Choice("z", "w")},
    ],
)
def test_a_space_of_which_nothing_is_allowed_is_refused_and_says_why(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpace, match=r"hardly any configuration is allowed.*constraint 'a == b'.*loosen"):
        Space(parameters, constraint="a == b")


def test_the_only_allowed_one_among_a_million_is_found() -> None:
    space = Space({"a": Integer(1, 1000), "b": Integer(1, 1000)}, constraint=["a == 777", "b == 3"])
    assert space.sample(np.random.default_rng(1)) == {"a": 777, "b": 3} == space.decode([0.1, 0.1])
    assert count(space, 100) == 1 and list(Configurations(space)) == [{"a": 777, "b": 3}]
    for method in (Random(trials=5), PSO(particles=2, generations=2), GA(population=2, generations=2)):
        started = method.start(space, seed=1)
        trial = started.ask()
        assert trial is not None and trial.params == {"a": 777, "b": 3}
        started.tell(trial, 0.5)
        assert started.done


def test_a_grid_counts_what_is_allowed_and_one_of_nothing_is_refused() -> None:
    space = Space({"a": Integer(1, 4), "b": Integer(1, 4), "x": Real(0, 1)}, constraint="a < b")
    for shuffle in (False, True):
        grid = Grid(points=3, shuffle=shuffle).start(space)
        assert grid.planned == 18
        asked = [grid.ask() for _ in range(19)]
        assert asked[-1] is None and len({canonical(each.params) for each in asked if each}) == 18
    nothing = Space({"x": Real(0, 1), "y": Real(0, 1)}, constraint="0.1 < x < 0.4")
    with pytest.raises(InvalidOptimizer, match="constraints refuse all of the grid"):
        Grid(points=2).start(nothing)


def test_defaults_that_are_refused_are_named() -> None:
    with pytest.raises(InvalidSpace, match=r"the defaults .*constraint 'a < b' does not hold"):
        Space({"a": Integer(1, 9, default=5), "b": Integer(1, 9, default=5)}, constraint="a < b")


def train(params: dict[str, Any], ctx: Any) -> float:
    if "untouched" not in params and params["b"] > params["a"]:
        raise ValueError("was not to be trained")
    return float(params["a"] + params["b"])


LIMIT = 12


def test_a_function_that_compares_is_kept_as_its_expression() -> None:
    def small(config: dict[str, Any]) -> bool:
        """At most so many."""
        return config["a"] * 2 + config["lambda"] <= LIMIT and config["kind"] in ("x", None)

    space = {"a": Integer(1, 9), "lambda": Integer(1, 9), "kind": Choice("x", None, "y")}
    job = Job(
        name="j", problem=train, space=space, constraint=[small, lambda p: p["a"] != p["lambda"]], optimizer="PSO"
    )
    assert [each.text for each in job.space.constraints] == [  # type: ignore[union-attr]
        "a * 2 + lambda <= 12 and kind in ('x', None)",
        "a != lambda",
    ]
    assert Job.from_dict(job.to_dict(), job.code.pickle).space == job.space


def even(config: dict[str, Any]) -> bool:
    total = 0
    for name in ("a", "b"):
        total += config[name]
    return total % 2 == 0


def test_a_function_that_does_more_is_asked_by_its_own_script_alone(tmp_path: Path) -> None:
    space = {"a": Integer(1, 9), "b": Integer(1, 9)}
    job = Job(
        name="j",
        problem=train,
        space=space,
        constraint=["b <= a", even],
        optimizer=Random(trials=9),
        isolation="thread",
    )
    found = run(job, slots=1, store=str(tmp_path / "swarm.db"), progress=False)
    assert found.counts["trained"] == 9 and found.counts["failed"] == 0
    assert all((row["a"] + row["b"]) % 2 == 0 for row in found.history.to_dict("records"))
    assert run(job, slots=1, store=found.store, progress=False).best == found.best
    with pytest.raises(
        InvalidSpace, match="constraint even .* is a function .* run that script, or write .*expression"
    ):
        Run.load("j", found.store).best  # noqa: B018 - it is read now


def test_a_service_refuses_a_function_that_it_could_not_ask_before_it_is_looked_for() -> None:
    space = {"a": Integer(1, 9), "b": Integer(1, 9)}
    job = Job(name="j", problem=train, space=space, constraint=even, optimizer="PSO")
    with pytest.raises(InvalidSpace, match="write it as an expression"):
        Client("tcp://127.0.0.1:9").submit(job)


def test_the_search_that_follows_keeps_the_constraints_and_the_values(tmp_path: Path) -> None:
    space = {
        **{"a": Integer(1, 9), "b": Integer(1, 9), "k": Choice((3, 3), None, [3]), "untouched": None},
        "weights": {0: 1.0},
    }
    method = Random(trials=6)
    then = {"optimizer": {"name": "Random", "trials": 4}, "search": ["b"]}
    given: dict[str, Any] = {"constraint": "b <= a and k is not None", "isolation": "thread", "then": then}
    found = run(
        Job(name="j", problem=train, space=space, optimizer=method, **given),
        slots=1,
        store=str(tmp_path / "s.db"),
        progress=False,
    )
    assert found.before is not None
    best, rows = found.before.best, found.history.to_dict("records")
    assert best is not None and rows and all(row["b"] <= row["a"] == best.params["a"] for row in rows)
    assert {type(row["k"]) for row in rows} == {type(best.params["k"])} and rows[0]["weights"] == {0: 1.0}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda p: p["c"] > 3 and even(p), "fails on .*KeyError"),
        (lambda p: even(p) and None, "is None on .*return True or False"),
    ],
)
def test_a_function_that_fails_is_named_before_anything_is_trained(function: Any, says: str) -> None:
    with pytest.raises(InvalidSpace, match=says):
        Job(name="j", problem=train, space={"a": Integer(1, 9), "b": Integer(1, 9)}, constraint=function)


def test_a_job_file_says_it_beside_its_space(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    return params['net.a'] - params['net.b']\n")
    file.write_text(
        """
name: small
problem: train.py:train
isolation: thread
space:
  net:
    a: {integer: [1, 64], log: true}
    b: {integer: [1, 64], step: 3}
  l.r: {choice: [null, 0.1]}
constraint:
  - net.b <= net.a
  - "l.r is None or net.a > 2"
optimizer: {name: PSO, particles: 3, generations: 3}
"""
    )
    job = Job.from_file(file, ["space.net.b.step=1", "space.l.r={choice: [0.1, 0.2, null]}"])
    assert job.to_dict()["space"]["net.b"] == {"integer": [1, 64]}
    found = run(job, slots=1, store=str(tmp_path / "swarm.db"), progress=False)
    assert found.counts["failed"] == 0 and found.history["fitness"].min() >= 0
    other = Job.from_file(file, ["constraint=net.b < net.a"])
    assert any(line.startswith("space.constraint is") for line in other.differences(job.to_dict()))
