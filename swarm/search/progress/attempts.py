"""Trainings that end in vain: which run again, and when it was once too often."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from swarm.store.events import Again, Answered
from swarm.trial import STARTS_OVER, Evaluation, Result, Status

# A training that takes its process down is run once more; one whose worker went away is not to blame, up to a point.
CRASHES_ALLOWED = 1
LOSSES_ALLOWED = 10
_OFTEN = 3  # times that a training has started over since its workers ended, before that is said


class Attempts:
    """How often each evaluation that is not answered yet ended in vain."""

    def __init__(self) -> None:
        self._ends: Counter[tuple[str, Status]] = Counter()  # of what ran again
        self._excused: set[str] = set()  # keys of what crashed, but not by itself
        self._started_over: Counter[str] = Counter()  # by key, since its worker was told to end and nothing was saved

    def note(self, event: Again) -> None:
        """An evaluation runs again. That its worker was told to end is nothing against it, however often."""
        if event.drained:
            if STARTS_OVER in (event.error or ""):
                self._started_over[event.key] += 1
            return
        self._ends[event.key, event.status] += 1
        if event.status is Status.CRASHED and not event.blamed:
            self._excused.add(event.key)

    def forgive(self, key: str) -> None:
        """Forget how often an evaluation ended in vain."""
        self._excused.discard(key)
        self._started_over.pop(key, None)
        if self._ends:
            for status in Status:
                self._ends.pop((key, status), None)

    @property
    def in_vain(self) -> str | None:
        """What to do about trainings that start over again and again, as workers end too soon; None without any."""
        often = {key: times for key, times in self._started_over.items() if times >= _OFTEN}
        if not often:
            return None
        what = "a training has" if len(often) == 1 else f"{len(often)} trainings have"
        times = f"{'up to ' if len(often) > 1 else ''}{max(often.values())} times"
        return (
            f"{what} started over {times}, since the workers were told to end before anything was saved: have "
            "trainings save what they can go on from (ctx.save, and checkpoints: true in the job), or let workers live "
            "longer (--lifetime)"
        )

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
