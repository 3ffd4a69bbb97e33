"""Tree-structured Parzen estimator: new configurations where good ones are dense and bad ones are not.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, in the multivariate form of Falkner,
Klein and Hutter, BOHB, ICML 2018, whose defaults and formulas (HpBandSter) it follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swarm.optimizers.base import Optimizer
from swarm.optimizers.density import Density, Observations
from swarm.space.space import Choice, Space
from swarm.trial import Params, Trial

_LIMIT = 1000  # observations per budget in the model
_RARE = math.log(1e-32)  # lesser densities count as this


@dataclass(kw_only=True)
class Guided(Optimizer):
    """A method that takes configurations from a model of those told: the options of the model.

    At each budget the observations are split into the ``good_fraction`` of the lowest losses and the rest. The
    largest budget with ``min_points`` of both gives the densities l of the good and g of the bad; until there is one,
    configurations are random. Of ``candidates`` drawn around good ones, that of the largest l/g is proposed. Failed
    trials are bad whatever their number.

    The model holds at most 1000 observations per budget (more only above 499 dimensions): the good ones among these,
    which then are the best ever told, and the latest of the others. Time per trial and memory stay below that bound.

    Attributes:
        random_fraction: Share of the configurations that are random all the same, 0 to 1.
        good_fraction: Share of the observations that are good, above 0 up to 0.99.
        candidates: Number of candidates per configuration.
        min_points: Least number of good and of bad observations; None, and the least allowed, is d + 1.
        bandwidth_factor: Factor on the widths of the kernels when candidates are drawn, above 0 up to 10.
        min_bandwidth: Least width of a kernel in the unit cube, above 0.
    """

    random_fraction: float = 1 / 3
    good_fraction: float = 0.15
    candidates: int = 64
    min_points: int | None = None
    bandwidth_factor: float = 3.0
    min_bandwidth: float = 1e-3

    @property
    def sizes(self) -> dict[str, int]:
        """What is drawn for a trial, and what the model waits for."""
        return {**super().sizes, "candidates": self.candidates, "min_points": self.min_points or 0}

    def _check_model(self) -> None:
        self._check_real("random_fraction", 0, 1)
        self._check_real("good_fraction", 0, 0.99, above=True)
        self._check_integer("candidates", low=1)
        if self.min_points is not None:
            self._check_integer("min_points", low=1)
        self._check_real("bandwidth_factor", 0, 10, above=True)
        self._check_real("min_bandwidth", 0, 1, above=True)


class Model:
    """What has been told of a search, by budget, and what it proposes to try next.

    Args:
        space: What is searched.
        options: See :class:`Guided`.
    """

    def __init__(self, space: Space, options: Guided) -> None:
        self._space, self._given = space, options
        domains = [space.domains[name] for name in space.names]
        self._options = np.array([domain.size if isinstance(domain, Choice) else 0 for domain in domains])
        self._least = max(options.min_points or 0, space.dimensions + 1)
        self._observations: dict[float, Observations] = {}  # by budget

    def __len__(self) -> int:
        """Number of observations that it holds."""
        return sum(map(len, self._observations.values()))

    def tell(self, trial: Trial, loss: float) -> None:
        """Take in the loss of a trial; +inf if it failed."""
        budget = math.inf if trial.budget is None else trial.budget
        if budget not in self._observations:
            self._observations[budget] = Observations(
                self._space.dimensions,
                good=self._given.good_fraction,
                least=self._least,
                limit=max(_LIMIT, 2 * self._least),
            )
        u = self._space.encode(trial.params)
        self._observations[budget].add(np.where(self._options > 0, np.floor(u * self._options), u), loss)

    def propose(self, rng: np.random.Generator) -> Params:
        """A configuration to try; a random one now and then, and while too little is known."""
        if rng.random() < self._given.random_fraction or (densities := self._fit()) is None:
            return self._space.sample(rng)
        good, bad = densities
        x = good.draw(rng, self._given.candidates, widen=self._given.bandwidth_factor)
        best = x[(np.maximum(bad.log(x), _RARE) - np.maximum(good.log(x), _RARE)).argmin()]  # least g(x) / l(x)
        return self._space.decode(np.where(self._options > 0, (best + 0.5) / np.maximum(self._options, 1), best))

    def _fit(self) -> tuple[Density, Density] | None:
        """The densities of the good and of the bad at the largest budget that has enough of both."""
        for budget in sorted(self._observations, reverse=True):
            if (points := self._observations[budget].split()) is not None:
                good, bad = (Density.fit(p, self._options, least=self._given.min_bandwidth) for p in points)
                return good, bad
        return None


@dataclass(kw_only=True)
class TPE(Guided):
    """Proposes one configuration after the other from a model of those told, each trained on its full budget.

    It never waits: a configuration follows from what has been told when it is asked for, so that a run depends on the
    sequence of calls.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, in the form that BOHB gave it.

    Attributes:
        trials: Number of trials.
        random_fraction: Share of the configurations that are random all the same, 0 to 1.
        good_fraction: Share of the observations that count as good, above 0 up to 0.99.
        candidates: Number of candidates that are drawn for each configuration.
        min_points: Least number of good and of bad observations; None, and the least allowed, is d + 1.
        bandwidth_factor: Factor on the widths of the kernels when candidates are drawn, above 0 up to 10.
        min_bandwidth: Least width of a kernel in the unit cube, above 0.

    Raises:
        InvalidOptimizer: An option is out of its range.

    Example:
        ::

            >>> from swarm import Real, Space, TPE
            >>> optimizer = TPE(trials=60).start(Space({"x": Real(-5, 5)}), seed=7)
            >>> while not optimizer.done:
            ...     trial = optimizer.ask()
            ...     optimizer.tell(trial, (trial.params["x"] - 2) ** 2)
            >>> trial, loss = optimizer.best
            >>> loss < 0.1
            True
    """

    trials: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("trials", low=1)
        self._check_model()

    @property
    def planned(self) -> int | None:
        """Number of trials in all."""
        return self.trials if self._started else None

    def _begin(self) -> None:
        self._model = Model(self._space, self)

    def _exhausted(self) -> bool:
        return self._asked >= self.trials

    def _ask(self) -> Trial:
        i = self._asked
        return self._trial(self._model.propose(self._rng(0, i)), member=i)

    def _tell(self, trial: Trial, loss: float) -> None:
        self._model.tell(trial, loss)
