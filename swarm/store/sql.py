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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from swarm.errors import JobConflict, JobNotFound, LeaseLost, StoreDamaged, StoreTooNew, StoreUnavailable
from swarm.store import attempts, code_table, path, users
from swarm.store.events import Event, read_event
from swarm.store.path import store_url
from swarm.store.records import JobStatus, StoredJob, Submission
from swarm.trial import Evaluation, Result, Status, canonical

SCHEMA = 4
_BUSY_SECONDS = 5.0
_KEYS_PER_STATEMENT = 500
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
    sa.Column("problem", sa.LargeBinary, nullable=False),  # empty since schema 3, see `code_table`
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


class Store:
    """Where jobs, journals and the archive live.

    Args:
        url: An SQLAlchemy URL (``sqlite:///swarm.db``, ``postgresql://host/name``) or the path of an SQLite file; see
            :mod:`swarm.store.path`. A relative path is one of the folder in which this is called.
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
        self.file = path.file_of(self.url)
        self._token: int | None = None  # of the lease, if this process must hold it to write
        if self.file is not None:
            if not create and not self.file.exists():
                raise StoreUnavailable(f"there is no store at {self.file}; name one with --store")
            path.check(self.file)
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
        file = path.file_of(store_url(url))
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
            row = connection.execute(_ONE_JOB, {"wanted": name}).one_or_none()
        if row is None:
            raise self._not_found(name)
        return _stored_job(row)

    def jobs(self) -> list[StoredJob]:
        """All jobs, oldest first."""
        with self._failing_clearly(), self._engine.connect() as connection:
            return [_stored_job(row) for row in connection.execute(_ALL_JOBS.order_by(_jobs.c.created))]

    def names(self, begin: str) -> set[str]:
        """Names of the jobs whose names begin so."""
        query = sa.select(_jobs.c.name).where(_jobs.c.name.startswith(begin, autoescape=True))
        with self._failing_clearly(), self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def code(self, name: str) -> bytes:
        """The pickled problem of a job, which nothing else reads.

        Raises:
            JobNotFound: There is no such job.
        """
        digest = self.digest(name)
        if digest is not None:
            return self.content(digest)
        query = sa.select(_jobs.c.problem).where(_jobs.c.name == name)  # where earlier versions have written it
        with self._failing_clearly(), self._engine.connect() as connection:
            code = connection.execute(query).scalar_one_or_none()
        if code is None:
            raise self._not_found(name)
        return bytes(code)

    def digest(self, name: str) -> str | None:
        """What is equal for jobs of one :meth:`code`; None where that is not known without reading it."""
        with self._failing_clearly(), self._engine.connect() as connection:
            return code_table.digest(connection, name)

    def content(self, digest: str) -> bytes:
        """The code of that :meth:`digest`.

        Raises:
            JobNotFound: No job has it any more.
        """
        with self._failing_clearly(), self._engine.connect() as connection:
            code = code_table.read(connection, digest)
        if code is None:
            raise JobNotFound(f"the store {self.url} has no code {digest[:12]} any more: its jobs were deleted")
        return code

    def drop_unused_code(self) -> int:
        """Delete the code that no job has any more; how many bytes that were."""
        with self._failing_clearly(), self._writing() as connection:
            return code_table.drop_unused(connection, sa.select(_jobs.c.name))

    def set_status(self, name: str, status: JobStatus) -> None:
        """Note how far the job is."""
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_jobs.update().where(_jobs.c.name == name).values(status=JobStatus(status)))

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

    def weights(self) -> dict[str, float]:
        """The weights of the users whose weight is not 1, by name."""
        with self._failing_clearly(), self._engine.connect() as connection:
            return users.weights(connection)

    def set_weight(self, user: str, weight: float) -> None:
        """Note the weight of a user."""
        with self._failing_clearly(), self._writing() as connection:
            users.set_weight(connection, user, weight)

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

    def begin_replay(self, job: str) -> int:
        """Note that a replay of a job begins; how many were begun since the last that ended, this one included."""
        with self._failing_clearly(), self._writing() as connection:
            return attempts.begin(connection, job)

    def end_replay(self, job: str) -> None:
        """Note that the replay of a job has ended, well or not."""
        with self._failing_clearly(), self._writing() as connection:
            attempts.end(connection, job)

    # --- journal and archive

    def append(
        self, job: str, seq: int, events: Sequence[Event], results: Iterable[tuple[Evaluation, Result]] = ()
    ) -> None:
        """Append events to a job's journal, and results to the archive, in one transaction.

        Args:
            job: Name of the job.
            seq: Number of the first event: how many the journal holds already.
            events: What happened.
            results: Final results for the archive with what they are results of; where a key has one already that
                answers others, the first stays.

        Raises:
            JobConflict: The journal is longer than ``seq``: another process runs this job.
            StoreUnavailable: Nothing was written; the same call may be made again.
        """
        lines = _lines(job, seq, events)
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
                        self._check_whole(connection, job, seq)
                    if rows:
                        keys = [str(row["key"]) for row in rows]
                        self._drop(connection, keys, lambda result: not result.answers_others)
                        connection.execute(self._insert_once(_archive), rows)
            except sa.exc.IntegrityError:
                raise _busy(job) from None

    def cut(
        self, job: str, seq: int, events: Sequence[Event], *, forget: Collection[str] = (), lost: Collection[str] = ()
    ) -> None:
        """Replace a journal's end, and forget archived results, in one transaction; the job is stopped then.

        Args:
            job: Name of the job, which nobody runs.
            seq: Number of the first event that goes.
            events: What comes in its place.
            forget: Keys of evaluations whose failures are forgotten; what has succeeded since stays.
            lost: Keys of evaluations whose results are forgotten, whatever they are.
        """
        lines = _lines(job, seq, events)
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_journal.delete().where(_journal.c.job == job, _journal.c.seq >= seq))
            if lines:
                connection.execute(_journal.insert(), lines)
            self._drop(connection, sorted(forget), lambda result: result.status is not Status.OK)
            self._drop(connection, sorted(lost), lambda _: True)
            connection.execute(_jobs.update().where(_jobs.c.name == job).values(status=JobStatus.STOPPED))

    def events(self, job: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The job's journal in order, read in pieces; on request from event ``after`` on, at most ``limit`` of them.

        Raises:
            StoreDamaged: A line of it is not what was written.
        """
        query = sa.select(_journal.c.seq, _journal.c.kind, _journal.c.data, _journal.c.time)
        query = query.where(_journal.c.job == job, _journal.c.seq >= after).order_by(_journal.c.seq).limit(limit)
        with self._failing_clearly(), self._engine.connect() as connection:
            for seq, kind, data, when in connection.execution_options(yield_per=1000).execute(query):
                try:
                    event = read_event(kind, json.loads(data), when)
                except (StoreDamaged, ValueError) as error:
                    raise StoreDamaged(
                        f"the journal of job {job!r} in {self.url} is damaged at row {seq}: {error}. Restore the store "
                        f"from a backup, or delete the job: swarm delete {job} --store {self.url}"
                    ) from error
                yield event

    def result(self, key: str) -> Result | None:
        """The archived result of that evaluation key, whichever job trained it."""
        with self._failing_clearly(), self._engine.connect() as connection:
            text = connection.execute(_ONE_RESULT, {"wanted": key}).scalar_one_or_none()
        return None if text is None else Result.from_dict(json.loads(text))

    def answer(self, key: str) -> Result | None:
        """The archived result if it answers whoever asks; an earlier version kept failures that do not."""
        result = self.result(key)
        return result if result is not None and result.answers_others else None

    def answers(self, keys: Sequence[str]) -> dict[str, Result]:
        """Those archived results of these keys that answer whoever asks, by key."""
        with self._failing_clearly(), self._engine.connect() as connection:
            texts = [connection.execute(_ONE_RESULT, {"wanted": key}).scalar_one_or_none() for key in keys]
        results = (Result.from_dict(json.loads(text)) for text in texts if text is not None)
        return {result.key: result for result in results if result.answers_others}

    def durations(self, problem: str, limit: int) -> list[tuple[dict[str, Any], float | None, float]]:
        """Parameters, budget and seconds of the latest successful trainings of a problem, at most ``limit``."""
        query = sa.select(_archive.c.params, _archive.c.budget, _archive.c.result)
        query = query.where(_archive.c.problem == problem).order_by(_archive.c.created.desc()).limit(limit)
        with self._failing_clearly(), self._engine.connect() as connection:
            rows = [(json.loads(p), budget, json.loads(r)) for p, budget, r in connection.execute(query)]
        return [(params, budget, r["seconds"]) for params, budget, r in rows if r["status"] == Status.OK]

    # --- upkeep

    def specs(self) -> dict[str, dict[str, Any]]:
        """What every job searches and how, by its name, oldest first; without their code."""
        query = sa.select(_jobs.c.name, _jobs.c.spec).order_by(_jobs.c.created)
        with self._failing_clearly(), self._engine.connect() as connection:
            return {name: json.loads(spec) for name, spec in connection.execute(query)}

    def status(self, name: str) -> JobStatus | None:
        """How far a job is, as in :class:`StoredJob`; None if there is none of that name."""
        query = sa.select(_jobs.c.status).where(_jobs.c.name == name)
        with self._failing_clearly(), self._engine.connect() as connection:
            status = connection.execute(query).scalar_one_or_none()
        return None if status is None else JobStatus(status)

    def holdings(self) -> list[tuple[str, int, int, int]]:
        """What the archive holds, by problem: its fingerprint, results, failures among them, bytes."""
        failed = sa.func.sum(sa.case((_IS_FAILURE, 1), else_=0))
        query = sa.select(_archive.c.problem, sa.func.count(), failed, sa.func.sum(_BYTES))
        query = query.group_by(_archive.c.problem).order_by(_archive.c.problem)
        with self._failing_clearly(), self._engine.connect() as connection:
            return [(name, int(all_), int(bad), int(size)) for name, all_, bad, size in connection.execute(query)]

    def archived(
        self, *, job: str | None = None, problems: Collection[str] | None = None, failures: bool = False
    ) -> list[tuple[str, str, bool, int]]:
        """Archived results: key, the job that trained it, whether it is a failure, bytes.

        Args:
            job: Those that this job trained; None takes every job's.
            problems: Those of these problems, by fingerprint; None takes every problem's.
            failures: Failures only.
        """
        query = sa.select(_archive.c.key, _archive.c.job, _IS_FAILURE, _BYTES).order_by(_archive.c.key)
        if job is not None:
            query = query.where(_archive.c.job == job)
        if problems is not None:
            query = query.where(_archive.c.problem.in_(list(problems)))
        if failures:
            query = query.where(_IS_FAILURE)
        with self._failing_clearly(), self._engine.connect() as connection:
            return [(key, owner, bool(bad), int(size)) for key, owner, bad, size in connection.execute(query)]

    def forget(self, keys: Sequence[str]) -> None:
        """Delete archived results, which answer nobody from now on."""
        with self._failing_clearly(), self._writing() as connection:
            _forget(connection, keys)

    def delete_job(self, name: str, forget: Sequence[str] = ()) -> None:
        """Delete a job, which nobody runs: its journal, its submission, its code if no other job needs it.

        Args:
            name: Name of the job.
            forget: Keys of the archived results to delete with it.
        """
        with self._failing_clearly(), self._writing() as connection:
            connection.execute(_journal.delete().where(_journal.c.job == name))
            connection.execute(_submissions.delete().where(_submissions.c.job == name))
            connection.execute(_jobs.delete().where(_jobs.c.name == name))
            _forget(connection, forget)
            code_table.drop_unused(connection, sa.select(_jobs.c.name))

    # --- inside

    @staticmethod
    def _check_whole(connection: sa.Connection, job: str, seq: int) -> None:
        """Refuse to leave a gap in a journal that somebody else has cut meanwhile."""
        before = sa.select(_journal.c.seq).where(_journal.c.job == job, _journal.c.seq == seq - 1)
        if seq > 0 and connection.execute(before).first() is None:
            raise _busy(job)

    @staticmethod
    def _drop(connection: sa.Connection, keys: Sequence[str], doomed: Callable[[Result], bool]) -> None:
        """Delete archived results of which this is true; an earlier version kept failures that answer nobody."""
        for some in batched(keys):
            rows = connection.execute(sa.select(_archive.c.key, _archive.c.result).where(_archive.c.key.in_(some)))
            _forget(connection, [key for key, text in rows if doomed(Result.from_dict(json.loads(text)))])

    def _not_found(self, name: str) -> JobNotFound:
        """The error for a name that no job has, with the names of the latest."""
        latest = sa.select(_jobs.c.name).order_by(_jobs.c.created.desc()).limit(5)
        with self._failing_clearly(), self._engine.connect() as connection:
            names = list(connection.execute(latest).scalars())[::-1]
        return JobNotFound(f"the store {self.url} has no job {name!r}; it has {', '.join(names) or 'no job at all'}")

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
                for tables in (_tables, code_table.TABLES, attempts.TABLES):
                    tables.create_all(connection)  # what is new since an earlier schema are tables
                connection.execute(self._insert_once(_meta), {"name": "schema", "value": str(SCHEMA)})
                connection.execute(_meta.update().where(_meta.c.name == "schema").values(value=str(SCHEMA)))

    def _insert_job(self, name: str, spec: dict[str, Any], problem: bytes, submission: Submission | None) -> None:
        row = {"name": name, "spec": json.dumps(spec), "problem": b"", "created": time.time(), "status": JobStatus.NEW}
        with self._failing_clearly():
            try:
                with self._writing() as connection:
                    connection.execute(_jobs.insert(), row)
                    code_table.keep(connection, name, problem)
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


