"""The median stopping rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import pytest

from swarm import Grid, Integer, Job
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.search.pruning import MedianRule
from swarm.store import Store
from swarm.trial import Evaluation, Result, Status


def trained(rule: MedianRule, *curves: list[float]) -> None:
    for number, curve in enumerate(curves):
        for value in curve:
            assert not rule.hopeless(f"training-{number}", {"accuracy": value})
        rule.ended(f"training-{number}", well=True)


def verdicts(rule: MedianRule, curve: list[float]) -> list[bool]:
    return [rule.hopeless("new", {"accuracy": value}) for value in curve]


GOOD = [[0.5, 0.7, 0.8], [0.6, 0.8, 0.9], [0.4, 0.6, 0.7]]  # means so far 0.5 0.6 0.667, 0.6 0.7 0.767, 0.4 0.5 0.567


def test_a_training_below_the_median_of_the_means_is_hopeless_and_one_above_is_not() -> None:
    rule = MedianRule("accuracy", sign=-1, after=1, trainings=3)
    trained(rule, *GOOD)
    assert verdicts(rule, [0.1, 0.59, 0.59]) == [False, True, True]
    rule.ended("new", well=False)
    assert verdicts(rule, [0.1, 0.61, 0.68]) == [False, False, False]


def test_the_best_report_counts_so_that_one_bad_epoch_ends_nobody() -> None:
    rule = MedianRule("accuracy", sign=-1, after=0, trainings=3)
    trained(rule, *GOOD)
    assert verdicts(rule, [0.9, 0.1, 0.1]) == [False, False, False]


def test_smaller_is_better_with_the_other_sign() -> None:
    rule = MedianRule("accuracy", sign=1, after=0, trainings=3)
    trained(rule, *GOOD)
    assert verdicts(rule, [0.49, 0.7]) == [False, False]
    rule.ended("new", well=False)
    assert verdicts(rule, [0.9]) == [True]


def test_nobody_is_judged_before_enough_trainings_have_ended_or_without_the_metric() -> None:
    rule = MedianRule("accuracy", sign=-1, after=0, trainings=4)
    trained(rule, *GOOD)
    assert verdicts(rule, [0.0, 0.0]) == [False, False]
    assert not rule.hopeless("other", {"loss": 9.0})


def test_pruned_and_failed_trainings_set_no_standard() -> None:
    rule = MedianRule("accuracy", sign=-1, after=0, trainings=1)
    rule.hopeless("bad", {"accuracy": 0.9})
    rule.ended("bad", well=False)
    assert verdicts(rule, [0.1]) == [False]


def test_longer_trainings_are_compared_with_those_as_long() -> None:
    rule = MedianRule("accuracy", sign=-1, after=0, trainings=3)
    trained(rule, *GOOD)
    assert verdicts(rule, [0.6, 0.7, 0.7, 0.0]) == [False, False, False, False]


def test_a_training_that_is_skipped_is_not_judged_and_sets_no_standard() -> None:
    rule = MedianRule("accuracy", sign=-1, after=0, trainings=3)
    trained(rule, *GOOD)
    rule.skip(["new"])
    assert verdicts(rule, [0.1, 0.1]) == [False, False]
    rule.ended("new", well=True)
    assert verdicts(rule, [0.49]) == [True]  # the median is that of the three
    rule.skip(["new"])  # it begins again
    rule.ended("new", well=False)
    assert verdicts(rule, [0.6]) == [False]


class Learning(VirtualPool):
    """Two slots on which trainings report the same curve of 20 epochs, one epoch at a time."""

    def __init__(self, epochs: dict[str, int], stop_at: int | None = None) -> None:
        super().__init__(2, lambda _: 1.0)
        self.epochs, self.stop_at, self.pruned = epochs, stop_at, 0

    def free(self) -> int:
        return 2 - len(self.epochs)

    def running(self, keys: Collection[str]) -> set[str]:
        return {key for key in keys if key in self.epochs}

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            self.epochs.setdefault(evaluation.key, 0)

    def open(self, on_report: Callable[[str, Mapping[str, float]], None]) -> None:
        self.report = on_report

    def close(self) -> None:
        pass

    def prune(self, key: str, metric: str) -> None:
        self.pruned += 1

    async def next(self) -> list[Result]:
        self.now += 1
        if self.now == self.stop_at:
            raise asyncio.CancelledError
        for key in self.epochs:
            self.epochs[key] += 1
            self.report(key, {"accuracy": 1 - 1 / self.epochs[key]})
        ended = [key for key, epochs in self.epochs.items() if epochs == 20]
        for key in ended:
            del self.epochs[key]
        return [Result(key=key, status=Status.OK, fitness=1.0, seconds=20.0) for key in ended]


def test_who_takes_over_does_not_judge_by_the_later_halves_of_the_trainings_that_run(
    open_store: Callable[..., Store],
) -> None:
    job = Job(
        name="job", problem=lambda params, ctx: 1.0, space={"x": Integer(0, 9)}, optimizer=Grid(),
        prune={"metric": "accuracy", "trainings": 2},
    )  # fmt: skip
    store = open_store()
    enroll(job, store)
    before = Learning({}, stop_at=16)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Search(job, store).run(before))
    assert len(before.epochs) == 2
    after = Learning(before.epochs)
    search = Search(job, store)
    asyncio.run(search.run(after))
    assert search.state.told == 10
    assert after.pruned == 0
