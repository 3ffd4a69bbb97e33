"""What can befall the store of a service: it is locked, its disk is full, its server hangs, a clock was wrong."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import sqlalchemy as sa

if TYPE_CHECKING:
    from benchmarks.shared.processes import Service

HELD_SECONDS = 8.0  # a fault lasts so long: longer than a lease, and than SQLite waits for a lock
_DISK = "48m"
_AN_HOUR = 3600

SQLITE = {"locked store": 2, "clock of a master": 1, "full disk": 2}
POSTGRES = {"suspended server": 2, "clock of a master": 1}


@contextmanager
def disk(folder: Path) -> Iterator[str | None]:
    """Make a folder a small disk of its own; why that cannot be, if it cannot."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        yield "a small disk is mounted by root alone"
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "swarm", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        yield mounted.stderr.strip()
        return
    try:
        yield None
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server with an empty database; its URL."""
    import pgserver

    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # a short path: sockets have no room for a long one
    found = pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url = sa.make_url(found.get_uri()).set(drivername="postgresql+psycopg")
        yield url.render_as_string(hide_password=False)
    finally:
        found.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def strike(service: Service, kind: str, rng: random.Random) -> str:
    """Have one of these befall a service's store."""
    if kind == "locked store":
        with closing(sqlite3.connect(_file(service), timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(HELD_SECONDS)
            connection.execute("ROLLBACK")
        return f"for {HELD_SECONDS:.0f} s"
    if kind == "full disk":
        fill(_file(service).with_name("ballast"))
        time.sleep(HELD_SECONDS)
        _file(service).with_name("ballast").unlink()
        return f"for {HELD_SECONDS:.0f} s"
    if kind == "suspended server":
        processes = _server_of(service)
        for process in processes:
            process.suspend()
        time.sleep(HELD_SECONDS)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        return f"{len(processes)} processes for {HELD_SECONDS:.0f} s"
    ahead = rng.choice((_AN_HOUR, -_AN_HOUR))
    engine = sa.create_engine(service.store)
    with engine.begin() as connection:  # as if the clock of the lease's holder had been wrong
        connection.execute(sa.text("UPDATE swarm_lease SET expires = expires + :ahead"), {"ahead": ahead})
    engine.dispose()
    holder = rng.choice(("master-1", "master-2"))
    service.kill(holder)
    service.master(holder)
    return f"was {ahead:+d} s off, and {holder} is killed"


def fill(ballast: Path) -> None:
    """Take all room on the disk of this file."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**9, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass


def _file(service: Service) -> Path:
    found = sa.make_url(service.store).database
    assert found is not None
    return Path(found)


def _server_of(service: Service) -> list[psutil.Process]:
    """The server's processes; the first ends none of the others while it is suspended."""
    folder = str(sa.make_url(service.store).query["host"])
    first = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split("\n", 1)[0]))
    return [first, *first.children(recursive=True)]
