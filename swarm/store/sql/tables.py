"""The tables of a store. Each row that is kept for years has a checksum, ``crc``; rows of before schema 4 have none."""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA = 5
TABLES = sa.MetaData()

meta = sa.Table(
    "swarm_meta",
    TABLES,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("value", sa.String(50), nullable=False),
)
jobs = sa.Table(
    "swarm_jobs",
    TABLES,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("problem", sa.LargeBinary, nullable=False),  # empty since schema 3, see `code_table`
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("code", sa.String(64)),  # since schema 4: its digest, lest a lost row of `code_table` be no code
    sa.Column("crc", sa.BigInteger),  # since schema 4
    sa.Index("swarm_jobs_created", "created", "name"),
)
journal = sa.Table(
    "swarm_journal",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("crc", sa.BigInteger),  # since schema 4
)
lengths = sa.Table(  # since schema 4: how many events a journal has, so that a lost end is noticed
    "swarm_lengths",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("events", sa.Integer, nullable=False),
)
archive = sa.Table(
    "swarm_archive",
    TABLES,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("problem", sa.String(64), nullable=False),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("budget", sa.Double),
    sa.Column("job", sa.String(200), nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("crc", sa.BigInteger),  # since schema 4
    sa.Index("swarm_archive_latest", "problem", "created"),
)
submissions = sa.Table(  # since schema 2
    "swarm_submissions",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("priority", sa.Double, nullable=False),
    sa.Column("most", sa.Integer),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("summary", sa.Text),
    sa.Column("ended", sa.Double),  # since schema 4: when it did
    sa.Column("crc", sa.BigInteger),  # since schema 4
    sa.Index("swarm_submissions_ended", "ended", "job"),
    sa.Index("swarm_submissions_states", "state", "ended", "job"),  # made by the next master where it lacks
)
lease = sa.Table(  # since schema 2
    "swarm_lease",
    TABLES,
    sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double),  # since schema 4: how long it was given for
)
users = sa.Table(  # since schema 4
    "swarm_users",
    TABLES,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("weight", sa.Double, nullable=False),
)
replays = sa.Table(  # since schema 4
    "swarm_replays",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("begun", sa.Integer, nullable=False),
)
snapshots = sa.Table(  # since schema 5: a cache of replays, which may be emptied at any time
    "swarm_snapshots",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("events", sa.Integer, nullable=False),
    sa.Column("maker", sa.String(64), nullable=False),
    sa.Column("prefix", sa.String(64), nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)
notes = sa.Table(  # what people wrote on trials; the first note creates it in a store that lacks it
    "swarm_notes",
    TABLES,
    sa.Column("job", sa.String(200), primary_key=True),
    sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
