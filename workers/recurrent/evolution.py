"""Populations of weight vectors that improve without gradients: evolution strategy, genetic algorithm, swarm.

A population holds all its vectors in a few arrays: ``ask`` returns those to try, all at once, and ``tell`` takes their
losses. The arrays are all that there is to save. Sources: Bäck, Evolutionary algorithms in theory and practice (1996),
for the (μ+λ) evolution strategy with self-adaptation; Morse and Stanley, Simple evolutionary optimization can rival
stochastic gradient descent in neural networks (2016), for genetic algorithms on weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Losses = npt.NDArray[np.float64]
Rng = np.random.Generator
Draw = Callable[[int, Rng], Array]  # so many random vectors, (number, n)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the populations move; each takes what it needs.

    Attributes:
        population: Number of vectors of a generation (λ of the evolution strategy).
        parents: μ of the evolution strategy.
        step: Standard deviation of a mutation, at the beginning; the evolution strategy adapts it.
        mutation: Probability that a weight mutates, of the genetic algorithm.
        crossover: Probability that a child has two parents, of whom it takes each weight from either.
        elite: Number of the best that live on, of the genetic algorithm.
        inertia: w of the swarm.
        cognitive: c₁, the pull of a particle's own best.
        social: c₂, the pull of the swarm's best.
    """

    population: int = 50
    parents: int = 10
    step: float = 0.3
    mutation: float = 0.1
    crossover: float = 0.5
    elite: int = 1
    inertia: float = 0.7298
    cognitive: float = 1.49618
    social: float = 1.49618


