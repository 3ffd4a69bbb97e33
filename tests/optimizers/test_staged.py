"""Staged random search: how the box narrows, when a stage ends, and that slots and order do not matter."""

import json
import math
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.random import Random
from swarm.optimizers.staged import Staged, narrowed
from swarm.space import Choice, Integer, Real, Space

LINE = Space({"x": Real(0, 1)})
MIXED = Space({"n": Integer(1, 100), "lr": Real(1e-4, 1, log=True), "act": Choice("a", "b", "c", "d"), "batch": 32})


def drive(optimizer, loss, rng=None, slots=1):
    """Run to the end on a number of slots, with results in random order; the trials, as asked."""
    trials, flying = [], []
    while not optimizer.done:
        while len(flying) < slots and (trial := optimizer.ask()):
            trials.append(trial)
            flying.append(trial)
        trial = flying.pop(0 if rng is None else int(rng.integers(len(flying))))
        optimizer.tell(trial, loss(trial))
    return trials


def by_stage(trials):
    stages = defaultdict(list)
    for trial in trials:
        stages[trial.generation].append(trial)
    return [stages[number] for number in sorted(stages)]


def distance(target, space=MIXED):
    """Squared distance in the cube from a configuration."""
    return lambda trial: float(((space.encode(trial.params) - space.encode(target)) ** 2).sum())


# --- the box


def test_half_a_box_round_point_9_is_clipped_to_point_65_to_1():
    box = narrowed(Real(0, 1), Real(0, 1), 0.9, 0.5)
    assert (box.low, box.high) == (pytest.approx(0.65), 1.0)


@pytest.mark.parametrize(
    ("domain", "whole", "best", "shrink", "low", "high"),
    [
        (Real(0.65, 1), Real(0, 1), 0.9, 0.5, 0.8125, 0.9875),  # half of what the clipped box was wide
        (Real(0.65, 1), Real(0, 1), 0.7, 1.0, 0.525, 0.875),  # beyond the last box, within the first
        (Real(1e-4, 1, log=True), Real(1e-4, 1, log=True), 1e-2, 0.5, 1e-3, 1e-1),
        (Real(0, 1, digits=1), Real(0, 1, digits=1), 0.5, 0.44, 0.3, 0.7),
        (Integer(0, 100), Integer(0, 100), 90, 0.5, 65, 100),
        (Integer(0, 9), Integer(0, 9), 4, 0.5, 2, 6),  # ±2.25
        (Integer(3, 5), Integer(0, 9), 5, 0.5, 4, 6),  # a step at least, to either side
        (Integer(0, 1), Integer(0, 1), 1, 0.01, 0, 1),
    ],
)
def test_a_box_is_centred_on_the_best_and_stays_in_the_space(domain, whole, best, shrink, low, high):
    box = narrowed(domain, whole, best, shrink)
    assert type(box) is type(whole)
    assert (box.low, box.high) == (pytest.approx(low), pytest.approx(high))


def test_a_real_parameter_that_rounding_leaves_one_value_is_fixed_to_it():
    assert narrowed(Real(0, 1, digits=1), Real(0, 1, digits=1), 0.5, 0.01) == 0.5


def test_the_trials_of_a_stage_fill_the_box_round_the_best_of_the_one_before():
    optimizer = Staged(stages=[[1, 40], [5, 400], [10, 400]], patience=None).start(MIXED, seed=2)
    target = {"n": 90, "lr": 1e-2, "act": "b", "batch": 32}
    box = {"n": Integer(1, 100), "lr": Real(1e-4, 1, log=True)}
    best = None
    for stage in by_stage(drive(optimizer, distance(target), np.random.default_rng(1), slots=7)):
        for name, whole in (("n", MIXED.domains["n"]), ("lr", MIXED.domains["lr"])):
            if best is not None:
                box[name] = narrowed(box[name], whole, best.params[name], 0.5)
            values = [trial.params[name] for trial in stage]
            assert box[name].low <= min(values) and max(values) <= box[name].high
            positions = [box[name].encode(value) for value in values]
            assert np.quantile(positions, [0.1, 0.9]) == pytest.approx([0.1, 0.9], abs=0.12)
        assert {trial.params["batch"] for trial in stage} == {32}
        best = min(stage, key=distance(target))
    assert [trial.budget for trial in (stage[0] for stage in by_stage(drive(optimizer.start(MIXED), lambda _: 1)))] == [
        *(1, 5, 10)
    ]


def test_whole_numbers_are_equally_likely_in_every_stage():
    optimizer = Staged(stages=[[1, 3000], [2, 3000]], patience=None, known="answer").start(
        Space({"n": Integer(1, 9)}), seed=1
    )
    first, second = by_stage(drive(optimizer, lambda trial: abs(trial.params["n"] - 5)))
    for stage, share, numbers in ((first, 1 / 9, range(1, 10)), (second, 1 / 5, range(3, 8))):
        counts = Counter(trial.params["n"] for trial in stage)
        assert sorted(counts) == list(numbers)
        assert all(abs(count / 3000 - share) < 0.03 for count in counts.values())


