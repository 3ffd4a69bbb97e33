"""Fitness between the trials of a search, interpolated over two hyper-parameters: the ground that trials stand on.

Source: Nadaraya, On estimating regression (1964), and Watson, Smooth regression analysis (1964): the mean of all
trials, each weighed by a Gaussian of its distance. Where no trial is near, there is nothing.
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from swarm.plots.axes import Axis
from swarm.trial import Params

Array = NDArray[np.float64]
_CELLS = 40
_NEAREST = 0.05  # weight of all trials together below which none is near
_NAN = float("nan")


def position(axis: Axis, params: Params) -> float:
    """Position of a configuration along an axis, in [0, 1]; NaN if it is without."""
    if axis.name not in params:
        return _NAN
    if axis.scale == "options":
        label = axis.label(params[axis.name])
        return (axis.options.index(label) + 0.5) / len(axis.options) if label in axis.options else _NAN

    low, high, number = axis.low, axis.high, float(params[axis.name])
    if axis.scale == "log":
        low, high, number = log(low), log(high), log(number)
    return (number - low) / (high - low) if high > low else 0.5


def ground(across: Array, up: Array, fitness: Array, axes: tuple[Axis, Axis]) -> Array:
    """Fitness on a grid over both axes, row by row from the bottom; NaN where no trial is near.

    Args:
        across: Positions of the trials along the first axis, in [0, 1].
        up: Along the second one.
        fitness: Of the trials.
        axes: Both; an option is a column or a row of its own.

    Example:
        >>> from swarm.plots.axes import axes
        >>> from swarm.space import Choice, Space
        >>> both = axes(Space({"a": Choice(["x", "y"]), "b": Choice(["u", "v"])}))
        >>> ground(np.array([0.25, 0.25]), np.array([0.25, 0.25]), np.array([1.0, 3.0]), (both[0], both[1]))
        array([[ 2., nan],
               [nan, nan]])
    """
    there = np.isfinite(across) & np.isfinite(up) & np.isfinite(fitness)
    width = float(np.clip(0.3 * max(1, there.sum()) ** (-1 / 6), 0.04, 0.2))
    rows, columns = _near(axes[1], up[there], width), _near(axes[0], across[there], width)
    weight = rows @ columns.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(weight >= _NEAREST, (rows * fitness[there]) @ columns.T / weight, np.nan)


def _near(axis: Axis, places: Array, width: float) -> Array:
    """How near each trial is to each cell along an axis: (cells, trials)."""
    cells = len(axis.options) if axis.scale == "options" else _CELLS
    apart = (np.arange(cells) + 0.5)[:, None] / cells - places[None, :]
    if axis.scale == "options":
        return np.asarray(np.abs(apart) < 0.5 / cells, float)
    return np.asarray(np.exp(-0.5 * (apart / width) ** 2), float)
