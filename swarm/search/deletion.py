"""Runs that are to go, with what only they need: one that somebody names, and those that ended long ago.

It is made in two steps, so that one can see first what it would do: :func:`deletion` and :func:`expired`
look, and change nothing; what they return has a method ``do``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from swarm.errors import InvalidInput, JobConflict, JobNotFound, StoreDamaged
from swarm.job.job import Job
from swarm.search.retry import forget_committed
from swarm.store.events import Asked, Event
from swarm.store.records import Source
from swarm.store.run_lock import running
from swarm.store.sql import Store

Delete = Callable[[list[str]], None]


@dataclass(frozen=True)
class Deletion:
    """A run that is to go, with what only it needs.

    Attributes:
        name: Name of the run.
        trainings: Keys of the archived results that go with it.
        bytes: Room that these take in the database.
        committed: Keys of the evaluations whose committed results go with it, as far as there are any.
        checkpoints: Keys of the evaluations whose checkpoints go with it, as far as there are any.
        events: Events of its journal.
        results: Folder of the committed results, or None.
        place: Where the run itself says that its checkpoints are; None where it leaves that open.
        ended: It is deleted only if it ended then, and nobody has gone on with it since; None does not ask.
        damage: What cannot be read of it, so that what it refers to is not known and stays; or None.
    """

    store: Store
    name: str
    trainings: tuple[str, ...]
    bytes: int
    committed: tuple[str, ...]
    checkpoints: tuple[str, ...]
    events: int
    results: str | None
    place: str | None = None
    damage: str | None = None
    ended: float | None = None

    def do(self, delete: Delete = lambda _: None) -> bool:
        """Delete it; whether that was done.

        Args:
            delete: Deletes the checkpoints of these evaluations, by key, from where the run has kept them.
        """
        if self.checkpoints:
            delete(list(self.checkpoints))
        forget_committed(self.results, self.committed)
        return self.store.delete_job(self.name, self.trainings, ended=self.ended)


def deletion(store: Store, name: str, *, archive: bool = False, results: str | None = None) -> Deletion:
    """What would be deleted with a run, a damaged one too.

    What it has trained stays in the archive and answers others, unless they could never ask for it: a job that uses no
    archive, or hands trainings on, has keys of its own.

    Args:
        store: The store.
        name: Name of the run.
        archive: Delete what it has trained, too.
        results: Folder of the committed results; None is that beside the store, if it has one.

    Raises:
        JobConflict: It is running.
        JobNotFound: There is no such run.
    """
    if not store.has_job(name):
        raise JobNotFound(f"the store {store.url} has no run {name!r}; list them with: swarm show")
    check_idle(store, name)
    spec, events, damage = _readable(store, name)
    archive = archive or _is_alone(spec)
    rows = store.archived(job=name) if archive else []
    trained = _asked(events, Source.TRAINED) if archive else set()
    place = spec.get("checkpoints")
    return Deletion(
        store,
        name,
        tuple(key for key, _, _, _ in rows),
        sum(size for _, _, _, size in rows),
        tuple(sorted(trained | {key for key, *_ in rows})),
        tuple(sorted(_unshared(store, name, spec, events))) if place else (),
        max(len(events), store.length(name)),
        results_folder(store, results),
        place if isinstance(place, str) else None,
        damage,
    )


def expired(store: Store, before: float, limit: int = 20) -> list[Deletion]:
    """What would be deleted of the jobs of a service that ended long ago; their results stay in the archive.

    Args:
        store: The store.
        before: Those that have ended before this moment, seconds since the epoch.
        limit: At most so many, the oldest: each takes a while, and the next call finds the others.
    """
    found = []
    for name, ended in store.expired(before, limit):
        try:
            found.append(replace(deletion(store, name), ended=ended))
        except JobConflict:  # somebody runs it again, on a machine of their own
            continue
    return found


def check_idle(store: Store, name: str) -> None:
    """Refuse to take away what a run needs that goes on.

    Raises:
        JobConflict: It is running, here or in a service.
    """
    check_not_submitted(store, name)
    if (who := running(store, name)) is not None:
        raise JobConflict(f"run {name!r} is being run by {who}; stop it first (Ctrl-C where it runs)")


def check_not_submitted(store: Store, name: str) -> None:
    """Refuse to change what a service runs.

    Raises:
        JobConflict: It does.
    """
    try:
        submission = store.submission(name)
    except StoreDamaged:  # no service runs what it cannot read
        return
    if submission is not None and not submission.state.ended:
        raise JobConflict(f"job {name!r} is {submission.state} in a service; end it first: swarm cancel {name}")


def results_folder(store: Store, results: str | None) -> str | None:
    """The folder of committed results: the one that was named, or that beside the store if it has one."""
    beside = store.folder
    return results or (None if beside is None else str(beside / "results"))


def _readable(store: Store, name: str) -> tuple[dict[str, Any], list[Event], str | None]:
    """Specification and journal of a run as far as they can be read, and why no farther."""
    spec: dict[str, Any] = {}
    events: list[Event] = []
    try:
        spec = store.job(name).spec
        events.extend(store.events(name))
    except StoreDamaged as error:
        return spec, events, str(error)
    return spec, events, None


def _unshared(store: Store, name: str, spec: dict[str, Any], events: list[Event]) -> set[str]:
    """Keys of the evaluations of a run to which no other refers; none if others' journals cannot be read."""
    found, fingerprint = _asked(events), spec["problem"]["fingerprint"]
    try:
        for other, theirs in store.specs(lambda *_: None).items():
            if other != name and theirs["problem"]["fingerprint"] == fingerprint:
                found -= _asked(store.events(other))
    except StoreDamaged:
        return set()
    return found


def _is_alone(spec: dict[str, Any]) -> bool:
    """Whether the keys of a job's evaluations are its own, so that nobody else can ask for them."""
    if not spec:  # which is damaged
        return False
    try:
        job = Job.from_dict(spec, b"")
    except InvalidInput:  # of an earlier version
        return False
    return not job.archive or job.optimizer.inherits


def _asked(events: Iterable[Event], source: Source | None = None) -> set[str]:
    """Keys of the evaluations that a journal asks for, on request only those with this source."""
    asked = (each for event in events if isinstance(event, Asked) for each in event.evaluations)
    return {each.key for each in asked if source in (None, each.source)}