def test_choices_are_kept_with_a_chance_and_frozen_from_a_stage_on():
    loss = distance({"n": 50, "lr": 1e-2, "act": "c", "batch": 32})
    options = {"stages": [[1, 400]] * 4, "patience": None, "keep": 0.6}
    shares = [
        [Counter(trial.params["act"] for trial in stage)["c"] / 400 for stage in by_stage(drive(staged, loss))]
        for staged in (Staged(freeze=freeze, **options).start(MIXED, seed=1) for freeze in (3, 2, None))
    ]
    kept = 0.6 + 0.4 / 4
    assert shares[0] == pytest.approx([0.25, kept, 1, 1], abs=0.07)
    assert shares[1] == pytest.approx([0.25, 1, 1, 1], abs=0.07)
    assert shares[2] == pytest.approx([0.25, kept, kept, kept], abs=0.07)


def test_a_space_of_choices_alone_ends_with_the_best_option_only():
    optimizer = Staged(stages=[[1, 20], [2, 10], [3, 5]]).start(Space({"act": Choice("a", "b")}), seed=1)
    stages = by_stage(drive(optimizer, lambda trial: float(trial.params["act"] == "a")))
    assert {trial.params["act"] for trial in stages[2]} == {"b"}


def test_the_box_is_put_round_the_best_of_the_latest_stage_since_budgets_do_not_compare():
    # At the budget 1 all is well near 0; longer trainings are worse everywhere, and best near 1.
    def loss(trial):
        return trial.params["x"] if trial.budget == 1 else 10 + abs(trial.params["x"] - 1)

    optimizer = Staged(stages=[[1, 60], [2, 60], [3, 60]], patience=None).start(LINE, seed=1)
    first, second, third = by_stage(drive(optimizer, loss))
    near_0 = min(trial.params["x"] for trial in first)
    near_1 = max(trial.params["x"] for trial in second)
    assert near_1 <= near_0 + 0.25
    low = narrowed(narrowed(Real(0, 1), Real(0, 1), near_0, 0.5), Real(0, 1), near_1, 0.5).low
    assert low <= min(trial.params["x"] for trial in third) > near_0
    assert optimizer.best[0].budget == 3


def test_the_box_stays_round_an_earlier_best_if_a_whole_stage_fails():
    optimizer = Staged(stages=[[1, 50], [2, 30], [3, 50]], patience=None).start(LINE, seed=1)
    first, second, third = by_stage(
        drive(optimizer, lambda trial: None if trial.budget == 2 else abs(trial.params["x"] - 0.5))
    )
    best = min((trial.params["x"] for trial in first), key=lambda x: abs(x - 0.5))
    for stage, half in ((second, 0.25), (third, 0.125)):
        assert max(abs(trial.params["x"] - best) for trial in stage) <= half + 1e-12


# --- when a stage ends


def test_the_papers_stages_are_the_default():
    optimizer = Staged(patience=None).start(LINE)
    assert optimizer.planned == 1000 + 750 + 500
    stages = by_stage(drive(optimizer, lambda trial: trial.params["x"]))
    assert [(stage[0].budget, len(stage)) for stage in stages] == [(1000, 1000), (5000, 750), (10000, 500)]
    assert [trial.member for trial in stages[1]] == list(range(750))
    assert Staged().patience == 20 and Staged().opt_tolerance == 1e-5


@pytest.mark.parametrize(
    ("losses", "asked"),
    [
        ([5, 4, 4, 4, 4], 5),  # three in a row are no better
        ([5, 5, 5, 4, 5, 5, 5], 7),
        ([5, 6, 4, 6, 6, 3, 3, 3, 3], 9),
        ([None, None, None, None, 5, None, 6, 5], 8),  # before the first success nothing can be better
        ([5, 4.95, 4.94, 4.93], 4),  # improvements within the tolerance
        ([5, 4.95, 4.85, 4.8, 4.8, 4.8], 6),  # which add up to more than it
        ([-1, -2, -2.05, -2.1, -2.05], 5),
    ],
)
def test_a_stage_ends_when_the_best_has_not_improved_for_a_number_of_trials(losses, asked):
    def loss(trial):
        return losses[trial.member] if trial.generation == 0 else 0.0

    optimizer = Staged(stages=[[1, 50], [2, 10]], patience=3, opt_tolerance=0.1).start(LINE)
    assert [len(stage) for stage in by_stage(drive(optimizer, loss))] == [asked, 4]


def test_the_next_stage_waits_until_the_best_is_known_and_not_longer():
    optimizer = Staged(stages=[[1, 4], [2, 4]], patience=2).start(LINE, seed=1)
    trials = [optimizer.ask() for _ in range(4)]
    assert optimizer.ask() is None  # all of the first stage are open
    for trial in (trials[2], trials[1]):
        optimizer.tell(trial, 1.0)
        assert optimizer.ask() is None  # what comes first in order is missing
    optimizer.tell(trials[0], 1.0)  # trials 1 and 2 were no better
    assert optimizer.ask().generation == 1
    optimizer.tell(trials[3], 0.5)  # too late for the box, but not for the best
    assert optimizer.best == (trials[3], 0.5)


