"""The different configurations of a space, one after the other, and how many there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from swarm.space.base import Domain
from swarm.space.constraint import Constraint
from swarm.space.domain import Real
from swarm.space.values import identity
from swarm.trial import Value

_END = object()
_STEPS = 200_000  # from one configuration to the next, where constraints refuse what lies between


class Branches(Protocol):
    """What is asked of a space."""

    @property
    def domains(self) -> Mapping[str, Domain | Value]:
        """Every parameter with its domain or fixed value, in order."""

    @property
    def conditions(self) -> Mapping[str, Mapping[str, tuple[Value, ...]]]:
        """Conditions by name."""

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What configurations have to satisfy."""

    def belongs(self, name: str, params: Mapping[str, Value]) -> bool:
        """Whether a parameter belongs to a configuration, of which those before it are known."""


@dataclass(frozen=True)
class _Listed:
    """Values that are numbered, from one of them on and round to it."""

    values: Sequence[Value]
    begin: int

    def first(self) -> Value:
        return self.values[self.begin]

    def after(self, value: Value, step: int) -> Any:
        """The value so many steps from the first, or ``_END``."""
        count = len(self.values)
        return self.values[(self.begin + step) % count] if step < count else _END


@dataclass(frozen=True)
class _Rounded:
    """Values of a real domain in order: those of some digits, or the first alone if there is no end of them."""

    domain: Real

    def first(self) -> Value:
        return self.domain.low

    def after(self, value: Any, step: int) -> Any:
        """The value after this one, or ``_END``."""
        domain = self.domain
        if not _is_rounded(domain) or domain.digits is None or value >= domain.high:
            return _END
        width = 10.0 ** (math.floor(math.log10(value) + 1e-12) - domain.digits + 1)
        following = domain.nearest((math.floor(value / width + 1e-6) + 1) * width)
        return following if following > value else _END  # beyond the digits of a float


