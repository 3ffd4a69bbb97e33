"""SimpleNet-1: one convolution, one max-pooling, softmax.

Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization,
table 1. The paper states the lower bounds alone; the upper ones are those of the first block of LeNet-4,
which gives 3,888 configurations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import classifier, conv, max_pool
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "c0_filters": {"integer": [1, 48]},
    "c0_size": {"integer": [2, 10]},
    "p0_size": {"integer": [2, 4]},
    "p0_stride": {"integer": [2, 4]},
}


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled.

    Args:
        params: A point of :data:`SPACE`.
        input_shape: Height, width, channels.
        classes: Width of the softmax.

    Raises:
        Infeasible: The pooling window is larger than the image.
    """
    import keras

    inputs = keras.Input(input_shape)
    x = conv(inputs, int(params["c0_filters"]), int(params["c0_size"]))
    x = max_pool(x, int(params["p0_size"]), int(params["p0_stride"]))
    return classifier(inputs, keras.layers.Flatten()(x), classes)


def problem(**options: Any) -> KerasProblem:
    """SimpleNet-1 on MNIST; ``options`` are those of :class:`KerasProblem`."""
    return KerasProblem(**{"build": build, "name": "simplenet1", "data": "mnist", "space": SPACE, **options})
