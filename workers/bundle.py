"""The user's own modules where his trainings run: imported from the sources that came with the job.

A script is imported as :mod:`multiprocessing` does it, under the name ``__mp_main__``, and stands for ``__main__``:
what is below its main guard does not run. Sources are written to a folder of their own, so that processes which a
training starts find them, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import linecache
import os
import pickle
import shutil
import sys
import tempfile
import threading
import types
import weakref
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle

from swarm import old_names
from swarm.errors import Reached

MAIN, MP_MAIN = "__main__", "__mp_main__"
FOLDER = "SWARM_CODE"  # names the folder that sources are written to; whoever has set it removes it
LIMIT_BYTES = 256 << 20  # of all sources of a job
_SEPARATORS = set("/\\\0")
_PREFIX, _EARLIER = (b"\x80\x04c" + name + b".bundle\nunpack\n" for name in (b"swarm.workers", b"workers"))

_turn = threading.Condition()
_installed: list[Bundle] = []  # for good
_active: list[Bundle] = []  # that whose modules are in sys.modules now, once for each that needs it


def unpack(header: bytes, content: bytes) -> Any:
    """What a job's pickle calls: installs its modules in this process for good, and loads the problem."""
    bundle = Bundle(header, content)
    bundle.enter()
    _installed.append(bundle)
    problem = bundle.load()
    bundle.show(problem)
    return problem


