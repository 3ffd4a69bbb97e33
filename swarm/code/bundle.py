"""What travels with a job: the problem by pickle, and the sources of the user's own modules that it needs.

Functions and classes of a file are pickled by reference: where a training runs, its module is imported from the source
that came along, a script as :mod:`multiprocessing` does it. So the training has modules as they are here, which
processes of its own can import, too, and module-level values are computed where it runs. By value goes only what has no
file, such as what was typed into a notebook, and all that is imported here if a file has changed since it was imported.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from swarm.code.fingerprint import Fingerprint
from swarm.code.own_modules import MAIN, is_users
from swarm.code.sources import Source, members, source_of
from swarm.code.values import is_changed
from swarm.errors import InvalidProblem

_LOADER = b"swarm.workers.bundle\nunpack\n"  # what pickle calls with header and content
_DEPTH = 5  # of the search for what cannot be pickled


def pack(problem: Any, found: Fingerprint) -> bytes:
    """The problem as workers load it; unpickling it gives the problem.

    Raises:
        InvalidProblem: Something cannot be pickled; the text names it.
    """
    files = {name: near for name in sorted(_needed(found.modules)) if (near := source_of(name)) is not None}
    if found.current:
        content = _content(problem, found, files)
    else:  # what is imported here by value; what functions import themselves as sources, as ever
        files.pop(MAIN, None)
        with _by_value(found.modules):
            content = _content(problem, found, {})
    main = files.get(MAIN)
    header = {
        "main": None if main is None else {"package": main.package, "argv": sys.argv, "name": _main_name()},
        "modules": {
            name: {"file": str(Path(near.path).absolute()), "package": near.is_package, "text": near.text}
            for name, near in files.items()
        },
    }
    return _pickle_of(zlib.compress(json.dumps(header).encode()), content)


def _content(problem: Any, found: Fingerprint, files: dict[str, Source]) -> bytes:
    """The problem by pickle, with the values that the import of these files would not give."""
    values = list(_changed(found, files))
    try:
        return _dump((values, problem), set(files))
    except Exception as error:  # pickling runs user code (__reduce__), it may raise anything
        named = _Named.of(problem, files)
        if named is None:
            raise _refused(error, _culprit(problem, set(files))) from error
        return _dump((values, named), set(files))


def _main_name() -> str | None:
    """The name of the main module, if it was started by that: ``python -m package.module``."""
    return getattr(getattr(sys.modules[MAIN], "__spec__", None), "name", None)


def _pickle_of(header: bytes, content: bytes) -> bytes:
    """A pickle that calls the loader with both."""
    sizes = (struct.pack("<BQ", 0x8E, len(part)) + part for part in (header, content))
    return b"\x80\x04c" + _LOADER + b"".join(sizes) + b"\x86R."


def _needed(modules: set[str]) -> set[str]:
    """These of the user's own modules, and what they import in turn, with the packages that they are in."""
    found: set[str] = set()
    asked: set[str] = set()
    waiting = [name for name in modules if is_users(name)]
    while waiting:
        name = waiting.pop()
        if name in asked:
            continue
        asked.add(name)
        if (near := source_of(name)) is None:
            continue
        found.add(name)
        waiting += _packages(name)
        for each in near.imports():
            if each.among:
                waiting += members(each.module, name)
            elif is_users(each.module):
                waiting += [each.module, f"{each.module}.{each.attribute}", *_packages(each.module)]
    return found


