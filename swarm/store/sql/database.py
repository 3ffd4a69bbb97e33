"""A connection to the database of a store: opening it, transactions, and errors that name what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from swarm.errors import LeaseLost, StoreDamaged, StoreTooNew, StoreUnavailable, SwarmError
from swarm.store import code_table, path
from swarm.store.path import store_url
from swarm.store.sql import tables
from swarm.store.sql.engine import SECONDS, make_engine, unhurried
from swarm.store.sql.remedies import complaint, damaged

T = TypeVar("T")
OnDamage = Callable[[str, StoreDamaged], object]
_KEYS_PER_STATEMENT = 500
_ATTEMPTS = 12  # to set it up, while others do
_UNREADABLE = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, sa.exc.SQLAlchemyError)


class Database:
    """What all parts of a :class:`Store` share; the arguments are those of the store."""

    def __init__(self, url: str | os.PathLike[str], *, create: bool = True, seconds: float = SECONDS) -> None:
        self.url = store_url(url)
        self.file = path.file_of(self.url)
        self._token: int | None = None  # of the lease, if this process must hold it to write
        if self.file is not None:
            path.check(self.file, create=create)
        self._engine = make_engine(self.url, self.file, seconds)
        try:
            with self._failing_clearly(), self._reading_right():
                self._set_up_with_others(create)
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> Path | None:
        """Folder beside an SQLite store for what is too large for it (``swarm.db.artifacts``); None elsewhere."""
        return self.folder_of(self.url)

    @staticmethod
    def folder_of(url: str | os.PathLike[str]) -> Path | None:
        """The :attr:`folder` of the store at this URL, without opening it."""
        file = path.file_of(store_url(url))
        return None if file is None else file.with_name(f"{file.name}.artifacts")

    def close(self) -> None:
        """Close the connections; the store can be opened again."""
        self._engine.dispose()

    # --- transactions

    @contextmanager
    def _reading(self, *, long: bool = False) -> Iterator[sa.Connection]:
        """A connection to read from; whatever comes out of it and is not what it should be is damage."""
        with self._failing_clearly(), ExitStack() as stack:
            connection = stack.enter_context(self._engine.connect())
            if long:
                stack.enter_context(unhurried(connection))
            stack.enter_context(self._reading_right())
            yield connection

    @contextmanager
    def _writing(self, *, long: bool = False) -> Iterator[sa.Connection]:
        """A transaction, which is rolled back if another master has taken over."""
        with ExitStack() as stack:
            connection = stack.enter_context(self._engine.begin())
            if long:
                stack.enter_context(unhurried(connection))
            yield connection
            if self._token is not None:
                lease = sa.select(tables.lease.c.token, tables.lease.c.holder)
                if self._engine.dialect.name == "postgresql":
                    lease = lease.with_for_update(read=True)  # nobody takes it before this is committed
                row = connection.execute(lease).one_or_none()
                if row is None or row.token != self._token:
                    whom = "" if row is None else f" ({row.holder})"
                    raise LeaseLost(f"another master{whom} has taken over the store {self.url}")

    def _all(self, connection: sa.Connection, query: Any, count: Any) -> Sequence[Any]:
        """All rows of a query. In SQLite an index counts them, too: a damaged page could hide some without a word."""
        for _ in range(3):  # somebody may write in between
            found: Sequence[Any] = connection.execute(query).all()
            number = len(found) if self.file is None else connection.execute(count).scalar_one()
            if number == len(found):
                return found
        raise damaged(self.url, f"its indexes know {number} rows where {len(found)} are found")

    def _undamaged(self, found: Iterable[Any], read: Callable[[Any], T], on_damage: OnDamage | None) -> list[T]:
        """What these rows hold, but for damaged ones if somebody is told of them."""
        known = []
        for row in found:
            try:
                known.append(read(row))
            except StoreDamaged as error:
                if on_damage is None:
                    raise
                on_damage(str(row[0]), error)
        return known

    def _now(self, connection: sa.Connection) -> float:
        """Seconds since the epoch by the database's clock, which all masters share."""
        if self._engine.dialect.name == "postgresql":
            return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        return time.time()  # SQLite is in this process, and its file on this machine

    def _insert(self, table: sa.Table) -> Any:
        """An insert that can say what becomes of a row that is there already."""
        return _insert(self._engine.dialect.name, table)

    def _insert_once(self, table: sa.Table) -> Any:
        """An insert that leaves a row alone that is there already."""
        return _insert_once(self._engine.dialect.name, table)

    @contextmanager
    def _reading_right(self) -> Iterator[None]:
        """What is of another kind than what was written is damage."""
        try:
            yield
        except (SwarmError, sa.exc.DBAPIError, sa.exc.TimeoutError, sa.exc.ArgumentError):
            raise
        except _UNREADABLE as error:
            raise damaged(self.url, f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.ArgumentError, sa.exc.TimeoutError, OSError) as error:
            raise complaint(self.url, error) from error
        except UnicodeDecodeError as error:  # SQLite's own complaint about a name in its pages
            raise damaged(self.url, f"a name in it is no text: {error.reason}") from error

    # --- setting up

    def _set_up_with_others(self, create: bool) -> None:
        """Set it up, though somebody else may be doing so in this moment."""
        for _ in range(_ATTEMPTS):
            try:
                return self._set_up(create)
            except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:
                if not any(sign in str(error.orig) for sign in ("already exists", "duplicate column")):
                    raise
        return self._set_up(create)

    def _set_up(self, create: bool) -> None:
        with self._engine.connect() as connection:
            found = sa.inspect(connection).has_table(tables.meta.name)
            version = self._version(connection) if found else None
        if version is not None and version > tables.SCHEMA:
            raise StoreTooNew(
                f"the store {self.url} has schema {version}, this version knows {tables.SCHEMA}; upgrade dask-swarm"
            )
        if version is None and not create:
            raise StoreUnavailable(f"{self.url} holds no dask-swarm store; name another with --store")
        if version is None or version < tables.SCHEMA:
            with self._engine.begin() as connection, unhurried(connection):
                _upgrade(connection)
                connection.execute(self._insert_once(tables.meta), {"name": "schema", "value": str(tables.SCHEMA)})
                schema = tables.meta.update().where(tables.meta.c.name == "schema")
                connection.execute(schema.values(value=str(tables.SCHEMA)))

    def _version(self, connection: sa.Connection) -> int | None:
        """The schema that a store has; None if it has none yet."""
        text = connection.execute(sa.select(tables.meta.c.value)).scalar_one_or_none()
        try:
            return None if text is None else int(text)
        except (TypeError, ValueError) as error:
            raise damaged(self.url, f"its schema is {text!r}") from error


