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
SYNTHETIC_SEED = 20201
REPORT_TASKS = (13, 2, 4)  # classes of the tasks of P3B1: primary site, laterality and grade of a tumour


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Images and their labels. Images stay uint8, a quarter of the memory, until :meth:`scaled` is used.

    What is no image is kept in the same way: counts or words, with ``white`` 1.

    Attributes:
        x_train: Training images, (n, height, width, channels).
        y_train: Their labels, (n,), 0 … classes - 1; or (n, m), m labels for each.
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
        """``images`` as float32, where white is 1."""
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
        np.arange(len(arrays.y_train)), train_size=train, stratify=_first(arrays.y_train), random_state=SPLIT_SEED
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

    Stratified (by the first label, if there are several), shuffled by a fixed seed: every job sees the same folds.

    Args:
        y: Labels, (n,) or (n, m).
        fold: 0 … splits - 1.
        splits: Number of folds.

    Raises:
        InvalidProblem: There is no such fold.
    """
    if not 0 <= fold < splits:
        raise InvalidProblem(f"there is no fold {fold} of {splits}")
    return _folds(np.asarray(_first(y), dtype=np.int64).tobytes(), splits)[fold]


def _first(labels: Labels) -> Labels:
    return labels.reshape(len(labels), -1)[:, 0]


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


def _synthetic_reports() -> Arrays:
    """1,250 made-up reports, each a bag of 400 concepts with three labels: 1,000 to train, 250 to test.

    They stand in for the pathology reports of the CANDLE benchmark P3B1, with as many concepts and classes
    (:data:`REPORT_TASKS`). The other labels depend on the first, and how often a concept is named on all three.
    """
    rng = np.random.default_rng(SYNTHETIC_SEED)
    reports, concepts, sites = 1250, 400, REPORT_TASKS[0]
    site = rng.integers(sites, size=reports)
    odds = [rng.normal(size=(sites, classes))[site] for classes in REPORT_TASKS[1:]]
    others = [(odd + rng.gumbel(size=odd.shape)).argmax(axis=1) for odd in odds]  # ~ softmax(odd)
    y = np.stack([site, *others], axis=1)
    logs = [rng.normal(0, 0.5, (classes, concepts)) for classes in REPORT_TASKS]
    rates = np.exp(-2 + sum(log[labels] for log, labels in zip(logs, y.T, strict=True)))
    return _divided(rng.poisson(rates), y, 1000, white=1)


def _synthetic_jets() -> Arrays:
    """5,000 made-up collisions seen by 24 × 24 × 3 cells, of two kinds: 4,000 to train, 1,000 to test.

    They stand in for the detector images of RPV supersymmetry and QCD. Both kinds deposit the same energy, class 1 in
    about ten jets, class 0 in about five.
    """
    rng = np.random.default_rng(SYNTHETIC_SEED)
    events, cells, channels, deposits = 5000, 24, 3, 12
    y = rng.integers(2, size=events)
    jets = 1 + rng.poisson(np.where(y == 1, 9, 4))
    event = np.repeat(np.arange(events), jets * deposits)
    centre = np.repeat(rng.integers(cells, size=(jets.sum(), 2)), deposits, axis=0)
    row, column = (np.rint(centre + rng.normal(size=centre.shape)).astype(int) % cells).T
    x = np.zeros((events, cells, cells, channels), np.float32)
    np.add.at(x, (event, row, column, rng.integers(channels, size=len(event))), rng.exponential(200 / jets[event]))
    return _divided(x, y, 4000)


def _synthetic_translation() -> Arrays:
    """2,821 made-up sentences of six words with their translations: 1,553 to train, 1,268 to test.

    They stand in for as many sentences of Vietnamese and English. A translation takes each word's only counterpart,
    in reverse order. An example is (sentence, translation so far): the latter begins with the word 0 and lacks the
    last word. Its labels are the translation.
    """
    rng = np.random.default_rng(SYNTHETIC_SEED)
    sentences, length, words = 2821, 6, 24
    source = rng.integers(1, words, size=(sentences, length))
    dictionary = rng.permutation(np.arange(1, words))
    target = dictionary[source - 1][:, ::-1]
    so_far = np.pad(target[:, :-1], ((0, 0), (1, 0)))
    return _divided(np.stack([source, so_far], axis=1), target, 1553, white=1)


def _divided(x: npt.NDArray[Any], y: npt.NDArray[np.integer[Any]], train: int, white: int = 255) -> Arrays:
    """The first ``train`` examples to train, the others to test."""
    examples, labels = x.clip(max=255).astype(np.uint8), y.astype(np.int64)
    return Arrays(examples[:train], labels[:train], examples[train:], labels[train:], white=white)


LOADERS: dict[str, Callable[[], Arrays]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "synthetic-jets": _synthetic_jets,
    "synthetic-reports": _synthetic_reports,
    "synthetic-translation": _synthetic_translation,
}
"""Data sets by name. A further one is a function here that returns :class:`Arrays`."""
