"""Builds the packages, and sees whether they may be published: ``make release-check``.

The wheel and the source distribution are built from a copy of what the repository tracks, checked by twine, and looked
through: `swarm` alone at the top level, no tests, all files that are no Python. The wheel is then installed into a new
environment of each Python that pyproject.toml names and this machine has (in the PATH, or of pyenv), and a small job
runs there, without TensorFlow. It says how long that takes and how large it is.

    python deploy/release.py                          # needs the packages build and twine
    python deploy/release.py --python 3.12 --keep dist
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
_LARGEST = 8
_TRAIN = "def train(params, ctx):\n    return -(params['x'] - 3) ** 2\n"
_JOB = "name: small\nproblem: train.py:train\nspace: {x: {integer: [0, 9]}}\noptimizer: {name: Grid}\n"


def supported() -> list[str]:
    """Versions of Python that pyproject.toml names, such as 3.11."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))


def python_of(version: str) -> Path | None:
    """An interpreter of this version: in the PATH, or of pyenv, the latest; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    kept = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: int(path.parts[-3].split(".")[2]))
    for found in (shutil.which(f"python{version}"), *reversed(kept)):
        if found and _runs(Path(found), version):
            return Path(found)
    return None


def _runs(python: Path, version: str) -> bool:
    """Whether it is one; pyenv's commands are there for versions that are not chosen, too."""
    code = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def copied(folder: Path) -> Path:
    """A copy of the files that the repository tracks, as a fresh clone has them."""
    source = folder / "source"
    names = _output("git", "ls-files", "--recurse-submodules", cwd=ROOT).splitlines()
    for name in names:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    return source


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution; the wheel is built from the latter, as users of it do."""
    _output(sys.executable, "-m", "build", "--outdir", folder / "dist", copied(folder))
    (wheel,), (source,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    _output(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    return wheel, source


def faults(names: Iterable[str], *, wheel: bool) -> Iterator[str]:
    """What is wrong with the files of a distribution.

    Args:
        names: Paths of all files, those of a source distribution without its first folder.
        wheel: Whether it is a wheel.
    """
    found = {name for name in names if name and not name.endswith("/")}
    tops = {PurePosixPath(name).parts[0] for name in found}
    if wheel:
        if others := {top for top in tops if not top.endswith(".dist-info")} - {"swarm"}:
            yield f"there is more than swarm at the top: {', '.join(sorted(others))}"
    elif others := tops & {"tests", "benchmarks", "docs", "examples", "deploy", "workers"}:
        yield f"folders that nobody needs to install it: {', '.join(sorted(others))}"
    if tests := sorted(name for name in found if re.search(r"(^|/)(tests?/|test_|conftest)", name)):
        yield f"tests: {', '.join(tests[:3])}"
    if missing := sorted(needed() - found):
        yield f"missing: {', '.join(missing)}"
    if left := sorted(name for name in found if re.search(r"__pycache__|\.(pyc|db|log)$", name)):
        yield f"what a run has left: {', '.join(left[:3])}"


def needed() -> set[str]:
    """All files of the package, those that are no Python among them, by their names where it is installed."""
    folders = {"swarm": ROOT / "swarm", "swarm/workers": ROOT / "workers"}
    found = set()
    for name, folder in folders.items():
        for path in folder.rglob("*"):
            inner = path.relative_to(folder).as_posix()
            if path.is_file() and "__pycache__" not in inner and not inner.startswith("workers/"):
                found.add(f"{name}/{inner}")
    return found


def files(distribution: Path) -> list[str]:
    """Paths of the files in a distribution, those of a source distribution without its first folder."""
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as archive:
            return archive.namelist()
    with tarfile.open(distribution) as archive:
        return [member.name.partition("/")[2] for member in archive if member.isfile()]


def installed(python: Path, wheel: Path, folder: Path) -> tuple[str, Path]:
    """Install the wheel into a new environment, and run a small job there; how long it took, and the packages' folder.

    Raises:
        RuntimeError: One of these has failed.
    """
    place = folder / f"env-{python.name}-{time.monotonic_ns()}"
    _output(python, "-m", "venv", place)
    began, used = time.monotonic(), _cpu_seconds()
    _output(place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    took = f"{time.monotonic() - began:.0f} s, {_cpu_seconds() - used:.0f} s of a CPU"
    (folder / "train.py").write_text(_TRAIN)
    (folder / "job.yaml").write_text(_JOB)
    swarm, store = place / "bin" / "swarm", f"{place}/swarm.db"
    _output(swarm, "--version", cwd=folder)
    _output(swarm, "run", "job.yaml", "--slots", "1", "--store", store, cwd=folder)
    if "x: 3" not in (best := _output(swarm, "best", "small", "--store", store, cwd=folder)):
        raise RuntimeError(f"the small job has found {best!r}, not x: 3")
    (packages,) = (place / "lib").glob("python*/site-packages")
    if (packages / "tensorflow").exists():
        raise RuntimeError("TensorFlow was installed, too")
    return took, packages


def _cpu_seconds() -> float:
    """What processes that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def megabytes(folder: Path) -> float:
    """What lies in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def largest(packages: Path) -> str:
    """The folders that take most of an environment, with what libraries keep beside them."""
    sizes: dict[str, float] = {}
    for path in packages.iterdir():
        name = path.name.removesuffix(".libs").replace("scikit_learn", "sklearn")
        if path.is_dir():
            sizes[name] = sizes.get(name, 0.0) + megabytes(path)
    most = sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST]
    return ", ".join(f"{name} {sizes[name]:.0f} MB" for name in most)


def _output(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command says.

    Raises:
        RuntimeError: It has failed.
    """
    words = [str(word) for word in command]
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=apart, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", metavar="VERSION", help="only this one; may be given again")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy what was built here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swarm-release-") as temporary:
        folder = Path(temporary)
        wrong = []
        wheel, source = build(folder)
        for each in (wheel, source):
            print(f"{each.name}: {each.stat().st_size / 1e6:.1f} MB, {len(files(each))} files; twine has no complaint")
            wrong += [f"{each.name}: {fault}" for fault in faults(files(each), wheel=each is wheel)]
        for version in options.python or supported():
            wrong += tried(version, wheel, folder)
        if options.keep:
            shutil.copytree(folder / "dist", options.keep, dirs_exist_ok=True)
    for line in wrong:
        print(f"wrong: {line}")
    return int(bool(wrong))


def tried(version: str, wheel: Path, folder: Path) -> list[str]:
    """Install with this version of Python, and say how it went; what is wrong."""
    python = python_of(version)
    if python is None:
        print(f"Python {version}: not on this machine, not tried")
        return []
    try:
        took, packages = installed(python, wheel, folder)
    except RuntimeError as error:
        return [f"Python {version}: {error}"]
    size = megabytes(packages)
    print(f"Python {version}: installed in {took}; {size:.0f} MB, of that {largest(packages)}; the job ran")
    shutil.rmtree(packages.parent.parent.parent)
    return []


if __name__ == "__main__":
    raise SystemExit(main())
