"""Fields of a job that contradict each other: refused when the job is made, with what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swarm.errors import InvalidJob
from swarm.job.problem import Problem
from swarm.job.rules import Prune
from swarm.optimizers.base import Optimizer
from swarm.optimizers.folds import Folds
from swarm.space.space import Space
from swarm.trial import Direction, Isolation


def check_test(test: bool | None, code: Problem) -> None:
    """Refuse a test score that the problem cannot give.

    Raises:
        InvalidJob: The job wants one.
    """
    if test and not code.testable:
        raise InvalidJob(f"problem {code.name} has no test(params, ctx), so there is no test score; leave test out")


def check_isolation(
    isolation: Isolation, *, time_limit: float | None, prune: Prune | None, deterministic: bool
) -> None:
    """Refuse what a training in a thread cannot have.

    Raises:
        InvalidJob: It has a time limit, or is pruned, or is to be deterministic.
    """
    if isolation == "thread" and time_limit is not None:
        raise InvalidJob("a training in a thread cannot be stopped; a time_limit needs isolation: process")
    if isolation == "thread" and prune is not None:
        raise InvalidJob("a training in a thread cannot be stopped; prune needs isolation: process")
    if isolation == "thread" and deterministic:
        raise InvalidJob("deterministic changes a whole process, so it needs isolation: process")


def check_replicas(replicas: int, gpus_per_training: float) -> None:
    """Refuse a training of several replicas that have several GPUs each.

    Raises:
        InvalidJob: They do.
    """
    if replicas > 1 and gpus_per_training > 1:
        raise InvalidJob("a training has several replicas, or several GPUs on one machine: give one of them")


def check_prune(prune: Prune | None, direction: Direction | None) -> None:
    """Refuse to judge trainings by a metric that is good when the fitness is bad.

    Raises:
        InvalidJob: The fitness is to minimize, and the metric is none that the job names.
    """
    if prune is not None and direction == "minimize" and "metric" not in prune.model_fields_set:
        raise InvalidJob(
            f"prune judges by {prune.metric} unless told otherwise, larger is better, but the fitness is to "
            "minimize: name a metric that falls, prune: {metric: val_loss}"
        )


def check_heritable(optimizer: Optimizer, code: Problem, space: Space, checkpoints: bool | str | None) -> None:
    """Refuse a training that cannot be handed on from trial to trial.

    Raises:
        InvalidJob: It keeps no checkpoints, or the space has what would change the network's shape.
    """
    method = type(optimizer).__name__
    if not checkpoints:
        raise InvalidJob(
            f"{method} hands trainings on through checkpoints, which problem {code.name} does not say it keeps: "
            "call ctx.restore() and ctx.save() in it, and give checkpoints: true"
        )
    fixed = [name for name in space.names if code.changeable is not None and name not in code.changeable]
    if fixed:
        raise InvalidJob(
            f"{method} changes hyper-parameters while a network trains, but {', '.join(fixed)} would change its "
            f"shape, and the weights would not fit: fix what would in the space (another "
            f"method may search them first); {', '.join(code.changeable or ())} can be searched"
        )


def check_targets(targets: Mapping[str, Direction], method: Optimizer, prune: Prune | None) -> None:
    """Refuse what several targets cannot be judged by.

    Raises:
        InvalidJob: There are several, and a search for each fold, or pruning by one metric.
    """
    if targets and isinstance(method, Folds):
        raise InvalidJob(
            "several targets are compared in one search for all folds, and Folds does not: say fold_mode: mean, or "
            "give the metrics weights"
        )
    if targets and prune is not None:
        raise InvalidJob("prune judges a training by one metric, and the fitness has several: leave prune out")


def check_results(results: Sequence[Any], targets: Mapping[str, Direction]) -> None:
    """Refuse earlier results where they do not say all that counts.

    Raises:
        InvalidJob: There are several targets, and a result has one fitness.
    """
    if results and targets:
        raise InvalidJob("earlier results have one fitness, and the job several targets: leave results out")
