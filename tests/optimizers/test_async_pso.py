"""The swarm without a barrier: who moves when, that nothing is lost or counted twice, and how well it searches."""

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.async_pso import AsyncPSO
from swarm.optimizers.pso import PSO
from swarm.space import Choice, Integer, Real, Space

UNIT = Space({"a": Real(0, 1), "b": Real(0, 1), "c": Real(0, 1)})
SQUARE = Space({"a": Real(-5.12, 5.12), "b": Real(-5.12, 5.12)})
MIXED = Space({"n": Integer(1, 48), "lr": Real(1e-4, 1, log=True), "act": Choice("a", "b", "c")})
CLERC = {"inertia": 0.7298, "cognitive": 1.49618, "social": 1.49618}


def off_centre(trial):
    return sum((value - 0.3) ** 2 for value in trial.params.values())


def sphere(trial):
    return sum(value**2 for value in trial.params.values())


def rastrigin(trial):
    return sum(10 + value**2 - 10 * math.cos(2 * math.pi * value) for value in trial.params.values())


def drive(optimizer, loss, rng=None, slots=1):
    """Run to the end on a number of slots, with results in random order; every call, and trials as asked."""
    calls, flying = [], []
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()):
            calls.append(("ask", trial))
            flying.append(trial)
        trial = flying.pop(0 if rng is None else int(rng.integers(len(flying))))
        optimizer.tell(trial, loss(trial))
        calls.append(("tell", trial))
    return calls


def trials_of(calls):
    return [trial for call, trial in calls if call == "ask"]


def at(trial):
    return UNIT.encode(trial.params)


# --- who moves when


@pytest.mark.parametrize(
    "options", [{}, {"velocity": "zero", "social": 1.5}, {"bounds": "reflect", "max_velocity": 0.1}]
)
def test_with_one_slot_it_is_the_serial_swarm_of_algorithm_1_trial_for_trial(options):
    def loss(trial):  # nothing succeeds at first, and every fifth fails later
        return None if trial.id < 9 or trial.id % 5 == 0 else float(((MIXED.encode(trial.params) - 0.4) ** 2).sum())

    options = {"particles": 4, "generations": 20, **options}
    serial = drive(PSO(update="in_place", **options).start(MIXED, seed=3), loss)
    assert drive(AsyncPSO(**options).start(MIXED, seed=3), loss) == serial


def test_a_particle_is_asked_again_as_soon_as_its_own_result_is_told_in_the_order_of_the_results():
    optimizer = AsyncPSO(particles=4).start(UNIT)
    first = [optimizer.ask() for _ in range(4)]
    assert [trial.member for trial in first] == [0, 1, 2, 3]
    assert optimizer.ask() is None and not optimizer.done
    optimizer.tell(first[2], 1.0)
    optimizer.tell(first[0], 1.0)
    assert [optimizer.ask().member, optimizer.ask().member] == [2, 0]
    assert optimizer.ask() is None
    optimizer.tell(first[1], 1.0)
    assert optimizer.ask().member == 1


@pytest.mark.parametrize(("second", "stays"), [(0.5, 1), (1.0, 0), (2.0, 0), (None, 0)])
def test_it_moves_to_the_swarms_best_of_that_moment_and_an_equal_loss_is_not_better(second, stays):
    optimizer = AsyncPSO(particles=2, inertia=0, cognitive=0, social=1, velocity="zero", known="answer").start(
        UNIT, seed=1
    )
    starts = [optimizer.ask(), optimizer.ask()]
    optimizer.tell(starts[0], 1.0)
    again = optimizer.ask()
    assert again.params == starts[0].params  # it is the best itself, whatever the other one will be
    optimizer.tell(starts[1], second)
    optimizer.tell(again, 1.0)
    for move in (optimizer.ask(), optimizer.ask()):
        if move.member == stays:
            assert move.params == starts[stays].params
        else:  # per dimension a random part of the way to the best
            way = (at(move) - at(starts[move.member])) / (at(starts[stays]) - at(starts[move.member]))
            assert (way > 0).all() and (way < 1).all() and len(set(way)) == 3


