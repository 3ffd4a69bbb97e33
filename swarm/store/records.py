"""What a store holds, as its readers see it: jobs and submissions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self


class State(StrEnum):
    """Where the service has a job that was submitted."""

    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self not in (State.ACTIVE, State.PAUSED)


class JobStatus(StrEnum):
    """How far the journal of a job is."""

    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Submission:
    """What the service knows of a job besides the job itself.

    Attributes:
        job: Name of the job.
        owner: Who submitted it.
        priority: Its share of its user's slots is in proportion to its priority.
        most: It never uses more slots than this; None is no limit.
        state: Where the service has it.
        reason: Why it failed, or why what should follow it did not begin.
        environment: What must be installed on the workers.
        summary: What it found, once it has ended.
        ended: When the store has noted its end, seconds since the epoch; None before. Two that differ in it are equal.
    """

    job: str
    owner: str
    priority: float = 1.0
    most: int | None = None
    state: State = State.ACTIVE
    reason: str | None = None
    environment: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None
    ended: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", State(self.state))  # a store has its text


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as the store keeps it: its specification and how far it is; :meth:`Store.code` has its pickled problem.

    ``status`` is how far its journal is; that of a job whose process was killed stays ``running``.
    """

    name: str
    spec: dict[str, Any]
    created: float
    status: JobStatus


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody wrote on a trial.

    Attributes:
        job: Name of the job.
        trial: Number of the trial.
        key: Key of its first evaluation: a trial that was asked again, and is another one, does not have the note.
        text: The note.
    """

    job: str
    trial: int
    key: str
    text: str


class Source(StrEnum):
    """Where an evaluation's answer comes from."""

    TRAINED = "trained"
    ARCHIVE = "archive"
    IN_FLIGHT = "in_flight"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a replay knew after some events of a journal (:mod:`swarm.service.snapshots`).

    Attributes:
        events: After how many.
        maker: What is equal where a replay of these events would know the same.
        prefix: Digest of these events.
        state: What it knew.
        seal: Checksum of all that.
    """

    events: int
    maker: str
    prefix: str
    state: bytes
    seal: str

    def sealed(self, seal: str) -> Self:
        """The same with this checksum."""
        return replace(self, seal=seal)
