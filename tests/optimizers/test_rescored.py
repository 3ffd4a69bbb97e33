"""A search whose finalists are evaluated again: which they are, and which of them is the best."""

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers import BOHB, PBT, PSO, Demes, Hyperband, Random, Rescored, Staged
from swarm.plain import canonical
from swarm.space import Integer, Space

SPACE = Space({"n": Integer(0, 99)})


def drive(optimizer, loss):
    told = []
    while not optimizer.done:
        trial = optimizer.ask()
        told.append((trial, loss(trial)))
        optimizer.tell(*told[-1])
    return told


def noisy(trial):
    """Distance to 50; without the larger budget there is noise on it as large as the distances."""
    noise = 0.0 if trial.budget else 40 * np.random.default_rng(trial.id).standard_normal()
    return abs(trial.params["n"] - 50) + noise


def test_the_best_configurations_are_evaluated_again_with_the_larger_budget():
    optimizer = Rescored(of=Random(trials=60), top=6, budget=100).start(SPACE, seed=2)
    told = drive(optimizer, noisy)
    first, final = told[:60], told[60:]
    assert optimizer.planned == 66 and [trial.id for trial, _ in told] == list(range(66))
    assert {trial.budget for trial, _ in first} == {None} and {trial.budget for trial, _ in final} == {100.0}
    lowest = sorted(first, key=lambda result: result[1])[:6]
    assert [canonical(trial.params) for trial, _ in final] == [canonical(trial.params) for trial, _ in lowest]
    assert {trial.generation for trial, _ in final} == {1}
    assert optimizer.best == min(final, key=lambda result: result[1])
    assert optimizer.best[0].params != lowest[0][0].params  # what looked best had been lucky


def test_equal_configurations_are_one_finalist():
    space = Space({"n": Integer(0, 3), "m": Integer(0, 3)}, when={"m": {"n": [3]}})
    optimizer = Rescored(of=Random(trials=16, known="answer"), top=5, budget=10).start(space, seed=1)
    told = drive(optimizer, lambda trial: float(trial.params["n"]))
    final = [canonical(trial.params) for trial, _ in told[16:]]
    assert len(set(final)) == len(final) == 5


def test_if_nothing_succeeds_there_are_no_finalists():
    optimizer = Rescored(of=Random(trials=5)).start(SPACE)
    assert len(drive(optimizer, lambda trial: None)) == 5
    assert optimizer.best is None


@pytest.mark.parametrize(
    ("of", "most"),
    [
        (Hyperband(min_budget=1, max_budget=27), 27),
        (BOHB(min_budget=1, max_budget=9), 9),
        (Staged(stages=[[5, 2], [40, 3], [7, 1]]), 40),
        (Rescored(of=Random(trials=3), budget=50), 50),
        (Rescored(of=Hyperband(min_budget=1, max_budget=27), budget=81), 81),
    ],
)
def test_a_budget_that_is_not_above_that_of_the_method_is_refused_with_the_remedy(of, most):
    assert of.largest_budget == most
    for budget in (most / 2, most):
        with pytest.raises(
            InvalidOptimizer, match=rf"budget {budget:g} is no more than .* take a budget above {most}$"
        ):
            Rescored(of=of, budget=budget)
    optimizer = Rescored(of=of, budget=most + 1, top=2).start(SPACE, seed=1)
    told = drive(optimizer, lambda trial: float(trial.params["n"]))
    assert max(trial.budget or 0 for trial, _ in told) == most + 1 == optimizer.best[0].budget


def test_what_leaves_budgets_to_the_problem_goes_with_any():
    assert Demes(of=PSO(), rows=1).largest_budget is None
    Rescored(of=Demes(of=PSO(particles=2, generations=1), rows=1), budget=0.5)


def test_the_leaders_are_the_best_of_all_whatever_the_order():
    draws = np.random.default_rng(3)
    for _ in range(50):
        optimizer = Rescored(of=Random(trials=40), top=3, budget=100).start(SPACE, seed=int(draws.integers(99)))
        losses = {}

        def loss(trial, losses=losses):
            losses.setdefault(trial.id, (float(draws.integers(5)), trial.params["n"]))
            return losses[trial.id][0]

        told = drive(optimizer, loss)
        final = [trial.params["n"] for trial, _ in told[40:]]
        assert final == [n for _, n in sorted((losses[i] for i in range(40)), key=lambda each: each[0])[:3]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"of": Random(trials=3), "top": 0}, "top must be an integer of at least 1"),
        ({"of": Random(trials=3), "budget": 0}, "budget must be a number above 0"),
        ({"of": "Random"}, "of must be an optimizer"),
        ({"of": PBT()}, "of is PBT, whose trainings cannot be repeated"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=text):
        Rescored(**options)
