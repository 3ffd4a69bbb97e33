"""Hyperband: many configurations on a small budget, the best of them on ever larger ones.

Source: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, Hyperband, JMLR 18 (2018), with the budgets and sizes of
HpBandSter, which the BOHB of the LeNet-5 report is; ``promotion="async"``: Li et al., A System for Massively Parallel
Hyperparameter Tuning (ASHA), MLSys 2020, within each iteration.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal, get_args

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import EXACT
from swarm.optimizers.unrepeated import Unrepeated
from swarm.trial import Params, Trial

Promotion = Literal["sync", "async"]

_ROUNDING = 1e-9  # a quotient this little below a whole number is that number


@dataclass(kw_only=True)
class Hyperband(Unrepeated):
    """Iterations of successive halving, which differ in how many configurations start and on which budget.

    An iteration starts its configurations on its lowest rung, and takes those of the lowest losses to the next one,
    where the same configuration is a new trial: ``budget`` is ``eta`` times as large, ``parent`` the trial below. A
    training goes on from the checkpoint of that trial if there is one, and starts over otherwise. Failed trials are
    never promoted. ``generation`` is the iteration, and ``member`` the configuration within it on all its rungs.

    While an iteration waits for results the next one begins, so that ``ask`` gives None only when all have begun. The
    trials of ``sync`` are, but for their ids, the same for any number of workers and any order of the results; those
    of ``async`` follow from the sequence of calls. Memory grows with the open trials, not with the iterations.

    Source: Li et al., Hyperband, JMLR 18, 2018; ``async`` is ASHA, Li et al., MLSys 2020, within each iteration.

    Attributes:
        min_budget: Lower limit of the smallest budget, in the problem's unit of budget, such as epochs.
        max_budget: Largest budget. The budgets are ``max_budget / eta^k``, down to ``min_budget``: 40/3 and 40 for
            10 to 40. They are whole only if that is; a training that counts epochs rounds its budget down.
        eta: Factor between budgets; about one in ``eta`` is promoted. 2 or more.
        iterations: Number of iterations in all. Their shapes repeat every K, the number of budgets.
        promotion: ``sync`` promotes when all of a rung are told; ``async`` as soon as a trial is in the best
            ``1/eta`` of those told so far on its rung, so that none waits for the slowest, but more are promoted.
        known: A configuration that an iteration has started before is drawn ``again``, and when a finite space has
            none left no more is started; ``answer`` starts it once more, which the archive answers on the same budget.

    Raises:
        InvalidOptimizer: An option is out of its range.

    Example:
        The first iteration starts three configurations on a third of the budget, and trains the best of them on::

            >>> from swarm import Hyperband, Real, Space
            >>> space = Space({"x": Real(0, 1)})
            >>> optimizer = Hyperband(min_budget=10, max_budget=30, iterations=2).start(space, seed=7)
            >>> three = [optimizer.ask() for _ in range(3)]
            >>> [trial.budget for trial in three]
            [10.0, 10.0, 10.0]
            >>> for trial in three:
            ...     optimizer.tell(trial, trial.params["x"])
            >>> promoted = optimizer.ask()
            >>> promoted.budget, promoted.parent == min(three, key=lambda trial: trial.params["x"]).id
            (30.0, True)
    """

    min_budget: float
    max_budget: float
    eta: float = 3
    iterations: int = 20
    promotion: Promotion = "sync"

    limits: ClassVar[tuple[str, ...]] = ("iterations",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_real("min_budget", 0, above=True)
        self._check_real("max_budget", 0, above=True)
        if self.max_budget < self.min_budget:
            raise InvalidOptimizer(
                f"{self._named('max_budget')} {self.max_budget!r} is below min_budget {self.min_budget!r}: swap them"
            )
        self._check_real("eta", 2)
        self._check_integer("iterations", low=1)
        if self.max_budget / self.min_budget > EXACT:
            raise InvalidOptimizer(
                f"{self._named('max_budget')} {self.max_budget!r} is more than 2^53 times min_budget "
                f"{self.min_budget!r}: raise min_budget"
            )
        self._check_one_of("promotion", *get_args(Promotion))

    @property
    def sizes(self) -> dict[str, int]:
        """Configurations of the largest iteration."""
        return {"max_budget / min_budget": largest(self.min_budget, self.max_budget, self.eta)}

    @property
    def planned(self) -> int | None:
        """Number of trials unless too few succeed to be promoted; None for ``async``, which may promote more."""
        if not self._started or self.promotion == "async":
            return None
        cycles, rest = divmod(self.iterations, len(self._shapes))
        runs = [sum(size for size, _ in shape) for shape in self._shapes]
        return cycles * sum(runs) + sum(runs[:rest])

    @property
    def largest_budget(self) -> float | None:
        """The largest budget that it gives a trial."""
        return float(self.max_budget)

    def parents(self) -> set[int]:
        """Ids of the trials that may yet be promoted: told, succeeded, and among the best of a rung so far."""
        self._check_started()
        return {trial.id for halving in self._live.values() for trial in halving.hopefuls()}

    def _begin(self) -> None:
        self._shapes = schedule(self.min_budget, self.max_budget, self.eta)
        self._begun = 0  # iterations
        self._live: dict[int, _Halving] = {}  # iterations that have open trials, or trials to ask
        self._ready: set[int] = set()  # those that may have trials to ask

    def _exhausted(self) -> bool:
        return not self._live and (self._begun == self.iterations or self._all_known())

    def _finished(self) -> bool:
        return self._exhausted()  # those that are all known may yet be promoted

    def _remember(self, trial: Trial) -> None:
        if trial.parent is None:
            super()._remember(trial)

    def _ask(self) -> Trial | None:
        while self._ready:
            iteration = min(self._ready)
            if (trial := self._next(iteration)) is not None:
                return trial
            self._ready.remove(iteration)
        if self._begun == self.iterations or self._all_known():
            return None
        iteration, self._begun = self._begun, self._begun + 1
        shape = self._shapes[iteration % len(self._shapes)]
        self._live[iteration] = _Halving(shape, self.eta, eager=self.promotion == "async")
        self._ready.add(iteration)
        return self._next(iteration)

    def _place(self) -> tuple[int, int] | None:
        """Iteration and member of the new configuration that is asked for next; None if a promotion is, or nothing."""
        for iteration in sorted(self._ready):
            halving = self._live[iteration]
            if halving.promotes:
                return None
            if halving.has_room:
                return iteration, halving.rungs[0].asked
        return None if self._begun == self.iterations or self._all_known() else (self._begun, 0)

    def _next(self, iteration: int) -> Trial | None:
        """The next trial of an iteration: a promotion, or else a new configuration."""
        halving = self._live[iteration]
        if (promotion := halving.promotion()) is not None:
            parent, rung = promotion
            params, member, origin = parent.params, parent.member, parent.id
        elif halving.has_room:
            rung = halving.rungs[0]
            member, origin = rung.asked, None
            params = self._configuration(iteration, member)
        else:
            return None
        rung.asked += 1
        trial = self._trial(params, generation=iteration, member=member, budget=rung.budget, parent=origin)
        if origin is None and self._draws_again:
            self._remember(trial)
            if self._all_known():
                halving.close()
        return trial

    def _configuration(self, iteration: int, member: int) -> Params:
        """A new configuration: at random here, from a model in a method that builds on this one."""
        rng = self._rng(iteration, member)
        return self._next_given() or self._unknown(lambda: self._space.sample(rng), rng)

    def _tell(self, trial: Trial, loss: float) -> None:
        halving = self._live[trial.generation]
        halving.tell(trial, loss)
        if halving.ready:
            self._ready.add(trial.generation)
        elif halving.settled:
            del self._live[trial.generation]
            self._ready.discard(trial.generation)


def schedule(min_budget: float, max_budget: float, eta: float) -> list[list[tuple[int, float]]]:
    """The rungs of the first K iterations, where K is the number of budgets; later iterations repeat them.

    For s = K − 1, …, 0: ⌊K/(s + 1)⌋·η^s configurations start on the budget max·η^−s, and ⌊n/η^i⌋ of these n, but
    one at least, reach the i-th rung above.

    Args:
        min_budget: Lower limit of the smallest budget, above 0.
        max_budget: Largest budget.
        eta: Factor between budgets.

    Returns:
        Per iteration its rungs from the lowest to the highest: number of trials, and their budget.
    """
    k = _budgets(min_budget, max_budget, eta)
    shapes = []
    for s in reversed(range(k)):
        n = _started(k, s, eta)
        shapes.append([(max(1, _floor(n / eta**i)), max_budget / eta ** (s - i)) for i in range(s + 1)])
    return shapes


def largest(min_budget: float, max_budget: float, eta: float) -> int:
    """The most configurations that an iteration of :func:`schedule` starts."""
    k = _budgets(min_budget, max_budget, eta)
    return max(_started(k, s, eta) for s in range(k))


def _budgets(min_budget: float, max_budget: float, eta: float) -> int:
    """Number K of budgets."""
    return _floor(math.log(max_budget / min_budget) / math.log(eta)) + 1  # HpBandSter truncates 4.999… for 1 to 243


def _started(k: int, s: int, eta: float) -> int:
    """Configurations that an iteration with s promotions starts."""
    return _floor(k // (s + 1) * eta**s)


def _floor(value: float) -> int:
    """The whole part of a number; one that rounding left just below a whole number is that number."""
    return math.floor(value + 1e-9)


@dataclass(slots=True)
class _Rung:
    """The trials of one iteration on one budget.

    ``due`` is how many there will be if promotions wait for the whole rung. ``ranking`` holds those that succeeded,
    the lowest loss first and of equal ones the lowest member.
    """

    due: int
    budget: float
    asked: int = 0
    told: int = 0
    ranking: list[tuple[float, int, Trial]] = field(default_factory=list)
    promoted: set[int] = field(default_factory=set)  # members

    def unpromoted(self, best: int) -> list[Trial]:
        """Those of the ``best`` first of the ranking that have not been promoted."""
        return [trial for _, member, trial in self.ranking[:best] if member not in self.promoted]


class _Halving:
    """One iteration: its rungs, lowest first, and who is promoted from one to the next.

    Args:
        shape: Number of trials and budget of each rung.
        eta: The best ``1/eta`` of those told are promoted if ``eager``.
        eager: Whether to promote before all of a rung are told.
    """

    def __init__(self, shape: Sequence[tuple[int, float]], eta: float, *, eager: bool) -> None:
        self.rungs = [_Rung(size, budget) for size, budget in shape]
        self._eta, self._eager = eta, eager

    @property
    def has_room(self) -> bool:
        """Whether there are configurations left to start."""
        return self.rungs[0].asked < self.rungs[0].due

    @property
    def ready(self) -> bool:
        """Whether there is a trial to ask for."""
        return self.has_room or self.promotes

    @property
    def promotes(self) -> bool:
        """Whether there is a trial to promote."""
        return any(self._promotable(*step) for step in pairwise(self.rungs))

    @property
    def settled(self) -> bool:
        """Whether every trial that was asked has been told."""
        return all(rung.told == rung.asked for rung in self.rungs)

    def promotion(self) -> tuple[Trial, _Rung] | None:
        """Promote a trial, from the highest rung that has one: the trial, and the rung that it goes to."""
        for rung, above in reversed(list(pairwise(self.rungs))):
            if trials := self._promotable(rung, above):
                rung.promoted.add(trials[0].member)
                return trials[0], above
        return None

    def hopefuls(self) -> list[Trial]:
        """The trials that are to be promoted, or will be unless better ones come."""
        share = _floor(self.rungs[0].due / self._eta)  # of the most that a rung can hold
        return [
            trial
            for rung, above in pairwise(self.rungs)
            for trial in rung.unpromoted(share if self._eager else above.due)
        ]

    def close(self) -> None:
        """Start no more configurations than have been."""
        self.rungs[0].due = self.rungs[0].asked

    def tell(self, trial: Trial, loss: float) -> None:
        """Take in the loss of a trial; +inf if it failed."""
        rung = next(rung for rung in self.rungs if rung.budget == trial.budget)
        rung.told += 1
        if loss < math.inf:
            insort(rung.ranking, (loss, trial.member, trial))
        for below, above in pairwise(self.rungs):
            if below.told == below.due:
                above.due = min(above.due, len(below.ranking))  # fewer if too few succeeded

    def _promotable(self, rung: _Rung, above: _Rung) -> list[Trial]:
        if self._eager:
            return rung.unpromoted(_floor(rung.told / self._eta))
        return rung.unpromoted(above.due) if rung.told == rung.due else []
