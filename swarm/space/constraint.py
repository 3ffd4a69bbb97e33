"""What several parameters have to satisfy together: an expression, or a function of Python.

An expression is text, such as ``units_2 <= units_1``. It is parsed as Python is, and evaluated here, node by node.
There is nothing in it but parameters, values, comparisons, arithmetic, ``and``, ``or``, ``not``, ``if``, ``in``, items
of lists and dictionaries, and a few functions. It is never run as code.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from swarm.errors import InvalidSpace
from swarm.plain import plain, plain_data

LONGEST = 1000
"""Characters of an expression."""
MOST = 100
"""Constraints of a space."""
_DEEPEST = 50  # operators in each other
_BITS = 4096  # of a whole number on the way
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "None", "True", "False"}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{"abs": abs, "len": len, "max": max, "min": min, "sum": sum},
    "round": lambda number, digits=0: round(number, max(-20, min(digits, 20))),  # others take long
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    **{ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_},
}
_HINT = "write a comparison of hyper-parameters, such as units_2 <= units_1"
_FAILURES = (TypeError, ArithmeticError, LookupError, ValueError)


class Constraint(Protocol):
    """What a configuration has to satisfy."""

    @property
    def text(self) -> str:
        """What it says, for people."""

    @property
    def names(self) -> frozenset[str] | None:
        """The parameters that it is about; None if nobody knows."""

    def refusal(self, params: Mapping[str, Any]) -> str | None:
        """Why a configuration does not satisfy it; None if it does."""


@dataclass(frozen=True)
class Expression:
    """A comparison of parameters, as text.

    It says nothing of a configuration that is without one of its parameters, because of that one's condition. A
    configuration of which it cannot be calculated, since 3 is not less than a text, does not satisfy it.

    Attributes:
        text: The text.
        names: The parameters in it.
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(repr=False, compare=False)
    _parameters: Mapping[str, str] = field(repr=False, compare=False)  # by their names in the tree

    @classmethod
    def of(cls, text: str, known: Iterable[str]) -> Expression:
        """The expression of a text.

        Args:
            text: The text.
            known: Names of all parameters.

        Raises:
            InvalidSpace: It is none, or has in it what it must not.
        """
        text, known = " ".join(text.split()), tuple(known)
        if len(text) > LONGEST:
            raise InvalidSpace(f"constraint {text[:40]!r}… has {len(text)} characters, and {LONGEST} are allowed")
        prefix = "p"
        while prefix in text:
            prefix += "_"
        places = {name: f"{prefix}{i}_" for i, name in enumerate(known)}
        try:
            tree = ast.parse(renamed(text, places), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            raise InvalidSpace(f"constraint {text!r} cannot be read ({reason}): {_HINT}") from None
        parameters = {place: name for name, place in places.items()}
        found = _Checked(text, parameters).names(tree)
        return cls(text, frozenset(found), tree, {place: name for place, name in parameters.items() if name in found})

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self.text, "names": sorted(self.names)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(Expression.of(state["text"], state["names"])))

    def refusal(self, params: Mapping[str, Any]) -> str | None:
        """Why a configuration does not satisfy it; None if it does."""
        if not self.names <= params.keys():
            return None
        try:
            holds = _value(self._tree, {place: params[name] for place, name in self._parameters.items()})
        except _FAILURES as error:
            return f"constraint {self.text!r} cannot be calculated: {error}"
        return None if holds else f"constraint {self.text!r} does not hold"


