"""Whether trainings are so short that the next one had better wait where it will run.

A slot that has ended a training stands still until the master has heard of it, written it down and sent the next. That
gap is measured on the slots' own clocks, between the end of one training and the start of the next. The lower quartile
counts: at the end of a generation slots stand still for another reason.
"""

from __future__ import annotations

from collections import deque
from statistics import median, quantiles

from swarm.trial import Result

_SHORT = 20.0  # gaps: of longer trainings the gap takes less than five per cent
_KNOWN = 12  # trainings, and gaps, before anything is concluded
_KEPT = 50


class Ahead:
    """What is known of the lengths of a search's trainings, and of the gaps between them."""

    def __init__(self) -> None:
        self._lengths: deque[float] = deque(maxlen=_KEPT)
        self._gaps: deque[float] = deque(maxlen=_KEPT)
        self._ends: dict[str, float] = {}  # of the latest training on each slot
        self._waited = False

    def pays(self) -> bool:
        """Whether the next training should wait beside each that runs."""
        enough = len(self._lengths) >= _KNOWN and len(self._gaps) >= _KNOWN
        self._waited = enough and median(self._lengths) < _SHORT * quantiles(self._gaps, n=4)[0]
        return self._waited

    def note(self, result: Result) -> None:
        """A training has ended. Gaps count only while none waits beside those that run, which makes them short."""
        if not result.slot or not result.seconds:
            return
        self._lengths.append(result.seconds)
        before = self._ends.get(result.slot)
        self._ends[result.slot] = result.end
        if not self._waited and before is not None and result.start >= before:
            self._gaps.append(result.start - before)
