from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swarm.errors import InvalidProblem
from swarm.workers.data import REPORT_TASKS, fold_split, load

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


# --- made-up data

SYNTHETIC = ["synthetic-jets", "synthetic-reports", "synthetic-translation"]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_made_up_data_are_always_the_same(name):
    first = load(name)
    load.cache_clear()
    again = load(name)
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(first, part), getattr(again, part))


@pytest.mark.parametrize(
    ("name", "x", "y", "test", "classes"),
    [
        ("synthetic-jets", (4000, 24, 24, 3), (4000,), 1000, 2),
        ("synthetic-reports", (1000, 400), (1000, 3), 250, 13),
        ("synthetic-translation", (1553, 2, 6), (1553, 6), 1268, 24),
    ],
)
def test_made_up_data_have_the_shapes_of_what_they_stand_in_for(name, x, y, test, classes):
    data = load(name)
    assert (data.x_train.shape, data.y_train.shape, data.shape, data.classes) == (x, y, x[1:], classes)
    assert data.x_test.shape == (test, *x[1:]) and data.y_test.shape == (test, *y[1:])
    assert (data.x_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)


@pytest.mark.parametrize("name", SYNTHETIC[1:])
def test_where_examples_have_several_labels_the_first_is_in_all_folds_alike(name):
    subset = load(name, 500)
    first = subset.y_train[:, 0]
    parts = [fold_split(subset.y_train, fold)[1] for fold in range(10)]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(500))
    for valid in parts:
        assert np.ptp(np.bincount(first[valid], minlength=24) - np.bincount(first, minlength=24) / 10) <= 2


def test_a_made_up_report_has_one_class_of_each_task_of_p3b1():
    assert (load("synthetic-reports").y_train.max(axis=0) + 1).tolist() == list(REPORT_TASKS) == [13, 2, 4]


def test_the_kinds_of_made_up_collisions_differ_in_jets_and_not_in_energy():
    jets = load("synthetic-jets")
    energy = [jets.x_train[jets.y_train == kind].sum(axis=(1, 2, 3), dtype=float).mean() for kind in (0, 1)]
    cells = [(jets.x_train[jets.y_train == kind] > 0).sum(axis=(1, 2, 3)).mean() for kind in (0, 1)]
    assert energy[1] == pytest.approx(energy[0], rel=0.1)
    assert cells[1] > 1.5 * cells[0]


def test_a_made_up_translation_takes_each_words_counterpart_in_reverse_order():
    sentences = load("synthetic-translation")
    source, so_far, target = sentences.x_train[:, 0], sentences.x_train[:, 1], sentences.y_train
    pairs = set(zip(source.ravel().tolist(), target[:, ::-1].ravel().tolist(), strict=True))
    assert len(pairs) == len({word for word, _ in pairs}) == len({word for _, word in pairs}) == 23
    assert (so_far[:, 0] == 0).all() and np.array_equal(so_far[:, 1:], target[:, :-1])
    assert np.array_equal(sentences.scaled(sentences.x_train), sentences.x_train.astype(np.float32))


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
