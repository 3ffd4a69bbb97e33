"""Values as programs have them: None, lists, tuples, dictionaries; told apart by value and type, wherever they go."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm import Context, Grid, Job, Random, run
from swarm.config import quiet_dask
from swarm.errors import InvalidSpace
from swarm.optimizers.recombination import mutation
from swarm.optimizers.staged import narrowed
from swarm.plain import as_json, canonical, from_json
from swarm.report import write
from swarm.runner import Run
from swarm.runs.export import to_optuna, to_parquet
from swarm.space import Choice, Integer, Real, Space
from swarm.space.snapping import Snapping
from swarm.space.values import identity
from swarm.trial import Evaluation
from swarm.workers.problem import load

quiet_dask()

ALIKE: list[Any] = [None, 0, 0.0, False, "0", "", [], (), {}, [0], (0,), [False], [0.0], ["0"], {"0": 0}, {0: 0}]
ALIKE += [{"tuple": [0]}, {"dict": []}, [[0]], [(0,)], ([0],), ((0,),), {"0": [0]}, {"0": (0,)}, "None", [None]]

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e300, 1e300) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(scalars, inner, max_size=3)
        | st.builds(lambda each: {"tuple": each}, inner)
        | st.builds(lambda each: {"dict": each}, inner)
    ),
    max_leaves=6,
)
steps = st.builds(
    lambda low, count, step, log: Integer(low, low + count * step, step=step, log=log),
    st.integers(1, 100),
    st.integers(1, 50),
    st.integers(1, 40),
    st.booleans(),
)
grids = st.builds(
    lambda low, count, step, log: Real(low / 100, (low + count * step) / 100, step=step / 100, log=log),
    st.integers(1, 100),
    st.integers(1, 50),
    st.integers(1, 40),
    st.booleans(),
)
choices = st.lists(values, min_size=2, max_size=5, unique_by=identity).map(Choice)
spaces = st.builds(
    lambda domains, fixed: Space(
        {f"x.{i}": each for i, each in enumerate(domains)} | {f"c-{i}": each for i, each in enumerate(fixed)}
    ),
    st.lists(steps | grids | choices, min_size=1, max_size=4),
    st.lists(values, max_size=3),
)


def test_no_two_of_these_are_one_option_one_key_or_one_text() -> None:
    domain = Choice(ALIKE)
    assert [domain.place(each) for each in ALIKE] == list(range(len(ALIKE)))
    assert len(set(domain.labels)) == len(ALIKE)
    assert len({canonical({"x": each}) for each in ALIKE}) == len(ALIKE)
    assert len({Evaluation.of("p", {"x": each}).key for each in ALIKE}) == len(ALIKE)
    decoded = [domain.decode(domain.encode(each)) for each in ALIKE]
    assert [identity(each) for each in decoded] == [identity(each) for each in ALIKE]


@settings(deadline=None)
@given(value=values)
def test_json_gives_a_value_back_as_it_was(value: Any) -> None:
    back = from_json(json.loads(json.dumps(as_json(value))))
    assert identity(back) == identity(value) and back == value


@settings(deadline=None)
@given(space=spaces, seed=st.integers(0, 2**32))
def test_a_space_and_its_configurations_survive_yaml(space: Space, seed: int) -> None:
    data = yaml.safe_load(yaml.safe_dump(space.to_dict(), sort_keys=False))
    assert Space.parse(data) == space and Space.parse(data).to_dict() == space.to_dict()
    assert Space.parse(json.loads(json.dumps(space.to_dict()))) == space == pickle.loads(pickle.dumps(space))
    params = space.sample(np.random.default_rng(seed))
    space.check(params)
    again = space.decode(space.encode(params))
    assert canonical(again) == canonical(params) == canonical(space.normalised(params))


@settings(deadline=None)
@given(domain=steps | grids, u=st.floats(0, 1))
def test_numbers_in_steps_stay_on_their_grid_whatever_moves_them(domain: Any, u: float) -> None:
    every = [domain.at(i) for i in range(domain.size)]
    value = domain.decode(u)
    assert value in every and domain.contains(value) and domain.decode(domain.encode(value)) == value
    assert domain.decode(0) == every[0] == domain.low and domain.decode(1) == every[-1] == domain.high
    for kind, share in itertools.product(range(4), (0.0, 0.5, 0.99)):
        assert mutation(domain, value, kind, share) in every
    box = narrowed(domain, domain, value, 0.5)
    assert box.contains(value) and all(box.at(i) in every for i in range(box.size))
    snapping = Snapping(Space({"x": domain, "y": Choice(1, 2)}))
    assert snapping(np.array([[u, 0.3]]))[0, 0] == domain.encode(value)


def test_a_whole_number_on_a_log_scale_is_as_likely_below_as_above_the_middle() -> None:
    space, rng = Space({"batch": Integer(1, 4096, log=True)}), np.random.default_rng(1)
    assert np.median([space.sample(rng)["batch"] for _ in range(2000)]) == pytest.approx(64, rel=0.3)
    drawn = Random(trials=40).start(space, seed=3)
    assert 20 < np.median([drawn.ask().params["batch"] for _ in range(40)]) < 250  # type: ignore[union-attr]


def test_a_list_stands_for_a_tuple_where_no_list_is_meant_and_1_for_1_0_but_nothing_for_true() -> None:
    space = Space({"k": Choice((3, 3), (5, [5])), "n": Choice(1, 2.5, True), "fixed": (1, 2)})
    found = space.normalised({"k": [5, [5]], "n": 1.0, "fixed": [1, 2]})
    assert repr(found) == "{'k': (5, [5]), 'n': 1, 'fixed': (1, 2)}"
    assert space.contains({"k": [3, 3], "n": np.True_, "fixed": (1, 2)})
    assert not space.contains({"k": (5, (5,)), "n": 1, "fixed": (1, 2)})
    assert not Choice([1], 2).contains((1,)) and Choice([1], (1,)).place([1]) == 0


def test_none_may_be_the_default() -> None:
    space = Space.parse({"depth": {"choice": [None, 4], "default": None}, "n": {"integer": [1, 3], "default": 2}})
    assert space.defaults() == {"depth": None, "n": 2}
    assert Space.parse(space.to_dict()) == space
    assert Space({"depth": Choice(None, 4), "n": Integer(1, 3, default=2)}).defaults() is None


def test_conditions_hold_for_lists_and_none_by_value_and_type() -> None:
    data = {
        "net": {
            "layers": {"choice": [None, [64], [64, 32], 1, True]},
            "drop": {"real": [0, 1], "when": {"layers": [64, 32]}},
            "norm": {"choice": [None, "batch"], "when": {"net.layers": [None, 1]}},
        }
    }
    space = Space.parse(data)
    there = {
        canonical({"": each}): space.decode([(i + 0.5) / 5, 0.5, 0.1])
        for i, each in enumerate(data["net"]["layers"]["choice"])
    }
    assert [sorted(each) for each in there.values()] == [
        ["net.layers", "net.norm"],
        ["net.layers"],
        ["net.drop", "net.layers"],
        ["net.layers", "net.norm"],
        ["net.layers"],
    ]
    assert Space.parse(space.to_dict()) == space


@pytest.mark.parametrize("name", ["model.units", "learning-rate", "lambda", "class", "layers.0.weight", "_x", "größe"])
def test_names_are_those_that_programs_have(name: str) -> None:
    space = Space({name: Integer(1, 3)})
    assert space.decode([1.0]) == {name: 3} and Space.parse(space.to_dict()) == space


def test_groups_are_names_with_dots_and_trainings_have_them_as_dictionaries() -> None:
    space = Space({"model": {"units": Integer(1, 3), "opt": {"lr": Real(0, 1), "betas": (0.9, 0.99)}}, "seed": 3})
    assert list(space.domains) == ["model.units", "model.opt.lr", "model.opt.betas", "seed"]
    params = space.decode([0.5, 0.25])
    assert Context(params=params).nested == {
        "model": {"units": 2, "opt": {"lr": 0.25, "betas": (0.9, 0.99)}},
        "seed": 3,
    }
    assert Space.parse({"model": {"units": {"integer": [1, 3]}, "kwargs": {"a": [1]}}}).to_dict() == {
        "model.units": {"integer": [1, 3]},
        "model.kwargs": {"fixed": {"a": [1]}},
    }
    with pytest.raises(InvalidSpace, match="model: it is a parameter and a group, with model.units in it"):
        Space({"model": 3, "model.units": Integer(1, 2)})


def test_an_integer_of_an_earlier_version_is_read() -> None:
    integer, choice = Integer(1, 4), Choice("a", "b", default="b")
    old = Integer.__new__(Integer)
    old.__setstate__([1, 4, None, (1.0, 4.0), 4])
    assert old == integer and old.step is None and old.log is False
    older = Choice.__new__(Choice)
    older.__setstate__([("a", "b"), "b", (0.0, 2.0), 2, {"a": 0, "b": 1}])
    assert older == choice and older.place("b") == 1


def test_a_program_is_given_names_with_dots_and_lists_as_json() -> None:
    test = """test "$1 $2 $3" = "[64, 32] None 0.2" && echo "FoM: $0" """
    line = f"sh -c '{test}' {{model.units}} {{layers}} {{lambda}} {{learning-rate:.1f}}"
    data = {"model": {"units": {"integer": [1, 3]}}, "layers": [64, 32], "lambda": None, "learning-rate": 0.2}
    job = Job(name="j", command=line, space=data, optimizer=Grid())
    assert job.space is not None
    assert load(job.code.pickle)(job.space.decode([1.0]), Context()) == {"fitness": 3.0}


def rich(params: dict[str, Any], ctx: Any) -> float:
    assert isinstance(params["kernel"], tuple) and params["warm"] is None and ctx.nested["model"]["units"] % 16 == 0
    params["layers"].append(1)  # it is the training's own
    return (0 if params["depth"] is None else 1) + len(params["layers"])


SPACE = Space(
    {
        "depth": Choice(None, 1, 1.0, True, "1", [1], (1,)),
        "layers": Choice([64], [64, 32]),
        "kernel": Choice((3, 3), (5, 5)),
        "model": {"units": Integer(16, 48, step=16)},
        "batch": Integer(1, 4, log=True),
        "drop": Real(0, 0.2, step=0.1),
        "warm": None,
        "weights": {0: 1.0, 1: 5.0},
    },
    when={"drop": {"depth": [None, (1,)]}},
    constraint="batch <= 2 and len(layers) <= batch",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    job = Job(name="rich", problem=rich, space=SPACE, optimizer=Grid(shuffle=True), isolation="thread")
    return run(job, slots=1, store=f"{tmp_path_factory.mktemp('run')}/swarm.db", progress=False)


def test_a_run_has_each_allowed_configuration_once_and_is_read_back_as_it_was(found: Run) -> None:
    assert found.counts["failed"] == found.counts["archive"] == 0
    assert found.counts["trained"] == found.state.optimizer.planned == (2 * 3 + 5) * 3 * 2 * 3
    texts = {canonical({"": value}) for value in found.history["depth"]}
    assert texts == {canonical({"": each}) for each in SPACE.domains["depth"].options}  # type: ignore[union-attr]
    assert all(type(value) is tuple for value in found.history["kernel"])
    assert found.history["drop"].isna().sum() == found.counts["trained"] * 5 // 11
    loaded = Run.load("rich", found.store)
    assert loaded.best == found.best and repr(loaded.best) == repr(found.best)
    again = run(found.job, slots=1, store=found.store, progress=False)
    assert repr(again.best) == repr(found.best) and again.counts == found.counts


def test_another_search_of_the_same_space_trains_nothing(found: Run) -> None:
    job = Job(name="other", problem=rich, space=SPACE, optimizer=Random(trials=40), isolation="thread")
    other = run(job, slots=1, store=found.store, progress=False)
    assert other.counts["trained"] == 0 and other.counts["archive"] == 40


def test_its_report_and_its_exports_have_all_options(found: Run, tmp_path: Path) -> None:
    import optuna
    import pandas as pd

    write(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "in steps of 16" in page and "batch &lt;= 2 and len(layers) &lt;= batch" in page.replace("&#39;", "'")
    to_parquet(found, tmp_path / "trials.parquet")
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert set(table["layers"]) == {"[64]", "[64, 32]"} and set(table["kernel"]) == {"(3, 3)", "(5, 5)"}
    storage = f"sqlite:///{tmp_path}/study.db"
    assert to_optuna(found, storage) == found.counts["trained"]
    study = optuna.load_study(study_name="rich", storage=storage)
    assert len({trial.params["depth"] for trial in study.trials}) == 7
    assert {trial.params["model.units"] for trial in study.trials} == {16, 32, 48}
