"""Lists among the parameters of a space: a number that counts, and items of which so many are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarm.space.domain import Integer
from swarm.space.space import Space
from swarm.trial import Params


@dataclass(frozen=True)
class ListGenes:
    """Parameters that together are a list of variable length.

    Attributes:
        names: Of its length, and of all the items that it may have; empty if there is no list.
        low: Its smallest length.
        filler: What it is padded with.
    """

    names: tuple[str, ...] = ()
    low: int = 0
    filler: Any = None

    def items(self, params: Params) -> list[Any]:
        """The items that a configuration has."""
        return [params[name] for name in self.names[1:] if name in params]

    def params(self, items: Sequence[Any]) -> dict[str, Any]:
        """Parameters of a list of these items, padded or cut to the lengths that are allowed."""
        if not self.names:
            return {}
        kept = [*items, *[self.filler] * (self.low - len(items))][: len(self.names) - 1]
        return {self.names[0]: len(kept), **dict(zip(self.names[1:], kept, strict=False))}


def list_of(space: Space) -> ListGenes:
    """The list in a space, as ``MuPlusLambda`` describes it; the first, if there are several."""
    for length, counter in space.domains.items():
        if not isinstance(counter, Integer) or counter.low < 0:
            continue
        items = [name for name, others in space.conditions.items() if list(others) == [length]]
        if len(items) != counter.high:  # most integers count nothing, however large they may become
            continue
        wanted = (tuple(range(max(k, counter.low), counter.high + 1)) for k in range(1, counter.high + 1))
        domains = [space.domains[name] for name in items]
        if (
            all(space.conditions[name][length] == there for name, there in zip(items, wanted, strict=True))
            and isinstance(domains[0], Integer)
            and all(domain == domains[0] for domain in domains)
        ):
            return ListGenes((length, *items), counter.low, domains[0].low)
    return ListGenes()
