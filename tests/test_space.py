"""The search space: what it accepts, what it refuses and how, and the way between named values and the unit cube."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import InvalidSpace
from swarm.plain import canonical
from swarm.space import Choice, Integer, Real, Space

PLAIN = {
    "filters": {"integer": [1, 48], "default": 24},
    "lr": {"real": [1e-4, 1e-1], "log": True},
    "activation": {"choice": ["relu", "tanh"]},
    "batch": 128,
}
SPACE = Space(
    {
        "filters": Integer(1, 48, default=24),
        "lr": Real(1e-4, 1e-1, log=True),
        "activation": Choice("relu", "tanh"),
        "batch": 128,
    }
)

integers = st.tuples(st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53)).filter(lambda b: b[0] < b[1])
numbers = st.floats(-1e300, 1e300)
reals = st.tuples(numbers, numbers).filter(lambda b: b[0] < b[1])
positive = st.tuples(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300)).filter(lambda b: b[0] < b[1])
scalars = st.one_of(st.booleans(), st.integers(-(10**9), 10**9), numbers, st.text())
domains = st.one_of(
    integers.map(lambda bounds: Integer(*bounds)),
    reals.map(lambda bounds: Real(*bounds)),
    positive.map(lambda bounds: Real(*bounds, log=True)),
    st.lists(scalars, min_size=2, max_size=6, unique=True).map(Choice),
)
spaces = st.builds(
    lambda searched, fixed: Space(
        {f"x{i}": domain for i, domain in enumerate(searched)} | {f"c{i}": value for i, value in enumerate(fixed)}
    ),
    st.lists(domains, min_size=1, max_size=5),
    st.lists(scalars, max_size=3),
)
cubes = st.lists(st.floats(-0.5, 1.5), min_size=5, max_size=5)


def test_a_space_knows_its_dimensions_names_and_size():
    assert SPACE.dimensions == 3
    assert SPACE.names == ("filters", "lr", "activation")
    assert SPACE.size is None
    assert Space({"n": Integer(1, 48), "k": Integer(2, 10), "p": Integer(2, 4), "l": Integer(2, 4)}).size == 3888


def test_integers_are_rounded_half_up_and_never_to_even():
    domain = Integer(0, 4)
    assert [domain.decode(x / 4) for x in (0.49, 0.5, 1.5, 2.5, 3.5, 3.49)] == [0, 1, 2, 3, 4, 3]
    assert [Integer(-2, 2).decode(u) for u in (0.125, 0.375)] == [-1, 0]


def test_the_ends_of_every_domain_are_reached_exactly():
    for low, high in ((1e-4, 1e-1), (3e-7, 0.7), (0.1, 1e9)):
        for log in (False, True):
            assert Real(low, high, log=log).decode(0.0) == low
            assert Real(low, high, log=log).decode(1.0) == high
    assert [Integer(-3, 9).decode(u) for u in (0.0, 1.0)] == [-3, 9]
    assert [Choice("a", "b", "c").decode(u) for u in (0.0, 0.334, 0.667, 1.0)] == ["a", "b", "c", "c"]


def test_a_logarithmic_position_is_linear_in_the_logarithm():
    assert Real(1e-4, 1e-2, log=True).decode(0.5) == pytest.approx(1e-3)
    assert Real(1e-4, 1e-2, log=True).encode(1e-3) == pytest.approx(0.5)


def test_positions_outside_of_the_cube_are_clipped():
    assert SPACE.decode([-7.0, -math.inf, -1]) == SPACE.decode([0, 0, 0])
    assert SPACE.decode([7.0, math.inf, 1.1]) == SPACE.decode([1, 1, 1])


@pytest.mark.parametrize("vector", [[0.5], [0.5] * 4, 0.5, [[0.5] * 3], [0.5, math.nan, 0.5]])
def test_a_position_of_another_shape_or_with_nan_is_refused(vector):
    with pytest.raises(InvalidSpace, match=r"shape|NaN"):
        SPACE.decode(vector)


def test_decoded_values_are_plain_python_and_keep_the_order_and_the_fixed_values():
    params = SPACE.decode(np.array([0.5, 0.5, 0.5]))
    assert list(params) == ["filters", "lr", "activation", "batch"]
    assert [type(value) for value in params.values()] == [int, float, str, int]
    numpy_made = Space(
        {"n": Integer(np.int64(1), np.int64(4)), "o": Choice(np.float32(0.5), np.int8(2)), "c": np.int64(3)}
    )
    for params in (numpy_made.decode([0.3, 0.1]), numpy_made.sample(np.random.default_rng(0)), numpy_made.at(1)):
        assert canonical(params) == json.dumps(params, sort_keys=True, separators=(",", ":"))
        assert {type(value) for value in params.values()} <= {int, float}


@settings(deadline=None)
@given(space=spaces, cube=cubes)
def test_every_position_decodes_into_the_space_and_encodes_back_to_the_same_values(space, cube):
    params = space.decode(cube[: space.dimensions])
    assert space.contains(params)
    position = space.encode(params)
    assert position.shape == (space.dimensions,)
    assert ((position >= 0) & (position <= 1)).all()
    again = space.decode(position)
    for name, domain in space.domains.items():
        if isinstance(domain, Real):  # a logarithm of 1e300 carries an error of some 1e-13
            assert again[name] == pytest.approx(params[name], rel=1e-9, abs=1e-12 * (domain.high - domain.low))
        elif not isinstance(domain, Integer) or domain.size < 2**50:
            assert again[name] == params[name] and type(again[name]) is type(params[name])


@settings(deadline=None)
@given(space=spaces)
def test_plain_data_reads_back_as_the_same_space(space):
    plain = json.loads(json.dumps(space.to_dict()))
    assert Space.parse(plain) == space
    assert Space.parse(plain).to_dict() == space.to_dict()


@settings(deadline=None)
@given(space=spaces, seed=st.integers(0, 2**32))
def test_every_sample_belongs_to_the_space(space, seed):
    assert space.contains(space.sample(np.random.default_rng(seed)))


def test_plain_data_domains_and_pairs_say_the_same():
    assert Space.parse(PLAIN) == SPACE
    assert Space.parse({**PLAIN, "lr": Real(1e-4, 1e-1, log=True)}) == SPACE
    assert Space.parse(list(PLAIN.items())) == Space(list(SPACE.domains.items())) == SPACE
    assert Space.parse(SPACE) is SPACE
    assert SPACE.to_dict() == PLAIN
    assert Space.parse({"n": {"integer": [1, 9]}, "c": 1}) != Space.parse({"c": 1, "n": {"integer": [1, 9]}})


def test_a_space_can_be_pickled():
    assert pickle.loads(pickle.dumps(SPACE)) == SPACE
    assert hash(pickle.loads(pickle.dumps(SPACE))) == hash(SPACE)


def test_samples_of_integers_and_options_are_equally_likely():
    space, rng = Space({"n": Integer(1, 4), "o": Choice("a", "b", "c")}), np.random.default_rng(1)
    drawn = [space.sample(rng) for _ in range(6000)]
    for name, values in (("n", [1, 2, 3, 4]), ("o", ["a", "b", "c"])):
        counts = [sum(params[name] == value for params in drawn) for value in values]
        assert min(counts) > 0.9 * 6000 / len(values)  # decoding uniform positions would halve 1 and 4


def test_logarithmic_samples_are_uniform_in_the_logarithm():
    space, rng = Space({"lr": Real(1e-4, 1.0, log=True)}), np.random.default_rng(2)
    assert np.median([space.sample(rng)["lr"] for _ in range(2000)]) == pytest.approx(1e-2, rel=0.3)


def test_a_finite_space_numbers_its_configurations_with_the_last_one_fastest():
    space = Space({"n": Integer(5, 6), "fixed": 1, "o": Choice("a", "b", "c")})
    assert [space.at(i) for i in range(space.size)] == [
        {"n": n, "fixed": 1, "o": option} for n in (5, 6) for option in "abc"
    ]
    for index in (-1, 6):
        with pytest.raises(InvalidSpace, match="from 0 to 5"):
            space.at(index)
    with pytest.raises(InvalidSpace, match="use sample"):
        SPACE.at(0)


def test_spaces_of_any_size_are_numbered_exactly():
    space = Space({f"x{i}": Integer(0, 10**6 - 1) for i in range(5)})
    assert space.size == 10**30
    assert space.at(123456_000007_654321_000000_999999) == dict(
        zip(space.names, (123456, 7, 654321, 0, 999999), strict=True)
    )


def test_defaults_are_given_only_if_every_searched_parameter_has_one():
    assert SPACE.defaults() is None
    space = Space(
        {"n": Integer(1, 9, default=3), "r": Real(0, 2, default=1), "o": Choice(False, True, default=False), "c": 7}
    )
    assert canonical(space.defaults()) == '{"c":7,"n":3,"o":false,"r":1.0}'
    assert Space.parse(space.to_dict()).defaults() == space.defaults()


VALID = {"filters": 24, "lr": 1e-3, "activation": "relu", "batch": 128}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"filters": 49}, "filters: 49 .* an integer from 1 to 48"),
        ({"filters": 24.0}, "filters: 24.0 .* an integer from 1 to 48"),
        ({"filters": True}, "filters: True .* an integer"),
        ({"lr": 0.2}, "lr: 0.2 .* a number from 0.0001 to 0.1"),
        ({"lr": math.nan}, "lr: nan"),
        ({"lr": "0.01"}, "lr: '0.01'"),
        ({"activation": "gelu"}, "activation: 'gelu' .* one of 'relu', 'tanh'"),
        ({"batch": 64}, "batch: 64 .* fixed to 128"),
        ({"filter": 1}, "filter: .* did you mean 'filters'"),
    ],
)
def test_a_configuration_outside_of_the_space_is_refused_with_name_value_and_bounds(change, text):
    SPACE.check(VALID)
    assert SPACE.contains(VALID)
    assert not SPACE.contains(VALID | change)
    for refuse in (SPACE.check, SPACE.encode):
        with pytest.raises(InvalidSpace, match=text):
            refuse(VALID | change)


def test_a_missing_value_is_named():
    with pytest.raises(InvalidSpace, match=r"lr: there is no value.* a number from"):
        SPACE.check({"filters": 24, "activation": "relu", "batch": 128})


def test_true_is_not_one():
    assert not Choice(1, 2).contains(True)
    assert not Choice(False, True).contains(0)
    with pytest.raises(InvalidSpace, match="fixed to True"):
        Space({"n": Integer(0, 1), "flag": True}).check({"n": 0, "flag": 1})


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        ({"integer": [48, 1]}, "low 48 is above high 1: swap them"),
        ({"integer": [7, 7]}, "both 7: fix the parameter to the plain value"),
        ({"integer": [1.0, 48]}, "1.0 is not an integer: .* Real"),
        ({"integer": [True, 48]}, "True is not an integer"),
        ({"integer": ["1", 48]}, "'1' is not an integer"),
        ({"integer": [0, 2**53 + 1]}, "narrow the range"),
        ({"integer": [1, 48], "default": 49}, "default 49 is not an integer from 1 to 48: correct it"),
        ({"integer": [1, 48], "default": 2.5}, "default 2.5"),
        ({"integer": [1, 48], "digits": 2}, "unknown key 'digits'"),
        ({"integer": [0, 48], "log": True}, "low 0 has no logarithm"),
        ({"integer": [1, 48], "log": 1}, "log is 1: write true or false"),
        ({"integer": [1, 48], "step": 0}, "step is 0: write a whole number above 0"),
        ({"integer": [1, 48], "step": 1.5}, "step is 1.5: write a whole number"),
        ({"integer": [1, 48], "step": 48}, "step 48 leaves 1 alone: lower it"),
        ({"integer": [1, 48], "step": 2, "default": 2}, "default 2 is not an integer from 1 to 47 in steps of 2"),
        ({"real": [0, 1], "step": 0.3, "default": 0.5}, "default 0.5 is not a number from 0.0 to 0.9 in steps of 0.3"),
        ({"real": [0, 1], "step": -0.1}, "step is -0.1: write a number above 0"),
        ({"real": [0, 1], "step": "a"}, "step is 'a': write a number above 0"),
        ({"real": [0, 1], "step": 2}, "step 2 leaves 0 alone"),
        ({"real": [0, 1], "step": 1e-300}, "more than 2.53 numbers: raise it"),
        ({"real": [0, 1], "step": 0.1, "digits": 2}, "both digits and step"),
        ({"integer": [1, 24, 48]}, r"integer is \[1, 24, 48\]: write \[low, high\]"),
        ({"integer": 48}, r"integer is 48: write \[low, high\]"),
        ({"real": [0.2, 0.1]}, "low 0.2 is above high 0.1: swap them"),
        ({"real": [0.1, 0.1]}, "both 0.1: fix"),
        ({"real": [0, 1], "log": True}, "low 0 has no logarithm: raise it above 0"),
        ({"real": [-1, 1], "log": True}, "low -1 has no logarithm"),
        ({"real": [0, math.inf]}, "inf is not a finite number"),
        ({"real": [math.nan, 1]}, "nan is not a finite number"),
        ({"real": [0, 10**400]}, "not a finite number"),
        ({"real": [False, 1]}, "False is not a finite number"),
        ({"real": ["1e-4", 1]}, "'1e-4' is text: .* 1.0e-4"),
        ({"real": [-1.7e308, 1.7e308]}, "too wide"),
        ({"real": [1, 2], "log": "yes"}, "log is 'yes': write true or false"),
        ({"real": [1, 2], "default": 3}, "default 3 is not a number from 1.0 to 2.0"),
        (
            {"real": [1, 2], "log": True, "digits": 2, "default": 3},
            "default 3 is not a number from 1.0 to 2.0 on a log scale rounded to 2 significant digits",
        ),
        ({"choice": []}, "no options: list at least two"),
        ({"choice": ["relu"]}, "'relu' is the only option: fix"),
        ({"choice": ["a", "b", "a"]}, "'a' is there twice"),
        ({"choice": [1, 2, 1]}, "1 is there twice"),
        ({"choice": [[1], [2], [1]]}, "option .1. is there twice"),
        ({"choice": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}, "is there twice"),
        ({"choice": [["a", "b"]]}, "is the only option"),
        ({"choice": ["a", math.inf]}, "inf is not allowed"),
        ({"choice": ["a", [1, math.nan]]}, "nan. is not allowed"),
        ({"choice": ["a", {1, 2}]}, "is not allowed"),
        ({"choice": ["a", {"b": object}]}, "is not allowed"),
        ({"choice": "ab"}, "choice is 'ab': write a list of options"),
        ({"choice": ["a", "b"], "default": "c"}, "default 'c' is not one of 'a', 'b'"),
        ({"integr": [1, 48]}, "unknown key 'integr'; did you mean 'integer'"),
        ({"real": [1, 2], "lgo": True}, "unknown key 'lgo'; did you mean 'log'"),
        ({"real": [1, 2], "defualt": 1}, "unknown key 'defualt'; did you mean 'default'"),
        ({"real": [1, 2], "choice": ["a", "b"]}, "'choice'|2 domains"),
        ({"default": 3}, "0 domains: give exactly one"),
        ({}, "0 domains: give exactly one"),
        ({"step": 3}, "0 domains: give exactly one"),
        (math.nan, "nan is no domain"),
        ({1, 2}, "is no domain"),
        ([1, {2}], "is no domain"),
    ],
)
def test_an_impossible_domain_is_refused_in_one_line_that_names_the_parameter_and_the_remedy(domain, text):
    with pytest.raises(InvalidSpace, match=text) as refusal:
        Space.parse({"width": domain, "depth": {"integer": [1, 3]}})
    assert str(refusal.value).startswith("width: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["learning rate", "2nd", "", "a..b", ".a", "a.", "-a", "a/b", "a\n", 3, None])
def test_a_name_that_programs_do_not_have_is_refused(name):
    with pytest.raises(InvalidSpace, match="Python identifier"):
        Space({name: Integer(1, 2)})


def test_a_name_given_twice_is_refused():
    with pytest.raises(InvalidSpace, match="lr: the name is there twice"):
        Space.parse([("lr", {"real": [0, 1]}), ("lr", 0.5)])


@pytest.mark.parametrize("parameters", [{}, [], {"batch": 128}])
def test_a_space_without_anything_to_search_is_refused(parameters):
    with pytest.raises(InvalidSpace, match="nothing to search: give"):
        Space(parameters)


@pytest.mark.parametrize("parameters", [None, 3, ["filters"], [("filters",)]])
def test_what_is_no_mapping_is_refused(parameters):
    with pytest.raises(InvalidSpace, match="give a mapping"):
        Space.parse(parameters)


def test_plain_data_given_to_the_constructor_is_pointed_to_parse():
    with pytest.raises(InvalidSpace, match=r"filters: .*Space\.parse"):
        Space({"filters": {"integer": [1, 9]}})


def test_real_values_are_rounded_to_their_significant_digits_and_stay_inside() -> None:
    space = Space({"lr": Real(1.5e-4, 9.7e-2, log=True, digits=1)})
    values = {space.decode([u])["lr"] for u in np.linspace(0.0, 1.0, 2001)}
    inner = {float(f"{digit}e{power}") for power in (-4, -3, -2) for digit in range(1, 10)}
    assert values - inner == {1.5e-4, 9.7e-2}
    assert len(values) == 28


def test_digits_survive_plain_data() -> None:
    space = Space({"lr": Real(1e-4, 1e-1, log=True, digits=2)})
    assert Space.parse(space.to_dict()) == space


@pytest.mark.parametrize("digits", [0, 18, 1.5, True])
def test_digits_that_are_none_are_refused(digits: object) -> None:
    with pytest.raises(InvalidSpace, match="digits"):
        Real(0.0, 1.0, digits=digits)  # type: ignore[arg-type]


# --- conditions

CONDITIONAL = {
    "optimizer": {"choice": ["adam", "sgd", "rmsprop"]},
    "momentum": {"real": [0, 1], "default": 0.9, "when": {"optimizer": ["sgd", "rmsprop"]}},
    "nesterov": {"choice": [False, True], "when": {"optimizer": "sgd"}},
    "batch": 32,
}


def test_a_parameter_whose_condition_fails_is_no_part_of_the_configuration() -> None:
    space = Space.parse(CONDITIONAL)
    assert space.decode([0.0, 0.5, 0.9]) == {"optimizer": "adam", "batch": 32}
    assert space.decode([0.5, 0.5, 0.9]) == {"optimizer": "sgd", "momentum": 0.5, "nesterov": True, "batch": 32}
    assert space.decode([0.9, 0.5, 0.9]) == {"optimizer": "rmsprop", "momentum": 0.5, "batch": 32}
    rng = np.random.default_rng(0)
    for _ in range(100):
        params = space.sample(rng)
        space.check(params)
        assert space.decode(space.encode(params)) == params


def test_conditions_are_written_and_read_back() -> None:
    space = Space.parse(CONDITIONAL)
    assert Space.parse(space.to_dict()) == space
    assert space != Space.parse({**CONDITIONAL, "momentum": {"real": [0, 1], "default": 0.9}})
    same = Space(
        space.domains, when={"momentum": {"optimizer": ["sgd", "rmsprop"]}, "nesterov": {"optimizer": ["sgd"]}}
    )
    assert same == space


def test_what_does_not_go_together_is_refused() -> None:
    space = Space.parse(CONDITIONAL)
    with pytest.raises(InvalidSpace, match="momentum: it does not go with optimizer other than 'sgd', 'rmsprop'"):
        space.check({"optimizer": "adam", "momentum": 0.5, "batch": 32})
    with pytest.raises(InvalidSpace, match="momentum: there is no value"):
        space.check({"optimizer": "rmsprop", "batch": 32})


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ({"optimizer": ["lion"]}, "wants optimizer to be 'lion', which it cannot be"),
        ({"nesterov": [True]}, "on 'nesterov', which does not stand before it"),
        ({"nothing": [1]}, "on 'nothing', which does not stand before it"),
        ("sgd", "when is 'sgd': write"),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(when, says) -> None:
    with pytest.raises(InvalidSpace, match=says):
        Space.parse({**CONDITIONAL, "momentum": {"real": [0, 1], "when": when}})


NUMPY = Space(
    {
        "n": Integer(np.int64(1), np.array(9), default=np.int32(3)),
        "x": Real(np.float32(-0.5), np.array(2.0), digits=np.int64(2), default=np.int64(1)),
        "lr": Real(np.float64(0.25), np.float32(0.5), log=np.bool_(True)),
        "k": Choice(np.array([1, 2, 4]), default=np.float64(2)),
        "act": Choice(np.str_("relu"), np.array("tanh")),
        "on": np.bool_(True),
        "batch": np.array(32),
    },
    when={"act": {"k": np.array([1, 2])}, "k": {"x": np.int64(1), "n": np.array(3)}},
)


def test_numbers_of_numpy_in_a_space_are_those_of_python():
    same = Space(
        {
            "n": Integer(1, 9, default=3),
            "x": Real(-0.5, 2.0, digits=2, default=1.0),
            "lr": Real(0.25, 0.5, log=True),
            "k": Choice(1, 2, 4, default=2),
            "act": Choice("relu", "tanh"),
            "on": True,
            "batch": 32,
        },
        when={"act": {"k": [1, 2]}, "k": {"x": 1.0, "n": 3}},
    )
    assert same == NUMPY and repr(NUMPY) == repr(same)
    assert json.loads(json.dumps(NUMPY.to_dict())) == same.to_dict()
    assert Space.parse({"n": {"integer": np.array([1, 9])}, "f": np.int64(3)}) == Space({"n": Integer(1, 9), "f": 3})


def test_a_configuration_is_normalised_to_what_decoding_gives():
    space = Space({"x": Real(-4, 4), "n": Integer(0, 9), "k": Choice(1, 2.5, "a", False), "batch": 32, "flag": True})
    given = {"x": 2, "n": np.int64(3), "k": np.float64(1.0), "batch": 32.0, "flag": np.bool_(True)}
    found = space.normalised(given)
    assert repr(found) == repr({"x": 2.0, "n": 3, "k": 1, "batch": 32, "flag": True})
    assert canonical(found) == canonical(space.normalised(space.decode(space.encode(given))))
    assert repr(space.normalised({"x": -0.0, "k": False})) == repr({"x": 0.0, "k": False})
    assert space.normalised({"x": 9, "other": np.int64(3), "n": True}) == {
        "x": 9,
        "other": 3,
        "n": True,
    }  # to be refused


def test_true_is_neither_1_nor_what_numpy_has_for_1():
    space = Space({"k": Choice(1, 2), "n": Integer(0, 3), "flag": True})
    assert not space.contains({"k": np.bool_(True), "n": 1, "flag": True})
    assert not space.contains({"k": 1, "n": np.bool_(True), "flag": True})
    assert not space.contains({"k": 1, "n": 1, "flag": np.int64(1)})
    assert space.contains({"k": np.float32(1), "n": np.uint8(1), "flag": np.bool_(True)})


@pytest.mark.parametrize(
    "domain", [Real(-1, 1), Real(-0.0, 1), Real(-1, 1, digits=1), Real(-1, -0.0), Choice(-0.0, 1.5)]
)
def test_no_value_is_a_zero_with_a_sign(domain):
    found = [domain.decode(u) for u in np.linspace(0, 1, 21)]
    found += [domain.nearest(value) for value in (-0.0, -1e-300, 0.0)] if isinstance(domain, Real) else []
    assert all(math.copysign(1, value) > 0 for value in found if value == 0)
    assert "-0.0" not in repr(domain)
