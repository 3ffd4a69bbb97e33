"""Checkpoints on a storage elsewhere are fetched once per machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from swarm.workers.checkpoints.cache import Copies
from swarm.workers.checkpoints.checkpoint import CheckpointCorrupt, CheckpointStore

ARRAYS = {"weight": np.arange(6.0)}


class Elsewhere(MemoryFileSystem):
    """A storage that is not on this machine, as far as anybody can tell, and counts who reads."""

    protocol = "elsewhere"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    reads: ClassVar[Counter[str]] = Counter()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        self.reads[path.rpartition("/")[2]] += 1
        return bytes(super().cat_file(path, start, end, **options))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("elsewhere://", "memory://")))


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointStore:
    monkeypatch.setenv("SWARM_COPIES", str(tmp_path / "copies"))
    fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)
    Elsewhere.reads.clear()
    Elsewhere.store.clear()
    return CheckpointStore("elsewhere://bucket/checkpoints")


def test_what_was_saved_or_read_here_is_not_fetched(remote: CheckpointStore, tmp_path: Path) -> None:
    remote.save("aa", ARRAYS, {"epoch": 1}, partial=True)
    remote.promote("aa")
    assert remote.load("aa").meta == {"epoch": 1}
    assert Elsewhere.reads["aa.npz"] == 0
    for file in (tmp_path / "copies").rglob("aa.npz"):
        file.unlink()  # another machine
    for _ in range(3):
        np.testing.assert_array_equal(remote.load("aa").arrays["weight"], ARRAYS["weight"])
    assert Elsewhere.reads["aa.npz"] == 1


def test_a_damaged_copy_is_passed_over(remote: CheckpointStore, tmp_path: Path) -> None:
    remote.save("aa", ARRAYS, {"epoch": 1})
    [copy] = (tmp_path / "copies").rglob("aa.npz")
    copy.write_bytes(copy.read_bytes()[:-40])
    assert remote.load("aa").meta == {"epoch": 1}
    assert Elsewhere.reads["aa.npz"] == 1


def test_a_damaged_original_without_a_copy_is_refused(remote: CheckpointStore, tmp_path: Path) -> None:
    remote.save("aa", ARRAYS, {"epoch": 1})
    [copy] = (tmp_path / "copies").rglob("aa.npz")
    copy.unlink()
    remote._files.pipe_file("/bucket/checkpoints/aa.npz", b"no checkpoint")
    with pytest.raises(CheckpointCorrupt):
        remote.load("aa")


def test_what_is_deleted_there_is_dropped_here(remote: CheckpointStore, tmp_path: Path) -> None:
    remote.save("aa", ARRAYS, {"epoch": 1})
    remote.delete(["aa"])
    assert not list((tmp_path / "copies").rglob("aa.npz"))


def test_copies_that_nobody_has_used_for_longest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_COPIES", str(tmp_path))
    copies = Copies("somewhere", limit=25)
    for name in ("a", "b"):
        copies.put(name, bytes(10))
    assert copies.get("a") is not None  # so "b" is the older one now
    copies.put("c", bytes(10))
    assert (copies.get("a"), copies.get("b"), copies.get("c")) == (bytes(10), None, bytes(10))


def test_without_a_place_for_copies_everything_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWARM_COPIES", str(tmp_path / "file"))
    copies = Copies("somewhere")
    copies.put("a", b"x")
    assert copies.get("a") is None
