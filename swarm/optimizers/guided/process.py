"""A Gaussian process over positions: Matérn 5/2 with a length for each dimension, and points under way.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 2.25, 2.26, 4.17, 5.9; a
choice is a dimension in which any two options are equally far apart. The lengths' prior grows with the root of the
number of dimensions: Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs Great in High Dimensions,
ICML 2024. Points under way count as told, with what the model expects (Kriging believer): Ginsbourger, Le Riche and
Carraro, 2010.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

LENGTHS, NOISES, AMPLITUDES = (math.log(0.02), math.log(50.0)), (math.log(1e-5), 0.0), (-3.0, 3.0)
_STEPS = 20  # of a fit
_FAR_MORE = 3.0  # logarithm of how much more probable another kernel is, to be taken


@dataclass(frozen=True)
class Kernel:
    """Covariance a(1 + r + r²/3)e^−r of two positions, r = √(5 Σ (Δ_j/l_j)²); Δ is 0 or 1 where j is a choice.

    Attributes:
        theta: Logarithms of the d lengths, the noise's variance σ² and the variance a, an array (d + 2,).
        choices: Which dimensions are choices, an array (d,).
    """

    theta: Array
    choices: Flags

    @classmethod
    def prior(cls, choices: Flags) -> Kernel:
        """The most probable one before anything is known."""
        d = len(choices)
        return cls(np.array([math.log(0.6 * math.sqrt(d))] * d + [math.log(0.01), 0.0]), choices)

    def shorter(self, by: float) -> Kernel:
        """One whose lengths are shorter by this factor."""
        theta = self.theta.copy()
        theta[:-2] -= math.log(by)
        return Kernel(theta, self.choices)

    @cached_property
    def lengths(self) -> Array:
        """Lengths l, an array (d,)."""
        return np.exp(self.theta[:-2])

    @property
    def noise(self) -> float:
        """Variance σ² of the noise."""
        return math.exp(self.theta[-2])

    @property
    def amplitude(self) -> float:
        """Variance a."""
        return math.exp(self.theta[-1])

    def between(self, one: Array, other: Array) -> Array:
        """Covariances of positions (m, d) and (n, d), an array (m, n)."""
        r = self.squares(one, other)
        r *= 5.0
        np.sqrt(r, out=r)
        found = r / 3.0  # in place from here: these are large, and each new one costs as much as the exponential
        found += 1.0
        found *= r
        found += 1.0
        np.negative(r, out=r)
        found *= np.exp(r, out=r)
        found *= self.amplitude
        return found

    def squares(self, one: Array, other: Array) -> Array:
        """Σ (Δ_j/l_j)² of positions (m, d) and (n, d), an array (m, n)."""
        numbers = ~self.choices
        a, b = one[:, numbers] / self.lengths[numbers], other[:, numbers] / self.lengths[numbers]
        found = a @ (-2.0 * b.T)
        found += (a * a).sum(axis=1)[:, None]
        found += (b * b).sum(axis=1)
        np.maximum(found, 0.0, out=found)
        for j in np.flatnonzero(self.choices):
            np.add(found, self.lengths[j] ** -2.0, out=found, where=one[:, j, None] != other[:, j])
        return np.asarray(found)


def fit(rows: Array, values: Array, start: Kernel, *others: Kernel) -> Kernel:
    """The most probable kernel that is found from a start; from another start, if that is far more probable.

    The probability has several maxima: what a short length explains, a long one takes for noise. From the kernel of the
    fit before, the one that is reached may stay the lesser of two for good.

    Args:
        rows: Positions, an array (n, d).
        values: What was observed there, an array (n,).
        start: Where to begin, such as the kernel of the fit before.
        others: Where else to begin.
    """
    from scipy.optimize import minimize

    d, choices = rows.shape[1], start.choices
    bounds = [LENGTHS] * d + [NOISES, AMPLITUDES]
    low, high = np.array(bounds).T
    evidence, options = Evidence(rows, values, choices), {"maxiter": _STEPS}
    first, *rest = (
        minimize(evidence, np.clip(each.theta, low, high), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        for each in (start, *others)
    )
    best = min(rest, key=lambda each: float(each.fun), default=first)
    best = best if best.fun < first.fun - _FAR_MORE else first
    return Kernel(np.clip(best.x, low, high), choices)


class Evidence:
    """The negative logarithm of how probable a kernel is, with its gradient.

    Lengths log l ~ N(log(.6√d), 1), noise log σ² ~ N(log .01, 2²), variance log a ~ N(0, .5²).

    Args:
        rows: Positions, an array (n, d).
        values: What was observed there, an array (n,).
        choices: Which dimensions are choices, an array (d,).
    """

    def __init__(self, rows: Array, values: Array, choices: Flags) -> None:
        self._rows, self._values, self._choices = rows, values, choices
        self._mean = Kernel.prior(choices).theta
        self._deviation = np.array([1.0] * len(choices) + [2.0, 0.5])

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """It, up to a constant, and its gradient, an array (d + 2,)."""
        from scipy.linalg import cho_solve, cholesky
        from scipy.linalg.lapack import dpotri

        kernel = Kernel(theta, self._choices)
        r = np.sqrt(5.0 * kernel.squares(self._rows, self._rows))
        decay = np.exp(-r)
        noiseless = kernel.amplitude * (1.0 + r + r * r / 3.0) * decay
        lower = cholesky(noiseless + kernel.noise * np.eye(len(r)), lower=True, check_finite=False)
        alpha = cho_solve((lower, True), self._values, check_finite=False)
        inverse = np.tril(dpotri(lower, lower=1)[0])
        inverse += np.tril(inverse, -1).T
        away = (theta - self._mean) / self._deviation
        value = 0.5 * self._values @ alpha + np.log(np.diag(lower)).sum() + 0.5 * away @ away
        w = inverse - np.outer(alpha, alpha)  # twice the derivative by K, equation 5.9
        c = w * (kernel.amplitude * (5.0 / 3.0) * (1.0 + r) * decay)
        gradient = np.append(
            self._by_lengths(c, kernel), [0.5 * kernel.noise * np.trace(w), 0.5 * (w * noiseless).sum()]
        )
        return float(value), gradient + away / self._deviation

    def _by_lengths(self, c: Array, kernel: Kernel) -> Array:
        """½ Σ C_ab (Δ_j/l_j)² for each dimension j, an array (d,)."""
        scaled = self._rows / kernel.lengths
        found = (scaled * scaled * c.sum(axis=1)[:, None]).sum(axis=0) - (scaled * (c @ scaled)).sum(axis=0)
        for j in np.flatnonzero(self._choices):
            column = self._rows[:, j]
            found[j] = 0.5 * c[column[:, None] != column[None, :]].sum() / kernel.lengths[j] ** 2
        return np.asarray(found)


class Posterior:
    """What a kernel makes of observations, and of points under way whose values will be as expected.

    Args:
        kernel: The kernel.
        rows: Positions, an array (n, d).
        values: What was observed there, an array (n,).
    """

    def __init__(self, kernel: Kernel, rows: Array, values: Array) -> None:
        from scipy.linalg import cho_solve, cholesky

        self._kernel, self._rows = kernel, rows
        covariance = kernel.between(rows, rows)
        covariance[np.diag_indices_from(covariance)] += kernel.noise
        self._lower = cholesky(covariance, lower=True, check_finite=False)
        self._alpha = cho_solve((self._lower, True), values, check_finite=False)
        self.means: Array = values - kernel.noise * self._alpha
        """Expected values at the observed positions, an array (n,)."""
        self._under_way: tuple[Array, Array, Array] | None = None  # positions, whitened covariances, Cholesky factor

    def with_under_way(self, rows: Array) -> Posterior:
        """The same with points under way at positions (p, d): the mean stays, the variance falls."""
        from scipy.linalg import cholesky

        found = copy(self)
        found._under_way = None
        if len(rows):
            whitened = self._whitened(self._kernel.between(self._rows, rows))
            covariance = self._kernel.between(rows, rows) - whitened.T @ whitened
            covariance[np.diag_indices_from(covariance)] += self._kernel.noise
            found._under_way = rows, whitened, cholesky(covariance, lower=True, check_finite=False)
        return found

    def __call__(self, rows: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, without the noise, at positions (m, d): arrays (m,)."""
        from scipy.linalg import solve_triangular

        covariance = self._kernel.between(self._rows, rows)
        whitened = self._whitened(covariance)
        variance = self._kernel.amplitude - (whitened * whitened).sum(axis=0)
        if self._under_way is not None:
            others, theirs, lower = self._under_way
            rest = self._kernel.between(others, rows) - theirs.T @ whitened
            rest = solve_triangular(lower, rest, lower=True, check_finite=False)
            variance -= (rest * rest).sum(axis=0)
        return covariance.T @ self._alpha, np.sqrt(np.maximum(variance, 1e-12 * self._kernel.amplitude))

    def _whitened(self, covariance: Array) -> Array:
        from scipy.linalg import solve_triangular

        return np.asarray(solve_triangular(self._lower, covariance, lower=True, check_finite=False))
