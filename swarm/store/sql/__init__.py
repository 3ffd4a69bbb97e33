"""Jobs, journals and the archive in SQL (SQLAlchemy Core): SQLite in WAL mode by default, PostgreSQL by URL.

``tables`` is the schema and ``database`` a connection to one; ``jobs``, ``submissions``, ``lease``, ``journal`` and
``archive`` are what is asked of them, ``rows`` the checksum of each row, ``check`` a look at all of them.
"""

from swarm.store.sql.check import Checked, Finding
from swarm.store.sql.database import batched
from swarm.store.sql.engine import SECONDS
from swarm.store.sql.store import Store
from swarm.store.sql.tables import SCHEMA

__all__ = ["SCHEMA", "SECONDS", "Checked", "Finding", "Store", "batched"]
