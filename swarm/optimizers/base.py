"""The contract of every search method: ask for trials, tell what came of them.

To add a method write one file with one class, name the paper that it follows, and list it in
:data:`swarm.optimizers.OPTIMIZERS`; the tests in ``tests/contract`` then hold it to this contract.
``random.py`` is the example to start from.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np

from swarm.errors import InvalidOptimizer, JournalMismatch
from swarm.optimizers.front import scalarised
from swarm.optimizers.given import check_part, filled
from swarm.plain import plain, plain_data
from swarm.space.space import Space
from swarm.trial import Params, Trial, rank_of

_GIVEN = 2**41  # generation of the draw sites of what a given configuration lacks; no method has it
EXACT = 2**53
"""Integers up to here are exact as floats."""


@dataclass(kw_only=True)
class Optimizer(ABC):
    """A search method that minimises a loss by asking for trials and being told their losses.

    The fields of a method are its options; :meth:`start` gives a copy that runs, and they can be reused::

        optimizer = PSO(particles=6, generations=100).start(space, seed=7)
        while not optimizer.done:
            trial = optimizer.ask()
            optimizer.tell(trial, loss(trial.params))
        trial, loss = optimizer.best

    A trial is *open* from ``ask`` until ``tell``. Any number may be open, and they are told in any order::

        call                        open            then
        start(space, seed=7)        –               best is None
        ask() → trial 0             0               done is False
        ask() → trial 1             0, 1
        ask() → None                0, 1            nothing until more is told (a generation's barrier)
        tell(trial 1, 0.25)         0               best is (trial 1, 0.25)
        tell(trial 0, None)         –               trial 0 has failed: it can never be the best
        ask() → None, done is True  –               no trial is open and none will come

    Everything is a function of the options, ``start``'s arguments and the results told, never of a clock, of
    the order in which a generation's results arrive, or of the number of workers. Memory does not grow with
    the trials, but for the eight bytes of each by which :class:`~swarm.optimizers.unrepeated.Unrepeated` knows it.

    A run that was interrupted is taken up with the same calls, but :meth:`asked` in place of :meth:`ask`.

    A subclass is a ``@dataclass(kw_only=True)`` whose fields are plain values. It checks them in
    ``__post_init__``, after that of this class has made Python values of NumPy's, and implements :meth:`_begin`,
    :meth:`_exhausted`, :meth:`_ask` and, unless results do not matter to it, :meth:`_tell`. One that takes long to ask
    implements :meth:`_take` and :meth:`prepare` as well.
    """

    before: ClassVar[Mapping[str, object]] = {}
    """What was the case before there were options of these names: a stored job that lacks them is of that time."""

    limits: ClassVar[tuple[str, ...]] = ()
    """Options that only say when the method ends, so that a run which has ended may go on with higher ones; of a method
    that composes over another, the option that holds that one."""

    _started = False

    def __post_init__(self) -> None:
        for option in fields(self):
            setattr(self, option.name, plain_data(getattr(self, option.name)))

    def start(
        self, space: Space, *, seed: int = 0, fold: int | None = None, first_id: int = 0, id_step: int = 1
    ) -> Self:
        """A fresh copy of these options that searches ``space``.

        Args:
            space: What to search.
            seed: Root of all random numbers, 0 or more.
            fold: Cross-validation fold that the trials are for, and a root of the random numbers; None is
                every fold.
            first_id: Id of its first trial. Runs that search side by side share the numbers between them.
            id_step: Difference between the ids of one trial and the next.

        Raises:
            InvalidOptimizer: The seed or fold is not 0 or more, or the options do not fit the space.
        """
        seed, fold = plain(seed), plain(fold)
        for name, value in (("seed", seed), ("fold", 0 if fold is None else fold)):
            if not isinstance(value, Integral) or value < 0:
                raise InvalidOptimizer(f"{name} must be an integer of at least 0, not {value!r}")
        started = replace(self)
        started._reset(space, int(seed), fold, (plain(first_id), plain(id_step)))
        return started

    def _reset(self, space: Space, seed: int, fold: int | None, ids: tuple[int, int]) -> None:
        self._started = True
        self._space, self._seed, self._fold, self._ids = space, seed, fold, ids
        self._asked = 0
        self._open: dict[int, Trial] = {}
        self._best: tuple[Trial, float] | None = None
        self._best_rank: tuple[float, float, int] | None = None
        self._given: deque[Params] = deque()  # what is asked for before anything of its own
        self._taken_of_given = 0
        self._begin()

    def ask(self) -> Trial | None:
        """The next trial, or None: there is nothing until more is told, or ever (see :attr:`done`).

        Raises:
            InvalidOptimizer: The optimizer has not been started.
        """
        self._check_started()
        trial = None if self._finished() else self._ask()
        if trial is not None:
            self._opened(trial)
        return trial

    def asked(self, trial: Trial) -> None:
        """Take in a trial that this method asked for in an earlier process, as a journal tells.

        Afterwards it is as if :meth:`ask` had just given the trial. Most methods ask again, and compare.

        Args:
            trial: As the journal has it.

        Raises:
            JournalMismatch: The method would not have asked for it here.
            InvalidOptimizer: The optimizer has not been started.
        """
        self._check_started()
        if self._finished():
            raise self._other(trial, None)
        self._take(trial)
        self._opened(trial)

    def learn(self, params: Params, loss: float, fold: int | None = None) -> None:
        """Take in a result of an earlier search of the same problem, before anything is asked for.

        Args:
            params: A configuration of the space.
            loss: To be minimised, finite.
            fold: Cross-validation fold that it is of; None is all.

        Raises:
            InvalidOptimizer: The method cannot (see :attr:`takes_results`), has not been started, or has asked already.
        """
        self._check_started()
        if not self.takes_results or self._asked:
            raise InvalidOptimizer(f"{type(self).__name__} takes no results of earlier searches, or not any more")
        self._learn(params, loss, fold)

    def raises(self, option: str, before: Any) -> bool:
        """Whether an option is a limit, and higher than it was: a run that has ended goes on with it.

        Args:
            option: Name of an option.
            before: What it was.
        """
        numbers = (getattr(self, option, None), before)
        if option not in self.limits or not all(
            isinstance(n, int | float) and not isinstance(n, bool) for n in numbers
        ):
            return False
        return bool(numbers[0] > before)

    def take_limits(self, to: Self) -> None:
        """End by the limits of other options from now on; it goes on if it has ended, and they are higher.

        Afterwards it is as if it had begun with them, as far as its trials do not depend on the order of the results.

        Args:
            to: Options of this method that differ in their :attr:`limits` alone.

        Raises:
            InvalidOptimizer: The optimizer has not been started, or that is another method.
        """
        self._check_started()
        if type(to) is not type(self):
            raise InvalidOptimizer(f"{type(self).__name__} cannot go on as {type(to).__name__}: give its own options")
        before = replace(self)
        for option in self.limits:
            setattr(self, option, getattr(to, option))
        self._limited(before)

    def give(self, configurations: Iterable[Params]) -> None:
        """Have it ask for these before anything of its own, in their order, and learn from them as from its own.

        They are among its trials, and take the places of those that it would have drawn: in a swarm those of the next
        particles to move, in a population those of the next children. It gives the parameters that one lacks a random
        value.

        Args:
            configurations: Of the space, whole or in part.

        Raises:
            InvalidSpace: One does not belong to the space; nothing has changed.
            InvalidOptimizer: The optimizer has not been started, or cannot take any (more).
        """
        self._accept(self.check_given(configurations))

    def check_given(self, configurations: Iterable[Params]) -> list[Params]:
        """What :meth:`give` would take in, in the values of the space; it refuses what that refuses."""
        self._check_started()
        given: list[Params] = [self._space.normalised(each) for each in configurations]
        for each in given:
            check_part(self._space, each)
        self._check_room(len(given))
        return given

    def prepare(self) -> None:  # noqa: B027 - few methods take long
        """Do beforehand what the next :meth:`ask` takes long for, if there is such a thing.

        Nothing that others see changes, so they may look at the method meanwhile: it may run in a thread, while nobody
        asks or tells. What is asked for is the same, prepared or not.
        """

    def tell(self, trial: Trial, loss: float | Sequence[float] | None) -> None:
        """Report what came of a trial.

        Args:
            trial: As :meth:`ask` returned it.
            loss: To be minimised; None, inf or NaN if the evaluation failed. Of a method that :attr:`compares` targets
                there may be one for each.

        Raises:
            InvalidOptimizer: The trial is not open, there are more losses than the method can take, or the optimizer
                has not been started; nothing has changed.
        """
        self._check_started()
        if self._open.get(trial.id) != trial:
            raise InvalidOptimizer(
                f"trial {trial.id} is not open: tell each trial once, as ask gave it, to the one that asked"
            )
        losses = self._losses(loss)
        value = losses[0] if len(losses) == 1 else self._whole(losses)
        del self._open[trial.id]
        if value < math.inf and (self._best_rank is None or rank(trial, value) < self._best_rank):
            self._best, self._best_rank = (trial, losses[0]), rank(trial, value)
        self._tell_targets(trial, losses)

    def _whole(self, losses: Sequence[float]) -> float:
        """One loss of several, by which the best is told as long as the method has no other way."""
        return scalarised(losses)

    @property
    def done(self) -> bool:
        """Whether every asked trial has been told and no more will come."""
        return self._started and not self._open and self._finished()

    @property
    def best(self) -> tuple[Trial, float] | None:
        """The best trial and its loss, as :func:`rank` sorts them; None while none succeeded or not started.

        Of several targets it is the one with the lowest :func:`~swarm.optimizers.front.scalarised` losses, and the
        loss is that of the first.
        """
        return self._best if self._started else None

    @property
    def planned(self) -> int | None:
        """Number of trials that will be asked in all, at most; None if unknown, or not started."""
        return None

    @property
    def sizes(self) -> dict[str, int]:
        """How much it keeps at a time, by the options that say so: memory, and time for a trial, grow with it.

        Known before the start, at no cost. One that keeps a few numbers only, whatever its options, names none.
        """
        return {}

    @property
    def generational(self) -> bool:
        """Whether each generation is asked after the one before is told; such a run depends on no completion order.

        A search that stops early still completes the generation that it is in.
        """
        return False

    @property
    def ponders(self) -> bool:
        """Whether :meth:`ask` takes long, so that it pays to :meth:`prepare` it in a thread."""
        return False

    @property
    def learns(self) -> bool:
        """Whether it begins with what earlier searches of the same problem have found, if it is told so."""
        return False

    @property
    def takes_results(self) -> bool:
        """Whether it learns from results that others have found, if it is told of them before it asks."""
        return self.learns

    @property
    def compares(self) -> bool:
        """Whether a trial may have several losses, one for each target, and all count."""
        return False

    @property
    def inherits(self) -> bool:
        """Whether a trial with a parent makes no sense without the parent's checkpoint."""
        return False

    def finalists(self) -> list[tuple[Trial, float]]:
        """The trials whose scores are the result, with their losses: the best, if any has succeeded."""
        return [] if self.best is None else [self.best]

    @property
    def largest_budget(self) -> float | None:
        """The largest budget that it may give a trial; None if it leaves budgets to the problem."""
        return None

    def parents(self) -> set[int]:
        """Ids of the trials whose checkpoints a later trial may start from, besides those that are open."""
        return set()

    def _next_given(self) -> Params | None:
        """The configuration that comes before anything of its own, whole; None if there is none (any more)."""
        given = self._first_given()
        if given is not None:
            self._given.popleft()
            self._taken_of_given += 1
        return given

    def _first_given(self) -> Params | None:
        """The same, and it stays the first."""
        if not self._given:
            return None
        return filled(self._space, self._given[0], self._rng(_GIVEN, self._taken_of_given))

    def _accept(self, given: Sequence[Params]) -> None:
        """Take in configurations that come next."""
        self._given.extend(given)

    def _check_room(self, number: int) -> None:  # noqa: B027 - most have it
        """Refuse so many configurations to begin with; InvalidOptimizer if there is no room for them."""

    def _limited(self, before: Self) -> None:  # noqa: B027 - most look at their limits when they are asked
        """Take up what follows from limits that have changed; ``before`` has those of before."""

    def _opened(self, trial: Trial) -> None:
        """A trial was asked for, here or in an earlier process."""
        self._asked += 1
        self._open[trial.id] = trial

    def _finished(self) -> bool:
        """Whether no other trial will come, for the method's own reasons or for others."""
        return self._exhausted()

    @abstractmethod
    def _begin(self) -> None:
        """Set up the state of a run on ``self._space``; InvalidOptimizer if the options do not fit it."""

    @abstractmethod
    def _exhausted(self) -> bool:
        """Whether :meth:`_ask` will never give another trial, whatever is told."""

    @abstractmethod
    def _ask(self) -> Trial | None:
        """The next trial, made by :meth:`_trial`, or None until more is told. Not called once exhausted."""

    def _take(self, trial: Trial) -> None:
        """Take in a trial that was asked for before, as :meth:`_ask` would have left it; JournalMismatch if not."""
        expected = self._ask()
        if expected != trial:
            raise self._other(trial, expected)

    def _learn(self, params: Params, loss: float, fold: int | None) -> None:  # noqa: B027 - few methods do
        """Take in a result of an earlier search."""

    def _other(self, trial: Trial, expected: Trial | None) -> JournalMismatch:
        wanted = "nothing" if expected is None else f"trial {expected.id} with {dict(expected.params)}"
        return JournalMismatch(f"trial {trial.id} with {dict(trial.params)}, but the optimizer asks for {wanted}")

    def _tell(self, trial: Trial, loss: float) -> None:  # noqa: B027 - results need not matter to a method
        """Take in the loss of an open trial: finite, or +inf if it failed. Never let +inf become a best."""

    def _tell_targets(self, trial: Trial, losses: tuple[float, ...]) -> None:
        """Take in the losses of an open trial: for each target one, all finite, or +inf alone if it failed."""
        self._tell(trial, losses[0])

    def _trial(
        self,
        params: Params,
        *,
        generation: int = 0,
        member: int = 0,
        budget: float | None = None,
        parent: int | None = None,
        donors: Sequence[int] = (),
        note: Mapping[str, Any] | None = None,
    ) -> Trial:
        """The trial with the next id."""
        first, step = self._ids
        return Trial(
            id=first + step * self._asked,
            params=plain_data(dict(params)),
            generation=generation,
            member=member,
            fold=self._fold,
            budget=None if budget is None else float(budget),  # 1 and 1.0 would be two keys
            parent=parent,
            donors=tuple(donors),
            note=note,
        )

    def _rng(self, generation: int, index: int) -> np.random.Generator:
        """Random numbers of one draw site: the same whatever is drawn elsewhere, earlier or later."""
        seeds = np.random.SeedSequence((self._seed, self._fold or 0, generation, index))
        return np.random.Generator(np.random.PCG64(seeds))  # that of default_rng

    def _losses(self, told: float | Sequence[float] | None) -> tuple[float, ...]:
        """The losses of a trial as :meth:`_tell_targets` takes them."""
        if told is None:
            return (math.inf,)
        losses = tuple(map(float, told)) if isinstance(told, Sequence) else (float(told),)
        if len(losses) != 1 and not (losses and self.compares):
            raise InvalidOptimizer(f"{type(self).__name__} takes one loss of a trial, not {len(losses)}")
        return losses if all(map(math.isfinite, losses)) else (math.inf,)

    def _check_started(self) -> None:
        if not self._started:
            raise InvalidOptimizer(f"{type(self).__name__} has not been started: call start(space, seed=…) first")

    def _check_integer(self, option: str, low: int) -> None:
        """Refuse the option unless it is an integer of at least ``low`` that a float can hold."""
        value = getattr(self, option)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
            raise InvalidOptimizer(f"{self._named(option)} must be an integer of at least {low}, not {value!r}")
        if int(value) > EXACT:
            raise InvalidOptimizer(f"{self._named(option)} is beyond 2^53, further than anybody counts: lower it")

    def _check_real(self, option: str, low: float, high: float = math.inf, *, above: bool = False) -> None:
        """Refuse the option unless it is a finite number from ``low`` (or above it) to ``high``."""
        value = getattr(self, option)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        if not number or not low <= value <= high or (above and value == low):
            span = f"{'above' if above else 'from'} {low:g}" + (f" up to {high:g}" if high < math.inf else "")
            raise InvalidOptimizer(f"{self._named(option)} must be a number {span}, not {value!r}")

    def _check_one_of(self, option: str, *allowed: str) -> None:
        """Refuse the option unless it is one of the allowed words."""
        value = getattr(self, option)
        if value not in allowed:
            raise InvalidOptimizer(f"{self._named(option)} must be one of {', '.join(allowed)}, not {value!r}")

    def _named(self, option: str) -> str:
        return f"{type(self).__name__}: {option}"


def rank(trial: Trial, loss: float) -> tuple[float, float, int]:
    """What sorts trials from the best to the worst, see :func:`swarm.trial.rank_of`."""
    return rank_of(trial.budget, loss, trial.id)
