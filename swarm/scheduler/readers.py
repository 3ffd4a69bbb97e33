"""Who may read what jobs have found: their owners and administrators, unless jobs are shared."""

from __future__ import annotations

import json
from collections.abc import Mapping

from swarm.service.published.job_state import outside


class Readers:
    """What the master has said of who may read, and the owners of its jobs.

    Attributes:
        everything: Names in the certificates of those who may read everybody's jobs; None is everybody.
    """

    def __init__(self) -> None:
        self.everything: frozenset[str] | None = frozenset()
        self._owners: dict[str, str] = {}
        self._shared: set[str] = set()  # jobs that everybody may read
        self._outsides: dict[str, str] = {}  # what others see of a job, JSON

    def note(self, states: Mapping[str, str]) -> None:
        """The master has published these states, JSON by name of the job."""
        for name, state in states.items():
            known = json.loads(state)
            self._owners[name] = known["owner"]
            (self._shared.add if known.get("shared") is True else self._shared.discard)(name)
            self._outsides[name] = json.dumps(outside(known))

    def forget(self, job: str) -> None:
        """The job is not mirrored any more."""
        self._owners.pop(job, None)
        self._shared.discard(job)
        self._outsides.pop(job, None)

    def clear(self) -> None:
        """There are no jobs."""
        self._owners.clear()
        self._shared.clear()
        self._outsides.clear()

    def may_read(self, job: str | None, user: str | None) -> bool:
        """Whether this user may see what the job has found; None is whoever needs no leave."""
        if user is None or self.everything is None or user in self.everything:
            return True
        return job is not None and (job in self._shared or self._owners.get(job) == user)

    def is_public(self, job: str) -> bool:
        """Whether every user may see what the job has found."""
        return self.everything is None or job in self._shared

    def shown(self, job: str, state: str, user: str | None) -> str:
        """A job's state, JSON, as this user may see it."""
        return state if self.may_read(job, user) else self._outsides.get(job, "{}")