def test_a_particles_first_position_does_not_depend_on_when_it_is_asked():
    together = AsyncPSO(particles=3).start(UNIT, seed=2)
    starts = [together.ask() for _ in range(3)]
    assert trials_of(drive(AsyncPSO(particles=3).start(UNIT, seed=2), off_centre))[:3] == starts


# --- nothing is lost, nothing is counted twice


@pytest.mark.parametrize("slots", [1, 3, 50])
def test_whatever_the_order_every_trial_is_told_once_and_they_are_as_many_as_the_synchronous_swarms(slots):
    optimizer = AsyncPSO(particles=5, generations=30).start(UNIT, seed=4)
    assert optimizer.planned == PSO(particles=5, generations=30).start(UNIT).planned == 155
    calls = drive(optimizer, off_centre, np.random.default_rng(slots), slots)
    trials = trials_of(calls)
    assert [trial.id for trial in trials] == list(range(155))
    assert sorted(trial.id for call, trial in calls if call == "tell") == list(range(155))
    assert Counter(trial.generation for trial in trials) == dict.fromkeys(range(31), 5)
    assert set(Counter(trial.member for trial in trials)) == set(range(5))
    flying = set()
    for call, trial in calls:  # no particle is in two places
        assert (trial.member in flying) == (call == "tell")
        flying ^= {trial.member}


def test_a_slow_particle_holds_nobody_up():
    optimizer = AsyncPSO(particles=3, generations=20).start(UNIT, seed=1)
    slow = optimizer.ask()
    turns = Counter({slow.member: 1})
    while trial := optimizer.ask():
        turns[trial.member] += 1
        optimizer.tell(trial, off_centre(trial))
    assert turns == {0: 1, 1: 31, 2: 31}
    assert not optimizer.done
    optimizer.tell(slow, -1.0)
    assert optimizer.done and optimizer.best == (slow, -1.0)


@pytest.mark.parametrize("seed", range(3))
def test_every_beginning_of_a_journal_replays_exactly_whatever_the_order_of_its_results(seed):
    def start():
        return AsyncPSO(particles=4, generations=8).start(MIXED, seed=7)

    def loss(trial):
        return None if trial.id % 4 == 1 else float(MIXED.encode(trial.params).sum())

    calls = drive(start(), loss, np.random.default_rng(seed), slots=3)
    for length in range(len(calls)):
        replayed = start()
        for call, trial in calls[:length]:
            if call == "tell":
                replayed.tell(trial, loss(trial))
            else:
                assert replayed.ask() == trial
        if calls[length][0] == "ask":
            assert replayed.ask() == calls[length][1]


def test_another_order_of_the_results_is_another_run():
    runs = [trials_of(drive(AsyncPSO().start(UNIT), off_centre, np.random.default_rng(i), 6)) for i in range(2)]
    assert runs[0] != runs[1] and runs[0][:6] == runs[1][:6]


def test_memory_does_not_grow_with_the_trials():
    optimizer = AsyncPSO(generations=10**6).start(UNIT, seed=1)

    def run(trials):
        for _ in range(trials):
            optimizer.tell(trial := optimizer.ask(), off_centre(trial))

    run(100)
    tracemalloc.start()
    try:
        run(1200)
        assert tracemalloc.get_traced_memory()[0] < 20_000  # bytes
    finally:
        tracemalloc.stop()


# --- failures


def test_a_failed_particle_moves_on_towards_the_best_that_succeeded():
    optimizer = AsyncPSO(
        particles=3, generations=60, velocity="zero", inertia=0.5, cognitive=0.5, social=0.5, known="answer"
    ).start(UNIT, seed=1)
    calls = drive(optimizer, lambda trial: 1.0 if trial.member == 1 else None, np.random.default_rng(1), 3)
    trials = trials_of(calls)
    target = at(next(trial for trial in trials if trial.member == 1))
    for member in (0, 2):
        last = [trial for trial in trials if trial.member == member][-1]
        assert np.abs(at(last) - target).max() < 1e-3
    assert optimizer.best[0].member == 1


def test_while_all_fail_the_particles_are_placed_anew():
    optimizer = AsyncPSO(particles=3, generations=10, velocity="zero", known="answer").start(UNIT, seed=1)
    trials = trials_of(drive(optimizer, lambda trial: math.nan, np.random.default_rng(1), 3))
    assert len(np.unique([at(trial) for trial in trials], axis=0)) == 33
    assert optimizer.best is None


