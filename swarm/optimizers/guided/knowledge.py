"""What a guided swarm has been told, as far as its model needs it, and the model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from swarm.optimizers.front import weighed
from swarm.optimizers.guided.losses import Warped, warped
from swarm.optimizers.guided.process import Kernel, Posterior, fit

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FITTED = 200  # points that a fit looks at, the best half of them and as many spread over the rest
_SHORTER = 5.0  # times as short as expected are the lengths where a fit may begin
_GROWTH = 0.08  # of what was told, from one fit to the next


class Knowledge:
    """Positions and losses that were told: if they are too many, the better and the latest of them.

    Args:
        choices: Which dimensions are choices, an array (d,).
        limit: Number of points that are kept; of more, the oldest goes that is neither in the best half nor in the
            latest.

    Attributes:
        told: How many were told.
        succeeded: How many of them did not fail.
        kernel: Of the last fit.
    """

    def __init__(self, choices: Flags, limit: int) -> None:
        self.told = self.succeeded = 0
        self.kernel = Kernel.prior(choices)
        self._limit = limit
        self._rows: Array = np.empty((0, len(choices)))  # in the order in which they came
        self._losses: Array = np.empty(0)
        self._targets: list[tuple[float, ...]] = []  # all losses of each, where there are several
        self._weights: Array | None = None  # of the targets, for the trial that is chosen next
        self._fitted = 0  # told by the last fit
        self._cached: tuple[int, Kernel, Posterior, Warped] | None = None

    @property
    def several(self) -> bool:
        """Whether several targets count."""
        return any(len(losses) > 1 for losses in self._targets)

    def weigh(self, rng: np.random.Generator) -> None:
        """Draw weights of the targets, if there are several: what is chosen next is chosen by them."""
        if self.several:
            width = max(map(len, self._targets))
            self._weights, self._cached = rng.dirichlet(np.ones(width)), None  # ~ uniform on the simplex

    @property
    def best(self) -> Array:
        """The best position, by the weights of the moment."""
        return np.asarray(self._rows[int(np.argmin(self._one_each()))])

    def _one_each(self) -> Array:
        """One loss for each position: as it was told, or by the weights of the moment."""
        if self._weights is None:
            return self._losses
        width = len(self._weights)
        table = [each if len(each) == width else (math.inf,) * width for each in self._targets]
        return weighed(np.array(table), self._weights)

    def tell(self, row: Array, loss: float, losses: tuple[float, ...] = ()) -> None:
        """Take in the loss at a position; +inf if it failed. Of several targets ``losses`` has them all."""
        self.told += 1
        self.succeeded += loss < math.inf
        self._rows, self._losses = np.vstack([self._rows, row]), np.append(self._losses, loss)
        self._targets.append(losses)
        n = len(self._losses)
        if n > self._limit:
            half = self._limit // 2
            wanted = np.arange(n) >= n - half
            wanted[np.argsort(self._losses, kind="stable")[:half]] = True
            oldest = int(np.argmin(wanted))
            self._rows, self._losses = np.delete(self._rows, oldest, axis=0), np.delete(self._losses, oldest)
            del self._targets[oldest]

    @property
    def is_due(self) -> bool:
        """Whether so much was told since the last fit that it is time for another."""
        return self.told - self._fitted >= max(1.0, _GROWTH * self.told)

    def fitted(self) -> Kernel:
        """The most probable kernel; changes nothing."""
        losses = self._one_each()
        values, order = warped(losses).values, np.argsort(losses, kind="stable")
        if len(order) > _FITTED:
            half = _FITTED // 2
            rest = np.linspace(half, len(order) - 1, _FITTED - half).round().astype(int)
            order = np.concatenate([order[:half], order[rest]])
        chosen = np.sort(order)
        other = Kernel.prior(self.kernel.choices)
        other = other.shorter(_SHORTER) if self.told % 2 else other  # in turn; each fit costs as much as ten questions
        return fit(self._rows[chosen], values[chosen], self.kernel, other)

    def take(self, kernel: Kernel) -> None:
        """Go on with a kernel that was fitted to all that has been told."""
        self.kernel, self._fitted = kernel, self.told

    def posterior(self, kernel: Kernel) -> tuple[Posterior, Warped]:
        """What the kernel makes of all that is known, and the losses that it took in."""
        if self._cached is None or self._cached[0] != self.told or self._cached[1] is not kernel:
            taken = warped(self._one_each())
            self._cached = self.told, kernel, Posterior(kernel, self._rows, taken.values), taken
        return self._cached[2], self._cached[3]

    def rows(self, indices: NDArray[np.int64]) -> Array:
        """Positions by their place among those that are kept."""
        return np.asarray(self._rows[indices])
