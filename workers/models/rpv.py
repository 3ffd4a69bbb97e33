"""RPV: which collisions have supersymmetric particles in them; three convolutions with max-poolings, a dense layer.

Recombination of Artificial Neural Networks, table 2: what it reports of Bhimji, Farrell and others (2017) are the
defaults. The exponents of the learning rate are lost, so its range is ours. The paper's 64,000 images are not at hand:
``synthetic-jets`` stands in for them, and says nothing about physics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import classifier, conv, dropout, max_pool
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "kernel1": {"integer": [2, 9], "default": 3},
    "kernel2": {"integer": [2, 9], "default": 3},
    "kernel3": {"integer": [2, 9], "default": 3},
    "filters1": {"integer": [2, 32], "default": 8},
    "filters2": {"integer": [4, 64], "default": 16},
    "filters3": {"integer": [8, 128], "default": 32},
    "dense": {"integer": [16, 256], "default": 64},
    "learning_rate": {"real": [1e-5, 1e-1], "log": True, "default": 1e-3},
    "dropout": {"real": [0.1, 0.9], "default": 0.5},
    "optimizer": {"choice": ["Adam", "Nadam", "Adadelta"], "default": "Adam"},
}


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled.

    Args:
        params: A point of :data:`SPACE`; the learning rate is the optimizer's.
        input_shape: Height, width, channels.
        classes: Width of the softmax.

    Raises:
        Infeasible: The image is smaller than 8 × 8.
    """
    import keras

    inputs = keras.Input(input_shape)
    x: Any = inputs
    for layer in "123":
        x = max_pool(conv(x, int(params[f"filters{layer}"]), int(params[f"kernel{layer}"])), 2, 2)
    x = keras.layers.Flatten()(dropout(x, params))
    x = keras.layers.Dense(int(params["dense"]), activation="relu")(x)
    return classifier(inputs, dropout(x, params), classes)


def problem(**options: Any) -> KerasProblem:
    """The network on made-up collisions: 16 epochs; ``options`` are those of :class:`KerasProblem`."""
    defaults = {
        "build": build,
        "name": "rpv",
        "data": "synthetic-jets",
        "epochs": 16,
        "patience": None,
        "space": SPACE,
    }
    return KerasProblem(**{**defaults, **options})
