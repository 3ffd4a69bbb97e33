"""Weight optimisation: recurrent networks that learn a series without gradients.

DLOPT names a submodule for it, of which nothing is published but the best of random networks; what is here is in
:mod:`swarm.workers.recurrent.evolution`. A training is a population that lives on one worker, and all its networks go
through the series in a few calls. What travels is its hyper-parameters and its seed; the vectors, however long, go into
checkpoints and never to the master. Several populations are several trials: under PBT they exchange their best through
checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Params
from swarm.workers.checkpoints.checkpoint import Checkpoint
from swarm.workers.context import Context
from swarm.workers.recurrent.evolution import METHODS, Array, Evolution, Settings
from swarm.workers.recurrent.numpy_network import Activation, Architecture, Distribution, Metric, drawn, errors
from swarm.workers.recurrent.sampling import Backend, check_backend, functions
from swarm.workers.recurrent.series import Part, load, only_split

if TYPE_CHECKING:
    import keras

REPORTS = 100  # points of a learning curve, about


@dataclass(frozen=True, kw_only=True)
class WeightEvolution:
    """Evolves the weights of a network on T, the first part of a series; the fitness is the best one's error on V.

    A budget is a number of generations. Where checkpoints are kept, it saves the whole population and goes on from its
    parent's; then it also takes the parent's seed, and the outcome is that of one training without interruption. A
    slice takes a seed of its own instead, so that children of one parent go different ways.

    Attributes:
        data: A series of :mod:`swarm.workers.recurrent.series`, by its name or with options.
        layers: Units of the hidden layers, unless there are hyper-parameters ``layers``, ``units_1``, …
        look_back: Steps that a prediction is made from, unless there is a hyper-parameter of that name.
        method: ``es``, ``pso``, ``ga``, or ``random`` for the baseline; unless there is a hyper-parameter of that name.
        generations: Unless the evaluation has a budget.
        settings: Of :class:`swarm.workers.recurrent.evolution.Settings`, unless there are hyper-parameters of those
            names.
        weights: Distribution of the first generation.
        metric: What is minimised: ``mae`` or ``mse``.
        activation: Of the dense layer.
        backend: ``numpy``, or ``tensorflow`` for a GPU.
        space: The search space as plain data.
    """

    data: str | Mapping[str, Any] = field(default="sine", hash=False)
    layers: tuple[int, ...] = (4,)
    look_back: int = 2
    method: str = "es"
    generations: int = 200
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    weights: Distribution = field(default_factory=lambda: {"name": "normal", "loc": 0.0, "scale": 1.0}, hash=False)
    metric: Metric = "mae"
    activation: Activation = "tanh"
    backend: Backend = "numpy"
    space: Mapping[str, Any] = field(
        default_factory=lambda: {"step": {"real": [0.01, 1.0], "log": True, "digits": 2, "default": 0.3}}, hash=False
    )

    name: ClassVar[str] = "weights"
    direction: ClassVar[str] = "minimize"
    resumable: ClassVar[bool] = True
    changeable: ClassVar[tuple[str, ...]] = ("step", "mutation", "crossover", "inertia", "cognitive", "social")
    preload: ClassVar[tuple[str, ...]] = ("numpy",)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidProblem(f"method is one of {', '.join(METHODS)}, not {self.method!r}")
        check_backend(self.backend)
        known = [each.name for each in fields(Settings)]
        for name in self.settings:
            if name not in known:
                raise InvalidProblem(f"settings: there is no {name!r}; there are {', '.join(known)}")
        object.__setattr__(self, "layers", tuple(self.layers))  # a job file has lists

    @property
    def keras_backend(self) -> str | None:
        """What Keras computes with, where it does."""
        return None if self.backend == "numpy" else self.backend

    def prepare(self) -> None:
        """Loads the series."""
        load(self.data)

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Evolves.

        Returns:
            ``fitness`` (the error on V), ``train_error`` (on T), ``evaluations`` of networks and ``generations``, those
            before the checkpoint included, number of ``weights``.

        Raises:
            Infeasible: There is no such network, or the parent's population is of another kind.
        """
        return self._scored(params, ctx, "valid")

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Evolves in the same way; the fitness is the error on the test part."""
        return self._scored(params, ctx, "test")

    def evolved(self, params: Params, ctx: Context) -> tuple[Evolution, int]:
        """The population at the end, and the number of its generations; see :meth:`__call__`."""
        only_split(ctx)
        series, architecture = load(self.data), self.architecture(params)
        windows, targets = series.windows("train", architecture.look_back)
        population, done, seed = self._begun(params, architecture, ctx)
        last = self.generations if ctx.budget is None else max(1, math.floor(ctx.budget))
        for generation in range(done, last):
            vectors = population.ask(np.random.default_rng((seed, generation)))
            population.tell(vectors, self._errors(architecture, vectors, windows, targets))
            if (generation + 1) % max(1, last // REPORTS) == 0:
                ctx.report(generation=generation + 1, train_error=population.loss)
        ctx.save(population.arrays, generation=max(done, last), seed=seed, method=self._method(params))
        return population, max(done, last)

    def trained(self, params: Params, ctx: Context) -> keras.Model:
        """The evolved network in Keras."""
        from swarm.workers.recurrent.keras_network import build

        population, _ = self.evolved(params, ctx)
        architecture = self.architecture(params)
        model = build(architecture)
        model.set_weights([each[0] for each in architecture.tensors(population.best[np.newaxis])])
        return model

    def trainer(self) -> WeightEvolution:
        """What trains a network of this problem: itself."""
        return self

    def architecture(self, params: Params) -> Architecture:
        """The network that hyper-parameters or options name, for this series."""
        series = load(self.data)
        own = {"look_back": self.look_back, "layers": len(self.layers)}
        own |= {f"units_{k}": units for k, units in enumerate(self.layers, 1)}
        return Architecture.of({**own, **params}, len(series.columns), len(series.targets), self.activation)

    def _begun(self, params: Params, architecture: Architecture, ctx: Context) -> tuple[Evolution, int, int]:
        """The population that it goes on from, the number of its generations, and the seed."""
        method, settings = self._method(params), self._settings(params)
        checkpoint = ctx.restore()
        arrays = None if checkpoint is None else _checked(checkpoint, method, architecture, settings)
        population = METHODS[method](
            settings, lambda number, rng: drawn(self.weights, (number, architecture.size), rng), arrays
        )
        if checkpoint is None:
            return population, 0, ctx.seed
        seed = ctx.seed if ctx.slice else int(checkpoint.meta["seed"])
        return population, int(checkpoint.meta["generation"]), seed

    def _method(self, params: Params) -> str:
        method = str(params.get("method", self.method))
        if method not in METHODS:
            raise Infeasible(f"there is no method {method!r}; there are {', '.join(METHODS)}")
        return method

    def _settings(self, params: Params) -> Settings:
        chosen: dict[str, Any] = {each.name: params[each.name] for each in fields(Settings) if each.name in params}
        return Settings(**{**self.settings, **chosen})

    def _errors(
        self, architecture: Architecture, vectors: Array, windows: Array, targets: Array
    ) -> npt.NDArray[np.float64]:
        return errors(architecture, vectors, windows, targets, self.metric, functions(self.backend))

    def _scored(self, params: Params, ctx: Context, part: Part) -> dict[str, float]:
        population, generations = self.evolved(params, ctx)
        series, architecture = load(self.data), self.architecture(params)
        windows, targets = series.windows(part, architecture.look_back)
        return {
            "fitness": float(self._errors(architecture, population.best[np.newaxis], windows, targets)[0]),
            "train_error": population.loss,
            "generations": generations,
            "evaluations": generations * population.settings.population,
            "weights": architecture.size,
        }


def _checked(checkpoint: Checkpoint, method: str, architecture: Architecture, settings: Settings) -> dict[str, Any]:
    """The arrays of a checkpoint.

    Raises:
        Infeasible: They are of another method, network or number of vectors.
    """
    there = checkpoint.meta["method"], checkpoint.arrays["best"].size
    if there != (method, architecture.size):
        raise Infeasible(
            f"the checkpoint is of {there[0]} on {there[1]} weights, this is {method} on {architecture.size}: search "
            "only what keeps the network and the method"
        )
    positions = checkpoint.arrays.get("positions")
    if positions is not None and len(positions) != settings.population:
        raise Infeasible(f"the checkpoint's swarm has {len(positions)} particles, this one {settings.population}")
    return dict(checkpoint.arrays)
