"""The journals, jobs and archive that must survive, and what a trial's events mean."""

from swarm.store.events import Event
from swarm.store.records import JobStatus, Source, State, StoredJob, Submission
from swarm.store.sql import SCHEMA, Store, batched

__all__ = ["SCHEMA", "Event", "JobStatus", "Source", "State", "Store", "StoredJob", "Submission", "batched"]