def test_if_all_fail_every_stage_searches_the_whole_space_to_its_end():
    optimizer = Staged(stages=[[1, 30], [2, 20], [3, 40]], patience=5).start(LINE, seed=1)
    stages = by_stage(drive(optimizer, lambda trial: math.nan, np.random.default_rng(1), slots=4))
    assert [len(stage) for stage in stages] == [30, 20, 40]
    assert all(np.ptp([trial.params["x"] for trial in stage]) > 0.8 for stage in stages)
    assert optimizer.best is None


# --- slots, order, memory


def test_without_patience_any_number_of_slots_and_any_order_give_the_same_trials():
    loss = distance({"n": 20, "lr": 1e-3, "act": "a", "batch": 32})
    optimizer = Staged(stages=[[1, 30], [2, 20], [3, 10]], patience=None)
    expected = drive(optimizer.start(MIXED, seed=5), loss)
    for slots in (2, 7, 100):
        assert drive(optimizer.start(MIXED, seed=5), loss, np.random.default_rng(slots), slots) == expected


def test_with_patience_more_slots_only_ask_more_of_a_stage_that_ends_and_the_boxes_are_the_same():
    loss = distance({"n": 20, "lr": 1e-3, "act": "a", "batch": 32})
    optimizer = Staged(stages=[[1, 200], [2, 200], [3, 200]], patience=8)
    expected = by_stage(drive(optimizer.start(MIXED, seed=5), loss))
    assert all(len(stage) < 200 for stage in expected)
    for slots in (2, 7, 30):
        stages = by_stage(drive(optimizer.start(MIXED, seed=5), loss, np.random.default_rng(slots), slots))
        for found, wanted in zip(stages, expected, strict=True):
            assert len(found) >= len(wanted)
            assert [trial.params for trial in found[: len(wanted)]] == [trial.params for trial in wanted]


def test_memory_does_not_grow_with_the_trials():
    optimizer = Staged(stages=[[1, 10**6]], patience=None).start(MIXED, seed=1)

    def run(trials):
        for _ in range(trials):
            optimizer.tell(optimizer.ask(), 1.0)

    run(100)
    tracemalloc.start()
    try:
        run(1000)
        assert tracemalloc.get_traced_memory()[0] < 40_000  # bytes: eight of each trial, more of the latest
    finally:
        tracemalloc.stop()


# --- how well it searches


def test_the_best_falls_from_stage_to_stage_and_ends_below_that_of_random_search_at_equal_trials():
    space = Space({name: Real(-1, 1) for name in "abc"})

    def loss(trial):
        return sum((value - 0.3) ** 2 for value in trial.params.values())

    gains = []
    for seed in range(30):
        staged = Staged(stages=[[1, 60], [4, 40], [8, 40]], patience=None).start(space, seed=seed)
        bests = [min(map(loss, stage)) for stage in by_stage(drive(staged, loss))]
        assert bests == sorted(bests, reverse=True)
        random = Random(trials=140).start(space, seed=1000 + seed)
        drive(random, loss)
        gains.append(random.best[1] / bests[-1])
    assert np.median(gains) > 3 and np.mean(np.array(gains) > 1) >= 0.8


def test_the_best_is_the_first_to_be_trained_with_the_next_budget():
    optimizer = Staged(stages=[[1, 20], [4, 20], [8, 20]]).start(MIXED, seed=1)
    loss = distance({"n": 20, "lr": 1e-3, "act": "a", "batch": 32})
    stages = by_stage(drive(optimizer, loss))
    for before, after in pairwise(stages):
        assert after[0].params == min(before, key=loss).params


# --- options


def test_options_that_went_through_json_are_equal():
    options = Staged(stages=((10, 30), (40, 10)))
    assert json.loads(json.dumps(asdict(options))) == asdict(options)
    assert Staged(**json.loads(json.dumps(asdict(options)))) == options == Staged(stages=[[10, 30], [40, 10]])


@pytest.mark.parametrize(
    "stages", [(), 5, "ab", [5], [[1, 2, 3]], [[1, 0]], [[0, 1]], [[1.5, 2]], [[True, 2]], [[1, 1], ["2", 1]]]
)
def test_stages_that_are_no_pairs_of_whole_numbers_are_refused(stages):
    with pytest.raises(InvalidOptimizer, match=r"^Staged: stages must be pairs .* such as \[\[10, 30\], \[40, 10\]\]"):
        Staged(stages=stages)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shrink": 0}, "shrink must be a number above 0 up to 1, not 0"),
        ({"shrink": 1.5}, "shrink must be a number above 0 up to 1, not 1.5"),
        ({"keep": -0.1}, "keep must be a number from 0 up to 1, not -0.1"),
        ({"freeze": 1}, "freeze must be an integer of at least 2, not 1"),
        ({"opt_tolerance": -1e-5}, "opt_tolerance must be a number from 0, not -1e-05"),
        ({"patience": 0}, "patience must be an integer of at least 1, not 0"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"^Staged: {text}"):
        Staged(**options)
