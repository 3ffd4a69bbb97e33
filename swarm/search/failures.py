"""Why the trainings of a search fail, where, and whether all of them do for one reason."""

from __future__ import annotations

import re
from collections import Counter

from swarm.trial import Result

REASONS = 20  # that are told apart; the rest are other errors
_FAILED = re.compile(r"^  > +\d+ \| *(.+)$", re.MULTILINE)
_PLACE = re.compile(r"^(?!… |because of )(\S.*, line \d+)(?:, in .*)?$", re.MULTILINE)


class Failures:
    """What is known of the failures of a search.

    Attributes:
        reasons: How many trials failed, by the first line of the error.
        tracebacks: Where the user's code failed, by the first line of the error, of the first such failure.
        trained: Trainings that have failed while none has succeeded, but for those for which the configuration is to
            blame: in a space of which much is infeasible, nothing is wrong if these do.
        succeeded: Whether a training has.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.tracebacks: dict[str, str] = {}
        self.trained = 0
        self.succeeded = False
        self.blamed_trials = 0
        self._first: Result | None = None
        self._same_reason = self._same_place = True

    def note_trial(self, result: Result) -> None:
        """Count why a trial failed, without keeping every reason of many."""
        self.blamed_trials += result.blamed
        reason = result.reason or "unknown"
        if reason not in self.reasons and len(self.reasons) >= REASONS:
            reason = "other errors"
        self.reasons[reason] += 1
        if result.traceback:
            self.tracebacks.setdefault(reason, result.traceback)

    def note_training(self, result: Result) -> None:
        """Compare a training with those before it."""
        self.succeeded = self.succeeded or result.fitness is not None
        if self.succeeded or result.blamed:
            return
        self.trained += 1
        if self._first is None:
            self._first = result
        self._same_reason = self._same_reason and result.reason == self._first.reason
        place = _kind_and_place(result)
        self._same_place = self._same_place and place is not None and place == _kind_and_place(self._first)

    @property
    def common(self) -> str | None:
        """The one reason, with the place, for which every training has failed so far; None if there is no such."""
        if self.succeeded or self._first is None or not (self._same_reason or self._same_place):
            return None
        found = _kind_and_place(self._first)
        code = _FAILED.findall(_own_lines(self._first))
        where = f" ({': '.join([found[1], *code[-1:]])})" if found else ""
        return f"{self._first.reason or 'unknown'}{where}"


def _kind_and_place(result: Result) -> tuple[str, str] | None:
    """Type of the exception, and the last line of the user's own that led to it; None if no line is known."""
    places = _PLACE.findall(_own_lines(result))
    return ((result.reason or "").partition(":")[0], places[-1]) if places else None


def _own_lines(result: Result) -> str:
    """The user's own lines that led to the error itself, without those of its causes."""
    return (result.traceback or "").partition("\nbecause of ")[0]
