"""What is known already is drawn again: what the methods share that could ask for a configuration twice.

On a coarse grid a swarm comes back to where it was. The archive answers that at once, nothing is learned, and the
method's trials are used up: of 402 trials among 62,208 configurations the paper's swarm trains some 30.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from swarm.optimizers.base import Optimizer
from swarm.space.configurations import Configurations
from swarm.space.space import Space
from swarm.trial import Params, Trial

Known = Literal["again", "answer"]

DRAWS = 8
"""How often a method draws in its own way before it looks further."""
KICKS = 100
"""How often it then moves on from there by chance."""
_IN_A_ROW = 1000  # random configurations that are all known, where nobody can count: then all are
_ANYWHERE = 2**40  # index of the draw site of what is left; no particle and no child has it
_RECENT = 128


@dataclass(kw_only=True)
class Unrepeated(Optimizer):
    """A method that asks for no configuration twice, unless that is how its paper has it.

    What this run has asked for is known, whether it is told yet or not. ``again`` draws again what is known, so that
    each trial is a configuration of its own, and ends the search when a finite space is all known. ``answer`` asks all
    the same, and the archive answers. What other jobs have trained is not known here: their answers are free.

    A configuration takes eight bytes of memory.

    Attributes:
        known: What becomes of a configuration that this run has asked for before: ``again`` or ``answer``.
    """

    known: Known = "again"

    before: ClassVar[Mapping[str, object]] = {"known": "answer"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_one_of("known", *get_args(Known))

    @property
    def _draws_again(self) -> bool:
        """Whether what is known is drawn again."""
        return self.known == "again"

    def _reset(self, space: Space, seed: int, fold: int | None, ids: tuple[int, int]) -> None:
        self._keys = Keys()
        self._space, self._seed, self._fold = space, seed, fold
        self._left = Leftovers(space, self._rng(0, _ANYWHERE))
        super()._reset(space, seed, fold, ids)

    def _opened(self, trial: Trial) -> None:
        super()._opened(trial)
        if self._draws_again:
            self._remember(trial)

    def _finished(self) -> bool:
        return super()._finished() or self._all_known()

    def _remember(self, trial: Trial) -> None:
        """Take a trial for known from now on."""
        self._keys.add(key(self._space.normalised(trial.params)))  # a journal may have 2 where it is real

    def _is_known(self, params: Params) -> bool:
        """Whether this run has asked for a configuration, and minds."""
        return self._draws_again and key(params) in self._keys

    def _is_refused(self, params: Params) -> bool:
        """Whether a configuration must not be asked for: it is known, or a constraint refuses it."""
        return self._is_known(params) or not self._space.allows(params)

    def _all_known(self) -> bool:
        """Whether there is no configuration left to ask for."""
        return self._draws_again and self._left.first(self._keys) is None

    def _unknown(self, draw: Callable[[], Params], rng: np.random.Generator) -> Params:
        """A configuration that is not known, of which there are some: as drawn, or else from anywhere.

        Args:
            draw: Draws one, another one each time.
            rng: Draws one from anywhere.
        """
        for source in (draw, lambda: self._space.sample(rng)):
            for _ in range(DRAWS):
                params = source()
                if not self._is_refused(params):
                    return params
        return self._any_left(rng)

    def _any_left(self, rng: np.random.Generator) -> Params:
        """A configuration that is not known, of which there are some.

        Args:
            rng: Draws one where it does not matter whether it is known.
        """
        if not self._draws_again:
            return self._space.sample(rng)
        left = self._left.first(self._keys)
        assert left is not None  # nothing is asked of a method that has finished
        return left


class Leftovers:
    """What is left of a space: one configuration after the other, until none is unknown.

    Args:
        space: The space.
        rng: Draws where to begin; and, where a dimension is real, what to look at.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._finite = space.size is not None
        self._source: Iterator[Params] = Configurations(space, rng) if self._finite else _Sampled(space, rng)
        self._first: Params | None = next(self._source, None)
        self._key = key(self._first or {})

    def first(self, known: Keys) -> Params | None:
        """The first one that is not known, or None. What was known once stays so: each is looked at once."""
        looked_at = 0
        while self._first is not None and self._key in known:
            looked_at += 1
            given_up = looked_at >= _IN_A_ROW and not self._finite  # rounded reals: nobody counts how many there are
            self._first = None if given_up else next(self._source, None)
            self._key = key(self._first or {})
        return self._first


class _Sampled(Iterator[Params]):
    """Random configurations without end, that can be copied on the way."""

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng

    def __next__(self) -> Params:
        return self._space.sample(self._rng)


class Keys:
    """A set of numbers of 64 bits that takes eight bytes for each: sorted, but for the latest few."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.uint64)
        self._latest: set[int] = set()

    def __contains__(self, number: int) -> bool:
        if number in self._latest:
            return True
        at = int(self._sorted.searchsorted(np.uint64(number)))
        return at < len(self._sorted) and int(self._sorted[at]) == number

    def add(self, number: int) -> None:
        """Take in a number."""
        self._latest.add(number)
        if len(self._latest) == _RECENT:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._latest, np.uint64, _RECENT))
            self._latest.clear()


def key(params: Params) -> int:
    """A number of 64 bits that tells configurations of one space apart: the same in every process."""
    digest = hashlib.blake2b(repr(sorted(params.items())).encode(), digest_size=8).digest()
    number: int = struct.unpack("<Q", digest)[0]
    return number
