"""Sources of the user's own modules, and what stands in them: functions, names, imports."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType

from swarm.code.own_modules import MAIN, find, folders, is_ours, is_users, read
from swarm.code.syntax import all_codes, beginning, bound_by, covers, dotted, is_guard, known_text, last_name, paths

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_GUARD = ast.parse('__name__ == "__main__"', mode="eval").body
_ends: list[int] = []  # the line of the script that its import by a training comes to, once it is known


@dataclass(frozen=True)
class Import:
    """One name that an import statement binds.

    Attributes:
        module: The module that is imported, by its absolute name.
        attribute: What is taken of it; None if it is the module itself.
        bound: The name that stands for it then.
        whole: Of a dotted module, the name stands for the last one and not for the first.
        among: It is one of the modules of this package, or, if that is empty, beside the importing one.
    """

    module: str
    attribute: str | None
    bound: str
    whole: bool = False
    among: bool = False

    @property
    def module_bound(self) -> str:
        """The module that the name stands for, or is taken of."""
        return self.module if self.whole or self.attribute else self.module.partition(".")[0]


@dataclass(frozen=True, eq=False)
class Source:
    """The source of a module, as it stands on the disk now, or as the prompt remembers it.

    Attributes:
        name: The module's name; ``__main__`` for a script.
        path: Its file, or the name by which the interpreter knows a cell of a notebook.
        text: What is in it.
        package: Name of the package that relative imports start from.
        is_package: Whether it is a package's ``__init__.py``.
        end: The line where its import ends; None if that runs all of it.
    """

    name: str
    path: str
    text: str
    package: str = ""
    is_package: bool = False
    end: int | None = None

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree; an empty one if it is no valid Python. What an import does not come to is below a guard."""
        try:
            tree = ast.parse(self.text)
        except (SyntaxError, ValueError):
            return ast.Module(body=[], type_ignores=[])
        end = len(tree.body) if self.end is None else _place(tree, self.end)
        if end < len(tree.body):
            rest = ast.If(test=_GUARD, body=tree.body[end:], orelse=[])
            tree.body[end:] = [ast.copy_location(rest, tree.body[end])]
        return tree

    @cached_property
    def codes(self) -> frozenset[CodeType]:
        """The code of each of its functions, as this interpreter compiles it."""
        try:
            return frozenset(all_codes(compile(self.text, self.path, "exec", dont_inherit=True)))
        except (SyntaxError, ValueError):
            return frozenset()

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """The statements of the top level that give each name its value; those below the main guard are left out."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            if not is_guard(statement):
                for name in dict.fromkeys(bound_by(statement)):
                    found.setdefault(name, []).append(statement)
        return found

    def filling(self, name: str) -> list[ast.stmt]:
        """The other statements of the top level that mention a value, and perhaps change it."""
        made = any(isinstance(each, _DEFINITIONS) for each in self.bindings.get(name, []))
        return [] if made or name not in self.bindings else self._mentioning.get(name, [])

    def effects(self, name: str) -> list[ast.stmt]:
        """The statements of the top level that mention a name and do more than to compute another one."""
        plain = (ast.Assign, ast.AnnAssign)
        found = self._mentioning.get(name, [])
        return [each for each in found if not isinstance(each, plain) or not any(bound_by(each))]

    @cached_property
    def _mentioning(self) -> dict[str, list[ast.stmt]]:
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            if not isinstance(statement, _DEFINITIONS) and not is_guard(statement):
                for name in paths(statement).keys() - set(bound_by(statement)):
                    found.setdefault(name, []).append(statement)
        return found

    def statement(self, path: str) -> ast.stmt | None:
        """The last statement that gives a name of the top level, or ``Class.attribute``, its value."""
        head, *rest = path.split(".")
        found = self.bindings.get(head, [])
        for name in rest:
            body = found[-1].body if found and isinstance(found[-1], ast.ClassDef) else []
            found = [each for each in body if name in bound_by(each)]
        return found[-1] if found else None

    def line(self, name: str) -> int | None:
        """The first line that gives a name a value, wherever in the module."""
        simple = (node for node in ast.walk(self.tree) if isinstance(node, ast.stmt) and not hasattr(node, "body"))
        return min((node.lineno for node in simple if name in bound_by(node)), default=None)

    def function(self, code: CodeType) -> ast.AST | None:
        """The part of the tree that this code was compiled from, or None if it was compiled from another text."""
        if code not in self.codes:
            return None
        found = self._functions.get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1:  # lambdas of one line
            found = [node for node in found if covers(node, code)] or found
        same = {ast.dump(node) for node in found}
        return found[0] if len(same) == 1 else None

    @cached_property
    def _functions(self) -> dict[tuple[str, int], list[ast.AST]]:
        found: dict[tuple[str, int], list[ast.AST]] = {}
        for node in ast.walk(self.tree):
            if (place := beginning(node)) is not None:
                found.setdefault(place, []).append(node)
        return found

    def imports(self, node: ast.AST | None = None) -> Iterable[Import]:
        """What it imports, wherever in it, or in a part of it."""
        return self._all_imports if node is None else self._imports_in(node)

    @cached_property
    def _all_imports(self) -> tuple[Import, ...]:
        """Kept with the source: each job that is made asks for those of all modules that its problem needs."""
        return tuple(self._imports_in(self.tree))

    def _imports_in(self, part: ast.AST) -> Iterator[Import]:
        for each in ast.walk(part):
            if isinstance(each, ast.Import):
                for alias in each.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    yield Import(alias.name, None, bound, whole=alias.asname is not None)
            elif isinstance(each, ast.ImportFrom):
                module = self._absolute(each.module or "", each.level)
                yield from (Import(module, alias.name, alias.asname or alias.name) for alias in each.names)
            elif isinstance(each, ast.Call) and last_name(each.func) in ("import_module", "__import__") and each.args:
                yield self._dynamic(each)
            elif isinstance(each, ast.Subscript) and last_name(each.value) == "modules":
                name, complete = known_text(each.slice)
                if complete:  # sys.modules["name"]
                    yield Import(name, None, "", whole=True)

    def mentions(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Names of the top level of own modules that a part of it mentions, each after its module.

        An empty name is the module itself. A name that is imported is followed to where it comes from.
        """
        inside = {each.bound: each for each in self.imports(node)}
        for name, attributes in paths(node).items():
            if name in inside:
                for path in attributes:
                    yield from _places(inside[name].module_bound, dotted(inside[name].attribute or "", path))
            elif name in self.bindings:
                for path in attributes:
                    yield from _places(self.name, dotted(name, path), self)
            else:
                yield self.name, name
                for module in self._stars:
                    yield from _places(module, name)

    @cached_property
    def _stars(self) -> list[str]:
        """The own modules of which it imports all names."""
        return [each.module for each in self.imports() if each.attribute == "*" and is_users(each.module)]

    def _absolute(self, module: str, level: int) -> str:
        base = self.package.split(".")
        return dotted(*base[: len(base) - level + 1], module) if level else module

    def _dynamic(self, call: ast.Call) -> Import:
        """An import by function: of a module, of one of those of a package, or of who knows what."""
        text, complete = known_text(call.args[0])
        level = len(text) - len(text.lstrip("."))
        name = self._absolute(text[level:], level)
        if complete:
            return Import(name, None, "", whole=True)
        package = name.rpartition(".")[0] or self.package.partition(".")[0]
        return Import(package, None, "", whole=True, among=True)


