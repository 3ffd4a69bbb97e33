"""A search whose finalists are evaluated again: which they are, and which of them is the best."""

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers import PBT, Random, Rescored
from swarm.space import Integer, Space
from swarm.trial import canonical

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
    optimizer = Rescored(of=Random(trials=16), top=5, budget=10).start(space, seed=1)
    told = drive(optimizer, lambda trial: float(trial.params["n"]))
    final = [canonical(trial.params) for trial, _ in told[16:]]
    assert len(set(final)) == len(final) == 5


def test_if_nothing_succeeds_there_are_no_finalists():
    optimizer = Rescored(of=Random(trials=5)).start(SPACE)
    assert len(drive(optimizer, lambda trial: None)) == 5
    assert optimizer.best is None


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
