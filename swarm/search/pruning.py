"""Which trainings are hopeless: rules that end a training early, fed with what trainings report on the way.

Source: the median stopping rule of Golovin et al., Google Vizier: A Service for Black-Box Optimization, KDD 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from swarm.trial import PART


class MedianRule:
    """A training is hopeless if its best report so far is worse than the median of the others' means so far.

    Reports are counted: the n-th report of a training is compared with the mean of the first n of each training that
    has ended well. Only sums are kept, one list of numbers per ended training.

    Args:
        metric: Name of the reported metric.
        sign: 1 if a smaller value is better, −1 if a larger one is.
        after: Number of reports that every training may make before it is judged.
        trainings: Number of trainings that must have ended well before any is judged.
        kept: Number of ended trainings to compare with, the latest.
    """

    def __init__(self, metric: str, sign: int, after: int = 1, trainings: int = 5, kept: int = 200) -> None:
        self._metric = metric
        self._sign = sign
        self._after = after
        self._trainings = trainings
        self._kept = kept
        self._running: dict[str, list[float]] = {}
        self._ended: dict[str, list[float]] = {}  # means of the first 1, 2, … reports of each, in 2^32
        self._skipped: set[str] = set()

    def skip(self, keys: Iterable[str]) -> None:
        """These trainings neither are judged nor set the standard: their first reports were not heard, or are void."""
        for key in keys:
            self._running.pop(key, None)
            self._skipped.add(key)

    def hopeless(self, key: str, report: Mapping[str, float]) -> bool:
        """Take in a report of training ``key``; whether the training should be ended."""
        metric = self.judged(report)
        if key in self._skipped or metric is None:
            return False
        losses = self._running.setdefault(key, [])
        losses.append(self._sign * report[metric])
        number = len(losses)
        others = [means[number - 1] for means in self._ended.values() if len(means) >= number]
        if number <= self._after or len(others) < self._trainings:
            return False
        return min(losses) * PART > median(others)

    def judged(self, report: Mapping[str, float]) -> str | None:
        """The metric that a report is judged by; None if it has none.

        That is the rule's own, or the fitness so far, which ``ctx.report(value, step=…)`` says.
        """
        return next((name for name in (self._metric, "fitness") if name in report), None)

    def ended(self, key: str, well: bool) -> None:
        """Training ``key`` has ended; only those that ended well by themselves set the standard."""
        losses = self._running.pop(key, [])
        self._skipped.discard(key)
        if not well or not losses:
            return
        total, means = 0.0, []
        for number, loss in enumerate(losses, start=1):
            total += loss * PART
            means.append(total / number)
        self._ended[key] = means
        if len(self._ended) > self._kept:
            del self._ended[next(iter(self._ended))]
