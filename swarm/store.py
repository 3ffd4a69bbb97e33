"""Jobs, journal and archive in SQL (SQLAlchemy Core): SQLite in WAL mode by default, PostgreSQL by URL.

The journal of a job is an append-only list of events, numbered without gaps; the state of a search is its replay.
The number is the primary key, so two processes that write one job's journal cannot both succeed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from swarm import store_path
from swarm.errors import JobConflict, JobNotFound, LeaseLost, StoreTooNew, StoreUnavailable
from swarm.store_path import store_url
from swarm.trial import Evaluation, Result, Status, canonical

SCHEMA = 2
_BUSY_SECONDS = 5.0
_log = logging.getLogger("swarm.store")

_tables = sa.MetaData()
_meta = sa.Table(
    "swarm_meta",
    _tables,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("value", sa.String(50), nullable=False),
)
_jobs = sa.Table(
    "swarm_jobs",
    _tables,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("problem", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
)
_journal = sa.Table(
    "swarm_journal",
    _tables,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)
_archive = sa.Table(
    "swarm_archive",
    _tables,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("problem", sa.String(64), nullable=False, index=True),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("budget", sa.Double),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
)
_submissions = sa.Table(  # since schema 2
    "swarm_submissions",
    _tables,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("priority", sa.Double, nullable=False),
    sa.Column("most", sa.Integer),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("summary", sa.Text),
)
_lease = sa.Table(  # since schema 2
    "swarm_lease",
    _tables,
    sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Submission:
    """What the service knows of a job besides the job itself.

    Attributes:
        job: Name of the job.
        owner: Who submitted it.
        priority: Its share of the slots is in proportion to its priority.
        most: It never uses more slots than this; None is no limit.
        state: ``active``, ``paused``, ``finished``, ``cancelled`` or ``failed``.
        reason: Why it failed, or why what should follow it did not begin.
        environment: What must be installed on the workers.
        summary: What it found, once it has ended.
    """

    job: str
    owner: str
    priority: float = 1.0
    most: int | None = None
    state: str = "active"
    reason: str | None = None
    environment: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a journal: what happened, as plain JSON-ready data, and when (seconds since the epoch)."""

    kind: str
    data: dict[str, Any]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as the store keeps it: its specification, its pickled problem and how far it is.

    ``status`` is ``new``, ``running``, ``stopped`` or ``finished``; a job whose process was killed stays ``running``.
    """

    name: str
    spec: dict[str, Any]
    problem: bytes
    created: float
    status: str


class Store:
    """Where jobs, journals and the archive live.

    Args:
        url: An SQLAlchemy URL (``sqlite:///swarm.db``, ``postgresql://host/name``) or the path of an SQLite file; see
            :mod:`swarm.store_path`. A relative path is one of the folder in which this is called.
        create: Create the tables, and for SQLite the file, where there are none.

    Attributes:
        url: Its URL.
        file: The file of an SQLite store, absolute and without links; None elsewhere.

    Raises:
        StoreUnavailable: It cannot be opened: no such file, not writable, locked, not a database, no server.
        StoreTooNew: It was written by a later version of this package.
    """

    def __init__(self, url: str | os.PathLike[str], *, create: bool = True) -> None:
        self.url = store_url(url)
        self.file = store_path.file_of(self.url)
        self._token: int | None = None  # of the lease, if this process must hold it to write
        if self.file is not None:
            if not create and not self.file.exists():
                raise StoreUnavailable(f"there is no store at {self.file}; name one with --store")
            store_path.check(self.file)
        self._engine = _engine(self.url, self.file)
        try:
            with self._failing_clearly():
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
        file = store_path.file_of(store_url(url))
        return None if file is None else file.with_name(f"{file.name}.artifacts")

    def close(self) -> None:
        """Close the connections; the store can be opened again."""
        self._engine.dispose()

    # --- jobs

    def add_job(self, name: str, spec: dict[str, Any], problem: bytes) -> None:
        """Write a new job.

        Raises:
            JobConflict: The name is taken.
        """
        self._insert_job(name, spec, problem, None)

    def job(self, name: str) -> StoredJob:
        """The job of that name.

        Raises:
            JobNotFound: There is none.
        """
        with self._failing_clearly(), self._engine.connect() as connection:
            row = connection.execute(sa.select(_jobs).where(_jobs.c.name == name)).one_or_none()
        if row is None:
            names = ", ".join(job.name for job in self.jobs()[-5:]) or "no job at all"
            raise JobNotFound(f"the store {self.url} has no job {name!r}; it has {names}")
        return _stored_job(row)

    def jobs(self) -> list[StoredJob]:
        """All jobs, oldest first."""
        with self._failing_clearly(), self._engine.connect() as connection:
            return [_stored_job(row) for row in connection.execute(sa.select(_jobs).order_by(_jobs.c.created))]

    def set_status(self, name: str, status: str) -> None:
        """Note whether the job is running, stopped or finished."""
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_jobs.update().where(_jobs.c.name == name).values(status=status))

    # --- the service

    def submit(self, submission: Submission, spec: dict[str, Any], problem: bytes) -> None:
        """Write a new job together with its submission.

        Raises:
            JobConflict: The name is taken.
        """
        self._insert_job(submission.job, spec, problem, submission)

    def submissions(self) -> list[Submission]:
        """All submissions, oldest first."""
        query = sa.select(_submissions).join(_jobs, _jobs.c.name == _submissions.c.job).order_by(_jobs.c.created)
        with self._failing_clearly(), self._engine.connect() as connection:
            return [_submission(row) for row in connection.execute(query)]

    def submission(self, job: str) -> Submission | None:
        """The submission of a job; None if the job was not submitted."""
        with self._failing_clearly(), self._engine.connect() as connection:
            row = connection.execute(sa.select(_submissions).where(_submissions.c.job == job)).one_or_none()
        return None if row is None else _submission(row)

    def set_submission(self, submission: Submission) -> None:
        """Replace a submission."""
        row = _submission_row(submission)
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_submissions.delete().where(_submissions.c.job == submission.job))
            connection.execute(_submissions.insert(), row)

    def lease(self, holder: str, seconds: float) -> bool:
        """Take or renew the lease that only one master has; whether we have it now.

        From the first time on, every write of this store is refused when another holder has taken the lease since:
        the token, which each new holder increments, is compared in the transaction that writes.

        Args:
            holder: Name of this process; a lease of its own is renewed.
            seconds: How long it is ours, by the clock of the database.
        """
        with self._failing_clearly(), self._engine.begin() as connection:
            # The first statement writes, so that two who try at once do so one after the other.
            values = {"holder": "", "token": 0, "expires": 0.0}
            connection.execute(self._insert_once(_lease), {"name": "master", **values})
            connection.execute(_lease.update().values(name="master"))
            row, now = connection.execute(sa.select(_lease)).one(), self._now(connection)
            ours = row.holder == holder and row.token == (self._token or row.token)
            if not ours and row.expires > now:
                return False
            token = row.token if ours else row.token + 1
            connection.execute(_lease.update().values(holder=holder, token=token, expires=now + seconds))
        self._token = token
        return True

    def lease_holder(self) -> str | None:
        """Who holds the lease now; None if nobody does."""
        with self._failing_clearly(), self._engine.connect() as connection:
            row = connection.execute(sa.select(_lease)).one_or_none()
            return None if row is None or row.expires <= self._now(connection) else str(row.holder)

    @property
    def term(self) -> int:
        """Number of the lease that this process has or had; 0 if it never had one."""
        return self._token or 0

    def give_up_lease(self) -> None:
        """Let another master take over at once."""
        if self._token is not None:
            with self._failing_clearly(), self._engine.begin() as connection:
                connection.execute(_lease.update().where(_lease.c.token == self._token).values(expires=0.0))

    # --- journal and archive

    def append(
        self, job: str, seq: int, events: Sequence[Event], results: Iterable[tuple[Evaluation, Result]] = ()
    ) -> None:
        """Append events to a job's journal, and results to the archive, in one transaction.

        Args:
            job: Name of the job.
            seq: Number of the first event: how many the journal holds already.
            events: What happened.
            results: Final results for the archive with what they are results of; where a key has one already, the
                first stays.

        Raises:
            JobConflict: The journal is longer than ``seq``: another process runs this job.
            StoreUnavailable: Nothing was written; the same call may be made again.
        """
        lines = [
            {
                "job": job,
                "seq": seq + i,
                "time": e.time,
                "kind": e.kind,
                "data": json.dumps(e.data, allow_nan=False),
            }
            for i, e in enumerate(events)
        ]
        rows = [
            {
                "key": result.key,
                "problem": evaluation.problem,
                "params": canonical(evaluation.params),
                "budget": evaluation.budget,
                "job": job,
                "created": result.end,
                "result": json.dumps(result.to_dict(), allow_nan=False),
            }
            for evaluation, result in results
        ]
        with self._failing_clearly():
            try:
                with self._writing() as connection:
                    if lines:
                        connection.execute(_journal.insert(), lines)
                    if rows:
                        connection.execute(self._insert_once(_archive), rows)
            except sa.exc.IntegrityError:
                raise JobConflict(
                    f"job {job!r} is being run by another process; wait for it, or stop it and resume"
                ) from None

    def events(self, job: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The job's journal in order, read in pieces; on request from event ``after`` on, at most ``limit`` of them."""
        query = sa.select(_journal.c.kind, _journal.c.data, _journal.c.time)
        query = query.where(_journal.c.job == job, _journal.c.seq >= after).order_by(_journal.c.seq).limit(limit)
        with self._failing_clearly(), self._engine.connect() as connection:
            for kind, data, when in connection.execution_options(yield_per=1000).execute(query):
                yield Event(kind, json.loads(data), when)

    def result(self, key: str) -> Result | None:
        """The archived result of that evaluation key, whichever job trained it."""
        with self._failing_clearly(), self._engine.connect() as connection:
            text = connection.execute(_ONE_RESULT, {"wanted": key}).scalar_one_or_none()
        return None if text is None else Result.from_dict(json.loads(text))

    def durations(self, problem: str, limit: int) -> list[tuple[dict[str, Any], float | None, float]]:
        """Parameters, budget and seconds of the latest successful trainings of a problem, at most ``limit``."""
        query = sa.select(_archive.c.params, _archive.c.budget, _archive.c.result)
        query = query.where(_archive.c.problem == problem).order_by(_archive.c.created.desc()).limit(limit)
        with self._failing_clearly(), self._engine.connect() as connection:
            rows = [(json.loads(p), budget, json.loads(r)) for p, budget, r in connection.execute(query)]
        return [(params, budget, r["seconds"]) for params, budget, r in rows if r["status"] == Status.OK]

    # --- inside

    def _set_up_with_others(self, create: bool) -> None:
        """Set it up, though somebody else may be doing so in this moment."""
        for _ in _tables.tables:
            try:
                return self._set_up(create)
            except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError) as error:
                if "already exists" not in str(error.orig):
                    raise
        return self._set_up(create)

    def _set_up(self, create: bool) -> None:
        with self._engine.connect() as connection:
            found = sa.inspect(connection).has_table(_meta.name)
            version = connection.execute(sa.select(_meta.c.value)).scalar_one_or_none() if found else None
        if version is not None and int(version) > SCHEMA:
            raise StoreTooNew(
                f"the store {self.url} has schema {version}, this version knows {SCHEMA}; upgrade dask-swarm"
            )
        if version is None and not create:
            raise StoreUnavailable(f"{self.url} holds no dask-swarm store; name another with --store")
        if version is None or int(version) < SCHEMA:
            with self._engine.begin() as connection:
                _tables.create_all(connection)  # what is new since an earlier schema are tables
                connection.execute(self._insert_once(_meta), {"name": "schema", "value": str(SCHEMA)})
                connection.execute(_meta.update().where(_meta.c.name == "schema").values(value=str(SCHEMA)))

    def _insert_job(self, name: str, spec: dict[str, Any], problem: bytes, submission: Submission | None) -> None:
        row = {"name": name, "spec": json.dumps(spec), "problem": problem, "created": time.time(), "status": "new"}
        with self._failing_clearly():
            try:
                with self._writing() as connection:
                    connection.execute(_jobs.insert(), row)
                    if submission is not None:
                        connection.execute(_submissions.insert(), _submission_row(submission))
            except sa.exc.IntegrityError:
                raise JobConflict(f"the store already has a job {name!r}; take another name") from None

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction, which is rolled back if another master has taken over."""
        with self._engine.begin() as connection:
            yield connection
            if self._token is not None:
                lease = sa.select(_lease.c.token, _lease.c.holder)
                if self._engine.dialect.name == "postgresql":
                    lease = lease.with_for_update(read=True)  # nobody takes it before this is committed
                token, holder = connection.execute(lease).one()
                if token != self._token:
                    raise LeaseLost(f"another master ({holder}) has taken over the store {self.url}")

    def _now(self, connection: sa.Connection) -> float:
        """Seconds since the epoch by the database's clock, which all masters share."""
        if self._engine.dialect.name == "postgresql":
            return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        return time.time()  # SQLite is in this process, and its file on this machine

    def _insert_once(self, table: sa.Table) -> sa.Insert:
        """An insert that leaves a row alone that is there already."""
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as pg_insert

            return pg_insert(table).on_conflict_do_nothing()
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(table).on_conflict_do_nothing()

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.ArgumentError, OSError) as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise StoreUnavailable(f"the store {self.url} cannot be used: {cause}{_remedy(cause)}") from error


