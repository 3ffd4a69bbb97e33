"""The user's problem on the client's side: found, pickled and given a fingerprint. Only workers ever run it."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from swarm import old_names
from swarm.code import own_modules, values
from swarm.code.bundle import pack
from swarm.code.fingerprint import Fingerprint
from swarm.errors import InvalidInput, InvalidProblem
from swarm.job.data import digest
from swarm.job.fields import ProblemName, check_problem_name, first, guess, own
from swarm.job.limits import shortened
from swarm.manners.files import is_file

IDENTITY = 2
"""Number of the way in which fingerprints are made; jobs of another one cannot be compared."""

_SHOWN = 8  # names of functions in a message
_OPTIONS = 100_000  # bytes of options, above which they are data
_DEPTH = 10_000  # of calls while code and data are looked through: five for each function that calls another one
_imported: set[str] = set()  # own modules that were imported for job files
_BUILT_IN = "swarm.workers.models"  # its PROBLEMS maps names to "module:function"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem as it travels: pickled, named, and with a fingerprint of the code and data that define it.

    The fingerprint is equal as long as the same configuration gives the same training; see
    :mod:`swarm.code.fingerprint`, and :mod:`swarm.code.bundle` for what travels.

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
        sealed: Whether what the job says of its data is part of the fingerprint already.
        identity: Number of the way in which the fingerprint was made.
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
    sealed: bool = False
    identity: int = IDENTITY

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
        name = str(_said(problem, "name") or _said(problem, "__qualname__") or type(problem).__qualname__)
        check_problem_name(name)
        found = _fingerprint(problem)
        return cls(
            name=name,
            fingerprint=found.digest,
            pickle=pack(problem, found),
            testable=callable(_said(problem, "test")),
            resumable=bool(_said(problem, "resumable")),
            space=_said(problem, "space"),
            changeable=_said(problem, "changeable"),
            direction=_said(problem, "direction"),
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
                    f"there is no built-in problem {text!r}{_meant(text, known, folder or Path())}; there are "
                    f"{', '.join(known)}, or say where yours is: package.module:function or file.py:function"
                )
            where, _, attribute = known[text].partition(":")
            return cls.of(_made(getattr(importlib.import_module(where), attribute), options))
        try:
            module = _from_file(folder or Path(), where) if where.endswith(".py") else _from_name(folder, where)
            if not hasattr(module, attribute):
                raise InvalidProblem(f"{where} has no {attribute!r}{_has(module, attribute)}")
            found = getattr(module, attribute)
        except InvalidInput:
            raise
        except Exception as error:  # user code runs at import, it may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InvalidProblem(f"problem {text!r} cannot be imported: {reason}") from error
        return cls.of(_made(found, options) if options or inspect.isclass(found) else found)

    def with_data(self, version: Any, files: Any, folder: Path) -> Problem:
        """The problem whose fingerprint covers what a job says of its data, too; itself if it does already.

        Args:
            version: Any text or number, or None.
            files: Names of files and folders, or patterns, whose content counts.
            folder: What they are relative to.

        Raises:
            InvalidJob: They are none, or name nothing.
        """
        if self.sealed:
            return self
        said = digest(version, files, folder)
        fingerprint = (
            self.fingerprint if said is None else hashlib.sha256((self.fingerprint + said).encode()).hexdigest()
        )
        return replace(self, fingerprint=fingerprint[:16], sealed=True)

    def to_dict(self) -> dict[str, Any]:
        """What a job's specification says of it."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "testable": self.testable,
            "resumable": self.resumable,
            "origin": self.origin,
            "options": self.options,
        }

    @classmethod
    def from_dict(cls, data: Any, code: bytes) -> Problem:
        """The problem of a stored job; it is not unpickled.

        Raises:
            InvalidInput: It is not what :meth:`to_dict` says of a problem.
        """
        try:
            known = _Said.model_validate(data)
        except ValidationError as error:
            said = f"what is said of the problem: {first(error, _Said)}"
            raise own(error) or shortened(InvalidProblem(said)) from None
        return cls(pickle=code, sealed=True, **{name: getattr(known, name) for name in _Said.model_fields})


