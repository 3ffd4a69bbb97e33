"""Plain values: what a hyper-parameter may be, and when two of them are the same.

A value is None, a boolean, a finite number, a text, or a list, a tuple or a dictionary of such values. 1, 1.0, True and
"1" are four values, [1] and (1,) are two.
"""

from __future__ import annotations

import sys
from typing import Any

from swarm.plain import as_json, plain, plain_data, sorted_text, without_negative_zero

_DEEPEST = 20  # containers in each other


def settled(value: Any) -> Any:
    """A value that nobody else holds, without numbers of NumPy, and with −0.0 as 0.0."""
    return without_negative_zero(plain_data(value))


def is_scalar(value: object) -> bool:
    """Whether a value is None, a boolean, a finite number or a text."""
    value = plain(value)
    return value is None or isinstance(value, bool | str) or is_number(value)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, which True is not."""
    value = plain(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # false for NaN, too


def is_value(value: object, levels: int = _DEEPEST) -> bool:
    """Whether a value is plain: one that can be an option, or a fixed value."""
    if type(value) in (list, tuple):
        return levels > 0 and all(is_value(each, levels - 1) for each in value)  # type: ignore[attr-defined]
    if type(value) is dict:
        return levels > 0 and all(is_scalar(name) and is_value(each, levels - 1) for name, each in value.items())
    return is_scalar(value)


def identity(value: Any) -> tuple[str, Any]:
    """What is equal for values that are the same, and has a place in a set."""
    value = plain(value)
    if isinstance(value, float):
        return "float", value + 0.0
    if value is None or isinstance(value, bool | int | str):
        return type(value).__name__, value
    return "json", sorted_text(as_json(plain_data(value)))


def likeness(value: Any, *, lists: bool = False) -> tuple[str, Any]:
    """The same for values that are as good as the same: also 1 for 1.0.

    Args:
        value: The value.
        lists: Whether lists are as good as its tuples, as where JSON or YAML has been in between.
    """
    return identity(_loosened(plain_data(value), lists))


def is_same(one: object, other: object) -> bool:
    """Whether a value stands for another: it is as good as the same, or has lists where the other has tuples."""
    one = plain_data(one)
    if not is_value(one):
        return False
    return identity(one) == identity(other) or likeness(one) in (likeness(other), likeness(other, lists=True))


def _loosened(value: Any, lists: bool) -> Any:
    if isinstance(value, list | tuple):
        inner = [_loosened(each, lists) for each in value]
        return inner if lists or isinstance(value, list) else tuple(inner)
    if isinstance(value, dict):
        return {_loosened(name, lists): _loosened(each, lists) for name, each in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
