"""The pickled problems of a store, each content once, however many jobs have it; part of :class:`~swarm.store.Store`.

Up to schema 2 every job had its own copy in the column ``problem`` of ``swarm_jobs``. Those are still read there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import sqlalchemy as sa

TABLES = sa.MetaData()
_codes = sa.Table(
    "swarm_code",
    TABLES,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_job_codes = sa.Table(
    "swarm_job_code",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
)


def digest_of(code: bytes) -> str:
    """The name of a content."""
    return hashlib.sha256(code).hexdigest()


def keep(connection: sa.Connection, job: str, code: bytes) -> None:
    """Write the code of a new job, unless another has the same."""
    connection.execute(_job_codes.delete().where(_job_codes.c.job == job))  # of a job of that name that was deleted
    if not code:
        return
    digest = digest_of(code)
    # First the reference: `drop_of` locks that table, so it sees this one, or has ended before we look further.
    connection.execute(_job_codes.insert(), {"job": job, "digest": digest})
    there = sa.select(_codes.c.digest).where(_codes.c.digest == digest)
    if connection.execute(there).one_or_none() is None:
        connection.execute(_insert_once(connection), {"digest": digest, "data": code})


def digest(connection: sa.Connection, job: str) -> str | None:
    """Which content a job has; None of one without, or written by an earlier version."""
    found = connection.execute(sa.select(_job_codes.c.digest).where(_job_codes.c.job == job)).scalar_one_or_none()
    return None if found is None else str(found)


def read(connection: sa.Connection, digest: str) -> bytes | None:
    """A content, or None if no job has it any more."""
    data = connection.execute(sa.select(_codes.c.data).where(_codes.c.digest == digest)).scalar_one_or_none()
    return None if data is None else bytes(data)


def owner(connection: sa.Connection, digest: str) -> str | None:
    """A job that has this content."""
    query = sa.select(_job_codes.c.job).where(_job_codes.c.digest == digest).order_by(_job_codes.c.job).limit(1)
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else str(found)


def damaged(connection: sa.Connection) -> Iterator[tuple[str, str | None]]:
    """Contents that are not what was written, and that are not there though a job has them; with such a job."""
    for each, data in connection.execution_options(yield_per=10).execute(sa.select(_codes.c.digest, _codes.c.data)):
        if not isinstance(data, bytes) or digest_of(data) != each:
            yield str(each), None
    missing = _job_codes.c.digest.not_in(sa.select(_codes.c.digest))
    for each, job in connection.execute(sa.select(_job_codes.c.digest, _job_codes.c.job).where(missing)):
        yield str(each), str(job)


def drop_of(connection: sa.Connection, job: str) -> None:
    """Delete what only this job has."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"LOCK TABLE {_job_codes.name} IN SHARE ROW EXCLUSIVE MODE"))
    found = digest(connection, job)
    connection.execute(_job_codes.delete().where(_job_codes.c.job == job))
    others = sa.select(_job_codes.c.digest).where(_job_codes.c.digest == _codes.c.digest)
    connection.execute(_codes.delete().where(_codes.c.digest == found, ~others.exists()))


def _insert_once(connection: sa.Connection) -> sa.Insert:
    """An insert that leaves the content alone if another process was faster."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        return pg_insert(_codes).on_conflict_do_nothing()
    return _codes.insert()
