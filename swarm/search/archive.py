"""Positions that were already trained or are being trained: nothing is trained twice.

Source: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization, section 3.4.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from swarm.trial import Result, Status

_KEPT = 4096


class Archive:
    """The answers that one search has at hand; the store has those of all searches.

    The most recent are kept in memory (bounded), since a converged swarm asks for the same few positions again and
    again. A failure is an answer for whoever asks if the configuration is to blame for it; any other is one for this
    job alone, which does not try it again (:mod:`swarm.search.retry` has it do so).
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Result] = OrderedDict()
        self._failed: dict[str, Result] = {}  # for which no configuration is to blame: the store does not answer these

    def __contains__(self, key: str) -> bool:
        return key in self._failed or key in self._recent

    def answer(self, key: str) -> Result | None:
        """The answer for ``key``; None if it is not at hand."""
        if key in self._failed:
            return self._failed[key]
        if key not in self._recent:
            return None
        self._recent.move_to_end(key)
        return self._recent[key]

    def remember(self, result: Result) -> None:
        """Keep a final result at hand, without its learning curve."""
        if result.status is Status.FAILED and not result.answers_others:
            self._failed[result.key] = replace(result, error=result.reason, curve=())
            return
        self._recent[result.key] = replace(result, curve=()) if result.curve else result
        if len(self._recent) > _KEPT:
            self._recent.popitem(last=False)
