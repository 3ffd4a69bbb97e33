"""Losses as a model takes them: linear for the better half, and blind to how bad the worse half is.

Source: Song et al., The Vizier Gaussian Process Bandit Algorithm, arXiv:2408.11527, 2024, half-rank warping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Warped:
    """Losses with a mean of 0 and a variance of 1, and how to go back.

    Attributes:
        values: An array (n,).
        middle: Loss that 0 stands for, times ``scale``.
        spread: Difference of losses that 1 stands for, times ``scale``.
        scale: A power of two.
    """

    values: Array
    middle: float
    spread: float
    scale: float

    def loss(self, value: float) -> float:
        """The loss that a value of the model stands for, among the better half; a finite number."""
        most = np.finfo(float).max
        with np.errstate(over="ignore"):
            return float(np.clip((self.middle + self.spread * np.float64(value)) / self.scale, -most, most))

    def difference(self, value: float) -> float:
        """The difference of losses that a difference of values stands for."""
        with np.errstate(over="ignore"):
            return float(np.minimum(self.spread * np.float64(value) / self.scale, np.finfo(float).max))


def warped(losses: Array) -> Warped:
    """Warp the losses of all that was told, an array (n,); +inf failed, and counts as the worst that did not.

    With the median m and s the root of the mean square of y − m over y ≤ m, what is above becomes
    m + s·max(0, Φ⁻¹((rank + ½)/n)). A factor on all losses that is a power of two changes nothing, whatever its size.
    """
    from scipy.special import ndtri

    finite = losses[np.isfinite(losses)]
    scale = 2.0 ** -min(max(math.frexp(float(np.abs(finite).max()))[1] + 2, -1000), 1022)
    ranks = _ranks(losses)
    y = np.where(np.isfinite(losses), losses, finite.max()) * scale  # below ¼: no difference overflows
    middle = float(np.median(y))
    better = y <= middle
    s = math.sqrt(float(np.mean((y[better] - middle) ** 2))) or 1.0  # any will do where all of the better are equal
    y = np.where(better, y, middle + s * np.maximum(0.0, ndtri((ranks + 0.5) / len(y))))
    mean, spread = float(y.mean()), float(y.std())
    if not spread > 0.0:
        return Warped(np.zeros(len(y)), middle, 0.0, scale)
    return Warped((y - mean) / spread, mean, spread, scale)


def _ranks(losses: Array) -> Array:
    """Ranks from 0, equal losses sharing the mean of theirs; failures come last."""
    _, inverse, counts = np.unique(losses, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return np.asarray((last - (counts - 1) / 2)[inverse])
