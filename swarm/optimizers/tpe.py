"""Tree-structured Parzen estimator: new configurations where good ones are dense and bad ones are not.

Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, multivariate. The model is either
that of Optuna 5 (:mod:`swarm.optimizers.parzen`) or that of Falkner, Klein and Hutter, BOHB, ICML 2018, whose defaults
and formulas (HpBandSter) it then follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from swarm.errors import InvalidOptimizer, InvalidSpace, JournalMismatch
from swarm.optimizers.density import Array, Density, Observations
from swarm.optimizers.parzen import ParzenModel
from swarm.optimizers.unrepeated import Unrepeated
from swarm.space.space import Choice, Space
from swarm.trial import Params, Trial

ModelName = Literal["optuna", "hpbandster"]

_LIMIT = 1000  # observations per budget in the model
_MANY = 500  # candidates times dimensions: milliseconds, with as many observations
_RARE = math.log(1e-32)  # lesser densities count as this
_SOBOL = 2**40 + 1  # index of the draw site of where a model begins

_OPTIONS: dict[ModelName, dict[str, float | None]] = {  # of each model, with their defaults
    "optuna": {"random_fraction": 0.0, "good_fraction": 0.1, "candidates": 24, "startup": 10},
    "hpbandster": {
        "random_fraction": 1 / 3,
        "good_fraction": 0.15,
        "candidates": 64,
        "min_points": None,
        "bandwidth_factor": 3.0,
        "min_bandwidth": 1e-3,
    },
}


@dataclass(kw_only=True)
class Guided(Unrepeated):
    """A method that takes configurations from a model of those told: the options of the model.

    At each budget the observations are split into those of the lowest losses, the good, and the rest. The largest
    budget with enough of both gives the densities l of the good and g of the bad; until there is one, configurations
    are random, or those of a Sobol sequence. Of some candidates drawn around good ones, that of the largest l/g is
    proposed; if it is known, the next. Failed trials are bad whatever their number.

    The model holds at most 1000 observations per budget (more only above 499 dimensions): the good ones among these,
    which then are the best ever told, and the latest of the others. Time per trial and memory stay below that bound.

    Attributes:
        model: ``optuna`` or ``hpbandster``; options that are None take its defaults.
        random_fraction: Share of the configurations that are random all the same, 0 to 1.
        good_fraction: Share of the observations that are good, above 0 up to 0.99.
        candidates: Number of candidates per configuration.
        startup: Of ``optuna``: least number of observations.
        min_points: Of ``hpbandster``: least number of good and of bad observations; None, and the least allowed, is
            d + 1.
        bandwidth_factor: Of ``hpbandster``: factor on the widths of the kernels when candidates are drawn, above 0 up
            to 10.
        min_bandwidth: Of ``hpbandster``: least width of a kernel in the unit cube, above 0.
    """

    model: ModelName = "optuna"
    random_fraction: float | None = None
    good_fraction: float | None = None
    candidates: int | None = None
    startup: int | None = None
    min_points: int | None = None
    bandwidth_factor: float | None = None
    min_bandwidth: float | None = None

    before: ClassVar[Mapping[str, object]] = {**Unrepeated.before, "model": "hpbandster"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_one_of("model", *get_args(ModelName))
        own = _OPTIONS[self.model]
        for option in {option: None for options in _OPTIONS.values() for option in options}:
            if getattr(self, option) is None:
                setattr(self, option, own.get(option))
            elif option not in own:
                [other] = _OPTIONS.keys() - {self.model}
                raise InvalidOptimizer(
                    f"{self._named(option)} is an option of model {other}: leave it out, or take that model"
                )
        self._check_model()

    @property
    def sizes(self) -> dict[str, int]:
        """What is drawn for a trial, and what the model waits for."""
        least = self.startup or self.min_points or 0
        return {**super().sizes, "candidates": self.candidates or 0, "startup" if self.startup else "min_points": least}

    def _reset(self, space: Space, seed: int, fold: int | None, ids: tuple[int, int]) -> None:
        self._ahead: tuple[tuple[int, int], Params] | None = None  # what is prepared, and for which place
        self._journalled: Trial | None = None  # the trial that is taken in
        self._space, self._seed, self._fold = space, seed, fold
        self._model = self._made_model()
        super()._reset(space, seed, fold, ids)

    @property
    def ponders(self) -> bool:
        """Whether there are so many candidates and parameters that a proposal takes longer than a few milliseconds."""
        return self._started and (self.candidates or 0) * self._space.dimensions > _MANY

    def prepare(self) -> None:
        """Propose the next configuration, unless that has been done, or none is needed."""
        self._check_started()
        needed = self._ahead is None and not self._given and not self._finished()
        if needed and (place := self._next_place()) is not None:
            self._ahead = place, self._drawn(*place)

    def _next_place(self) -> tuple[int, int] | None:
        """Generation and member of the configuration that the next :meth:`ask` proposes; None if it needs none."""
        return 0, self._asked

    def _proposed(self, generation: int, member: int) -> Params:
        """The configuration for this place."""
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead is not None and ahead[0] == (generation, member) else self._drawn(generation, member)

    def _drawn(self, generation: int, member: int) -> Params:
        """A configuration of the model; of a trial that is taken in, its own, since models change with the versions."""
        if self._journalled is None or not self._model.speaks:
            rng = self._rng(generation, member)
            return self._unknown(lambda: self._model.propose(rng, self._is_known), rng)
        try:
            self._space.check(self._journalled.params)
        except InvalidSpace as error:
            raise JournalMismatch(f"trial {self._journalled.id}, which the space cannot have: {error}") from None
        return self._journalled.params

    def _take(self, trial: Trial) -> None:
        self._journalled = trial
        try:
            super()._take(trial)
        finally:
            self._journalled = None

    @property
    def takes_results(self) -> bool:
        """True: its model knows them like its own, on the largest budget."""
        return True

    def _learn(self, params: Params, loss: float, fold: int | None) -> None:
        self._model.tell(Trial(id=-1, params=params, budget=self.largest_budget), loss)

    def _check_model(self) -> None:
        self._check_real("random_fraction", 0, 1)
        self._check_real("good_fraction", 0, 0.99, above=True)
        self._check_integer("candidates", low=1)
        for option in ("startup", "min_points"):
            if getattr(self, option) is not None:
                self._check_integer(option, low=1)
        if self.model == "hpbandster":
            self._check_real("bandwidth_factor", 0, 10, above=True)
            self._check_real("min_bandwidth", 0, 1, above=True)

    def _made_model(self) -> Model | ParzenModel:
        if self.model == "hpbandster":
            return Model(self._space, self)
        assert None not in (self.random_fraction, self.good_fraction, self.candidates, self.startup)
        return ParzenModel(
            self._space,
            self._rng(0, _SOBOL),
            random_fraction=self.random_fraction or 0.0,
            good_fraction=self.good_fraction or 0.0,
            candidates=self.candidates or 0,
            startup=self.startup or 0,
        )


class Model:
    """What has been told of a search, by budget, and what it proposes to try next, as HpBandSter does.

    Args:
        space: What is searched.
        options: See :class:`Guided`.
    """

    def __init__(self, space: Space, options: Guided) -> None:
        self._space = space
        self._random_fraction, self._good_fraction = options.random_fraction or 0.0, options.good_fraction or 0.0
        self._candidates = options.candidates or 0
        self._widen, self._least_width = options.bandwidth_factor or 0.0, options.min_bandwidth or 0.0
        domains = [space.domains[name] for name in space.names]
        self._options = np.array([domain.size if isinstance(domain, Choice) else 0 for domain in domains])
        self._least = max(options.min_points or 0, space.dimensions + 1)
        self._observations: dict[float, Observations] = {}  # by budget

    def __len__(self) -> int:
        """Number of observations that it holds."""
        return sum(map(len, self._observations.values()))

    @property
    def speaks(self) -> bool:
        """Whether a configuration may depend on what was told."""
        return any(len(each) > self._least for each in self._observations.values())

    def tell(self, trial: Trial, loss: float) -> None:
        """Take in the loss of a trial; +inf if it failed."""
        budget = math.inf if trial.budget is None else trial.budget
        if budget not in self._observations:
            self._observations[budget] = Observations(
                self._space.dimensions,
                good=self._good_fraction,
                least=self._least,
                limit=max(_LIMIT, 2 * self._least),
            )
        u = self._space.encode(trial.params)
        self._observations[budget].add(np.where(self._options > 0, np.floor(u * self._options), u), loss)

    def ask(self, trial: Trial) -> None:
        """A trial is under way: nothing follows from that."""

    def propose(self, rng: np.random.Generator, known: Callable[[Params], bool] = lambda _: False) -> Params:
        """A configuration to try, if possible one that is not known; a random one now and then, and at first."""
        if rng.random() < self._random_fraction or (densities := self._fit()) is None:
            return self._space.sample(rng)
        good, bad = densities
        x = good.draw(rng, self._candidates, widen=self._widen)
        ratios = np.maximum(bad.log(x), _RARE) - np.maximum(good.log(x), _RARE)  # least g(x) / l(x)
        found = map(self._decoded, x[np.argsort(ratios, kind="stable")])
        best = next(found)
        return next((params for params in found if not known(params)), best) if known(best) else best

    def _decoded(self, point: Array) -> Params:
        return self._space.decode(np.where(self._options > 0, (point + 0.5) / np.maximum(self._options, 1), point))

    def _fit(self) -> tuple[Density, Density] | None:
        """The densities of the good and of the bad at the largest budget that has enough of both."""
        for budget in sorted(self._observations, reverse=True):
            if (points := self._observations[budget].split()) is not None:
                good, bad = (Density.fit(p, self._options, least=self._least_width) for p in points)
                return good, bad
        return None


@dataclass(kw_only=True)
class TPE(Guided):
    """Proposes one configuration after the other from a model of those told, each trained on its full budget.

    It never waits: a configuration follows from what has been told when it is asked for, so that a run depends on the
    sequence of calls.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, in the form that Optuna 5 or
    BOHB gave it; the former finds better configurations.

    Attributes:
        trials: Number of trials.
        known: Where the best candidate was asked for before in this run, ``again`` takes the next best or draws others;
            ``answer`` has the archive answer.
        model: ``optuna``: each kernel is as wide as its distance to the next observations, cut off at the bounds;
            the good are a tenth, 25 at most, what is under way counts as bad, and older observations weigh less.
            ``hpbandster``: the kernels of a density have one width, as in BOHB. Options that are left out, None, have
            the model's defaults.
        random_fraction: Share of the configurations that are random all the same, 0 to 1; by default 0, or 1/3.
        good_fraction: Share of the observations that count as good, above 0 up to 0.99; by default 0.1, or 0.15.
        candidates: Number of candidates that are drawn for each configuration; by default 24, or 64.
        startup: Of the model ``optuna``: results before which configurations are those of a Sobol sequence; 10.
        min_points: Of the model ``hpbandster``: least number of good and of bad observations; None, and the least
            allowed, is d + 1.
        bandwidth_factor: Likewise: factor on the widths of the kernels when candidates are drawn, above 0 up to 10; 3.
        min_bandwidth: Likewise: least width of a kernel in the unit cube, above 0; 0.001.

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

    limits: ClassVar[tuple[str, ...]] = ("trials",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("trials", low=1)

    @property
    def planned(self) -> int | None:
        """Number of trials in all."""
        return self.trials if self._started else None

    def _begin(self) -> None:
        """There is only the model."""

    def _exhausted(self) -> bool:
        return self._asked >= self.trials

    def _ask(self) -> Trial:
        trial = self._trial(self._next_given() or self._proposed(0, self._asked), member=self._asked)
        self._model.ask(trial)
        return trial

    def _tell(self, trial: Trial, loss: float) -> None:
        self._ahead = None
        self._model.tell(trial, loss)
