"""Blocks that the networks are made of."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from swarm.errors import Infeasible
from swarm.trial import Params
from swarm.workers.keras.network import Hyperparameters, share

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_LEAST_KEPT = 1e-7  # instead of 0, by which nothing can be divided


def conv(x: Any, filters: int, size: int) -> Any:
    """A convolution of ``filters`` maps that keeps the image size ("same"), with ReLU."""
    import keras

    return keras.layers.Conv2D(filters, size, padding="same", activation="relu")(x)


def max_pool(x: Any, size: int, stride: int) -> Any:
    """Max-pooling over windows that lie within the image ("valid").

    Raises:
        Infeasible: The window is larger than what is left of the image.
    """
    import keras

    height, width = x.shape[1:3]
    if size > min(height, width):
        raise Infeasible(f"a pooling window of {size} × {size} does not fit into {height} × {width}")
    return keras.layers.MaxPooling2D(size, stride, padding="valid")(x)


def dropout(x: Any, params: Params, name: str = "dropout") -> Any:
    """Dropout at the rate ``params[name]``, which another training can set without rebuilding the network.

    Args:
        x: What some units of are set to 0 while it trains.
        params: As the network's ``build`` gets them.
        name: Of the hyper-parameter.

    Raises:
        InvalidProblem: The rate is not within 0 … 1.
    """
    rate = params.rate(name) if isinstance(params, Hyperparameters) else share(name, params[name])
    return dropout_layer()(rate)(x)


@functools.cache
def dropout_layer() -> type[keras.layers.Layer]:
    """The layer whose rate can be changed without building the network again."""
    import keras

    class Dropout(keras.layers.Layer):  # type: ignore[misc]
        """As Keras' own, but the rate may be a variable. It is no weight, so it is not saved with the network."""

        def __init__(self, rate: tf.Variable | float) -> None:
            super().__init__()
            self.supports_masking = True
            self.rate = rate
            self.seed = keras.random.SeedGenerator()

        def call(self, x: Any, training: bool = False) -> Any:
            if not training:
                return x
            rate = keras.ops.cast(self.rate, x.dtype)
            kept = keras.random.uniform(keras.ops.shape(x), dtype=x.dtype, seed=self.seed) >= rate
            return keras.ops.where(kept, x, 0) / keras.ops.maximum(1 - rate, _LEAST_KEPT)

        def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return shape

    return Dropout


def classifier(inputs: Any, x: Any, classes: int) -> keras.Model:
    """The network that ends in a softmax over ``classes``."""
    import keras

    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))
