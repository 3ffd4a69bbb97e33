"""Networks that learn a function: a stack of dense or of recurrent layers, or one of your own.

Source: NHOP, Neural network Hyper-parameter OPtimization with distributed TensorFlow: its RegressorNN, CustomNN and
RNN, its configuration space (section III), and the complex cosine function of its section IV. It does not give the
formula: the one here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Params
from swarm.workers.backend import OnBackend, check, is_tensorflow
from swarm.workers.context import Context
from swarm.workers.keras.parallel import own_part, settle, start_together, train_together

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

Build = Callable[[Params, tuple[int, ...], int], "keras.Model"]

SPACE: dict[str, Any] = {
    "layers": {"integer": [1, 4], "default": 2},
    "nodes": {"integer": [4, 64], "default": 16},
    "activation": {"choice": ["relu", "tanh"], "default": "relu"},
    "optimizer": {"choice": ["adam", "sgd", "adagrad"], "default": "adam"},
    "learning_rate": {"real": [1e-4, 1e-1], "log": True, "default": 1e-3},
    "batch_size": {"integer": [100, 1600], "default": 400},
}
"""The paper's parameters. Its learning rates end at 1e-3, where so short trainings as fit on a CPU get nowhere."""

RNN_SPACE: dict[str, Any] = {
    "layers": {"integer": [1, 3], "default": 1},
    "units": {"integer": [4, 50], "default": 20},
    **{name: SPACE[name] for name in ("optimizer", "learning_rate", "batch_size")},
}

_SEED = 20202  # of the examples; no job's seed, so that all jobs see the same
_PARTS = 5  # of the examples; one of them is for validation
_REPORTS = 50  # points of a learning curve


