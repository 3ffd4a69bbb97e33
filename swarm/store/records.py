"""What a store holds, as its readers see it: jobs, submissions, and the events of a journal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Submission:
    """What the service knows of a job besides the job itself.

    Attributes:
        job: Name of the job.
        owner: Who submitted it.
        priority: Its share of the slots is in proportion to its priority.
        most: It never uses more slots than this; None is no limit.
        state: ``active``, ``paused``, ``finished``, ``cancelled`` or ``failed``.
        reason: Why it failed, or why what should follow it did not begin.
        environment: What must be installed on the workers.
        summary: What it found, once it has ended.
    """

    job: str
    owner: str
    priority: float = 1.0
    most: int | None = None
    state: str = "active"
    reason: str | None = None
    environment: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a journal: what happened, as plain JSON-ready data, and when (seconds since the epoch)."""

    kind: str
    data: dict[str, Any]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as the store keeps it: its specification and how far it is; :meth:`Store.code` has its pickled problem.

    ``status`` is ``new``, ``running``, ``stopped``, ``finished`` or ``failed``; a job whose process was killed stays
    ``running``.
    """

    name: str
    spec: dict[str, Any]
    created: float
    status: str


class Source(StrEnum):
    """Where an evaluation's answer comes from."""

    TRAINED = "trained"
    ARCHIVE = "archive"
    IN_FLIGHT = "in_flight"
