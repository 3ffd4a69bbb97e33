"""Which modules are libraries, that count for a training by their names alone, and which are the user's own."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest
from own_modules import HELPER, SAY, fingerprint, told_by, write

pytestmark = pytest.mark.usefixtures("modules_of_their_own")


def test_libraries_count_by_their_names(tmp_path: Path) -> None:
    library = {
        "lib/mine/__init__.py": "def f():\n    return 1\n",
        "lib/mine-1.dist-info/RECORD": "mine/__init__.py,,\n",
    }
    main = "import mine\ndef train(params, ctx):\n    return mine.f()\n"
    seen = set()
    for n, value in enumerate("12"):
        write(tmp_path / str(n), {**library, "lib/mine/__init__.py": f"def f():\n    return {value}\n"})
        sys.path.insert(0, str(tmp_path / str(n) / "lib"))
        sys.modules.pop("mine", None)
        seen.add(fingerprint(tmp_path / str(n), main))
    assert len(seen) == 1


def test_a_copy_of_an_installed_library_is_a_library_until_it_is_changed(tmp_path: Path) -> None:
    source = "def f():\n    return 1\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(source.encode()).digest()).decode().rstrip("=")
    about = {"METADATA": "Name: mine\nVersion: 1\n", "RECORD": f"mine/__init__.py,sha256={digest},{len(source)}\n"}
    installed = {f"mine-1.dist-info/{name}": text for name, text in about.items()}
    write(tmp_path / "installed", {"mine/__init__.py": source, **installed})
    sys.path.insert(0, str(tmp_path / "installed"))
    main = "import mine.deep\ndef train(params, ctx):\n    return mine.deep.f()\n"
    seen = []
    for n, (value, end) in enumerate([(1, ""), (2, ""), (1, "# mine\n"), (2, "# mine\n")]):
        folder = tmp_path / str(n)
        write(folder, {"mine/__init__.py": source + end, "mine/deep.py": f"def f():\n    return {value}\n"})
        for name in ("mine", "mine.deep"):
            sys.modules.pop(name, None)
        seen.append(fingerprint(folder, main))
    assert seen[0] == seen[1] and len(set(seen)) == 3


EDITABLE = """
import sys
from importlib.machinery import PathFinder

class Finder:  # as setuptools installs one
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [FOLDER]) if name == "mine" else None

sys.meta_path.append(Finder)
def train(params, ctx):
    import mine.deep
    return mine.deep.f()
"""


def test_an_editable_install_is_the_users_own(tmp_path: Path) -> None:
    seen = []
    for n, value in enumerate("121"):
        files = {"src/mine/__init__.py": "", "src/mine/deep.py": f"def f():\n    return {value}\n"}
        write(tmp_path / str(n), files)
        script = EDITABLE.replace("FOLDER", repr(str(tmp_path / str(n) / "src")))
        seen.append(told_by(tmp_path / str(n), script + SAY))
    assert seen[0] == seen[2] != seen[1]


def test_a_users_module_beside_an_installed_library_is_his_own(tmp_path: Path) -> None:
    beside = {
        "other-1.dist-info/RECORD": "other/__init__.py,,\n",
        "main.py": "import helper\ndef train(p, c):\n    return helper.score(1)\n",
    }
    first = fingerprint(tmp_path / "a", {**beside, "helper.py": HELPER})
    assert fingerprint(tmp_path / "b", {**beside, "helper.py": HELPER.replace("FACTOR * x", "x")}) != first