def regressor(params: Params, input_shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Dense layers of equal width, uncompiled.

    Args:
        params: ``layers``, ``nodes`` of each, ``activation``.
        input_shape: Shape of an example.
        outputs: Numbers to predict.
    """
    import keras

    x = inputs = keras.Input(input_shape)
    for _ in range(int(params["layers"])):
        x = keras.layers.Dense(int(params["nodes"]), activation=str(params["activation"]))(x)
    return keras.Model(inputs, keras.layers.Dense(outputs)(x))


def rnn(params: Params, input_shape: tuple[int, ...], outputs: int) -> keras.Model:
    """Recurrent layers on top of each other, uncompiled: LSTMs, since the paper does not say of what kind.

    Args:
        params: ``layers``, and the ``units`` of each; or ``rnn_state_dim``, the paper's name for the units.
        input_shape: Length of a sequence, numbers at each of its places.
        outputs: Numbers to predict.
    """
    import keras

    layers, units = int(params["layers"]), int(params.get("rnn_state_dim", params.get("units", 50)))
    x = inputs = keras.Input(input_shape)
    for layer in range(1, layers + 1):
        x = keras.layers.LSTM(units, return_sequences=layer < layers)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs)(x))


MODELS: dict[str, tuple[Build, Mapping[str, Any]]] = {"regressor": (regressor, SPACE), "rnn": (rnn, RNN_SPACE)}


def cosine(examples: int) -> tuple[Floats, Floats]:
    """A complex cosine function: x ~ U(-1, 1)⁴, y = cos 4x₀ cos 3x₁ + ½ cos (6x₂ + x₃).

    Returns:
        x, (examples, 4), and y, (examples, 1).
    """
    x = np.random.default_rng(_SEED).uniform(-1, 1, size=(examples, 4))
    y = np.cos(4 * x[:, 0]) * np.cos(3 * x[:, 1]) + 0.5 * np.cos(6 * x[:, 2] + x[:, 3])
    return x.astype(np.float32), y[:, np.newaxis].astype(np.float32)


def cosine_series(examples: int, length: int = 20) -> tuple[Floats, Floats]:
    """Pieces of a sum of two cosines, cos (2πt / 25) + ½ cos (2πt / 60 + 1), each with the value that follows.

    Returns:
        The pieces, (examples, length, 1), and what follows, (examples, 1).
    """
    start = np.random.default_rng(_SEED).uniform(0, 300, size=(examples, 1))
    t = start + np.arange(length + 1)
    y = np.cos(2 * np.pi * t / 25) + 0.5 * np.cos(2 * np.pi * t / 60 + 1)
    return y[:, :-1, np.newaxis].astype(np.float32), y[:, -1:].astype(np.float32)


DATA: dict[str, Callable[..., tuple[Floats, Floats]]] = {"cosine": cosine, "cosine-series": cosine_series}


@dataclass(frozen=True, kw_only=True)
class Regression(OnBackend):
    """Finds the network that predicts numbers with the least mean squared error on validation examples.

    Of the training examples, four fifths are trained with and fold ``ctx.fold`` (0 … 4) is for validation; a fifth as
    many again are for :meth:`test`.

    Attributes:
        build: Makes the uncompiled network from (params, shape of an example, numbers to predict): :func:`regressor`,
            :func:`rnn` or your own.
        name: Name of the problem.
        data: Name of the examples, one of :data:`DATA`.
        examples: Number of training examples, those for validation included.
        epochs: The training loop, unless the evaluation has a budget.
        train_tolerance: Stop when the loss has changed by less from each epoch to the next, ``patience`` times.
        patience: See above.
        batch_size: Examples per step, unless there is a hyper-parameter of that name.
        optimizer: Name of an optimizer of Keras, unless there is a hyper-parameter of that name.
        learning_rate: Of the optimizer, unless there is a hyper-parameter of that name.
        space: The search space as plain data.
    """

    build: Build = regressor
    name: str = "nhop"
    data: str = "cosine"
    examples: int = 2000
    epochs: int = 1000
    train_tolerance: float = 1e-8
    patience: int = 10
    batch_size: int = 400
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    space: Mapping[str, Any] = field(default_factory=lambda: SPACE, hash=False)

    direction: ClassVar[str] = "minimize"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data not in DATA:
            raise InvalidProblem(f"there are no examples {self.data!r}; there are {', '.join(DATA)}")

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains.

        Returns:
            ``fitness``, the mean squared error on the validation examples; ``loss``, that on the training examples in
            the last epoch; ``epochs`` trained; number of ``parameters``.

        Raises:
            Infeasible: There are more replicas than batches for them.
        """
        return self._scored(params, ctx)[1]

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way; the fitness is the mean squared error on examples that no training has seen."""
        model, scores = self._scored(params, ctx)
        x, y = (part[self.examples :] for part in self._all())
        return {**scores, "fitness": _error(model, x, y)}

    def _all(self) -> tuple[Floats, Floats]:
        return DATA[self.data](self.examples + self.examples // _PARTS)

    def _scored(self, params: Params, ctx: Context) -> tuple[keras.Model, dict[str, float]]:
        import keras

        check(self)
        keras.utils.set_random_seed(ctx.seed)
        x, y = (part[: self.examples] for part in self._all())
        valid = np.arange(self.examples) % _PARTS == ctx.fold
        model = self.build(params, x.shape[1:], y.shape[1])
        optimizer = keras.optimizers.get(str(params.get("optimizer", self.optimizer)))
        optimizer.build(model.trainable_variables)
        optimizer.learning_rate = float(params.get("learning_rate", self.learning_rate))
        if not ctx.replicas.alone:
            train_together(optimizer, ctx.replicas)
        start_together(model, ctx.replicas)
        epoch = (_epoch if is_tensorflow() else _epoch_of_keras)(
            model, optimizer, x[~valid], y[~valid], int(params.get("batch_size", self.batch_size)), ctx
        )
        losses = self._fit(epoch, int((~valid).sum()), model, ctx)
        return model, {
            "fitness": _error(model, x[valid], y[valid]),
            "loss": losses[-1],
            "epochs": len(losses),
            "parameters": model.count_params(),
        }

    def _fit(self, epoch: Callable[[Any], Any], examples: int, model: keras.Model, ctx: Context) -> list[float]:
        """The loss of every epoch (the inner loop)."""
        epochs = self.epochs if ctx.budget is None else max(1, math.floor(ctx.budget))
        losses: list[float] = []
        still = 0
        while len(losses) < epochs and still < self.patience:
            order = np.random.default_rng((ctx.seed, len(losses))).permutation(examples)
            loss = np.array([float(epoch(order))])
            settle(model, ctx.replicas)
            losses.append(float(loss[0] if ctx.replicas.size == 1 else ctx.replicas.mean(loss)[0]))
            still = still + 1 if len(losses) > 1 and abs(losses[-1] - losses[-2]) < self.train_tolerance else 0
            if len(losses) % math.ceil(epochs / _REPORTS) == 0:
                ctx.report(epoch=len(losses), loss=losses[-1])
        return losses


def _epoch(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, x: Floats, y: Floats, batch_size: int, ctx: Context
) -> Callable[[Any], Any]:
    """What trains one epoch in an order of the examples, all of it inside TensorFlow, and returns its mean loss."""
    import tensorflow as tf

    replicas, (examples, labels) = ctx.replicas, (tf.constant(x), tf.constant(y))
    first, stride = (0, batch_size) if replicas.sync else (replicas.rank * batch_size, replicas.size * batch_size)
    if first >= len(x):
        raise Infeasible(f"{replicas.size} replicas are too many for {len(x)} examples in batches of {batch_size}")

    def epoch(order: Any) -> Any:
        total, count = tf.constant(0.0), tf.constant(0.0)
        for start in tf.range(first, len(x), stride):
            whole = order[start : start + batch_size]
            if replicas.sync and replicas.size > 1:
                mine, weights = own_part(whole, replicas)
            else:
                mine, weights = whole, tf.ones_like(whole, tf.float32)
            with tf.GradientTape() as tape:
                errors = model(tf.gather(examples, mine), training=True) - tf.gather(labels, mine)
                loss = tf.reduce_mean(weights * tf.reduce_mean(tf.square(errors), axis=1))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total += loss * tf.cast(tf.size(whole), tf.float32)
            count += tf.cast(tf.size(whole), tf.float32)
        return total / count

    return tf.function(epoch)  # type: ignore[no-any-return]


def _epoch_of_keras(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, x: Floats, y: Floats, batch_size: int, _: Context
) -> Callable[[Any], Any]:
    """The same on any backend, for one replica."""
    import keras

    model.compile(optimizer, "mean_squared_error", jit_compile=keras.backend.backend() == "jax")

    def epoch(order: Any) -> Any:
        model.reset_metrics()
        for start in range(0, len(x), batch_size):
            mine = order[start : start + batch_size]
            loss = model.train_on_batch(x[mine], y[mine])  # the mean of all batches since the reset
        return loss

    return epoch


def _error(model: keras.Model, x: Floats, y: Floats) -> float:
    """Mean squared error."""
    import keras

    return float(np.mean(np.square(keras.ops.convert_to_numpy(model(x, training=False)) - y)))


def problem(model: str = "regressor", **options: Any) -> Regression:
    """A regressor of the complex cosine function, or with ``model: rnn`` a recurrent network of a series.

    Args:
        model: One of :data:`MODELS`.
        **options: Those of :class:`Regression`.

    Raises:
        InvalidProblem: There is no such model.
    """
    if model not in MODELS:
        raise InvalidProblem(f"there is no model {model!r}; there are {', '.join(MODELS)}")
    build, space = MODELS[model]
    data = "cosine-series" if model == "rnn" else "cosine"
    return Regression(**{"build": build, "data": data, "space": space, **options})
