"""Scheduler, master and clients with nothing but what the slim image has, and a worker that has TensorFlow."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from services import Service

ROOT = Path(__file__).parent.parent
EXTRAS = ("tensorflow", "keras", "torch", "jax", "lightning", "optuna", "pyarrow", "tensorboard", "mlflow")
_JOB = """\
name: slim
problem: digits-cnn
options: {epochs: 1}
space:
  filters: {integer: [2, 4]}
  size: 3
  pool: 2
  units: 8
  learning_rate: {real: [0.001, 0.1], log: true, digits: 1}
optimizer: {name: PSO, particles: 2, generations: 1}
seed: 1
"""


def needed() -> list[Distribution]:
    """What `pip install '.[postgres]'` brings, and what that needs in turn, of what is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    found: dict[tuple[str, frozenset[str]], Distribution] = {}
    while waiting:
        wanted = Requirement(waiting.pop())
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        if key in found or not (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            continue
        found[key] = distribution(wanted.name)
        for text in found[key].requires or []:
            marker = (each := Requirement(text)).marker
            if marker is None or any(marker.evaluate(extra) for extra in extras):
                each.marker = None
                waiting.append(str(each))
    return list(found.values())


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of an environment that has these packages, as links, and ours."""
    folder = tmp_path_factory.mktemp("slim")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for each in needed():
        for top in {file.parts[0] for file in each.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(each.locate_file(top))))
    (packages / "ours.pth").write_text(f"{ROOT}\n")
    yield folder / "bin" / "python"


def said(python: Path, *words: str, cwd: Path) -> str:
    done = subprocess.run([python, *words], capture_output=True, text=True, timeout=90, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_modules_need_no_more_than_the_slim_image_has_but_for_those_of_frameworks(slim: Path, tmp_path: Path) -> None:
    missing = f"import importlib.util; print([name for name in {EXTRAS} if importlib.util.find_spec(name)])"
    assert said(slim, "-c", missing, cwd=tmp_path) == "[]\n"
    program = """
import importlib, pkgutil, swarm
for module in pkgutil.walk_packages(swarm.__path__, "swarm."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name)
"""
    assert said(slim, "-W", "ignore", "-c", program, cwd=tmp_path) == "swarm.keras keras\nswarm.lightning lightning\n"


@pytest.mark.slow
def test_a_network_of_keras_is_searched_by_a_master_and_a_client_without_tensorflow(slim: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="Keras is not installed: only the worker needs it")
    (tmp_path / "job.yaml").write_text(_JOB)

    def client(*words: str) -> str:
        return said(slim, "-c", "from swarm.cli import main; main()", *words, cwd=tmp_path)

    with Service(tmp_path) as service:
        service.interpreters = dict.fromkeys(("scheduler", "master"), str(slim))
        service.started(slots=1)
        there = ["--scheduler", service.address]
        client("submit", "job.yaml", *there)
        assert "finished" in client("watch", "slim", *there)
        client("fetch", "slim", *there, "--csv", "trials.csv")
        assert len((tmp_path / "trials.csv").read_text().splitlines()) == 5
        pages = re.search(r"dashboard at (http://\S+)", service.log("scheduler"))
        assert pages is not None
        with urllib.request.urlopen(pages[1], timeout=30) as answer:  # the page is made before it is answered
            assert answer.status == 200
        store = ["--store", service.store]
        assert "filters:" in client("best", "slim", *store)
        refused = [slim, "-c", "from swarm.cli import main; main()", "best", "slim", *store, "--test"]
        done = subprocess.run(refused, capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path)
        assert done.returncode and "needs tensorflow and keras, not installed here; install it with" in done.stderr
        client("report", "slim", *store, "--output", "report.html", "--png", "figures")
        assert (tmp_path / "report.html").stat().st_size > 1e6 and list((tmp_path / "figures").glob("*.png"))
        client("export", "slim", *store, "--csv", "exported.csv")
        assert (tmp_path / "exported.csv").exists()