@dataclass(frozen=True)
class Function:
    """A function of Python that says whether a configuration is allowed.

    Attributes:
        function: The function, of a dictionary; None where the script is not that has it.
        text: Its name.
    """

    function: Callable[[dict[str, Any]], Any] | None = field(compare=False)
    text: str

    @property
    def names(self) -> None:
        """None: nobody knows what it looks at."""

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(f"constraint {self.text} is a function, which only its script has")

    def refusal(self, params: Mapping[str, Any]) -> str | None:
        """Why a configuration does not satisfy it; None if it does.

        Raises:
            InvalidSpace: The function fails, or is not there.
        """
        if self.function is None:
            raise InvalidSpace(
                f"constraint {self.text} is a function of Python, which only the script that made the job has: run "
                "that script, or write the constraint as an expression, which is text"
            )
        given = plain_data(dict(params))
        try:
            holds = plain(self.function(given))
        except Exception as error:
            raise InvalidSpace(
                f"constraint {self.text} fails on {dict(params)!r}: {type(error).__name__}: {error}; mend it (a "
                "parameter whose condition does not hold is not there)"
            ) from error
        if not isinstance(holds, bool):
            raise InvalidSpace(f"constraint {self.text} is {holds!r} on {dict(params)!r}: return True or False")
        return None if holds else f"constraint {self.text} does not hold"


def constraints_of(given: Any, known: Sequence[str]) -> tuple[Constraint, ...]:
    """The constraints that a user gives: one or a list of texts and functions.

    Args:
        given: What is given; None is none.
        known: Names of all parameters.

    Raises:
        InvalidSpace: One of them is none.
    """
    if given is None:
        return ()
    each = list(given) if isinstance(given, list | tuple) else [given]
    if len(each) > MOST:
        raise InvalidSpace(f"constraint: {len(each)} of them, and {MOST} are allowed: join some with and")
    return tuple(_constraint(one, known) for one in each)


def _constraint(given: Any, known: Sequence[str]) -> Constraint:
    if isinstance(given, str):
        return Expression.of(given, known)
    if isinstance(given, Expression | Function):
        return given
    if isinstance(given, Mapping) and set(given) == {"function"} and isinstance(given["function"], str):
        return Function(None, given["function"])
    if callable(given):
        return Function(given, getattr(given, "__qualname__", type(given).__qualname__))
    raise InvalidSpace(f"constraint is {given!r}: {_HINT}, or a list of such texts")


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text of an expression with other names for its parameters.

    Args:
        text: The text.
        names: Other names by those that it has. The longest fits: ``a-b`` is the parameter of that name, if there is
            one, and ``a - b`` the difference.
    """
    known = [name for name in sorted(names, key=len, reverse=True) if name not in _WORDS]
    if not known:
        return text
    called = [rf"{re.escape(name)}(?!\s*\()" if name in _FUNCTIONS else re.escape(name) for name in known]
    pattern = rf"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?<![\w.])({"|".join(called)})(?![\w.])"""
    return re.sub(pattern, lambda match: match[1] or names[match[2]], text)


@dataclass(frozen=True, slots=True)
class _Checked:
    """Looks through a parsed text for what an expression may not have.

    Attributes:
        text: The text, for the error.
        parameters: Parameters by their names in the tree.
    """

    text: str
    parameters: Mapping[str, str]

    def names(self, tree: ast.expr) -> set[str]:
        """The parameters in it."""
        if not isinstance(tree, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.IfExp | ast.Name | ast.Attribute):
            raise self._error(f"is no comparison: {_HINT}")
        found: set[str] = set()
        level: list[ast.expr] = [tree]
        for _ in range(_DEEPEST):
            parts = [part for node in level for part in self._parts(node)]
            found |= {self.parameters[node.id] for node in level if isinstance(node, ast.Name)}
            level = parts
            if not level:
                break
        else:
            raise self._error("has too many operators in each other: write several constraints")
        if not found:
            raise self._error(f"names no hyper-parameter: {_HINT}")
        return found

    def _parts(self, node: ast.expr) -> list[ast.expr]:
        """What a part consists of; refuses what is no part of an expression."""
        if isinstance(node, ast.Name | ast.Attribute):
            if isinstance(node, ast.Name) and node.id in self.parameters:
                return []
            raise self._unknown(ast.unparse(node))
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords:
                raise self._error(f"calls {ast.unparse(node.func)}: there are only {', '.join(_FUNCTIONS)}")
            return node.args
        if type(node) not in _VALUES or not all(map(_is_plain, _details(node))):
            raise self._error(f"has {ast.unparse(node)!r} in it, which is no part of a comparison: {_HINT}")
        if isinstance(node, ast.Compare):
            for op, other in zip(node.ops, node.comparators, strict=True):
                if isinstance(op, ast.Is | ast.IsNot) and not isinstance(other, ast.Constant):
                    raise self._error("says is of something other than None, True and False: write ==")
        return [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]

    def _error(self, reason: str) -> InvalidSpace:
        return InvalidSpace(f"constraint {self.text!r} {reason}")

    def _unknown(self, name: str) -> InvalidSpace:
        known = list(self.parameters.values())
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}; texts are written 'so'"
        return self._error(f"has {name!r} in it, which is no hyper-parameter: {hint}")


