"""What is good in a search: the direction and the targets of its fitness, losses, and constraints that are met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from swarm.errors import InvalidJob
from swarm.job import fields as job_fields
from swarm.job.problem import Problem
from swarm.trial import Criterion, Direction

Fitness = str | dict[str, float] | dict[str, Direction] | tuple[Criterion, ...] | None
"""What a job says that its fitness is; None is what the training calls so."""


class Scored(Protocol):
    """What has a fitness, if all went well, and other numbers beside it: the result of a training, or of a trial."""

    @property
    def fitness(self) -> float | None:
        """In the job's own direction; None if it failed."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Other numbers by name."""


def targets_of(fitness: Fitness) -> dict[str, Direction]:
    """Metrics that all count, with their directions, the one that is shown as the fitness first; none if it decides."""
    if not isinstance(fitness, dict):
        return {}
    found = {name: each for name, each in fitness.items() if isinstance(each, str)}
    return {name: found[name] for name in sorted(found, key=lambda name: name != "fitness")}


def direction_of(fitness: Fitness, given: Direction | None, code: Problem) -> str:
    """Which way is better, by the job or by the problem.

    Args:
        fitness: What the fitness is.
        given: What the job says.
        code: The problem.

    Raises:
        InvalidJob: They contradict each other, or nobody says it.
    """
    targets = tuple(Criterion(metric=metric, direction=each) for metric, each in targets_of(fitness).items())
    if criteria := fitness if isinstance(fitness, tuple) else targets:
        first = criteria[0]
        if given not in (None, first.direction):
            raise InvalidJob(
                f"the fitness has the direction of its first metric: {first.metric} is to {first.direction}, the "
                f"job says {given}: leave direction out"
            )
        return first.direction
    if fitness is not None and given is None:
        raise InvalidJob("a fitness of its own needs a direction: say direction: minimize, or maximize")
    if fitness is None and None not in (given, code.direction) and given != code.direction:
        raise InvalidJob(
            f"problem {code.name} says that its fitness is to {code.direction}, the job that it is to "
            f"{given}: leave direction out"
        )
    return given or code.direction or "maximize"


def weights_of(fitness: Fitness) -> Any:
    """What a worker makes the fitness of a training from: weights of metrics, or criteria; None is its own."""
    if targets := targets_of(fitness):  # the first is the fitness; the others weigh nothing in it, but have to be there
        return {name: float(place == 0) for place, name in enumerate(targets)}
    return {fitness: 1.0} if isinstance(fitness, str) else fitness


def losses(found: Scored, targets: Mapping[str, Direction], sign: int) -> list[float]:
    """What the optimizer is told of a trial that has a fitness: one loss, or one for each target.

    Args:
        found: What the trial has.
        targets: The job's; none if the fitness decides.
        sign: Loss = sign × fitness.
    """
    assert found.fitness is not None
    if not targets:
        return [sign * found.fitness]
    values = {**found.metrics, next(iter(targets)): found.fitness}  # the first is the fitness
    return [values[name] if direction == "minimize" else -values[name] for name, direction in targets.items()]


def unmet(found: Scored, targets: Mapping[str, Direction], constraints: Mapping[str, str]) -> str | None:
    """The first constraint that a trial with a fitness does not meet, in words; None if it meets all.

    Args:
        found: What the trial has.
        targets: The job's; none if the fitness decides.
        constraints: What each metric must be.
    """
    values = {"fitness": found.fitness, **found.metrics}
    if targets:
        values[next(iter(targets))] = found.fitness
    for metric, wanted in constraints.items():
        value = values.get(metric)
        if value is None:
            return f"{metric} {wanted}, but the training returned no {metric}"
        if not job_fields.holds(value, wanted):
            return f"{metric} {wanted}"
    return None
