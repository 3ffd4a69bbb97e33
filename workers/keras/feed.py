"""Batches of a data set as Keras reads them: from TensorFlow's pipeline, or on another backend from NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from swarm.errors import Infeasible
from swarm.workers.backend import is_tensorflow
from swarm.workers.data import Arrays, fold_split
from swarm.workers.keras.parallel import even_size, own_part
from swarm.workers.replicas.data_parallel import Replicas

EVALUATION_BATCH = 1000


class Feed:
    """A fold of a data set as Keras takes it. To make it takes a tenth of a second and more, so it is kept.

    Attributes:
        train: Batches of T in that order; this replica's part of them.
        valid: Batches of V; this replica's part of it.
        share: Number of images of V in that part, times the number of replicas, by that of all.

    Raises:
        Infeasible: There are more replicas than batches for them, or than images of V.
    """

    def __init__(
        self, arrays: Arrays, fold: int, splits: int, batch_size: int, replicas: Replicas, devices: int
    ) -> None:
        self.fold, self.batch_size = fold, batch_size
        train, valid = fold_split(arrays.y_train, fold, splits)
        rank, size = replicas.rank, replicas.size
        if len(valid) < size or (not replicas.sync and len(train) <= (size - 1) * batch_size):
            raise Infeasible(f"{size} replicas are too many for {len(train)} images in batches of {batch_size}")
        x, y = arrays.scaled(arrays.x_train[train]), arrays.y_train[train]
        whole = replicas.sync or size == 1
        starts = range(0, len(y), batch_size) if whole else range(rank * batch_size, len(y), size * batch_size)
        self._order: Any = np.arange(len(y))
        if is_tensorflow():
            self._order, self.train = _in_tensorflow(x, y, starts, batch_size, replicas, devices)
        else:
            self.train = _batches()(x, y, starts, batch_size, self._order)
        mine = valid[rank::size]
        self.valid = in_order(arrays.scaled(arrays.x_train[mine]), arrays.y_train[mine], devices)
        self.share = len(mine) * size / len(valid)

    def shuffle(self, rng: np.random.Generator) -> None:
        """Take the training images in another order from now on."""
        order = rng.permutation(self._order.shape[0])
        if isinstance(self._order, np.ndarray):
            self._order[:] = order
        else:
            self._order.assign(order)


def _in_tensorflow(
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    starts: range,
    batch_size: int,
    replicas: Replicas,
    devices: int,
) -> tuple[Any, Any]:
    """A variable with the order of the images, and batches in that order."""
    import tensorflow as tf

    with tf.device("CPU"):
        images, labels = tf.constant(x), tf.constant(y)
        order = tf.Variable(np.arange(len(y)))

    def batch(start: Any) -> tuple[Any, ...]:
        chosen = order[start : start + batch_size]
        if devices == 1 and (replicas.size == 1 or not replicas.sync):
            return tf.gather(images, chosen), tf.gather(labels, chosen)
        mine, weights = own_part(chosen, replicas, devices)
        return tf.gather(images, mine), tf.gather(labels, mine), weights

    return order, batches_of(batch, starts)


@functools.cache
def _batches() -> type[Any]:
    """What gives Keras batches of arrays in memory."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """Batches that begin at ``starts`` in an order of the examples, which may change between two epochs."""

        def __init__(
            self,
            x: np.ndarray[Any, Any],
            y: np.ndarray[Any, Any],
            starts: range,
            size: int,
            order: np.ndarray[Any, Any],
        ) -> None:
            super().__init__()
            self._x, self._y, self._starts, self._size, self._order = x, y, starts, size, order

        def __len__(self) -> int:
            return len(self._starts)

        def __getitem__(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
            start = self._starts[number]
            chosen = self._order[start : start + self._size]
            return self._x[chosen], self._y[chosen]

    return Batches


def in_order(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], devices: int = 1) -> Any:
    """Batches to evaluate on."""
    if not is_tensorflow():
        starts = range(0, len(y), EVALUATION_BATCH)
        return _batches()(x, y, starts, EVALUATION_BATCH, np.arange(len(y)))
    import tensorflow as tf

    with tf.device("CPU"):
        images, labels = tf.constant(x), tf.constant(y)
    size = even_size(len(y), EVALUATION_BATCH, devices)
    return batches_of(lambda at: (images[at : at + size], labels[at : at + size]), range(0, len(y), size))


def batches_of(batch: Callable[[Any], tuple[Any, ...]], starts: range) -> Any:
    """What TensorFlow reads batches from, one for each start."""
    import tensorflow as tf

    numbers = tf.data.Dataset.range(starts.start, starts.stop, starts.step)
    return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
