"""Stores of earlier versions, as SQL that lies beside the tests."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from swarm.store import Store


@contextmanager
def restored(name: str, folder: Path) -> Iterator[Store]:
    """A store as an earlier version left it, restored from ``tests/NAME.sql.gz`` into a folder."""
    file = folder / "swarm.db"
    with closing(sqlite3.connect(file)) as database:
        database.executescript(gzip.decompress(Path(__file__).with_name(f"{name}.sql.gz").read_bytes()).decode())
    with closing(Store(str(file))) as opened:
        yield opened
