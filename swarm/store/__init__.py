"""The journals, jobs and archive that must survive, and what a trial's events mean.

The store itself is imported when first used: workers, schedulers and pages know its records, and do without SQL.
"""

from typing import TYPE_CHECKING, Any

from swarm.store.events import Event
from swarm.store.records import JobStatus, Source, State, StoredJob, Submission

if TYPE_CHECKING:
    from swarm.store.sql import SCHEMA, Store, batched

__all__ = ["SCHEMA", "Event", "JobStatus", "Source", "State", "Store", "StoredJob", "Submission", "batched"]


if not TYPE_CHECKING:  # to a type checker, a module with a __getattr__ has every name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'swarm.store' has no attribute {name!r}")
        from swarm.store import sql

        return getattr(sql, name)
