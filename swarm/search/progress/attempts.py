"""Trainings that end in vain: which run again, and when it was once too often."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from swarm.store.events import Again, Answered
from swarm.trial import Evaluation, Result, Status

# A training that takes its process down is run once more; one whose worker went away is not to blame, up to a point.
CRASHES_ALLOWED = 1
LOSSES_ALLOWED = 10


class Attempts:
    """How often each evaluation that is not answered yet ended in vain."""

    def __init__(self) -> None:
        self._ends: Counter[tuple[str, Status]] = Counter()  # of what ran again
        self._excused: set[str] = set()  # keys of what crashed, but not by itself

    def note(self, event: Again) -> None:
        """An evaluation runs again. That its worker was told to end is nothing against it, however often."""
        if event.drained:
            return
        self._ends[event.key, event.status] += 1
        if event.status is Status.CRASHED and not event.blamed:
            self._excused.add(event.key)

    def forgive(self, key: str) -> None:
        """Forget how often an evaluation ended in vain."""
        self._excused.discard(key)
        if self._ends:
            for status in Status:
                self._ends.pop((key, status), None)

    def judge(self, evaluation: Evaluation, result: Result, now: float) -> Answered | Again:
        """What it means that a training ended in vain: it runs again, or has failed."""
        if result.status is Status.LOST and result.drained:
            return Again(key=result.key, status=result.status, error=result.error, drained=True, time=now)
        # A training in its worker's own thread takes the worker along when it crashes, which looks like a loss.
        itself = result.blamed and evaluation.isolation == "thread"
        crashed = result.status is Status.CRASHED or (result.status is Status.LOST and itself)
        ends = 1 + self._ends[result.key, result.status]
        if ends <= (CRASHES_ALLOWED if crashed else LOSSES_ALLOWED):
            return Again(key=result.key, status=result.status, error=result.error, blamed=result.blamed, time=now)
        reason, *below = (result.error or "").split("\n", 1)
        error = "\n".join([f"{reason} ({ends} times)", *below])
        blamed = result.status is Status.CRASHED and result.blamed and result.key not in self._excused
        failed = replace(result, status=Status.FAILED, fitness=None, error=error, blamed=blamed)
        return Answered(result=failed, time=now)