class Bundle:
    """The sources of a job, and its pickled problem.

    Args:
        header: The sources, compressed.
        content: The problem, pickled.

    Raises:
        ValueError: The sources are larger than any job's, or a module's name would lead out of a folder.
    """

    def __init__(self, header: bytes, content: bytes) -> None:
        data = json.loads(_inflated(header))
        self.main: dict[str, Any] | None = data["main"]
        self.modules: dict[str, dict[str, Any]] = data["modules"]
        self._content = content
        self._digest = hashlib.sha256(header).digest()
        self._loaded: dict[str, types.ModuleType] = {}
        self._hidden: dict[str, types.ModuleType] = {}
        self._finder = _Finder(self)
        _check_names(self.main, self.modules)

    @classmethod
    def of(cls, data: bytes) -> Bundle | None:
        """The bundle in a job's pickle; None if it is an earlier version's, which has no sources."""
        prefix = next((each for each in (_PREFIX, _EARLIER) if data.startswith(each)), None)
        if prefix is None:
            return None
        parts, rest = [], memoryview(data)[len(prefix) :]
        for _ in range(2):
            size = int.from_bytes(rest[1:9], "little")
            parts.append(bytes(rest[9 : 9 + size]))
            rest = rest[9 + size :]
        return cls(*parts)

    @cached_property
    def folder(self) -> Path:
        """Where the sources lie as files."""
        given = os.environ.get(FOLDER)
        if given is None:
            folder = Path(tempfile.mkdtemp(prefix="swarm-code-"))
            weakref.finalize(self, _remove, folder, os.getpid())
        else:
            folder = Path(given, self._digest.hex()[:16])
        for name, module in self.modules.items():
            path = folder / self.file(name)
            if not path.exists():  # else another training of this server has written it
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(module["text"], encoding="utf-8")
        return folder

    def file(self, name: str) -> Path:
        """Where a module's source lies below the folder."""
        if name == MAIN and (self.main is None or self.main["name"] is None):
            return Path(Path(self.modules[name]["file"]).name)
        parts = (name if name != MAIN or self.main is None else self.main["name"]).split(".")
        return Path(*parts, "__init__.py") if self.modules[name]["package"] else Path(*parts).with_suffix(".py")

    def is_here(self) -> bool:
        """Whether this process has all its modules from the very files, so that nothing need be imported or changed."""
        return all(self._is_here(name) for name in self.modules if name != MAIN or self.main is not None)

    def load(self, *, changing: bool = True) -> Any:
        """The problem; the bundle's modules are those of this process now.

        Args:
            changing: Set in these what had other values in the user's process; in that itself it is there.
        """
        if self.main is not None and MAIN not in self._loaded and not self._is_here(MAIN):
            self._import_main(self.main)
        if sys.modules[MAIN].__name__ == MP_MAIN:  # else joblib's processes would look for a module of that name
            cloudpickle.register_pickle_by_value(sys.modules[MP_MAIN])
        values, problem = unpickled(self._content)
        for module, path, value in values if changing else ():
            *inner, last = path.split(".")
            owner: Any = importlib.import_module(module)
            for name in inner:
                owner = getattr(owner, name)
            setattr(owner, last, value)
        return problem

    def enter(self) -> None:
        """Makes its modules those that this process imports under their names."""
        mine = [MAIN, MP_MAIN] if self.main is not None and not self._is_here(MAIN) else []
        mine += [name for name in self.modules if name in sys.modules and name != MAIN and not self._is_here(name)]
        self._hidden = {name: sys.modules.pop(name) for name in mine if name in sys.modules}
        if MAIN in self._hidden:
            sys.modules[MAIN] = self._hidden[MAIN]  # until ours is there: much relies on there being one
        sys.modules.update(self._loaded)
        sys.meta_path.insert(0, self._finder)
        sys.path.insert(0, str(self.folder))

    def leave(self) -> None:
        """Takes them away again, and gives the names back."""
        sys.meta_path.remove(self._finder)
        with contextlib.suppress(ValueError):
            sys.path.remove(str(self.folder))
        self._loaded = {
            name: sys.modules.pop(name)
            for name in [*self.modules, MP_MAIN]
            if name in sys.modules and self._is_ours(sys.modules[name])
        }
        sys.modules.update(self._hidden)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Its modules are there meanwhile, and those of no other bundle, for a training in a thread."""
        with _turn:
            while _active and _active[0] is not self:
                _turn.wait()
            if not _active:
                self.enter()
            _active.append(self)
        try:
            yield
        finally:
            with _turn:
                _active.pop()
                if not _active:
                    self.leave()
                    _turn.notify_all()

    @staticmethod
    def show(problem: Any) -> None:
        """Puts what came by value, from a notebook, under its module, where processes of a training look for it."""
        function = getattr(problem, "__func__", problem)
        names = getattr(
            function if isinstance(function, types.FunctionType) else type(problem).__call__, "__globals__", {}
        )
        main = sys.modules[MAIN]
        if names.get("__name__") == MAIN and names is not vars(main):
            vars(main).update({name: each for name, each in names.items() if not name.startswith("__")})

    # --- inside

    def _is_here(self, name: str) -> bool:
        """Whether this process has imported the module from the very file, which still says the same."""
        found = sys.modules.get(name)
        file = self.modules[name]["file"]
        if found is None or getattr(found, "__file__", None) is None or self._is_ours(found):
            return False
        if Path(found.__file__ or "").absolute() != Path(file):
            return False
        try:
            return importlib.util.decode_source(Path(file).read_bytes()) == str(self.modules[name]["text"])
        except (OSError, SyntaxError, UnicodeDecodeError):
            return False

    def _is_ours(self, module: types.ModuleType) -> bool:
        return bool(getattr(module, Reached.MARK, None) == self._digest)

    def shown(self, name: str) -> str:
        """The file that a module says it is from: the user's where that is, for what lies beside it, else the copy."""
        own = self.modules[name]["file"]
        return own if Path(own).exists() else str(self.folder / self.file(name))

    def compiled(self, name: str) -> types.CodeType:
        """The module's code, whose lines a traceback shows wherever it runs."""
        file, text = self.modules[name]["file"], self.modules[name]["text"]
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        return compile(text, file, "exec", dont_inherit=True)

    def mark(self, module: types.ModuleType) -> None:
        """Notes that it is one of ours."""
        setattr(module, Reached.MARK, self._digest)

    def _import_main(self, main: dict[str, Any]) -> None:
        module = _Script(MP_MAIN)
        module.copy = str(self.folder / self.file(MAIN))
        vars(module).update(__file__=self.shown(MAIN), __package__=main["package"] or None, __builtins__=__builtins__)
        if main["name"] is not None:
            module.__spec__ = importlib.machinery.ModuleSpec(main["name"], None, origin=module.copy)
        self.mark(module)
        before, sys.argv = sys.argv, main["argv"]
        sys.modules[MAIN] = sys.modules[MP_MAIN] = module
        try:
            with contextlib.suppress(Reached):
                exec(self.compiled(MAIN), vars(module))
        finally:
            if threading.current_thread() is not threading.main_thread():  # a thread of a worker, not a process of ours
                sys.argv = before


