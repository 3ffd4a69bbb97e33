"""The values that one parameter may take: whole numbers, real numbers, or one of a few options."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from swarm.errors import InvalidSpace
from swarm.trial import Value, plain

_DIGITS = 17  # all that a float has
_EXACT = 2**53  # integers up to here are exact as floats, in which positions are kept


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
        """A random value: all equally likely, or uniform in position if there is no end of them."""
        return self.decode(rng.random()) if self.size is None else self.at(int(rng.integers(self.size)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`Space.parse` reads."""
        return self._plain_data() | ({} if self.default is None else {"default": self.default})

    def _settle(self, **fields: Any) -> None:
        """Set the fields, and the default as one of their values."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.default is not None:
            if not self._contains(self.default):
                raise InvalidSpace(f"default {self.default!r} is not {self}: correct it, or leave it out")
            object.__setattr__(self, "default", self.normalised(self.default))


@dataclass(frozen=True, slots=True)
class Integer(Domain):
    """Whole numbers from ``low`` to ``high``, both included.

    A position decodes to ``⌊x + ½⌋``, the nearest whole number and the upper one of two equally near: a swarm
    moves in real numbers and rounds only what it trains.

    Attributes:
        low: Lower bound, in the parameter's own units.
        high: Upper bound, included.
        default: The value before any search; some methods start from it.

    Raises:
        InvalidSpace: The bounds are not integers, equal, reversed or beyond ±2^53; or the default lies
            outside.

    Example:
        ::

            >>> from swarm import Integer
            >>> units = Integer(4, 64, default=16)
            >>> units.decode(0.5), units.encode(34), units.size
            (34, 0.5, 61)
    """

    low: int
    high: int
    default: int | None = None
    ends: tuple[float, float] = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        low, high = plain(self.low), plain(self.high)
        for bound in (low, high):
            if not _is_integer(bound):
                raise InvalidSpace(f"bound {bound!r} is not an integer: write a whole number, or use Real")
            if abs(bound) > _EXACT:
                raise InvalidSpace(f"bound {bound!r} is beyond ±2^53: narrow the range, or use Real")
        _check_order(low, high)
        self._settle(low=low, high=high, ends=(float(low), float(high)), size=high - low + 1)

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def nearest(self, number: float) -> int:
        """The value nearest to any number in the parameter's own units."""
        return min(max(math.floor(number + 0.5), self.low), self.high)

    def _number(self, value: int) -> float:
        return float(value)

    def _value(self, number: float) -> int:
        if abs(number) >= _EXACT / 2:
            return int(number)  # already whole: adding ½ would be rounded to even
        return math.floor(number + 0.5)

    def _contains(self, value: Any) -> bool:
        return _is_integer(value) and bool(self.low <= value <= self.high)

    def normalised(self, value: int) -> int:
        """The value as a Python integer."""
        return int(value)

    def _plain_data(self) -> dict[str, Any]:
        return {"integer": [self.low, self.high]}


