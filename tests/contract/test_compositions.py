"""What every method that runs others promises over every other: it comes to its end, whoever of them ends early.

A method listed in ``OPTIMIZERS`` is tested by being listed; the small options are those of the contract of methods.
"""

import asyncio
import math

import numpy as np
import pytest
from test_optimizers import SPACES, VARIANTS, asked, bowl, drive, failing_now_and_then

from swarm import Job
from swarm.errors import InvalidOptimizer
from swarm.optimizers import GA, OPTIMIZERS, PSO, Demes, Grid, Random, Rescored, Staged
from swarm.optimizers.folds import Folds
from swarm.optimizers.replay import Replay
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search

BUDGET = 1000  # above that of every method
SETTLING = {"particles": 3, "generations": 40, "stop_velocity": 0.2}
METHODS = {
    **{name: OPTIMIZERS[kind](**options) for name, (kind, options) in VARIANTS.items()},
    "PSO, settles": PSO(**SETTLING),
    "PSO, settles, in place": PSO(**SETTLING, update="in_place"),
    "PSO, settles, iteration": PSO(**SETTLING, local="iteration", cognitive=1.0),
    "PSO, one particle": PSO(particles=1, generations=9, stop_velocity=0.2),
    "GA, no generations": GA(population=2, generations=0),
    "Staged, impatient": Staged(stages=[[1, 9], [2, 9]], patience=1),
    "Grid, tiny": Grid(points=2),
    "Random, more than there are": Random(trials=10**6),
    "Replay": Replay(steps=[{"budget": budget, "params": {"n": budget}} for budget in (1, 2, 3)]),
}
COMPOSITES = {
    "Folds": lambda of: Folds(of, 3),
    "Rescored": lambda of: Rescored(of=of, top=3, budget=BUDGET),
    "Rescored twice": lambda of: Rescored(of=Rescored(of=of, top=4, budget=BUDGET), top=2, budget=2 * BUDGET),
    "Demes": lambda of: Demes(of=of, interval=1, torus=True),
    "Demes, seldom": lambda of: Demes(of=of, rows=1, columns=3, interval=3),
    "Demes by rate": lambda of: Demes(of=of, rows=3, columns=1, rate=0.5),
    "Folds of Demes": lambda of: Folds(Demes(of=of, rows=1, interval=2), 2),
    "Folds of Rescored": lambda of: Folds(Rescored(of=of, top=2, budget=BUDGET), 2),
    "Rescored of Demes": lambda of: Rescored(of=Demes(of=of, rows=2, columns=1), top=2, budget=BUDGET),
}
TINY = SPACES["finite"]  # all of it is tried where a method would go on for long
LOSSES = {
    "all succeed": bowl,
    "some fail": failing_now_and_then,
    "all fail": lambda space: lambda trial: None,
    "the first generations fail": lambda space: lambda trial: None if trial.id < 30 else bowl(space)(trial),
    "all are equal": lambda space: lambda trial: 1.0,
}


def composed(composite, method):
    """The composite over the method, or None where they do not go together."""
    try:
        return COMPOSITES[composite](METHODS[method])
    except InvalidOptimizer:
        return None


COMPOSED = {(one, other): found for one in COMPOSITES for other in METHODS if (found := composed(one, other))}


def test_every_composite_goes_with_some_methods_and_every_method_with_some_composite():
    assert {composite for composite, _ in COMPOSED} == set(COMPOSITES)
    assert {method for _, method in COMPOSED} == set(METHODS)


@pytest.mark.matrix(times=2)
@pytest.mark.parametrize(("composite", "method"), COMPOSED)
def test_a_composite_comes_to_its_end_over_every_method(composite, method):
    options = COMPOSED[composite, method]
    space = TINY if method != "Replay" else TINY.parse({"n": {"integer": [1, 9]}, "k": 2})
    for seed, loss in enumerate(LOSSES.values()):
        optimizer = options.start(space, seed=seed)
        calls = drive(optimizer, loss(space), order=np.random.default_rng(seed), slots=1 + 3 * seed)
        assert optimizer.done and optimizer.ask() is None
        assert optimizer.planned is None or len(asked(calls)) <= optimizer.planned


@pytest.mark.matrix(times=2)
@pytest.mark.parametrize("method", [name for name in METHODS if "settles" in name])
@pytest.mark.parametrize("composite", ["Demes", "Demes, seldom", "Demes by rate", "Rescored of Demes"])
def test_demes_that_settle_early_give_the_same_run_on_any_number_of_slots(composite, method):
    space, lengths = SPACES["mixed"], set()
    for seed in range(6):
        runs = []
        for slots, order in ((1, None), (4, np.random.default_rng(1)), (64, np.random.default_rng(2))):
            optimizer = COMPOSED[composite, method].start(space, seed=seed)
            trials = asked(drive(optimizer, bowl(space), slots=slots, order=order))
            runs.append((sorted(trials, key=lambda trial: trial.id), optimizer.best))
        assert runs[0] == runs[1] == runs[2]
        lengths.add(len(runs[0][0]))
    assert len(lengths) > 1 and max(lengths) < optimizer.planned  # they end early, each at another time


def test_to_a_deme_that_has_settled_travels_only_what_it_would_take_in_with_higher_limits():
    optimizer = Demes(of=PSO(**SETTLING), rows=1, columns=3, interval=1).start(SPACES["mixed"], seed=1)
    drive(optimizer, bowl(SPACES["mixed"]))
    assert all(optimizer._population(deme).completed == generation + 1 for generation, deme in optimizer._post)
    assert len(optimizer._post) <= 3


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("method", [name for name, options in METHODS.items() if not options.inherits])
def test_a_search_of_every_method_and_the_one_that_follows_it_end(method, fails, open_store):
    then = {"optimizer": Demes(of=PSO(**SETTLING), interval=1), "search": ["k"]}
    job = Job(name="job", problem=lambda params, ctx: 0.0, space=TINY, optimizer=METHODS[method], then=then)
    store, sizes = open_store(), []
    while job is not None:
        enroll(job, store)
        found = Search(job, store)
        asyncio.run(found.run(VirtualPool(3, lambda e: None if fails else -math.hypot(e.params["n"], e.params["k"]))))
        sizes.append(found.state.told)
        assert found.state.end_reason == "done"
        job = job.following(found.state.best.params) if job.then and found.state.best else None
    assert len(sizes) == (1 if fails else 2) and all(sizes)
