"""Values as plain Python and as JSON keep them, whatever library they come from; on the standard library alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Real
from typing import Any

_TUPLE, _DICT = "tuple", "dict"  # keys of what JSON does not know


def plain(value: Any) -> Any:
    """A scalar of an array library as the Python one, anything else as it is.

    ``numpy.int64(3)`` is 3, and so is an array without dimensions that holds 3.
    """
    if getattr(value, "shape", None) != () or not callable(getattr(value, "item", None)):
        return value
    found = value.item()
    return float(found) if hasattr(found, "dtype") and isinstance(found, Real) else found  # a long double stays one


def plain_data(value: Any) -> Any:
    """Dictionaries, lists and tuples with :func:`plain` values in them, however deep, and arrays as lists."""
    if type(value) is dict:
        return {plain(name): plain_data(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain_data, value))
    value = plain(value)
    return value.tolist() if hasattr(value, "dtype") and callable(getattr(value, "tolist", None)) else value


def as_json(value: Any) -> Any:
    """A value as JSON keeps it; :func:`from_json` reads it back.

    JSON knows no tuples, and texts alone as keys: a tuple is written as ``{"tuple": [3, 3]}``, and a dictionary with
    other keys, or one that looks like either, as ``{"dict": [[0, 1.0]]}``.
    """
    if isinstance(value, tuple):
        return {_TUPLE: list(map(as_json, value))}
    if isinstance(value, list):
        return list(map(as_json, value))
    if not isinstance(value, Mapping):
        return value
    if all(isinstance(name, str) for name in value) and not _is_marked(value):
        return {name: as_json(each) for name, each in value.items()}
    return {_DICT: [[name, as_json(each)] for name, each in value.items()]}


def from_json(data: Any) -> Any:
    """The value that :func:`as_json` wrote; tuples in it are welcome."""
    if isinstance(data, list | tuple):
        return type(data)(map(from_json, data))
    if not isinstance(data, dict):
        return data
    inner = next(iter(data.values())) if _is_marked(data) else None
    if isinstance(inner, list | tuple):
        if _TUPLE in data:
            return tuple(map(from_json, inner))
        if all(isinstance(pair, list | tuple) and len(pair) == 2 and _is_key(pair[0]) for pair in inner):
            return {name: from_json(each) for name, each in inner}
    return {name: from_json(each) for name, each in data.items()}


def params_as_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as JSON keeps it; :func:`params_from_json` reads it back."""
    return {name: as_json(value) for name, value in params.items()}


def params_from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that :func:`params_as_json` wrote."""
    return {name: from_json(value) for name, value in data.items()}


def canonical(params: Mapping[str, Any]) -> str:
    """Text that is equal for equal configurations: JSON, keys sorted, integers as integers, floats by repr.

    −0.0 is 0.0, and a scalar of NumPy the Python one. But 2 and 2.0 are two texts, as they may be two trainings:
    :meth:`swarm.space.Space.normalised` knows where they are one value. True is never 1, nor is a list a tuple.

    Raises:
        ValueError: A value is inf or NaN, which JSON does not know.
    """
    return sorted_text(params_as_json(without_negative_zero(plain_data(dict(params)))))


def without_negative_zero(value: Any) -> Any:
    """The value with −0.0 as 0.0, however deep."""
    if isinstance(value, dict):
        return {without_negative_zero(name): without_negative_zero(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_negative_zero, value))
    return value + 0.0 if isinstance(value, float) else value


def _is_key(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _is_marked(data: Mapping[Any, Any]) -> bool:
    return len(data) == 1 and next(iter(data)) in (_TUPLE, _DICT)


def sorted_text(data: Any) -> str:
    """Text that is equal for equal values, of what :func:`as_json` wrote."""
    return json.dumps(_sorted(data), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sorted(data: Any) -> Any:
    """What :func:`as_json` wrote, with the pairs of dictionaries in an order that does not depend on theirs."""
    if isinstance(data, list):
        return list(map(_sorted, data))
    if not isinstance(data, dict):
        return data
    if _is_marked(data) and isinstance(pairs := data.get(_DICT), list):
        return {_DICT: sorted(map(_sorted, pairs), key=json.dumps)}
    return {name: _sorted(each) for name, each in data.items()}
