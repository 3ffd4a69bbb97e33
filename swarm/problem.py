"""The user's problem on the client's side: found, pickled and given a fingerprint. Only workers ever run it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from swarm.errors import InvalidProblem

_BUILT_IN = "workers.models"  # its PROBLEMS maps names to "module:function"
# Attributes of a problem that do not change what a training gives.
_NOT_IDENTITY = frozenset({"space", "name", "preload", "changeable", "direction"})
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem as it travels: pickled, named, and with a fingerprint of the code and data that define it.

    The fingerprint is equal as long as the same configuration gives the same training: it covers the problem's
    source without comments, docstrings and layout, the user's functions and values that it refers to, and its own
    attributes. Libraries count by name only.

    Attributes:
        name: Where the problem comes from, for people.
        fingerprint: Hex digest, part of every evaluation key.
        pickle: The problem, by cloudpickle.
        testable: Whether it can score a configuration on an unseen test set.
        resumable: Whether a training can continue from another one's checkpoint.
        space: The search space that it suggests, as plain data.
        direction: ``maximize`` or ``minimize`` if it says which way its fitness is better, or None.
        origin: Where it was found, as the user said it; None if it was handed over as an object.
        options: What it was made with there; None if that is no plain data.
        changeable: Names of the hyper-parameters that may change when a training is continued; None if it does not
            say.
    """

    name: str
    fingerprint: str
    pickle: bytes
    testable: bool
    resumable: bool = False
    space: Mapping[str, Any] | None = None
    changeable: tuple[str, ...] | None = None
    direction: str | None = None
    origin: str | None = None
    options: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, problem: Any, options: Mapping[str, Any] | None = None) -> Problem:
        """Make a problem of a callable, or of a text that says where to find one.

        Raises:
            InvalidProblem: It cannot be found, called or pickled.
        """
        if isinstance(problem, str):
            return cls.find(problem, options or {})
        if options:
            problem = _made(problem, options)
        if not callable(problem):
            raise InvalidProblem(f"a problem is a function train(params, ctx), not {type(problem).__name__}")
        _check_signature(problem)
        name = getattr(problem, "name", None) or getattr(problem, "__qualname__", type(problem).__qualname__)
        digest = hashlib.sha256()
        modules: set[str] = set()
        for part in _parts(problem, {}, modules):
            digest.update(part.encode() + b"\0")
        return cls(
            name=str(name),
            fingerprint=digest.hexdigest()[:16],
            pickle=_pickled(problem, modules),
            testable=callable(getattr(problem, "test", None)),
            resumable=bool(getattr(problem, "resumable", False)),
            space=getattr(problem, "space", None),
            changeable=getattr(problem, "changeable", None),
            direction=getattr(problem, "direction", None),
        )

    @classmethod
    def find(cls, text: str, options: Mapping[str, Any], folder: Path | None = None) -> Problem:
        """The problem that a text names: ``lenet4``, ``package.module:name`` or ``train.py:train``.

        Args:
            text: Name of a built-in problem, or where the problem is.
            options: Arguments for the function or class that makes the problem.
            folder: Folder that a file is relative to, and where modules are looked for first.

        Raises:
            InvalidProblem: It cannot be found or imported.
        """
        found = cls._find(text, options, folder)
        return replace(found, origin=text, options=_plain(options))

    @classmethod
    def _find(cls, text: str, options: Mapping[str, Any], folder: Path | None) -> Problem:
        where, _, attribute = text.partition(":")
        if not attribute:
            known = importlib.import_module(_BUILT_IN).PROBLEMS
            if text not in known:
                raise InvalidProblem(
                    f"there is no built-in problem {text!r}; there are {', '.join(known)}, "
                    "or say where yours is: package.module:function or file.py:function"
                )
            where, _, attribute = known[text].partition(":")
            return cls.of(_made(getattr(importlib.import_module(where), attribute), options))
        try:
            module = _from_file(folder or Path(), where) if where.endswith(".py") else _from_name(folder, where)
            found = getattr(module, attribute)
        except Exception as error:  # user code runs at import, it may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InvalidProblem(f"problem {text!r} cannot be imported: {reason}") from error
        return cls.of(_made(found, options) if options or inspect.isclass(found) else found)

    def to_dict(self) -> dict[str, Any]:
        """What a job's specification says of it."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "testable": self.testable,
            "resumable": self.resumable,
            "origin": self.origin,
            "options": self.options,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], code: bytes) -> Problem:
        """The problem of a stored job; it is not unpickled."""
        said = {name: data.get(name) for name in ("origin", "options")}  # which earlier versions did not write down
        return cls(data["name"], data["fingerprint"], code, data["testable"], data["resumable"], **said)


def _plain(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options as a job file has them, or None where it could not."""
    try:
        return dict(json.loads(json.dumps(options, allow_nan=False)))
    except (TypeError, ValueError):
        return None


def _made(maker: Any, options: Mapping[str, Any]) -> Any:
    try:
        return maker(**options)
    except TypeError as error:
        raise InvalidProblem(f"options of problem {getattr(maker, '__name__', maker)}: {error}") from None


def _check_signature(problem: Callable[..., Any]) -> None:
    try:
        inspect.signature(problem).bind({}, None)
    except TypeError:
        raise InvalidProblem(
            f"problem {getattr(problem, '__name__', problem)!r} cannot be called as problem(params, ctx)"
        ) from None
    except ValueError:  # a builtin without a signature
        pass


