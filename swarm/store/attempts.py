"""How often a replay was begun and did not end: a job that takes its master down must not do so for ever."""

from __future__ import annotations

import sqlalchemy as sa

TABLES = sa.MetaData()
_attempts = sa.Table(  # since schema 4
    "swarm_replays",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("begun", sa.Integer, nullable=False),
)


def begin(connection: sa.Connection, job: str) -> int:
    """A replay of this job begins; how many were begun since the last that ended, this one included."""
    query = sa.select(_attempts.c.begun).where(_attempts.c.job == job)
    begun = int(connection.execute(query).scalar_one_or_none() or 0) + 1
    end(connection, job)
    connection.execute(_attempts.insert(), {"job": job, "begun": begun})
    return begun


def end(connection: sa.Connection, job: str) -> None:
    """A replay of this job has ended, one way or the other, and the master is still there."""
    connection.execute(_attempts.delete().where(_attempts.c.job == job))
