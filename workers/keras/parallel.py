"""A network in TensorFlow that several replicas, or several GPUs of one process, train together."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from swarm.workers.backend import is_tensorflow, needs_tensorflow
from swarm.workers.replicas.data_parallel import Replicas

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float32]


def train_together(optimizer: keras.optimizers.Optimizer, replicas: Replicas) -> None:
    """Has each step of an optimizer be one of all replicas; to be called before a step is traced.

    In a synchronous training the step is made from the mean of all gradients. In an asynchronous one each replica makes
    its own, with a state of the optimizer of its own (its momentum, say), and gives what it has changed for the newest
    weights.

    Args:
        optimizer: Built for the weights that are trained.
        replicas: Those that train.

    Raises:
        InvalidProblem: The backend is not TensorFlow.
    """
    if not is_tensorflow():
        raise needs_tensorflow("replicas")
    import tensorflow as tf

    step = optimizer.apply

    def apply(gradients: Sequence[Any], weights: Sequence[Any] | None = None) -> None:
        weights = list(weights or optimizer._trainable_variables)
        if replicas.sync:
            found = [tf.convert_to_tensor(gradient) for gradient in gradients]  # those of embeddings have holes
            step(_exchanged(replicas.mean, found), weights)
            return
        before = [tf.identity(weight) for weight in weights]
        step(gradients, weights)
        changes = [tf.convert_to_tensor(weight) - old for weight, old in zip(weights, before, strict=True)]
        for weight, newest in zip(weights, _exchanged(replicas.push, changes), strict=True):
            weight.assign(newest)

    optimizer.apply = apply


def start_together(model: keras.Model, replicas: Replicas) -> None:
    """Gives all replicas the weights of the first."""
    if not replicas.alone:
        _assign(model.trainable_weights, replicas.start(_flat(model.trainable_weights)))


def settle(model: keras.Model, replicas: Replicas) -> None:
    """Gives all replicas the same weights, where they wait for each other: those of all steps so far.

    Moving averages, of batch normalisation, become the mean of what the replicas have.
    """
    if not replicas.sync:
        _assign(model.trainable_weights, replicas.settle())
    averages = [weight for weight in model.non_trainable_weights if "float" in str(weight.dtype)]
    if averages and replicas.size > 1:
        _assign(averages, replicas.mean(_flat(averages)))


def own_part(whole: Any, replicas: Replicas, devices: int = 1) -> tuple[Any, Any]:
    """This replica's part of a batch of a synchronous training, as many examples for each device, and their weights.

    With the weights, the mean over all replicas and devices of their mean losses is the mean loss over the whole batch.
    What is missing is filled up with an example that does not count.

    Args:
        whole: Numbers of the examples, (n,).
        replicas: Those that train.
        devices: Number of devices of each.

    Returns:
        Numbers of the examples, (m,), and their weights, (m,).
    """
    import tensorflow as tf

    mine = whole[replicas.rank :: replicas.size]
    real = tf.size(mine)
    filled = tf.maximum(1, -(-real // devices)) * devices
    weight = tf.cast(replicas.size * filled / tf.size(whole), tf.float32)
    numbers = tf.concat([mine, tf.fill([filled - real], whole[0])], 0)
    return numbers, tf.concat([tf.fill([real], weight), tf.zeros([filled - real])], 0)


def even_size(number: int, most: int, devices: int) -> int:
    """A batch size with which each of several devices gets a part of every batch, and an equal one of the first."""
    sizes = range(min(number, most) // devices * devices, 0, -devices)
    return next(size for size in sizes if number % size == 0 or number % size >= devices)


@contextlib.contextmanager
def on_all_gpus(devices: Sequence[str] | None = None) -> Iterator[None]:
    """What is built and compiled in this context is trained on all GPUs of this process, each on a part of every batch.

    Args:
        devices: TensorFlow's names of them; None is all GPUs. With one, or none, nothing is special.

    Raises:
        InvalidProblem: There are several, and the backend is not TensorFlow.
    """
    if not is_tensorflow():
        if len(devices or os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")) > 1:
            raise needs_tensorflow("several devices")
        yield
        return
    import tensorflow as tf

    chosen = devices or [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
    if len(chosen) < 2:
        yield
        return
    with tf.distribute.MirroredStrategy(list(chosen)).scope():
        yield


def devices_of(model: keras.Model) -> int:
    """Number of devices that share a network's batches."""
    strategy = getattr(model, "distribute_strategy", None)  # the models of TensorFlow have one
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def _exchanged(exchange: Callable[[Vector], Vector], tensors: list[Any]) -> list[Any]:
    """The tensors that come back for these, all in one message."""
    import tensorflow as tf

    flat = tf.concat([tf.reshape(tf.cast(tensor, tf.float32), [-1]) for tensor in tensors], 0)
    back = tf.ensure_shape(tf.numpy_function(exchange, [flat], tf.float32), flat.shape)
    parts = tf.split(back, [math.prod(tensor.shape) for tensor in tensors])
    return [tf.cast(tf.reshape(part, tensor.shape), tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]


def _flat(weights: Sequence[keras.Variable]) -> Vector:
    import numpy as np

    return np.concatenate([np.asarray(weight, np.float32).ravel() for weight in weights])


def _assign(weights: Sequence[keras.Variable], values: Vector) -> None:
    start = 0
    for weight in weights:
        size = math.prod(weight.shape)
        weight.assign(values[start : start + size].reshape(weight.shape))
        start += size
