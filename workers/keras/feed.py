"""Batches of a data set as TensorFlow reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from swarm.errors import Infeasible
from swarm.workers.data import Arrays, fold_split
from swarm.workers.keras.parallel import even_size, own_part
from swarm.workers.replicas.data_parallel import Replicas

EVALUATION_BATCH = 1000


class Feed:
    """A fold of a data set as TensorFlow takes it. To make it takes a tenth of a second and more, so it is kept.

    Attributes:
        order: Variable with the numbers of the training images, in the order in which an epoch takes them.
        train: Batches of T in that order; this replica's part of them.
        valid: Batches of V; this replica's part of it.
        share: Number of images of V in that part, times the number of replicas, by that of all.

    Raises:
        Infeasible: There are more replicas than batches for them, or than images of V.
    """

    def __init__(
        self, arrays: Arrays, fold: int, splits: int, batch_size: int, replicas: Replicas, devices: int
    ) -> None:
        import tensorflow as tf

        self.fold, self.batch_size = fold, batch_size
        train, valid = fold_split(arrays.y_train, fold, splits)
        rank, size = replicas.rank, replicas.size
        if len(valid) < size or (not replicas.sync and len(train) <= (size - 1) * batch_size):
            raise Infeasible(f"{size} replicas are too many for {len(train)} images in batches of {batch_size}")
        with tf.device("CPU"):
            images, labels = tf.constant(arrays.scaled(arrays.x_train[train])), tf.constant(arrays.y_train[train])
            self.order = order = tf.Variable(np.arange(len(train)))

        def batch(start: Any) -> tuple[Any, ...]:
            chosen = order[start : start + batch_size]
            if devices == 1 and (size == 1 or not replicas.sync):
                return tf.gather(images, chosen), tf.gather(labels, chosen)
            mine, weights = own_part(chosen, replicas, devices)
            return tf.gather(images, mine), tf.gather(labels, mine), weights

        if replicas.sync:
            self.train = batches_of(batch, range(0, len(train), batch_size))
        else:
            self.train = batches_of(batch, range(rank * batch_size, len(train), size * batch_size))
        mine = valid[rank::size]
        self.valid = in_order(arrays.scaled(arrays.x_train[mine]), arrays.y_train[mine], devices)
        self.share = len(mine) * size / len(valid)


def in_order(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], devices: int = 1) -> Any:
    """Batches to evaluate on."""
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
