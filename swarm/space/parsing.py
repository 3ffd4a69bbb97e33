"""What a user writes for a space, and the parameters, conditions and constraints that it stands for.

Parameters may stand in groups, ``{"model": {"units": Integer(4, 64)}}``: they are called by all names on the way, with
dots in between, ``model.units``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.errors import InvalidSpace
from swarm.plain import from_json, plain_data
from swarm.space.base import Domain
from swarm.space.constraint import Expression, Function, renamed
from swarm.space.domain import Choice, Integer, Real

CONSTRAINT = "constraint"
"""Name of what is no parameter, if what stands there is a comparison or a function."""
FIXED = "fixed"
"""Key of a fixed value that would be read as something else."""

_KINDS: dict[str, tuple[type[Domain], set[str]]] = {
    "integer": (Integer, {"log", "step", "default", "when"}),
    "real": (Real, {"log", "digits", "step", "default", "when"}),
    "choice": (Choice, {"default", "when"}),
}
_FORMS = {"integer": "[low, high]", "real": "[low, high]", "choice": "a list of options"}
_OPTIONS = set().union(*(options for _, options in _KINDS.values()))
_DEEPEST = 20  # groups in each other
_NAME = re.compile(r"[^\W\d][\w-]*(\.[\w-]+)*")
_COMPARES = re.compile(r"[<>=!()]|\b(and|or|not|in|is)\b")


@dataclass
class Parts:
    """What a space is made of.

    Attributes:
        parameters: Domains and fixed values by name, in order.
        when: Conditions by name.
        constraints: Texts and functions.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    when: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    constraints: list[Any] = field(default_factory=list)


def parts_of(given: Any, *, data: bool) -> Parts:
    """The parts of a space.

    Args:
        given: A mapping, or pairs.
        data: Whether mappings in it may be plain data that describe a domain.

    Raises:
        InvalidSpace: There is no sense in it.
    """
    found = Parts()
    scopes: list[tuple[str, Any]] = []  # of constraints
    for name, scope, value in _flat(_pairs(given), "", data):
        if name.removeprefix(scope) == CONSTRAINT and _is_constraint(value):
            scopes += [(scope, each) for each in (value if isinstance(value, list | tuple) else [value])]
            continue
        if name in found.parameters:
            raise InvalidSpace(f"{name}: the name is there twice: give every parameter its own")
        if data and isinstance(value, Mapping) and "when" in value and _is_domain(value):
            found.when[name] = value["when"]
        found.parameters[name] = _parsed(name, value) if data else value
    _check_groups(found.parameters)
    found.when = {name: _resolved(name, conditions, found.parameters) for name, conditions in found.when.items()}
    found.constraints = [_scoped(scope, each, found.parameters) for scope, each in scopes]
    return found


def is_described(value: Any) -> bool:
    """Whether plain data describe a domain."""
    return isinstance(value, Mapping) and _is_domain(value) and any(kind in value for kind in _KINDS)


def meant(word: object, known: Iterable[str]) -> str:
    """What to say about an unknown word: the closest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(str(word)[:100], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


# --- groups


def _flat(pairs: Iterable[tuple[Any, Any]], scope: str, data: bool, levels: int = _DEEPEST) -> Iterator[Any]:
    """Names, their scopes, and values."""
    for name, given in pairs:
        _check_name(name, scope)
        value = plain_data(given) if data else given
        if _is_group(value, data):
            if not levels:
                raise InvalidSpace(f"{scope}{name}: there are more than {_DEEPEST} groups in each other: write fewer")
            yield from _flat(value.items(), f"{scope}{name}.", data, levels - 1)
        else:
            yield f"{scope}{name}", scope, value


def without_groups(params: Mapping[Any, Any], names: Collection[str], scope: str = "") -> Iterator[tuple[Any, Any]]:
    """Names and values of a configuration that may stand in groups as its space does.

    Args:
        params: The configuration.
        names: All parameters of the space.
        scope: Groups that it is in, each with a dot.
    """
    for key, value in params.items():
        name = f"{scope}{key}" if scope else key
        is_group = name not in names and any(each.startswith(f"{name}.") for each in names)
        if is_group and isinstance(value, Mapping):
            yield from without_groups(value, names, f"{name}.")
        else:
            yield name, value


def _is_group(value: Any, data: bool, levels: int = _DEEPEST + 1) -> bool:
    """Whether it is a mapping with a domain in it somewhere."""
    if not isinstance(value, Mapping) or (data and _is_domain(value)) or not levels:
        return False
    return any(
        isinstance(each, Domain)
        or (data and isinstance(each, Mapping) and _is_domain(each) and any(kind in each for kind in _KINDS))
        or _is_group(each, data, levels - 1)
        for each in value.values()
    )


def _is_domain(data: Mapping[Any, Any]) -> bool:
    """Whether plain data are to describe a domain, or a fixed value by its key."""
    if set(data) == {FIXED} or data.keys() <= _OPTIONS:
        return not any(_holds_domain(each) for name, each in data.items() if name not in (FIXED, "default", "when"))
    return any(kind in data and not _holds_domain(data[kind]) for kind in _KINDS)


def _holds_domain(value: Any) -> bool:
    return isinstance(value, Domain) or (isinstance(value, Mapping) and (_is_domain(value) or _is_group(value, True)))


def _check_groups(names: Mapping[str, Any]) -> None:
    """Refuse a name that is a parameter, and the beginning of another's."""
    for name in names:
        parts = name.split(".")
        for group in (".".join(parts[:end]) for end in range(1, len(parts))):
            if group in names:
                raise InvalidSpace(f"{group}: it is a parameter and a group, with {name} in it: rename one of them")


