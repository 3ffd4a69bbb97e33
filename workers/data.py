"""Data sets by name: arrays in memory, loaded once per process and shared by the trainings forked from it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm.errors import InvalidProblem

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SPLIT_SEED = 20200  # of every split into parts; no job's seed, so that all jobs see the same folds


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Images and their labels. Images stay uint8, a quarter of the memory, until :meth:`scaled` is used.

    Attributes:
        x_train: Training images, (n, height, width, channels).
        y_train: Their labels, (n,), 0 … classes - 1.
        x_test: Unseen test images.
        y_test: Their labels.
        white: Value of the brightest pixel.
    """

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels
    white: int = 255

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image: height, width, channels."""
        return self.x_train.shape[1:]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y_train.max()) + 1

    def scaled(self, images: Images) -> npt.NDArray[np.float32]:
        """``images`` as float32 in [0, 1]."""
        return images.astype(np.float32) / np.float32(self.white)


@functools.lru_cache(maxsize=2)
def load(name: str, train: int | None = None) -> Arrays:
    """The data set ``name``, from memory if this process has loaded it before.

    Args:
        name: One of :data:`LOADERS`.
        train: Take so many of the training images, always the same and of all classes alike; None is all.

    Raises:
        InvalidProblem: There is no such data set, or it has fewer training images.
        FileNotFoundError: It is neither on this machine nor can it be downloaded.
    """
    if name not in LOADERS:
        raise InvalidProblem(f"no data set {name!r}; there are {', '.join(LOADERS)}")
    arrays = LOADERS[name]()
    if train is None or train == len(arrays.y_train):
        return arrays
    if not arrays.classes <= train < len(arrays.y_train):
        raise InvalidProblem(
            f"{name} cannot give {train} training images: take {arrays.classes} … {len(arrays.y_train)}"
        )
    from sklearn.model_selection import train_test_split

    chosen, _ = train_test_split(
        np.arange(len(arrays.y_train)), train_size=train, stratify=arrays.y_train, random_state=SPLIT_SEED
    )
    return Arrays(arrays.x_train[chosen], arrays.y_train[chosen], arrays.x_test, arrays.y_test, white=arrays.white)


@functools.lru_cache(maxsize=2)
def _folds(labels: bytes, splits: int) -> tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]:
    from sklearn.model_selection import StratifiedKFold

    y = np.frombuffer(labels, dtype=np.int64)
    folds = StratifiedKFold(splits, shuffle=True, random_state=SPLIT_SEED)
    return tuple(folds.split(np.zeros(len(y)), y))


def fold_split(y: Labels, fold: int, splits: int = 10) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices of the training part T and of the validation part V of a fold, |T| = (splits - 1) |V|.

    Stratified, shuffled by a fixed seed: every job sees the same folds.

    Args:
        y: Labels, (n,).
        fold: 0 … splits - 1.
        splits: Number of folds.

    Raises:
        InvalidProblem: There is no such fold.
    """
    if not 0 <= fold < splits:
        raise InvalidProblem(f"there is no fold {fold} of {splits}")
    return _folds(np.asarray(y, dtype=np.int64).tobytes(), splits)[fold]


def _digits() -> Arrays:
    """1,797 handwritten digits of 8 × 8 pixels, bundled with scikit-learn: 1,500 to train, 297 to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = digits.images.astype(np.uint8)[..., np.newaxis]
    y = digits.target.astype(np.int64)
    parts = train_test_split(x, y, train_size=1500, stratify=y, random_state=SPLIT_SEED)
    x_train, x_test, y_train, y_test = parts
    return Arrays(x_train, y_train, x_test, y_test, white=16)


def _mnist() -> Arrays:
    """70,000 handwritten digits of 28 × 28 pixels: 60,000 to train, 10,000 to test."""
    x_train, y_train, x_test, y_test = _read("mnist", "mnist.npz")
    return Arrays(x_train[..., np.newaxis], _labels(y_train), x_test[..., np.newaxis], _labels(y_test))


def _cifar10() -> Arrays:
    """60,000 colour photographs of 32 × 32 pixels, ten things to tell apart: 50,000 to train, 10,000 to test.

    Where there is ``cifar10-12k.npz`` it is a class-balanced part of them, 10,000 to train and 2,000 to test. That
    part was JPEG-recompressed, so its pixels differ slightly from the original: say so beside an accuracy on it.
    """
    x_train, y_train, x_test, y_test = _read("cifar10", "cifar10-12k.npz", "cifar10.npz")
    return Arrays(x_train, _labels(y_train), x_test, _labels(y_test))


def _read(name: str, *files: str) -> list[Images]:
    """x_train, y_train, x_test, y_test: from the first of the files in the folder SWARM_DATA, else from Keras."""
    folder = os.environ.get("SWARM_DATA")
    for path in (Path(folder, file) for file in files) if folder else ():
        if path.is_file():
            with np.load(path) as arrays:
                return [arrays[part] for part in ("x_train", "y_train", "x_test", "y_test")]
    try:
        import keras

        train, test = getattr(keras.datasets, name).load_data()  # from its cache, if it is there
    except Exception as error:
        place = f"{folder} (SWARM_DATA)" if folder else "a folder, name it in the variable SWARM_DATA"
        raise FileNotFoundError(f"{name} cannot be downloaded ({error}): put {files[-1]} into {place}") from error
    return [*train, *test]


def _labels(labels: npt.NDArray[np.integer[Any]]) -> Labels:
    """Labels as they are stored, in a row or in a column, as (n,)."""
    return labels.reshape(-1).astype(np.int64)


LOADERS: dict[str, Callable[[], Arrays]] = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}
"""Data sets by name. A further one is a function here that returns :class:`Arrays`."""
