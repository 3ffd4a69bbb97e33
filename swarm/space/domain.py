"""The values that one parameter may take: whole numbers, real numbers, or one of a few options."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from swarm.errors import InvalidSpace
from swarm.plain import as_json, plain, plain_data
from swarm.space.base import Domain
from swarm.space.values import identity, is_number, is_value, likeness, settled
from swarm.trial import Value

_DIGITS = 17  # all that a float has
_EXACT = 2**53  # integers up to here are exact as floats, in which positions are kept
_LABEL = 40  # characters
_NO_DEFAULT: Any = type("NoDefault", (), {"__repr__": lambda _: "no default"})()  # None may be an option
_NEWER = {"log": False, "step": None}  # fields that an earlier version has not pickled


@dataclass(frozen=True, slots=True)
class Integer(Domain):
    """Whole numbers from ``low`` to ``high``, both included; with ``log``, equal steps are equal factors.

    A position decodes to ``⌊x + ½⌋``, the nearest whole number and the upper one of two equally near: a swarm
    moves in real numbers and rounds only what it trains.

    Attributes:
        low: Lower bound, in the parameter's own units.
        high: Upper bound, included; with ``step`` the last number that is reached.
        default: The value before any search; some methods start from it.
        log: Whether positions are linear in the logarithm of the value.
        step: The numbers are ``low``, ``low + step``, ``low + 2·step``, …; None is 1.

    Raises:
        InvalidSpace: The bounds are not integers, equal, reversed or beyond ±2^53; the step is no integer above 0, or
            leaves one number; with ``log``, low is not positive; or the default is none of the numbers.

    Example:
        ::

            >>> from swarm import Integer
            >>> units = Integer(4, 64, default=16)
            >>> units.decode(0.5), units.encode(34), units.size
            (34, 0.5, 61)
            >>> Integer(1, 4096, log=True).decode(0.5), Integer(16, 256, step=16).decode(0.4)
            (64, 112)
    """

    low: int
    high: int
    default: int | None = None
    ends: tuple[float, float] = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)
    log: bool = field(default=False, kw_only=True)
    step: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        low, high, step = plain(self.low), plain(self.high), plain(self.step)
        for bound in (low, high):
            if not _is_integer(bound):
                raise InvalidSpace(f"bound {bound!r} is not an integer: write a whole number, or use Real")
            if abs(bound) > _EXACT:
                raise InvalidSpace(f"bound {bound!r} is beyond ±2^53: narrow the range, or use Real")
        _check_order(low, high)
        log = _checked_log(self.log, low)
        if step is not None and not (_is_integer(step) and step > 0):
            raise InvalidSpace(f"step is {step!r}: write a whole number above 0, or leave it out")
        last = (high - low) // (step or 1)
        if last == 0:
            raise InvalidSpace(f"step {step!r} leaves {low!r} alone: lower it, or fix the parameter to the plain value")
        high = low + last * (step or 1)
        ends = (math.log(low), math.log(high)) if log else (float(low), float(high))
        self._settle(low=low, high=high, log=log, step=None if step == 1 else step, ends=ends, size=last + 1)

    def __setstate__(self, state: list[Any]) -> None:
        _restore(self, ("low", "high", "default", "ends", "size", "log", "step"), state)

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}{_laid_out(self.log, self.step)}"

    @property
    def is_even(self) -> bool:
        """Whether all numbers are equally likely at random; not on a log scale."""
        return not self.log

    @property
    def spacing(self) -> float:
        """Distance in [0, 1] of each number to the next; 0 on a log scale."""
        return 0.0 if self.log else 1 / (self.size - 1)

    def at(self, index: int) -> int:
        """Number ``index`` of them, from 0."""
        return self.low + index * (self.step or 1)

    def nearest(self, number: float) -> int:
        """The value nearest to any number in the parameter's own units."""
        if self.step is None:
            return min(max(math.floor(number + 0.5), self.low), self.high)
        return self.at(min(max(math.floor((number - self.low) / self.step + 0.5), 0), self.size - 1))

    def _number(self, value: int) -> float:
        return math.log(value) if self.log else float(value)

    def _value(self, number: float) -> int:
        if self.log:
            low, high = self.ends
            return self.low if number <= low else self.high if number >= high else self.nearest(math.exp(number))
        if self.step is not None:
            return self.nearest(number)
        if abs(number) >= _EXACT / 2:
            return int(number)  # already whole: adding ½ would be rounded to even
        return math.floor(number + 0.5)

    def _contains(self, value: Any) -> bool:
        return (
            _is_integer(value) and bool(self.low <= value <= self.high) and (value - self.low) % (self.step or 1) == 0
        )

    def normalised(self, value: int) -> int:
        """The value as a Python integer."""
        return int(value)

    def _plain_data(self) -> dict[str, Any]:
        return {"integer": [self.low, self.high], **_options(log=self.log, step=self.step)}


