"""P3B1: what kind of tumour a report describes, where and how grave; three tasks that share their first layer.

Recombination of Artificial Neural Networks, table 1, and the benchmark P3B1 of CANDLE, whose values are the defaults.
The exponents of the learning rate are lost, so its range is ours. The reports are not public: ``synthetic-reports``
stands in for them, and says nothing about how well a network reads reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.data import REPORT_TASKS
from swarm.workers.keras.layers import dropout
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "dense_shared": {"integer": [32, 8192], "default": 1200},
    "dense_a": {"integer": [32, 8192], "default": 1200},
    "dense_b": {"integer": [32, 8192], "default": 1200},
    "dense_c": {"integer": [32, 8192], "default": 1200},
    "learning_rate": {"real": [1e-4, 1e-1], "log": True, "default": 1e-2},
    "dropout": {"real": [0.0, 0.9], "default": 0.1},
}

NEVER = -1e9  # logarithm of the odds of a class that a task does not have


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled; its outputs are the probabilities of the classes, (report, task, class).

    Args:
        params: A point of :data:`SPACE`; the learning rate is the optimizer's.
        input_shape: Number of concepts.
        classes: Of the task that has most.
    """
    import keras

    inputs = keras.Input(input_shape)
    shared = _dense(inputs, params, "dense_shared")
    logits = []
    for task, own in zip("abc", REPORT_TASKS, strict=True):
        x = _dense(_dense(shared, params, f"dense_{task}"), params, f"dense_{task}")
        x = keras.layers.Dense(own)(x)
        logits.append(keras.ops.pad(x, ((0, 0), (0, classes - own)), constant_values=NEVER))
    return keras.Model(inputs, keras.layers.Softmax()(keras.ops.stack(logits, axis=1)))


def _dense(x: Any, params: Params, units: str) -> Any:
    import keras

    return dropout(keras.layers.Dense(int(params[units]), activation="relu")(x), params)


def problem(**options: Any) -> KerasProblem:
    """The network on made-up reports, trained as in CANDLE; ``options`` are those of :class:`KerasProblem`.

    Its fitness is the accuracy, a mean over the three tasks.
    """
    defaults = {
        "build": build,
        "name": "p3b1",
        "data": "synthetic-reports",
        "epochs": 10,
        "batch_size": 10,
        "optimizer": "sgd",
        "patience": None,
        "space": SPACE,
    }
    return KerasProblem(**{**defaults, **options})
