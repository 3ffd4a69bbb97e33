"""Random search: independent configurations, none twice.

Source: the random search of the LeNet-5 report, which tries n = p·|H| of the configurations in H; and
Bergstra and Bengio, Random search for hyper-parameter optimization, JMLR 13 (2012).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Self

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import EXACT
from swarm.optimizers.unrepeated import Unrepeated
from swarm.space.base import Domain
from swarm.space.configurations import count
from swarm.space.space import Space
from swarm.trial import Trial

_COUNTED = 100_000  # configurations, at most
_POINTS = 100  # in a row that are all known: then what is left is walked through


@dataclass(kw_only=True)
class Random(Unrepeated):
    """Tries random configurations, none of them twice; of a finite space at most all.

    Why not with replacement? A configuration that comes twice is answered by the archive, and the search has tried one
    fewer than it was asked to.

    Source: Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13, 2012.

    Attributes:
        trials: Number of trials; give this or ``proportion``.
        proportion: Share of all configurations of a finite space to try, in (0, 1]: ``max(1, ⌊p·size + ½⌋)``
            trials. With constraints, of those that are allowed, if these are 100,000 at most.
        known: Points of a space with conditions, or with rounded numbers, may be one and the same configuration: where
            it was asked for before, ``again`` takes the next point, and ``answer`` has the archive answer.

    Raises:
        InvalidOptimizer: An option is out of its range, both or neither are given; at ``start``: a proportion
            of a space with a real dimension.

    Example:
        A finite space is tried without replacement::

            >>> from swarm import Choice, Integer, Random, Space
            >>> space = Space({"units": Integer(1, 3), "activation": Choice("relu", "tanh")})
            >>> optimizer = Random(trials=100).start(space, seed=7)
            >>> optimizer.planned
            6
            >>> len({tuple(optimizer.ask().params.values()) for _ in range(6)})
            6
    """

    trials: int | None = None
    proportion: float | None = None

    limits: ClassVar[tuple[str, ...]] = ("trials", "proportion")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.trials is None) == (self.proportion is None):
            raise InvalidOptimizer("Random: give either trials, at least 1, or proportion, above 0 up to 1")
        if self.trials is not None:
            self._check_integer("trials", low=1)
        else:
            self._check_real("proportion", 0, 1, above=True)

    @property
    def planned(self) -> int | None:
        """Number of trials in all."""
        return self._total if self._started else None

    def _begin(self) -> None:
        self._total = self._wanted()
        even = all(domain.is_even for domain in self._space.domains.values() if isinstance(domain, Domain))
        self._size = self._space.size if even else None  # of points that are equally likely
        self._point = 0  # of a finite space, in random order: the next

    def _limited(self, before: Self) -> None:
        self._total = self._wanted()

    def _wanted(self) -> int:
        """Number of trials in all."""
        size = self._space.size
        if self.proportion is None:
            wanted = self.trials or 0
        elif size is None:
            raise InvalidOptimizer("Random: a space with a real dimension has no proportion: give trials instead")
        else:
            whole = min(size, _allowed(self._space))
            share = (self.proportion if whole <= EXACT else Fraction(self.proportion)) * whole  # it may be no float
            wanted = max(1, math.floor(share + Fraction(1, 2)))
        return wanted if size is None else min(wanted, size)

    def _exhausted(self) -> bool:
        return self._asked >= self._total

    def _ask(self) -> Trial:
        i = self._asked
        if (given := self._next_given()) is not None:
            return self._trial(given, member=i)
        rng = self._rng(0, i)
        if self._size is None:
            return self._trial(self._unknown(lambda: self._space.sample(rng), rng), member=i)
        for _ in range(min(_POINTS, self._size - self._point)):
            params = self._space.at(permuted(self._point, self._size, key=f"{self._seed},{self._fold or 0}"))
            self._point += 1
            if not self._is_refused(params):
                return self._trial(params, member=i)
        if self._space.constraints:
            return self._trial(self._unknown(lambda: self._space.sample(rng), rng), member=i)
        return self._trial(self._any_left(rng), member=i)


def _allowed(space: Space) -> int:
    """Number of configurations that constraints allow; of many, that of all points."""
    found = count(space, _COUNTED + 1) if space.constraints else _COUNTED + 1
    return found if found <= _COUNTED else space.size or found


def permuted(index: int, size: int, key: str) -> int:
    """Where a random permutation of ``range(size)`` sends ``index``; the key picks the permutation.

    A Feistel network of four hashed rounds permutes the numbers of 2·h bits, and is walked until the number
    is below ``size`` (four steps at most on average): no memory, whatever the size. Luby and Rackoff, SIAM J.
    Comput. 17 (1988); Black and Rogaway, Ciphers with arbitrary finite domains (2002).
    """
    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = index >> bits, index & ((1 << bits) - 1)
        for turn in range(4):
            digest = hashlib.sha512(f"{key},{turn},{right}".encode()).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & ((1 << bits) - 1))
        index = left << bits | right
        if index < size:
            return index
