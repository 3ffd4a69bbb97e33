"""Positions that were already trained or are being trained: nothing is trained twice.

Source: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization, section 3.4.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from swarm.store.records import Source
from swarm.store.sql import Store
from swarm.trial import Result, Status

_KEPT = 4096


class Archive:
    """Answers evaluation keys: from this job, from other jobs of the same problem, and from trainings in flight.

    The store is the archive; the most recent answers are kept in memory (bounded), since a converged swarm asks for
    the same few positions again and again. A failure is an answer for whoever asks if the configuration is to blame for
    it; any other is one for this job alone, which does not try it again (:mod:`swarm.search.retry` has it do so).

    Args:
        store: Where results are durable, whichever job trained them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: OrderedDict[str, Result] = OrderedDict()
        self._failed: dict[str, Result] = {}  # for which no configuration is to blame: the store does not answer these
        self._waiting: dict[str, list[int]] = {}

    def look_up(self, key: str) -> tuple[Source, Result | None]:
        """Where the answer for ``key`` will come from, and the answer if it is there already."""
        if key in self._waiting:
            return Source.IN_FLIGHT, None
        if key in self._failed:
            return Source.ARCHIVE, self._failed[key]
        result = self._recent.get(key)
        if result is None:
            result = self._store.answer(key)
            if result is None:
                return Source.TRAINED, None
            self.remember(result)
        self._recent.move_to_end(key)
        return Source.ARCHIVE, result

    def remember(self, result: Result) -> None:
        """Keep a final result at hand, without its learning curve."""
        if result.status is Status.FAILED and not result.answers_others:
            self._failed[result.key] = replace(result, error=result.reason, curve=())
            return
        self._recent[result.key] = result
        if len(self._recent) > _KEPT:
            self._recent.popitem(last=False)

    def wait(self, key: str, trial: int) -> None:
        """Trial ``trial`` waits for the training of ``key``, which is in flight from now on."""
        self._waiting.setdefault(key, []).append(trial)

    def arrived(self, key: str) -> list[int]:
        """The training of ``key`` has ended: the trials that waited for it, in the order in which they came."""
        return self._waiting.pop(key, [])

    @property
    def in_flight(self) -> int:
        """Number of evaluations that are being trained or wait for a slot."""
        return len(self._waiting)
