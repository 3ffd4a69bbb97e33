"""A job is written into the store, or found there and raised to higher limits, before its search begins or goes on."""

from __future__ import annotations

from swarm.errors import JobConflict, JobNotFound
from swarm.job.job import Job
from swarm.job.raised import Differences
from swarm.steering.extension import differences, extend
from swarm.store.records import JobStatus
from swarm.store.sql import Store


def enroll(job: Job, store: Store) -> JobStatus:
    """Write the job into the store, unless it is there already, or raise its limits there; how far it is.

    Raises:
        JobConflict: The name stands for another job; the text says what differs.
    """
    status, found = enrolled(job, store)
    if not found.raised:
        return status
    extend(store, job, found)
    return store.job(job.name).status


def enrolled(job: Job, store: Store) -> tuple[JobStatus, Differences]:
    """How far the job is in the store, where it is now in any case, and what of its limits is still lower there."""
    try:
        stored = store.job(job.name)
    except JobNotFound:
        try:
            store.add_job(job.name, job.to_dict(), job.code.pickle)
            return JobStatus.NEW, Differences()
        except JobConflict:  # somebody has written it in this moment
            stored = store.job(job.name)
    return stored.status, differences(job, stored)
