"""What every domain is: values laid out along the unit interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from swarm.errors import InvalidSpace
from swarm.plain import as_json
from swarm.trial import Value


class Domain(ABC):
    """The values that one parameter may take, laid out along the unit interval.

    A position ``u`` in [0, 1] stands for the number ``x = a + u·(b − a)`` between the two :attr:`ends`; each
    kind of domain says which value the number ``x`` stands for.

    Attributes:
        default: The value before any search, or None; some methods start from it.
        ends: The numbers a and b that the positions 0 and 1 stand for.
        size: Number of different values, or None if there is no end of them.
    """

    __slots__ = ()
    default: Any
    ends: tuple[float, float]
    size: int | None

    @abstractmethod
    def _number(self, value: Any) -> float:
        """The number that stands for a value."""

    @abstractmethod
    def _value(self, number: float) -> Value:
        """The value that a number between the ends stands for."""

    @abstractmethod
    def _contains(self, value: Any) -> bool: ...

    @abstractmethod
    def normalised(self, value: Any) -> Value:
        """A value of the domain as :meth:`decode` gives it: 2 is 2.0 among real numbers, −0.0 is 0.0."""

    @abstractmethod
    def _plain_data(self) -> dict[str, Any]: ...

    @property
    def has_default(self) -> bool:
        """Whether there is a default, which may be None where None is an option."""
        return self.default is not None

    @property
    def is_even(self) -> bool:
        """Whether all values are equally likely at random; or all positions, if there is no end of values."""
        return True

    @property
    def spacing(self) -> float:
        """Distance in [0, 1] of each number to the next; 0 where there is none, or not everywhere the same."""
        return 0.0

    def contains(self, value: object) -> bool:
        """Whether ``value`` belongs to the domain."""
        return self._contains(value)

    def encode(self, value: Any) -> float:
        """Position of a value of the domain, in [0, 1]."""
        low, high = self.ends
        return float((self._number(value) - low) / (high - low))

    def decode(self, u: float) -> Value:
        """Value at position ``u``, which is clipped to [0, 1]."""
        low, high = self.ends
        return self._value(high if u >= 1.0 else low + max(u, 0.0) * (high - low))

    def at(self, index: int) -> Value:
        """Value number ``index`` of a finite domain, from 0 to ``size`` − 1."""
        return self._value(self.ends[0] + index)

    def sample(self, rng: np.random.Generator) -> Value:
        """A random value: all equally likely, or uniform in position if there is no end of them, or on a log scale."""
        if self.size is None or not self.is_even:
            return self.decode(rng.random())
        return self.at(int(rng.integers(self.size)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`Space.parse` reads."""
        return self._plain_data() | ({"default": as_json(self.default)} if self.has_default else {})

    def _settle(self, **fields: Any) -> None:
        """Set the fields, and the default as one of their values."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.has_default:
            if not self._contains(self.default):
                raise InvalidSpace(f"default {self.default!r} is not {self}: correct it, or leave it out")
            object.__setattr__(self, "default", self.normalised(self.default))
