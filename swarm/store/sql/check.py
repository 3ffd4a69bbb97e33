"""A look at every row of a store: which are not what was written, and what to do about each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from swarm.errors import StoreDamaged
from swarm.store import code_table
from swarm.store.events import Event
from swarm.store.sql import rows, tables
from swarm.store.sql.database import plain
from swarm.store.sql.engine import unhurried
from swarm.store.sql.remedies import job_remedy, result_remedy

_MOST = 100  # findings of one kind; a thousand more say nothing new


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a store that is not what was written.

    Attributes:
        what: The thing that is damaged, such as ``journal of job 'digits', row 12``.
        cause: What is wrong with it.
        remedy: What to do about it.
    """

    what: str
    cause: str
    remedy: str


@dataclass(slots=True)
class Checked:
    """What a look at a store has found.

    Attributes:
        rows: How many rows were looked at, by what they are.
        unsealed: How many of them have no checksum, since a version before schema 4 has written them.
        findings: What is damaged; empty if the store is sound.
    """

    rows: Counter[str] = field(default_factory=Counter)
    unsealed: int = 0
    findings: list[Finding] = field(default_factory=list)


def check(connection: sa.Connection, url: str) -> Checked:
    """Look at every row of a store.

    Args:
        connection: A connection to its database.
        url: Its URL, for the remedies.
    """
    with unhurried(connection):
        return _Inspector(connection, url).inspect()


class _Inspector:
    def __init__(self, connection: sa.Connection, url: str) -> None:
        self._connection = connection
        self._url = url
        self._found = Checked()
        self._backup = "restore it from a backup, or move what can be read: swarm export, sqlite3's .recover"

    def inspect(self) -> Checked:
        """All parts, each for itself: what cannot be read hides nothing else."""
        parts: dict[str, Callable[[], None]] = {
            "database": self._integrity,
            "jobs": self._jobs,
            "submissions": self._submissions,
            "journals": self._journals,
            "archive": self._archive,
            "code": self._codes,
        }
        for name, part in parts.items():
            with self._readable(name):
                part()
        return self._found

    def _note(self, what: str, cause: object, remedy: str) -> None:
        self._found.findings.append(Finding(what, str(cause), remedy))

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, TypeError, ValueError, LookupError) as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
            self._note(f"table of the {name}" if name != "database" else name, cause[0], self._backup)
            self._connection.rollback()

    def _integrity(self) -> None:
        """What the database itself can say of its pages and indexes."""
        if self._connection.dialect.name != "sqlite":
            return
        for line in self._connection.execute(sa.text(f"PRAGMA integrity_check({_MOST})")).scalars():
            if line != "ok":
                self._note("database", " ".join(str(line).split()), self._backup)

    def _rows(self, query: Any, kind: str) -> Iterator[Any]:
        with self._connection.execution_options(yield_per=1000).execute(query) as found:
            for row in found:
                self._found.rows[kind] += 1
                self._found.unsealed += row.crc is None
                yield row

    def _jobs(self) -> None:
        jobs = tables.jobs
        known = [column for column in jobs.c if column is not jobs.c.problem]
        for row in self._rows(sa.select(*known), "jobs"):
            self._try(rows.stored_job, plain(row), f"row of job {row.name!r}", self._job(row.name))

    def _submissions(self) -> None:
        for row in self._rows(sa.select(tables.submissions), "submissions"):
            self._try(rows.submission_of, plain(row), f"submission of job {row.job!r}", self._job(row.job))

    def _archive(self) -> None:
        for row in self._rows(sa.select(tables.archive), "results"):
            what = f"result {row.key!r}, of job {row.job!r}"
            self._try(rows.result_of, plain(row), what, result_remedy(self._url))

    def _journals(self) -> None:
        journal = tables.journal
        expected: dict[str, int] = {}
        for row in self._rows(sa.select(journal).order_by(journal.c.job, journal.c.seq), "events"):
            what = f"journal of job {row.job!r}, row {row.seq}"
            self._try(_event, plain(row), what, self._job(row.job))
            first = expected.get(row.job, 0)
            if row.seq != first:
                self._note(f"journal of job {row.job!r}, row {first}", "it is missing", self._job(row.job))
            expected[row.job] = int(row.seq) + 1
        for job, events in self._connection.execute(sa.select(tables.lengths.c.job, tables.lengths.c.events)):
            if (there := expected.get(job, 0)) < events:
                cause = f"it is missing, and the journal had {events} rows"
                self._note(f"journal of job {job!r}, row {there}", cause, self._job(job))

    def _codes(self) -> None:
        for digest, job in code_table.damaged(self._connection):
            owner = job or code_table.owner(self._connection, digest)
            cause = rows.WRONG if job is None else "it is missing"
            self._note(f"code {digest[:12]}, of job {owner!r}", cause, self._job(owner))

    def _try(self, read: Callable[[dict[str, Any]], object], row: dict[str, Any], what: str, remedy: str) -> None:
        try:
            read(row)
        except StoreDamaged as error:
            self._note(what, error, remedy)

    def _job(self, job: object) -> str:
        return job_remedy(self._url, job)


def _event(row: dict[str, Any]) -> Event:
    return rows.event_of(row["job"], row["seq"], row["kind"], row["data"], row["time"], row["crc"])
