"""LeNet-5 on colour images: three convolutions, two max-poolings between them, a dense layer, softmax.

Deep Learning Project Report (Goulas and Hocquette), figure 4: its bounds hold 32·32·91·201 = 18,729,984 configurations.
The report counts 32·32·90·200 = 18,432,000: it leaves out one end of the ranges of C5 and F6. The network is that of
LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 86 (1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.errors import Infeasible
from swarm.trial import Params
from swarm.workers.keras.layers import classifier, max_pool
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "c1_filters": {"integer": [1, 32], "default": 6},
    "c3_filters": {"integer": [1, 32], "default": 16},
    "c5_filters": {"integer": [40, 130], "default": 120},
    "f6_units": {"integer": [125, 325], "default": 125},  # the original's 84 is below the report's range
}

LEAST_PIXELS = 32  # a side of 32 shrinks to 28, 14, 10, 5 and in C5 to 1


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled.

    The report names the layers alone. Windows are those of the original, 5 × 5 within the image ("valid") and 2 × 2;
    ReLU and maxima take the place of its sigmoids and means.

    Args:
        params: A point of :data:`SPACE`.
        input_shape: Height, width, channels.
        classes: Width of the softmax.

    Raises:
        Infeasible: The image is smaller than 32 × 32.
    """
    import keras

    height, width = input_shape[:2]
    if min(height, width) < LEAST_PIXELS:
        raise Infeasible(f"LeNet-5 needs images of {LEAST_PIXELS} × {LEAST_PIXELS} at least, not {height} × {width}")
    inputs = keras.Input(input_shape)
    x = max_pool(_conv(inputs, params["c1_filters"]), 2, 2)
    x = max_pool(_conv(x, params["c3_filters"]), 2, 2)
    x = keras.layers.Flatten()(_conv(x, params["c5_filters"]))
    x = keras.layers.Dense(int(params["f6_units"]), activation="relu")(x)
    return classifier(inputs, x, classes)


def _conv(x: Any, filters: Any) -> Any:
    import keras

    return keras.layers.Conv2D(int(filters), 5, activation="relu")(x)


def problem(**options: Any) -> KerasProblem:
    """LeNet-5 on CIFAR-10: 40 epochs, batches of 64; ``options`` are those of :class:`KerasProblem`.

    The report does not name its optimizer; here it is Adam at 1e-3. Its validation images are not described either;
    here they are a fold of the training images, and the test images stay unseen.
    """
    defaults = {
        "build": build,
        "name": "lenet5",
        "data": "cifar10",
        "epochs": 40,
        "batch_size": 64,
        "patience": None,
        "space": SPACE,
    }
    return KerasProblem(**{**defaults, **options})
