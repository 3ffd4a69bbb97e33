"""What a run has asked for it does not ask for again; and a space of which all is known ends it."""

from __future__ import annotations

import asyncio
import copy

import numpy as np
import pytest

from swarm import Job
from swarm.errors import InvalidOptimizer
from swarm.optimizers import (
    BOHB,
    GA,
    OPTIMIZERS,
    PSO,
    TPE,
    AsyncPSO,
    Demes,
    Hyperband,
    MuPlusLambda,
    Random,
    Rescored,
    Staged,
)
from swarm.optimizers.unrepeated import Keys, Unrepeated
from swarm.plain import canonical
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.space import Choice, Integer, Real, Space
from swarm.space.configurations import Configurations

TABLE = Space(  # 62,208 configurations, as coarse as the tables of trained networks
    {
        **{name: Choice("a", "b", "c") for name in ("act_1", "act_2", "schedule")},
        **{name: Integer(0, 3) for name in ("units_1", "units_2", "batch")},
        "dropout_1": Integer(0, 2),
        "dropout_2": Integer(0, 2),
        "rate": Integer(0, 3),
    }
)
TINY = Space({"n": Integer(1, 3), "act": Choice("a", "b"), "slope": Integer(1, 4)}, when={"slope": {"act": ["b"]}})
ROUNDED = Space({"rate": Real(1e-3, 0.1, log=True, digits=1), "act": Choice("a", "b")})
METHODS = {
    "PSO": PSO(particles=6, generations=66),
    "PSO, in place": PSO(particles=6, generations=66, update="in_place", bounds="reflect"),
    "PSO, the paper's constants": PSO.paper(particles=6, generations=66, known="again"),
    "AsyncPSO": AsyncPSO(particles=8, generations=49),
    "TPE": TPE(trials=400),
    "TPE, HpBandSter's": TPE(trials=400, model="hpbandster"),
    "GA": GA(population=10, generations=39),
    "GA, its paper's mutation": GA.paper(population=10, generations=39, known="again"),
    "GA, all options": GA(population=10, generations=44, children="both", elite=1, ploidy=2),
    "MuPlusLambda": MuPlusLambda(population=5, children=10, evaluations=400, restarts=0, adapt=True),
    "Random": Random(trials=400),
    "Staged": Staged(stages=[[1, 400], [2, 10]], patience=None),
    "Demes": Demes(of=PSO(particles=6, generations=66), rows=1, columns=1),
}
BUDGETS = {
    "Hyperband": Hyperband(min_budget=1, max_budget=9, iterations=30),
    "Hyperband, async": Hyperband(min_budget=1, max_budget=9, iterations=30, promotion="async"),
    "BOHB": BOHB(min_budget=1, max_budget=9, iterations=30),
    "BOHB, Optuna's": BOHB(min_budget=1, max_budget=9, iterations=30, model="optuna"),
}


def smooth(space):
    """A loss with a broad optimum and ties, so that every method settles."""
    return lambda trial: round(float(((space.encode(trial.params) - 0.35) ** 2).sum()), 2)


def drive(optimizer, loss, slots=5):
    """Run to the end on so many slots, each of which ends the earliest; the trials."""
    trials, flying = [], []
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()) is not None:
            flying.append(trial)
            trials.append(trial)
        assert flying, "it is not done, but asks for nothing although all is told"
        trial = flying.pop(0)
        optimizer.tell(trial, loss(trial))
    return trials


def different(trials):
    return len({(canonical(trial.params), trial.budget) for trial in trials})


@pytest.mark.parametrize("name", METHODS)
def test_of_400_trials_on_a_table_at_least_390_are_trainings(name):
    trials = drive(METHODS[name].start(TABLE, seed=2), smooth(TABLE), slots=8)
    first = trials[:400]
    assert len(first) >= 390 and different(first) >= 390
    assert different(first) == len(first)


def test_as_the_paper_has_it_the_archive_answers_most_of_them():
    assert different(drive(PSO.paper(particles=6, generations=66).start(TABLE, seed=2), smooth(TABLE))) < 200


@pytest.mark.parametrize("space", [TINY, ROUNDED], ids=["finite", "rounded"])
@pytest.mark.parametrize("name", METHODS)
def test_a_space_that_is_all_known_ends_the_search(name, space):
    optimizer = METHODS[name].start(space, seed=1)
    trials = drive(optimizer, smooth(space))
    assert different(trials) == len(trials) and optimizer.done and optimizer.ask() is None
    if space is TINY:
        assert len([trial for trial in trials if trial.budget in (None, 1)]) == 15


@pytest.mark.parametrize("space", [TABLE, TINY], ids=["table", "tiny"])
@pytest.mark.parametrize("name", BUDGETS)
def test_no_configuration_is_started_twice_and_what_is_started_is_promoted(name, space):
    optimizer = BUDGETS[name].start(space, seed=1)
    trials = drive(optimizer, smooth(space))
    started = [canonical(trial.params) for trial in trials if trial.parent is None]
    assert len(set(started)) == len(started)
    assert max(trial.budget for trial in trials) == 9
    if space is TINY:
        assert len(started) == 15
    else:
        assert len([trial for trial in trials if trial.parent is None]) == 10 * (9 + 3 + 3)


