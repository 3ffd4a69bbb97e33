"""Code as text that is equal for equal behaviour: without comments, docstrings, annotations and layout."""

from __future__ import annotations

import ast
import dis
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

_NO_FIELD = frozenset({"annotation", "returns", "type_comment", "type_ignores", "type_params", "kind", "ctx"})
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, tuple, type(Ellipsis))
_NO_INSTRUCTION = frozenset({"NOP", "CACHE", "RESUME", "PRECALL", "EXTENDED_ARG"})


def dump(node: ast.AST, *, decorated: bool = False) -> str:
    """A syntax tree as text, without what does not run: positions, annotations, docstrings and other lone constants.

    Args:
        node: The tree.
        decorated: With the decorators of a function itself; without, where what they made of it is looked at.
    """
    parts: list[str] = []
    _write(node, parts, top=not decorated)
    return " ".join(parts)


def _write(node: Any, parts: list[str], *, top: bool = False, in_class: bool = False) -> None:
    if isinstance(node, ast.AnnAssign) and not in_class:
        if node.value is None:
            return
        node = ast.Assign(targets=[node.target], value=node.value)
    if isinstance(node, ast.AST):
        parts.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if name in _NO_FIELD or value is None or value == [] or (top and name == "decorator_list"):
                continue
            if isinstance(value, list) and name in ("body", "orelse", "finalbody"):
                value = [each for each in value if _runs(each)]  # noqa: PLW2901
            if isinstance(node, ast.ImportFrom | ast.alias) and isinstance(value, str):
                value = _as_ever(value)  # noqa: PLW2901
            parts.append(name)
            _write(value, parts, in_class=isinstance(node, ast.ClassDef))
        parts.append(")")
    elif isinstance(node, list):
        for each in node:
            _write(each, parts, in_class=in_class)
        parts.append(";")
    else:
        parts.append(f"{type(node).__name__} {node!r}")


def _as_ever(name: str) -> str:
    """The name of a module of ours that has always stood for it in fingerprints."""
    return name.removeprefix("swarm.") if f"{name}.".startswith("swarm.workers.") else name


def _runs(node: Any) -> bool:
    """Whether a statement does anything when it runs."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    checking = isinstance(node, ast.If) and ast.dump(node.test).find("'TYPE_CHECKING'") >= 0
    return not isinstance(node, ast.Pass) and not checking


def paths(node: ast.AST) -> dict[str, set[str]]:
    """Names that are used, each with the attributes that are taken of it, dotted; an empty one is the thing itself."""
    found: dict[str, set[str]] = {}
    inner: set[ast.AST] = set()
    for each in _running(node):
        if each in inner:
            continue
        path: list[str] = []
        base = each
        while isinstance(base, ast.Attribute):
            path.append(base.attr)
            base = base.value
            inner.add(base)
        if isinstance(base, ast.Name) and isinstance(base.ctx, ast.Load):
            found.setdefault(base.id, set()).add(".".join(reversed(path)))
    return found


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a tree but for annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in _NO_FIELD:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield from _running(each)


def is_open(taken: Mapping[str, set[str]]) -> bool:
    """Whether code that takes these names may use any other one of its module, too, by its text."""
    by_module = any(path.partition(".")[0] == "modules" for path in taken.get("sys", ()))
    return by_module or bool({"globals", "eval", "exec"} & taken.keys())


def all_codes(code: CodeType) -> Iterator[CodeType]:
    """Code, and that of the functions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from all_codes(constant)


def global_names(code: CodeType) -> set[str]:
    """Global names that code refers to, with the functions and classes inside it."""
    return {
        instruction.argval
        for each in all_codes(code)
        for instruction in dis.get_instructions(each)
        if "GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME"
    }


def instructions(code: CodeType) -> Iterator[object]:
    """Code of which there is no source, as what each instruction does; lines and docstrings do not count."""
    yield code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags & 0xC, code.co_varnames
    steps = [each for each in dis.get_instructions(code) if each.opname not in _NO_INSTRUCTION]
    for each in steps:
        value = each.argval
        if isinstance(value, CodeType):
            yield each.opname, list(instructions(value))
        elif each.opcode in dis.hasjrel or each.opcode in dis.hasjabs:
            yield each.opname, sum(step.offset < value for step in steps)  # where to, as a number of instructions
        elif isinstance(value, frozenset):
            yield each.opname, sorted(map(repr, value))
        else:
            yield each.opname, type(value).__name__, repr(value) if isinstance(value, _CONSTANTS) else each.argrepr


# --- looking at a syntax tree


def dotted(*parts: str) -> str:
    """A dotted name of those parts that are not empty."""
    return ".".join(filter(None, parts))


def last_name(node: ast.AST) -> str:
    """The last part of a name, dotted or not; empty for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def known_text(node: ast.AST) -> tuple[str, bool]:
    """The text that an expression is known to begin with, and whether that is all of it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value, True
    if isinstance(node, ast.JoinedStr) and node.values:
        return known_text(node.values[0])[0], False
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return known_text(node.left)[0].partition("%")[0], False
    return "", False


def is_guard(node: ast.stmt) -> bool:
    """Whether a statement is ``if __name__ == "__main__":``."""
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    texts = [side.value for side in sides if isinstance(side, ast.Constant)]
    return "__main__" in texts and "__name__" in map(last_name, sides)


def bound_by(node: ast.AST) -> Iterator[str]:
    """Names that a statement binds where it stands, not inside of functions and classes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    if isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from bound_by(child)


def beginning(node: ast.AST) -> tuple[str, int] | None:
    """Name and first line of a function, as its code has them; None for anything else."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return None


def covers(node: ast.AST, code: CodeType) -> bool:
    """Whether this code's instructions stand within a lambda, and in none of the lambdas inside it."""
    begin, end = _span(node)
    inner = [_span(each) for each in ast.walk(node) if isinstance(each, ast.Lambda) and each is not node]
    for line, last, column, until in code.co_positions():
        if line is None or last is None or column is None or until is None or (line, column) == (last, until):
            continue
        first, past = (line, column), (last, until)
        if not (begin <= first and past <= end) or any(b <= first and past <= e for b, e in inner):
            return False
    return True


def _span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    each: Any = node
    return (each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset)