def _resolved(name: str, conditions: Any, known: Mapping[str, Any]) -> Any:
    """Conditions whose names may leave out the groups that the parameter is in, too."""
    if not isinstance(conditions, Mapping):
        raise InvalidSpace(f"{name}: when is {conditions!r}: write {{other: [value, …]}}")
    return {_full(other, name, known): values for other, values in conditions.items()}


def _full(other: Any, name: str, known: Mapping[str, Any]) -> Any:
    groups = name.split(".")[:-1]
    longer = (".".join([*groups[:end], str(other)]) for end in range(len(groups), 0, -1))
    return next((each for each in longer if each in known), other)


def _scoped(scope: str, constraint: Any, known: Mapping[str, Any]) -> Any:
    """A constraint with the full names of parameters, also where it stands in a group."""
    if not scope or not isinstance(constraint, str):
        return constraint
    inside = {name.removeprefix(scope): name for name in known if name.startswith(scope)}
    return renamed(constraint, {**{name: name for name in known}, **inside})


def _is_constraint(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_constraint, value))
    if isinstance(value, str):
        return bool(_COMPARES.search(value))
    if isinstance(value, Mapping):
        return set(value) == {"function"}
    return isinstance(value, Expression | Function) or (callable(value) and not isinstance(value, Domain))


# --- one parameter


def _parsed(name: str, data: Any) -> Any:
    """The domain or fixed value that plain data describe; what is none is left to :class:`Space` to judge."""
    if not isinstance(data, Mapping):
        return data if isinstance(data, Domain) else from_json(data)
    kinds = [kind for kind in _KINDS if kind in data]
    if not _is_domain(data) and not _is_misspelt(data):
        return from_json(dict(data))
    if set(data) == {FIXED}:
        return from_json(data[FIXED])
    known = {*_KINDS, *_OPTIONS} if not kinds else {*kinds, *_KINDS[kinds[0]][1]}
    for key in data:
        if key not in known:
            raise InvalidSpace(f"{name}: unknown key {key!r}; {meant(key, known)}{_unless_fixed(kinds)}")
    if len(kinds) != 1:
        raise InvalidSpace(
            f"{name}: {len(kinds)} domains: give exactly one of integer, real and choice{_unless_fixed(kinds)}"
        )
    kind = kinds[0]
    values, options = data[kind], {key: value for key, value in data.items() if key not in (kind, "when")}
    if not isinstance(values, (list, tuple)) or (kind != "choice" and len(values) != 2):
        raise InvalidSpace(f"{name}: {kind} is {values!r}: write {_FORMS[kind]}")
    try:
        if kind == "choice":
            return Choice(list(map(from_json, values)), **{key: from_json(value) for key, value in options.items()})
        return _KINDS[kind][0](*values, **options)
    except InvalidSpace as error:
        raise InvalidSpace(f"{name}: {error}") from None


def _is_misspelt(data: Mapping[Any, Any]) -> bool:
    """Whether a mapping without a domain looks like one: ``{"integr": [1, 48]}``."""
    lists = [str(key) for key, value in data.items() if isinstance(value, list | tuple)]
    return any(difflib.get_close_matches(key[:100], _KINDS, n=1) for key in lists)


def _unless_fixed(kinds: list[str]) -> str:
    return "" if kinds else f" (a fixed dictionary like this is {{{FIXED}: {{…}}}})"


def _pairs(parameters: Any) -> list[tuple[Any, Any]]:
    if isinstance(parameters, Mapping):
        return list(parameters.items())
    try:
        return [(name, value) for name, value in parameters]
    except (TypeError, ValueError):
        raise InvalidSpace("a space needs names with their domains: give a mapping, or pairs") from None


def _check_name(name: object, scope: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        place = f"{scope[:-1]}: " if scope else ""
        raise InvalidSpace(
            f"{place}{name!r} cannot name a parameter: take a Python identifier, also with - and . in it "
            "(learning-rate, model.units)"
        )
