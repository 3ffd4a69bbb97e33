"""One independent search per fold, interleaved."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import Optimizer
from swarm.optimizers.folds import Folds
from swarm.optimizers.pso import PSO
from swarm.optimizers.random import Random
from swarm.space import Integer, Real, Space

SPACE = Space({"n": Integer(1, 50), "r": Real(0, 1)})


@dataclass(kw_only=True)
class Relay(Optimizer):
    """Trains one configuration in slices, each from the checkpoint of the one before."""

    slices: int = 3

    def _begin(self):
        self._last = None

    def _exhausted(self):
        return self._asked >= self.slices

    def _ask(self):
        if self._open:
            return None
        trial = self._trial({"n": 1, "r": 0.5}, budget=1.0, parent=self._last)
        self._last = trial.id
        return trial

    def parents(self):
        return set() if self._last is None else {self._last}


def loss(trial):
    """Best at another place for every fold."""
    return (trial.params["r"] - 0.2 * (trial.fold + 1)) ** 2


def run(optimizer, slots=1, rng=None):
    trials, flying = [], []
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()):
            flying.append(trial)
            trials.append(trial)
        trial = flying.pop(0 if rng is None else int(rng.integers(len(flying))))
        optimizer.tell(trial, loss(trial))
    return trials


def test_every_fold_runs_as_it_would_alone_whatever_the_interleaving():
    inner = PSO(particles=4, generations=8)
    alone = []
    for fold in range(3):
        trials = run(inner.start(SPACE, seed=5, fold=fold))
        alone += [replace(trial, id=trial.id * 3 + fold) for trial in trials]
    for slots, rng in ((1, None), (5, None), (7, np.random.default_rng(1)), (50, np.random.default_rng(2))):
        optimizer = Folds(inner, 3).start(SPACE, seed=5)
        together = run(optimizer, slots, rng)
        assert sorted(together, key=lambda trial: trial.id) == sorted(alone, key=lambda trial: trial.id)
        assert len(together) == optimizer.planned == 3 * 36


def test_folds_are_asked_in_turn_and_fill_the_slots_that_a_barrier_leaves():
    optimizer = Folds(PSO(particles=2, generations=1), 3).start(SPACE)
    first = [optimizer.ask() for _ in range(6)]
    assert [trial.fold for trial in first] == [0, 1, 2, 0, 1, 2]
    assert [trial.id for trial in first] == list(range(6))
    assert optimizer.ask() is None
    for trial in (first[1], first[4]):  # fold 1 alone passes its barrier
        optimizer.tell(trial, 1.0)
    second = [optimizer.ask() for _ in range(2)]
    assert [(trial.fold, trial.generation, trial.id) for trial in second] == [(1, 1, 7), (1, 1, 10)]
    assert optimizer.ask() is None and not optimizer.done


def test_the_best_of_each_fold_and_of_all_are_known():
    optimizer = Folds(PSO(particles=4, generations=10), 3).start(SPACE, seed=2)
    assert optimizer.best_per_fold() == [None, None, None] and optimizer.finalists() == []
    results = {trial.id: (trial, loss(trial)) for trial in run(optimizer, 6)}
    expected = [
        min((r for r in results.values() if r[0].fold == fold), key=lambda r: (r[1], r[0].id)) for fold in range(3)
    ]
    assert optimizer.best_per_fold() == optimizer.finalists() == expected
    assert optimizer.best == min(expected, key=lambda result: (result[1], result[0].id))
    assert [trial.params["r"] for trial, _ in expected] == pytest.approx([0.2, 0.4, 0.6], abs=0.05)


def test_a_fold_in_which_all_fail_has_no_best_and_does_not_hold_up_the_others():
    optimizer = Folds(Random(trials=4), 2).start(SPACE)
    while not optimizer.done:
        trial = optimizer.ask()
        optimizer.tell(trial, None if trial.fold == 0 else 1.0)
    failed, succeeded = optimizer.best_per_fold()
    assert failed is None and succeeded[0].fold == 1
    assert optimizer.finalists() == [succeeded]


def test_parents_are_named_by_their_global_ids():
    optimizer = Folds(Relay(), 4).start(SPACE)
    by_id = {}
    while not optimizer.done:
        trial = optimizer.ask()
        by_id[trial.id] = trial
        assert optimizer.parents() <= set(by_id)
        optimizer.tell(trial, 1.0)
    assert len(by_id) == 12
    for trial in by_id.values():
        assert trial.parent == (None if trial.id < 4 else trial.id - 4)
    assert optimizer.parents() == {8, 9, 10, 11}


def test_a_result_that_is_not_awaited_is_refused():
    optimizer = Folds(PSO(particles=2, generations=1), 2).start(SPACE)
    trial = optimizer.ask()
    for wrong in (replace(trial, fold=1), replace(trial, id=2), replace(trial, params={"n": 1, "r": 0.0})):
        with pytest.raises(InvalidOptimizer, match="not open"):
            optimizer.tell(wrong, 0.0)
    optimizer.tell(trial, 1.0)
    with pytest.raises(InvalidOptimizer, match="not open"):
        optimizer.tell(trial, 0.0)
    assert optimizer.best == (trial, 1.0)


def test_it_knows_as_much_of_the_plan_as_the_optimizer_inside():
    assert Folds(Random(trials=5), 3).start(SPACE).planned == 15
    assert Folds(Relay(), 3).start(SPACE).planned is None
    assert Folds(PSO(), 3).generational and not Folds(Random(trials=5), 3).generational


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidOptimizer, match="folds must be an integer of at least 1, not 0"):
        Folds(PSO(), 0)
    with pytest.raises(InvalidOptimizer, match="without fold=2"):
        Folds(PSO(), 3).start(SPACE, fold=2)
    with pytest.raises(InvalidOptimizer, match="give trials instead"):
        Folds(Random(proportion=0.1), 3).start(SPACE)
    with pytest.raises(InvalidOptimizer, match=r"call start\(space"):
        Folds(PSO(), 3).best_per_fold()
