"""A perceptron for the 8 × 8 digits, in NumPy alone: a few hundredths of a second per training, and much to search.

It needs neither Keras nor TensorFlow. Plain stochastic gradient descent makes everything a matter of several
hyper-parameters together, over decades: where steps are too large the network diverges, where they are too small a few
epochs get nowhere, and in between the accuracy goes from chance to 98 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from swarm.errors import InvalidProblem
from swarm.trial import Params
from swarm.workers.context import Context
from swarm.workers.data import Arrays, Images, Labels, fold_split, load

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SPACE: dict[str, Any] = {
    "units_1": {"integer": [2, 64], "default": 32},
    "units_2": {"integer": [2, 64], "default": 32},
    "learning_rate": {"real": [1e-6, 10], "log": True, "digits": 1, "default": 0.1},
    "momentum": {"real": [0, 0.99], "digits": 2, "default": 0.5},
    "batch_size": {"integer": [8, 512], "log": True, "default": 32},
    "dropout": {"real": [0, 0.9], "digits": 1, "default": 0.1},
}


@dataclass(frozen=True, kw_only=True)
class DigitsPerceptron:
    """Finds the hyper-parameters of a perceptron with two hidden layers: gradient descent with momentum, cross-entropy.

    Of the 1,500 training images, fold ``ctx.fold`` is for validation; the 297 test images are left to :meth:`test`.
    Weights begin as He et al. have them (Delving Deep into Rectifiers, ICCV 2015); the learning rate falls evenly to 0.

    Attributes:
        epochs: Train so long, unless the evaluation has a budget.
        splits: Number of folds.
    """

    epochs: int = 3
    splits: int = 5

    name: ClassVar[str] = "digits-mlp"
    preload: ClassVar[tuple[str, ...]] = ("sklearn.model_selection",)  # the digits come from there
    direction: ClassVar[str] = "maximize"
    space: ClassVar[dict[str, Any]] = SPACE

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("splits", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise InvalidProblem(f"{name} is a whole number of at least {low}, not {value!r}")

    def prepare(self) -> None:
        """Loads the data, so that the trainings that are forked from this process share it."""
        load("digits")

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains on all folds but one, and scores on that one."""
        return self._trained(params, ctx)[1]

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way and scores on the test images."""
        arrays = load("digits")
        network, scores = self._trained(params, ctx)
        return {**scores, "fitness": network.accuracy(_flat(arrays, arrays.x_test), arrays.y_test)}

    def _trained(self, params: Params, ctx: Context) -> tuple[Perceptron, dict[str, float]]:
        arrays = load("digits")
        train, valid = fold_split(arrays.y_train, ctx.fold, self.splits)
        x, y = _flat(arrays, arrays.x_train), arrays.y_train
        rng = np.random.default_rng(ctx.seed)
        sizes = (x.shape[1], int(params["units_1"]), int(params["units_2"]), arrays.classes)
        network = Perceptron(sizes, rng)
        accuracy, epochs = 0.0, self.epochs if ctx.budget is None else max(1, int(ctx.budget))
        size, rate = int(params["batch_size"]), float(params["learning_rate"])
        steps = epochs * math.ceil(len(train) / size)
        rates = iter(rate * (1 - np.arange(steps) / steps))
        for epoch in range(1, epochs + 1):
            with np.errstate(all="ignore"):  # it may diverge
                for batch in _batches(train, size, rng):
                    network.step(x[batch], y[batch], next(rates), params, rng)
            accuracy = network.accuracy(x[valid], y[valid])
            ctx.report(epoch=epoch, val_accuracy=accuracy)
        return network, {"fitness": accuracy, "epochs": epochs, "parameters": network.parameters}


class Perceptron:
    """Dense layers with rectifiers between them, and a softmax at the end.

    Args:
        sizes: Widths of the layers, the first that of the input.
        rng: Draws the first weights, ~ N(0, 2 / inputs).
    """

    def __init__(self, sizes: tuple[int, ...], rng: np.random.Generator) -> None:
        self._weights: list[Floats] = []
        for inputs, outputs in pairwise(sizes):
            drawn = rng.standard_normal((inputs + 1, outputs), np.float32) * np.float32(np.sqrt(2 / inputs))
            drawn[-1] = 0  # the bias
            self._weights.append(drawn)
        self._moves = [np.zeros_like(each) for each in self._weights]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(each.size for each in self._weights)

    def step(self, x: Floats, y: Labels, rate: float, params: Params, rng: np.random.Generator) -> None:
        """One step of gradient descent at this rate on the mean cross-entropy of a batch."""
        keep = np.float32(1 - float(params["dropout"]))
        inputs: list[Floats] = []
        for number, weights in enumerate(self._weights):
            if number:  # behind a hidden layer
                kept = rng.random(x.shape, np.float32) < keep
                x = (np.maximum(x, 0) * kept / keep).astype(np.float32, copy=False)
            inputs.append(np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1))
            x = inputs[-1] @ weights
        error = _softmax(x)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        momentum = np.float32(params["momentum"])
        for number, given in reversed(list(enumerate(inputs))):
            gradient = given.T @ error
            error = (error @ self._weights[number][:-1].T) * (given[:, :-1] > 0) / keep
            self._moves[number] = momentum * self._moves[number] - np.float32(rate) * gradient
            self._weights[number] += self._moves[number]

    def accuracy(self, x: Floats, y: Labels) -> float:
        """Share of images whose largest output is the right one; none where the weights are not finite any more."""
        with np.errstate(all="ignore"):
            for number, weights in enumerate(self._weights):
                x = (np.maximum(x, 0) if number else x) @ weights[:-1] + weights[-1]
        return float(np.mean((x.argmax(axis=1) == y) & np.isfinite(x).all(axis=1)))


def _softmax(x: Floats) -> Floats:
    powers: Floats = np.exp(x - x.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _batches(indices: npt.NDArray[np.intp], size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    order = rng.permutation(indices)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _flat(arrays: Arrays, images: Images) -> Floats:
    return arrays.scaled(images).reshape(len(images), -1)


def problem(**options: Any) -> DigitsPerceptron:
    """The perceptron on the digits: 3 epochs; ``options`` are those of :class:`DigitsPerceptron`."""
    return DigitsPerceptron(**options)
