"""MAE random sampling: how good an architecture is, from networks that are not trained at all.

Source: Low-cost recurrent neural network expected performance evaluation (Camero, Toutouh, Alba, arXiv:1805.07159,
2018), and DLOPT by the same. Many networks of the architecture get random weights; their errors are taken for normal,
cut off at what errors are possible, and the architecture is judged by the probability of an error that is as good as
none. The original samples on the test data, and draws its weights from N(0, 1) whatever its options say; here both are
options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from swarm.errors import InvalidProblem
from swarm.trial import Params
from swarm.workers.context import Context
from swarm.workers.recurrent.numpy_network import Activation, Architecture, Distribution, drawn, errors, space
from swarm.workers.recurrent.series import Part, Series, load, only_split

if TYPE_CHECKING:
    from swarm.workers.recurrent.keras_network import RecurrentTraining

Backend = Literal["numpy", "tensorflow"]

LEAST = 1e-300  # stands for a probability of 0, which has no logarithm


@dataclass(frozen=True, slots=True)
class Sampling:
    """Errors of random networks of one architecture, and what follows from them.

    Attributes:
        samples: Mean absolute error of each network.
        mean: Their mean.
        std: Their standard deviation, of n samples the sum of squares over n.
        p: Probability of an error up to the threshold.
        log_p: Its natural logarithm.
    """

    samples: tuple[float, ...]
    mean: float
    std: float
    p: float
    log_p: float

    @classmethod
    def of(cls, samples: npt.ArrayLike, threshold: float, low: float, high: float) -> Sampling:
        """What follows from errors that lie between ``low`` and ``high``."""
        values = np.asarray(samples, dtype=float)
        mean, std = float(values.mean()), float(values.std())
        p, log_p = probability(mean, std, threshold, low, high)
        return cls(tuple(values.tolist()), mean, std, p, log_p)


def probability(mean: float, std: float, threshold: float, low: float, high: float) -> tuple[float, float]:
    """Probability that a normal variable, truncated to [low, high], is at most the threshold; and its logarithm.

    p = (Φ(t) - Φ(a)) / (Φ(b) - Φ(a)), with t, a, b the threshold, low and high in standard deviations from the mean.

    Args:
        mean: Of the normal distribution that is truncated.
        std: Its standard deviation; 0 is a variable that has always the same value.
        threshold: Between low and high.
        low: Lowest possible value.
        high: Highest.
    """
    from scipy.special import ndtr

    if std == 0:
        p = float(mean <= threshold)
    else:
        t, a, b = (float(ndtr((limit - mean) / std)) for limit in (threshold, low, high))
        p = (t - a) / (b - a) if b > a else 0.0
    return p, math.log(p if p > 0 else LEAST)


@dataclass(frozen=True, kw_only=True)
class MaeSampling:
    """Finds the architecture of a recurrent network for a series; the fitness is log p of :class:`Sampling`.

    A budget is a number of samples: log p from 30 of them varies by ±8 between runs, so what is found had better be
    measured again with 100 or more (``Rescored``). Its :meth:`test` trains the architecture, as DLOPT does with the
    best that it has found, and scores it on the test part.

    Attributes:
        data: A series of :mod:`swarm.workers.recurrent.series`, by its name or with options.
        part: The part of it that errors are measured on.
        windows: Number of windows that errors are measured on, the first of the part; None is all of them. Of a series
            that repeats itself those of one period say as much as all.
        samples: Number of random networks, unless the evaluation has a budget.
        threshold: The error that is as good as none.
        low: Lowest possible error.
        high: Highest possible error; None is the span of the targets (2 for a sine, 1 for shares).
        weights: Distribution of the weights: ``{name: normal, loc: 0, scale: 1}`` or ``{name: uniform, low: -0.5, high:
            0.5}``.
        activation: Of the dense layer.
        backend: ``numpy``, or ``tensorflow`` for a GPU.
        training: Options of :class:`swarm.workers.recurrent.keras_network.RecurrentTraining` for the test.
        space: The search space as plain data; see :func:`swarm.workers.recurrent.space`.
    """

    data: str | Mapping[str, Any] = field(default="sine", hash=False)
    part: Part = "train"
    windows: int | None = None
    samples: int = 30
    threshold: float = 0.01
    low: float = 0.0
    high: float | None = None
    weights: Distribution = field(default_factory=lambda: {"name": "normal", "loc": 0.0, "scale": 1.0}, hash=False)
    activation: Activation = "tanh"
    backend: Backend = "numpy"
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    space: Mapping[str, Any] = field(default_factory=space, hash=False)

    name: ClassVar[str] = "mae-sampling"
    direction: ClassVar[str] = "maximize"
    preload: ClassVar[tuple[str, ...]] = ("numpy", "scipy.special")

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise InvalidProblem(f"samples is {self.samples}: one network says nothing of how they vary; take 30")
        if self.windows is not None and self.windows < 1:
            raise InvalidProblem(f"windows is {self.windows}: errors are measured on one or more; leave it out for all")
        check_backend(self.backend)

    @property
    def keras_backend(self) -> str | None:
        """What Keras computes with, where it does."""
        return None if self.backend == "numpy" else self.backend

    def prepare(self) -> None:
        """Loads the series."""
        self._series()

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Samples as many networks as the budget says.

        Returns:
            ``fitness`` (log p), ``p``, ``mean``, ``std``, number of ``weights`` and of ``samples``.

        Raises:
            Infeasible: There is no such architecture.
        """
        only_split(ctx)
        architecture = self.architecture(params)
        samples = self.samples if ctx.budget is None else max(2, math.floor(ctx.budget))
        found = self.sample(architecture, seed=ctx.seed, samples=samples)
        return {
            "fitness": found.log_p,
            "p": found.p,
            "mean": found.mean,
            "std": found.std,
            "weights": architecture.size,
            "samples": samples,
        }

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains the architecture and scores it on the test part."""
        return self.trainer().test(params, ctx)

    def trainer(self) -> RecurrentTraining:
        """What trains a network of an architecture that was found."""
        from swarm.workers.recurrent.keras_network import RecurrentTraining

        return RecurrentTraining(**{"data": self.data, "activation": self.activation, **self.training})

    def sample(self, architecture: Architecture, *, seed: int = 0, samples: int | None = None) -> Sampling:
        """Errors of random networks. The first are the same, however many there are."""
        series = self._series()
        weights = drawn(self.weights, (samples or self.samples, architecture.size), np.random.default_rng(seed))
        windows, targets = series.windows(self.part, architecture.look_back)
        some = slice(self.windows)
        found = errors(architecture, weights, windows[some], targets[some], xp=functions(self.backend))
        return Sampling.of(found, self.threshold, self.low, self._high(series))

    def architecture(self, params: Params) -> Architecture:
        """The architecture that hyper-parameters name, for this series."""
        series = self._series()
        return Architecture.of(params, len(series.columns), len(series.targets), self.activation)

    def report(self, params: Params, *, seed: int = 0, samples: int | None = None) -> dict[str, Any]:
        """A sampling as the paper's second listing shows it: ``look_back``, ``architecture`` and ``metrics``."""
        architecture = self.architecture(params)
        found = self.sample(architecture, seed=seed, samples=samples)
        return {"look_back": architecture.look_back, "architecture": architecture.layers, "metrics": asdict(found)}

    def _series(self) -> Series:
        return load(self.data)

    def _high(self, series: Series) -> float:
        return series.high - series.low if self.high is None else self.high


def check_backend(backend: str) -> None:
    """Refuses what computes nothing.

    Raises:
        InvalidProblem: It is neither ``numpy`` nor ``tensorflow``.
    """
    if backend not in get_args(Backend):
        raise InvalidProblem(f"backend is one of {', '.join(get_args(Backend))}, not {backend!r}")


def functions(backend: Backend) -> Any:
    """NumPy, or with ``tensorflow`` the array functions of Keras, which run on a GPU if there is one."""
    if backend == "numpy":
        return np
    from swarm.workers.recurrent.keras_network import functions as of_keras

    return of_keras()


def problem(
    layers: tuple[int, int] = (1, 3),
    units: tuple[int, int] = (1, 10),
    look_back: tuple[int, int] = (2, 20),
    **options: Any,
) -> MaeSampling:
    """The problem for a job file: bounds of the architectures, and options of :class:`MaeSampling`.

    Args:
        layers: Fewest and most hidden layers.
        units: Fewest and most units of each.
        look_back: Fewest and most steps that a prediction is made from.
        **options: Those of :class:`MaeSampling`.

    Raises:
        InvalidProblem: Bounds or options cannot be.
    """
    return MaeSampling(**{"space": space(layers, units, look_back), **options})
