"""The median stopping rule."""

from __future__ import annotations

from swarm.pruning import MedianRule


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
