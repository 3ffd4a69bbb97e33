"""What a user may write for the fields of a job: wider than what they become, a dictionary for a space, say.

It is for type checkers and editors. What is written is checked when a job is made, with a text that says more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Required, SupportsFloat, SupportsIndex, TypedDict

from swarm.job.rules import Prune, Stop, Then
from swarm.optimizers.base import Optimizer
from swarm.space.space import Space
from swarm.trial import Direction, Isolation

Returned = SupportsFloat | SupportsIndex | Mapping[str, Any]
"""What a training returns: its fitness, or a mapping with ``"fitness"`` and other numbers."""
Train = Callable[[Any, Any], Returned]
"""A training function, ``train(params, ctx)``, or an object that is called like one."""
ProblemGiven = str | Train | type[Any] | Callable[..., Train]
"""A training function, where to find one, or with ``options`` what makes one of them."""
ConstraintGiven = str | Callable[[dict[str, Any]], bool]
"""What several hyper-parameters have to satisfy: an expression, or a function of them."""
Names = list[str] | tuple[str, ...]  # Sequence[str] would take a text


class JobFields(TypedDict, total=False):
    """The fields of a :class:`~swarm.job.Job` as a user may write them; its docstring says what they are for."""

    name: Required[str]
    problem: ProblemGiven
    command: str
    options: Mapping[str, Any]
    version: str | int | float | None
    files: Names
    space: Space | Mapping[str, object] | Sequence[tuple[str, object]] | None
    constraint: ConstraintGiven | Sequence[ConstraintGiven] | None
    optimizer: Optimizer | str | Mapping[str, Any] | None
    direction: Direction | None
    fitness: str | Mapping[str, float] | Mapping[str, str] | Sequence[Any] | None
    constraints: Mapping[str, str]
    first: Sequence[Mapping[str, Any]]
    results: Sequence[Mapping[str, Any]]
    seed: int
    isolation: Isolation
    time_limit: float | None
    gpus_per_training: float
    gpu_memory: str | int | float | None
    replicas: int
    sync: bool
    deterministic: bool
    folds: int
    fold_mode: Literal["swarm", "mean"]
    repeats: int
    archive: bool
    checkpoints: bool | str | None
    test: bool | None
    max_failures: int | None
    shared: bool
    notify: str | None
    requirements: Names
    stop: Stop | Mapping[str, Any]
    prune: Prune | Mapping[str, Any] | None
    then: Then | Mapping[str, Any] | None