class Values(Sequence[Value]):
    """The values of a finite domain in order, each worked out when it is asked for."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def __len__(self) -> int:
        return self._domain.size or 0

    def __getitem__(self, index: Any) -> Any:
        return self._domain.at(index)


class Configurations(Iterator[dict[str, Value]]):
    """Every different configuration once, the last parameter varying fastest; it can be copied on the way.

    Where a condition fails the parameter is left out, and with it all that it would have told apart: there may be far
    fewer than :attr:`Space.size`. What a constraint refuses is passed over as soon as its parameters are known. Where
    it refuses 200,000 steps in a row it is taken to refuse all that is left.

    Of a parameter whose values have no end only the first is taken; rounded numbers above 0 are all taken.

    Args:
        space: The space.
        rng: Draws where a finite space begins; without one it begins with the first values.
        axes: Other values, of some parameters by name, than their domains'.
    """

    def __init__(
        self,
        space: Branches,
        rng: np.random.Generator | None = None,
        axes: Mapping[str, Sequence[Value]] | None = None,
    ) -> None:
        self._space = space
        self._axes: dict[str, _Listed | _Rounded] = {}
        for name, domain in space.domains.items():
            if isinstance(domain, Real) and domain.size is None and name not in (axes or {}):
                self._axes[name] = _Rounded(domain)
            elif isinstance(domain, Domain):
                values = (axes or {}).get(name) or Values(domain)
                self._axes[name] = _Listed(values, 0 if rng is None else int(rng.integers(len(values))))
        self._names = list(self._axes)
        self._due = _due(self._names, space.constraints)
        self._values = {name: value for name, value in space.domains.items() if not isinstance(value, Domain)}
        self._path: list[tuple[bool, Any, int]] = []  # of each: whether it is there, its value, steps from the first
        self._under_way = False

    def __next__(self) -> dict[str, Value]:
        """The next configuration."""
        moved = not self._under_way or self._advance()
        self._under_way = True
        for _ in range(_STEPS):
            if not moved:
                raise StopIteration
            if self._is_refused():
                moved = self._advance()
            elif len(self._path) == len(self._names):
                return {name: self._values[name] for name in self._space.domains if name in self._values}
            else:
                self._descend()
        self._path.clear()
        raise StopIteration

    def _descend(self) -> None:
        """Give the next parameter its first value, if its condition holds."""
        name = self._names[len(self._path)]
        there = self._space.belongs(name, self._values)
        value = self._axes[name].first() if there else None
        if there:
            self._values[name] = value
        self._path.append((there, value, 0))

    def _advance(self) -> bool:
        """Take back the last parameters that have had all their values, and move the one before, if there is one."""
        while self._path:
            there, value, step = self._path.pop()
            name = self._names[len(self._path)]
            self._values.pop(name, None)
            following: Any = self._axes[name].after(value, step + 1) if there else _END
            if following is not _END:
                self._values[name] = following
                self._path.append((True, following, step + 1))
                return True
        return False

    def _is_refused(self) -> bool:
        """Whether a constraint refuses what there is, now that all its parameters are known."""
        return any(each.refusal(self._values) is not None for each in self._due.get(len(self._path), ()))


def count(space: Branches, most: int) -> int:
    """Number of different configurations of a space, or ``most`` if there are no fewer.

    :attr:`Space.size` counts one that is without a parameter once for each of the values that it would have. The work
    is in proportion to ``most`` at worst, and mostly far less: only parameters that conditions name are looked at value
    by value. With constraints each configuration is looked at.
    """
    if space.constraints:
        endless = any(isinstance(domain, Domain) and _count(domain, most) is None for domain in space.domains.values())
        return most if endless else sum(1 for _ in islice(Configurations(space), most))
    searched = {name: domain for name, domain in space.domains.items() if isinstance(domain, Domain)}
    named, names = _named(space), list(searched)
    fixed = {name: value for name, value in space.domains.items() if name not in searched}
    waiting: list[tuple[int, int, dict[str, Any]]] = [(0, 1, fixed)]
    total = 0
    while waiting and total < most:
        at, times, found = waiting.pop()
        while at < len(names):
            name = names[at]
            at += 1
            if not space.belongs(name, found):
                continue
            values = _count(searched[name], most)
            if values is None or values >= most:
                return most
            if name in named:
                others = values - len(named[name])
                waiting += [(at, times, {**found, name: value}) for value in named[name]]
                waiting += [(at, times * others, {**found, name: _END})] if others > 0 else []
                break
            times *= values
        else:
            total += times
    return min(total, most)


def _due(names: Sequence[str], constraints: Sequence[Constraint]) -> dict[int, list[Constraint]]:
    """Constraints by how many parameters are known when they can be judged; those of functions when all are."""
    places = {name: number for number, name in enumerate(names, start=1)}
    found: dict[int, list[Constraint]] = {}
    for each in constraints:
        about = names if each.names is None else each.names
        found.setdefault(max((places.get(name, 0) for name in about), default=0), []).append(each)
    return found


def _named(space: Branches) -> dict[str, list[Value]]:
    """Values of searched parameters that conditions name, by parameter."""
    found: dict[str, dict[Any, Value]] = {}
    for conditions in space.conditions.values():
        for name, values in conditions.items():
            found.setdefault(name, {}).update((identity(value), value) for value in values)
    return {name: list(values.values()) for name, values in found.items()}


def _count(domain: Any, most: int) -> int | None:
    """Number of values of a domain, or ``most`` if there are no fewer; None if there is no end of them."""
    if domain.size is not None:
        return min(int(domain.size), most)
    if not _is_rounded(domain):
        return None
    axis, found, value = _Rounded(domain), 0, domain.low
    while value is not _END and found < most:
        found, value = found + 1, axis.after(value, 0)
    return found


def _is_rounded(domain: Real) -> bool:
    """Whether a real domain has so many values only: those of some digits; around 0 there is no end of them."""
    return domain.digits is not None and domain.low > 0
