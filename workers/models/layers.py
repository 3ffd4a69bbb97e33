"""Blocks that the networks are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.errors import Infeasible

if TYPE_CHECKING:
    import keras


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


def classifier(inputs: Any, x: Any, classes: int) -> keras.Model:
    """The network that ends in a softmax over ``classes``."""
    import keras

    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))
