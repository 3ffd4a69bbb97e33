"""Grid search: what is on the grid, in which order, and that no size is too large."""

import itertools
import tracemalloc
from collections import Counter

import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.grid import Grid
from swarm.plain import canonical
from swarm.space import Choice, Integer, Real, Space

# The LeNet-5 report's bounds; it counts 200 · 32 · 32 · 90 configurations, without the upper ones of F6 and C5.
LENET5 = Space({"f6": Integer(125, 325), "c1": Integer(1, 32), "c3": Integer(1, 32), "c5": Integer(40, 130)})
HALF_OPEN = Space({"f6": Integer(125, 324), "c1": Integer(1, 32), "c3": Integer(1, 32), "c5": Integer(40, 129)})
MIXED = Space({"n": Integer(1, 3), "lr": Real(1e-3, 1e-1, log=True), "batch": 32, "act": Choice("a", "b")})


def configurations(optimizer, most=10**6):
    found = []
    while not optimizer.done and len(found) < most:
        trial = optimizer.ask()
        optimizer.tell(trial, 0.0)
        found.append(trial.params)
    return found


def test_the_reports_space_has_18729984_configurations_and_its_grid_is_737280000_epochs():
    assert Grid().start(LENET5).planned == 18_729_984
    assert Grid().start(HALF_OPEN).planned == 18_432_000
    assert Grid().start(HALF_OPEN).planned * 40 == 737_280_000


def test_the_last_parameter_varies_fastest_and_every_configuration_comes_once():
    found = configurations(Grid(points=3).start(MIXED))
    assert [(p["n"], round(p["lr"], 12), p["act"]) for p in found] == list(
        itertools.product([1, 2, 3], [0.001, 0.01, 0.1], ["a", "b"])
    )
    assert all(list(params) == ["n", "lr", "batch", "act"] and params["batch"] == 32 for params in found)


def test_the_grid_of_a_finite_space_is_the_whole_space_in_its_own_order():
    space = Space({"n": Integer(-2, 3), "flag": Choice(False, True), "fixed": "x", "k": Integer(2, 8)})
    optimizer = Grid(points=5).start(space)  # which are for real parameters only
    assert configurations(optimizer) == [space.at(i) for i in range(84)]
    assert optimizer.planned == space.size == 84


