"""Recurrent networks in Keras: trained, for a fitness of their own or to see what a search without training has found.

Source: DLOPT (Camero, Toutouh, Alba, 2018), which trains the winner with Adam at 5e-5, dropout ½ and weights from
U(-½, ½), until the loss has not fallen by 1e-5 for 50 epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from swarm.errors import InvalidProblem
from swarm.trial import Params
from swarm.workers.backend import OnBackend, check
from swarm.workers.context import Context
from swarm.workers.recurrent.numpy_network import Activation, Architecture, Metric, space
from swarm.workers.recurrent.series import Part, Series, load, only_split

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[np.float32]


def functions() -> Any:
    """The array functions of Keras, for :func:`swarm.workers.recurrent.predictions` on a GPU."""
    import keras

    return keras.ops


def build(architecture: Architecture, dropout: float = 0.0, spread: float = 0.5, seed: int | None = None) -> Any:
    """The network, uncompiled.

    Args:
        architecture: Its layers.
        dropout: Rate of what is dropped before the dense layer.
        spread: Weights begin as U(-spread, spread).
        seed: Of the weights and the dropout; None is a random one.
    """
    import keras

    seeds = keras.random.SeedGenerator(seed)
    initial = {
        name: keras.initializers.RandomUniform(-spread, spread, seed=seeds)
        for name in ("kernel_initializer", "bias_initializer")
    }
    last = len(architecture.units) - 1
    hidden = [
        keras.layers.LSTM(
            units,
            return_sequences=k < last,
            unit_forget_bias=False,
            recurrent_initializer=keras.initializers.RandomUniform(-spread, spread, seed=seeds),
            **initial,
        )
        for k, units in enumerate(architecture.units)
    ]
    return keras.Sequential(
        [
            keras.Input((architecture.look_back, architecture.inputs)),
            *hidden,
            *([keras.layers.Dropout(dropout, seed=seed)] if dropout else []),
            keras.layers.Dense(architecture.outputs, activation=architecture.activation, **initial),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class RecurrentTraining(OnBackend):
    """Finds the architecture of a recurrent network for a series by training; the fitness is its error on V.

    It trains on the first part of the series and takes the weights of the epoch with the lowest loss on the second, V.

    Attributes:
        data: A series of :mod:`swarm.workers.recurrent.series`, by its name or with options.
        epochs: Train so long at most, unless the evaluation has a budget.
        batch_size: Windows per step.
        learning_rate: Of Adam, unless there is a hyper-parameter of that name.
        dropout: Before the dense layer, unless there is a hyper-parameter of that name.
        spread: Weights begin as U(-spread, spread).
        patience: Stop after so many epochs in which the loss on V has not fallen …
        min_delta: … by more than this.
        metric: The loss, and the error: ``mae`` or ``mse``.
        activation: Of the dense layer.
        space: The search space as plain data; see :func:`swarm.workers.recurrent.space`.
    """

    data: str | Mapping[str, Any] = field(default="sine", hash=False)
    epochs: int = 1000
    batch_size: int = 32
    learning_rate: float = 5e-5
    dropout: float = 0.5
    spread: float = 0.5
    patience: int = 50
    min_delta: float = 1e-5
    metric: Metric = "mae"
    activation: Activation = "tanh"
    space: Mapping[str, Any] = field(default_factory=space, hash=False)

    name: ClassVar[str] = "recurrent"
    direction: ClassVar[str] = "minimize"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric not in ("mae", "mse"):
            raise InvalidProblem(f"metric is mae or mse, not {self.metric!r}")

    def prepare(self) -> None:
        """Loads the series."""
        load(self.data)

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains.

        Returns:
            ``fitness`` (the error on V), ``mae`` and ``mse`` on V, ``epochs`` trained, number of ``weights``.

        Raises:
            Infeasible: There is no such architecture.
        """
        return self._scores(self.trained(params, ctx), params, "valid")

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way; the fitness and errors are those on the test part."""
        return self._scores(self.trained(params, ctx), params, "test")

    def trained(self, params: Params, ctx: Context) -> keras.Model:
        """The trained network: what its ``predict`` and ``get_config`` say is DLOPT's result.

        Raises:
            Infeasible: There is no such architecture.
        """
        import keras

        check(self)
        only_split(ctx)
        keras.utils.set_random_seed(ctx.seed)  # of the order of the windows
        series = load(self.data)
        architecture = self.architecture(params)
        model = build(architecture, float(params.get("dropout", self.dropout)), self.spread, ctx.seed)
        optimizer = keras.optimizers.Adam(float(params.get("learning_rate", self.learning_rate)))
        # To compile takes longer than to train, but for JAX, which is slow without.
        model.compile(optimizer, self.metric, jit_compile=self.keras_backend == "jax")
        stop = keras.callbacks.EarlyStopping(
            patience=self.patience, min_delta=self.min_delta, restore_best_weights=True
        )
        model.fit(
            *series.windows("train", architecture.look_back),
            validation_data=series.windows("valid", architecture.look_back),
            epochs=self.epochs if ctx.budget is None else max(1, int(ctx.budget)),
            batch_size=self.batch_size,
            callbacks=[stop, keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: _report(ctx, e, logs))],
            verbose=0,
        )
        return model

    def architecture(self, params: Params) -> Architecture:
        """The architecture that hyper-parameters name, for this series."""
        series = load(self.data)
        return Architecture.of(params, len(series.columns), len(series.targets), self.activation)

    def trainer(self) -> RecurrentTraining:
        """What trains a network of this problem: itself."""
        return self

    def _scores(self, model: keras.Model, params: Params, part: Part) -> dict[str, float]:
        series, architecture = load(self.data), self.architecture(params)
        mae, mse = scores(model, series, part)
        return {
            "fitness": mae if self.metric == "mae" else mse,
            "mae": mae,
            "mse": mse,
            "epochs": len(model.history.history["loss"]),
            "weights": architecture.size,
        }


def _report(ctx: Context, epoch: int, logs: Mapping[str, float]) -> None:
    ctx.report(epoch=epoch + 1, **logs)


def scores(model: keras.Model, series: Series, part: Part) -> tuple[float, float]:
    """Mean absolute and mean squared error of a network on a part of a series."""
    windows, targets = series.windows(part, model.input_shape[1])
    distance = np.abs(model.predict(windows, batch_size=1000, verbose=0) - targets).astype(float)
    return float(distance.mean()), float((distance**2).mean())


def applied(file: Path, series: Series, part: Part) -> tuple[Array, Array]:
    """The targets in a part of a series, and what the network in a file of Keras predicts; each (windows, targets)."""
    import keras

    model = keras.saving.load_model(file)
    windows, targets = series.windows(part, model.input_shape[1])
    return targets, model.predict(windows, verbose=0)


def report(model: keras.Model, fitness: Mapping[str, float]) -> dict[str, Any]:
    """A network as the paper's third listing shows it: ``fitness``, ``layers``, ``look_back``, ``config``."""
    layers = [layer for layer in model.layers if hasattr(layer, "units")]
    return {
        "fitness": dict(fitness),
        "layers": [model.input_shape[2], *(layer.units for layer in layers)],
        "look_back": model.input_shape[1],
        "config": [each for each in model.get_config()["layers"] if each["class_name"] != "InputLayer"],
    }


def problem(
    layers: tuple[int, int] = (1, 3),
    units: tuple[int, int] = (1, 10),
    look_back: tuple[int, int] = (2, 20),
    **options: Any,
) -> RecurrentTraining:
    """The problem for a job file: bounds of the architectures, and options of :class:`RecurrentTraining`."""
    return RecurrentTraining(**{"space": space(layers, units, look_back), **options})
