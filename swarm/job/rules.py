"""Rules of a job beside its space and method: when to stop it, when to end a training early, what follows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Required, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from swarm.job import fields as job_fields
from swarm.optimizers.base import Optimizer
from swarm.plain import plain_data

_TRIALS, _TRIALS_IN_TIME = 100, 10_000  # of a job that says no number, and of one that says how long it may take


class _Fields(BaseModel, frozen=True, extra="forbid", arbitrary_types_allowed=True):
    """Fields that take what NumPy calculated for the Python values that it stands for."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        return plain_data(data)


class Stop(_Fields, frozen=True):
    """When to stop before the optimizer is done; the first rule that fires wins.

    Attributes:
        target: Stop once the best fitness is at least this good, to 12 digits.
        evaluations: Stop after this many evaluations, however they were answered.
        seconds: Stop asking after this much wall-clock time, over all runs and masters; times when neither the job nor
            a training of it ran are left out.
        gpu_hours: Stop asking once trainings have taken so many hours, times the GPUs of each.
        idle_generations: Stop after this many generations in a row that trained nothing new.
        no_improvement: Stop after this many trials in a row of which none was the best so far, failures included.

    Example:
        ::

            >>> from swarm import Stop
            >>> Stop(target=0.99, gpu_hours=50).gpu_hours
            50.0
    """

    target: float | None = Field(default=None, allow_inf_nan=False)
    evaluations: job_fields.Count | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    gpu_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    idle_generations: job_fields.Count | None = Field(default=None, ge=1)
    no_improvement: job_fields.Count | None = Field(default=None, ge=1)

    def trials(self, each: int) -> int:
        """How many trials a method may have that is given no number: not too few for what is allowed.

        Args:
            each: Trainings of a trial, on all folds.
        """
        if self.evaluations is not None:
            return max(1, math.ceil(self.evaluations / each))
        timed = self.seconds is not None or self.gpu_hours is not None
        return _TRIALS_IN_TIME if timed else _TRIALS


class Prune(_Fields, frozen=True):
    """When to end a training early: :class:`~swarm.search.pruning.MedianRule` on what trainings report.

    A training for whose end another job waits, too, is not ended.

    Attributes:
        metric: The reported number to judge by, in the job's direction; it becomes the fitness of a pruned training.
        after: Reports (epochs) that every training may make before it is judged.
        trainings: Trainings that must have ended by themselves before any is judged.

    Example:
        ::

            >>> from swarm import Prune
            >>> Prune(metric="val_loss", after=3).trainings
            5
    """

    metric: job_fields.MetricName = "val_accuracy"
    after: job_fields.Count = Field(default=1, ge=0)
    trainings: job_fields.Count = Field(default=5, ge=1)


class _ThenFields(TypedDict, total=False):
    optimizer: Required[Optimizer | str | Mapping[str, Any]]
    search: Required[list[str] | tuple[str, ...]]
    stop: Stop | Mapping[str, Any]


class Then(_Fields, frozen=True):
    """What follows when a search has ended: another search around what it found.

    Attributes:
        optimizer: The method that searches then, such as PBT.
        search: Hyper-parameters that it searches; all others are fixed to what was found. What was found is the
            default of these.
        stop: When to stop it early.

    Example:
        ::

            >>> from swarm import PBT, Then
            >>> Then(optimizer=PBT(population=8, max_budget=20), search=["rate", "decay"]).search
            ['rate', 'decay']
    """

    optimizer: Annotated[Optimizer, BeforeValidator(job_fields.optimizer)]
    search: list[str] = Field(min_length=1, max_length=10_000)
    stop: Stop = Stop()

    def __init__(self, /, **data: Unpack[_ThenFields]) -> None:
        super().__init__(**dict[str, Any](data))