def source_of(name: str) -> Source | None:
    """The source of a module, imported or not; None if it has none, or there is no such module."""
    module = sys.modules.get(name)
    spec = None if name == MAIN else find(name)
    path = getattr(module, "__file__", None) or (spec.origin if spec is not None else None)
    if path is None or not str(path).endswith(".py") or (text := read(Path(path))) is None:
        return None
    if name == MAIN:
        package = getattr(module, "__package__", None) or ""
        return _source(MAIN, str(Path(path).absolute()), text, package, end=_ends[0] if _ends else None)
    is_package = Path(path).name == "__init__.py"
    return _source(name, str(path), text, name if is_package else name.rpartition(".")[0], is_package)


def end_import(line: int) -> None:
    """Take note that an import of the script ends at this line, where it starts a run; the first such line counts.

    None below the main guard is one, which an import passes over.
    """
    if _ends or (main := source_of(MAIN)) is None:
        return
    place = _place(main.tree, line)
    if place < len(main.tree.body) and not is_guard(main.tree.body[place]):
        _ends.append(line)


def _place(tree: ast.Module, line: int) -> int:
    """Index of the statement of the top level that has the line."""
    return next(
        (i for i, each in enumerate(tree.body) if each.lineno <= line <= (each.end_lineno or line)), len(tree.body)
    )