# --- what it is worth


def _details(node: ast.expr) -> list[Any]:
    """What a node holds beside other expressions: operators, constants."""
    return [part for _, value in ast.iter_fields(node) for part in (value if isinstance(value, list) else [value])]


def _is_plain(detail: Any) -> bool:
    """Whether an expression may have it."""
    if isinstance(detail, ast.operator | ast.cmpop | ast.unaryop):
        return type(detail) in _ARITHMETIC or type(detail) in _COMPARISONS or type(detail) in _SIGNS
    if isinstance(detail, ast.AST):
        return not isinstance(detail, ast.Slice | ast.Starred)
    return detail is None or isinstance(detail, bool | int | float | str)


def _value(node: ast.expr, params: Mapping[str, Any]) -> Any:
    """The value of a part of an expression that was looked through."""
    return _VALUES[type(node)](node, params)


def _several(nodes: Iterable[ast.expr], params: Mapping[str, Any]) -> list[Any]:
    return [_value(node, params) for node in nodes]


def _joined(node: ast.BoolOp, params: Mapping[str, Any]) -> bool:
    decides = any if isinstance(node.op, ast.Or) else all
    return decides(_value(part, params) for part in node.values)


def _signed(node: ast.UnaryOp, params: Mapping[str, Any]) -> Any:
    value = _value(node.operand, params)
    return not value if isinstance(node.op, ast.Not) else _SIGNS[type(node.op)](_number(value))


def _compared(node: ast.Compare, params: Mapping[str, Any]) -> bool:
    left = _value(node.left, params)
    for op, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, params)
        if not _COMPARISONS[type(op)](left, right):
            return False
        left = right
    return True


def _calculated(op: type[ast.operator], one: Any, other: Any) -> Any:
    """Numbers only, and none that takes long: a text times a million, or 9 ** 9 ** 9."""
    _number(one), _number(other)
    if isinstance(one, int) and isinstance(other, int):
        bits = one.bit_length() * other if op is ast.Pow else one.bit_length() + other.bit_length()
        if bits > _BITS:
            raise OverflowError("a number in it is too large")
    return _ARITHMETIC[op](one, other)


_VALUES: dict[type[ast.expr], Callable[[Any, Mapping[str, Any]], Any]] = {
    ast.Name: lambda node, params: params[node.id],
    ast.Constant: lambda node, _: node.value,
    ast.Compare: _compared,
    ast.BoolOp: _joined,
    ast.UnaryOp: _signed,
    ast.BinOp: lambda node, params: _calculated(type(node.op), *_several([node.left, node.right], params)),
    ast.IfExp: lambda node, params: _value(node.body if _value(node.test, params) else node.orelse, params),
    ast.List: lambda node, params: _several(node.elts, params),
    ast.Tuple: lambda node, params: tuple(_several(node.elts, params)),
    ast.Subscript: lambda node, params: _value(node.value, params)[_value(node.slice, params)],
    ast.Call: lambda node, params: _FUNCTIONS[node.func.id](*_several(node.args, params)),
}
"""What each kind of node is worth; an expression has no others."""


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value
