"""Global values that an import elsewhere would not give their names: these travel with a job, the others do not.

What a module computes is computed where the training runs, such as whether there is a GPU. Not so what was set or
filled since the import, and what depends on arguments, the environment, the time or chance.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from swarm.own_modules import MAIN, is_users
from swarm.sources import Source, cells, source_of
from swarm.syntax import bound_by, is_guard, last_name

_SURROUNDINGS = frozenset(
    {"argv", "environ", "getenv", "parse_args", "parse_known_args", "input", "stdin", "getpid", "gethostname"}
    | {"time", "perf_counter", "monotonic", "now", "today", "utcnow"}
    | {"random", "rand", "randn", "randint", "default_rng", "uuid1", "uuid4", "urandom"}
)
_FILLING = frozenset(
    {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault"}
    | {"sort", "update"}
)


def is_changed(source: Source, path: str, value: Any) -> bool:
    """Whether to import a module elsewhere would not give a name this value, as far as can be seen.

    Args:
        source: The module's source.
        path: A name of its top level, or ``Class.attribute``.
        value: The value here and now.
    """
    statement = source.statement(path)
    if statement is None:
        return not any(each.attribute == "*" for each in source.imports())
    others = [each for each in (source, source_of(MAIN), *cells()) if each is not None]
    name = path.rpartition(".")[2]
    if any(name in _rebound(each) for each in others):
        return True
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        plain = isinstance(value, FunctionType) and not statement.decorator_list
        return plain and source.function(value.__code__) is not statement
    if isinstance(statement, ast.ClassDef | ast.Import | ast.ImportFrom):
        return isinstance(statement, ast.ImportFrom) and _is_changed_there(source, statement, path, value)
    literal = _literal(statement)
    if any(name in _filled(each) for each in others):
        return literal is None or not _alike(literal[0], value)
    return _depends(source, statement, set()) if literal is None else not _alike(literal[0], value)


def _is_changed_there(source: Source, statement: ast.ImportFrom, name: str, value: Any) -> bool:
    each = next((each for each in source.imports(statement) if each.bound == name), None)
    near = source_of(each.module) if each is not None and is_users(each.module) else None
    return each is not None and near is not None and is_changed(near, each.attribute or "", value)


def depends(source: Source, path: str) -> bool:
    """Whether a name's value depends on arguments, the environment, the time or chance."""
    statement = source.statement(path)
    computed = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.If | ast.Try | ast.With | ast.For)
    return statement is not None and computed and _depends(source, statement, set())


def _depends(source: Source, node: ast.AST, seen: set[str]) -> bool:
    for each in ast.walk(node):
        if (name := last_name(each)) in _SURROUNDINGS:
            return True
        if isinstance(each, ast.Name) and name in source.bindings and name not in seen:
            seen.add(name)
            if any(_depends(source, statement, seen) for statement in source.bindings[name]):
                return True
    return False


def _literal(statement: ast.stmt) -> tuple[Any] | None:
    """The value that an assignment writes out; None if it is computed."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return None
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    try:
        return (ast.literal_eval(statement.value),) if isinstance(targets[0], ast.Name) else None
    except (ValueError, TypeError, SyntaxError, MemoryError):
        return None


def _alike(literal: Any, value: Any) -> bool:
    if type(literal) is not type(value):
        return False
    return repr(literal) == repr(value) or (isinstance(literal, set | frozenset) and bool(literal == value))


# --- what happens to names after the import


@functools.lru_cache(maxsize=1024)
def _rebound(source: Source) -> frozenset[str]:
    """Names that get another value: in functions, below the main guard, from other modules."""
    return frozenset(_rebinding(source.tree))


def _rebinding(tree: ast.Module) -> Iterator[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {name for node in imports for name in bound_by(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            root = _root(node)
            if root in imported or root[:1].isupper():  # of a module, or of a class
                yield node.attr
        elif isinstance(node, ast.Call) and last_name(node.func).endswith("setattr"):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            yield from (text.rpartition(".")[2] for text in texts if isinstance(text, str))
    for statement in tree.body:
        if is_guard(statement):
            yield from bound_by(statement)


@functools.lru_cache(maxsize=1024)
def _filled(source: Source) -> frozenset[str]:
    """Names whose value is perhaps changed in place."""
    found: set[str] = set()
    typed = source.name == MAIN and not source.path.endswith(".py")
    for statement in source.tree.body:
        if typed or is_guard(statement):
            found |= set(_filling(statement, by_any_method=True))
            for name in _called(source, statement, set()):
                found |= {root for each in source.bindings[name] for root in _filling(each, by_any_method=True)}
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found |= set(_filling(statement))
    return frozenset(found)


def _filling(block: ast.stmt, *, by_any_method: bool = False) -> Iterator[str]:
    """Names whose value a block changes in place; of something in a module, its name there, too."""
    for node in ast.walk(block):
        target: ast.AST | None = None
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value if by_any_method or node.func.attr in _FILLING else None
        while isinstance(target, ast.Attribute | ast.Subscript):
            yield last_name(target)
            target = target.value
        yield from () if target is None else [last_name(target)]


def _called(source: Source, block: ast.AST, seen: set[str]) -> set[str]:
    """Functions of the top level that a block calls, and those that these call."""
    for node in ast.walk(block):
        name = last_name(node.func) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if name in source.bindings and name not in seen:
            seen.add(name)
            for statement in source.bindings[name]:
                _called(source, statement, seen)
    return seen


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return last_name(node)
