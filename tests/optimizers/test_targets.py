"""Trials of several targets: better minus worse, and who stands first where that is no order."""

import math

import numpy as np
import pytest

from swarm.optimizers.mu_plus_lambda import MuPlusLambda
from swarm.optimizers.targets import compared, standings
from swarm.space import Integer, Space

FAILED = (math.inf,)
SPACE = Space({"x": Integer(0, 20), "y": Integer(0, 20)})


def two_goals(params):
    """Both 0 nowhere: near x = 4 the first is low, near x = 12 the second; y = 7 is best for either."""
    away = abs(params["y"] - 7)
    return (abs(params["x"] - 4) + away, abs(params["x"] - 12) + away)


def drive(optimizer, losses, order=None, slots=1):
    """Run to the end on a number of slots, whose trials land in the order of their ids, or at random; all trials."""
    asked, flying = [], []
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()) is not None:
            flying.append(trial)
            asked.append(trial)
        trial = flying.pop(0 if order is None else int(order.integers(len(flying))))
        optimizer.tell(trial, losses(trial))
    return sorted(asked, key=lambda trial: trial.id)


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        ((0.1, 5), (0.2, 4), 0),  # DLOPT counts targets, not sizes
        ((0.1, 5), (0.2, 5), 1),
        ((0.1, 5), (0.2, 9), 2),
        ((3, 1, 1), (1, 2, 2), 1),
        ((3, 3, 1), (1, 1, 9), -1),
        ((1, 2), FAILED, 1),
        (FAILED, FAILED, 0),
    ],
)
def test_better_minus_worse(one, other, better):
    assert compared(one, other) == better
    assert compared(other, one) == -better


def test_one_target_is_the_usual_order():
    losses = [(0.3,), (0.1,), FAILED, (0.3,), (0.2,)]
    assert standings(losses) == [-1 + 1 - 1, 4, -4, -1, 2]
    assert sorted(range(5), key=lambda i: -standings(losses)[i]) == [1, 4, 0, 3, 2]


def test_a_circle_of_three_is_a_tie_and_who_beats_all_stands_first():
    circle = [(1, 2, 3), (2, 3, 1), (3, 1, 2)]  # each is better than the next in two of three targets
    assert [compared(circle[i], circle[(i + 1) % 3]) for i in range(3)] == [1, 1, 1]
    assert standings(circle) == [0, 0, 0]
    assert standings([*circle, (0, 9, 0)]) == [-1, -1, -1, 3]  # in two of three it is better than any


def test_wins_count_not_targets():
    """The first is better than any other, though by sums of targets (the Borda count) the second would come first."""
    losses = [(1, 1, 4), (2, 2, 1), (3, 3, 2), (4, 4, 3)]
    assert [sum(compared(one, other) for other in losses) for one in losses] == [3, 5, -1, -7]
    assert standings(losses) == [3, 1, -1, -3]


def test_the_best_of_several_targets_is_better_than_more_than_are_better_than_it():
    optimizer = MuPlusLambda(population=4, children=4, evaluations=4, restarts=0, migrants=0).start(SPACE, seed=1)
    losses = [(1.0, 9.0, 9.0), (2.0, 2.0, 2.0), (3.0, 3.0, 1.0), (9.0, 1.0, 3.0)]
    trials = drive(optimizer, lambda trial: losses[trial.id])
    assert standings(losses) == [-3, 3, 1, -1]
    assert optimizer.best == (trials[1], 2.0)
    assert optimizer.finalists() == [optimizer.best]


def test_before_a_generation_is_complete_the_first_target_decides():
    optimizer = MuPlusLambda(population=3, evaluations=3, restarts=0, migrants=0).start(SPACE, seed=1)
    trials = [optimizer.ask() for _ in range(3)]
    optimizer.tell(trials[2], (0.5, 3))
    optimizer.tell(trials[0], (0.4, 9))
    assert optimizer.best == (trials[0], 0.4)
    optimizer.tell(trials[1], None)
    assert optimizer.best == (trials[0], 0.4)  # neither is better, so the earlier one


@pytest.mark.parametrize("options", [{"restarts": 0, "migrants": 0}, {"restarts": 3, "migrants": 0}, {"adapt": True}])
def test_the_run_depends_on_no_order_of_results(options):
    options = {"population": 4, "children": 6, "evaluations": 40, "gene_rate": 0.5, **options}
    runs = []
    for slots, order in ((1, None), (3, np.random.default_rng(1)), (64, np.random.default_rng(2))):
        optimizer = MuPlusLambda(**options).start(SPACE, seed=3)
        losses = lambda trial: None if trial.id % 5 == 4 else two_goals(trial.params)  # noqa: E731
        runs.append((drive(optimizer, losses, order, slots), optimizer.best, optimizer.rates))
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][1][0].id % 5 != 4


def test_what_is_found_is_good_by_every_target():
    found = []
    for seed in range(10):
        options = {"population": 5, "children": 5, "evaluations": 80, "restarts": 0, "migrants": 0}
        optimizer = MuPlusLambda(**options, gene_rate=0.5).start(SPACE, seed=seed)
        drive(optimizer, lambda trial: two_goals(trial.params))
        found.append(optimizer.best[0].params)
    assert all(4 <= params["x"] <= 12 and params["y"] == 7 for params in found)  # nothing is better by both


def test_the_leader_outlives_a_population_that_leaves_no_migrants():
    options = {"population": 2, "evaluations": 2, "restarts": 4, "migrants": 0}
    optimizer = MuPlusLambda(**options).start(SPACE, seed=1)
    trials = drive(optimizer, lambda trial: (1, 1) if trial.id == 1 else (2 + trial.id, 2 + trial.id))
    assert optimizer.best == (trials[1], 1.0)


def test_rates_rise_where_more_means_have_become_lower():
    base = {"population": 2, "children": 4, "evaluations": 6, "restarts": 0, "migrants": 0, "adapt": True}
    for later, rate in (((1, 1, 9), 0.15), ((1, 9, 9), 0.025)):
        optimizer = MuPlusLambda(**base).start(SPACE, seed=1)
        drive(optimizer, lambda trial, later=later: (5, 5, 5) if trial.generation == 0 else later)
        assert optimizer.rates[0] == pytest.approx(rate)
