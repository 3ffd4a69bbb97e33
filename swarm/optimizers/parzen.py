"""The adaptive Parzen estimator: kernels as wide as the gaps between what was seen. The model of TPE.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011; Watanabe, Tree-Structured Parzen
Estimator, arXiv:2304.11127 (2023); constants as Optuna 5 has them, multivariate, with the constant liar.

A *point* is an array (d,): the position in the unit cube, but the number of the option in dimensions that are choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from swarm.space.base import Domain
from swarm.space.domain import Choice
from swarm.space.space import Space
from swarm.trial import Params, Trial

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

PRIOR = 1.0
"""Weight of the kernel that covers everything; an observation has 1 at most."""
_LATEST = 25  # observations that weigh 1
_MOST_GOOD = 25
_LIMIT = 1000  # observations per budget
_TINY = 1e-300
_SOBOL = 21_201  # dimensions that the sequence has


@dataclass(frozen=True, slots=True)
class Axes:
    """What the dimensions of a space are.

    Attributes:
        options: Array (d,): number of options of a choice, and 0 elsewhere.
        half: Array (d,): half a step of whole numbers, or of numbers in steps, in the unit cube, and 0 elsewhere, as on
            a log scale. Its values have the range [−half, 1 + half].
    """

    options: Integers
    half: Array

    @classmethod
    def of(cls, space: Space) -> Self:
        """The dimensions of a space."""
        domains = [space.domains[name] for name in space.names]
        options = [domain.size if isinstance(domain, Choice) else 0 for domain in domains]
        half = [domain.spacing / 2 if isinstance(domain, Domain) else 0.0 for domain in domains]
        return cls(np.array(options), np.array(half))


@dataclass(frozen=True, slots=True)
class Mixture:
    """A weighted sum of products of one kernel per dimension: one product for each of n points, and one for the prior.

    Attributes:
        points: Array (n, d), in the order in which they came.
        weights: Array (n + 1,), which sums to 1; the last is the prior's.
        widths: Array (n + 1, d): standard deviations of the normal kernels of numbers.
        axes: The dimensions.
    """

    points: Array
    weights: Array
    widths: Array
    axes: Axes

    @classmethod
    def fit(cls, points: Array, axes: Axes) -> Self:
        """The estimate from points (n, d) in the order in which they came; none leave the prior alone."""
        weights = np.append(recency(len(points)), PRIOR)
        widths = np.column_stack([gaps(x, half) for x, half in zip(points.T, axes.half, strict=True)])
        return cls(points, weights / weights.sum(), widths, axes)

    def log(self, x: Array) -> Array:
        """Logarithms of the densities at points (m, d), an array (m,); of integers and options, of their masses."""
        logs = np.tile(np.log(self.weights), (len(x), 1))
        for j, at in enumerate(x.T):
            logs += self._log_choice(j, at) if self.axes.options[j] else self._log_number(j, at)
        top = logs.max(axis=1)
        total: Array = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
        return total

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Points (size, d) of the estimate."""
        kernels = rng.choice(len(self.weights), size=size, p=self.weights)
        draws = rng.random((size, self.points.shape[1]))
        columns = [
            (self._drawn_choice if self.axes.options[j] else self._drawn_number)(j, kernels, u)
            for j, u in enumerate(draws.T)
        ]
        return np.column_stack(columns)

    def _log_number(self, j: int, at: Array) -> Array:
        """Logarithms (m, n + 1) of truncated normal kernels; of integers the mass of half a step to either side."""
        from scipy.special import ndtr

        half, mean, sd = self.axes.half[j], np.append(self.points[:, j], 0.5), self.widths[:, j]
        whole = ndtr((1 + half - mean) / sd) - ndtr((-half - mean) / sd)
        distance = np.abs(at[:, None] - mean) / sd
        if half:
            step = half / sd
            mass = ndtr(step - distance) - ndtr(-step - distance)  # in the lower tail, where differences are exact
            found: Array = np.log(np.maximum(mass, _TINY) / whole)
            return found
        density: Array = -0.5 * distance**2 - np.log(math.sqrt(2 * math.pi) * sd * whole)
        return density

    def _log_choice(self, j: int, at: Array) -> Array:
        """Logarithms (m, n + 1) of the chance of an option, which is larger where it was seen."""
        logs: Array = np.log(self._chances(j)).T[at.astype(int)]
        return logs

    def _chances(self, j: int) -> Array:
        """Chances (n + 1, c) of the options."""
        n, c = len(self.points), int(self.axes.options[j])
        share = PRIOR / (n + 1)
        chances = np.full((n + 1, c), share)
        chances[np.arange(n), self.points[:, j].astype(int)] += 1
        chances[n] = 1 / c
        chances[:n] /= 1 + c * share
        return np.asarray(chances)

    def _drawn_number(self, j: int, kernels: Integers, u: Array) -> Array:
        """Numbers ~ N(mean, width²) within the range, by the inverse of their distribution; integers are rounded."""
        from scipy.special import ndtr, ndtri

        half, mean, sd = self.axes.half[j], np.append(self.points[:, j], 0.5)[kernels], self.widths[kernels, j]
        low, high = ndtr((-half - mean) / sd), ndtr((1 + half - mean) / sd)
        x = mean + sd * ndtri(low + u * (high - low))
        if half:
            x = np.floor(x / (2 * half) + 0.5) * 2 * half
        inside: Array = np.clip(x, 0.0, 1.0)
        return inside

    def _drawn_choice(self, j: int, kernels: Integers, u: Array) -> Array:
        cumulative = self._chances(j)[kernels].cumsum(axis=1)
        chosen = (u[:, None] > cumulative).sum(axis=1)
        return np.asarray(np.minimum(chosen, self.axes.options[j] - 1), dtype=float)


