"""Cross-validation: one independent search per fold, interleaved.

Source: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization runs its
whole swarm once per fold. Asking them in turn lets a slot that one fold's barrier leaves idle work for
another fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import Optimizer
from swarm.trial import Params, Trial


@dataclass
class Folds(Optimizer):
    """As many independent runs of one optimizer as there are folds, asked in turn.

    Trial number ``n`` of fold ``k`` has the id ``n · folds + k``, whatever the order in which the folds are asked,
    and :attr:`Trial.fold` is ``k``.

    Attributes:
        inner: Options of the optimizer that every fold runs.
        folds: Number of folds, 1 or more.

    Raises:
        InvalidOptimizer: ``folds`` is out of its range; at ``start``: a fold is given, or the inner optimizer
            refuses.
    """

    inner: Optimizer
    folds: int

    limits: ClassVar[tuple[str, ...]] = ("inner",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("folds", low=1)

    @property
    def sizes(self) -> dict[str, int]:
        """Those of all folds."""
        return {f"folds × {options}": self.folds * count for options, count in self.inner.sizes.items()}

    @property
    def planned(self) -> int | None:
        """Number of trials over all folds, at most."""
        plans = [run.planned for run in self._runs] if self._started else [None]
        return None if None in plans else sum(plan for plan in plans if plan is not None)

    @property
    def generational(self) -> bool:
        """Whether the inner optimizer's trials come in generations."""
        return self.inner.generational

    @property
    def ponders(self) -> bool:
        """Whether the inner optimizer does."""
        return (self._runs[0] if self._started else self.inner).ponders

    @property
    def learns(self) -> bool:
        """Whether the inner optimizer does, each fold from its own."""
        return self.inner.learns

    @property
    def takes_results(self) -> bool:
        """Whether the method does."""
        return self.inner.takes_results

    @property
    def largest_budget(self) -> float | None:
        """The largest budget that the method gives a trial, if it gives any."""
        return self.inner.largest_budget

    @property
    def inherits(self) -> bool:
        """Whether the inner optimizer's trials need their parents' checkpoints."""
        return self.inner.inherits

    def best_per_fold(self) -> list[tuple[Trial, float] | None]:
        """The best trial of each fold and its loss, by fold; None where none has succeeded."""
        self._check_started()
        return [run.best for run in self._runs]

    def finalists(self) -> list[tuple[Trial, float]]:
        """The best trial of each fold in which one has succeeded, and its loss."""
        return [best for best in self.best_per_fold() if best is not None]

    def parents(self) -> set[int]:
        """Ids of the trials whose checkpoints a later trial of their fold may start from."""
        self._check_started()
        return {trial for run in self._runs for trial in run.parents()}

    def _check_room(self, number: int) -> None:
        for run in self._runs:
            run._check_room(number)

    def _accept(self, given: Sequence[Params]) -> None:
        for run in self._runs:
            run._accept(given)

    def _begin(self) -> None:
        if self._fold is not None:
            raise InvalidOptimizer(f"Folds runs every fold itself: start it without fold={self._fold}")
        k = self.folds
        self._runs = [
            self.inner.start(self._space, seed=self._seed, fold=fold, first_id=fold, id_step=k) for fold in range(k)
        ]
        self._turn = 0  # fold that is asked next

    def _limited(self, before: Self) -> None:
        for run in self._runs:
            run.take_limits(self.inner)

    def _exhausted(self) -> bool:
        return all(run.done for run in self._runs)

    def _ask(self) -> Trial | None:
        for _ in range(self.folds):
            fold, self._turn = self._turn, (self._turn + 1) % self.folds
            if (trial := self._runs[fold].ask()) is not None:
                return trial
        return None

    def _take(self, trial: Trial) -> None:
        for _ in range(self.folds):
            fold, self._turn = self._turn, (self._turn + 1) % self.folds
            if fold == trial.id % self.folds:
                self._runs[fold].asked(trial)
                return
            if (other := self._runs[fold].ask()) is not None:  # its turn was before
                raise self._other(trial, other)

    def _learn(self, params: Params, loss: float, fold: int | None) -> None:
        for run in self._runs if fold is None else self._runs[fold : fold + 1]:
            run.learn(params, loss)

    def prepare(self) -> None:
        """Prepare the fold that is asked next."""
        ahead = (self._runs[(self._turn + step) % self.folds] for step in range(self.folds))
        if (run := next((run for run in ahead if not run._exhausted()), None)) is not None:
            run.prepare()

    def _tell(self, trial: Trial, loss: float) -> None:
        self._runs[trial.id % self.folds].tell(trial, loss)
