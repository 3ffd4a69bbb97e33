"""Random search: how many it tries, never twice, in spaces of any size."""

import tracemalloc
from collections import Counter

import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.random import Random, permuted
from swarm.plain import canonical
from swarm.space import Choice, Integer, Real, Space

# The LeNet-5 report counts 200 · 32 · 32 · 90 configurations.
LENET5 = Space({"f6": Integer(125, 324), "c1": Integer(1, 32), "c3": Integer(1, 32), "c5": Integer(40, 129)})


def configurations(optimizer):
    found = []
    while not optimizer.done:
        trial = optimizer.ask()
        optimizer.tell(trial, 0.0)
        found.append(trial.params)
    return found


def test_the_reports_proportion_is_100_of_18432000_configurations():
    assert LENET5.size == 18_432_000
    assert LENET5.size * 40 == 737_280_000  # epochs of a grid search
    assert 5.4e-6 * LENET5.size == pytest.approx(99.53, abs=0.005)
    assert Random(proportion=5.4e-6).start(LENET5).planned == 100


@pytest.mark.parametrize(("proportion", "trials"), [(1e-9, 1), (0.25, 3), (0.29, 3), (0.3, 4), (1, 12)])
def test_a_proportion_is_rounded_half_up_to_at_least_one_trial(proportion, trials):
    space = Space({"n": Integer(1, 4), "o": Choice("a", "b", "c")})
    assert Random(proportion=proportion).start(space).planned == trials


def test_a_finite_space_is_exhausted_without_repetition():
    space = Space({"n": Integer(1, 10), "k": Integer(2, 8), "o": Choice("a", "b", "c")})
    found = configurations(Random(trials=10**6).start(space, seed=3))
    assert len({canonical(params) for params in found}) == len(found) == space.size == 210


def test_nothing_is_tried_twice_in_a_space_of_10_to_the_18():
    space = Space({f"x{i}": Integer(0, 999_999) for i in range(3)})
    found = configurations(Random(trials=2000).start(space, seed=1))
    assert len({canonical(params) for params in found}) == 2000
    for name in space.names:  # spread over the whole range
        tenths = Counter(params[name] // 100_000 for params in found)
        assert len(tenths) == 10 and min(tenths.values()) > 140


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_a_permutation_reaches_every_number_once(size):
    assert sorted(permuted(i, size, key="k") for i in range(size)) == list(range(size))


def test_permutations_of_other_keys_are_others_and_all_orders_are_about_as_likely():
    orders = Counter(tuple(permuted(i, 3, key=str(key)) for i in range(3)) for key in range(1200))
    assert len(orders) == 6
    assert min(orders.values()) > 120


def test_asking_never_waits_and_real_dimensions_are_sampled():
    optimizer = Random(trials=50).start(Space({"n": Integer(1, 2), "r": Real(0, 1)}), seed=1)
    trials = [optimizer.ask() for _ in range(50)]
    assert optimizer.ask() is None and not optimizer.done
    assert len({trial.params["r"] for trial in trials}) == 50
    assert [trial.member for trial in trials] == list(range(50))
    assert {trial.generation for trial in trials} == {0}


def test_memory_does_not_grow_with_the_trials():
    optimizer = Random(trials=10**6).start(LENET5, seed=1)

    def run(trials):
        for _ in range(trials):
            optimizer.tell(optimizer.ask(), 1.0)

    run(100)
    tracemalloc.start()
    try:
        run(1000)
        assert tracemalloc.get_traced_memory()[0] < 20_000  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "either trials, at least 1, or proportion"),
        ({"trials": 3, "proportion": 0.1}, "either trials, at least 1, or proportion"),
        ({"trials": 0}, "trials must be an integer of at least 1, not 0"),
        ({"trials": 2.0}, "trials must be an integer of at least 1, not 2.0"),
        ({"trials": True}, "trials must be an integer of at least 1, not True"),
        ({"proportion": 0}, "proportion must be a number above 0 up to 1, not 0"),
        ({"proportion": 1.5}, "proportion must be a number above 0 up to 1, not 1.5"),
        ({"proportion": float("nan")}, "proportion must be a number above 0 up to 1, not nan"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"Random: .*{text}"):
        Random(**options)


def test_a_proportion_of_an_endless_space_is_refused():
    with pytest.raises(InvalidOptimizer, match="give trials instead"):
        Random(proportion=0.1).start(Space({"r": Real(0, 1)}))
