"""LeNet for MNIST: two convolutions, each with a max-pooling, a dense layer with dropout, softmax.

Recombination of Artificial Neural Networks, table 3. The exponents of its learning rates and dropouts are lost; the
ranges here are those of the driver that its authors published, whose ``dropout`` is the probability to keep a unit:
0.005 … 0.9, at first 0.5, at last 0.83. Here it is the rate at which units are dropped, one minus that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import classifier, conv, dropout, max_pool
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "kernel1": {"integer": [2, 8], "default": 5},
    "kernel2": {"integer": [2, 8], "default": 5},
    "filters1": {"integer": [8, 128], "default": 32},
    "filters2": {"integer": [16, 256], "default": 64},
    "dense": {"integer": [64, 4096], "default": 1024},
    "learning_rate": {"real": [1e-6, 1e-2], "log": True, "default": 1e-4},
    "dropout": {"real": [0.1, 0.995], "default": 0.5},
}


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled.

    Args:
        params: A point of :data:`SPACE`; the learning rate is the optimizer's.
        input_shape: Height, width, channels.
        classes: Width of the softmax.

    Raises:
        Infeasible: The image is smaller than 4 × 4.
    """
    import keras

    inputs = keras.Input(input_shape)
    x: Any = inputs
    for layer in "12":
        x = max_pool(conv(x, int(params[f"filters{layer}"]), int(params[f"kernel{layer}"])), 2, 2)
    x = keras.layers.Dense(int(params["dense"]), activation="relu")(keras.layers.Flatten()(x))
    return classifier(inputs, dropout(x, params), classes)


def problem(**options: Any) -> KerasProblem:
    """LeNet on MNIST in batches of 100; ``options`` are those of :class:`KerasProblem`."""
    defaults = {"build": build, "name": "lenet", "data": "mnist", "batch_size": 100, "space": SPACE}
    return KerasProblem(**{**defaults, **options})