def source_of_code(code: CodeType, module: str | None) -> Source | None:
    """The source that a function's code was compiled from, if that can still be had."""
    package = (module or "").rpartition(".")[0]
    texts = [read(Path(code.co_filename))]
    lines = linecache.cache.get(code.co_filename)  # not asked to look at the disk again: these may be the old ones
    if lines is not None and len(lines) > 1:
        texts.append("".join(lines[2]))
    others = [_source(module or MAIN, code.co_filename, text, package) for text in texts if text is not None]
    candidates = [source_of(module) if module else None, *others]
    return next((each for each in candidates if each is not None and code in each.codes), None)


def _places(module: str, path: str, near: Source | None = None, depth: int = 10) -> Iterator[tuple[str, str]]:
    """Where a dotted path in a module leads to, through submodules and names that are imported there."""
    near = near or (source_of(module) if is_users(module) else None)
    head, _, rest = path.partition(".")
    if head and (near is None or near.is_package) and is_users(module) and source_of(f"{module}.{head}") is not None:
        yield from _places(f"{module}.{head}", rest)
    elif near is not None:
        yield module, head
        for statement in near.bindings.get(head, []) if depth else []:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for each in near.imports(statement):
                    if each.bound == head:
                        yield from _places(each.module_bound, dotted(each.attribute or "", rest), depth=depth - 1)


def is_stale(code: CodeType, module: str) -> bool:
    """Whether a function was compiled from a file that says something else by now."""
    near = source_of(module) if is_users(module) else None
    return near is not None and Path(code.co_filename).absolute() == Path(near.path) and code not in near.codes


def cells() -> list[Source]:
    """What was typed at the prompt or into a notebook, as far as the interpreter remembers it."""
    lines = [(name, entry) for name, entry in list(linecache.cache.items()) if len(entry) > 1]
    typed = [(name, entry[2]) for name, entry in lines if entry[1] is None and not Path(name).is_file()]
    return [_source(MAIN, name, "".join(text), "") for name, text in typed]


def members(package: str, beside: str) -> list[str]:
    """Names of all modules of an own package; without one, of what lies beside the module ``beside``."""
    near = source_of(beside)
    where = folders(package) if package else [] if near is None else [Path(near.path).parent]
    names = []
    for folder in where:
        for file in sorted(folder.glob("**/*.py" if package else "*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if all(part.isidentifier() for part in parts):
                names.append(dotted(package, *parts))
    return [name for name in names if name and is_users(name)]


def root_folder(name: str) -> str | None:
    """The folder on the search path that an own module was found in."""
    near = None if is_ours(name) else source_of(name)
    if near is None:
        return None
    depth = 0 if name == MAIN else name.count(".") + near.is_package
    return os.fspath(Path(near.path).absolute().parents[depth])


@functools.lru_cache(maxsize=1024)
def _source(
    name: str, path: str, text: str, package: str, is_package: bool = False, *, end: int | None = None
) -> Source:
    return Source(name, path, text, package, is_package, end)