class Evolution(ABC):
    """A population of vectors of n weights.

    Attributes:
        arrays: Its state, by name. ``best`` (n,) and ``best_loss`` () are the best vector so far and its loss.
        settings: How it moves.
        draw: Makes random vectors: the first generation, and what random search consists of.
    """

    def __init__(self, settings: Settings, draw: Draw, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        self.settings, self.draw = settings, draw
        self.arrays: dict[str, npt.NDArray[Any]] = dict(arrays or {})

    def ask(self, rng: Rng) -> Array:
        """The vectors to try next, (population, n)."""
        return self._moved(rng) if "best" in self.arrays else self.draw(self.settings.population, rng)

    def tell(self, vectors: Array, losses: Losses) -> None:
        """Takes the losses of the vectors that were asked for; NaN counts as +inf."""
        losses = np.where(np.isnan(losses), np.inf, losses)
        first = "best" not in self.arrays
        winner = int(np.argmin(losses))
        if first or losses[winner] < self.loss:
            self.arrays |= {"best": vectors[winner].copy(), "best_loss": np.array(losses[winner])}
        self._take(vectors, losses, first)

    @property
    def best(self) -> Array:
        """The best vector so far, (n,)."""
        return self.arrays["best"]

    @property
    def loss(self) -> float:
        """Its loss."""
        return float(self.arrays["best_loss"])

    @abstractmethod
    def _moved(self, rng: Rng) -> Array:
        """The next generation."""

    @abstractmethod
    def _take(self, vectors: Array, losses: Losses, first: bool) -> None:
        """Take in a generation; ``first`` is the one that was drawn at random."""


class RandomTraining(Evolution):
    """The best of random vectors: the baseline of DLOPT."""

    name: ClassVar[str] = "random"

    def _moved(self, rng: Rng) -> Array:
        return self.draw(self.settings.population, rng)

    def _take(self, vectors: Array, losses: Losses, first: bool) -> None:
        pass


class EvolutionStrategy(Evolution):
    """(μ+λ): the best of parents and children live on. Each has a step size of its own, inherited with variation.

    σ' = σ exp(τ N(0, 1)), θ' = θ + s σ' N(0, I), with τ = 1/√(2n); s is the setting ``step``, and σ is 1 at first.
    """

    name: ClassVar[str] = "es"

    def _moved(self, rng: Rng) -> Array:
        parents, sigmas = self.arrays["parents"], self.arrays["sigmas"]
        size, n = self.settings.population, parents.shape[1]
        chosen = rng.integers(len(parents), size=size)
        tau = 1 / math.sqrt(2 * n)
        children_sigmas = sigmas[chosen] * np.exp(tau * rng.standard_normal(size))
        self.arrays["children_sigmas"] = children_sigmas
        moves = rng.standard_normal((size, n), dtype=np.float32)
        moves *= (self.settings.step * children_sigmas[:, np.newaxis]).astype(np.float32)
        moves += parents[chosen]
        return moves

    def _take(self, vectors: Array, losses: Losses, first: bool) -> None:
        sigmas = np.ones(len(vectors)) if first else self.arrays.pop("children_sigmas")
        if not first:
            vectors = np.concatenate([self.arrays["parents"], vectors])
            losses = np.concatenate([self.arrays["losses"], losses])
            sigmas = np.concatenate([self.arrays["sigmas"], sigmas])
        kept = np.argsort(losses, kind="stable")[: self.settings.parents]
        self.arrays |= {"parents": vectors[kept], "losses": losses[kept], "sigmas": sigmas[kept]}


class Genetic(Evolution):
    """A generation of children replaces the one before, but for its elite; parents win binary tournaments."""

    name: ClassVar[str] = "ga"

    def _moved(self, rng: Rng) -> Array:
        adults, s = self.arrays["adults"], self.settings
        size, n = s.population, adults.shape[1]
        one, other = self._winners(size, rng), self._winners(size, rng)
        mixed = (rng.random(size, dtype=np.float32) < s.crossover)[:, np.newaxis] & (rng.random((size, n)) < 0.5)
        children = np.where(mixed, adults[other], adults[one])
        mutates = rng.random((size, n), dtype=np.float32) < s.mutation
        children += np.float32(s.step) * rng.standard_normal((size, n), dtype=np.float32) * mutates
        return children

    def _winners(self, size: int, rng: Rng) -> npt.NDArray[np.intp]:
        """Indices of the winners of as many binary tournaments; adults are sorted, so the lower index wins."""
        pairs: npt.NDArray[np.intp] = rng.integers(len(self.arrays["adults"]), size=(size, 2))
        return np.minimum(pairs[:, 0], pairs[:, 1])

    def _take(self, vectors: Array, losses: Losses, first: bool) -> None:
        if not first:
            elite = self.settings.elite
            vectors = np.concatenate([self.arrays["adults"][:elite], vectors])
            losses = np.concatenate([self.arrays["losses"][:elite], losses])
        kept = np.argsort(losses, kind="stable")[: self.settings.population]
        self.arrays |= {"adults": vectors[kept], "losses": losses[kept]}


class Swarm(Evolution):
    """Particles: v' = w v + c₁ r₁ (own best - x) + c₂ r₂ (swarm's best - x), x' = x + v'; they begin at rest."""

    name: ClassVar[str] = "pso"

    def _moved(self, rng: Rng) -> Array:
        s, x, v = self.settings, self.arrays["positions"], self.arrays["velocities"]
        r1, r2 = (rng.random(x.shape, dtype=np.float32) for _ in range(2))  # ~ U[0, 1)
        v = np.float32(s.inertia) * v
        v += np.float32(s.cognitive) * r1 * (self.arrays["own"] - x)
        v += np.float32(s.social) * r2 * (self.best - x)
        self.arrays["velocities"] = v
        moved: Array = x + v
        return moved

    def _take(self, vectors: Array, losses: Losses, first: bool) -> None:
        self.arrays["positions"] = vectors
        if first:
            zeros = np.zeros_like(vectors)
            self.arrays |= {"velocities": zeros, "own": vectors.copy(), "own_losses": losses}
            return
        better = losses < self.arrays["own_losses"]
        self.arrays["own"] = np.where(better[:, np.newaxis], vectors, self.arrays["own"])
        self.arrays["own_losses"] = np.where(better, losses, self.arrays["own_losses"])


METHODS: dict[str, type[Evolution]] = {
    "es": EvolutionStrategy,
    "pso": Swarm,
    "ga": Genetic,
    "random": RandomTraining,
}
"""Methods by name."""