def _insert(dialect: str, table: sa.Table) -> Any:
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        return pg_insert(table)
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table)


@cache
def _insert_once(dialect: str, table: sa.Table) -> Any:
    """Made once: to make a statement costs more than to run it."""
    return _insert(dialect, table).on_conflict_do_nothing()


def _upgrade(connection: sa.Connection) -> None:
    """Make what is not there: all, or the tables, columns and indexes that are new since an earlier schema."""
    for known in (tables.TABLES, code_table.TABLES):
        known.create_all(connection)
    for table in tables.TABLES.tables.values():
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                kind = column.type.compile(connection.dialect)
                connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"))
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    date_ends(connection)


def date_ends(connection: sa.Connection) -> None:
    """Note when the jobs ended whose end an earlier version has written: with the last event of their journal."""
    jobs, journal, submissions = tables.jobs, tables.journal, tables.submissions
    last = sa.select(journal.c.time).where(journal.c.job == submissions.c.job).order_by(journal.c.seq.desc()).limit(1)
    began = sa.select(jobs.c.created).where(jobs.c.name == submissions.c.job)
    when = sa.func.coalesce(last.scalar_subquery(), began.scalar_subquery(), 0.0)
    ended = submissions.c.ended.is_(None), submissions.c.state.in_(("finished", "cancelled", "failed"))
    connection.execute(submissions.update().where(*ended).values(ended=when, crc=None))


def batched(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """The keys in parts that one statement may name."""
    for first in range(0, len(keys), _KEYS_PER_STATEMENT):
        yield keys[first : first + _KEYS_PER_STATEMENT]


def plain(row: Any) -> dict[str, Any]:
    """The columns of a row by their names."""
    return dict(row._mapping)