_ONE_RESULT = sa.select(_archive.c.result).where(_archive.c.key == sa.bindparam("wanted"))


def _engine(url: str, file: Path | None) -> sa.Engine:
    if not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        except ModuleNotFoundError as error:
            raise StoreUnavailable(
                f"a PostgreSQL store needs {error.name!r}; install it with: pip install 'dask-swarm[postgres]'"
            ) from error
    parts = store_path.split(url)
    if file is None or parts is None:
        place: sa.URL | str = url
    else:
        place = sa.URL.create("sqlite", database=str(file), query=parts[1])
    network = None if file is None else store_path.on_network(file)
    if file is not None and network is not None:
        _warn_once(store_path.advice(file, network))
    engine = sa.create_engine(place, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
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


def _remedy(cause: str) -> str:
    if "locked" in cause:
        return "; another program holds it, close that or take another store"
    if "readonly" in cause or "read-only" in cause or "ermission" in cause:
        return "; make the file and its folder writable, or take another store"
    if "unable to open" in cause:
        return "; does its folder exist, and may you write there?"
    if "is full" in cause or "o space left" in cause:
        return "; make room on its disk"
    if "not a database" in cause:
        return "; name another file with --store"
    return ""


def _submission_row(submission: Submission) -> dict[str, Any]:
    texts = {"environment": json.dumps(submission.environment), "summary": json.dumps(submission.summary)}
    return {**asdict(submission), **texts}


def _submission(row: Any) -> Submission:
    texts = {"environment": tuple(json.loads(row.environment)), "summary": json.loads(row.summary)}
    return Submission(**{**row._mapping, **texts})


def _stored_job(row: Any) -> StoredJob:
    return StoredJob(row.name, json.loads(row.spec), bytes(row.problem), row.created, row.status)
