"""What makes two trainings the same: the code that they run, and the data that they were handed.

Code is what is reached from the problem through names, in the user's own modules, as text without comments, docstrings,
annotations and layout. Data are values: of closures, defaults, attributes, arguments and global names. Libraries count
by their names alone. When in doubt two trainings are different: a wrong "different" costs one training, a wrong "same"
the user's trust.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import enum
import functools
import hashlib
import importlib
import inspect
import io
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from swarm.code import sources
from swarm.code.classes import attribute_of, fields, is_cache, is_made_for_class, is_own_class
from swarm.code.own_modules import PACKAGE, is_ours, is_own, is_users, now
from swarm.code.sources import Import, Source, source_of
from swarm.code.syntax import all_codes, dotted, dump, global_names, instructions, is_guard, is_open, paths
from swarm.code.values import depends, is_changed

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
"""Types whose values count as they are."""

_NUMBERS = frozenset({bool, int, float})
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset, MappingProxyType})
_CHANGEABLE = frozenset({dict, list, set})  # it counts which of them are one and the same
_SURROUNDINGS = (logging.Logger, logging.Handler, type(os.environ), io.IOBase)
_SUGGESTIONS = frozenset({"space", "preload", "changeable", "direction"})  # of a problem, to jobs and workers
_remembered: dict[CodeType, tuple[str, ast.AST, Source]] = {}  # what ran while its source could still be read


class Fingerprint:
    """A digest of everything that makes a training this training.

    Args:
        problem: A callable problem.

    Attributes:
        modules: The own modules whose code it reaches.
        values: Values of global names that it reaches, by module and name.
        current: Whether all its code still stands in its files as it runs.
    """

    def __init__(self, problem: Any) -> None:
        self.modules: set[str] = set()
        self.values: dict[tuple[str, str], Any] = {}
        self.current = True
        self._hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}  # of functions, classes and objects that were met, by identity
        self._alive: list[Any] = []  # an object that is made on the way must not get the identity of another
        self._closed = 0  # number of values that cannot be looked into
        self._within: set[int] = set()  # containers that are being looked into
        self._named: set[tuple[str, ...]] = set()
        self._problem = problem
        self._visit(problem)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits."""
        return self._hash.hexdigest()[:16]

    def _say(self, *parts: object) -> None:
        for part in parts:
            self._hash.update(str(part).encode(errors="surrogatepass") + b"\0")

    # --- values

    def _visit(self, value: Any) -> None:
        kind = type(value)
        if kind in PLAIN:
            self._say(kind.__name__, repr(self._without_folder(value)))
        elif isinstance(value, _SURROUNDINGS):
            self._say("surroundings", kind.__qualname__)
        elif isinstance(value, ModuleType):
            self._module(value)
        elif isinstance(value, enum.Enum):
            self._visit(kind)
            self._say("member", value.name)
        elif isinstance(value, np.generic) or (kind is np.ndarray and not self._met(value)):
            self._array(np.asarray(value))
        elif kind in _CONTAINERS:
            if kind not in _CHANGEABLE or not self._met(value):
                self._container(value)
        elif not self._met(value):
            self._thing(value)

    def _thing(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self._say("method")
            self._visit(value.__func__)
            self._visit(value.__self__)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, BuiltinFunctionType):
            self._say("builtin", value.__module__, value.__qualname__)
            self._visit(None if isinstance(value.__self__, ModuleType) else value.__self__)
        elif isinstance(value, functools.partial):
            self._say("partial")
            self._container([value.func, value.args, value.keywords])
        elif callable(inner := inspect.getattr_static(value, "__wrapped__", None)) and not is_own_class(type(value)):
            self._say("wrapped", type(value).__qualname__)  # such as what lru_cache made of a function
            self._visit(inner)
        else:
            self._object(value)

    def _met(self, value: Any) -> bool:
        """Whether it was met before; then it is told apart from its equals by when that was."""
        known = self._numbers.get(id(value))
        if known is not None:
            self._say("again", known)
            return True
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return False

    def _container(self, value: Any) -> None:
        self._say(type(value).__qualname__, len(value))
        if len(value) > 100 and isinstance(value, list | tuple) and all(type(item) in _NUMBERS for item in value):
            self._say(repr(value))
            return
        if id(value) in self._within:
            self._say("circle")
            return
        self._within.add(id(value))
        if isinstance(value, dict | MappingProxyType):
            for key, item in value.items():  # in their order: it may be that of layers
                self._visit(key)
                self._visit(item)
        else:
            for item in sorted(value, key=_order) if isinstance(value, set | frozenset) else value:
                self._visit(item)
        self._within.discard(id(value))

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self._say("array", array.dtype.str if array.dtype.names is None else array.dtype.descr, array.shape)
        if array.dtype.hasobject:
            self._container(array.ravel().tolist())
        else:
            self._hash.update(np.ascontiguousarray(array).tobytes())

    def _without_folder(self, value: Any) -> Any:
        """A path inside the user's folder, without that: the same code may lie in another folder."""
        if isinstance(value, str) and value.startswith(os.sep):
            for folder in filter(None, map(sources.root_folder, self.modules)):
                if value == folder or value.startswith(folder + os.sep):
                    return "." + value[len(folder) :]
        return value

    # --- objects

    def _object(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, PurePath):
            self._say("path", self._without_folder(str(value)))
        elif attribute_of(kind, "get_config") and attribute_of(kind, "get_weights"):
            self._say("network", kind.__qualname__)  # Keras writes the date into what it pickles
            self._container([value.get_config(), value.get_weights()])
        else:
            self._say("object")
            self._visit(kind)
            self._container(self._state(value))

    def _state(self, value: Any) -> list[Any]:
        """What a copy of the object would be made of: what pickle would keep."""
        if isinstance(value, CodeType):
            return list(instructions(value))
        try:
            made = value.__reduce_ex__(4)
        except Exception:  # an open file, a lock, a connection: no data
            made = None
        if not isinstance(made, tuple):
            attributes = getattr(value, "__dict__", None) if is_own_class(type(value)) else None
            self._closed += made is None and attributes is None
            return [made, self._lasting(value, attributes)]
        maker, arguments, state, items, pairs = (*made, None, None, None)[:5]
        state = tuple(self._lasting(value, each) for each in (state if isinstance(state, tuple) else (state,)))
        return [maker, arguments, state, list(items or ()), list(pairs or ())]

    def _lasting(self, value: Any, state: Any) -> Any:
        """The attributes that are no cache, and of the problem itself, no suggestion to others."""
        if not isinstance(state, dict):
            return state
        skipped = {name for base in type(value).__mro__ for name, each in vars(base).items() if is_cache(each)}
        if value is self._problem:
            skipped |= _SUGGESTIONS
            if is_ours(type(value).__module__):
                skipped |= {"name"}
        return {name: state[name] for name in sorted(state, key=repr) if name not in skipped}

    def _class(self, cls: type) -> None:
        if not is_own_class(cls):
            self._say("library", cls.__module__, cls.__qualname__)
            return
        self._say("class", cls.__name__)
        self.modules.add(cls.__module__)
        for base in (*cls.__bases__, *([] if type(cls) is type else [type(cls)])):
            self._visit(base)
        if issubclass(cls, enum.Enum):
            self._container({name: member.value for name, member in cls.__members__.items()})
        self._container(fields(cls))
        for name, attribute in sorted(vars(cls).items()):
            if not is_made_for_class(cls, name, attribute):
                self._say(name)
                self.values[cls.__module__, f"{cls.__qualname__}.{name}"] = attribute
                self._member(attribute)

    def _member(self, attribute: Any) -> None:
        if isinstance(attribute, property):
            self._container([attribute.fget, attribute.fset, attribute.fdel])
        elif isinstance(attribute, staticmethod | classmethod):
            self._say(type(attribute).__name__)
            self._visit(attribute.__func__)
        elif is_cache(attribute):
            self._visit(attribute.func)
        else:
            self._visit(attribute)

    # --- functions

    def _function(self, function: FunctionType) -> None:
        module = function.__globals__.get("__name__")  # a decorator gives __module__ another value
        if module in sys.modules and not is_own(module):
            self._say("library", module, function.__code__.co_qualname)
            self._closure(function)
            return
        text, node, source = self._read(function.__code__, module)
        self._say("function", text)
        if module is not None:
            self.modules.add(module)
        self._container([function.__defaults__, function.__kwdefaults__])
        for name in ("__defaults__", "__kwdefaults__"):
            if module is not None and getattr(function, name):
                self.values[module, f"{function.__qualname__}.{name}"] = getattr(function, name)
        self._closure(function)
        self._names(function, node)
        if node is not None and source is not None:
            self._imports(source, node, paths(node))
        else:
            self._imports_of(function.__code__, function.__globals__)

    def _closure(self, function: FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._say(name)
            try:
                self._visit(cell.cell_contents)
            except ValueError:  # what it stands for has not been defined yet
                self._say("empty")
        for name, each in sorted(vars(function).items()):
            if name == "__wrapped__" or name[:2] != "__":
                self._say(name)
                self._visit(each)
            if name[:2] != "__" and is_own(function.__globals__.get("__name__")):
                self.values[function.__module__, f"{function.__qualname__}.{name}"] = each

    def _names(self, function: FunctionType, node: ast.AST | None) -> None:
        """What the global names stand for that a function uses."""
        names = global_names(function.__code__)
        taken = {} if node is None else paths(node)
        if is_open(taken or {name: {""} for name in names}):  # it may use anything of its module
            names |= function.__globals__.keys()
        for name in sorted(names & function.__globals__.keys()):
            self._global(function.__globals__, name, taken.get(name))

    def _read(self, code: CodeType, module: str | None) -> tuple[str, ast.AST | None, Source | None]:
        """A function as text, with its syntax tree where its source can be had; its byte code elsewhere."""
        source = sources.source_of_code(code, module)
        node = None if source is None else source.function(code)
        if source is not None and node is not None:
            _remembered[code] = (dump(node), node, source)
        if module is not None and sources.is_stale(code, module):
            self.current = False
        return _remembered.get(code) or (repr(list(instructions(code))), None, None)

    def _global(self, values: Mapping[str, Any], name: str, taken: Iterable[str] | None = None) -> None:
        """What a global name stands for; of an own module, the attributes that are taken of it, or all of it."""
        value = values[name]
        if name.startswith("__") and name.endswith("__"):  # __name__, __file__: where it runs
            return
        module: Any = values.get("__name__")
        if module in sys.modules and vars(sys.modules[module]) is values:
            self.values[module, name] = value
        if isinstance(value, ModuleType) and is_own(value.__name__):
            for path in sorted(taken or {""}):
                self._use(value.__name__, path)
            return
        if isinstance(value, ModuleType) and value.__name__ == PACKAGE:  # swarm.workers.keras, after an import of that
            for path in sorted(path for path in taken or () if is_own(f"{PACKAGE}.{path}")):
                self._use(PACKAGE, path)
        self._say(name)
        closed = self._closed
        self._visit(value)
        if closed < self._closed and is_own(module):  # then it counts by how it is made
            self._read_only(module, name)

    # --- modules, as they were imported here

    def _module(self, module: ModuleType) -> None:
        if is_own(module.__name__):
            self._use(module.__name__, "")
        else:
            self._say("module", module.__name__)

    def _use(self, module: str, path: str) -> None:
        """Something of an own module is used: ``path`` in it, dotted; all of it if that is empty."""
        head, _, rest = path.partition(".")
        loaded = sys.modules.get(module)
        if loaded is None or (head and head not in vars(loaded)):
            self._read_only(module, path)
            return
        self._say("use", head)
        if (module, path) not in self._named:
            self._named.add((module, path))
            self.modules.add(module)
            for name in [head] if head else sorted(vars(loaded)):
                self._global(vars(loaded), name, {rest} if head else None)

    # --- modules that the training imports itself: by their sources alone, whether they are imported here, too, or not

    def _imports(self, source: Source, node: ast.AST, taken: Mapping[str, set[str]], only: str | None = None) -> None:
        """What a part of a source imports itself."""
        for each in sorted(source.imports(node), key=repr):
            if only not in (None, each.bound):
                continue
            if each.among:
                for member in sources.members(each.module, source.name):
                    self._read_only(member, "")
            elif is_own(each.module) or is_own(f"{each.module}.{each.attribute}"):
                self._imported(each, taken.get(each.bound) or {""})

    def _imported(self, each: Import, taken: set[str]) -> None:
        if each.attribute == "*":
            self._read_only(each.module, "")
            return
        module = each.module if each.whole or each.attribute else each.module.partition(".")[0]
        before = each.attribute or ("" if each.whole else each.module.partition(".")[2] if taken == {""} else "")
        for path in sorted(taken):
            self._read_only(module, dotted(before, path))

    def _read_only(self, module: str, path: str) -> None:
        module = now(module)
        head, _, rest = path.partition(".")
        if head and source_of(f"{module}.{head}") is not None:
            self._read_only(f"{module}.{head}", rest)
            return
        self._say("import", head)
        if (module, path, "read") in self._named:
            return
        self._named.add((module, path, "read"))
        self.modules.add(module)
        source = source_of(module)
        package = source_of(parent) if is_own(parent := module.rpartition(".")[0]) else None
        if package is not None:
            self._effects(package)
        if source is not None:
            self._statements(source, head, rest)
        elif module in sys.modules:  # it was made without a file
            self._use(module, path)

    def _effects(self, package: Source) -> None:
        """What the import of a package changes before that of its modules."""
        if (package.name, "effects") not in self._named:
            self._named.add((package.name, "effects"))
            for name in sorted(package.bindings):
                if package.effects(name):
                    self._statements(package, name, "")

    def _statements(self, source: Source, name: str, rest: str) -> None:
        """The statements of a source that make a name, or all, and what these use."""
        for bound in ([name] if name else sorted(source.bindings)) if is_users(source.name) else ():
            if (found := self._changed(source, bound)) is not None:
                self._global(found, bound)
                if name:
                    return
        statements = source.bindings.get(name, []) + source.effects(name) if name else source.tree.body
        for statement in (each for each in statements if not is_guard(each)):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._imports(source, statement, {name: {rest}}, only=name or None)
                continue
            self._say(dump(statement, decorated=True))
            taken = paths(statement)
            for used in sorted(source.bindings if is_open(taken) else source.bindings.keys() & taken.keys()):
                for path in sorted(taken.get(used) or {""}):
                    self._read_only(source.name, dotted(used, path))
            self._imports(source, statement, taken)
        if not statements:  # it comes by `from … import *`, or is made when it is asked for
            for each in source.imports():
                if each.attribute == "*" and is_own(each.module):
                    self._read_only(each.module, name)
            self._made_when_asked_for(source)

    def _made_when_asked_for(self, source: Source) -> None:
        """What a module's ``__getattr__`` may give; where a library has made that, any module of the package."""
        for statement in source.bindings.get("__getattr__", []):
            self._read_only(source.name, "__getattr__")
            if not isinstance(statement, ast.FunctionDef):
                for member in sources.members(source.name, source.name):
                    self._read_only(member, "")

    @staticmethod
    def _changed(source: Source, name: str) -> Mapping[str, Any] | None:
        """The names of a module as they are here, if one of them is not what its import elsewhere would give."""
        if source.name not in sys.modules and depends(source, name):
            with contextlib.suppress(Exception):  # then its import says why, where the training runs
                importlib.import_module(source.name)
        names = vars(sys.modules.get(source.name, ModuleType("")))
        return names if name in names and is_changed(source, name, names[name]) else None

    def _imports_of(self, code: CodeType, values: Mapping[str, Any]) -> None:
        """What code without a source imports, as a whole."""
        package = (values.get("__package__") or "").split(".")
        for each in all_codes(code):
            constants: list[Any] = [0, 0]
            for step in dis.get_instructions(each):
                if step.opname == "IMPORT_NAME":
                    level = constants[-2] if type(constants[-2]) is int else 0
                    base = package[: len(package) - level + 1] if level else []
                    name = dotted(*base, step.argval)
                    if is_own(name):
                        self._read_only(name, "")
                if step.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
                    constants.append(step.argval)


def _order(item: Any) -> tuple[str, str]:
    return type(item).__qualname__, repr(item) if type(item) in PLAIN else Fingerprint(item).digest
