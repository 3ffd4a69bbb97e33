"""Grid search: every configuration of a grid, once.

Source: the grid search of the LeNet-5 report, which tries all configurations of a finite space and keeps the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Any, overload

from swarm.errors import InvalidOptimizer
from swarm.optimizers.base import EXACT, Optimizer
from swarm.optimizers.random import permuted
from swarm.plain import canonical
from swarm.space.configurations import Configurations, Values
from swarm.space.space import Domain, Integer, Real
from swarm.trial import Params, Trial, Value

_COUNTED = 10_000  # configurations that constraints allow
_PASSED = 200_000  # points that they refuse in a row
_LISTED = 10_000  # values of an axis that are looked through for equal ones, and of a rounded one that may differ
_FEW_DIGITS = 5  # that leave few values, however many points there are


@dataclass(kw_only=True)
class Grid(Optimizer):
    """Tries every configuration of a grid, the last parameter varying fastest.

    All options of a choice are on the grid, and all whole numbers and numbers in steps, unless ``points`` thins them
    out. The grid is never listed: configuration number i is worked out when it is asked for, however many there are.
    What a constraint refuses is passed over, and no part of the grid.

    Attributes:
        points: Number of values of every real parameter without steps, at least 2: evenly spaced, in the logarithm if
            that is searched, both ends included; values that ``digits`` rounds to the same count once. Or such numbers
            by name, where others may be thinned out, too. There is no default, because the cost is the product over all
            parameters.
        shuffle: Visit the grid in a random order, so that a search that stops early has seen a fair sample of it.

    Raises:
        InvalidOptimizer: An option is out of its range; at ``start``: a real parameter has no points, or one that
            is unknown or cannot have so many has some.

    Example:
        Three learning rates, evenly spaced in their logarithms, for each of two batch sizes::

            >>> from swarm import Choice, Grid, Real, Space
            >>> space = Space({"rate": Real(0.001, 0.1, log=True, digits=1), "batch": Choice(32, 64)})
            >>> optimizer = Grid(points=3).start(space)
            >>> optimizer.planned
            6
            >>> optimizer.ask().params, optimizer.ask().params, optimizer.ask().params
            ({'rate': 0.001, 'batch': 32}, {'rate': 0.001, 'batch': 64}, {'rate': 0.01, 'batch': 32})
    """

    points: int | dict[str, int] | None = None
    shuffle: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.points.values() if isinstance(self.points, dict) else [self.points]
        for points in given if self.points is not None else ():
            if not isinstance(points, Integral) or isinstance(points, bool) or points < 2:
                raise InvalidOptimizer(f"Grid: points must be an integer of at least 2, not {points!r}")
            if int(points) > EXACT:
                raise InvalidOptimizer("Grid: points are beyond 2^53, more than anybody tries: take fewer")
        if not isinstance(self.shuffle, bool):
            raise InvalidOptimizer(f"Grid: shuffle must be true or false, not {self.shuffle!r}")

    @property
    def planned(self) -> int | None:
        """Number of configurations on the grid and of those given besides, at most.

        With constraints it is that of all points, if more than 10,000 are allowed.
        """
        return self._planned + self._taken_of_given + len(self._given) if self._started else None

    def _begin(self) -> None:
        domains = self._space.domains
        for name in self.points if isinstance(self.points, dict) else ():
            if name not in domains:
                raise InvalidOptimizer(f"Grid: there is no {name!r} to give points to: there are {', '.join(domains)}")
        self._axes = {name: self._axis(name, domain) for name, domain in domains.items()}
        self._total = self._planned = math.prod(map(len, self._axes.values()))
        self._point = 0  # of the grid, in the order of the visit: the next
        self._before: set[str] = set()  # given configurations that were asked for
        self._coming: Params | None = None  # with constraints: what is asked next
        if self._space.constraints:
            self._left = self._allowed()
            self._planned = min(self._total, sum(1 for _ in islice(self._allowed(), _COUNTED + 1)))
            self._planned = self._total if self._planned > _COUNTED else self._planned
            self._coming = self._following()
            if self._coming is None:
                raise InvalidOptimizer(
                    "Grid: constraints refuse all of the grid, or 200,000 points in a row: loosen them, or give more "
                    "points"
                )

    def _allowed(self) -> Configurations:
        """The configurations of the grid that constraints allow, in order."""
        searched = {name: axis for name, axis in self._axes.items() if name in self._space.names}
        return Configurations(self._space, axes=searched)

    def _following(self) -> Params | None:
        """What comes next of a grid with constraints; None if nothing does."""
        if not self.shuffle:
            return next(self._left, None)
        for _ in range(min(_PASSED, self._total - self._point)):
            index = permuted(self._point, self._total, key=f"{self._seed},{self._fold or 0}")
            self._point, params = self._point + 1, self._at(index)
            if self._is_first(index, params) and self._space.allows(params):
                return params
        return None

    def _axis(self, name: str, domain: Domain | Value) -> Sequence[Value]:
        """The values of a parameter on the grid, in order."""
        points = self._points_of(name, domain)
        if isinstance(domain, Real) and domain.size is None and points is None:
            raise InvalidOptimizer(f"Grid: {name} is real: give its number of values, such as points: {{{name}: 5}}")
        if isinstance(domain, (Integer, Real)) and points is not None:
            rounded = isinstance(domain, Real) and (domain.digits or math.inf) <= _FEW_DIGITS
            if not rounded and points > _LISTED:
                return _Points(domain, points)
            if (different := _different(domain, points)) is None:
                raise InvalidOptimizer(
                    f"Grid: {points} points make more than {_LISTED} different values of {name}: take fewer"
                )
            return different
        if isinstance(domain, Integer):
            return range(domain.low, domain.high + 1, domain.step or 1)
        if isinstance(domain, Domain):
            return Values(domain)
        return (domain,)

    def _points_of(self, name: str, domain: Domain | Value) -> int | None:
        """How many evenly spaced values of a parameter are on the grid; None is all that there are."""
        if not isinstance(self.points, dict):
            return self.points if isinstance(domain, Real) and domain.size is None else None
        points = self.points.get(name)
        if points is None or (isinstance(domain, Real) and domain.size is None):
            return points
        most = domain.size or 0 if isinstance(domain, Integer | Real) else 0
        if points > most:
            raise InvalidOptimizer(f"Grid: {name} is {domain}: {points} points are too many, take fewer or none")
        return points

    def _exhausted(self) -> bool:
        self._pass_given()
        done = self._coming is None if self._space.constraints else self._point >= self._total
        return done and not self._given

    def _pass_given(self) -> None:
        """Pass over points of the grid that were given and asked for before."""
        while self._before and self._coming is not None and canonical(self._coming) in self._before:
            self._coming = self._following()
        if not self._space.constraints:
            while self._before and self._point < self._total and canonical(self._visited()) in self._before:
                self._point += 1

    def _ask(self) -> Trial:
        i = self._asked
        if (given := self._next_given()) is not None:
            self._before.add(canonical(given))
            return self._trial(given, member=i)
        if self._coming is not None:
            params, self._coming = self._coming, self._following()
            return self._trial(params, member=i)
        params = self._visited()
        self._point += 1
        return self._trial(params, member=i)

    def _visited(self) -> Params:
        """The next point in the order of the visit, without constraints."""
        index = (
            permuted(self._point, self._total, key=f"{self._seed},{self._fold or 0}") if self.shuffle else self._point
        )
        return self._at(index)

    def _at(self, index: int) -> Params:
        """Configuration number ``index`` of the grid, also if a constraint refuses it."""
        return self._space.active({name: self._axes[name][place] for name, place in self._places(index).items()})

    def _places(self, index: int) -> dict[str, int]:
        """Of point number ``index`` the places of its values along their axes."""
        places: dict[str, int] = {}
        for name, axis in reversed(self._axes.items()):  # mixed radix, the least significant digit first
            index, places[name] = divmod(index, len(axis))
        return dict(reversed(places.items()))

    def _is_first(self, index: int, params: Params) -> bool:
        """Whether no point before it is the same configuration: what does not belong to one has its first value."""
        return all(name in params or place == 0 for name, place in self._places(index).items())


@dataclass(frozen=True)
class _Points(Sequence[Value]):
    """Evenly spaced values of a numeric domain, each worked out when it is asked for.

    Attributes:
        domain: Where they lie; both ends are among them.
        points: How many.
    """

    domain: Integer | Real
    points: int

    def __len__(self) -> int:
        return self.points

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.points))]
        return self.domain.decode(index / (self.points - 1))


def _different(domain: Integer | Real, points: int) -> tuple[Value, ...] | None:
    """Of evenly spaced values those that differ, in order: the work is in proportion to them, not to the points.

    None if they are too many to be listed.
    """
    values, first = _Points(domain, points), 0
    found: list[Value] = []
    while first < points:
        if len(found) == _LISTED:
            return None
        found.append(values[first])
        beyond = 1  # equal values stand side by side: double the step until it is beyond them, then halve the rest
        while first + beyond < points and values[first + beyond] == found[-1]:
            beyond *= 2
        low, high = first + beyond // 2, min(first + beyond, points)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if values[middle] == found[-1] else (low, middle)
        first = high
    return tuple(found)
