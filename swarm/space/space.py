"""The search space: one object that encodes and decodes between named values and the unit cube.

Optimizers see points of the unit cube ``[0, 1]^d``, trainings see named values; :class:`Space` is the only
place where one becomes the other. A parameter is searched over a :class:`Domain` (:class:`Integer`, :class:`Real`,
:class:`Choice`) or fixed to a plain scalar, which is no dimension of the cube::

    space = Space({"filters": Integer(1, 48), "lr": Real(1e-4, 1e-1, log=True), "batch": 128})
    space.dimensions                  # 2
    space.decode([0.5, 1.0])          # {'filters': 25, 'lr': 0.1, 'batch': 128}
    space.encode(space.decode(u))     # the position of that configuration

The same as plain data, for job files: see :meth:`Space.parse`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swarm.errors import InvalidSpace
from swarm.space.domain import Choice, Domain, Integer, Real, is_same, is_scalar, settled
from swarm.trial import Params, Value, plain, plain_data

__all__ = ["Choice", "Domain", "Integer", "Real", "Space"]

Parameters = (
    Mapping[str, Any] | Iterable[tuple[str, Any]]
)  # a Domain or a Value each, of which a dict is dict[str, object]
Conditions = Mapping[str, Mapping[str, Iterable[Value]]]


class Space:
    """What is searched: for every hyper-parameter a domain or a fixed value, by name.

    Methods search positions in the unit cube [0, 1]^d, one dimension for each domain; trainings get named values. The
    space alone turns one into the other.

    The order of the names is the order of the cube's dimensions. A parameter with a condition belongs to a
    configuration only if the condition holds; its dimension is there in any case::

        Space({"optimizer": Choice("adam", "sgd"), "momentum": Real(0, 1)}, when={"momentum": {"optimizer": ["sgd"]}})

    Args:
        parameters: Names with their :class:`Domain` or fixed scalar, as a mapping or as pairs.
        when: Conditions by name: values, of other parameters that stand before it, with which it is there.

    Raises:
        InvalidSpace: A name is no identifier or there twice, a value is neither domain nor scalar, every
            parameter is fixed, or a condition can never hold.

    Example:
        ::

            >>> from swarm import Choice, Integer, Real, Space
            >>> space = Space({"units": Integer(4, 64), "rate": Real(1e-4, 0.1, log=True), "batch": 128})
            >>> space.dimensions
            2
            >>> space.decode([0.5, 1.0])
            {'units': 34, 'rate': 0.1, 'batch': 128}
            >>> space.encode({"units": 34, "rate": 0.1, "batch": 128})
            array([0.5, 1. ])
            >>> space.check({"units": 99, "rate": 0.1, "batch": 128})
            Traceback (most recent call last):
            swarm.errors.InvalidSpace: units: 99 is outside of the space: the parameter is an integer from 4 to 64
    """

    def __init__(self, parameters: Parameters, when: Conditions | None = None) -> None:
        self._domains: dict[str, Domain | Value] = {}
        for name, domain in _pairs(parameters):
            _check_name(name)
            if name in self._domains:
                raise InvalidSpace(f"{name}: the name is there twice: give every parameter its own")
            if not isinstance(domain, Domain) and not is_scalar(domain):
                raise InvalidSpace(
                    f"{name}: {domain!r} is no domain and no boolean, finite number or text to be fixed: "
                    "use Integer, Real or Choice (Space.parse for plain data)"
                )
            self._domains[name] = settled(domain)
        self._searched = [(name, d) for name, d in self._domains.items() if isinstance(d, Domain)]
        if not self._searched:
            raise InvalidSpace("there is nothing to search: give a parameter an Integer, Real or Choice")
        order = {name: i for i, name in enumerate(self._domains)}
        self._when = {name: self._conditions(name, conditions, order) for name, conditions in (when or {}).items()}

    @classmethod
    def parse(cls, data: Space | Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Space:
        """The space that plain data from a job file describes; domains as objects are welcome among it.

        ::

            {"filters": {"integer": [1, 48], "default": 24}, "lr": {"real": [1e-4, 1e-1], "log": True},
             "activation": {"choice": ["relu", "tanh"]}, "batch": 128}

        Raises:
            InvalidSpace: As :class:`Space`, or the data does not read like this.
        """
        if isinstance(data, Space):
            return data
        pairs = [(name, plain_data(value)) for name, value in _pairs(data)]
        for name, _ in pairs:
            _check_name(name)
        when = {name: value["when"] for name, value in pairs if isinstance(value, Mapping) and "when" in value}
        for name, conditions in when.items():
            if not isinstance(conditions, Mapping):
                raise InvalidSpace(f"{name}: when is {conditions!r}: write {{other: [value, …]}}")
        return cls([(name, _parse(name, value)) for name, value in pairs], when)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain JSON-ready data; :meth:`parse` reads it back."""
        when = {name: {"when": {other: list(v) for other, v in each.items()}} for name, each in self._when.items()}
        return {
            name: v.to_dict() | when.get(name, {}) if isinstance(v, Domain) else v for name, v in self._domains.items()
        }

    def __repr__(self) -> str:
        return f"Space({self._domains!r}{f', when={self._when!r}' if self._when else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and list(self.to_dict().items()) == list(other.to_dict().items())

    def __hash__(self) -> int:
        return hash(tuple(self._domains.items()))

    @property
    def domains(self) -> Mapping[str, Domain | Value]:
        """Every parameter with its domain or fixed value, in order."""
        return MappingProxyType(self._domains)

    @property
    def conditions(self) -> Mapping[str, Mapping[str, tuple[Value, ...]]]:
        """Of each parameter with a condition the values, by the names of other parameters, with which it is there."""
        return MappingProxyType(self._when)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the searched parameters, one per dimension of the cube."""
        return tuple(name for name, _ in self._searched)

    @property
    def dimensions(self) -> int:
        """Number of searched parameters: the d of the cube [0, 1]^d."""
        return len(self._searched)

    @property
    def ends(self) -> NDArray[np.float64]:
        """The :attr:`Domain.ends` of all dimensions, an array (2, d): below, above."""
        return np.array([domain.ends for _, domain in self._searched]).T

    @property
    def size(self) -> int | None:
        """Number of points of the cube that differ, or None if a dimension is real.

        With conditions some of them are one and the same configuration, which is trained once.
        """
        sizes = [domain.size for _, domain in self._searched]
        return None if None in sizes else math.prod(filter(None, sizes))

    def encode(self, params: Params) -> NDArray[np.float64]:
        """Position of a configuration in the cube, an array (d,).

        Raises:
            InvalidSpace: The configuration does not belong to the space.
        """
        self.check(params)
        params = self.completed(params)
        return np.array([domain.encode(params[name]) for name, domain in self._searched])

    def decode(self, vector: ArrayLike) -> dict[str, Value]:
        """The configuration at a position, in plain Python values and with the fixed ones among them.

        Args:
            vector: Position, shape (d,); what lies outside [0, 1] is clipped.

        Raises:
            InvalidSpace: The position has another shape, or holds NaN.
        """
        position = np.asarray(vector, dtype=float)
        if position.shape != (self.dimensions,):
            raise InvalidSpace(f"position has shape {position.shape}: give one of ({self.dimensions},)")
        if np.isnan(position).any():
            raise InvalidSpace(f"position {position.tolist()} holds NaN: give numbers")
        return self.active(
            self._filled(d.decode(u) for (_, d), u in zip(self._searched, position.tolist(), strict=True))
        )

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random configuration: integers and options equally likely, reals uniform, or their logarithms."""
        return self.active(self._filled(domain.sample(rng) for _, domain in self._searched))

    def at(self, index: int) -> dict[str, Value]:
        """Configuration number ``index`` of a finite space; the last parameter varies fastest.

        Raises:
            InvalidSpace: A dimension is real, or there is no such number.
        """
        if self.size is None:
            raise InvalidSpace("a space with a real dimension cannot be numbered: use sample")
        if not 0 <= index < self.size:
            raise InvalidSpace(f"there is no configuration {index}: take one from 0 to {self.size - 1}")
        values: list[Value] = []
        for _, domain in reversed(self._searched):  # mixed radix, the least significant digit first
            index, digit = divmod(index, domain.size or 1)  # no size is None here
            values.append(domain.at(digit))
        return self.active(self._filled(reversed(values)))

    def defaults(self) -> dict[str, Value] | None:
        """The configuration before any search, or None unless every searched parameter has a default."""
        values = [domain.default for _, domain in self._searched]
        return None if None in values else self.active(self._filled(values))

    def active(self, params: Params) -> dict[str, Value]:
        """What of a value for every parameter belongs to the configuration: without those whose conditions fail."""
        if not self._when:
            return dict(params)
        found: dict[str, Value] = {}
        for name, value in params.items():
            if self._holds(name, found):
                found[name] = value
        return found

    def completed(self, params: Params) -> dict[str, Value]:
        """A value for every parameter: those of the configuration, and defaults or middles for what it is without."""
        if not self._when:
            return dict(params)
        return {
            name: params[name]
            if name in params or not isinstance(domain, Domain)
            else (domain.decode(0.5) if domain.default is None else domain.default)
            for name, domain in self._domains.items()
        }

    def normalised(self, params: Params) -> dict[str, Value]:
        """The configuration in the values that :meth:`decode` gives, so that equal ones have one key.

        2 is 2.0 where the domain is real, an option or a fixed value is written as the space has it, and what NumPy
        calculated is a Python value. What does not belong to the space stays as it is: :meth:`check` judges it.
        """
        return {name: _normalised(self._domains.get(name), value) for name, value in params.items()}

    def contains(self, params: Params) -> bool:
        """Whether the configuration belongs to the space."""
        try:
            self.check(params)
        except InvalidSpace:
            return False
        return True

    def check(self, params: Params) -> None:
        """Refuse a configuration that does not belong to the space.

        Raises:
            InvalidSpace: A value is missing, unknown or outside of its domain; the text says where it
                belongs.
        """
        for name in params:
            if name not in self._domains:
                raise InvalidSpace(f"{name}: there is no such parameter; {_meant(name, self._domains)}")
        for name, domain in self._domains.items():
            wanted = domain if isinstance(domain, Domain) else f"fixed to {domain!r}"
            if not self._holds(name, params):
                if name in params:
                    raise InvalidSpace(f"{name}: it does not go with {self._condition(name)}: leave it out")
                continue
            if name not in params:
                raise InvalidSpace(f"{name}: there is no value: give it, it is {wanted}")
            value = params[name]
            if not (domain.contains(value) if isinstance(domain, Domain) else is_same(value, domain)):
                raise InvalidSpace(f"{name}: {value!r} is outside of the space: the parameter is {wanted}")

    @cached_property
    def _there(self) -> dict[str, list[tuple[str, set[tuple[bool, Any]]]]]:
        """The conditions, to look values up."""
        return {
            name: [(other, set(map(_itself, values))) for other, values in conditions.items()]
            for name, conditions in self._when.items()
        }

    def _conditions(
        self, name: str, conditions: Mapping[str, Iterable[Value]], order: Mapping[str, int]
    ) -> dict[str, tuple[Value, ...]]:
        if not isinstance(self._domains.get(name), Domain):
            raise InvalidSpace(f"{name}: a condition is for a parameter that is searched, which this is not")
        found = {}
        for other, values in conditions.items():
            if order.get(other, len(order)) >= order[name]:
                raise InvalidSpace(
                    f"{name}: its condition is on {other!r}, which does not stand before it: move it there"
                )
            domain, given = self._domains[other], plain_data(values)
            options = given if isinstance(given, (list, tuple)) else [given]
            for value in options:
                if not (domain.contains(value) if isinstance(domain, Domain) else is_same(value, domain)):
                    raise InvalidSpace(f"{name}: its condition wants {other} to be {value!r}, which it cannot be")
            found[other] = tuple(_normalised(domain, value) for value in options)
        return found

    def _holds(self, name: str, params: Params) -> bool:
        """Whether a parameter belongs to a configuration."""
        conditions = self._there.get(name, ())
        return all(other in params and _itself(params[other]) in values for other, values in conditions)

    def _condition(self, name: str) -> str:
        return " and ".join(f"{other} other than {', '.join(map(repr, v))}" for other, v in self._when[name].items())

    def _filled(self, values: Iterable[Value]) -> dict[str, Value]:
        """All parameters in order: the searched ones from ``values``, and the fixed ones."""
        found = iter(values)
        return {name: next(found) if isinstance(v, Domain) else v for name, v in self._domains.items()}


