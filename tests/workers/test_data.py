from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swarm.errors import InvalidProblem
from workers.data import fold_split, load

needs_mnist = pytest.mark.skipif(
    not Path(os.environ.get("SWARM_DATA", ""), "mnist.npz").is_file(),
    reason="no mnist.npz in the folder that SWARM_DATA names",
)


def test_digits_are_split_into_training_and_test_images():
    digits = load("digits")
    assert digits.x_train.shape == (1500, 8, 8, 1)
    assert digits.x_test.shape == (297, 8, 8, 1)
    assert (digits.shape, digits.classes) == ((8, 8, 1), 10)
    assert digits.x_train.dtype == np.uint8
    assert digits.y_train.shape == (1500,)
    assert set(digits.y_test) == set(range(10))


def test_images_are_scaled_to_the_unit_interval():
    digits = load("digits")
    scaled = digits.scaled(digits.x_train)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)


def test_data_is_loaded_once_per_process():
    assert load("digits") is load("digits")


def test_the_split_into_training_and_test_images_is_always_the_same():
    load.cache_clear()
    first = load("digits")
    load.cache_clear()
    assert np.array_equal(first.x_test, load("digits").x_test)


@pytest.mark.parametrize("train", [500, 1000])
def test_a_subset_is_always_the_same_and_has_all_classes_alike(train):
    subset = load("digits", train)
    load.cache_clear()
    assert np.array_equal(subset.x_train, load("digits", train).x_train)
    assert subset.x_train.shape == (train, 8, 8, 1)
    assert np.ptp(np.bincount(subset.y_train)) <= train // 100
    assert np.array_equal(subset.x_test, load("digits").x_test)


@pytest.mark.parametrize("train", [0, 5, 1501])
def test_a_subset_that_cannot_be_is_refused(train):
    with pytest.raises(InvalidProblem, match="take 10 … 1500"):
        load("digits", train)


def test_an_unknown_data_set_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidProblem, match="digits, mnist"):
        load("imagenet")


def test_the_validation_parts_of_the_folds_are_a_stratified_partition():
    y = load("digits").y_train
    parts = [fold_split(y, fold) for fold in range(10)]
    assert np.array_equal(np.sort(np.concatenate([valid for _, valid in parts])), np.arange(1500))
    for train, valid in parts:
        assert len(train) == 9 * len(valid) == 1350
        assert not set(train) & set(valid)
        assert np.ptp(np.bincount(y[valid]) - np.bincount(y) / 10) <= 2


def test_the_folds_are_shuffled_and_always_the_same():
    y = load("digits").y_train
    _, valid = fold_split(y, 3)
    assert not np.array_equal(valid, np.arange(450, 600))
    assert np.array_equal(valid, fold_split(y.copy(), 3)[1])


@pytest.mark.parametrize("fold", [-1, 10])
def test_a_fold_that_is_not_there_is_refused(fold):
    with pytest.raises(InvalidProblem, match="no fold"):
        fold_split(load("digits").y_train, fold)


def test_a_folder_of_the_users_own_serves_the_file(tmp_path, monkeypatch):
    images, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    monkeypatch.setenv("SWARM_DATA", str(tmp_path))
    load.cache_clear()
    assert load("mnist").x_train.shape == (20, 28, 28, 1)
    load.cache_clear()


@needs_mnist
def test_mnist_is_split_as_published():
    load.cache_clear()
    mnist = load("mnist")
    assert mnist.x_train.shape == (60_000, 28, 28, 1)
    assert mnist.x_test.shape == (10_000, 28, 28, 1)
    assert mnist.scaled(mnist.x_train[:100]).max() == 1.0
    train, valid = fold_split(mnist.y_train, 0)
    assert abs(len(train) - 9 * len(valid)) <= 10
