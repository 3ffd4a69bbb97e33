"""What is published: ``make release-check`` finds what is wrong, and drafts say what pyproject.toml says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import swarm

sys.path.append(str(Path(__file__).parent.parent / "deploy"))

import release

ROOT = Path(__file__).parent.parent

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = {"dask": "dask-core", "matplotlib": "matplotlib-base", "prometheus-client": "prometheus_client"}
INFO = "dask_swarm-1.dist-info/METADATA"


def test_a_distribution_with_all_files_and_no_other_has_no_fault() -> None:
    assert {
        "swarm/py.typed",
        "swarm/swarm.yaml",
        "swarm/workers/evaluate.py",
        "swarm/workers/py.typed",
    } <= release.needed()
    assert any(name.endswith(".html") for name in release.needed())
    assert list(release.faults({*release.needed(), INFO}, wheel=True)) == []
    assert list(release.faults({*release.needed(), "PKG-INFO", "pyproject.toml"}, wheel=False)) == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("workers/evaluate.py", "more than swarm at the top: workers"),
        ("swarm/tests/test_it.py", "tests: swarm/tests/test_it.py"),
        ("swarm/__pycache__/plain.pyc", "what a run has left"),
        ("swarm/swarm.db", "what a run has left"),
    ],
)
def test_what_does_not_belong_into_a_wheel_is_found(more: str, fault: str) -> None:
    (found,) = release.faults({*release.needed(), INFO, more}, wheel=True)
    assert fault in found


def test_what_is_missing_is_found() -> None:
    (found,) = release.faults(release.needed() - {"swarm/swarm.yaml"}, wheel=True)
    assert found == "missing: swarm/swarm.yaml"


def test_no_tests_are_in_a_source_distribution() -> None:
    found = list(release.faults({*release.needed(), "tests/test_job.py"}, wheel=False))
    assert len(found) == 2


@pytest.mark.parametrize("version", release.supported())
def test_every_module_is_one_for_each_python_that_is_named(version: str, tmp_path: Path) -> None:
    python = release.python_of(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    code = (
        "import pathlib, sys\n"
        "for path in sys.argv[1:]:\n"
        "    for file in pathlib.Path(path).rglob('*.py'):\n"
        "        compile(file.read_bytes(), file, 'exec')\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from swarm import Infeasible, Trial\n"
        "print(sys.version_info[:2])"
    )
    command = [python, "-I", "-B", "-W", "error", "-c", code, ROOT / "swarm", ROOT / "workers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.stdout.strip() == str(tuple(map(int, version.split(".")))), done.stderr


def test_the_recipe_for_conda_needs_what_the_package_needs() -> None:
    recipe = yaml.safe_load((ROOT / "deploy" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = set()
    for dependency in PROJECT["dependencies"]:
        name, least = re.fullmatch(r"([\w-]+)(>=[\d.]+)", dependency).groups()  # type: ignore[union-attr]
        wanted.add(f"{CONDA.get(name, name)} {least}")
    run = set(recipe["requirements"]["run"])
    assert run == wanted | {"python >=${{ python_min }}"}
    assert recipe["context"]["version"] == swarm.__version__
    assert recipe["about"]["summary"] == PROJECT["description"] and recipe["about"]["license"] == PROJECT["license"]
    points = {f"{name} = {place}" for name, place in PROJECT["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == points


def test_a_release_is_published_only_from_what_was_checked_and_without_a_secret() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["publish"]["needs"] == "check" and jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text and "password" not in re.sub(r"#.*", "", text)
    targets = re.findall(r"make ([\w-]+)", text)
    assert targets and all(f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8") for target in targets)
    (setup,) = [step for step in jobs["check"]["steps"] if "setup-python" in step.get("uses", "")]
    assert setup["with"]["python-version"].split() == release.supported()
