"""Global values that an import elsewhere would not give their names: these travel with a job, the others do not.

What a module computes is computed where the training runs, such as whether there is a GPU. Not so what was set or
filled since the import, and what depends on arguments, the environment, the time or chance.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from swarm.code.own_modules import MAIN, is_users
from swarm.code.ran import Ran
from swarm.code.sources import Source, cells, source_of
from swarm.code.syntax import bound_by, is_guard, last_name

_SURROUNDINGS = frozenset(
    {"argv", "environ", "getenv", "parse_args", "parse_known_args", "input", "stdin", "getpid", "gethostname"}
    | {"expandvars", "time", "time_ns", "perf_counter", "monotonic", "now", "today", "utcnow", "strftime", "localtime"}
    | {"random", "rand", "randn", "randint", "randrange", "default_rng", "RandomState", "uniform", "normal", "gauss"}
    | {"choice", "choices", "sample", "shuffle", "permutation", "uuid1", "uuid4", "urandom", "token_hex"}
)
_now: list[Ran] = []  # what ran here, once it was asked for


def refresh() -> None:
    """Look again at what ran here from now on."""
    _now.clear()


def is_changed(source: Source, path: str, value: Any) -> bool:
    """Whether to import a module elsewhere would not give a name this value, as far as can be seen.

    Args:
        source: The module's source.
        path: A name of its top level, or ``Class.attribute``.
        value: The value here and now.
    """
    owner, _, name = path.rpartition(".")
    if name in ("__defaults__", "__kwdefaults__"):
        return _are_changed(source, owner, value)
    statement = source.statement(path)
    if statement is None:
        return not any(each.attribute == "*" for each in source.imports())
    others = [each for each in (source, source_of(MAIN), *cells()) if each is not None]
    if name in _ran().rebound or any(name in _rebound(each) for each in others):
        return True
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        plain = isinstance(value, FunctionType) and not statement.decorator_list
        return plain and source.function(value.__code__) is not statement
    if isinstance(statement, ast.ClassDef | ast.Import | ast.ImportFrom):
        return isinstance(statement, ast.ImportFrom) and _is_changed_there(source, statement, path, value)
    literal = _literal(statement)
    return _is_other(source, path, statement, value) if literal is None else not _alike(literal[0], value)


def _is_other(source: Source, path: str, statement: ast.stmt, value: Any) -> bool:
    """Whether a computed value has perhaps been changed, or would be computed differently elsewhere."""
    ran = _ran()
    touched = (source.name, path.partition(".")[0]) in ran.mentioned and not _is_fixed(value)
    return touched or source.name in ran.whole or _depends(source, path, statement)


def _are_changed(source: Source, function: str, values: Any) -> bool:
    """Whether a function would be given other defaults elsewhere."""
    statement = source.statement(function)
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) or statement.decorator_list:
        return False
    written = statement.args.kw_defaults if isinstance(values, dict) else statement.args.defaults
    nodes = [each for each in written if each is not None]
    for node, value in zip(nodes, values.values() if isinstance(values, dict) else values, strict=False):
        literal = _written(node)
        if _reads(source, node, set()) or (literal is not None and not _alike(literal[0], value)):
            return True
    return False


def _ran() -> Ran:
    if not _now:
        _now.append(Ran())
    return _now[0]


def _is_fixed(value: Any) -> bool:
    """Whether a value cannot be changed in place: equal ones are interchangeable."""
    try:
        by_value = "__eq__" in {name for base in type(value).__mro__[:-1] for name in vars(base)}
        return by_value and isinstance(hash(value), int) and value.__eq__(value) is True
    except Exception:  # it has no hash
        return False


def _is_changed_there(source: Source, statement: ast.ImportFrom, name: str, value: Any) -> bool:
    each = next((each for each in source.imports(statement) if each.bound == name), None)
    near = source_of(each.module) if each is not None and is_users(each.module) else None
    if near is source or isinstance(value, ModuleType):  # from . import module
        return False
    return each is not None and near is not None and is_changed(near, each.attribute or "", value)


def depends(source: Source, path: str) -> bool:
    """Whether a name's value depends on arguments, the environment, the time or chance."""
    statement = source.statement(path)
    computed = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.If | ast.Try | ast.With | ast.For)
    return statement is not None and computed and _depends(source, path, statement)


def _depends(source: Source, path: str, statement: ast.stmt) -> bool:
    seen = {(source.name, path)}
    parts = [statement, *source.filling(path.partition(".")[0])]
    return any(_reads(source, part, seen) for part in parts)


def _reads(source: Source, node: ast.AST, seen: set[tuple[str, str]]) -> bool:
    """Whether a part of a source, or what it uses of own modules, reads what differs from run to run."""
    if any(last_name(each) in _SURROUNDINGS for each in ast.walk(node)):
        return True
    used = set(source.mentions(node))
    for module, name in sorted(used):
        if (module, name) in seen:
            continue
        seen.add((module, name))
        near = source if module == source.name else source_of(module) if is_users(module) else None
        for statement in [] if near is None else near.bindings.get(name, []) + near.filling(name):
            if near is not None and _reads(near, statement, seen):
                return True
    return False


def _literal(statement: ast.stmt) -> tuple[Any] | None:
    """The value that an assignment writes out; None if it is computed."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return None
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return _written(statement.value) if isinstance(targets[0], ast.Name) else None


def _written(node: ast.AST) -> tuple[Any] | None:
    try:
        return (ast.literal_eval(node),)
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


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return last_name(node)