class _Said(BaseModel, extra="forbid", strict=True):
    """What a specification says of a problem; earlier versions did not write down all of it."""

    name: ProblemName
    fingerprint: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    identity: int = Field(default=1, ge=1, le=1000)
    testable: bool
    resumable: bool
    origin: str | None = None
    options: dict[str, Any] | None = None


def _functions(module: ModuleType) -> list[str]:
    """Names of functions and classes that are a module's own."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    )


def _has(module: ModuleType, word: str) -> str:
    """A remark on the function of a module that was perhaps meant, or on all there are."""
    names = _functions(module)
    shown = [*names[:_SHOWN], "…"] if len(names) > _SHOWN else names
    return guess(word, names) or (f"; it has {', '.join(shown)}" if names else ", and no function of its own")


def _meant(text: str, known: Mapping[str, str], folder: Path) -> str:
    """A remark on what was perhaps meant by a text without a colon: a built-in problem, or a file that is there.

    Nothing is imported: the file is read for the functions that it defines.
    """
    if close := guess(text, known):
        return close
    stem, _, word = text.removesuffix(".py").rpartition(".")
    for path, name in ((folder / f"{text.removesuffix('.py')}.py", ""), (folder / f"{stem}.py", word)):
        if not path.name.startswith(".") and is_file(path):
            names = _defined(path)
            best = difflib.get_close_matches(name or "train", names, n=1) or names[-1:]
            return "".join(f" (did you mean {f'{path.name}:{each}'!r}?)" for each in best)
    return ""


def _defined(path: Path) -> list[str]:
    """Names of the functions and classes that a file defines."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _plain(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options as a job file has them, or None where it could not, or would be full of them."""
    try:
        text = json.dumps(options, allow_nan=False)
        return dict(json.loads(text)) if len(text) <= _OPTIONS else None
    except (TypeError, ValueError, RecursionError):
        return None


def _made(maker: Any, options: Mapping[str, Any]) -> Any:
    try:
        return maker(**options)
    except InvalidInput:
        raise
    except Exception as error:  # a problem may raise anything where an option is not what it expects
        reason = f"{error}" if isinstance(error, TypeError) else f"{type(error).__name__}: {error}"
        raise InvalidProblem(
            f"options of problem {getattr(maker, '__name__', maker)}: {' '.join(reason.split())}"
        ) from error


def _fingerprint(problem: Any) -> Fingerprint:
    own_modules.refresh()
    values.refresh()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEPTH))
    try:
        return Fingerprint(problem)
    except RecursionError:
        raise InvalidProblem(
            "the data that the problem uses are nested too deeply to be looked through; read them inside the training"
        ) from None
    finally:
        sys.setrecursionlimit(limit)


def _check_signature(problem: Callable[..., Any]) -> None:
    try:
        inspect.signature(problem).bind({}, None)
    except TypeError:
        raise InvalidProblem(
            f"problem {getattr(problem, '__name__', problem)!r} cannot be called as problem(params, ctx)"
        ) from None
    except Exception:  # a builtin without a signature, or an object whose __getattr__ raises anything
        pass


def _said(problem: Any, name: str) -> Any:
    """What a problem says of itself; None if it says nothing, or its ``__getattr__`` raises anything."""
    try:
        return getattr(problem, name, None)
    except Exception:
        return None


def _from_file(folder: Path, where: str) -> ModuleType:
    path = (folder / where).resolve()
    name = path.stem.replace(".", "_")  # else it would be a module of a package
    name = name if name not in sys.stdlib_module_names else f"{name}_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not is_file(path):
        near = guess(path.name, [each.name for each in path.parent.glob("*.py")])
        raise FileNotFoundError(f"no file {path}{near}")
    for earlier in _imported:  # of another file, which may have modules of the same names beside it
        sys.modules.pop(earlier, None)
    old_names.forget()  # there may be a workers.py beside it
    before = set(sys.modules)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) in sys.path:
        sys.path.remove(str(path.parent))
    sys.path.insert(0, str(path.parent))
    importlib.invalidate_caches()
    try:
        spec.loader.exec_module(module)
    finally:
        _imported.update({name} | {each for each in set(sys.modules) - before if own_modules.is_users(each)})
    return module


def _from_name(folder: Path | None, where: str) -> ModuleType:
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
        old_names.forget()
    return importlib.import_module(where)
