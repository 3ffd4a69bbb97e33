"""The search space: one object that encodes and decodes between named values and the unit cube.

Optimizers see points of the unit cube ``[0, 1]^d``, trainings see named values; :class:`Space` is the only
place where one becomes the other. A parameter is searched over a :class:`Domain` (:class:`Integer`, :class:`Real`,
:class:`Choice`) or fixed to a plain value, which is no dimension of the cube::

    space = Space({"filters": Integer(1, 48), "lr": Real(1e-4, 1e-1, log=True), "batch": 128})
    space.dimensions                  # 2
    space.decode([0.5, 1.0])          # {'filters': 25, 'lr': 0.1, 'batch': 128}
    space.encode(space.decode(u))     # the position of that configuration

The same as plain data, for job files: see :meth:`Space.parse`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swarm.errors import InvalidSpace
from swarm.plain import as_json, from_json, plain, plain_data
from swarm.space.base import Domain
from swarm.space.configurations import Configurations
from swarm.space.constraint import Constraint, Function, constraints_of
from swarm.space.domain import Choice, Integer, Real
from swarm.space.parsing import CONSTRAINT, FIXED, is_described, meant, parts_of, without_groups
from swarm.space.repair import repaired
from swarm.space.values import is_same, is_value, settled
from swarm.trial import Params, Value

__all__ = ["Choice", "Domain", "Integer", "Real", "Space"]

Parameters = (
    Mapping[str, Any] | Iterable[tuple[str, Any]]
)  # a Domain or a Value each, of which a dict is dict[str, object]
Conditions = Mapping[str, Mapping[str, Iterable[Value]]]

_DRAWS = 20_000  # of a random configuration, until one satisfies the constraints


class Space:
    """What is searched: for every hyper-parameter a domain or a fixed value, by name.

    Methods search positions in the unit cube [0, 1]^d, one dimension for each domain; trainings get named values. The
    space alone turns one into the other.

    The order of the names is the order of the cube's dimensions. A parameter with a condition belongs to a
    configuration only if the condition holds; its dimension is there in any case::

        Space({"optimizer": Choice("adam", "sgd"), "momentum": Real(0, 1)}, when={"momentum": {"optimizer": ["sgd"]}})

    Parameters may stand in groups: ``{"model": {"units": Integer(4, 64)}}`` is ``model.units``. A constraint is what
    several have to satisfy together; what it refuses is never tried::

        Space({"units_1": Integer(4, 64), "units_2": Integer(4, 64)}, constraint="units_2 <= units_1")

    Args:
        parameters: Names with their :class:`Domain` or fixed value, as a mapping or as pairs. What is called
            ``constraint`` and is a comparison, or a function, is no parameter.
        when: Conditions by name: values, of other parameters that stand before it, with which it is there.
        constraint: An expression (:mod:`swarm.space.constraint`), a function of a configuration that returns True or
            False, or several of them.

    Raises:
        InvalidSpace: A name is none or there twice, a value is neither domain nor plain, every parameter is
            fixed, a condition can never hold, a constraint cannot be read, or hardly any configuration satisfies it.

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

    _constraints: tuple[Constraint, ...] = ()  # an earlier version pickled none

    def __init__(self, parameters: Parameters, when: Conditions | None = None, constraint: Any = None) -> None:
        found = parts_of(parameters, data=False)
        self._set_up(found.parameters, when or {}, found.constraints, constraint)

    def _set_up(self, parameters: Mapping[str, Any], when: Conditions, within: list[Any], beside: Any) -> None:
        """Take in the parts: constraints stand within the parameters, or beside them."""
        self._domains: dict[str, Domain | Value] = {}
        for name, value in parameters.items():
            data = value if isinstance(value, Domain) else plain_data(value)
            if not isinstance(data, Domain) and (is_described(data) or not is_value(data)):
                raise InvalidSpace(
                    f"{name}: {value!r} is no domain and no plain value to be fixed (None, a boolean, finite number or "
                    "text, or a list, tuple or dictionary of these): use Integer, Real or Choice (Space.parse for "
                    "plain data)"
                )
            self._domains[name] = data if isinstance(data, Domain) else settled(data)
        self._searched = [(name, d) for name, d in self._domains.items() if isinstance(d, Domain)]
        if not self._searched:
            raise InvalidSpace("there is nothing to search: give a parameter an Integer, Real or Choice")
        order = {name: i for i, name in enumerate(self._domains)}
        self._when = {name: self._conditions(name, conditions, order) for name, conditions in when.items()}
        names = list(self._domains)
        self._constraints = (*constraints_of(within or None, names), *constraints_of(beside, names))
        if self._constraints:
            self._check_constraints()

    def _check_constraints(self) -> None:
        if CONSTRAINT in self._domains:
            raise InvalidSpace(f"{CONSTRAINT}: a space that has constraints has no parameter of that name: rename it")
        if any(isinstance(each, Function) and each.function is None for each in self._constraints):
            return  # whoever asks for a configuration is told
        self.sample(np.random.default_rng(0))  # refuses, if there are hardly any
        known = self.defaults()
        if known is not None and (refusal := self.refusal(known)) is not None:
            raise InvalidSpace(f"the defaults {known!r}: {refusal}: give others")

    @classmethod
    def parse(cls, data: Space | Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Space:
        """The space that plain data from a job file describes; domains as objects are welcome among it.

        ::

            {"filters": {"integer": [1, 48], "default": 24}, "lr": {"real": [1e-4, 1e-1], "log": True},
             "units": {"integer": [16, 256], "step": 16}, "depth": {"choice": [None, 4, 8]},
             "kernel": {"choice": [{"tuple": [3, 3]}, {"tuple": [5, 5]}]}, "batch": 128, "layers": [64, 32],
             "model": {"activation": {"choice": ["relu", "tanh"]}}, "constraint": "filters <= units"}

        A tuple is written as above, since JSON and YAML have none, and a fixed dictionary as ``{"fixed": {…}}`` if it
        would be taken for a domain.

        Raises:
            InvalidSpace: As :class:`Space`, or the data does not read like this.
        """
        if isinstance(data, Space):
            return data
        found = parts_of(data, data=True)
        space = cls.__new__(cls)
        when = {name: _listed(conditions) for name, conditions in found.when.items()}
        space._set_up(found.parameters, when, found.constraints, None)
        return space

    def to_dict(self) -> dict[str, Any]:
        """The space as plain JSON-ready data; :meth:`parse` reads it back, but for functions that are constraints."""
        when = {
            name: {"when": {other: list(map(as_json, v)) for other, v in each.items()}}
            for name, each in self._when.items()
        }
        data = {
            name: v.to_dict() | when.get(name, {}) if isinstance(v, Domain) else _fixed(v)
            for name, v in self._domains.items()
        }
        given = [{"function": c.text} if isinstance(c, Function) else c.text for c in self._constraints]
        return data | ({CONSTRAINT: given[0] if len(given) == 1 else given} if given else {})

    def constrained(self, constraint: Any) -> Space:
        """The same space with further constraints.

        Args:
            constraint: As for :class:`Space`; None is none.

        Raises:
            InvalidSpace: As :class:`Space`.
        """
        if constraint is None:
            return self
        space = Space.__new__(Space)
        space._set_up(self._domains, self._when, list(self._constraints), constraint)
        return space

    def rewritten(self, write: Callable[[Function], Constraint]) -> Space:
        """The same space with others for the constraints that are functions, and at hand.

        Args:
            write: Says which other.
        """
        if not any(isinstance(each, Function) and each.function is not None for each in self._constraints):
            return self
        constraints = [
            write(each) if isinstance(each, Function) and each.function is not None else each
            for each in self._constraints
        ]
        space = Space.__new__(Space)
        space._set_up(self._domains, self._when, constraints, None)
        return space

    def __repr__(self) -> str:
        when = f", when={self._when!r}" if self._when else ""
        constraint = f", constraint={[each.text for each in self._constraints]!r}" if self._constraints else ""
        return f"Space({self._domains!r}{when}{constraint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @property
    def _text(self) -> str:
        return json.dumps(list(self.to_dict().items()))

    @property
    def domains(self) -> Mapping[str, Domain | Value]:
        """Every parameter with its domain or fixed value, in order."""
        return MappingProxyType(self._domains)

    @property
    def conditions(self) -> Mapping[str, Mapping[str, tuple[Value, ...]]]:
        """Of each parameter with a condition the values, by the names of other parameters, with which it is there."""
        return MappingProxyType(self._when)

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What a configuration has to satisfy."""
        return self._constraints

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

        With conditions some of them are one and the same configuration, which is trained once; some may be refused by
        constraints.
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

        Where a constraint refuses it, it is one near by, the same each time.

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
        found = self.unconstrained(position)
        return found if self.allows(found) else repaired(self, position)

    def unconstrained(self, vector: ArrayLike) -> dict[str, Value]:
        """The configuration at a position (d,) of numbers, also if a constraint refuses it."""
        numbers = np.asarray(vector, dtype=float).tolist()
        return self.active(self._filled(d.decode(u) for (_, d), u in zip(self._searched, numbers, strict=True)))

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random configuration: integers and options equally likely, reals uniform, or their logarithms.

        What a constraint refuses is drawn again.

        Raises:
            InvalidSpace: Constraints refuse 20,000 of them, and what else can be found.
        """
        for _ in range(_DRAWS):
            found = self.active(self._filled(domain.sample(rng) for _, domain in self._searched))
            if self.allows(found):
                return found
        left = Configurations(self, rng) if self.size is not None else iter(())
        if (first := next(left, None)) is None:
            raise InvalidSpace(
                f"hardly any configuration is allowed, none of {_DRAWS} random ones ({self.refusal(found)}): loosen "
                "what refuses them, or narrow the domains to where it holds (of two that add up, search one and "
                "calculate the other in the training)"
            )
        return first

    def at(self, index: int) -> dict[str, Value]:
        """Configuration number ``index`` of a finite space, also if a constraint refuses it.

        The last parameter varies fastest.

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
        if not all(domain.has_default for _, domain in self._searched):
            return None
        return self.active(self._filled(domain.normalised(domain.default) for _, domain in self._searched))

    def active(self, params: Params) -> dict[str, Value]:
        """What of a value for every parameter belongs to the configuration: without those whose conditions fail."""
        if not self._when:
            return dict(params)
        found: dict[str, Value] = {}
        for name, value in params.items():
            if self.belongs(name, found):
                found[name] = value
        return found

    def completed(self, params: Params) -> dict[str, Value]:
        """A value for every parameter: those of the configuration, and defaults or middles for what it is without."""
        if not self._when:
            return dict(params)
        return {
            name: params[name]
            if name in params or not isinstance(domain, Domain)
            else (domain.default if domain.has_default else domain.decode(0.5))
            for name, domain in self._domains.items()
        }

    def allows(self, params: Params) -> bool:
        """Whether a configuration satisfies the constraints."""
        return not self._constraints or self.refusal(params) is None

    def refusal(self, params: Params) -> str | None:
        """Which constraint a configuration does not satisfy, and why; None if it satisfies all."""
        refusals = (each.refusal(params) for each in self._constraints)
        return next((refusal for refusal in refusals if refusal is not None), None)

    def normalised(self, params: Params) -> dict[str, Value]:
        """The configuration in the values that :meth:`decode` gives, so that equal ones have one key.

        2 is 2.0 where the domain is real, an option or a fixed value is written as the space has it, what stands in
        groups has its full name, and what NumPy calculated is a Python value. What does not belong to the space stays
        as it is: :meth:`check` judges it.
        """
        return {
            name: _normalised(self._domains[name], value) if name in self._domains else plain_data(value)
            for name, value in self.ungrouped(params).items()
        }

    def ungrouped(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The configuration under the names that the space has: ``{"model": {"units": 8}}`` as ``model.units``."""
        known = params.keys() <= self._domains.keys()
        return params if known else dict(without_groups(params, self._domains))

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
                raise InvalidSpace(f"{name}: there is no such parameter; {meant(name, self._domains)}")
        for name, domain in self._domains.items():
            wanted = domain if isinstance(domain, Domain) else f"fixed to {domain!r}"
            if not self.belongs(name, params):
                if name in params:
                    raise InvalidSpace(f"{name}: it does not go with {self._condition(name)}: leave it out")
                continue
            if name not in params:
                raise InvalidSpace(f"{name}: there is no value: give it, it is {wanted}")
            value = params[name]
            if not (domain.contains(value) if isinstance(domain, Domain) else is_same(value, domain)):
                raise InvalidSpace(f"{name}: {value!r} is outside of the space: the parameter is {wanted}")
        if self._constraints and (refusal := self.refusal(normal := self.normalised(params))) is not None:
            raise InvalidSpace(f"{normal!r} is outside of the space: {refusal}")

    def belongs(self, name: str, params: Params) -> bool:
        """Whether a parameter belongs to a configuration, of which those before it are known."""
        return all(
            other in params and _told_apart(domain, params[other]) in values
            for other, domain, values in self._tests.get(name, ())
        )

    @cached_property
    def _tests(self) -> dict[str, list[tuple[str, Domain | Value, set[Any]]]]:
        """The conditions, to look values up."""
        return {
            name: [
                (other, self._domains[other], {_told_apart(self._domains[other], value) for value in values})
                for other, values in conditions.items()
            ]
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
            domain = self._domains[other]
            options = _wanted(domain, plain_data(values))
            for value in options:
                if not _may_be(domain, value):
                    raise InvalidSpace(f"{name}: its condition wants {other} to be {value!r}, which it cannot be")
            found[other] = tuple(_normalised(domain, value) for value in options)
        return found

    def _condition(self, name: str) -> str:
        return " and ".join(f"{other} other than {', '.join(map(repr, v))}" for other, v in self._when[name].items())

    def _filled(self, values: Iterable[Value]) -> dict[str, Value]:
        """All parameters in order: the searched ones from ``values``, and the fixed ones."""
        found = iter(values)
        return {name: next(found) if isinstance(v, Domain) else _handed_out(v) for name, v in self._domains.items()}


def _handed_out(value: Value) -> Value:
    """A fixed value as a training may have it, which may change it."""
    return plain_data(value) if isinstance(value, list | tuple | dict) else value


def _normalised(domain: Domain | Value, value: Any) -> Any:
    if isinstance(domain, Domain):
        return domain.normalised(value) if domain.contains(value) else plain_data(value)
    return _handed_out(domain) if is_same(value, domain) else plain_data(value)


def _may_be(domain: Domain | Value, value: Any) -> bool:
    return domain.contains(value) if isinstance(domain, Domain) else is_same(value, domain)


def _wanted(domain: Domain | Value, values: Any) -> list[Any] | tuple[Any, ...]:
    """The values that a condition wants: a list of them, or one, which may be a list itself."""
    if not isinstance(values, list | tuple):
        return [values]
    return [values] if not all(_may_be(domain, value) for value in values) and _may_be(domain, values) else values


def _told_apart(domain: Domain | Value, value: Any) -> Any:
    """What is equal for values that are the same to a condition, and has a place in a set."""
    if isinstance(domain, Choice):
        return domain.place(value)
    if isinstance(domain, Domain):
        value = plain(value)
        return isinstance(value, bool), value if isinstance(value, bool | int | float) else repr(value)
    return is_same(value, domain)


def _fixed(value: Value) -> Any:
    """A fixed value as plain data."""
    return {FIXED: as_json(value)} if isinstance(value, dict) else as_json(value)


def _listed(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions of plain data."""
    return {other: from_json(values) for other, values in conditions.items()}