@dataclass(frozen=True, slots=True)
class Real(Domain):
    """Real numbers from ``low`` to ``high``, both included; with ``log``, equal steps are equal factors.

    Attributes:
        low: Lower bound, in the parameter's own units.
        high: Upper bound, included; with ``step`` the last number that is reached.
        log: Whether positions are linear in the logarithm of the value.
        digits: Significant digits that a value is rounded to, or None for all: 2 makes 0.0031 of 0.003142. Near
            positions then are one configuration, which is trained once.
        default: The value before any search; some methods start from it.
        step: The numbers are ``low``, ``low + step``, ``low + 2·step``, … alone; not together with ``digits``.

    Raises:
        InvalidSpace: The bounds are no finite numbers, equal, reversed, too wide apart or, with ``log``, not
            positive; the step is not above 0, leaves one number or more than anybody counts; or the default is none of
            the numbers.

    Example:
        Half way between the logarithms of 0.0001 and 0.1::

            >>> from swarm import Real
            >>> rate = Real(1e-4, 0.1, log=True, digits=1)
            >>> rate.decode(0.5)
            0.003
            >>> Real(0, 0.5, step=0.05).decode(0.32)
            0.15
    """

    low: float
    high: float
    log: bool = False
    digits: int | None = None
    default: float | None = None
    ends: tuple[float, float] = field(init=False, repr=False, compare=False)
    size: int | None = field(init=False, repr=False, compare=False)
    step: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("low", "high", "log", "digits", "step"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        for bound in (self.low, self.high):
            if isinstance(bound, str):
                raise InvalidSpace(f"bound {bound!r} is text: write a number (YAML: 1.0e-4, with a point)")
            if not is_number(bound):
                raise InvalidSpace(f"bound {bound!r} is not a finite number: write one")
        _check_order(self.low, self.high)
        if self.digits is not None and not (_is_integer(self.digits) and 1 <= self.digits <= _DIGITS):
            raise InvalidSpace(f"digits is {self.digits!r}: write a whole number from 1 to {_DIGITS}, or leave it out")
        log = _checked_log(self.log, self.low)
        if not math.isfinite(float(self.high) - float(self.low)):
            raise InvalidSpace(f"the range from {self.low!r} to {self.high!r} is too wide: narrow it")
        low, high, size = float(self.low) + 0.0, float(self.high) + 0.0, None
        if self.step is not None:
            last = self._last()
            object.__setattr__(self, "low", low)
            object.__setattr__(self, "step", float(self.step))
            high, size = self.at(last), last + 1
        ends = (math.log(low), math.log(high)) if log else (low, high)
        self._settle(low=low, high=high, log=log, ends=ends, size=size)

    def _last(self) -> int:
        """Number of the last value, from 0."""
        if not is_number(self.step) or self.step is None or self.step <= 0:
            raise InvalidSpace(f"step is {self.step!r}: write a number above 0, or leave it out")
        if self.digits is not None:
            raise InvalidSpace("both digits and step say which numbers there are: leave one out")
        last = (_exact(self.high) - _exact(self.low)) // _exact(self.step)
        if last == 0:
            raise InvalidSpace(
                f"step {self.step!r} leaves {self.low!r} alone: lower it, or fix the parameter to the plain value"
            )
        if last > _EXACT:
            raise InvalidSpace(f"step {self.step!r} makes more than 2^53 numbers: raise it, or leave it out")
        return last

    def __setstate__(self, state: list[Any]) -> None:
        _restore(self, ("low", "high", "log", "digits", "default", "ends", "size", "step"), state)

    def __str__(self) -> str:
        return f"a number from {self.low!r} to {self.high!r}{_laid_out(self.log, self.step, self.digits)}"

    @property
    def is_even(self) -> bool:
        """Whether all numbers are equally likely at random; steps on a log scale are not."""
        return not (self.log and self.step is not None)

    @property
    def spacing(self) -> float:
        """Distance in [0, 1] of each number to the next; 0 without steps, and on a log scale."""
        return 0.0 if self.log or self.size is None else 1 / (self.size - 1)

    def at(self, index: int) -> float:
        """Number ``index`` of those in steps, from 0."""
        return float(_exact(self.low) + index * _exact(self.step or 0.0)) + 0.0  # 3 · 0.05 is 0.15, not more

    def nearest(self, number: float) -> float:
        """The value nearest to any number in the parameter's own units."""
        if self.step is not None and self.size is not None:
            return self.at(min(max(math.floor((number - self.low) / self.step + 0.5), 0), self.size - 1))
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
        if not is_number(value) or not self.low <= value <= self.high + (self.step or 0.0) * 1e-9:
            return False
        return self.step is None or abs(value - self.nearest(value)) <= max(1e-9 * self.step, 4 * math.ulp(value))

    def normalised(self, value: float) -> float:
        """The value as a Python float; −0.0 is 0.0."""
        return float(value) + 0.0 if self.step is None else self.nearest(float(value))

    def _plain_data(self) -> dict[str, Any]:
        return {"real": [self.low, self.high], **_options(log=self.log, digits=self.digits, step=self.step)}


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Choice(Domain):
    """One of n options without an order; a position decodes to number ``⌊u·n⌋``: equal shares for all.

    Options are told apart by value and type: 1, 1.0, True and "1" are four, a list is no tuple. What a training is
    given is a copy, which it may change.

    Args:
        *options: The options, or one list or tuple of them: None, booleans, numbers, texts, and lists, tuples and
            dictionaries of these.
        default: The option before any search, which may be None if that is one; some methods start from it.

    Raises:
        InvalidSpace: No option, a single one, one twice, one that is no plain value; or the default is none of
            them.

    Example:
        ::

            >>> from swarm import Choice
            >>> activation = Choice("relu", "tanh", "elu")
            >>> activation.decode(0.0), activation.decode(0.5), activation.decode(1.0)
            ('relu', 'tanh', 'elu')
            >>> layers = Choice([64], [64, 32], None)
            >>> layers.decode(0.5), layers.decode(1.0)
            ([64, 32], None)
    """

    options: tuple[Value, ...]
    default: Value
    ends: tuple[float, float] = field(repr=False)
    size: int = field(repr=False)
    places: dict[Any, int] = field(repr=False)  # of the options, by what tells them apart
    alike: dict[Any, int] = field(repr=False)  # of those that no other is like, by what others may be given for them
    defaulted: bool = field(repr=False)  # whether there is a default, which may be None

    def __init__(self, *options: Any, default: Any = _NO_DEFAULT) -> None:
        if len(options) == 1 and isinstance(options[0], (list, tuple, np.ndarray)):
            options = tuple(np.atleast_1d(options[0]) if isinstance(options[0], np.ndarray) else options[0])
        options = tuple(map(plain_data, options))
        for option in options:
            if not is_value(option):
                raise InvalidSpace(
                    f"option {option!r} is not allowed: take None, booleans, finite numbers and texts, and lists, "
                    "tuples and dictionaries of these"
                )
        options = tuple(map(settled, options))
        if not options:
            raise InvalidSpace("a choice has no options: list at least two")
        if len(options) == 1:
            raise InvalidSpace(f"{options[0]!r} is the only option: fix the parameter to the plain value")
        places: dict[Any, int] = {}
        for i, option in enumerate(options):
            if places.setdefault(identity(option), i) != i:
                raise InvalidSpace(f"option {option!r} is there twice: list it once")
        given = default is not _NO_DEFAULT and (default is not None or identity(None) in places)
        n = len(options)
        self._settle(
            options=options,
            default=plain_data(default) if given else None,
            ends=(0.0, float(n)),
            size=n,
            places=places,
            alike=_alike(options),
            defaulted=given,
        )

    def __setstate__(self, state: list[Any]) -> None:
        options, default, *others = state
        given = others[-1] if len(others) > 3 else default is not None  # an earlier version had three others
        self.__init__(list(options), default=default if given else _NO_DEFAULT)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and self._itself() == other._itself()

    def __hash__(self) -> int:
        return hash(self._itself())

    def _itself(self) -> tuple[Any, ...]:
        return (*self.places, self.defaulted, identity(self.default))

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.options))}"

    @property
    def has_default(self) -> bool:
        """Whether there is a default, which may be None."""
        return self.defaulted

    @property
    def labels(self) -> tuple[str, ...]:
        """A text for each option, for people; no two are equal."""
        texts = list(map(str, self.options))
        if len(set(texts)) < len(texts):
            texts = list(map(repr, self.options))
        short = (text if len(text) <= _LABEL else f"{text[: _LABEL - 8]}… ({i})" for i, text in enumerate(texts, 1))
        return tuple(short)

    def label(self, value: Any) -> str:
        """The text of a value, also of one that is no option."""
        place = self.place(value)
        return str(value) if place is None else self.labels[place]

    def place(self, value: Any) -> int | None:
        """Number of the option that a value is, or is as good as; None if it is none."""
        value = plain(value)
        if not isinstance(value, str | int | float):
            value = plain_data(value)
            if not is_value(value):
                return None
        found = self.places.get(identity(value))
        return self.alike.get(likeness(value)) if found is None else found

    def at(self, index: int) -> Value:
        """Option number ``index``."""
        return _handed_out(self.options[index])

    def _number(self, value: Value) -> float:
        return self._index(value) + 0.5  # the middle of its share

    def _value(self, number: float) -> Value:
        return _handed_out(self.options[min(int(number), self.size - 1)])

    def _contains(self, value: Any) -> bool:
        return self.place(value) is not None

    def normalised(self, value: Any) -> Value:
        """The option that the value is, or is as good as."""
        return _handed_out(self.options[self._index(value)])

    def _index(self, value: Any) -> int:
        found = self.place(value)
        if found is None:
            raise InvalidSpace(f"{value!r} is not {self}")
        return found

    def _plain_data(self) -> dict[str, Any]:
        return {"choice": list(map(as_json, self.options))}


