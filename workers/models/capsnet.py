"""A capsule network for CIFAR-10: four convolutions, one capsule per class, found by dynamic routing.

Sabour, Frosst and Hinton, Dynamic Routing Between Capsules (NIPS 2017). Recombination of Artificial Neural Networks,
section 4.3.2, changes k, the learning rate, the weight decay and the routings while it trains; it states no ranges,
so those here are ours. Like its network, this one makes the capsules of all positions with the same weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import conv
from swarm.workers.keras.problem import CHANGEABLE, KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "k": {"real": [0.05, 5.0], "log": True, "default": 0.5},
    "learning_rate": {"real": [1e-5, 1e-2], "log": True, "default": 1e-3},
    "weight_decay": {"real": [1e-4, 1.0], "log": True, "default": 1e-2},
    "routings": {"integer": [1, 6], "default": 3},
}

PRESENT, ABSENT, ABSENT_WEIGHT = 0.9, 0.1, 0.5  # m+, m- and λ of the margin loss
TINY = 1e-7  # a square root has no slope at 0


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled; its outputs are the lengths of the capsules, each in [0, 1).

    Args:
        params: A point of :data:`SPACE`, of which ``k`` and ``routings`` are the network's. It may also hold
            ``filters`` of the first two convolutions, 32 unless given (the others have twice as many), and
            ``dimension`` of a capsule, 16 unless given.
        input_shape: Height, width, channels; both sides even, or the last row and column go unseen.
        classes: Number of capsules.
    """
    import keras

    filters, dimension = int(params.get("filters", 32)), int(params.get("dimension", 16))
    inputs = keras.Input(input_shape)
    x = conv(conv(inputs, filters, 3), filters, 3)
    x = keras.layers.AveragePooling2D(2)(x)
    x = conv(conv(x, 2 * filters, 3), 2 * filters, 3)
    x = keras.layers.Dense(classes * dimension, use_bias=False)(x)
    votes = keras.layers.Reshape((-1, classes, dimension))(x)
    capsules = routed(votes, int(params["routings"]), float(params["k"]))
    lengths = keras.ops.sqrt(keras.ops.sum(keras.ops.square(capsules), axis=-1) + TINY)
    return keras.Model(inputs, lengths)


def squash(s: Any, k: float) -> Any:
    """The direction of s with a length below 1: v = |s|² / (k + |s|²) · s / |s| (equation 1).

    Args:
        s: Vectors, (..., dimension).
        k: The squared length that is shrunk to one half; 1 in the paper.
    """
    import keras

    squared = keras.ops.sum(keras.ops.square(s), axis=-1, keepdims=True)
    return s * keras.ops.sqrt(squared + TINY) / (k + squared)


def routed(votes: Any, routings: int, k: float) -> Any:
    """Capsules that the votes agree on: those that point along the capsule count for more next time (procedure 1).

    Args:
        votes: (batch, inputs, capsules, dimension).
        routings: Times that the capsules are found, at least 1.
        k: Of :func:`squash`.

    Returns:
        (batch, capsules, dimension).
    """
    import keras

    agreement = keras.ops.zeros_like(votes[..., 0])  # b: (batch, inputs, capsules)
    for routing in range(routings):
        share = keras.ops.softmax(agreement, axis=-1)  # c: how an input divides its vote among the capsules
        capsules = squash(keras.ops.einsum("bic,bicd->bcd", share, votes), k)
        if routing < routings - 1:
            agreement = agreement + keras.ops.einsum("bicd,bcd->bic", votes, capsules)
    return capsules


def margin_loss(labels: Any, lengths: Any) -> Any:
    """Equation 4: the capsule of the class shall be longer than 0.9, and the others shorter than 0.1.

    Args:
        labels: (batch,).
        lengths: (batch, classes).

    Returns:
        (batch,).
    """
    import keras

    present = keras.ops.one_hot(keras.ops.cast(labels, "int32"), lengths.shape[-1])
    short = keras.ops.square(keras.ops.relu(PRESENT - lengths))
    long = keras.ops.square(keras.ops.relu(lengths - ABSENT))
    return keras.ops.sum(present * short + ABSENT_WEIGHT * (1 - present) * long, axis=-1)


def problem(**options: Any) -> KerasProblem:
    """The network on CIFAR-10: 100 epochs of Adam on the margin loss; ``options`` are those of :class:`KerasProblem`.

    Both ``k`` and ``routings`` may change while it trains, like the rates: neither shapes a weight.
    """
    defaults = {
        "build": build,
        "name": "capsnet",
        "data": "cifar10",
        "loss": margin_loss,
        "weight_decay": 1e-2,
        "patience": None,
        "changeable": (*CHANGEABLE, "k", "routings"),
        "space": SPACE,
    }
    return KerasProblem(**{**defaults, **options})
