"""BOHB: Hyperband's schedule with configurations from TPE's model, at the budget that the model should use."""

import math
from collections import Counter

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.bohb import BOHB
from swarm.optimizers.hyperband import Hyperband
from swarm.optimizers.tpe import Model
from swarm.space import Choice, Integer, Real, Space
from swarm.trial import Trial

LINE = Space({"x": Real(0, 1)})
MIXED = Space({"x": Real(0, 1), "n": Integer(1, 9), "act": Choice("relu", "tanh", "elu")})
LADDER = {"min_budget": 1, "max_budget": 9}
BOTH = pytest.mark.parametrize("promotion", ["sync", "async"])


def drive(optimizer, loss, *, slots=1, seed=0):
    """Run to the end on some slots, landing at random: the trials in the order in which they were asked."""
    trials, flying, order = [], [], np.random.default_rng(seed)
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()) is not None:
            flying.append(trial)
            trials.append(trial)
        trial = flying.pop(int(order.integers(len(flying))))
        optimizer.tell(trial, loss(trial))
    return trials


def started(trials):
    return [trial for trial in trials if trial.parent is None]


def mixed_loss(trial):
    params = trial.params
    return (params["x"] - 0.7) ** 2 + 0.01 * (params["n"] - 3) ** 2 + (params["act"] != "elu") + 1 / trial.budget


def test_the_reports_run_is_50_configurations_60_trials_and_1600_epochs():
    optimizer = BOHB(min_budget=10, max_budget=40, iterations=20).start(MIXED, seed=1)
    trials = drive(optimizer, mixed_loss, slots=4)
    assert len(trials) == optimizer.planned == 60
    assert len(started(trials)) == 50
    assert sum(trial.budget for trial in trials) == pytest.approx(1600)


def test_the_schedule_is_hyperbands():
    runs = [drive(method(**LADDER, iterations=7).start(MIXED), mixed_loss, slots=3) for method in (BOHB, Hyperband)]
    schedules = [Counter((trial.generation, trial.budget) for trial in trials) for trials in runs]
    assert schedules[0] == schedules[1]


@BOTH
def test_its_configurations_are_better_than_random_ones(promotion):
    def late(method, seed):
        optimizer = method(**LADDER, iterations=18, promotion=promotion).start(MIXED, seed=seed)
        return np.mean([mixed_loss(trial) - 1 / trial.budget for trial in started(drive(optimizer, mixed_loss))[-40:]])

    better = [late(BOHB, seed) < 0.75 * late(Hyperband, seed) for seed in range(10)]
    assert np.mean(better) >= 0.9


def test_the_model_is_that_of_the_largest_budget_that_has_enough():
    model = Model(LINE, BOHB(**LADDER, random_fraction=0))

    def tell(budget, centre, *positions):
        for x in positions:
            model.tell(Trial(id=0, params={"x": x}, budget=budget), abs(x - centre))

    def proposed():
        return np.array([model.propose(np.random.default_rng(seed))["x"] for seed in range(50)])

    assert abs(proposed().mean() - 0.5) < 0.1 and proposed().std() > 0.2  # nothing is known: uniform
    tell(1.0, 0.9, *np.linspace(0, 1, 21))
    assert np.abs(proposed() - 0.9).max() < 0.15
    tell(9.0, 0.2, 0.18, 0.22, 0.8)
    assert np.abs(proposed() - 0.9).max() < 0.15  # d + 1 good ones and d + 1 bad ones are needed
    tell(9.0, 0.2, 0.6)
    assert np.abs(proposed() - 0.2).max() < 0.15
    tell(1.0, 0.9, *np.linspace(0.8, 1, 50))
    assert np.abs(proposed() - 0.2).max() < 0.15


@BOTH
def test_nothing_stalls_if_all_fail(promotion):
    optimizer = BOHB(**LADDER, iterations=6, promotion=promotion).start(MIXED)
    trials = drive(optimizer, lambda trial: None, slots=4)
    assert optimizer.done and optimizer.best is None
    assert len(trials) == len(started(trials)) == 2 * (9 + 3 + 3)


@BOTH
def test_no_slot_waits_while_iterations_remain(promotion):
    optimizer = BOHB(**LADDER, iterations=20, promotion=promotion).start(MIXED)
    flying, order = [optimizer.ask() for _ in range(12)], np.random.default_rng(1)
    while max(trial.generation for trial in flying) < 19:
        trial = flying.pop(int(order.integers(len(flying))))
        optimizer.tell(trial, mixed_loss(trial))
        flying.append(optimizer.ask())
        assert flying[-1] is not None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_budget": -1}, "min_budget must be a number above 0, not -1"),
        ({"promotion": "never"}, "promotion must be one of sync, async, not 'never'"),
        ({"candidates": 1.5}, "candidates must be an integer of at least 1, not 1.5"),
        ({"random_fraction": math.nan}, "random_fraction must be a number from 0 up to 1, not nan"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"BOHB: {text}"):
        BOHB(**{**LADDER, **options})
