"""A function that says whether a configuration is allowed, written as the expression that it is, if it is one.

What is text can be stored and read by everybody; a function only its script has.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from swarm.code.sources import source_of_code
from swarm.errors import InvalidSpace
from swarm.space.constraint import Expression
from swarm.space.values import is_value

_STARRED = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


def expression_of(function: Callable[..., Any], known: Iterable[str]) -> Expression | None:
    """The expression of a function whose one line compares ``params["name"]``, or None if it does something else.

    Args:
        function: The function, of a dictionary.
        known: Names of all parameters.
    """
    code = getattr(function, "__code__", None)
    if code is None or code.co_argcount != 1 or code.co_kwonlyargcount or code.co_flags & _STARRED:
        return None
    source = source_of_code(code, getattr(function, "__module__", None))
    node = None if source is None else source.function(code)
    body = _returned(node)
    if body is None:
        return None
    known = tuple(known)
    written = _Written(code.co_varnames[0], known, _values(function, code))
    with contextlib.suppress(_OtherwiseError, InvalidSpace):
        found = Expression.of(ast.unparse(written.visit(copy.deepcopy(body))), known)
        return found if found.names == written.names else None
    return None


def _returned(node: ast.AST | None) -> ast.expr | None:
    """What a function returns, if it does nothing else."""
    if isinstance(node, ast.Lambda):
        return node.body
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return None
    said = [each for each in node.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    last = said[0] if len(said) == 1 else None
    return last.value if isinstance(last, ast.Return) else None


def _values(function: Any, code: Any) -> dict[str, Any]:
    """Values of the names that a function takes from outside."""
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=False))
    found = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    with contextlib.suppress(ValueError):  # a cell that is empty yet
        found |= {name: cell.cell_contents for name, cell in cells.items()}
    return found


class _OtherwiseError(Exception):
    """There is something in it that no expression has."""


class _Written(ast.NodeTransformer):
    """Writes ``params["name"]`` as the name, and plain values of names from outside in their places.

    Args:
        params: What the function calls its configuration.
        known: Names of all parameters.
        values: Values of other names.

    Attributes:
        names: The parameters that were met.
    """

    def __init__(self, params: str, known: Iterable[str], values: dict[str, Any]) -> None:
        self._params, self._known, self._values = params, set(known), values
        self.names: set[str] = set()

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """``params["name"]``, or an item of something else."""
        if not (isinstance(node.value, ast.Name) and node.value.id == self._params):
            return self.generic_visit(node)
        name = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if name not in self._known or not isinstance(name, str):
            raise _OtherwiseError
        self.names.add(name)
        return ast.Name(name)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A function of Python, or a plain value."""
        if node.id in self._values:
            if not is_value(self._values[node.id]):
                raise _OtherwiseError
            return ast.parse(repr(self._values[node.id]), mode="eval").body
        if node.id == self._params or not hasattr(builtins, node.id) or node.id in self._known:
            raise _OtherwiseError
        return node
