"""Demes: neighbours on the grid, who migrates when, and that nobody waits for more than he must."""

import math

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers import GA, PBT, PSO, AsyncPSO, Demes, Random
from swarm.space import Real, Space

SPACE = Space({"x": Real(0, 1), "y": Real(0, 1)})


def loss(trial):
    return (trial.params["x"] - 0.3) ** 2 + (trial.params["y"] - 0.6) ** 2


def drive(optimizer, loss=loss, *, slots=1, seed=None):
    order = None if seed is None else np.random.default_rng(seed)
    results, flying = [], []
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()) is not None:
            flying.append(trial)
        trial = flying.pop(0 if order is None else int(order.integers(len(flying))))
        results.append((trial, loss(trial)))
        optimizer.tell(*results[-1])
    return results


def by_deme(results, demes):
    return [
        [(trial.member // demes, trial.params) for trial, _ in results if trial.id % demes == k] for k in range(demes)
    ]


def test_one_deme_is_just_the_method():
    method = GA(population=6, generations=4)
    alone = drive(method.start(SPACE, seed=int(np.random.SeedSequence([1, 0]).generate_state(1)[0])))
    assert drive(Demes(of=method, rows=1, columns=1).start(SPACE, seed=1)) == alone


def test_demes_are_different_populations():
    found = by_deme(drive(Demes(of=PSO(particles=3, generations=2), rows=1, columns=2).start(SPACE)), 2)
    assert len(found[0]) == len(found[1]) == 9 and found[0] != found[1]


def test_after_a_generation_the_best_of_a_deme_takes_the_place_of_its_neighbours_worst():
    # Without mutation, crossover or selection pressure only migration can bring a value into another deme.
    method = GA(population=4, generations=12, mutation=0.0, crossover=0.0, initial="uniform")
    optimizer = Demes(of=method, rows=1, columns=2, interval=3).start(SPACE, seed=4)
    results = drive(optimizer)
    born = [{trial.params["x"] for trial, _ in results if trial.id % 2 == k and trial.generation == 0} for k in (0, 1)]
    for generation in range(13):
        for k in (0, 1):
            values = {t.params["x"] for t, _ in results if t.id % 2 == k and t.generation == generation}
            if generation == 0:
                assert values <= born[k]
    strangers = [
        any(t.params["x"] in born[1 - k] for t, _ in results if t.id % 2 == k and t.generation > 0) for k in (0, 1)
    ]
    assert any(strangers)
    never = drive(Demes(of=method, rows=1, columns=2, rate=0.0).start(SPACE, seed=4))
    assert not any(t.params["x"] in born[1 - t.id % 2] for t, _ in never)


def test_a_deme_waits_only_for_those_that_send_to_it():
    optimizer = Demes(of=GA(population=2, generations=9), rows=1, columns=3, interval=10).start(SPACE, seed=0)
    slow = {trial.id: trial for trial in [optimizer.ask() for _ in range(6)] if trial.id % 3 == 0}
    assert len(slow) == 2  # deme 0 has not been told at all
    told = 0
    flying = [trial for trial in optimizer._open.values() if trial.id not in slow]
    while flying:
        trial = flying.pop()
        optimizer.tell(trial, loss(trial))
        told += 1
        while (trial := optimizer.ask()) is not None:
            flying.append(trial)
    receiver = optimizer._direction(0, 0)
    free = {1, 2} - {receiver}
    progress = [optimizer._runs[k].completed for k in range(3)]
    assert progress[0] == 0 and progress[receiver] == 1
    waits_on_receiver = optimizer._direction(receiver, 0) in free
    assert waits_on_receiver or all(progress[k] == 10 for k in free)


@pytest.mark.parametrize("torus", [False, True])
def test_neighbours_are_above_below_left_and_right(torus):
    optimizer = Demes(of=GA(), rows=3, columns=3, torus=torus).start(SPACE)
    assert optimizer._neighbours(4) == [1, 3, 5, 7]
    assert optimizer._neighbours(0) == ([1, 2, 3, 6] if torus else [1, 3])


@pytest.mark.parametrize("options", [{"interval": 1}, {"rate": 0.3}])
@pytest.mark.parametrize(
    "method",
    [
        GA(population=4, generations=6, mutation=0.3, initial="uniform"),
        PBT(population=4, max_budget=6, initial="uniform"),
        PSO(particles=4, generations=6),
    ],
)
def test_migration_depends_on_no_order_of_the_results(method, options):
    runs = []
    for slots, seed in ((1, None), (7, 1), (100, 2)):
        results = drive(Demes(of=method, torus=True, **options).start(SPACE, seed=3), slots=slots, seed=seed)
        runs.append(sorted(results, key=lambda result: result[0].id))
    assert runs[0] == runs[1] == runs[2]


def test_trainings_of_migrants_are_continued_in_their_new_deme():
    method = PBT(population=4, max_budget=8, initial="uniform")
    optimizer = Demes(of=method, rows=1, columns=2, interval=1).start(SPACE, seed=5)
    known, crossed = set(), 0

    def kept(trial):
        nonlocal crossed
        assert optimizer.parents() <= known | {trial.id}
        known.add(trial.id)
        crossed += trial.parent is not None and trial.parent % 2 != trial.id % 2
        return loss(trial)

    drive(optimizer, kept)
    assert crossed and optimizer.inherits


def test_a_deme_in_which_all_fails_sends_nobody_and_still_ends():
    optimizer = Demes(of=GA(population=3, generations=4), rows=1, columns=2, interval=1).start(SPACE)
    results = drive(optimizer, lambda trial: None if trial.id % 2 else loss(trial))
    assert len(results) == optimizer.planned and math.isfinite(optimizer.best[1])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"of": Random(trials=3)}, "of is Random, which has no generations to migrate between: take GA, PBT or PSO"),
        ({"of": AsyncPSO()}, "of is AsyncPSO"),
        ({"of": PBT(update="async")}, "of is PBT"),
        ({"of": "GA"}, "of must be an optimizer"),
        ({"of": GA(), "rows": 0}, "rows must be an integer of at least 1"),
        ({"of": GA(), "rate": 2}, "rate must be a number from 0 up to 1"),
    ],
)
def test_what_cannot_be_is_refused(options, complaint):
    with pytest.raises(InvalidOptimizer, match=complaint):
        Demes(**options)
