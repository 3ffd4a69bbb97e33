"""Hyperband: its schedule, who is promoted and when, and what is kept on the way."""

import math
import tracemalloc
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.hyperband import Hyperband, schedule
from swarm.space import Integer, Real, Space

SPACE = Space({"n": Integer(1, 1000), "lr": Real(1e-4, 1, log=True)})
REPORT = Hyperband(min_budget=10, max_budget=40, iterations=20)
BOTH = pytest.mark.parametrize("promotion", ["sync", "async"])


def noisy(trial):
    """A loss without ties that depends on configuration and budget."""
    return float(np.random.default_rng([trial.generation, trial.member, int(trial.budget * 100)]).random())


def failing(trial):
    """Four of ten fail."""
    loss = noisy(trial)
    return None if loss > 0.6 else loss


def drive(optimizer, loss, *, slots=1, seed=None):
    """Run to the end on some slots: the results (trial, loss) in order. Without a seed the oldest lands first."""
    results, flying = [], []
    order = None if seed is None else np.random.default_rng(seed)
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()) is not None:
            flying.append(trial)
        trial = flying.pop(0 if order is None else int(order.integers(len(flying))))
        results.append((trial, loss(trial)))
        optimizer.tell(*results[-1])
    return results


def rungs(results):
    """The results of each iteration and budget."""
    found = defaultdict(dict)
    for trial, loss in results:
        found[trial.generation][trial.budget] = [*found[trial.generation].get(trial.budget, []), (trial, loss)]
    return found


def steps(results):
    """Neighbouring rungs of each iteration: the results below, the trials above."""
    for iteration in rungs(results).values():
        budgets = sorted(iteration)
        for low, high in pairwise(budgets):
            yield iteration[low], [trial for trial, _ in iteration[high]]


# --- the schedule


@pytest.mark.parametrize(
    ("low", "high", "budgets", "sizes"),
    [
        (10, 40, [40 / 3, 40], [[3, 1], [2]]),
        (1, 27, [1, 3, 9, 27], [[27, 9, 3, 1], [9, 3, 1], [6, 2], [4]]),
        (1, 81, [1, 3, 9, 27, 81], [[81, 27, 9, 3, 1], [27, 9, 3, 1], [9, 3, 1], [6, 2], [5]]),
        (
            *(1, 243, [1, 3, 9, 27, 81, 243]),  # in floating point ln 243 / ln 3 is just below 5
            [[243, 81, 27, 9, 3, 1], [81, 27, 9, 3, 1], [27, 9, 3, 1], [18, 6, 2], [9, 3], [6]],
        ),
        (5, 5, [5], [[1]]),
    ],
)
def test_the_schedule_is_that_of_hpbandster(low, high, budgets, sizes):
    shapes = schedule(low, high, 3)
    assert [[size for size, _ in shape] for shape in shapes] == sizes
    for shape in shapes:
        assert [budget for _, budget in shape] == budgets[len(budgets) - len(shape) :]


def test_a_factor_need_not_be_whole():
    assert schedule(1, 6.25, 2.5) == [[(6, 1.0), (2, 2.5), (1, 6.25)], [(2, 2.5), (1, 6.25)], [(3, 6.25)]]


def test_the_reports_run_costs_1600_epochs_or_1467_if_trainings_continue_from_checkpoints():
    optimizer = REPORT.start(SPACE)
    trials = [trial for trial, _ in drive(optimizer, noisy, slots=4)]
    assert len(trials) == optimizer.planned == 60
    assert len({(trial.generation, trial.member) for trial in trials}) == 50
    assert sum(trial.budget for trial in trials) == pytest.approx(1600)
    assert sum(math.floor(trial.budget) for trial in trials) == 1590  # 13 epochs for a budget of 13.33
    budgets = {trial.id: trial.budget for trial in trials}
    continued = sum(trial.budget - budgets.get(trial.parent, 0) for trial in trials)
    assert continued == pytest.approx(1466.7, abs=0.05)


def test_five_iterations_up_to_81_cost_1701():
    optimizer = Hyperband(min_budget=1, max_budget=81, iterations=5).start(SPACE)
    trials = [trial for trial, _ in drive(optimizer, noisy)]
    assert sum(trial.budget for trial in trials) == 1701
    assert Counter((trial.generation, trial.budget) for trial in trials) == {
        (i, budget): size for i, shape in enumerate(schedule(1, 81, 3)) for size, budget in shape
    }


