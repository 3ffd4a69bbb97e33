"""Positions moved to where the configurations that they stand for are encoded, many at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.space import Space
from swarm.space.values import is_same

Array = NDArray[np.float64]
_WHOLE = 2.0**52  # floats from here on are whole numbers


class Snapping:
    """``space.encode(space.decode(u))`` for the rows of an array, to the last bit; constraints are not asked.

    Two positions of the same configuration are the same row afterwards: a parameter that does not belong to it lies
    where its default is, or the middle.

    Args:
        space: The space.

    Attributes:
        choices: Which dimensions are choices, an array (d,).
        steps: Distance of each number to the next, an array (d,), 0 where there is none, or not everywhere the same.
    """

    def __init__(self, space: Space) -> None:
        self._domains: list[Any] = [space.domains[name] for name in space.names]
        self._conditions = _conditions(space)
        self._absent = np.array([_absent(domain) for domain in self._domains])
        self.choices = np.array([isinstance(domain, Choice) for domain in self._domains])
        self.steps = np.array([domain.spacing for domain in self._domains])

    def __call__(self, rows: Array) -> Array:
        """The rows, an array (m, d), where their configurations are."""
        columns = [_snapped(domain, column) for domain, column in zip(self._domains, rows.T, strict=True)]
        found = np.stack(columns, axis=1)
        if not self._conditions:
            return found
        there = np.ones(found.shape, dtype=bool)
        for j, conditions in self._conditions.items():
            for other, positions in conditions:
                there[:, j] &= there[:, other] & np.isin(found[:, other], positions) if other >= 0 else False
        return np.where(there, found, self._absent)

    def anywhere(self, rng: np.random.Generator, number: int) -> Array:
        """Random rows, an array (m, d): whole numbers and options equally likely, real numbers uniform in position."""
        return self(np.stack([_anywhere(domain, rng, number) for domain in self._domains], axis=1))


def _conditions(space: Space) -> dict[int, list[tuple[int, list[float]]]]:
    """Of each dimension with conditions: dimensions and positions there with which it is there; −1 with none."""
    place = {name: j for j, name in enumerate(space.names)}
    found: dict[int, list[tuple[int, list[float]]]] = {}
    for name, conditions in space.conditions.items():
        mine = found.setdefault(place[name], [])
        for other, values in conditions.items():
            domain = space.domains[other]
            if isinstance(domain, Domain):
                mine.append((place[other], [domain.encode(value) for value in values]))
            elif not any(is_same(domain, value) for value in values):
                mine.append((-1, []))
    return dict(sorted(found.items()))


def _absent(domain: Any) -> float:
    """Where a parameter lies that does not belong to a configuration."""
    return float(domain.encode(domain.default if domain.has_default else domain.decode(0.5)))


def _anywhere(domain: Any, rng: np.random.Generator, number: int) -> Array:
    if isinstance(domain, Choice):
        return (rng.integers(domain.size, size=number) + 0.5) / domain.size
    if domain.spacing:
        return np.asarray(rng.integers(domain.size, size=number) / (domain.size - 1))
    return rng.random(number)


def _snapped(domain: Any, u: Array) -> Array:
    """``encode(decode(u))`` of one domain, with its own operations in their order, so that no bit differs."""
    low, high = domain.ends
    numbers = np.where(u >= 1.0, high, low + np.maximum(u, 0.0) * (high - low))
    if (isinstance(domain, Integer) and domain.log) or getattr(domain, "step", None) is not None:
        return np.array([domain.encode(domain.decode(each)) for each in u.tolist()])
    if isinstance(domain, Integer):
        whole = np.where(np.abs(numbers) >= _WHOLE, np.trunc(numbers), np.floor(numbers + 0.5))
        return np.asarray((whole - low) / (high - low))
    if isinstance(domain, Choice):
        index = np.minimum(np.trunc(numbers), domain.size - 1)
        return np.asarray((index + 0.5 - low) / (high - low))
    if domain.log or domain.digits is not None:
        return np.asarray((_encoded(domain, numbers.tolist()) - low) / (high - low))
    return np.asarray((np.clip(numbers, domain.low, domain.high) + 0.0 - low) / (high - low))


def _encoded(domain: Real, numbers: list[float]) -> Array:
    """Numbers that stand for the values at others, which are logarithms or rounded; NumPy's logarithm is another."""
    low, high = domain.ends
    values = (
        domain.low if x <= low else domain.high if x >= high else domain.nearest(math.exp(x) if domain.log else x)
        for x in numbers
    )
    return np.array([math.log(value) for value in values] if domain.log else list(values))