def recency(n: int) -> Array:
    """Weights of n observations in the order in which they came: 1 for the latest 25, down to 1/n for the first."""
    return np.concatenate([np.linspace(1 / n, 1, n - _LATEST), np.ones(_LATEST)]) if n > _LATEST else np.ones(n)


def gaps(x: Array, half: float) -> Array:
    """Widths (n + 1,) of the kernels at positions (n,) of one dimension, and of the prior.

    Each is the larger of the gaps to its two neighbours. The first and the last have one neighbour, whose gap counts
    alone: that to the end of the range does not, or what gathers at its ends would have kernels as wide as the rest is
    empty. A single position has the larger gap to the ends. The prior's width is the whole range.
    """
    whole, n = 1 + 2 * half, len(x)
    order = np.argsort(x, kind="stable")
    steps = np.diff(np.concatenate([[-half], x[order], [1 + half]]))
    if n > 1:
        steps[[0, -1]] = 0.0
    widths = np.empty(n + 1)
    widths[order] = np.clip(np.maximum(steps[:-1], steps[1:]), whole / min(100, n + 2), whole)
    widths[n] = whole
    return widths


class Told:
    """Points and losses at one budget, and the points under way.

    At most 1000 are kept: of more, the oldest that is not good is dropped.
    """

    def __init__(self, dimensions: int, good_fraction: float) -> None:
        self._good_fraction = good_fraction
        self._points: Array = np.empty((0, dimensions))  # in the order in which they came
        self._losses: Array = np.empty(0)
        self.open: dict[int, Array] = {}  # by trial

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, point: Array, loss: float) -> None:
        """Add an observation; the loss of one that failed is +inf."""
        self._points = np.vstack([self._points, point])
        self._losses = np.append(self._losses, loss)
        if len(self) > _LIMIT:
            oldest = int(np.flatnonzero(~self._good()).min())
            self._points = np.delete(self._points, oldest, axis=0)
            self._losses = np.delete(self._losses, oldest)

    def split(self) -> tuple[Array, Array]:
        """The good points, and the others with those under way."""
        good = self._good()
        others = [self._points[~good], *(point[None] for point in self.open.values())]
        return self._points[good], np.concatenate(others)

    def _good(self) -> NDArray[np.bool_]:
        """Which of them are good, an array (n,): the lowest losses; of equal ones, those that came first."""
        wanted = min(math.ceil(self._good_fraction * len(self) - 1e-9), _MOST_GOOD)
        good = np.zeros(len(self), dtype=bool)
        good[np.argsort(self._losses, kind="stable")[:wanted]] = True
        return good & np.isfinite(self._losses)


