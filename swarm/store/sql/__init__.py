"""Jobs, journals and the archive in SQL (SQLAlchemy Core): SQLite in WAL mode by default, PostgreSQL by URL.

``tables`` is the schema and ``database`` a connection to one; ``jobs``, ``submissions``, ``lease``, ``journal`` and
``archive`` are what is asked of them, ``rows`` the checksum of each row, ``check`` a look at all of them.
"""

from __future__ import annotations

from swarm.store.sql.check import Checked, Finding, check
from swarm.store.sql.database import batched
from swarm.store.sql.engine import SECONDS
from swarm.store.sql.journal import Journal
from swarm.store.sql.lease import Lease
from swarm.store.sql.submissions import Submissions
from swarm.store.sql.tables import SCHEMA

__all__ = ["SCHEMA", "SECONDS", "Checked", "Finding", "Store", "batched"]


class Store(Submissions, Lease, Journal):
    """Where jobs, journals and the archive live.

    Args:
        url: An SQLAlchemy URL (``sqlite:///swarm.db``, ``postgresql://host/name``) or the path of an SQLite file; see
            :mod:`swarm.store.path`. A relative path is one of the folder in which this is called.
        create: Create the tables, and for SQLite the file, where there are none.
        seconds: What a server has not answered for so long has failed; so has what waits for an SQLite file that is
            locked for so long, or for five seconds.

    Attributes:
        url: Its URL.
        file: The file of an SQLite store, absolute and without links; None elsewhere.

    Raises:
        StoreUnavailable: It cannot be opened: no such file, not writable, not a database.
        StoreAway: It is locked, or its server does not answer.
        StoreDamaged: It is not what was written.
        StoreTooNew: It was written by a later version of this package.
    """

    def check(self) -> Checked:
        """Look at every row, and say which are not what was written."""
        with self._failing_clearly(), self._engine.connect() as connection:
            return check(connection, self.url)
