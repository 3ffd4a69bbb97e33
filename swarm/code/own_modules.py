"""Which modules are the user's own, and where they are. Nothing is imported or run here.

An own module is one that is no library: not the interpreter's, not of a site's folder, not of an installed
distribution. An editable install (``pip install -e``) lies in none of these, so it is the user's own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import site
import sys
import sysconfig
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path

from swarm import old_names

MAIN = "__main__"
PACKAGE = "swarm"
OURS = old_names.WORKERS
"""Our built-in problems: their code counts, but is installed wherever a worker is."""

_PACKAGES = frozenset({"site-packages", "dist-packages"})
_LIBRARIES = tuple(
    Path(folder).resolve()
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
_texts: dict[Path, str | None] = {}
_known: dict[str, bool] = {}


def is_own(name: object) -> bool:
    """Whether code of this module counts for the identity of a training: the user's own, and our built-in problems."""
    return isinstance(name, str) and (is_ours(name) or is_users(name))


def is_ours(name: str) -> bool:
    """Whether a module is of our built-in problems, by its name of now or of before."""
    return f"{now(name)}.".startswith(f"{OURS}.")


def now(name: str) -> str:
    """What a module is called now that is named as before it moved; ``workers`` may be a module of the user's."""
    found = old_names.now(name)
    return name if found is None or (name.partition(".")[0] == old_names.BEFORE and not _is_ours_before()) else found


def _is_ours_before() -> bool:
    """Whether an import of ``workers`` finds ours, here and now."""
    module = sys.modules.get(old_names.BEFORE)
    return old_names.is_ours(_find(old_names.BEFORE) if module is None else getattr(module, "__spec__", None))


def is_users(name: str) -> bool:
    """Whether a module is the user's own: it is no library, and none of ours."""
    root = name.partition(".")[0]
    if root == old_names.BEFORE and _is_ours_before():
        return False
    if root not in _known:
        _known[root] = _is_users(root)
    return _known[root]


def find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module is, or would be found; no package is imported on the way."""
    return _find(now(name))


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    if (spec := getattr(sys.modules.get(name), "__spec__", None)) is not None:
        return spec  # type: ignore[no-any-return]
    path: list[str] | None = None
    for depth in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:depth])
        spec = getattr(sys.modules.get(part), "__spec__", None) or _found(part, path)
        if spec is None or (part != name and spec.submodule_search_locations is None):
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _found(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    """What Python's import would ask for, which an editable install has finders of its own in."""
    for finder in sys.meta_path:
        with contextlib.suppress(ImportError, ValueError, OSError, AttributeError):
            if (spec := finder.find_spec(name, path, None)) is not None:
                return spec
    return None


def folders(package: str) -> list[Path]:
    """Where the modules of a package are."""
    spec = find(package)
    return [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]


def read(path: Path) -> str | None:
    """What a source file says, or None if it cannot be read; the same until :func:`refresh`."""
    if path not in _texts:
        try:
            _texts[path] = importlib.util.decode_source(path.read_bytes())
        except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
            _texts[path] = None
    return _texts[path]


def refresh() -> None:
    """Read files again from now on."""
    _texts.clear()
    _known.clear()


def _is_users(root: str) -> bool:
    if not root or root == PACKAGE or root in sys.builtin_module_names:
        return False
    places = _places(root)
    if root == MAIN or places is None:  # made here, without a file
        return root in sys.modules and root not in sys.stdlib_module_names
    return not any(_is_library(root, place) for place in places)


def _places(root: str) -> tuple[Path, ...] | None:
    """Files or folders of a module of the top level; None if there are none."""
    module, spec = sys.modules.get(root), find(root)
    file = getattr(module, "__file__", None) or (spec.origin if spec is not None and spec.has_location else None)
    if file is not None:
        return (Path(file).resolve(),)
    return tuple(folder.resolve() for folder in folders(root)) or None


@functools.lru_cache(maxsize=4096)
def _is_library(root: str, place: Path) -> bool:
    if _PACKAGES & set(place.parts) or any(library in place.parents for library in _LIBRARIES):
        return True
    folder = place.parents[1] if place.name == "__init__.py" else place.parent
    return _is_recorded(root, folder) or _is_copy(root, place)


def _is_recorded(root: str, folder: Path) -> bool:
    """Whether a distribution that is installed in this folder (``pip --target``) has the module."""
    return any(line.startswith((f"{root}/", f"{root}.py,")) for line in _recorded(folder))


def _recorded(folder: Path) -> Iterator[str]:
    """What the distributions that are installed in a folder say of their files: ``path,hash,size`` each."""
    for record in folder.glob("*.dist-info/RECORD"):
        yield from (read(record) or "").splitlines()


def _is_copy(root: str, place: Path) -> bool:
    """Whether it is a copy of what a distribution has installed elsewhere, such as one on a cluster's search path."""
    name = f"{root}/__init__.py"
    if place.name != "__init__.py":
        return False
    for folder in map(Path, sys.path):
        if (folder / name).is_file() and (folder / name).resolve() != place:
            for line in _recorded(folder):
                if line.startswith(f"{name},") and "=" in line:
                    mode, _, wanted = line.split(",")[1].partition("=")
                    return urlsafe_b64decode(wanted + "==") == hashlib.new(mode, place.read_bytes()).digest()
    return False
