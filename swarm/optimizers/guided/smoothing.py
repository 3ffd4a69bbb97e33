"""Losses without their noise: what those of similar configurations make of them.

Source: Branke, Schmidt and Schmeck, Efficient Fitness Estimation in Noisy Environments, GECCO 2001: in an evolution an
individual's neighbours, which were evaluated as well, say more of its fitness than another evaluation would. Their
local regression is a Gaussian process here (Rasmussen and Williams, 2006, equations 2.25 and 2.30), of one length for
all dimensions; length and noise are the most probable of a few.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from swarm.manners.one_thread import one_thread
from swarm.optimizers.guided.losses import warped
from swarm.optimizers.guided.process import Kernel, Posterior
from swarm.optimizers.targets import Losses
from swarm.trial import Trial

Array = NDArray[np.float64]

LENGTHS = (0.1, 0.2, 0.4, 0.8)  # of the cube's diagonal
NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)  # variances of the noise, that of the losses without it is 1
_LOOKED_AT = 100  # points, for length and noise: the latest
_DIGITS = 9  # of an estimate that count: the others depend on the machine


class Smoothing:
    """The latest trials of a run, and their losses as the model sees them.

    Args:
        choices: Which dimensions are choices, an array (d,).
        limit: Number of trials that are kept.
    """

    def __init__(self, choices: NDArray[np.bool_], limit: int) -> None:
        self._choices = choices
        self._told: deque[tuple[Array, Losses, Trial]] = deque(maxlen=limit)

    def tell(self, row: Array, losses: Losses, trial: Trial) -> None:
        """Take in a trial at a position (d,), and its losses: for each target one, or +inf alone if it failed."""
        self._told.append((row, losses, trial))

    def estimates(self) -> list[tuple[Losses, Trial]]:
        """Every trial with its losses as the model sees them; those that failed have +inf alone."""
        good = [each for each in self._told if each[1][0] < math.inf]
        failed = [(losses, trial) for _, losses, trial in self._told if losses[0] == math.inf]
        if not good:
            return failed
        rows = np.array([row for row, _, _ in good])
        with one_thread():
            columns = [self._smoothed(rows, np.array(each)) for each in zip(*(g[1] for g in good), strict=True)]
        return [*zip(zip(*columns, strict=True), (trial for _, _, trial in good), strict=True), *failed]

    def _smoothed(self, rows: Array, losses: Array) -> list[float]:
        taken = warped(losses)
        kernel = min(self._kernels(), key=lambda each: _unlikely(each, rows[-_LOOKED_AT:], taken.values[-_LOOKED_AT:]))
        means = Posterior(kernel, rows, taken.values).means
        return [taken.loss(round(float(mean), _DIGITS)) for mean in means]

    def _kernels(self) -> Iterator[Kernel]:
        d = len(self._choices)
        for length, noise in product(LENGTHS, NOISES):
            yield Kernel(np.log([length * math.sqrt(d)] * d + [noise, 1.0]), self._choices)


def _unlikely(kernel: Kernel, rows: Array, values: Sequence[float] | Array) -> float:
    """The negative logarithm of the probability of what was observed, up to a constant (equation 2.30)."""
    from scipy.linalg import cho_solve, cholesky

    covariance = kernel.between(rows, rows)
    covariance[np.diag_indices_from(covariance)] += kernel.noise
    lower = cholesky(covariance, lower=True, check_finite=False)
    return float(0.5 * values @ cho_solve((lower, True), values) + np.log(np.diag(lower)).sum())
