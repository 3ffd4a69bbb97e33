"""The journals, jobs and archive that must survive, and what a trial's events mean."""

from swarm.store.records import Event, Source, StoredJob, Submission
from swarm.store.sql import SCHEMA, Store, batched

__all__ = ["SCHEMA", "Event", "Source", "Store", "StoredJob", "Submission", "batched"]