def test_the_shapes_repeat():
    results = drive(Hyperband(min_budget=1, max_budget=9, iterations=7).start(SPACE), noisy)
    sizes = [[len(rung) for rung in iteration.values()] for iteration in rungs(results).values()]
    assert sizes == [[9, 3, 1], [3, 1], [3]] * 2 + [[9, 3, 1]]


# --- who is promoted


@BOTH
def test_a_promoted_trial_is_the_same_configuration_on_the_next_budget(promotion):
    optimizer = Hyperband(min_budget=1, max_budget=27, iterations=8, promotion=promotion).start(SPACE, fold=2)
    trials = {trial.id: trial for trial, _ in drive(optimizer, failing, slots=7, seed=1)}
    promoted = [trial for trial in trials.values() if trial.parent is not None]
    assert len(promoted) > 20
    for trial in promoted:
        parent = trials[trial.parent]
        assert trial.budget == 3 * parent.budget
        assert (trial.params, trial.generation, trial.member) == (parent.params, parent.generation, parent.member)
        assert trial.fold == parent.fold == 2
    assert max(Counter(trial.parent for trial in promoted).values()) == 1
    lowest = [trial for trial in trials.values() if trial.parent is None]
    assert len({trial.params["lr"] for trial in lowest}) == len(lowest)


@pytest.mark.parametrize("loss", [noisy, failing])
def test_in_step_the_lowest_losses_of_a_whole_rung_are_promoted(loss):
    results = drive(Hyperband(min_budget=1, max_budget=27, iterations=8).start(SPACE), loss, slots=7, seed=2)
    shapes = schedule(1, 27, 3)
    for below, above in steps(results):
        shape = {budget: size for size, budget in shapes[above[0].generation % 4]}
        ranking = sorted((loss, trial.id) for trial, loss in below if loss is not None)
        assert {trial.parent for trial in above} == {id_ for _, id_ in ranking[: shape[above[0].budget]]}


def test_in_step_nothing_depends_on_slots_or_completion_order():
    runs = []
    for slots, seed in ((1, None), (3, 1), (50, 2), (50, 3)):
        results = drive(
            Hyperband(min_budget=1, max_budget=9, iterations=6).start(SPACE, seed=5), failing, slots=slots, seed=seed
        )
        runs.append({(t.generation, t.member, t.budget, tuple(t.params.items()), loss) for t, loss in results})
    assert runs[0] == runs[1] == runs[2] == runs[3]


def test_fewer_are_promoted_if_fewer_succeed():
    optimizer = Hyperband(min_budget=1, max_budget=9, iterations=1).start(SPACE)
    results = drive(optimizer, lambda trial: 0.5 if trial.member in (3, 5) else None)
    assert [(trial.budget, trial.member) for trial, _ in results[9:]] == [(3, 3), (3, 5), (9, 3)]


@BOTH
def test_nothing_stalls_if_all_fail(promotion):
    optimizer = Hyperband(min_budget=1, max_budget=27, iterations=9, promotion=promotion).start(SPACE)
    trials = [trial for trial, _ in drive(optimizer, lambda trial: None, slots=6, seed=3)]
    assert optimizer.done and optimizer.best is None
    assert len(trials) == 2 * (27 + 9 + 6 + 4) + 27
    assert all(trial.parent is None for trial in trials)


def test_a_trial_is_promoted_as_soon_as_it_is_among_the_best_third():
    optimizer = Hyperband(min_budget=1, max_budget=9, iterations=1, promotion="async").start(SPACE)
    trials = [optimizer.ask() for _ in range(4)]
    optimizer.tell(trials[3], 0.3)
    optimizer.tell(trials[1], 0.2)
    assert optimizer.ask().parent is None
    optimizer.tell(trials[0], None)  # the third: the best one goes up, a failure counts among those told
    assert optimizer.ask().parent == trials[1].id
    optimizer.tell(trials[2], 0.1)  # better, and it is the one in the best ⌊4/3⌋
    assert optimizer.ask().parent == trials[2].id
    assert optimizer.ask().parent is None


