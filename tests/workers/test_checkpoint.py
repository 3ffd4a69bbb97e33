from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import CheckpointCorrupt, CheckpointMissing, CheckpointStore
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import process

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "iterations": np.int64(7),
    "names": np.array(["conv", "dense"]),
    "file": np.zeros((0, 4)),  # these names are arguments of np.savez, or the name of our own member
    "allow_pickle": np.array([True]),
    "meta.json": np.array(1j),
    "a/b": np.asfortranarray(np.ones((3, 2))),
}
META = {"epoch": 3, "loss": None, "note": "ö", "nested": {"rates": [0.1, 1e-9]}}


@pytest.fixture(params=["directory", "memory"])
def url(request, tmp_path):
    return str(tmp_path / "new" / "folder") if request.param == "directory" else f"memory://{uuid.uuid4().hex}/folder"


@pytest.fixture
def store(url):
    return CheckpointStore(url)


def assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_what_is_saved_is_loaded_by_whoever_opens_the_same_url(store, url):
    size = store.save("aa", ARRAYS, META)
    loaded = CheckpointStore(url).load("aa")
    assert_equal(loaded.arrays, ARRAYS)
    assert loaded.meta == META
    assert size > sum(array.nbytes for array in ARRAYS.values())


def test_a_checkpoint_never_changes(store):
    size = store.save("aa", ARRAYS, META)
    assert store.save("aa", {"weights": np.zeros(1)}, {}) == size
    assert_equal(store.load("aa").arrays, ARRAYS)


def test_a_checkpoint_that_is_not_there_is_missing(store):
    assert not store.exists("aa")
    assert store.keys() == set()
    store.delete(["aa"])
    with pytest.raises(CheckpointMissing, match="aa.*train aa again"):
        store.load("aa")
    with pytest.raises(CheckpointMissing, match="aa"):
        store.promote("aa")


def test_a_partial_save_is_replaced_until_it_is_promoted(store):
    for epoch in (1, 2):
        store.save("aa", {"epoch": np.array(epoch)}, {}, partial=True)
        assert store.load("aa", partial=True).arrays["epoch"] == epoch
        assert not store.exists("aa")
        assert store.keys() == set()
    store.promote("aa")
    assert store.load("aa").arrays["epoch"] == 2
    with pytest.raises(CheckpointMissing):
        store.load("aa", partial=True)


def test_a_promotion_never_replaces_a_checkpoint(store):
    store.save("aa", {"attempt": np.array(1)}, {})
    store.save("aa", {"attempt": np.array(2)}, {}, partial=True)
    store.promote("aa")
    store.promote("aa")
    assert store.load("aa").arrays["attempt"] == 1
    with pytest.raises(CheckpointMissing):
        store.load("aa", partial=True)


def test_deleting_a_key_takes_all_of_its_files_and_no_others(tmp_path):
    store = CheckpointStore(str(tmp_path))
    for key in ("aa", "aab", "bb"):
        store.save(key, ARRAYS, META)
        store.save(key, ARRAYS, META, partial=True)
    (tmp_path / "aa.0123.tmp").touch()  # as a killed training leaves it
    assert store.keys() == {"aa", "aab", "bb"}
    store.delete(["aa", "bb", "cc"])
    assert {path.name for path in tmp_path.iterdir()} == {"aab.npz", "aab.partial"}


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path):
    store = CheckpointStore(str(tmp_path))
    store.save("aa", {"w": np.arange(3)}, {"epoch": 1})
    path = tmp_path / "aa.npz"
    content = path.read_bytes()
    damaged = [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(len(content))]
    for wrong in [*damaged, *(content[:i] for i in range(0, len(content), 10))]:
        path.write_bytes(wrong)
        with pytest.raises(CheckpointCorrupt, match="aa.npz is corrupt"):
            store.load("aa")


@pytest.mark.parametrize(
    ("arrays", "meta", "error"),
    [
        ({"objects": np.array([{}, None])}, {}, ValueError),
        ({}, {"loss": float("nan")}, ValueError),
        ({}, {"weights": np.zeros(2)}, TypeError),
    ],
)
def test_what_only_pickle_could_save_is_refused_and_leaves_nothing(tmp_path, arrays, meta, error):
    with pytest.raises(error):
        CheckpointStore(str(tmp_path)).save("aa", arrays, meta)
    assert list(tmp_path.iterdir()) == []


def test_numpy_reads_the_file_without_us(tmp_path):
    CheckpointStore(str(tmp_path)).save("aa", ARRAYS, META)
    with np.load(tmp_path / "aa.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["weights"], ARRAYS["weights"])


def test_a_storage_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        CheckpointStore(str(tmp_path / "file")).save("aa", ARRAYS, META)


def saves_without_end(params, ctx):
    step = 0
    while True:
        ctx.save({name: np.full(20_000, step) for name in ("weights", "momentum")}, step=step)
        if step == 0:
            Path(params["fifo"]).write_text("saved")
        step += 1


@pytest.mark.slow
def test_a_reader_never_sees_half_a_checkpoint_even_if_its_writer_is_killed(tmp_path):
    fifo, url = tmp_path / "fifo", str(tmp_path / "checkpoints")
    os.mkfifo(fifo)
    store = CheckpointStore(url)

    def check(key):
        checkpoint = store.load(key, partial=True)
        for array in checkpoint.arrays.values():
            np.testing.assert_array_equal(array, np.full(20_000, checkpoint.meta["step"]))
        return checkpoint.meta["step"]

    with ThreadPoolExecutor(1) as executor:
        for step in range(25):
            evaluation = Evaluation.of("p", {"fifo": str(fifo), "killed after": step})
            future = executor.submit(evaluate, cloudpickle.dumps(saves_without_end), evaluation, checkpoints=url)
            assert fifo.read_text() == "saved"
            while check(evaluation.key) < step:
                pass
            process.cancel(evaluation.key)  # SIGKILL
            assert future.result().status is Status.CANCELLED
            assert check(evaluation.key) >= step
            store.delete([evaluation.key])
    assert list((tmp_path / "checkpoints").iterdir()) == []