class ParzenModel:
    """What has been told of a search, by budget, and what it proposes to try next.

    Args:
        space: What is searched.
        rng: Draws where the Sobol sequence begins.
        random_fraction: Share of the configurations that are random all the same.
        good_fraction: Share of the observations that are good; there are never more than 25.
        candidates: Number of candidates per configuration.
        startup: Observations at a budget before it has a model; until then configurations are of a Sobol sequence.
    """

    def __init__(
        self,
        space: Space,
        rng: np.random.Generator,
        *,
        random_fraction: float,
        good_fraction: float,
        candidates: int,
        startup: int,
    ) -> None:
        self._space, self._axes = space, Axes.of(space)
        self._shift = rng.random(space.dimensions)
        self._random_fraction, self._good_fraction = random_fraction, good_fraction
        self._candidates, self._startup = candidates, startup
        self._begun = 0
        self._told: dict[float, Told] = {}  # by budget

    def __len__(self) -> int:
        """Number of observations that it holds."""
        return sum(map(len, self._told.values()))

    @property
    def speaks(self) -> bool:
        """Whether there is a budget with enough observations."""
        return any(map(self._says, self._told))

    def ask(self, trial: Trial) -> None:
        """A trial is under way: until it is told, it counts as bad, so that the next is tried elsewhere."""
        self._at(trial).open[trial.id] = self._point(trial.params)

    def tell(self, trial: Trial, loss: float) -> None:
        """Take in the loss of a trial; +inf if it failed."""
        told = self._at(trial)
        point = told.open.pop(trial.id, None)
        told.add(self._point(trial.params) if point is None else point, loss)

    def propose(self, rng: np.random.Generator, known: Callable[[Params], bool] = lambda _: False) -> Params:
        """A configuration to try, if possible one that is not known."""
        told = next((self._told[budget] for budget in sorted(self._told, reverse=True) if self._says(budget)), None)
        if told is None and self._space.dimensions <= _SOBOL:
            self._begun += 1
            return self._space.decode(self._sobol(self._begun - 1))
        if told is None or rng.random() < self._random_fraction:
            return self._space.sample(rng)
        good, bad = (Mixture.fit(points, self._axes) for points in told.split())
        x = good.draw(rng, self._candidates)
        found = map(self._decoded, x[np.argsort(bad.log(x) - good.log(x), kind="stable")])  # largest l(x) / g(x) first
        best = next(found)
        return next((params for params in found if not known(params)), best) if known(best) else best

    def _says(self, budget: float) -> bool:
        return len(self._told[budget]) >= self._startup

    def _sobol(self, number: int) -> Array:
        """A point of the Sobol sequence, shifted: the sequence itself is the same in every version of SciPy."""
        from scipy.stats.qmc import Sobol

        sequence = Sobol(self._space.dimensions, scramble=False)
        if number:
            sequence.fast_forward(number)
        found: Array = (sequence.random(1)[0] + self._shift) % 1.0
        return found

    def _at(self, trial: Trial) -> Told:
        budget = math.inf if trial.budget is None else trial.budget
        if budget not in self._told:
            self._told[budget] = Told(self._space.dimensions, self._good_fraction)
        return self._told[budget]

    def _point(self, params: Params) -> Array:
        u, options = self._space.encode(params), self._axes.options
        return np.where(options > 0, np.floor(u * options), u)

    def _decoded(self, point: Array) -> Params:
        options = self._axes.options
        return self._space.decode(np.where(options > 0, (point + 0.5) / np.maximum(options, 1), point))
