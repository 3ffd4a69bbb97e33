"""The checkpoints of a search: which may be needed again, and which nobody will read any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from swarm.optimizers.base import Optimizer
from swarm.trial import Purpose, Trial

_SLACK_OF_PARENTS = 16
_SLACK_OF_WINNERS = 4


class Lineage:
    """The evaluations of the trials that others may continue, or that may win; they are named by their keys.

    Args:
        checkpoints: Whether the job keeps any.
    """

    def __init__(self, checkpoints: bool) -> None:
        self._checkpoints = checkpoints
        self._unneeded: list[str] = []  # keys whose checkpoints may be deleted
        self._keys: dict[int, Sequence[str]] = {}  # by trial
        self._own: set[str] = set()  # of these, what was trained for this job; the rest is for others to let go of
        self._left = 0  # trials after the latest tidying

    def note_asked(self, trial: Trial, keys: Sequence[str], begun: bool) -> bool:
        """Remember whose checkpoints may be continued; whether it is time to :meth:`let_go` of the others, all at once.

        Args:
            trial: It is asked for.
            keys: Its evaluations.
            begun: Whether it is the first of a generation that inherits from the one before.
        """
        if trial.budget is None or not self._checkpoints:
            return False
        self._keys[trial.id] = keys
        return begun or self._crowded(_SLACK_OF_PARENTS)

    def note_finished(self, trial: Trial, keys: Sequence[str]) -> bool:
        """Nobody continues a whole training, but its network may be the one that wins: keep that of the best so far.

        Returns:
            Whether it is time to :meth:`let_go` of the others.
        """
        if trial.budget is not None or not self._checkpoints:
            return False
        self._keys[trial.id] = keys
        return self._crowded(_SLACK_OF_WINNERS)

    def note_own(self, key: str) -> None:
        """This evaluation is trained for this job."""
        if self._checkpoints:
            self._own.add(key)

    def origins(
        self, trial: Trial, purpose: Purpose, inherits: bool
    ) -> tuple[Sequence[str] | None, list[Sequence[str]]]:
        """The evaluations that a trial goes on from, and those of each trial that gives it what it has learned.

        Args:
            trial: The trial.
            purpose: What is to be evaluated.
            inherits: Whether its method hands on what was trained.
        """
        if purpose == "test":  # what was handed on to the winner cannot be trained again from the start
            return (self._keys.get(trial.id) if inherits else None), []
        parents = None if trial.parent is None else self._keys.get(trial.parent)
        return parents, [self._keys[donor] for donor in trial.donors]

    def continued(self, optimizer: Optimizer, waiting: Iterable[Trial], ended: bool) -> set[str]:
        """The evaluations from whose checkpoints trainings may still go on.

        Args:
            optimizer: What may continue others.
            waiting: The trials that are pending, or about to be.
            ended: Whether the search has ended, so that the optimizer is asked for nothing more.
        """
        return {key for trial in _continued(optimizer, waiting, ended) for key in self._keys.get(trial) or ()}

    def let_go(self, optimizer: Optimizer, waiting: Sequence[Trial], ended: bool) -> None:
        """Give up the checkpoints that nobody will continue from; at the end, all but those of the best.

        Args:
            optimizer: As in :meth:`continued`.
            waiting: Likewise.
            ended: Likewise.
        """
        best = [best.id for best, _ in optimizer.finalists()]
        self._keep({*_continued(optimizer, waiting, ended), *(trial.id for trial in waiting), *best})

    def take_unneeded(self) -> list[str]:
        """Keys whose checkpoints may be deleted, each said once."""
        unneeded, self._unneeded = self._unneeded, []
        return unneeded

    def _crowded(self, slack: int) -> bool:
        """Whether there are twice as many as were left, and some more: time to tidy up, which costs as many steps."""
        return len(self._keys) > 2 * self._left + slack

    def _keep(self, trials: Collection[int]) -> None:
        """Let go of all others."""
        kept = {number: keys for number, keys in self._keys.items() if number in trials}
        used = {key for keys in kept.values() for key in keys}  # equal trials share a checkpoint
        unused = {key for keys in self._keys.values() for key in keys if key not in used}
        self._unneeded += sorted(unused & self._own)
        self._own -= unused
        self._keys, self._left = kept, len(kept)


def _continued(optimizer: Optimizer, waiting: Iterable[Trial], ended: bool) -> set[int]:
    parents = {one for trial in waiting for one in (trial.parent, *trial.donors) if one is not None}
    return parents if ended else parents | optimizer.parents()