def _from_file(folder: Path, where: str) -> ModuleType:
    path = (folder / where).resolve()
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _from_name(folder: Path | None, where: str) -> ModuleType:
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    return importlib.import_module(where)


def _pickled(problem: Any, modules: set[str]) -> bytes:
    """Pickle with the user's own modules by value, since workers elsewhere do not have their files."""
    own = [sys.modules[name] for name in sorted(modules) if name in sys.modules and name != "__main__"]
    try:
        for module in own:
            cloudpickle.register_pickle_by_value(module)
        try:
            return bytes(cloudpickle.dumps(problem))
        finally:
            for module in own:
                cloudpickle.unregister_pickle_by_value(module)
    except Exception as error:  # pickling runs user code (__reduce__), it may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InvalidProblem(
            f"the problem cannot be pickled ({reason}); open files, locks, connections and models inside the training"
        ) from error


# --- fingerprint


def _parts(value: Any, seen: dict[int, Any], modules: set[str]) -> Iterator[str]:
    """Texts that together identify ``value``; the names of the user's modules met on the way go into ``modules``."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}"
        return
    if id(value) in seen:
        yield "again"
        return
    seen[id(value)] = value  # kept alive: an object that is made on the way must not get the identity of another
    if isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, MethodType):
        yield from _parts(value.__func__, seen, modules)
        yield from _parts(value.__self__, seen, modules)
    elif isinstance(value, FunctionType):
        yield from _function_parts(value, seen, modules)
    elif isinstance(value, type):
        yield from _class_parts(value, seen, modules)
    elif isinstance(value, Mapping):
        yield "mapping"
        for name in sorted(value, key=repr):
            yield repr(name)
            yield from _parts(value[name], seen, modules)
    elif isinstance(value, list | tuple | set | frozenset):
        yield type(value).__name__
        for item in value if isinstance(value, list | tuple) else sorted(value, key=repr):
            yield from _parts(item, seen, modules)
    else:
        yield from _object_parts(value, seen, modules)


def _function_parts(function: FunctionType, seen: dict[int, Any], modules: set[str]) -> Iterator[str]:
    yield f"function {function.__qualname__}"
    if not _is_users(function):
        yield str(function.__module__)
        return
    _note_module(function, modules)
    yield _source(function)
    for value in (function.__defaults__, function.__kwdefaults__):
        yield from _parts(value, seen, modules)
    for cell in function.__closure__ or ():
        yield from _parts(cell.cell_contents, seen, modules)
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield name
            yield from _parts(function.__globals__[name], seen, modules)


def _class_parts(cls: type, seen: dict[int, Any], modules: set[str]) -> Iterator[str]:
    yield f"class {cls.__qualname__}"
    if not _is_users(cls):
        yield cls.__module__
        return
    _note_module(cls, modules)
    yield from (part for base in cls.__bases__ for part in _parts(base, seen, modules))
    for name, attribute in sorted(vars(cls).items()):
        member = getattr(attribute, "__func__", attribute)  # static and class methods
        member = getattr(member, "fget", None) or member  # properties
        if isinstance(member, FunctionType) and not name.startswith("__dataclass"):
            if member.__code__.co_filename.startswith("<"):
                continue  # made by the dataclass decorator from the fields
            yield from _function_parts(member, seen, modules)
        elif isinstance(member, _PLAIN) and not name.startswith("__"):
            yield f"{name} {member!r}"


def _object_parts(value: Any, seen: dict[int, Any], modules: set[str]) -> Iterator[str]:
    yield "object"
    yield from _parts(type(value), seen, modules)
    if isinstance(value, functools.partial):
        yield from _parts([value.func, value.args, value.keywords], seen, modules)
        return
    state = getattr(value, "__dict__", None)
    if state is not None and not hasattr(value, "__array__"):
        yield from _parts({k: v for k, v in state.items() if k not in _NOT_IDENTITY}, seen, modules)
        return
    try:
        yield hashlib.sha256(cloudpickle.dumps(value)).hexdigest()
    except Exception:  # what cannot be pickled is named by its class alone
        yield "unpicklable"


def _is_users(thing: Any) -> bool:
    """Whether a function or class is the user's own or one of our trainings, and no library's."""
    if (thing.__module__ or "").split(".")[0] == "workers":
        return True
    module = sys.modules.get(thing.__module__ or "")
    file = getattr(module, "__file__", None)
    if module is None or thing.__module__ == "__main__" or file is None:
        return module is None or thing.__module__ == "__main__"
    return not str(Path(file).resolve()).startswith(_LIBRARIES)


def _note_module(thing: Any, modules: set[str]) -> None:
    if (thing.__module__ or "").split(".")[0] not in ("swarm", "workers"):
        modules.add(thing.__module__)


def _names(code: CodeType) -> set[str]:
    """Global names that the code and the functions inside it refer to."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _source(function: FunctionType) -> str:
    """The function's syntax tree as text, without docstrings; its byte code where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, or a lambda in the middle of a line
        code = function.__code__
        constants = [constant for constant in code.co_consts if isinstance(constant, _PLAIN)]
        return f"{code.co_code.hex()} {constants!r} {code.co_names!r}"
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            constant = body[0].value
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)