@pytest.mark.parametrize("name", ["PSO", "AsyncPSO", "TPE", "GA"])
def test_a_replay_with_other_things_in_flight_gives_the_same_and_so_does_a_copy(name):
    loss = smooth(TABLE)
    optimizer = METHODS[name].start(TABLE, seed=4)
    calls = []
    for _ in range(30):
        asked = [trial for trial in (optimizer.ask() for _ in range(3)) if trial is not None]
        calls.append(asked)
        for trial in reversed(asked):
            optimizer.tell(trial, loss(trial))
    again = METHODS[name].start(TABLE, seed=4)
    for asked in calls:
        assert [trial for trial in (again.ask() for _ in range(3)) if trial is not None] == asked
        for trial in reversed(asked):
            again.tell(trial, loss(trial))
    twin = copy.deepcopy(again)
    assert [twin.ask() for _ in range(3)] == [again.ask() for _ in range(3)] == [optimizer.ask() for _ in range(3)]


def test_the_synchronous_swarm_does_not_depend_on_the_slots_where_it_draws_again():
    runs = [drive(PSO(particles=6, generations=20).start(TABLE, seed=3), smooth(TABLE), slots) for slots in (1, 4, 64)]
    assert runs[0] == runs[1] == runs[2]


def test_what_the_best_candidate_is_known_for_goes_to_the_next_best():
    trials = drive(TPE(trials=15).start(TINY, seed=0), smooth(TINY), slots=1)
    assert different(trials) == 15


def test_without_a_bound_in_sight_what_is_left_is_found_to_the_last():
    """A space of 12,000 points but 339 configurations, most of which need one option of forty."""
    names = [str(i) for i in range(40)]
    space = Space({"mode": Choice(*names), "n": Integer(1, 300)}, when={"n": {"mode": ["7"]}})
    trials = drive(Random(trials=10**6).start(space, seed=1), lambda trial: 1.0)
    assert len(trials) == different(trials) == 339


def test_methods_that_could_repeat_themselves_have_the_option_and_refuse_what_it_is_not():
    have = {name for name, method in OPTIMIZERS.items() if issubclass(method, Unrepeated)}
    assert have >= {"PSO", "AsyncPSO", "TPE", "GA", "MuPlusLambda", "Random", "Staged", "Hyperband", "BOHB"}
    for name in have & {"PSO", "AsyncPSO", "GA"}:
        with pytest.raises(InvalidOptimizer, match="known must be one of again, answer, not 'never'"):
            OPTIMIZERS[name](known="never")


def test_a_walk_gives_every_configuration_once_wherever_it_begins_and_goes_on_from_a_copy():
    space = Space(
        {"a": Choice("x", "y"), "fixed": 3, "n": Integer(1, 3), "m": Integer(0, 4), "k": Choice(1, 2)},
        when={"n": {"a": ["y"]}, "m": {"n": [2, 3]}},
    )
    every = {canonical(space.at(i)) for i in range(space.size)}
    begins = set()
    for seed in range(5):
        walk = Configurations(space, np.random.default_rng(seed))
        first = [next(walk) for _ in range(7)]
        rest = list(copy.deepcopy(walk))
        found = [canonical(params) for params in (*first, *rest)]
        assert len(found) == len(set(found)) == len(every) and set(found) == every
        assert list(walk) == rest
        begins.add(found[0])
        for params in first:
            space.check(params)
            assert list(params) == [name for name in space.domains if name in params]
    assert len(begins) > 1


def test_a_set_of_keys_knows_all_and_only_what_it_was_given():
    rng = np.random.default_rng(1)
    given = [int(number) for number in rng.integers(2**64, size=2000, dtype=np.uint64)] + [0, 2**64 - 1]
    keys = Keys()
    for number in [*given, *given]:
        keys.add(number)
    assert all(number in keys for number in given)
    assert not any((number ^ 1) in keys for number in given if number ^ 1 not in set(given))


# --- in a job


def train(params, ctx):
    return 0.0


def search(store, name, optimizer, space=TINY, **options):
    job = Job(name=name, problem=train, space=space, optimizer=optimizer, direction="minimize", **options)
    enroll(job, store)
    found = Search(job, store)
    encoded = Space.parse(space)
    pool = VirtualPool(3, lambda e: round(float(((encoded.encode(e.params) - 0.35) ** 2).sum()), 2))
    asyncio.run(found.run(pool))
    return found.state


@pytest.mark.parametrize(
    "optimizer", [PSO(particles=4, generations=50), AsyncPSO(particles=4, generations=50), TPE(trials=99)]
)
def test_a_job_trains_all_of_a_small_space_once_and_ends(open_store, optimizer):
    state = search(open_store(), "job", optimizer)
    assert (state.end_reason, state.told, state.counts["trained"]) == ("done", 15, 15)


def test_answers_of_other_jobs_are_still_answers(open_store):
    store = open_store()
    search(store, "first", Random(trials=15))
    state = search(store, "second", PSO(particles=4, generations=50))
    assert (state.told, state.counts["trained"], state.counts["archive"]) == (15, 0, 15)


def test_finalists_are_measured_again_though_they_are_known(open_store):
    state = search(open_store(), "job", Rescored(of=TPE(trials=8), top=3, budget=5))
    assert (state.told, state.counts["trained"]) == (11, 11)