def _handed_out(value: Value) -> Value:
    """A value as a training may have it, which may change it."""
    return plain_data(value) if isinstance(value, list | tuple | dict) else value


def _alike(options: Iterable[Value]) -> dict[Any, int]:
    """Numbers of options by what is as good: other kinds of numbers, and lists for tuples where no list is meant."""
    found: dict[Any, list[int]] = {}
    for i, option in enumerate(options):
        for each in {likeness(option), likeness(option, lists=True)}:
            found.setdefault(each, []).append(i)
    return {each: numbers[0] for each, numbers in found.items() if len(numbers) == 1}


def _check_order(low: Any, high: Any) -> None:
    if low == high:
        raise InvalidSpace(f"low and high are both {low!r}: fix the parameter to the plain value")
    if low > high:
        raise InvalidSpace(f"low {low!r} is above high {high!r}: swap them")


def _checked_log(log: Any, low: Any) -> bool:
    log = plain(log)
    if not isinstance(log, bool):
        raise InvalidSpace(f"log is {log!r}: write true or false")
    if log and low <= 0:
        raise InvalidSpace(f"low {low!r} has no logarithm: raise it above 0, or leave log out")
    return log


def _is_integer(value: object) -> bool:
    value = plain(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _exact(number: float) -> Fraction:
    """The number as it is written: 0.05 is a twentieth."""
    return Fraction(repr(float(number)))


def _laid_out(log: bool, step: float | None, digits: int | None = None) -> str:
    scale = " on a log scale" if log else ""
    rounded = "" if digits is None else f" rounded to {digits} significant digit{'s' if digits > 1 else ''}"
    return scale + rounded + ("" if step is None else f" in steps of {step!r}")


def _options(**options: Any) -> dict[str, Any]:
    """Those that say something."""
    return {name: value for name, value in options.items() if value not in (None, False)}


def _restore(domain: Domain, names: tuple[str, ...], state: list[Any]) -> None:
    """Set the fields that were pickled, perhaps by an earlier version, which had fewer."""
    known = {**{name: _NEWER[name] for name in names if name in _NEWER}, **dict(zip(names, state, strict=False))}
    for name, value in known.items():
        object.__setattr__(domain, name, value)
