"""The choice of one candidate among many, of which the best are refined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from swarm.optimizers.guided.acquisition import Worth
from swarm.optimizers.guided.candidates import changed
from swarm.optimizers.guided.process import Posterior
from swarm.space.snapping import Snapping

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

REFINED = ", refined"
"""Ends the name of a move that was changed for a better one."""
_REFINED, _AROUND = 3, 16  # best candidates, and changes of each
_SCALE, _NARROWER = 0.05, 0.3  # of the changes at first, and its factor from one time to the next


class Chooser:
    """Candidates, and what the model makes of them.

    Args:
        posterior: The model, which knows what is under way.
        worth: What a candidate is worth.
        snapping: Moves candidates to where their configurations are.
        rng: Random numbers.
    """

    def __init__(self, posterior: Posterior, worth: Worth, snapping: Snapping, rng: np.random.Generator) -> None:
        self._posterior, self._worth, self._snapping, self._rng = posterior, worth, snapping, rng
        self._rows: Array = np.empty((0, len(snapping.choices)))
        self._means: Array = np.empty(0)
        self._deviations: Array = np.empty(0)
        self._worths: Array = np.empty(0)
        self._moves: list[str] = []

    def add(self, move: str, rows: Array) -> None:
        """Add candidates that are moves of a kind, positions (m, d)."""
        self._add([move] * len(rows), rows)

    def _add(self, moves: list[str], rows: Array) -> None:
        if len(rows):
            rows = self._snapping(rows)
            means, deviations = self._posterior(rows)
            self._rows = np.vstack([self._rows, rows])
            self._means, self._deviations = np.append(self._means, means), np.append(self._deviations, deviations)
            self._worths = np.append(self._worths, self._worth(means, deviations))
            self._moves += moves

    def refine(self, times: int) -> None:
        """Change the best candidates a little, and from one time to the next less; better ones take their places."""
        d = self._rows.shape[1]
        chance = max(1.5 / d, 0.25)
        for turn in range(times):
            best = np.argsort(-self._worths, kind="stable")[:_REFINED]
            around = np.repeat(self._rows[best], _AROUND, axis=0)
            scale = _SCALE * _NARROWER**turn
            origins = [self._moves[i].removesuffix(REFINED) + REFINED for i in best.tolist() for _ in range(_AROUND)]
            self._add(origins, changed(around, scale, chance, self._snapping, self._rng))

    def best(self, allowed: Callable[[Array], Flags]) -> tuple[Array, str, float, float] | None:
        """The best candidate that is allowed, what move it is, its mean and standard deviation; None if none is.

        Args:
            allowed: Which of positions (m, d) are.
        """
        fit = np.flatnonzero(allowed(self._rows))
        if not len(fit):
            return None
        i = int(fit[np.argmax(self._worths[fit])])
        return self._rows[i], self._moves[i], float(self._means[i]), float(self._deviations[i])