@dataclass(frozen=True, slots=True)
class Real(Domain):
    """Real numbers from ``low`` to ``high``, both included; with ``log``, equal steps are equal factors.

    Attributes:
        low: Lower bound, in the parameter's own units.
        high: Upper bound, included.
        log: Whether positions are linear in the logarithm of the value.
        digits: Significant digits that a value is rounded to, or None for all: 2 makes 0.0031 of 0.003142. Near
            positions then are one configuration, which is trained once.
        default: The value before any search; some methods start from it.

    Raises:
        InvalidSpace: The bounds are no finite numbers, equal, reversed, too wide apart or, with ``log``, not
            positive; or the default lies outside.

    Example:
        Half way between the logarithms of 0.0001 and 0.1::

            >>> from swarm import Real
            >>> rate = Real(1e-4, 0.1, log=True, digits=1)
            >>> rate.decode(0.5)
            0.003
    """

    low: float
    high: float
    log: bool = False
    digits: int | None = None
    default: float | None = None
    ends: tuple[float, float] = field(init=False, repr=False, compare=False)
    size: None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("low", "high", "log", "digits"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        for bound in (self.low, self.high):
            if isinstance(bound, str):
                raise InvalidSpace(f"bound {bound!r} is text: write a number (YAML: 1.0e-4, with a point)")
            if not _is_number(bound):
                raise InvalidSpace(f"bound {bound!r} is not a finite number: write one")
        if not isinstance(self.log, bool):
            raise InvalidSpace(f"log is {self.log!r}: write true or false")
        _check_order(self.low, self.high)
        if self.digits is not None and not (_is_integer(self.digits) and 1 <= self.digits <= _DIGITS):
            raise InvalidSpace(f"digits is {self.digits!r}: write a whole number from 1 to {_DIGITS}, or leave it out")
        if self.log and self.low <= 0:
            raise InvalidSpace(f"low {self.low!r} has no logarithm: raise it above 0, or leave log out")
        if not math.isfinite(float(self.high) - float(self.low)):
            raise InvalidSpace(f"the range from {self.low!r} to {self.high!r} is too wide: narrow it")
        low, high = self.normalised(self.low), self.normalised(self.high)
        ends = (math.log(low), math.log(high)) if self.log else (low, high)
        self._settle(low=low, high=high, ends=ends, size=None)

    def __str__(self) -> str:
        return f"a number from {self.low!r} to {self.high!r}"

    def nearest(self, number: float) -> float:
        """The value nearest to any number in the parameter's own units."""
        if self.digits is not None:
            number = float(f"{number:.{self.digits - 1}e}")
        return self.normalised(min(max(number, self.low), self.high))

    def _number(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def _value(self, number: float) -> float:
        low, high = self.ends
        if number <= low:
            return self.low  # exactly, whatever the exponential of the logarithm is rounded to
        if number >= high:
            return self.high
        return self.nearest(math.exp(number) if self.log else number)

    def _contains(self, value: Any) -> bool:
        return _is_number(value) and bool(self.low <= value <= self.high)

    def normalised(self, value: float) -> float:
        """The value as a Python float; −0.0 is 0.0."""
        return float(value) + 0.0

    def _plain_data(self) -> dict[str, Any]:
        options = {"log": True} if self.log else {}
        return {"real": [self.low, self.high]} | options | ({} if self.digits is None else {"digits": self.digits})


@dataclass(frozen=True, slots=True, init=False)
class Choice(Domain):
    """One of n options without an order; a position decodes to number ``⌊u·n⌋``: equal shares for all.

    Args:
        *options: The options, or one list or tuple of them: booleans, numbers or texts.
        default: The option before any search; some methods start from it.

    Raises:
        InvalidSpace: No option, a single one, one twice, one that is no scalar; or the default is none of
            them.

    Example:
        ::

            >>> from swarm import Choice
            >>> activation = Choice("relu", "tanh", "elu")
            >>> activation.decode(0.0), activation.decode(0.5), activation.decode(1.0)
            ('relu', 'tanh', 'elu')
    """

    options: tuple[Value, ...]
    default: Value | None
    ends: tuple[float, float] = field(repr=False, compare=False)
    size: int = field(repr=False, compare=False)
    places: dict[Value, int] = field(repr=False, compare=False)  # of the options, by themselves

    def __init__(self, *options: Any, default: Value | None = None) -> None:
        if len(options) == 1 and isinstance(options[0], (list, tuple, np.ndarray)):
            options = tuple(np.atleast_1d(options[0]) if isinstance(options[0], np.ndarray) else options[0])
        options = tuple(map(settled, options))
        for option in options:
            if not is_scalar(option):
                raise InvalidSpace(f"option {option!r} is not allowed: take booleans, numbers and texts")
        if not options:
            raise InvalidSpace("a choice has no options: list at least two")
        if len(options) == 1:
            raise InvalidSpace(f"{options[0]!r} is the only option: fix the parameter to the plain value")
        for option, count in Counter(options).items():
            if count > 1:
                raise InvalidSpace(f"option {option!r} is there twice (1 equals 1.0 and True): list it once")
        n = len(options)
        object.__setattr__(self, "places", {option: i for i, option in enumerate(options)})
        self._settle(options=options, default=default, ends=(0.0, float(n)), size=n)

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.options))}"

    def _number(self, value: Value) -> float:
        return self._index(value) + 0.5  # the middle of its share

    def _value(self, number: float) -> Value:
        return self.options[min(int(number), self.size - 1)]

    def _contains(self, value: Any) -> bool:
        return self._found(value) is not None

    def normalised(self, value: Any) -> Value:
        """The option that equals the value."""
        return self.options[self._index(value)]

    def _index(self, value: Any) -> int:
        found = self._found(value)
        if found is None:
            raise InvalidSpace(f"{value!r} is not {self}")
        return found

    def _found(self, value: Any) -> int | None:
        """Number of the option that is the same; None if there is none."""
        try:
            places = self.places
        except AttributeError:  # it was pickled by an earlier version, which looked through the options
            places = {option: i for i, option in enumerate(self.options)}
            object.__setattr__(self, "places", places)
        try:
            place = places.get(plain(value))
        except TypeError:  # a list, say
            return None
        return place if place is not None and is_same(value, self.options[place]) else None

    def _plain_data(self) -> dict[str, Any]:
        return {"choice": list(self.options)}


def _check_order(low: Any, high: Any) -> None:
    if low == high:
        raise InvalidSpace(f"low and high are both {low!r}: fix the parameter to the plain value")
    if low > high:
        raise InvalidSpace(f"low {low!r} is above high {high!r}: swap them")


def _is_integer(value: object) -> bool:
    value = plain(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    value = plain(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # false for NaN, too


def is_scalar(value: object) -> bool:
    """Whether a value can be an option or a fixed value: a boolean, a finite number or a text."""
    value = plain(value)
    return isinstance(value, (bool, str)) or _is_number(value)


def is_same(one: object, other: object) -> bool:
    """Equal, and True is not 1."""
    one, other = plain(one), plain(other)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def settled(value: Any) -> Any:
    """A scalar as a Python one, and −0.0 as 0.0; anything else as it is."""
    value = plain(value)
    return value + 0.0 if isinstance(value, float) else value
