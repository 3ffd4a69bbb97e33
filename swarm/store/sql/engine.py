"""Connections to the database of a store, none of which waits for ever.

A server that is suspended, or behind a cable that is cut, says nothing at all: no error, no end of the connection. So
every wait for PostgreSQL has a limit here as well as there, and what has reached it is closed and not used again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from swarm.errors import StoreUnavailable
from swarm.store import path

if TYPE_CHECKING:
    import psycopg

SECONDS = 10.0
LONG_SECONDS = 600.0  # for what looks at a whole table, or deletes much
_BUSY_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
_GRACE_SECONDS = 1.0  # the server, if it is well, ends a statement earlier and says why
_log = logging.getLogger("swarm.store")


def make_engine(url: str, file: Path | None, seconds: float = SECONDS) -> sa.Engine:
    """What connects to a database.

    Args:
        url: URL of the store.
        file: The file of an SQLite store, or None.
        seconds: A statement that a server has not answered for so long has failed; so has one for which an SQLite file
            is locked for longer than this, or for longer than five seconds.

    Raises:
        StoreUnavailable: The driver is not installed.
    """
    return postgres_engine(url, seconds) if not url.startswith("sqlite") else _sqlite_engine(url, file, seconds)


def postgres_engine(url: str, seconds: float = SECONDS, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    """The same for a server, with further arguments of its connections and options of the engine."""
    parsed = sa.make_url(url)
    ours = _socket(seconds) if parsed.drivername.endswith("psycopg") else {}
    ours = {name: value for name, value in ours.items() if name not in parsed.query}  # the URL's word comes first
    try:
        engine = sa.create_engine(url, connect_args=ours | (arguments or {}), **({"pool_pre_ping": True} | options))
    except ModuleNotFoundError as error:
        raise StoreUnavailable(
            f"a PostgreSQL store needs {error.name!r}; install it with: pip install 'dask-swarm[postgres]'"
        ) from error
    if engine.dialect.driver != "psycopg":
        return engine

    @sa.event.listens_for(engine, "do_connect")
    def _connect(_: Any, __: Any, words: list[Any], arguments: dict[str, Any]) -> Any:
        connection = _patient().connect(*words, **arguments)
        connection.limit(seconds)
        if "options" not in parsed.query:
            _limit_server(connection, seconds)
        return connection

    return engine


def _socket(seconds: float) -> dict[str, Any]:
    """What libpq is told, so that the kernel notices a peer that is gone, and so that a text is one.

    A database that was made under the locale C has no encoding (``SQL_ASCII``), and the driver would give bytes.
    """
    return {
        "client_encoding": "utf8",
        "connect_timeout": max(2, math.ceil(min(seconds, _CONNECT_SECONDS))),
        "keepalives": 1,
        "keepalives_idle": max(1, math.ceil(seconds / 2)),
        "keepalives_interval": max(1, math.ceil(seconds / 6)),
        "keepalives_count": 3,
        "tcp_user_timeout": math.ceil(1000 * seconds),
    }


def _limit_server(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Have the server end what takes too long, and a transaction whose client was suspended in the middle of it."""
    milliseconds = math.ceil(1000 * seconds)
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {milliseconds}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {max(60_000, 10 * milliseconds)}")
    connection.commit()


@cache
def _patient() -> Any:
    """The class of psycopg's connections that do not wait for ever; made when it is needed, and its driver there."""
    import psycopg

    class Patient(psycopg.Connection[Any]):
        seconds = SECONDS

        def limit(self, seconds: float) -> None:
            self.seconds = seconds

        def wait(self, generator: Any, *words: Any, **options: Any) -> Any:  # type: ignore[override]
            return super().wait(self._limited(generator), *words, **options)

        def _limited(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            """The same steps, until the server has been silent for too long."""
            heard = time.monotonic()
            try:
                wish = next(generator)
                while True:
                    ready = yield wish
                    now = time.monotonic()
                    if ready:
                        heard = now
                    elif now - heard > self.seconds + _GRACE_SECONDS:
                        self.pgconn.finish()
                        raise psycopg.OperationalError(f"the server has not answered for {self.seconds:g} s")
                    wish = generator.send(ready)
            except StopIteration as end:
                return end.value

    return Patient


@contextmanager
def unhurried(connection: sa.Connection) -> Iterator[None]:
    """Within, a statement may take as long as a whole table needs; begin a transaction with it."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql" or not hasattr(driver, "limit"):
        yield
        return
    usual = driver.seconds
    driver.limit(LONG_SECONDS)
    connection.execute(sa.text(f"SET LOCAL statement_timeout = {math.ceil(1000 * LONG_SECONDS)}"))
    try:
        yield
    finally:
        driver.limit(usual)


def _sqlite_engine(url: str, file: Path | None, seconds: float) -> sa.Engine:
    parts = path.split(url)
    if file is None or parts is None:
        place: sa.URL | str = url
    else:
        place = sa.URL.create("sqlite", database=str(file), query=parts[1])
    network = None if file is None else path.on_network(file)
    if file is not None and network is not None:
        _warn_once(path.advice(file, network))
    busy = min(seconds, _BUSY_SECONDS)
    engine = sa.create_engine(place, connect_args={"timeout": busy, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA cell_size_check=ON")  # damage is noticed where a page is read
        # WAL: readers (`swarm show`) never wait for the writer. NORMAL survives the death of the process; after a
        # power cut the last moments may be missing, and are trained again. WAL needs memory that all processes share,
        # which those of several machines do not: there a journal that is deleted, written through.
        if network is None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            return
        with contextlib.suppress(sqlite3.OperationalError):  # somebody else has it open, as it was
            connection.execute("PRAGMA journal_mode=DELETE")

    return engine


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
