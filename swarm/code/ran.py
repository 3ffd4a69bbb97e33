"""What of the user's modules was mentioned since their import by code that ran here, and does not run elsewhere.

That is what stands below the main guard, what was typed, the functions that are being called now, and whatever these
mention in turn. It cannot be known which of it ran, and what that did: who is mentioned may have been changed.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter

from swarm.code.own_modules import MAIN, is_users
from swarm.code.sources import Source, cells, source_of
from swarm.code.syntax import bound_by, is_guard, last_name, paths

_TAKERS = frozenset({"Job", "of"})  # these do not call the function that they are handed


class Ran:
    """What the code that ran here mentions.

    Attributes:
        mentioned: Names, each with its module.
        rebound: Names that are given a value in a module or a class.
        whole: Modules that are mentioned as such, as in ``setattr(config, name, value)``.
    """

    def __init__(self) -> None:
        self.mentioned: set[tuple[str, str]] = set()
        self.rebound: set[str] = set()
        self.whole: set[str] = set()
        main = source_of(MAIN)
        self._typed = cells()
        for each in [] if main is None else main.tree.body:
            if is_guard(each) and main is not None:
                self._block(main, each)
        for cell in self._typed:
            for each in cell.tree.body:
                if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    self._block(cell, each)
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            name = str(frame.f_globals.get("__name__"))
            if is_users(name) and (near := source_of(name)) is not None:
                self._reach(near, frame.f_code.co_qualname.partition(".")[0])

    def _block(self, source: Source, node: ast.AST) -> None:
        """All that a part of a source mentions."""
        handed = _handed(node)
        if "globals" in paths(node):
            self.whole.add(source.name)
        self.rebound.update(rebinding(node, set(source.bindings)))
        for module, name in source.mentions(node):
            if module != source.name or name not in handed:
                self._reach(source if module == source.name else source_of(module), name)

    def _reach(self, source: Source | None, name: str) -> None:
        if source is None or (source.name, name) in self.mentioned:
            return
        if name in ("", "__dict__"):
            self.whole.add(source.name)
            return
        self.mentioned.add((source.name, name))
        for home in [source, *(self._typed if source.name == MAIN else ())]:
            for statement in home.bindings.get(name, []):
                self._block(home, statement)


def rebinding(node: ast.AST, known: set[str]) -> set[str]:
    """Names that a block gives another value, in a module or a class; ``known`` are those of the module it is in."""
    found = set(bound_by(node)) if isinstance(node, ast.stmt) and is_guard(node) else set()
    for each in ast.walk(node):
        if isinstance(each, ast.Global):
            found |= set(each.names)
        elif isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store | ast.Del):
            base: ast.AST = each.value
            while isinstance(base, ast.Attribute | ast.Subscript):
                base = base.value
            if last_name(base) in known | {"cls"} or last_name(base)[:1].isupper():
                found.add(each.attr)
    return found


def _handed(node: ast.AST) -> list[str]:
    """Names that are only mentioned where a job is made."""
    calls = (each for each in ast.walk(node) if isinstance(each, ast.Call) and last_name(each.func) in _TAKERS)
    handed = Counter(
        last_name(value)
        for call in calls
        for value in [*call.args, *(each.value for each in call.keywords)]
        if isinstance(value, ast.Name)
    )
    names = Counter(each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load))
    return [name for name, times in handed.items() if names[name] == times]
