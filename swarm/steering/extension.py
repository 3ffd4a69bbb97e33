"""A search goes on under its name with higher limits: nothing that was trained is trained again.

The journal is the search, so the change of limits is an event of it: until there the method has the limits that it
began with, from there on the new ones. The store's job is changed with that event, in one transaction.
"""

from __future__ import annotations

from swarm.errors import JobConflict
from swarm.job.job import Job
from swarm.job.raised import HOW, Differences
from swarm.store.events import Event, Extended
from swarm.store.records import StoredJob
from swarm.store.sql import Store
from swarm.version import __version__


def differences(job: Job, stored: StoredJob, whose: str = "the store has") -> Differences:
    """How a job differs from the stored one of its name, if it may go on as that one.

    Args:
        job: The job.
        stored: What the store has under its name.
        whose: Who has another job of that name, in the words of the complaint.

    Raises:
        JobConflict: It is another job; the text says what differs.
    """
    found = job.compared(stored.spec)
    if found.others:
        raise JobConflict(
            f"{whose} another job named {job.name!r}: {'; '.join(found.others)}. Take another name, or submit the same "
            f"job to go on with it ({_how(job)})"
        )
    return found


def extend(store: Store, job: Job, found: Differences) -> None:
    """Raise limits of a run, which nobody is running.

    Args:
        store: Where the run is.
        job: It, with its limits as they shall be.
        found: What :func:`differences` has said of it.

    Raises:
        JobConflict: Somebody runs it.
    """
    if not found.raised:
        return
    last, count = 0.0, 0
    for event in store.events(job.name):
        last, count = event.time, count + 1
    events: list[Event] = []
    if found.of_the_search and count:
        spec = job.to_dict()
        now = {name: mine for name, (mine, _) in found.raised.items()}
        events = [Extended(version=__version__, limits=now, optimizer=spec["optimizer"], time=last)]
    store.extend(job.name, count, events, job.to_dict())


def _how(job: Job) -> str:
    """What may differ nevertheless."""
    if job.then is not None:
        return "a search that another follows has no limits that can be raised; those of then can"
    return HOW
