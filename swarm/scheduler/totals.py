"""What all jobs of a scheduler have done together, those included that it mirrors no more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from swarm.store.records import State


class Totals:
    """Sums that never fall, as Prometheus expects of counters.

    The scheduler forgets jobs that have ended, and all that have when another master comes. What each has done until
    then stays in the sums.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # as in a job's state; ``told`` and ``trained_seconds`` beside them
        self._live: dict[str, Counter[str]] = {}
        self._ended: dict[str, Counter[str]] = {}  # of what is still mirrored, by name of the job

    def note(self, states: Mapping[str, str]) -> None:
        """Add what these jobs have done since they were noted last; JSON by name of the job."""
        for name, text in states.items():
            state = json.loads(text)
            now = _done(state)
            before = self._live.pop(name, None)
            if before is None:
                before = self._ended.pop(name, Counter())
                if any(now[key] < before[key] for key in before):  # another job, which has taken a name that was free
                    before = Counter()
            self.counts.update(now - before)
            # A master that takes over may not know of the latest results of the one before: they are counted once.
            (self._ended if State(state["state"]).ended else self._live)[name] = now | before

    def forget(self, name: str) -> None:
        """This job has ended, and is mirrored no more."""
        self._ended.pop(name, None)

    def forget_ended(self) -> None:
        """Only jobs that go on are mirrored from now on."""
        self._ended.clear()


def _done(state: Mapping[str, Any]) -> Counter[str]:
    done = Counter(state["counts"])
    done.update(told=state["told"], trained_seconds=state["trained_seconds"])
    return done