def _packages(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _changed(found: Fingerprint, files: dict[str, Source]) -> Iterator[tuple[str, str, Any]]:
    """Global values that an import of their modules would not give."""
    for (module, path), value in found.values.items():
        near = files.get(module)
        if near is None or "<" in path or not is_changed(near, path, value):
            continue
        if (isinstance(value, ModuleType) and near.statement(path) is not None) or (
            module == MAIN and "." in path and _is_by_value(path)
        ):
            continue  # the import makes one, or it goes with its class or function
        try:
            _dump((module, path, value), set(files))
        except Exception as error:  # pickling runs user code, it may raise anything
            if near.statement(path.partition(".")[0]) is None:
                place = f"{near.path}, line {near.line(path) or '?'}"
                raise _refused(error, f"the global name {path!r} of {module}, {place}") from error
            continue  # the import makes one
        yield module, path, value


@contextmanager
def _by_value(modules: set[str]) -> Iterator[None]:
    own = [sys.modules[name] for name in sorted(modules) if name in sys.modules and name != MAIN and is_users(name)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_by_value(path: str) -> bool:
    """Whether a function or class of the script is not what its import gives, such as one below the main guard."""
    main, name = source_of(MAIN), path.partition(".")[0]
    return main is not None and is_changed(main, name, vars(sys.modules[MAIN]).get(name))


class _Named:
    """Stands for what a module's own import makes, such as an object with an open connection."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self.module = module
        self.name = name

    @classmethod
    def of(cls, value: Any, files: dict[str, Source]) -> _Named | None:
        """The name of the top level that has this very value since the import; None if there is none."""
        for module, near in files.items():
            for name, each in vars(sys.modules[module]).items() if module in sys.modules else ():
                if each is value and near.statement(name) is not None and not is_changed(near, name, value):
                    return cls(sys.modules[module], name)
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.module, self.name)


class _Globals:
    """Stands for the global names of a module, which are found where it is unpickled."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.module, "__dict__")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles by reference what the modules that travel as sources have, also of a script."""

    def __init__(self, file: io.BytesIO, files: set[str]) -> None:
        super().__init__(file, protocol=5)
        self._files = files

    def reducer_override(self, obj: Any) -> Any:
        if MAIN in self._files and isinstance(obj, FunctionType | type) and obj.__module__ == MAIN:
            found: Any = sys.modules[MAIN]
            for name in obj.__qualname__.split("."):
                found = getattr(found, name, None)
            if found is obj and not _is_by_value(obj.__qualname__):
                return NotImplemented
        return super().reducer_override(obj)

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        """A function inside another one: its code goes by value, its module's names are those of the module."""
        maker, made_of, (state, slots), *rest = super()._dynamic_function_reduce(func)
        module = sys.modules.get(func.__globals__.get("__name__", ""))
        if module is not None and module.__name__ in self._files and vars(module) is func.__globals__:
            code, _, *others = made_of
            made_of, slots = (code, _Globals(module), *others), {**slots, "__globals__": {}}
        return (maker, made_of, (state, slots), *rest)


def _dump(value: Any, files: set[str]) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, files).dump(value)
        return file.getvalue()


def _refused(error: Exception, what: str) -> InvalidProblem:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return InvalidProblem(
        f"the problem cannot be pickled, for {what} ({reason}); open files, locks, connections and models inside the "
        "training, or in prepare()"
    )


def _culprit(value: Any, files: set[str], depth: int = _DEPTH) -> str:
    """The innermost part that cannot be pickled, in words."""
    for name, part in _parts(value):
        try:
            _dump(part, files)
        except Exception:
            inner = _culprit(part, files, depth - 1) if depth else ""
            return inner if inner and inner != _kind(part) else f"{name}, {_kind(part)}"
    return _kind(value)


def _kind(value: Any) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object is made of, each with its name and place."""
    function = getattr(value, "__func__", value)
    if isinstance(function, FunctionType):
        code = function.__code__
        place = f"of {function.__qualname__}, {code.co_filename}, line {code.co_firstlineno}"
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            yield f"the variable {name!r} {place}", cell.cell_contents
        for name in code.co_names:
            if name in function.__globals__:
                yield f"the global name {name!r} {place}", function.__globals__[name]
        yield f"a default {place}", (function.__defaults__, function.__kwdefaults__)
    if function is not value:
        yield "its object", value.__self__
    elif isinstance(value, dict):
        yield from ((f"the entry {name!r}", each) for name, each in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"item {place}", each) for place, each in enumerate(value))
    elif hasattr(value, "func") and hasattr(value, "keywords"):
        yield from (
            (f"the argument {name!r}", each) for name, each in {**dict(enumerate(value.args)), **value.keywords}.items()
        )
        yield "its function", value.func
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | FunctionType):
        yield from (
            (f"the attribute {name!r} of a {type(value).__qualname__}", each) for name, each in vars(value).items()
        )
