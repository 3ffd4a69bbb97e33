"""How many different configurations a space has, and which: what does not belong to one counts once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from swarm.space.domain import Domain, Real, is_same
from swarm.space.space import Space
from swarm.trial import Value

_END = object()


def count(space: Space, most: int) -> int:
    """Number of different configurations of a space, or ``most`` if there are no fewer.

    :attr:`Space.size` counts one that is without a parameter once for each of the values that it would have. The work
    is in proportion to ``most`` at worst, and mostly far less: only parameters that conditions name are looked at value
    by value.
    """
    searched = [(name, space.domains[name]) for name in space.names]
    named = _named(space)
    waiting: list[tuple[int, int, dict[str, Any]]] = [(0, 1, _fixed(space))]
    total = 0
    while waiting and total < most:
        at, times, found = waiting.pop()
        while at < len(searched):
            name, domain = searched[at]
            at += 1
            if not _holds(space, name, found):
                continue
            values = _count(domain, most)
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


def configurations(space: Space) -> Iterator[dict[str, Value]]:
    """The different configurations of a space in order, the last parameter varying fastest.

    Each is worked out when it is asked for. Of a parameter whose values have no end only the first is taken.
    """
    items = list(space.domains.items())
    found: dict[str, Any] = {}
    turning: list[tuple[int, Iterator[Value]]] = []
    at = 0
    while True:
        for i in range(at, len(items)):
            name, domain = items[i]
            if not isinstance(domain, Domain):
                found[name] = domain
            elif _holds(space, name, found):
                values = _values(domain)
                found[name] = next(values)
                turning.append((i, values))
        yield dict(found)
        while turning:
            i, values = turning[-1]
            for name, _ in items[i:]:
                found.pop(name, None)
            value = next(values, _END)
            if value is not _END:
                found[items[i][0]], at = value, i + 1
                break
            turning.pop()
        else:
            return


def _named(space: Space) -> dict[str, list[Value]]:
    """Values of searched parameters that conditions name, by parameter."""
    found: dict[str, list[Value]] = {}
    for conditions in space.conditions.values():
        for name, values in conditions.items():
            known = found.setdefault(name, [])
            known += [value for value in values if not any(is_same(value, each) for each in known)]
    return found


def _fixed(space: Space) -> dict[str, Any]:
    return {name: value for name, value in space.domains.items() if not isinstance(value, Domain)}


def _holds(space: Space, name: str, found: Mapping[str, Any]) -> bool:
    """Whether a parameter belongs to a configuration, of which those before it are known."""
    conditions = space.conditions.get(name, {})
    return all(
        other in found and any(is_same(found[other], value) for value in values) for other, values in conditions.items()
    )


def _count(domain: Any, most: int) -> int | None:
    """Number of values of a domain, or ``most`` if there are no fewer; None if there is no end of them."""
    if domain.size is not None:
        return min(int(domain.size), most)
    return sum(1 for _ in islice(_values(domain), most)) if _is_rounded(domain) else None


def _is_rounded(domain: Any) -> bool:
    """Whether a real domain has so many values only: those of some digits; around 0 there is no end of them."""
    return isinstance(domain, Real) and domain.digits is not None and domain.low > 0


def _values(domain: Any) -> Iterator[Value]:
    """The values of a domain in order, or one if there is no end of them."""
    if domain.size is not None:
        yield from (domain.at(index) for index in range(domain.size))
        return
    value = domain.low
    yield value
    while _is_rounded(domain) and value < domain.high:
        step = 10.0 ** (math.floor(math.log10(value) + 1e-12) - domain.digits + 1)
        following = domain.nearest((math.floor(value / step + 1e-6) + 1) * step)
        if following <= value:  # beyond the digits of a float
            return
        value = following
        yield value
