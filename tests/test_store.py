"""What only some stores can get wrong: files, locks and addresses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from swarm.errors import StoreUnavailable
from swarm.store import Store


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, and long enough not to be taken for an empty file " * 20)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store(str(file))


def test_a_folder_that_is_not_there_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does its folder exist"):
        Store(str(tmp_path / "nowhere" / "swarm.db"))


def test_a_store_to_read_must_exist_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="--store"):
        Store(str(tmp_path / "swarm.db"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.store._BUSY_SECONDS", 0.05)
    store = Store(str(tmp_path / "swarm.db"))
    holder = sqlite3.connect(tmp_path / "swarm.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match=r"locked.*close that"):
        store.add_job("a", {}, b"")
    holder.execute("ROLLBACK")
    holder.close()
    store.add_job("a", {}, b"")  # nothing was broken
    store.close()


def test_a_read_only_database_says_so(tmp_path: Path) -> None:
    Store(str(tmp_path / "swarm.db")).close()
    store = Store(f"sqlite:///file:{tmp_path}/swarm.db?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match=r"readonly.*writable"):
        store.add_job("a", {}, b"")
    store.close()


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(StoreUnavailable, match="sqlite:///FILE or postgresql://"):
        Store("mysql://host/name")


def test_a_server_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Store("postgresql://127.0.0.1:1/none")
    assert "\n" not in str(caught.value)
