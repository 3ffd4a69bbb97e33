"""Positions whose configurations a constraint refuses, and what is tried instead."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from swarm.plain import canonical
from swarm.space.base import Domain
from swarm.space.constraint import Constraint
from swarm.space.domain import Choice
from swarm.trial import Value

Array = NDArray[np.float64]

_TRIES = 300
_NARROW = 0.01  # standard deviation of the first changes, in the cube; that of the last is 1


class Constrained(Protocol):
    """What is asked of a space."""

    @property
    def domains(self) -> Mapping[str, Domain | Value]:
        """Every parameter with its domain or fixed value, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the searched parameters."""

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What configurations have to satisfy."""

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Whether the constraints do."""

    def completed(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """A value for every parameter."""

    def unconstrained(self, vector: Any) -> dict[str, Value]:
        """The configuration at a position, whatever the constraints say."""

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random configuration."""


def repaired(space: Constrained, position: Array) -> dict[str, Value]:
    """A configuration near to a position, at which a constraint refuses what is there; a random one if none is near.

    It is the same for all positions of what is there, in every process. Only the parameters change that the constraints
    are about, at first a little, then more.

    Args:
        space: The space.
        position: The position, an array (d,).
    """
    refused = space.unconstrained(position)
    rng = np.random.Generator(np.random.PCG64(int(hashlib.sha256(canonical(refused).encode()).hexdigest()[:16], 16)))
    domains, whole = [space.domains[name] for name in space.names], space.completed(refused)
    start = np.array([d.encode(whole[n]) for n, d in zip(space.names, domains, strict=True) if isinstance(d, Domain)])
    choices, concerned, d = np.array([isinstance(each, Choice) for each in domains]), _concerned(space), len(domains)
    for turn in range(_TRIES):
        deviation = _NARROW ** (1 - turn / (_TRIES - 1))
        change = concerned & (rng.random(d) < 0.5)
        near, fresh = start + rng.normal(0.0, deviation, size=d), rng.random(d)  # ~ N(0, σ²), U(0, 1)
        params = space.unconstrained(np.where(change, np.where(choices, fresh, np.clip(near, 0.0, 1.0)), start))
        if space.allows(params):
            return params
    return space.sample(rng)


def _concerned(space: Constrained) -> NDArray[np.bool_]:
    """Dimensions that the constraints are about, an array (d,); all if nobody knows."""
    about = [each.names for each in space.constraints]
    if None in about or not (names := frozenset[str]().union(*(each for each in about if each)) & {*space.names}):
        return np.ones(len(space.names), dtype=bool)
    return np.array([name in names for name in space.names])
