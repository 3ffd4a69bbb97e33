"""The (μ+λ) algorithm on lists of variable length: counts, variation, rates that adjust themselves."""

import itertools
import statistics
import tracemalloc

import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.mu_plus_lambda import MuPlusLambda, adjusted, list_of
from swarm.optimizers.random import Random
from swarm.space import Choice, Integer, Real, Space
from swarm.workers.recurrent import space as architectures

SPACE = Space.parse(architectures(layers=(1, 4), units=(1, 20), look_back=(2, 9)))


def drive(optimizer, loss):
    """Run to the end; the trials with their losses, in order."""
    told = []
    while not optimizer.done:
        trial = optimizer.ask()
        told.append((trial, loss(trial.params)))
        optimizer.tell(*told[-1])
    return told


def units(params):
    return [params[f"units_{k}"] for k in range(1, params["layers"] + 1)]


def distance(params):
    """Zero for the layers 7, 12, 3 and a look-back of 5."""
    layers, wanted = units(params), [7, 12, 3]
    apart = sum(abs(a - b) for a, b in zip(layers, wanted, strict=False))
    return apart + 10 * abs(len(layers) - 3) + abs(params["look_back"] - 5)


def test_the_list_is_found_in_the_space():
    found = list_of(SPACE)
    assert found.names == ("layers", "units_1", "units_2", "units_3", "units_4")
    assert (found.low, found.filler) == (1, 1)
    assert found.items({"look_back": 3, "layers": 2, "units_1": 9, "units_2": 4}) == [9, 4]
    assert found.params([9, 4, 4, 1, 6]) == {"layers": 4, "units_1": 9, "units_2": 4, "units_3": 4, "units_4": 1}
    assert found.params([]) == {"layers": 1, "units_1": 1}


@pytest.mark.parametrize(
    "space",
    [
        Space({"n": Integer(1, 3), "x": Integer(1, 5)}),
        Space({"n": Integer(1, 2), "x": Integer(1, 5), "y": Integer(1, 5)}, when={"y": {"n": [2]}}),  # x has none
        Space({"n": Integer(1, 2), "x": Integer(1, 5), "y": Integer(1, 6)}, when={"x": {"n": [1, 2]}, "y": {"n": [2]}}),
    ],
)
def test_what_only_resembles_a_list_is_none(space):
    assert list_of(space).names == ()


