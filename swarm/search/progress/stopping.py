"""When a search asks for nothing more: a rule of its job has fired, or its first trainings have all failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarm.job.job import Job
from swarm.optimizers.base import Optimizer
from swarm.search.failures import Failures
from swarm.store.tally import Tally
from swarm.trial import Trial

MOST_FAILURES = 5  # trainings, the first, if all fail for one reason
_ROUNDING = 1e-12  # of a fitness, relative: a few units in the last place


@dataclass(frozen=True, slots=True)
class Spent:
    """What a search has used so far of what a rule may limit.

    Attributes:
        fitness: The best so far, in the job's own direction; None while there is none.
        evaluations: How many were asked, however they are answered.
        seconds: Since it began, but for pauses.
        gpu_seconds: Of all trainings, times the GPUs of each.
        unimproved: Counts the trials since the best one.
        idle_generations: Since the last that trained.
    """

    fitness: float | None
    evaluations: int
    seconds: float
    gpu_seconds: float
    unimproved: Callable[[], int]
    idle_generations: int


class Asking:
    """Which trial the method is asked for next, until a rule or somebody stops the search.

    Attributes:
        in_hand: The optimizer has asked for it, and no event says so yet.
        stop_reason: Why nothing more is asked for, or only what completes a generation; None while there is no reason.
        drained: Whether nothing more is asked for.
    """

    def __init__(self) -> None:
        self.in_hand: Trial | None = None
        self.stop_reason: str | None = None
        self.drained = False

    def go_on(self) -> None:
        """The limits are higher: what has fired may not have yet."""
        self.stop_reason, self.drained = None, False

    def done(self, optimizer: Optimizer) -> bool:
        """Whether the optimizer is asked for nothing more, or has nothing more."""
        return self.drained or optimizer.done

    def next(self, optimizer: Optimizer, begun: Mapping[int, Tally], rule: Callable[[], str | None]) -> Trial | None:
        """The trial in hand, or else the optimizer's next, unless a stopping rule has fired.

        A method with generations always completes the one it is in, so that where it stops does not depend on the
        number of slots.

        Args:
            optimizer: The job's method.
            begun: The generations that have begun, by number.
            rule: Says which stopping rule has fired, if any.
        """
        if self.in_hand is None and not self.drained:
            self.in_hand = self._asked(optimizer, begun, rule)
        return self.in_hand

    def _asked(self, optimizer: Optimizer, begun: Mapping[int, Tally], rule: Callable[[], str | None]) -> Trial | None:
        stop = self.stop_reason = self.stop_reason or rule()
        if stop and not optimizer.generational:
            self.drained = True
            return None
        trial = optimizer.ask()
        if trial is not None and stop and trial.generation not in begun:
            self.drained = True
            return None
        return trial


def fired_rule(job: Job, spent: Spent) -> str | None:
    """The first stopping rule of the job that has fired, or None."""
    rules, best = job.stop, spent.fitness
    if rules.target is not None and best is not None and _reached(job.sign * best, job.sign * rules.target):
        return "target reached"
    limits = (
        (rules.evaluations, lambda: spent.evaluations, "evaluations used up"),
        (rules.seconds, lambda: spent.seconds, "time used up"),
        (rules.gpu_hours, lambda: spent.gpu_seconds / 3600, "GPU hours used up"),
        (rules.no_improvement, spent.unimproved, f"no improvement in {rules.no_improvement} trials"),
    )
    for most, used, reason in limits:
        if most is not None and used() >= most:
            return reason
    if rules.idle_generations is not None and spent.idle_generations > rules.idle_generations:
        return f"no training in {rules.idle_generations} generations"
    return None


def hopeless(failures: Failures, most: int | None, first: Tally | None, optimizer: Optimizer) -> str | None:
    """What all trainings have failed for, if they were enough to give up; else None.

    Args:
        failures: Those of the search.
        most: How many trainings may fail if all do for one reason; 0 for any number, None for the default.
        first: Its first generation, once that has begun.
        optimizer: The job's method, which knows whether that is all of the generation.
    """
    if most == 0 or failures.common is None:
        return None
    if failures.trained >= (MOST_FAILURES if most is None else most):
        return f"its first {failures.trained} trainings have all failed: {failures.common}"
    complete = first is not None and first.asked == first.failed and not failures.blamed_trials
    if most is None and complete and (optimizer.generational or optimizer.done):
        return f"all trainings of its first generation have failed: {failures.common}"
    return None


def _reached(loss: float, target: float) -> bool:
    """Whether a loss is as low as the target, but for rounding: a mean that is shown as 0.3 may lie just beside it."""
    return loss <= target or math.isclose(loss, target, rel_tol=_ROUNDING)
