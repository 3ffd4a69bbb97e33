"""Recurrent networks on NumPy: many networks of one architecture at a time, without training, without a framework.

What takes the time is not the arithmetic but the number of calls. So all windows of a series and many networks go
through a layer in one call, in arrays (networks, units, windows) whose innermost axis is long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Params

Array = npt.NDArray[np.float32]
Activation = Literal["tanh", "sigmoid", "linear"]
Metric = Literal["mae", "mse"]

BLOCK = 2**16  # numbers in the largest array of a call: what stays in a core's cache is faster


@dataclass(frozen=True, slots=True)
class Architecture:
    """LSTM layers, one after the other, and a dense layer: what the paper writes as ``[1, 2, 2, 1]``.

    The weights of a network are one vector: of each LSTM layer the kernel (inputs, 4·units), the recurrent kernel
    (units, 4·units) and the bias (4·units), with the gates in the order input, forget, cell, output; of the dense layer
    kernel and bias. That is the order of ``get_weights()`` in Keras.

    Attributes:
        inputs: Number of quantities at each step.
        units: Of each hidden layer.
        outputs: Number of quantities that are predicted.
        look_back: Steps that a prediction is made from.
        activation: Of the dense layer.

    Raises:
        Infeasible: A number is not 1 or more.
        InvalidProblem: There is no such activation.
    """

    inputs: int
    units: tuple[int, ...]
    outputs: int
    look_back: int
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        if min(self.inputs, *self.units, self.outputs, self.look_back) < 1 or not self.units:
            raise Infeasible(f"there is no network {self.layers} that looks back {self.look_back}")
        if self.activation not in get_args(Activation):
            raise InvalidProblem(f"activation is one of {', '.join(get_args(Activation))}, not {self.activation!r}")

    @classmethod
    def of(cls, params: Params, inputs: int, outputs: int, activation: Activation = "tanh") -> Architecture:
        """The architecture that hyper-parameters name: ``look_back``, ``layers``, ``units_1``, ``units_2``, …

        Raises:
            Infeasible: One of them is missing.
        """
        try:
            units = tuple(int(params[f"units_{k}"]) for k in range(1, int(params["layers"]) + 1))
            return cls(inputs, units, outputs, int(params["look_back"]), activation)
        except KeyError as error:
            raise Infeasible(f"there is no hyper-parameter {error}: an architecture needs it") from None

    @property
    def layers(self) -> list[int]:
        """Neurons of all layers, inputs and outputs included."""
        return [self.inputs, *self.units, self.outputs]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the weights, in order."""
        found: list[tuple[int, ...]] = []
        for inputs, units in zip(self.layers, self.units, strict=False):
            found += [(inputs, 4 * units), (units, 4 * units), (4 * units,)]
        return [*found, (self.units[-1], self.outputs), (self.outputs,)]

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    def tensors(self, weights: Any, xp: Any = np) -> list[Any]:
        """Weights of networks, one array for each of :attr:`shapes`, with an axis for the networks before it.

        Args:
            weights: Array (networks, size).
            xp: As for :func:`predictions`.
        """
        found, start = [], 0
        for shape in self.shapes:
            end = start + math.prod(shape)
            found.append(xp.reshape(weights[:, start:end], (-1, *shape)))
            start = end
        return found


def space(
    layers: tuple[int, int] = (1, 3), units: tuple[int, int] = (1, 10), look_back: tuple[int, int] = (2, 20)
) -> dict[str, Any]:
    """The search space of architectures, as plain data: how far to look back, how many hidden layers, their units.

    ``units_k`` is there only if there are k layers or more, so equal networks are equal configurations. A range of one
    number is a fixed value.

    Args:
        layers: Fewest and most hidden layers.
        units: Fewest and most units of each.
        look_back: Fewest and most steps.

    Raises:
        InvalidProblem: A range is not two numbers of at least 1, in order.
    """
    for name, (low, high) in {"layers": layers, "units": units, "look_back": look_back}.items():
        if not 1 <= low <= high:
            raise InvalidProblem(f"{name} is a range [fewest, most] of numbers of at least 1, not {[low, high]}")
    found: dict[str, Any] = {"look_back": _range(*look_back), "layers": _range(*layers)}
    for k in range(1, layers[1] + 1):
        item = _range(*units)
        if layers[0] < layers[1] and isinstance(item, dict):
            item["when"] = {"layers": list(range(max(k, layers[0]), layers[1] + 1))}
        found[f"units_{k}"] = item
    return found


def _range(low: int, high: int) -> Any:
    return {"integer": [low, high]} if low < high else low


def listing(
    units: tuple[int, int], layers: tuple[int, int], step: int = 1, prefix: tuple[int, ...] = ()
) -> list[list[int]]:
    """All lists of hidden layers within bounds, in the order in which DLOPT has them.

    Args:
        units: Fewest and most units of a layer.
        layers: Fewest and most layers.
        step: From one number of units to the next.
        prefix: Layers that all of them begin with, which count.
    """
    if len(prefix) >= layers[1]:
        return []
    longer = [[*prefix, n] for n in range(units[0], units[1] + 1, step)]
    deeper = [found for first in longer for found in listing(units, layers, step, tuple(first))]
    return deeper + (longer[::-1] if len(prefix) + 1 >= layers[0] else [])