def test_an_integer_that_counts_nothing_may_be_as_large_as_it_likes():
    space = Space({"n": Integer(1, 10**9), "m": Integer(0, 2**53), "x": Real(0, 1)}, when={"x": {"n": [1, 2, 3]}})
    tracemalloc.start()
    optimizer = MuPlusLambda(evaluations=40, gene_rate=0.5).start(space)
    while not optimizer.done:
        trial = optimizer.ask()
        space.check(trial.params)
        optimizer.tell(trial, float(trial.params["n"]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list_of(space).names == () and most < 1_000_000


@pytest.mark.parametrize("low", [0, 1, 2, 3])
@pytest.mark.parametrize("high", [4, 5])
def test_a_list_is_what_its_conditions_say_and_nothing_else(low, high):
    items = [f"item_{k}" for k in range(1, high + 1)]
    wanted = {name: list(range(max(k, low), high + 1)) for k, name in enumerate(items, start=1)}

    def found(conditions, names=items):
        domains = {"length": Integer(low, high)} | dict.fromkeys(names, Integer(1, 9))
        return list_of(Space(domains, when={name: {"length": conditions[name]} for name in names}))

    assert found(wanted).names == ("length", *items) and found(wanted).low == low
    assert found(wanted, items[:-1]).names == ()
    for name in items[low:]:  # one condition with another value, or one less
        for other in (wanted[name][1:], [wanted[name][0] - 1, *wanted[name]]):
            if other and other[0] >= low:
                assert found(wanted | {name: other}).names == ()


def test_so_many_are_evaluated_as_the_original_has_it():
    """DLOPT's options for the sine: μ 3, λ 5, 10 evaluations, 2 restarts, of which 2 migrate."""
    optimizer = MuPlusLambda().start(SPACE, seed=1)
    told = drive(optimizer, distance)
    assert len(told) == optimizer.planned == (3 + 10) + 2 * (1 + 10)
    sizes = [sum(trial.generation == g for trial, _ in told) for g in range(9)]
    assert sizes == [3, 5, 5, 1, 5, 5, 1, 5, 5]


@pytest.mark.parametrize("options", [{"evaluations": 1}, {"population": 2, "migrants": 2, "evaluations": 4}])
def test_what_is_planned_is_asked_also_at_the_edges(options):
    optimizer = MuPlusLambda(**options).start(SPACE, seed=1)
    assert len(drive(optimizer, distance)) == optimizer.planned


def test_the_best_is_found_although_fewer_are_evaluated_than_there_are_parents():
    optimizer = MuPlusLambda(population=8, evaluations=1, restarts=0, migrants=0).start(SPACE, seed=1)
    told = drive(optimizer, distance)
    assert optimizer.best[1] == min(loss for _, loss in told)


@pytest.mark.parametrize("mutation", ["normal", "step"])
def test_it_beats_random_search_at_equal_evaluations(mutation):
    gains = []
    for seed in range(10):
        optimizer = MuPlusLambda(
            population=4, children=6, evaluations=100, restarts=0, gene_rate=0.3, length_rate=0.2, mutation=mutation
        ).start(SPACE, seed=seed)
        drive(optimizer, distance)
        other = Random(trials=100).start(SPACE, seed=seed)
        drive(other, distance)
        gains.append(other.best[1] - optimizer.best[1])
    assert statistics.mean(gains) > 2 and sum(gain > 0 for gain in gains) >= 8


def test_lists_grow_and_shrink_by_one_and_stay_in_bounds():
    optimizer = MuPlusLambda(
        population=1,
        children=200,
        evaluations=401,
        restarts=0,
        migrants=0,
        gene_rate=0.0,
        length_rate=1.0,
        known="answer",
    ).start(SPACE, seed=3)
    told = drive(optimizer, lambda params: abs(params["layers"] - 2.5))
    parent = min((trial for trial, _ in told[:201]), key=lambda trial: (abs(trial.params["layers"] - 2.5), trial.id))
    lengths = {trial.params["layers"] for trial, _ in told[201:]}
    assert parent.params["layers"] in (2, 3)
    assert lengths == {parent.params["layers"] - 1, parent.params["layers"] + 1}
    for trial, _ in told[201:]:
        SPACE.check(trial.params)
        assert set(units(trial.params)) <= set(units(parent.params))
        assert trial.params["look_back"] == parent.params["look_back"]


def test_literally_the_look_back_takes_part_in_the_list():
    options = {"population": 1, "children": 200, "evaluations": 201, "restarts": 0, "migrants": 0, "gene_rate": 0.0}
    optimizer = MuPlusLambda(**options, length_rate=1.0, literal=True).start(SPACE, seed=3)
    told = drive(optimizer, lambda params: 0.0)
    parent = told[0][0].params
    moved = [trial.params for trial, _ in told[1:] if trial.params["look_back"] != parent["look_back"]]
    first = min(max(units(parent)[0], 2), 9)  # it was deleted, the first layer moved to its place, within bounds
    assert moved and all(params["look_back"] == first for params in moved)


def test_a_step_is_at_least_1_and_numbers_are_rounded_to_the_nearest():
    space = Space({"n": Integer(0, 1000), "m": Integer(0, 1000)})
    base = {"population": 1, "children": 300, "evaluations": 301, "restarts": 0, "migrants": 0, "gene_rate": 1.0}
    base["known"] = "answer"
    steps = MuPlusLambda(**base, mutation="step", step=3).start(space, seed=5)
    told = [trial.params["n"] for trial, _ in drive(steps, lambda params: 0.0)]
    moves = [n - told[0] for n in told[1:]]
    assert set(moves) == {-3, -2, -1, 1, 2, 3}
    assert sum(abs(move) == 1 for move in moves) > sum(abs(move) == 3 for move in moves)  # 0 and 1 both make 1
    normal = MuPlusLambda(**base, step=3).start(space, seed=5)
    told = [trial.params["n"] for trial, _ in drive(normal, lambda params: 0.0)]
    moves = [n - told[0] for n in told[1:]]
    assert abs(statistics.mean(moves)) < 0.6 and 2.5 < statistics.stdev(moves) < 3.5


def test_rates_rise_by_a_half_and_fall_to_a_quarter():
    """The sign error of DLOPT's later version has them the other way round."""
    assert adjusted(0.2, 0.2, 4.0, improved=True, steps=True) == pytest.approx((0.3, 0.3, 6.0))
    assert adjusted(0.2, 0.2, 4.0, improved=False, steps=True) == pytest.approx((0.05, 0.05, 1.0))
    assert adjusted(0.9, 0.9, 3.0, improved=True, steps=False) == (1.0, 1.0, 3.0)
    assert adjusted(1e-9, 1e-9, 1.0, improved=False, steps=True) == (1e-9, 1e-9, 1.0)


def test_rates_rise_where_the_population_improves_and_fall_where_it_does_not():
    options = {"population": 2, "children": 4, "evaluations": 10, "restarts": 0, "migrants": 0, "adapt": True}
    for losses, rate in ((iter(range(100, 0, -1)), 0.1 * 1.5**2), (iter(range(100)), 0.1 / 4**2)):
        optimizer = MuPlusLambda(**options).start(SPACE, seed=1)
        drive(optimizer, lambda _, losses=losses: next(losses))
        assert optimizer.rates == pytest.approx((rate, rate, 3.0))


def test_the_mean_of_the_population_never_becomes_worse():
    optimizer = MuPlusLambda(population=3, children=2, evaluations=60, restarts=0, gene_rate=0.5).start(SPACE, seed=2)
    kept, means = [], []
    while not optimizer.done:
        trial = optimizer.ask()
        kept = sorted([*kept, distance(trial.params)])
        optimizer.tell(trial, distance(trial.params))
        means.append(sum(kept[:3]) / 3)
    assert all(after <= before for before, after in itertools.pairwise(means[2:]))
    assert means[-1] < means[2]


def test_spaces_without_a_list_are_searched_too():
    space = Space({"rate": Real(1e-4, 1, log=True), "kind": Choice("a", "b", "c"), "n": Integer(1, 9)})
    optimizer = MuPlusLambda(population=5, children=5, evaluations=200, restarts=0, gene_rate=0.4).start(space, seed=1)
    drive(optimizer, lambda p: abs(space.encode(p)[0] - 0.5) + (p["kind"] != "c") + abs(p["n"] - 7))
    assert optimizer.best[1] < 0.05


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"population": 0}, "population must be an integer of at least 1"),
        ({"population": 2, "migrants": 3}, "migrants 3 are more than the population"),
        ({"gene_rate": 1.1}, "gene_rate must be a number from 0 up to 1"),
        ({"mutation": "small"}, "mutation must be one of normal, step"),
        ({"mutation": "step", "step": 0.5}, "step must be a number from 1"),
        ({"step": 0}, "step must be a number above 0"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=text):
        MuPlusLambda(**options)


def test_the_literal_form_needs_one_integer_beside_the_list():
    with pytest.raises(InvalidOptimizer, match="one integer and a list: leave it out"):
        MuPlusLambda(literal=True).start(Space({"x": Real(0, 1)}))