def _normalised(domain: Domain | Value | None, value: Any) -> Any:
    if isinstance(domain, Domain):
        return domain.normalised(value) if domain.contains(value) else plain_data(value)
    return domain if domain is not None and is_same(value, domain) else plain_data(value)


def _itself(value: Any) -> tuple[bool, Any]:
    """What is equal for values that are the same, and has a place in a set."""
    value = plain(value)
    return isinstance(value, bool), value if isinstance(value, bool | int | float | str) else repr(value)


_KINDS: dict[str, tuple[type[Domain], set[str]]] = {
    "integer": (Integer, {"default", "when"}),
    "real": (Real, {"log", "digits", "default", "when"}),
    "choice": (Choice, {"default", "when"}),
}
_FORMS = {"integer": "[low, high]", "real": "[low, high]", "choice": "a list of options"}


def _parse(name: str, data: Any) -> Any:
    """The domain that plain data describes; what is no mapping or list is left to :class:`Space` to judge."""
    if isinstance(data, (list, tuple)):
        raise InvalidSpace(f'{name}: a bare list: write {{"choice": [...]}} or {{"integer": [1, 9]}}')
    if not isinstance(data, Mapping):
        return data
    kinds = [kind for kind in _KINDS if kind in data]
    known = {*_KINDS, "log", "digits", "default", "when"} if not kinds else {*kinds, *_KINDS[kinds[0]][1]}
    for key in data:
        if key not in known:
            raise InvalidSpace(f"{name}: unknown key {key!r}; {_meant(str(key), known)}")
    if len(kinds) != 1:
        raise InvalidSpace(f"{name}: {len(kinds)} domains: give exactly one of integer, real and choice")
    kind = kinds[0]
    values, options = data[kind], {key: value for key, value in data.items() if key not in (kind, "when")}
    if not isinstance(values, (list, tuple)) or (kind != "choice" and len(values) != 2):
        raise InvalidSpace(f"{name}: {kind} is {values!r}: write {_FORMS[kind]}")
    try:
        return _KINDS[kind][0](*([values] if kind == "choice" else values), **options)
    except InvalidSpace as error:
        raise InvalidSpace(f"{name}: {error}") from None


def _pairs(parameters: Any) -> list[tuple[Any, Any]]:
    if isinstance(parameters, Mapping):
        return list(parameters.items())
    try:
        return [(name, value) for name, value in parameters]
    except (TypeError, ValueError):
        raise InvalidSpace("a space needs names with their domains: give a mapping, or pairs") from None


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier() or iskeyword(name):
        raise InvalidSpace(f"{name!r} cannot name a parameter: take a Python identifier that is no keyword")


def _meant(word: object, known: Iterable[str]) -> str:
    """What to say about an unknown word: the closest known one, or all of them."""
    close = difflib.get_close_matches(str(word)[:100], list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