def predictions(architecture: Architecture, weights: Any, windows: Any, xp: Any = np) -> Any:
    """What networks predict, by the equations of Keras' LSTM (sigmoid gates, tanh).

    Args:
        architecture: Of all the networks.
        weights: Of each network, (networks, size).
        windows: What they look back on, (windows, look_back, inputs).
        xp: NumPy, or what has its functions: ``keras.ops``, to which weights and windows then belong.

    Returns:
        Array (networks, windows, outputs).
    """
    *tensors, kernel, bias = architecture.tensors(weights, xp)
    layers = zip(tensors[::3], tensors[1::3], tensors[2::3], strict=True)
    cells = [_Cell(*layer, windows.shape[0], xp) for layer in layers]
    steps = xp.transpose(windows, (1, 2, 0))  # (look_back, inputs, windows)
    for t in range(architecture.look_back):
        signal = steps[t]
        for cell in cells:
            signal = cell(signal)
    outputs = xp.matmul(xp.transpose(kernel, (0, 2, 1)), signal) + bias[:, :, None]
    if architecture.activation == "tanh":
        outputs = xp.tanh(outputs)
    elif architecture.activation == "sigmoid":
        outputs = 0.5 + 0.5 * xp.tanh(0.5 * outputs)
    return xp.transpose(outputs, (0, 2, 1))


class _Cell:
    """An LSTM layer of many networks, in all windows at once, step by step.

    σ(z) = ½ + ½ tanh(z/2), so with halved weights of three gates a single tanh serves all four.
    """

    def __init__(self, kernel: Any, recurrent: Any, bias: Any, windows: int, xp: Any) -> None:
        networks, self._units = kernel.shape[0], recurrent.shape[1]
        half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), self._units)
        self._xp = xp
        self._kernel = xp.transpose(kernel * half, (0, 2, 1))  # (networks, 4·units, inputs)
        self._recurrent = xp.transpose(recurrent * half, (0, 2, 1))
        self._bias = (bias * half)[:, :, None]
        self._hidden = self._state = xp.zeros((networks, self._units, windows), dtype="float32")

    def __call__(self, signal: Any) -> Any:
        """The hidden state (networks, units, windows) after a step."""
        xp, n = self._xp, self._units
        gates = xp.matmul(self._kernel, signal)
        gates += xp.matmul(self._recurrent, self._hidden)
        gates += self._bias
        gates = xp.tanh(gates)
        entering, forgetting, leaving = (0.5 + 0.5 * gates[:, i * n : (i + 1) * n] for i in (0, 1, 3))
        self._state = forgetting * self._state + entering * gates[:, 2 * n : 3 * n]
        self._hidden = leaving * xp.tanh(self._state)
        return self._hidden


def errors(
    architecture: Architecture,
    weights: Array,
    windows: Array,
    targets: Array,
    metric: Metric = "mae",
    xp: Any = np,
    block: int = BLOCK,
) -> npt.NDArray[np.float64]:
    """Mean error of each network over all windows and outputs, (networks,).

    Args:
        architecture: Of all the networks.
        weights: Of each network, (networks, size).
        windows: What they look back on, (windows, look_back, inputs).
        targets: What follows, (windows, outputs).
        metric: ``mae``, the mean of |y - ŷ|, or ``mse``, of its square.
        xp: As for :func:`predictions`.
        block: Networks are taken together while the largest array has no more numbers than that.
    """
    if metric not in get_args(Metric):
        raise InvalidProblem(f"a metric is one of {', '.join(get_args(Metric))}, not {metric!r}")
    together = max(1, block // (4 * max(architecture.units) * len(windows)))
    found = []
    for start in range(0, len(weights), together):
        some = weights[start : start + together]
        guesses = np.asarray(predictions(architecture, some, windows, xp))
        distance = np.abs(guesses - targets)
        found.append((distance if metric == "mae" else distance**2).mean(axis=(1, 2), dtype=float))
    return np.concatenate(found)


Distribution = Mapping[str, Any]


def drawn(distribution: Distribution, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random weights.

    Args:
        distribution: ``{"name": "normal", "loc": 0, "scale": 1}``, or ``uniform`` with ``low`` and ``high``.
        shape: Of the array. Of more networks the first are the same.
        rng: Draws them.

    Raises:
        InvalidProblem: There is no such distribution, or it has no such argument.
    """
    options = dict(distribution)
    name = options.pop("name", "normal")
    defaults = {"normal": {"loc": 0.0, "scale": 1.0}, "uniform": {"low": -1.0, "high": 1.0}}.get(name)
    if defaults is None or not options.keys() <= defaults.keys():
        raise InvalidProblem(
            f"weights are drawn from {{name: normal, loc, scale}} or {{name: uniform, low, high}}, not {distribution!r}"
        )
    chosen = {**defaults, **options}
    if name == "normal":
        return np.float32(chosen["loc"]) + np.float32(chosen["scale"]) * rng.standard_normal(shape, dtype=np.float32)
    low, high = np.float32(chosen["low"]), np.float32(chosen["high"])
    return low + (high - low) * rng.random(shape, dtype=np.float32)
