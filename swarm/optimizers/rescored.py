"""A search whose best are measured once more, with more effort, before one of them is called the best.

Source: the low-cost comparison of recurrent networks (Camero, Toutouh, Alba, arXiv:1805.07159, 2018) is an estimate
from a few random networks. Its noise is larger than the differences between good architectures, so the best of many
estimates is mostly a lucky one: it pays to rank the finalists by estimates from many networks.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import Optimizer, rank
from swarm.plain import canonical
from swarm.trial import Params, Trial


@dataclass(kw_only=True)
class Rescored(Optimizer):
    """Runs a method to its end, then evaluates the best of its configurations again with a larger budget.

    :attr:`best` then is one of these finalists, if any succeeds, because the larger budget goes first.

    Why not take the best at once? Where a fitness is noisy, the best of many is mostly a lucky one.

    Attributes:
        of: The method.
        top: Number of different configurations that are evaluated again.
        budget: What each of them is given: more than the method gives its trials.

    Raises:
        InvalidOptimizer: An option is out of its range, the method hands trainings on, or gives its trials as large a
            budget; at ``start``: the method refuses.

    Example:
        ::

            >>> from swarm import Random, Real, Rescored, Space
            >>> optimizer = Rescored(of=Random(trials=10), top=2, budget=100).start(Space({"x": Real(0, 1)}), seed=7)
            >>> budgets = []
            >>> while not optimizer.done:
            ...     trial = optimizer.ask()
            ...     budgets.append(trial.budget)
            ...     optimizer.tell(trial, trial.params["x"])
            >>> budgets[-3:]
            [None, 100.0, 100.0]
    """

    of: Optimizer
    top: int = 5
    budget: float = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_integer("top", low=1)
        self._check_real("budget", 0, above=True)
        if not isinstance(self.of, Optimizer):
            raise InvalidOptimizer(f"{self._named('of')} must be an optimizer, not {self.of!r}")
        if self.of.inherits:
            raise InvalidOptimizer(
                f"{self._named('of')} is {type(self.of).__name__}, whose trainings cannot be repeated: take another"
            )
        most = self.of.largest_budget
        if most is not None and self.budget <= most:
            raise InvalidOptimizer(
                f"{self._named('budget')} {self.budget:g} is no more than {type(self.of).__name__} gives its trials, "
                f"which is up to {most:g}: take a budget above {most:g}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Those of the method, and the finalists."""
        inner = self.of.sizes
        return {**inner, "top": max(self.top, inner.get("top", 0))}

    @property
    def planned(self) -> int | None:
        """Number of trials in all, at most."""
        planned = self._run.planned if self._started else None
        return None if planned is None else planned + self.top

    @property
    def takes_results(self) -> bool:
        """Whether the method does."""
        return self.of.takes_results

    @property
    def largest_budget(self) -> float | None:
        """What the finalists are given."""
        return float(self.budget)

    @property
    def generational(self) -> bool:
        """Whether the method's trials come in generations; the finalists are one more."""
        return self.of.generational

    @property
    def ponders(self) -> bool:
        """Whether the method does."""
        return (self._run if self._started else self.of).ponders

    @property
    def learns(self) -> bool:
        """Whether the method does."""
        return self.of.learns

    def prepare(self) -> None:
        """Prepare what the method asks for next."""
        self._check_started()
        self._run.prepare()

    def parents(self) -> set[int]:
        """Ids of the trials whose checkpoints the method may continue from."""
        self._check_started()
        return self._run.parents()

    def _check_room(self, number: int) -> None:
        self._run._check_room(number)

    def _accept(self, given: Sequence[Params]) -> None:
        self._run._accept(given)

    def _begin(self) -> None:
        first, step = self._ids
        self._run = self.of.start(self._space, seed=self._seed, fold=self._fold, first_id=first, id_step=step)
        self._leaders: list[tuple[Trial, float]] = []  # the best so far, of different configurations, in order
        self._different: dict[str, tuple[Trial, float]] = {}  # the same by configuration
        self._rescored = self._generation = 0

    def _exhausted(self) -> bool:
        return self._run.done and self._rescored == len(self._leaders)

    def _ask(self) -> Trial | None:
        if not self._run.done:
            trial = self._run.ask()
            self._generation = max(self._generation, trial.generation + 1 if trial else 0)
            return trial
        member, self._rescored = self._rescored, self._rescored + 1
        params = self._leaders[member][0].params
        return self._trial(params, generation=self._generation, member=member, budget=self.budget)

    def _learn(self, params: Params, loss: float, fold: int | None) -> None:
        self._run.learn(params, loss, fold)

    def _take(self, trial: Trial) -> None:
        if self._run.done:
            super()._take(trial)
        else:
            self._run.asked(trial)
            self._generation = max(self._generation, trial.generation + 1)

    def _tell(self, trial: Trial, loss: float) -> None:
        if self._run.done:
            return
        self._run.tell(trial, loss)
        if loss < math.inf:
            self._rank(trial, loss)

    def _rank(self, trial: Trial, loss: float) -> None:
        """Put a trial among the leaders, if it is one; of equal configurations the better stays."""
        full = len(self._leaders) == self.top
        if full and rank(trial, loss) > rank(*self._leaders[-1]):
            return
        configuration = canonical(trial.params)
        if (equal := self._different.pop(configuration, None)) is not None:
            at = bisect_left(self._leaders, rank(*equal), key=lambda leader: rank(*leader))
            del self._leaders[at]
            trial, loss = min(equal, (trial, loss), key=lambda leader: rank(*leader))
        insort(self._leaders, (trial, loss), key=lambda leader: rank(*leader))
        self._different[configuration] = trial, loss
        if len(self._leaders) > self.top:
            del self._different[canonical(self._leaders.pop()[0].params)]