# --- how well it searches, at equal evaluations and with results in random order


def best_losses(optimizer, loss, starts):
    losses = []
    for seed in range(starts):
        started = optimizer.start(SQUARE, seed=seed)
        drive(started, loss, np.random.default_rng(seed), slots=optimizer.particles)
        losses.append(started.best[1])
    return np.array(losses)


def test_it_solves_the_sphere_as_often_and_as_well_as_the_synchronous_swarm():
    options = {"particles": 6, "generations": 60, **CLERC}
    found = {method: best_losses(method(**options), sphere, starts=25) for method in (PSO, AsyncPSO)}
    assert max(found[PSO].max(), found[AsyncPSO].max()) < 1e-2
    assert abs(np.log10(np.median(found[AsyncPSO]) / np.median(found[PSO]))) < 1.5  # of about six decades gained


def test_it_finds_rastrigins_lowest_basin_about_as_often_as_the_synchronous_swarm():
    options = {"particles": 15, "generations": 40, **CLERC}
    found = {method: (best_losses(method(**options), rastrigin, starts=20) < 0.5).mean() for method in (PSO, AsyncPSO)}
    assert min(found.values()) >= 0.6
    assert abs(found[AsyncPSO] - found[PSO]) <= 0.3


@pytest.mark.parametrize("preset", [AsyncPSO.koh, AsyncPSO.venter])
def test_the_presets_of_the_literature_solve_the_sphere(preset):
    assert best_losses(preset(particles=10, generations=80), sphere, starts=8).max() < 1e-3


# --- options


def test_the_presets_are_those_of_the_literature():
    koh, venter = AsyncPSO.koh(), AsyncPSO.venter(particles=10, generations=50)
    assert (koh.inertia, koh.cognitive, koh.social, koh.max_velocity) == (1.0, 2.0, 2.0, 0.5)
    assert (venter.inertia, venter.inertia_decay, venter.inertia_end) == (1.4, 0.975, 0.35)
    assert (venter.cognitive, venter.social) == (1.5, 2.5)
    assert venter.start(UNIT).planned == 510


def test_the_inertia_falls_with_every_turn_down_to_its_end():
    options = {"cognitive": 0, "social": 0, "inertia": 0.8, "inertia_decay": 0.5, "inertia_end": 0.3}
    optimizer = AsyncPSO(particles=1, generations=5, bounds="unbounded", max_velocity=0.1, **options)
    path = np.array([at(trial) for trial in trials_of(drive(optimizer.start(UNIT, seed=3), off_centre))])
    inside = ((path > 0) & (path < 1)).all(axis=0)  # where no wall is met
    steps = np.diff(path[:, inside], axis=0)
    assert steps.size and np.allclose(steps[1:] / steps[:-1], [[0.4], [0.3], [0.3], [0.3]])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"particles": 0}, "particles must be an integer of at least 1, not 0"),
        ({"generations": -1}, "generations must be an integer of at least 0, not -1"),
        ({"inertia": 1.4}, "inertia must be a number from 0 up to 1, not 1.4"),
        ({"inertia": 2.5, "inertia_decay": 0.9}, "inertia must be a number from 0 up to 2, not 2.5"),
        ({"inertia_decay": 0}, "inertia_decay must be a number above 0 up to 1, not 0"),
        ({"inertia_decay": 1.1}, "inertia_decay must be a number above 0 up to 1, not 1.1"),
        ({"inertia": 0.5, "inertia_end": 0.6}, "inertia_end must be a number from 0 up to 0.5, not 0.6"),
        ({"social": math.inf}, "social must be a number from 0, not inf"),
        ({"velocity": "random"}, "velocity must be one of halfway, uniform, literal, zero, not 'random'"),
        ({"bounds": "wrap"}, "bounds must be one of clip, reflect, unbounded, not 'wrap'"),
        ({"max_velocity": 0}, "max_velocity must be a number above 0, not 0"),
        ({"bounds": "unbounded", "cognitive": 3.0, "social": 3.0}, "fly away .* take bounds clip or reflect"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"^AsyncPSO: .*{text}"):
        AsyncPSO(**options)
