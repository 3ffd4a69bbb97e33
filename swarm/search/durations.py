"""How long trainings take, learned from those that have ended: the longest of a generation should start first."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from swarm.space.space import Choice, Space
from swarm.trial import Params

_RIDGE = 1e-2
_SHORTEST = 1e-6  # seconds
_LATEST = 1000  # trainings


class Durations:
    """Ridge regression of log seconds on the position in the unit cube and its squares.

    A network's cost is close to a product of powers of its sizes, so its logarithm is close to linear. Only the
    normal equations are kept, (2·d + 2)² numbers: memory and time do not grow with the trainings.

    Args:
        space: The search space whose configurations are trained.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._numeric = [i for i, name in enumerate(space.names) if not isinstance(space.domains[name], Choice)]
        size = 2 * space.dimensions + 2
        self._gram: NDArray[np.float64] = _RIDGE * np.eye(size)
        self._gram[0, 0] = 1e-9  # the mean is not shrunk
        self._moment: NDArray[np.float64] = np.zeros(size)
        self._weights: NDArray[np.float64] | None = None
        self._latest: deque[tuple[Params, float | None, float]] = deque(maxlen=_LATEST)  # and not learned from yet
        self.learned = 0

    def learn(self, params: Params, budget: float | None, seconds: float) -> None:
        """Take in that training ``params`` up to ``budget`` took so many seconds.

        It costs nothing until somebody asks; of more than 1,000 trainings since the last question, the latest count.
        """
        self._latest.append((params, budget, seconds))
        self.learned += 1

    def _solve(self) -> NDArray[np.float64]:
        """The weights of the features, by all that was learned."""
        if self._weights is None or self._latest:
            for params, budget, seconds in self._latest:
                features = self._features(params, budget)
                self._gram += np.outer(features, features)
                self._moment += features * math.log(max(seconds, _SHORTEST))
            self._latest.clear()
            self._weights = np.asarray(np.linalg.solve(self._gram, self._moment), dtype=np.float64)
        return self._weights

    def expected(self, params: Params, budget: float | None = None) -> float:
        """Expected seconds of a training.

        As long as nothing was learned, what has larger numbers is taken to take longer, as more filters, units or
        layers do; where that is wrong, the order is as good as any other.
        """
        if not self.learned:
            sizes = self._space.encode(params)[self._numeric]
            return math.exp(float(sizes.mean())) * (budget or 1.0) if len(sizes) else 1.0
        log_seconds = float(np.dot(self._features(params, budget), self._solve()))
        return math.exp(min(max(log_seconds, -14.0), 18.0))  # an extrapolation may be absurd

    def _features(self, params: Params, budget: float | None) -> NDArray[np.float64]:
        position = self._space.encode(params)
        return np.concatenate([[1.0, math.log(max(budget or 1.0, _SHORTEST))], position, position**2])
