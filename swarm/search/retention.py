"""The checkpoints of a search: which may be needed again, and which nobody will read any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class Lineage:
    """The evaluations of the trials that others may continue, or that may win; they are named by their keys.

    Attributes:
        unneeded: Keys whose checkpoints may be deleted; whoever deletes them takes them out.
    """

    def __init__(self) -> None:
        self.unneeded: list[str] = []
        self._keys: dict[int, Sequence[str]] = {}  # by trial
        self._own: set[str] = set()  # of these, what was trained for this job; the rest is for others to let go of
        self._left = 0  # trials after the latest tidying

    def __getitem__(self, trial: int) -> Sequence[str]:
        """The evaluations of a trial, one per fold and repeat."""
        return self._keys[trial]

    def get(self, trial: int) -> Sequence[str] | None:
        """The same, or None if the trial is not, or no longer, among them."""
        return self._keys.get(trial)

    def add(self, trial: int, keys: Sequence[str]) -> None:
        """The checkpoints of this trial are needed until :meth:`keep` says otherwise."""
        self._keys[trial] = keys

    def add_own(self, key: str) -> None:
        """This evaluation is trained for this job."""
        self._own.add(key)

    def crowded(self, slack: int) -> bool:
        """Whether there are twice as many as were left, and some more: time to tidy up, which costs as many steps."""
        return len(self._keys) > 2 * self._left + slack

    def keep(self, trials: Collection[int]) -> None:
        """Let go of all others."""
        kept = {number: keys for number, keys in self._keys.items() if number in trials}
        used = {key for keys in kept.values() for key in keys}  # equal trials share a checkpoint
        unused = {key for keys in self._keys.values() for key in keys if key not in used}
        self.unneeded += sorted(unused & self._own)
        self._own -= unused
        self._keys, self._left = kept, len(kept)
