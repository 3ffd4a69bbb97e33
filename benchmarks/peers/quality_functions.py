"""What benchmarks/peers/quality.py minimises, and how it keeps account of the evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.digits_table import DigitsTable
from swarm.space import Integer, Real, Space
from swarm.trial import Params

Array = NDArray[np.float64]
Objective = Callable[[Params, float], float]  # loss of a configuration at a share of the full budget

DRIFT, NOISE = 0.1, 0.3  # of the smallest budgets, on the analytic functions

SPACE_2 = Space({"x": Real(-5, 5), "rate": Real(1e-4, 1e-1, log=True)})
SPACE_5 = Space(
    {"x": Real(-5, 5), "y": Real(0, 1), "n": Integer(1, 32), "m": Integer(1, 9), "rate": Real(1e-4, 1e-1, log=True)}
)


def sphere(z: Array) -> float:
    return float(z @ z)


def rosenbrock(z: Array) -> float:
    x = z + 1.0  # its optimum is at (1, …, 1)
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def rastrigin(z: Array) -> float:
    return float(np.sum(z * z - 10.0 * np.cos(2.0 * math.pi * z) + 10.0))


def ackley(z: Array) -> float:
    spread, waves = math.sqrt(float(np.mean(z * z))), float(np.mean(np.cos(2.0 * math.pi * z)))
    return max(0.0, 20.0 + math.e - 20.0 * math.exp(-0.2 * spread) - math.exp(waves))


@dataclass(frozen=True)
class Function:
    """Something to minimise.

    Attributes:
        name: For tables.
        space: What is searched.
        budgets: Those of the methods with smaller budgets, in ascending order; the last is the full one.
        objective: Makes the loss function of a seed.
        lowest: The best loss that is known.
    """

    name: str
    space: Space
    budgets: Sequence[int]
    objective: Callable[[int], Objective]
    lowest: float = 0.0


def analytic(shape: Callable[[Array], float], width: float, space: Space, seed: int) -> Objective:
    """A function over the unit cube, ``width`` wide, its optimum where the seed puts it (for integers: on one)."""
    rng = np.random.default_rng([seed, space.dimensions])  # a stream that no method draws from
    optimum = space.encode(space.decode(rng.uniform(0.15, 0.85, space.dimensions)))
    drift = rng.uniform(-DRIFT, DRIFT, space.dimensions)

    def loss(params: Params, share: float) -> float:
        u = space.encode(params)
        if share == 1:
            return shape(width * (u - optimum))
        place = [seed, round(1 / share), *np.frombuffer(u.tobytes(), np.uint32)]  # the same again at the same budget
        noise = NOISE * (1 - share) * np.random.default_rng(place).standard_normal()
        return shape(width * (u - optimum - drift * (1 - share))) * math.exp(noise)

    return loss


def functions() -> list[Function]:
    """The analytic functions, and the table of digits.

    Raises:
        FileNotFoundError: The table has not been made: run benchmarks/peers/digits_table.py.
    """
    shapes = ((sphere, 10.0), (rosenbrock, 4.0), (rastrigin, 10.24), (ackley, 40.0))
    found = [
        Function(f"{shape.__name__} {space.dimensions}-D", space, (1, 3, 9), partial(analytic, shape, width, space))
        for space in (SPACE_2, SPACE_5)
        for shape, width in shapes
    ]
    table = DigitsTable.load()

    def look_up(params: Params, share: float) -> float:
        return table.loss(params, first=share < 1)

    return [*found, Function("digits", table.space, (1, table.epochs), lambda _: look_up, table.lowest)]


class Spent(Exception):
    """The evaluations are used up."""


class Record:
    """A loss function that keeps account: cost so far, and the best so far at the full budget.

    Args:
        objective: What to minimise.
        most: Evaluations (of the full budget) that may be spent.
    """

    def __init__(self, objective: Objective, most: float) -> None:
        self.steps: list[tuple[float, float, float]] = []  # cost, time, best
        self._objective, self._most = objective, most
        self._cost, self._best = 0.0, math.inf

    def __call__(self, params: Params, share: float = 1.0, when: float = 0.0) -> float:
        """The loss of a configuration.

        Raises:
            Spent: It would cost more than there is.
        """
        if self._cost + share > self._most + 1e-9:
            raise Spent
        loss = self._objective(params, share)
        self._cost += share
        if share == 1:
            self._best = min(self._best, loss)
        self.steps.append((self._cost, when, self._best))
        return loss

    @property
    def evaluations(self) -> int:
        """How many were made, of any budget."""
        return len(self.steps)

    def curve(self, number: int) -> Array:
        """Best after 1 … number evaluations; inf while there is none at the full budget."""
        costs, _, bests = np.array(self.steps).T
        ends = np.searchsorted(costs, np.arange(1, number + 1) + 1e-9, side="right")
        return np.where(ends > 0, bests[np.maximum(ends - 1, 0)], math.inf)

    def at(self, when: float) -> float:
        """Best at a time."""
        return min((best for _, time_, best in self.steps if time_ <= when), default=math.inf)