def test_only_the_best_third_of_those_told_is_promoted_at_once():
    optimizer = Hyperband(min_budget=1, max_budget=27, iterations=4, promotion="async").start(SPACE)
    order, flying, told, promoted = np.random.default_rng(4), [], defaultdict(list), 0
    while not optimizer.done:
        while len(flying) < 10 and (trial := optimizer.ask()) is not None:
            flying.append(trial)
            if trial.parent is not None:
                rung = sorted(told[trial.generation, trial.budget / 3])
                assert trial.parent in [id_ for _, id_ in rung[: len(rung) // 3]]
                promoted += 1
        trial = flying.pop(int(order.integers(len(flying))))
        optimizer.tell(trial, failing(trial))
        told[trial.generation, trial.budget].append((failing(trial) or math.inf, trial.id))
    assert promoted >= 10


def test_both_promotions_start_the_same_configurations():
    started = [
        {
            (trial.generation, trial.member, trial.budget, tuple(trial.params.items()))
            for trial, _ in drive(optimizer.start(SPACE, seed=3), noisy, slots=5, seed=6)
            if trial.parent is None
        }
        for optimizer in (Hyperband(min_budget=1, max_budget=9, iterations=6, promotion=p) for p in ("sync", "async"))
    ]
    assert started[0] == started[1]
    assert len(started[0]) == 30


# --- who waits


@BOTH
@pytest.mark.parametrize("slots", [1, 8, 40])
def test_no_slot_waits_while_iterations_remain(promotion, slots):
    optimizer = Hyperband(min_budget=1, max_budget=9, iterations=40, promotion=promotion).start(SPACE)
    order = np.random.default_rng(slots)
    flying = [optimizer.ask() for _ in range(slots)]
    while max(trial.generation for trial in flying) < 39:
        trial = flying.pop(int(order.integers(slots)))
        optimizer.tell(trial, failing(trial))
        flying.append(optimizer.ask())
        assert flying[-1] is not None


@pytest.mark.parametrize(("promotion", "highest"), [("sync", 1), ("async", 9)])
def test_one_slow_trial_holds_up_its_rung_only_in_step(promotion, highest):
    optimizer = Hyperband(min_budget=1, max_budget=27, iterations=1, promotion=promotion).start(SPACE)
    slow, budgets = optimizer.ask(), []
    while (trial := optimizer.ask()) is not None:
        optimizer.tell(trial, trial.member)
        budgets.append(trial.budget)
    assert max(budgets) == highest
    assert not optimizer.done
    optimizer.tell(slow, 100.0)
    assert optimizer.ask().parent is not None or promotion == "async"


# --- what is kept


@BOTH
def test_parents_are_known_before_a_trial_that_starts_from_them_is_asked(promotion):
    optimizer = Hyperband(min_budget=1, max_budget=27, iterations=12, promotion=promotion).start(SPACE)
    order, flying, told = np.random.default_rng(7), [], set()
    while not optimizer.done:
        while len(flying) < 6:
            kept = optimizer.parents()
            assert kept <= told
            if (trial := optimizer.ask()) is None:
                break
            assert trial.parent is None or trial.parent in kept
            assert trial.parent not in optimizer.parents()
            flying.append(trial)
        trial = flying.pop(int(order.integers(len(flying))))
        optimizer.tell(trial, failing(trial))
        told.add(trial.id)
    assert optimizer.parents() == set()


def test_a_trial_that_can_no_longer_be_promoted_is_no_parent():
    optimizer = Hyperband(min_budget=1, max_budget=9, iterations=1).start(SPACE)
    trials = [optimizer.ask() for _ in range(9)]
    for trial, loss in zip(trials, [5, 4, None, 9, 3, 8, 2, 7], strict=False):
        optimizer.tell(trial, loss)
    assert optimizer.parents() == {trials[i].id for i in (1, 4, 6)}
    optimizer.tell(trials[8], 1)
    assert optimizer.parents() == {trials[i].id for i in (4, 6, 8)}


@BOTH
def test_memory_does_not_grow_with_the_iterations(promotion):
    optimizer = Hyperband(min_budget=1, max_budget=9, iterations=10**6, promotion=promotion).start(SPACE)

    def run(trials):
        for _ in range(trials):
            trial = optimizer.ask()
            optimizer.tell(trial, noisy(trial))

    run(200)
    tracemalloc.start()
    try:
        run(2000)
        assert tracemalloc.get_traced_memory()[0] < 30_000  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_budget": 0}, "min_budget must be a number above 0, not 0"),
        ({"max_budget": math.inf}, "max_budget must be a number above 0, not inf"),
        ({"min_budget": 9, "max_budget": 1}, "max_budget 1 is below min_budget 9: swap them"),
        ({"eta": 1.5}, "eta must be a number from 2, not 1.5"),
        ({"iterations": 0}, "iterations must be an integer of at least 1, not 0"),
        ({"promotion": "later"}, "promotion must be one of sync, async, not 'later'"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"Hyperband: {text}"):
        Hyperband(**{"min_budget": 1, "max_budget": 9, **options})