_IS_FAILURE = _archive.c.result.like('%"status": "failed"%')  # no text within can have such quotes
_BYTES = sa.func.length(_archive.c.result) + sa.func.length(_archive.c.params)
_ALL_JOBS = sa.select(_jobs.c.name, _jobs.c.spec, _jobs.c.created, _jobs.c.status)  # without their code
_ONE_JOB = _ALL_JOBS.where(_jobs.c.name == sa.bindparam("wanted"))
_ONE_RESULT = sa.select(_archive.c.result).where(_archive.c.key == sa.bindparam("wanted"))


def _forget(connection: sa.Connection, keys: Sequence[str]) -> None:
    for some in batched(keys):
        connection.execute(_archive.delete().where(_archive.c.key.in_(some)))


def _lines(job: str, seq: int, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Rows of a journal."""
    return [
        {"job": job, "seq": seq + i, "time": e.time, "kind": e.kind, "data": json.dumps(e.data, allow_nan=False)}
        for i, e in enumerate(events)
    ]


def _busy(job: str) -> JobConflict:
    return JobConflict(f"job {job!r} is being run by another process; wait for it, or stop it and resume")


def batched(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """The keys in parts that one statement may name."""
    for first in range(0, len(keys), _KEYS_PER_STATEMENT):
        yield keys[first : first + _KEYS_PER_STATEMENT]


def _engine(url: str, file: Path | None) -> sa.Engine:
    if not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        except ModuleNotFoundError as error:
            raise StoreUnavailable(
                f"a PostgreSQL store needs {error.name!r}; install it with: pip install 'dask-swarm[postgres]'"
            ) from error
    parts = path.split(url)
    if file is None or parts is None:
        place: sa.URL | str = url
    else:
        place = sa.URL.create("sqlite", database=str(file), query=parts[1])
    network = None if file is None else path.on_network(file)
    if file is not None and network is not None:
        _warn_once(path.advice(file, network))
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


_REMEDIES = {  # by what the database says
    "locked": "another program holds it, close that or take another store",
    "readonly": "make the file and its folder writable, or take another store",
    "read-only": "make the file and its folder writable, or take another store",
    "ermission": "make the file and its folder writable, or take another store",
    "unable to open": "does its folder exist, and may you write there?",
    "is full": "make room on its disk",
    "o space left": "make room on its disk",
    "not a database": "name another file with --store",
    "too big": "load data in prepare() or inside the training instead of in a closure",
}


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)


def _remedy(cause: str) -> str:
    return next((f"; {remedy}" for sign, remedy in _REMEDIES.items() if sign in cause), "")


def _submission_row(submission: Submission) -> dict[str, Any]:
    texts = {"environment": json.dumps(submission.environment), "summary": json.dumps(submission.summary)}
    return {**asdict(submission), **texts}


def _submission(row: Any) -> Submission:
    texts = {"environment": tuple(json.loads(row.environment)), "summary": json.loads(row.summary)}
    return Submission(**{**row._mapping, **texts})


def _stored_job(row: Any) -> StoredJob:
    return StoredJob(row.name, json.loads(row.spec), row.created, JobStatus(row.status))