def unpickled(data: bytes) -> Any:
    """What was pickled, by this version or an earlier one, whose names of modules may be those of the user's by now."""
    return _Unpickler(io.BytesIO(data)).load()


def _inflated(header: bytes) -> bytes:
    """The sources; what is small and becomes enormous is none of ours."""
    reader = zlib.decompressobj()
    found = reader.decompress(header, LIMIT_BYTES)
    if reader.unconsumed_tail or not reader.eof:
        raise ValueError(f"the job's sources are damaged, or larger than {LIMIT_BYTES >> 20} MiB")
    return found


def _check_names(main: dict[str, Any] | None, modules: dict[str, dict[str, Any]]) -> None:
    """See that each module has the name of one, which is also where its source is written."""
    names = [name for name in modules if name != MAIN] + [main["name"] if main and main["name"] else "main"]
    for name in names:
        if not all(part and not _SEPARATORS & set(part) for part in name.split(".")):
            raise ValueError(f"the job brings a module of the name {name!r}, which would lead out of its folder")
    if MAIN in modules and Path(modules[MAIN]["file"]).name in ("", ".", ".."):
        raise ValueError(f"the job brings a script of the name {modules[MAIN]['file']!r}")


class _Unpickler(pickle.Unpickler):
    """Finds what is in no module ``workers`` of the user's in that which had this name."""

    def find_class(self, module: str, name: str) -> Any:
        """A function or class."""
        found = old_names.now(module)
        if found == f"{old_names.WORKERS}.bundle":
            return super().find_class(found, name)
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            if found is None:
                raise
            return super().find_class(found, name)


def _remove(folder: Path, process: int) -> None:
    """Removes the sources, unless this process was forked from that which has written them."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class _Script(types.ModuleType):
    """A script whose processes import the copy, though it says itself that it is the user's file."""

    copy = ""

    @property
    def __file__(self) -> str:  # type: ignore[override]
        """What :mod:`multiprocessing` has its processes import."""
        return self.copy


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of a bundle, and the folders that they are in."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = weakref.proxy(bundle)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """How to import a module, if the bundle has it."""
        known = self._bundle.modules
        inside = str(Path(self._bundle.folder, *fullname.split(".")))
        if fullname not in known:
            if not any(name.startswith(f"{fullname}.") for name in known):
                return None
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [inside]
            return spec
        loader = _Loader(self._bundle, fullname)
        spec = importlib.machinery.ModuleSpec(fullname, loader, origin=self._bundle.shown(fullname))
        spec.has_location = True
        spec.submodule_search_locations = [inside] if known[fullname]["package"] else None
        return spec


class _Loader(importlib.abc.InspectLoader):
    """Imports a module of a bundle."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self._bundle = bundle
        self._name = name

    def get_source(self, fullname: str) -> str:
        """Its source."""
        return str(self._bundle.modules[fullname]["text"])

    def get_code(self, fullname: str) -> types.CodeType:
        """Its code."""
        return self._bundle.compiled(fullname)

    def is_package(self, fullname: str) -> bool:
        """Whether it is a package."""
        return bool(self._bundle.modules[fullname]["package"])

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs it."""
        self._bundle.mark(module)
        with contextlib.suppress(Reached):
            super().exec_module(module)
