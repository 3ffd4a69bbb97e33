"""Time to accuracy: how long a network trains until it is good enough, which favours small ones that learn fast.

Recombination of Artificial Neural Networks, sections 4.2.1 (P3B1: two F1 scores of each of three tasks) and 4.2.3
(LeNet: an accuracy, at two successive validations 100 mini-batches apart).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Params
from swarm.workers.context import Context
from swarm.workers.data import Labels, fold_split
from swarm.workers.keras.feed import EVALUATION_BATCH
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

Measure = Literal["seconds", "cpu_seconds", "iterations"]

SUCCESSIVE = 2


class NeverReached(Infeasible):
    """A training did not reach its thresholds; it fails, so that a fast network that never learns cannot win."""


class Goal:
    """Whether a training is good enough: it meets all thresholds at ``SUCCESSIVE`` validations in a row.

    Args:
        thresholds: Least value by name of the score.

    Raises:
        InvalidProblem: There is no threshold.
    """

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        if not thresholds:
            raise InvalidProblem("time to accuracy needs a threshold, such as thresholds: {val_accuracy: 0.98}")
        self._thresholds = thresholds
        self._met = 0

    def reached(self, scores: Mapping[str, float]) -> bool:
        """Takes the scores of the next validation; whether they fulfil the goal.

        Raises:
            InvalidProblem: There is a threshold for something that is not among the scores.
        """
        self._met = 0 if self.missed(scores) else self._met + 1
        return self._met >= SUCCESSIVE

    def missed(self, scores: Mapping[str, float]) -> str:
        """Which thresholds the scores do not meet, for people.

        Raises:
            InvalidProblem: As :meth:`reached`.
        """
        for name in self._thresholds:
            if name not in scores:
                raise InvalidProblem(f"there is no score {name!r} to reach; there are {', '.join(scores)}")
        return ", ".join(
            f"{name} {scores[name]:g} < {least:g}" for name, least in self._thresholds.items() if scores[name] < least
        )


@dataclass(frozen=True, kw_only=True)
class TimeToAccuracy:
    """Finds the hyper-parameters with which a network reaches its thresholds soonest.

    A training is validated before the first mini-batch and after each ``every`` of them. The clock stands still
    meanwhile, and during the first ``warm_up`` mini-batches, in which the network is compiled. Seconds can be compared
    only if each training has a core or GPU to itself; where CPU cores are shared with others, seconds of CPU time still
    can. Iterations depend on the seed alone, but those of a large network count no more than those of a small one.

    The scores on V are ``val_accuracy``, ``val_f1_macro`` and ``val_f1_micro`` (0 … 1). Where the examples have several
    labels, task i has a number of its own: ``val_f1_macro_0``, ``val_f1_macro_1`` ….

    Attributes:
        network: The network and its data. Of its ``epochs``, ``patience`` and ``score`` no use is made.
        thresholds: Least value by name of the score; all have to be met, at two successive validations.
        measure: What the fitness is: ``seconds``, ``cpu_seconds`` (of all threads) or ``iterations`` (mini-batches).
        every: Mini-batches between two validations.
        warm_up: Mini-batches at the beginning that are not timed.
        max_iterations: Fail after so many mini-batches, unless the evaluation has a budget: then after that many.
        name: Name of the problem.

    Raises:
        InvalidProblem: An option is out of its range.
    """

    network: KerasProblem
    thresholds: Mapping[str, float] = field(hash=False)
    measure: Measure = "seconds"
    every: int = 100
    warm_up: int = 100
    max_iterations: int = 20_000
    name: str = "time-to-accuracy"

    direction: ClassVar[str] = "minimize"

    def __post_init__(self) -> None:
        Goal(self.thresholds)
        if self.measure not in get_args(Measure):
            raise InvalidProblem(f"measure is one of {', '.join(get_args(Measure))}, not {self.measure!r}")
        if self.every < 1 or self.warm_up < 0:
            raise InvalidProblem("validate every 1 or more mini-batches, and warm up for 0 or more")

    @property
    def keras_backend(self) -> str:
        """What the network computes with."""
        return self.network.keras_backend

    @property
    def preload(self) -> tuple[str, ...]:
        """What a worker imports before it trains."""
        return (*self.network.preload, "sklearn.metrics")

    @property
    def space(self) -> Mapping[str, Any]:
        """The search space of the network, as plain data."""
        return self.network.space

    def prepare(self) -> None:
        """Loads the data, so that the trainings that are forked from this process share it."""
        self.network.prepare()

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains on T until the scores on V are good enough.

        Returns:
            ``fitness``, ``seconds`` and ``cpu_seconds`` without warm-up and validations, ``iterations``, number of
            ``parameters``, and the scores at the end.

        Raises:
            NeverReached: They are not good enough after ``max_iterations``.
            Infeasible: The network cannot be built for this image size.
            InvalidProblem: There is a threshold for an unknown score.
        """
        return self._train(params, ctx)[1]

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way and scores on the test images.

        Returns:
            What the training returns, but ``fitness`` is the accuracy on the test images.

        Raises:
            NeverReached, Infeasible, InvalidProblem: As for the training.
        """
        model, scores = self._train(params, ctx)
        arrays = self.network._arrays()
        accuracy = (_predicted(model, arrays.scaled(arrays.x_test)) == arrays.y_test).mean()
        return {**scores, "fitness": float(accuracy)}

    def _train(self, params: Params, ctx: Context) -> tuple[keras.Model, dict[str, float]]:
        arrays = self.network._arrays()
        model = self.network._compiled(params, ctx.seed)
        train, valid = fold_split(arrays.y_train, ctx.fold, self.network.splits)
        size = int(params.get("batch_size", self.network.batch_size))
        batches = _batches(arrays.scaled(arrays.x_train[train]), arrays.y_train[train], size, ctx.seed)
        x_valid, y_valid = arrays.scaled(arrays.x_train[valid]), arrays.y_train[valid]
        limit = self.max_iterations if ctx.budget is None else math.floor(ctx.budget)
        goal, spent = Goal(self.thresholds), _Clock(0.0, 0.0)
        for iterations in itertools.count(0, self.every):
            scores = scored(y_valid, _predicted(model, x_valid))
            ctx.report(iterations=iterations, seconds=spent.seconds, **scores)
            if goal.reached(scores):
                break
            if iterations + self.every > limit:
                missed = goal.missed(scores) or "good enough at the last validation alone"
                raise NeverReached(f"after {iterations} mini-batches: {missed}; raise max_iterations or ask for less")
            taken = _timed(model, batches, self.every, untimed=self.warm_up - iterations)
            spent = _Clock(spent.seconds + taken.seconds, spent.cpu_seconds + taken.cpu_seconds)
        measured = {**spent._asdict(), "iterations": iterations}
        return model, {"fitness": measured[self.measure], **measured, **scores, "parameters": model.count_params()}


def scored(labels: Labels, predicted: Labels) -> dict[str, float]:
    """Accuracy and F1 scores of predictions.

    Args:
        labels: Right labels, (n,), or (n, m) for m tasks.
        predicted: Predicted labels, of the same shape.

    Returns:
        ``val_accuracy``, ``val_f1_macro`` (the mean over the classes that occur) and ``val_f1_micro``; for several
        tasks each followed by ``_0``, ``_1`` ….
    """
    from sklearn.metrics import f1_score

    if labels.ndim > 1:
        tasks = [scored(y, p) for y, p in zip(labels.T, predicted.T, strict=True)]
        return {f"{name}_{task}": value for task, scores in enumerate(tasks) for name, value in scores.items()}
    return {
        "val_accuracy": float((labels == predicted).mean()),
        "val_f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "val_f1_micro": float(f1_score(labels, predicted, average="micro", zero_division=0.0)),
    }


def _predicted(model: keras.Model, x: np.ndarray[Any, Any]) -> Labels:
    """The most probable labels."""
    labels: Labels = model.predict(x, batch_size=EVALUATION_BATCH, verbose=0).argmax(axis=-1)
    return labels


class _Clock(NamedTuple):
    """A moment, or how long something took."""

    seconds: float
    cpu_seconds: float  # of all threads

    @classmethod
    def now(cls) -> _Clock:
        return cls(time.perf_counter(), time.process_time())


def _timed(model: keras.Model, batches: Iterator[tuple[Any, Any]], steps: int, untimed: int) -> _Clock:
    """Trains for so many steps; how long they took without the first ``untimed``."""
    start = _Clock.now()
    for step in range(steps):
        if step == untimed:
            start = _Clock.now()
        model.train_on_batch(*next(batches))  # returns the loss, so that the step is over
    end = _Clock.now() if untimed < steps else start
    return _Clock(end.seconds - start.seconds, end.cpu_seconds - start.cpu_seconds)


def _batches(x: np.ndarray[Any, Any], y: Labels, size: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Mini-batches without end, each epoch in another order; all alike large, else the network is compiled again."""
    size = min(size, len(y))
    for epoch in itertools.count():
        order = np.random.default_rng((seed, epoch)).permutation(len(y))
        for start in range(0, len(y) - size + 1, size):
            chosen = order[start : start + size]
            yield x[chosen], y[chosen]
