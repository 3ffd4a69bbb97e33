"""Staged random search: ever longer trainings in an ever smaller box round the best.

Source: NHOP, Neural network Hyper-parameter OPtimization with distributed TensorFlow: the stage loop round the
optimizer (outer) loop. How much smaller the box becomes the paper leaves open; here its widths are halved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np

from swarm.errors import InvalidOptimizer
from swarm.optimizers.unrepeated import Unrepeated, key
from swarm.space.space import Choice, Domain, Integer, Real
from swarm.trial import Params, Trial, Value

_DRAWS = 1000  # from a box; if they are all known, it has no more


@dataclass(kw_only=True)
class Staged(Unrepeated):
    """Random search in stages, each with a larger budget and in a smaller box round the best of the one before.

    Within a stage any number of trials may be open. The next stage begins as soon as the best of this one is known:
    when all of its trials are told, or when it has ended early, because for ``patience`` trials the best has not
    improved by more than ``opt_tolerance``. That is judged in the order of the trials, not of their results, so that
    the boxes are the same for any number of slots; trials asked beyond the one that ended a stage can be the best of
    the search, but do not move the box.

    Losses at different budgets do not compare: a box is put round the best of the latest stage in which a trial has
    succeeded, and the stage's first trial is that best again, with the new budget: without noise, a stage ends no
    worse than the one before. :attr:`best` is the best of the largest budget. ``Trial.generation`` is the stage,
    ``Trial.budget`` its budget, ``Trial.member`` the number of the trial in its stage.

    When to end one training early (the paper's ``train_tolerance``) is for the training to say.

    Source: NHOP, Neural network Hyper-parameter OPtimization with distributed TensorFlow.

    Attributes:
        stages: Budget (epochs) and number of trials of each stage, as pairs of integers of at least 1.
        shrink: Factor of the box's widths from stage to stage, above 0 up to 1 (1 moves the box only). An integer
            parameter, and one in steps, keeps the next number on either side of the best; every box lies within the
            space.
        keep: Chance that a trial of a later stage takes the best's option of a choice instead of a random one.
        freeze: Stage, 2 or later, from which on every trial takes the best's options; None is never.
        opt_tolerance: What counts as an improvement is more than this.
        known: A configuration that this run has asked for at this budget is drawn ``again``, and a stage ends when
            1000 draws from its box are all known; ``answer`` has the archive answer.
        patience: Trials without improvement after which a stage ends, at least 1; None never ends it early. They
            count from the first success.

    Raises:
        InvalidOptimizer: An option is out of its range.

    Example:
        Twenty trials of one epoch, then ten of five epochs near the best of the twenty::

            >>> from swarm import Real, Space, Staged
            >>> optimizer = Staged(stages=[(1, 20), (5, 10)], patience=None).start(Space({"x": Real(0, 100)}), seed=7)
            >>> for _ in range(20):
            ...     trial = optimizer.ask()
            ...     optimizer.tell(trial, abs(trial.params["x"] - 30))
            >>> again = optimizer.ask()
            >>> again.budget, 20 < again.params["x"] < 40
            (5.0, True)
    """

    stages: Sequence[Sequence[int]] = ((1000, 1000), (5000, 750), (10000, 500))
    shrink: float = 0.5
    keep: float = 0.5
    freeze: int | None = 3
    opt_tolerance: float = 1e-5
    patience: int | None = 20

    limits: ClassVar[tuple[str, ...]] = ("stages",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.stages, (list, tuple)) or not self.stages or not all(map(_is_stage, self.stages)):
            raise InvalidOptimizer(
                "Staged: stages must be pairs of a budget and a number of trials, integers of at least 1, "
                f"such as [[10, 30], [40, 10]], not {self.stages!r}"
            )
        self.stages = [list(stage) for stage in self.stages]  # what JSON makes of pairs: written and read are equal
        self._check_real("shrink", 0, 1, above=True)
        self._check_real("keep", 0, 1)
        self._check_real("opt_tolerance", 0)
        for option, low in (("freeze", 2), ("patience", 1)):
            if getattr(self, option) is not None:
                self._check_integer(option, low)

    def raises(self, option: str, before: Any) -> bool:
        """Whether there are the stages that there were, and further ones."""
        if option != "stages" or not isinstance(before, list | tuple):
            return False
        return self.stages[: len(before)] == [list(stage) if isinstance(stage, tuple) else stage for stage in before]

    @property
    def planned(self) -> int | None:
        """Number of trials of all stages, fewer if some end early."""
        return sum(trials for _, trials in self.stages) if self._started else None

    @property
    def largest_budget(self) -> float | None:
        """The largest budget of a stage."""
        return float(max(budget for budget, _ in self.stages))

    def _begin(self) -> None:
        self._box = dict(self._space.domains)
        self._centre: Params | None = None  # the best of the latest stage that has one
        self._stage = 0
        self._begin_stage()

    def _limited(self, before: Self) -> None:
        if self._stage == len(before.stages) < len(self.stages):
            self._begin_stage()

    def _begin_stage(self) -> None:
        self._next = self._judged = 0  # trials of the stage that were asked; that were judged, in order
        self._due = self.stages[self._stage][1] if self._stage < len(self.stages) else 0  # fewer if its box has no more
        self._early: dict[int, tuple[Params, float]] = {}  # results that have overtaken the one to be judged next
        self._leader: Params | None = None  # the stage's best, and its loss
        self._lowest = math.inf
        self._improved = math.inf  # loss of the latest trial that counted as an improvement
        self._idle = 0  # trials judged since then
        self._coming: Params | None = None  # what is asked next
        if self._due:
            self._prepare()
            if not self._due:
                self._end_stage()

    def _exhausted(self) -> bool:
        return self._stage == len(self.stages)

    def _ask(self) -> Trial | None:
        if self._coming is None:
            return None
        budget = self.stages[self._stage][0]
        centred = self._next == 0 and self._centre is not None
        params = self._coming if centred else self._next_given() or self._coming
        trial = self._trial(params, generation=self._stage, member=self._next, budget=budget)
        self._next += 1
        if self._draws_again:
            self._remember(trial)
        self._prepare()
        return trial

    def _remember(self, trial: Trial) -> None:
        self._keys.add(_with_budget(trial.params, trial.budget))

    def _all_known(self) -> bool:
        return False  # the next stage has another budget

    def _prepare(self) -> None:
        """Draw what is asked next, if the stage has more; it has not where all of a small box is known."""
        self._coming = self._drawn() if self._next < self._due else None
        if self._coming is None:
            self._due = self._next

    def _drawn(self) -> Params | None:
        """A configuration of the box that is not known at this budget; the best of before is asked for all the same.

        Where constraints refuse all of a box, it is one near by.
        """
        rng, budget = self._rng(self._stage, self._next), float(self.stages[self._stage][0])
        allowed = False
        for _ in range(_DRAWS):
            params = self._sample(rng)
            centre = self._next == 0 and self._centre is not None
            if not centre and not self._space.allows(params):
                continue
            allowed = True
            if centre or not self._draws_again or _with_budget(params, budget) not in self._keys:
                return params
        return None if allowed else self._near(params, budget)

    def _near(self, refused: Params, budget: float) -> Params | None:
        """A configuration near one that is refused, unless it is known at this budget."""
        whole = self._space.completed(refused)
        domains = ((name, self._space.domains[name]) for name in self._space.names)
        params = self._space.decode([d.encode(whole[name]) for name, d in domains if isinstance(d, Domain)])
        return None if self._draws_again and _with_budget(params, budget) in self._keys else params

    def _sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random configuration in the box; the first of a later stage is its centre."""
        if self._next == 0 and self._centre is not None:
            return dict(self._centre)
        params: dict[str, Value] = {}
        for name, domain in self._box.items():
            if not isinstance(domain, Domain):
                params[name] = domain
            elif isinstance(domain, Choice) and name in (self._centre or {}) and rng.random() < self.keep:
                assert self._centre is not None
                params[name] = self._centre[name]
            else:
                params[name] = domain.sample(rng)
        return self._space.active(params)

    def _tell(self, trial: Trial, loss: float) -> None:
        if trial.generation != self._stage:
            return  # its stage has ended early
        self._early[trial.member] = trial.params, loss
        while self._judged in self._early:
            self._judge(*self._early.pop(self._judged))
            if self._judged == self._due or self._idle == self.patience:
                self._end_stage()
                return

    def _judge(self, params: Params, loss: float) -> None:
        """Take in the stage's next result, in the order of its trials."""
        self._judged += 1
        if loss < self._lowest:
            self._leader, self._lowest = params, loss
        if loss < self._improved - self.opt_tolerance:
            self._improved, self._idle = loss, 0
        elif self._improved < math.inf:
            self._idle += 1

    def _end_stage(self) -> None:
        self._stage += 1
        self._centre = self._leader or self._centre
        if self._centre is not None:
            self._box |= {name: self._narrowed(name, self._centre[name]) for name in self._box if name in self._centre}
        self._begin_stage()

    def _narrowed(self, name: str, best: Value) -> Domain | Value:
        """What a parameter may be in the stage that begins."""
        domain, whole = self._box[name], self._space.domains[name]
        if isinstance(domain, (Integer, Real)) and isinstance(whole, (Integer, Real)):
            box: Domain | Value = narrowed(domain, whole, best, self.shrink)
            return box
        frozen = self.freeze is not None and self._stage + 1 >= self.freeze  # stage 0 is the first
        return best if frozen and isinstance(domain, Choice) else domain


def narrowed(domain: Integer | Real, whole: Integer | Real, best: Any, shrink: float) -> Any:
    """A numeric domain made smaller round the best value, and clipped to the whole one.

    Args:
        domain: The domain as it is now; its width (of the logarithms if logarithmic) is what shrinks.
        whole: The domain of the search space, which the new one stays in.
        best: Middle of the new domain, a value of the whole one.
        shrink: Factor of the width.

    Returns:
        The new domain; or the best value, if rounding to significant digits leaves no other.
    """
    half = shrink * (domain.ends[1] - domain.ends[0]) / 2
    step: Any = whole.step or 1
    if isinstance(whole, Integer) and not whole.log:
        half = max(float(step), half)  # a step to either side
        below, above = math.floor((best - max(whole.low, best - half)) / step), math.floor(half / step)
        return Integer(best - below * step, min(whole.high, best + above * step), step=whole.step)
    u, du = whole.encode(best), half / (whole.ends[1] - whole.ends[0])
    low: Any = whole.decode(u - du)  # clipped, and rounded as all values are
    high: Any = whole.decode(u + du)
    if whole.size is not None:  # a step to either side, at least
        low, high = min(low, whole.nearest(best - step)), max(high, whole.nearest(best + step))
    if low == high:
        return best
    if isinstance(whole, Integer):
        return Integer(low, high, log=True, step=whole.step)
    return Real(low, high, log=whole.log, digits=whole.digits, step=whole.step)


def _with_budget(params: Params, budget: float | None) -> int:
    """What tells configurations at budgets apart."""
    return key({**params, "": 0.0 if budget is None else budget})  # no parameter has that name


def _is_stage(stage: Any) -> bool:
    return (
        isinstance(stage, (list, tuple))
        and len(stage) == 2
        and all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in stage)
    )
