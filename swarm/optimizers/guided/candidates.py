"""Where a particle may go next: moves of the swarm, changes of what is good, and anywhere.

Source: Kennedy and Eberhart, Particle Swarm Optimization, 1995, with the constants of Clerc and Kennedy, IEEE Trans.
Evol. Comput. 6 (2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swarm.space.snapping import Snapping

Array = NDArray[np.float64]

INERTIA, PULL = 0.7298, 1.49618
_NARROW, _WIDE, _LEAST_WIDE = 0.01, 0.4, 0.05  # standard deviations of a change, in the cube


@dataclass(frozen=True)
class Particle:
    """A particle that is to move.

    Attributes:
        position: Where it is, an array (d,).
        velocity: Its velocity per move, an array (d,).
        best: Its own best position; None while it has none.
    """

    position: Array
    velocity: Array
    best: Array | None


def moves(particle: Particle, swarm: Array, others: Array, number: int, rng: np.random.Generator) -> Array:
    """Positions of a particle after a move, an array (number, d), each with random numbers of its own.

    Args:
        particle: The particle.
        swarm: The swarm's best position, an array (d,).
        others: The particles' own bests, an array (b, d): half of the moves are drawn to one of these instead.
        number: How many.
        rng: Random numbers.
    """
    x, d = particle.position, len(particle.position)
    own, social = rng.random((number, d)), rng.random((number, d))  # ~ U(0, 1)
    informant = others[rng.integers(len(others), size=number)]
    informant = np.where(rng.random(number)[:, None] < 0.5, swarm, informant)
    pull = 0.0 if particle.best is None else own * (particle.best - x)
    return reflected(x + INERTIA * particle.velocity + PULL * (pull + social * (informant - x)))


def near(centres: Array, number: int, told: int, snapping: Snapping, rng: np.random.Generator) -> Array:
    """Changes of good positions (c, d), an array (number, d): narrow and wide ones, less wide the more was told."""
    wide = max(_LEAST_WIDE, _WIDE * (10 / max(10, told)) ** 0.25)
    scales = np.exp(rng.uniform(np.log(_NARROW), np.log(wide), size=(number, 1)))
    chance = max(2 / centres.shape[1], 0.3)
    return changed(centres[rng.integers(len(centres), size=number)], scales, chance, snapping, rng)


def changed(rows: Array, scales: Array | float, chance: float, snapping: Snapping, rng: np.random.Generator) -> Array:
    """The rows, an array (m, d), each changed in some dimensions, at least in one.

    Args:
        rows: Positions.
        scales: Standard deviations of the change, one or an array (m, 1); whole numbers change by a step at least,
            choices are drawn again.
        chance: Of each dimension to change.
        snapping: Says what the dimensions are.
        rng: Random numbers.
    """
    m, d = rows.shape
    change = rng.random((m, d)) < chance
    change[np.arange(m), rng.integers(d, size=m)] = True
    step = scales * rng.standard_normal((m, d))
    step = np.copysign(np.maximum(np.abs(step), snapping.steps), step)
    found = reflected(rows + step)
    found[:, snapping.choices] = rng.random((m, int(snapping.choices.sum())))
    return np.where(change, found, rows)


def reflected(rows: Array) -> Array:
    """Positions after they have bounced off the walls of the unit cube."""
    way = np.mod(rows, 2.0)  # 0 → 1 is there, 1 → 2 is back
    return np.asarray(np.minimum(way, 2.0 - way))
