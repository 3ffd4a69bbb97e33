"""Kernel density estimates of good and bad configurations, and proposals where the good are dense: the model of TPE.

Source: Falkner, Klein and Hutter, BOHB, ICML 2018, section 3.2 and its implementation HpBandSter; Bergstra et al.,
Algorithms for Hyper-Parameter Optimization, NeurIPS 2011. Bandwidths: normal reference rule, Scott (1992). Kernel of
choices: Aitchison and Aitken, Biometrika 63 (1976).

A *point* is an array (d,): the position in the unit cube, but the number of the option in dimensions that are choices.
``options`` is an array (d,) that says which these are: their number of options, and 0 elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Density:
    """A product of one kernel per dimension around each of n points, averaged.

    Attributes:
        points: Array (n, d).
        bandwidths: Array (d,): standard deviation of the normal kernel, probability to leave the option of a choice.
        options: Array (d,), see above.
    """

    points: Array
    bandwidths: Array
    options: Integers

    @classmethod
    def fit(cls, points: Array, options: Integers, *, least: float) -> Self:
        """The estimate from points (n, d) by the normal reference rule, with bandwidths of at least ``least``."""
        n, d = points.shape
        reference = 1.06 * points.std(axis=0) * n ** (-1 / (4 + d))
        most = np.where(options > 0, 1 - 1 / np.maximum(options, 1), np.inf)  # all options equally likely
        return cls(points, np.minimum(np.maximum(reference, least), most), options)

    def log(self, x: Array) -> Array:
        """Logarithms of the densities at points (m, d), an array (m,)."""
        logs = np.zeros((len(x), len(self.points)))
        for at, points, h, c in zip(x.T, self.points.T, self.bandwidths, self.options, strict=True):
            if c:
                logs += np.where(at[:, None] == points, math.log1p(-h), math.log(h / (c - 1)))
            else:
                logs -= 0.5 * ((at[:, None] - points) / h) ** 2 + math.log(h * math.sqrt(2 * math.pi))
        top = logs.max(axis=1)
        mean: Array = top + np.log(np.exp(logs - top[:, None]).mean(axis=1))
        return mean

    def draw(self, rng: np.random.Generator, size: int, *, widen: float) -> Array:
        """Points (size, d) near points of the estimate.

        Args:
            rng: Random numbers.
            size: Number of points.
            widen: Factor on the standard deviations of the normal kernels, which are cut off outside of the cube.
        """
        x = self.points[rng.integers(len(self.points), size=size)]
        for i, (h, c) in enumerate(zip(self.bandwidths, self.options, strict=True)):
            if c:
                leave = rng.random(size) < h
                x[leave, i] = rng.integers(c, size=size)[leave]
            else:
                x[:, i] = truncated_normal(rng, x[:, i], widen * h)
        return x


def truncated_normal(rng: np.random.Generator, mean: Array, sd: float) -> Array:
    """Numbers ~ N(mean, sd²) on the condition that they lie in [0, 1], by drawing again; the means lie there."""
    x = rng.normal(mean, sd)
    while (outside := (x < 0) | (x > 1)).any():
        x[outside] = rng.normal(mean[outside], sd)
    return x


class Observations:
    """Points and losses at one budget, at most ``limit``: of more, the oldest that is not among the good is dropped.

    Args:
        dimensions: Number d of dimensions.
        good: Share of the observations that are good.
        least: Number of good ones at least, and of bad ones.
        limit: Number of observations that are kept.
    """

    def __init__(self, dimensions: int, *, good: float, least: int, limit: int) -> None:
        self._good, self._least, self._limit = good, least, limit
        self._points: Array = np.empty((0, dimensions))  # in the order in which they came
        self._losses: Array = np.empty(0)

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, point: Array, loss: float) -> None:
        """Add an observation; the loss of one that failed is +inf."""
        self._points = np.vstack([self._points, point])
        self._losses = np.append(self._losses, loss)
        if len(self) > self._limit:
            oldest = self._ranking()[1].min()
            self._points = np.delete(self._points, oldest, axis=0)
            self._losses = np.delete(self._losses, oldest)

    def split(self) -> tuple[Array, Array] | None:
        """The good points and the bad ones, arrays (·, d), or None while either are too few."""
        good, bad = self._ranking()
        return (self._points[good], self._points[bad]) if min(len(good), len(bad)) >= self._least else None

    def _ranking(self) -> tuple[Integers, Integers]:
        """Indices of the good and of the bad, the lowest loss first; of equal ones, the one that came first."""
        order = np.argsort(self._losses, kind="stable")
        wanted = max(self._least, math.floor(self._good * len(self) + 1e-9))
        good = min(wanted, int(np.isfinite(self._losses).sum()))
        return order[:good], order[good:]