@pytest.mark.parametrize(
    ("domain", "points", "values"),
    [
        (Real(0, 1), 5, [0, 0.25, 0.5, 0.75, 1]),
        (Real(-2, 2), 2, [-2, 2]),
        (Real(1e-4, 1, log=True), 5, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (Real(0, 1, digits=1), 5, [0, 0.2, 0.5, 0.8, 1]),
        (Real(0.1, 0.3, digits=1), 9, [0.1, 0.2, 0.3]),  # what rounding makes equal counts once
        (Integer(1, 10), 4, [1, 4, 7, 10]),
        (Integer(1, 4), 3, [1, 3, 4]),  # 2.5 is rounded up
        (Integer(1, 4), 4, [1, 2, 3, 4]),
    ],
)
def test_points_are_evenly_spaced_with_both_ends(domain, points, values):
    optimizer = Grid(points={"x": points}).start(Space({"x": domain}))
    found = [params["x"] for params in configurations(optimizer)]
    assert optimizer.planned == len(values)
    assert found == pytest.approx(values, rel=1e-12)
    assert (found[0], found[-1]) == (domain.low, domain.high)  # exactly


@pytest.mark.parametrize("domain", [Real(0, 1), Real(1e-9, 1, log=True), Integer(1, 10**10)])
def test_points_are_never_listed_however_many_there_are(domain):
    tracemalloc.start()
    optimizer = Grid(points={"x": 10**9 + 1}).start(Space({"x": domain, "n": Integer(1, 2)}))
    first = optimizer.ask()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert optimizer.planned == 2 * (10**9 + 1) and first.params["x"] == domain.low and most < 100_000


@pytest.mark.parametrize("points", [2, 3, 7, 40, 333, 20_001])
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_of_values_that_rounding_makes_equal_one_is_on_the_grid(points, digits):
    domain = Real(0.013, 2.5, digits=digits)
    expected = list(dict.fromkeys(domain.decode(j / (points - 1)) for j in range(points)))
    assert [params["x"] for params in configurations(Grid(points=points).start(Space({"x": domain})))] == expected


def test_a_billion_points_of_one_digit_are_few():
    optimizer = Grid(points=10**9).start(Space({"x": Real(0.1, 0.9, digits=1)}))
    assert [params["x"] for params in configurations(optimizer)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_points_by_name_thin_out_whole_numbers_and_leave_the_others_whole():
    assert Grid(points={"f6": 5, "c5": 3}).start(LENET5).planned == 5 * 32 * 32 * 3
    assert Grid(points={"lr": 4}).start(MIXED).planned == 3 * 4 * 2


def test_a_shuffled_grid_is_the_same_grid_in_a_random_order():
    inorder = configurations(Grid(points=4).start(MIXED))
    shuffled = [configurations(Grid(points=4, shuffle=True).start(MIXED, seed=seed)) for seed in (1, 1, 2)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    for found in shuffled:
        assert found != inorder
        assert sorted(map(canonical, found)) == sorted(map(canonical, inorder))


def test_a_shuffled_grid_that_stops_early_is_a_fair_sample():
    found = configurations(Grid(shuffle=True).start(LENET5, seed=1), most=2000)
    assert len(set(map(canonical, found))) == 2000
    for name in LENET5.names:
        domain = LENET5.domains[name]
        quarters = Counter(min(3, int(4 * domain.encode(params[name]))) for params in found)
        assert all(400 < quarters[quarter] < 600 for quarter in range(4))
    unshuffled = configurations(Grid().start(LENET5), most=2000)
    assert {params["f6"] for params in unshuffled} == {125}


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_grid_of_10_to_the_47_begins_at_once_and_its_memory_does_not_grow(shuffle):
    wide = Integer(-(2**53), 2**53)
    optimizer = Grid(shuffle=shuffle).start(Space({"a": wide, "b": wide, "c": wide}))
    assert optimizer.planned == (2**54 + 1) ** 3
    configurations(optimizer, most=100)
    tracemalloc.start()
    try:
        for _ in range(500):
            optimizer.tell(optimizer.ask(), 1.0)
        assert tracemalloc.get_traced_memory()[0] < 20_000  # bytes
    finally:
        tracemalloc.stop()


def test_asking_never_waits_and_the_lowest_is_the_best():
    optimizer = Grid(points=5).start(MIXED)
    trials = [optimizer.ask() for _ in range(30)]
    assert optimizer.ask() is None and not optimizer.done and not optimizer.generational
    assert [trial.member for trial in trials] == list(range(30))
    for trial in reversed(trials):
        failed = trial.params["act"] == "a"
        optimizer.tell(trial, None if failed else abs(trial.params["lr"] - 0.012) + trial.params["n"])
    best = optimizer.best[0].params
    assert optimizer.done
    assert (best["n"], best["act"], best["lr"]) == (1, "b", pytest.approx(0.01))


@pytest.mark.parametrize("points", [1, 0, 2.0, True, "5", {"lr": 1}, {"lr": None}])
def test_points_that_are_no_number_from_2_are_refused(points):
    with pytest.raises(InvalidOptimizer, match=r"^Grid: points must be an integer of at least 2, not "):
        Grid(points=points)


def test_shuffle_is_true_or_false():
    with pytest.raises(InvalidOptimizer, match="^Grid: shuffle must be true or false, not 'yes'"):
        Grid(shuffle="yes")


@pytest.mark.parametrize(
    ("points", "text"),
    [
        (None, r"lr is real: give its number of values, such as points: \{lr: 5\}"),
        ({"n": 2}, "lr is real: give its number of values"),
        ({"lr": 5, "rate": 5}, "there is no 'rate' to give points to: there are n, lr, batch, act"),
        ({"lr": 5, "n": 4}, "n is an integer from 1 to 3: 4 points are too many, take fewer or none"),
        ({"lr": 5, "act": 2}, "act is one of 'a', 'b': 2 points are too many"),
        ({"lr": 5, "batch": 2}, "batch is 32: 2 points are too many"),
    ],
)
def test_points_that_do_not_fit_the_space_are_refused(points, text):
    with pytest.raises(InvalidOptimizer, match=f"^Grid: {text}"):
        Grid(points=points).start(MIXED)
