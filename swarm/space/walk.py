"""All configurations of a finite space, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from swarm.space.domain import Domain
from swarm.space.space import Space
from swarm.trial import Value


class Walk(Iterator[dict[str, Value]]):
    """Every configuration of a finite space once, from a random one on; the last parameter varies fastest.

    Where a condition fails the parameter is left out, and with it all that it would have told apart: the steps are as
    many as the configurations that differ, which may be far fewer than :attr:`Space.size`. It can be copied on the way.

    Args:
        space: The space; none of its dimensions is real.
        rng: Draws where it begins.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._space = space
        self._domains = list(space.domains.items())
        sizes = {name: domain.size or 1 for name, domain in self._domains if isinstance(domain, Domain)}
        self._begin = {name: int(rng.integers(size)) for name, size in sizes.items()}
        self._steps: list[int] = []  # of each parameter away from where it begins
        self._values: dict[str, Value] = {}
        self._under_way = False

    def __next__(self) -> dict[str, Value]:
        """The next configuration."""
        if self._under_way:
            self._advance()
        self._under_way = True
        while len(self._steps) < len(self._domains):
            self._set(0)
        return dict(self._values)

    def _advance(self) -> None:
        """Take back the last parameters that have had all their values, and move the one before them."""
        while self._steps:
            step = self._steps.pop() + 1
            name, domain = self._domains[len(self._steps)]
            there = self._values.pop(name, None) is not None
            if there and isinstance(domain, Domain) and step < (domain.size or 1):
                self._set(step)
                return
        raise StopIteration

    def _set(self, step: int) -> None:
        """Give the next parameter a value, if its condition holds."""
        name, domain = self._domains[len(self._steps)]
        value = domain.at((self._begin[name] + step) % (domain.size or 1)) if isinstance(domain, Domain) else domain
        if name in self._space.active({**self._values, name: value}):
            self._values[name] = value
        self._steps.append(step)
