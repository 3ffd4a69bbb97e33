"""What a candidate is worth: the logarithm of the improvement to be expected, or an optimistic bound.

Source: Ament, Daulton, Eriksson, Balandat and Bakshy, Unexpected Improvements to Expected Improvement for Bayesian
Optimization, NeurIPS 2023, equations 9 and 14. The bound with a random weight: Srinivas et al., ICML 2010, and for many
slots, Berk et al., Randomised Gaussian Process Upper Confidence Bound, IJCAI 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Worth = Callable[[Array, Array], Array]
"""How much candidates are worth by their means and standard deviations, arrays (m,)."""
_LOG_2PI = math.log(2.0 * math.pi)
_FAR = -1e4  # from there on, the asymptote is exact to 1e-7


def drawn(rng: np.random.Generator, best: float) -> Worth:
    """What decides this time: improvement on the best with chance ½, else a bound with a weight ~ Gamma(2, .7).

    Args:
        rng: Random numbers.
        best: The lowest mean at a position that was told.
    """
    beta = rng.gamma(2.0, 0.7)
    if rng.random() < 0.5:
        return lambda mean, deviation: np.asarray(np.log(deviation) + log_improvement((best - mean) / deviation))
    return lambda mean, deviation: np.asarray(beta * deviation - mean)


def log_improvement(z: Array) -> Array:
    """log(φ(z) + z·Φ(z)), wherever z is, an array of any shape."""
    from scipy.special import erfcx, ndtr

    near = np.maximum(z, -1.0)
    found = np.log(np.exp(-0.5 * near * near - 0.5 * _LOG_2PI) + near * ndtr(near))
    below = np.clip(z, _FAR, -1.0)
    inner = np.log(erfcx(-below / math.sqrt(2.0)) * -below) + 0.5 * math.log(math.pi / 2.0)
    found = np.where(z > -1.0, found, -0.5 * below * below - 0.5 * _LOG_2PI + _log_one_minus_exp(inner))
    far = np.minimum(z, _FAR)
    return np.where(z > _FAR, found, -0.5 * far * far - 0.5 * _LOG_2PI - 2.0 * np.log(-far))


def _log_one_minus_exp(x: Array) -> Array:
    """log(1 − eˣ) for x < 0."""
    x = np.minimum(x, -1e-300)
    return np.where(x > -math.log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
