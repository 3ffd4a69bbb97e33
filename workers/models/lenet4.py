"""LeNet-4: two convolutions, each with a max-pooling, a dense layer, softmax.

Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization,
table 2: the original values are the defaults, and the bounds give 3.149e10 configurations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import classifier, conv, max_pool
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "c0_filters": {"integer": [1, 48], "default": 24},
    "c0_size": {"integer": [2, 10], "default": 5},
    "p0_size": {"integer": [2, 4], "default": 2},
    "p0_stride": {"integer": [2, 4], "default": 2},
    "c1_filters": {"integer": [1, 100], "default": 50},
    "c1_size": {"integer": [2, 10], "default": 5},
    "p1_size": {"integer": [2, 4], "default": 2},
    "p1_stride": {"integer": [2, 4], "default": 2},
    "fc_units": {"integer": [1, 1000], "default": 500},
}


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled.

    Args:
        params: A point of :data:`SPACE`.
        input_shape: Height, width, channels.
        classes: Width of the softmax.

    Raises:
        Infeasible: A pooling window is larger than what is left of the image.
    """
    import keras

    inputs = keras.Input(input_shape)
    x: Any = inputs
    for block in "01":
        x = conv(x, int(params[f"c{block}_filters"]), int(params[f"c{block}_size"]))
        x = max_pool(x, int(params[f"p{block}_size"]), int(params[f"p{block}_stride"]))
    x = keras.layers.Dense(int(params["fc_units"]), activation="relu")(keras.layers.Flatten()(x))
    return classifier(inputs, x, classes)


def problem(**options: Any) -> KerasProblem:
    """LeNet-4 on MNIST; ``options`` are those of :class:`KerasProblem`."""
    return KerasProblem(**{"build": build, "name": "lenet4", "data": "mnist", "space": SPACE, **options})
