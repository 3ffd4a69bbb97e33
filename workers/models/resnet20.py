"""ResNet-20 for CIFAR-10: a convolution, nine residual blocks in three stages, the mean over the image, softmax.

He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition (CVPR 2016), section 4.2, with shortcuts that have
no parameters (option A). Recombination of Artificial Neural Networks, section 4.3.1, changes its learning rate and
weight decay while it trains; it states no ranges, so those here are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import classifier
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "learning_rate": {"real": [1e-5, 1e-1], "log": True, "default": 1e-3},
    "weight_decay": {"real": [1e-4, 1.0], "log": True, "default": 1e-2},
}


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled.

    Args:
        params: ``blocks`` per stage, which make 6 · blocks + 2 layers: 3 unless given. A point of :data:`SPACE` is
            the optimizer's.
        input_shape: Height, width, channels.
        classes: Width of the softmax.
    """
    import keras

    inputs = keras.Input(input_shape)
    x = keras.layers.ReLU()(_conv(inputs, 16))
    for filters in (16, 32, 64):
        for block in range(int(params.get("blocks", 3))):
            x = _residual(x, filters, stride=2 if filters > 16 and block == 0 else 1)
    return classifier(inputs, keras.layers.GlobalAveragePooling2D()(x), classes)


def _residual(x: Any, filters: int, stride: int) -> Any:
    """Two convolutions beside a shortcut; a stride halves the image and doubles the channels, the new ones zero."""
    import keras

    y = _conv(keras.layers.ReLU()(_conv(x, filters, stride)), filters)
    if stride > 1:
        new = filters - x.shape[-1]
        x = keras.ops.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
    return keras.layers.ReLU()(keras.layers.Add()([x, y]))


def _conv(x: Any, filters: int, stride: int = 1) -> Any:
    """A convolution of 3 × 3, normalized over the batch."""
    import keras

    conv = keras.layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, kernel_initializer="he_normal")
    return keras.layers.BatchNormalization(momentum=0.9)(conv(x))  # Keras' 0.99 takes hundreds of steps to catch up


def problem(**options: Any) -> KerasProblem:
    """ResNet-20 on CIFAR-10: 200 epochs, Adam at 1e-3, decoupled weight decay; options of :class:`KerasProblem`.

    Images are taken as they are, neither shifted nor mirrored, which costs some points of accuracy.
    """
    defaults = {
        "build": build,
        "name": "resnet20",
        "data": "cifar10",
        "epochs": 200,
        "weight_decay": 1e-2,
        "patience": None,
        "space": SPACE,
    }
    return KerasProblem(**{**defaults, **options})
