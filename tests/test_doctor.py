"""What ``swarm doctor`` says of a machine: each thing is good, or has its remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from services import Service
from typer.testing import CliRunner

from swarm.cli import app, machine
from swarm.cli.machine import Check, State, checks
from swarm.store import Store


@pytest.fixture(autouse=True)
def no_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FRAMEWORKS", {})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that counts as a framework."""
    file = tmp_path / "modules" / "framework.py"
    file.parent.mkdir()
    monkeypatch.setattr(machine, "FRAMEWORKS", {"framework": "Framework"})
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setenv("PYTHONPATH", str(file.parent), prepend=":")
    yield file
    sys.modules.pop("framework", None)


def found(name: str, store: str = "sqlite:///swarm.db", **options: str) -> Check:
    return next(check for check in checks(store, **options) if check.name == name)


def call(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *words])
    return done.exit_code, done.stdout


def test_every_line_is_good_or_has_a_remedy(tmp_path: Path) -> None:
    code, said = call("--store", f"{tmp_path}/swarm.db", "--json")
    told = json.loads(said)
    assert code == (0 if told["ok"] else 1)
    names = [check["name"] for check in told["checks"]]
    assert names == ["python", "frameworks", "gpus", "memory", "shared memory", "open files", "disk", "store"]
    assert all((check["state"] == "good") == (check["remedy"] is None) for check in told["checks"])
    assert told["ok"] == all(check["state"] != "bad" for check in told["checks"])


def test_people_read_a_mark_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "swarm.db").write_text("no database, but long enough to be read as the head of one" * 20)
    code, said = call("--store", f"{tmp_path}/swarm.db")
    assert code == 1
    assert "✓ python" in said and "✗ store" in said
    assert "→ name another: --store" in said


def test_a_framework_that_trainings_can_be_forked_with_is_good(module: Path) -> None:
    module.write_text("answer = 42")
    check = found("framework")
    assert check.state is State.GOOD and "trainings are forked with it" in check.said


def test_a_framework_that_starts_a_thread_is_imported_by_each_training(module: Path) -> None:
    module.write_text("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()")
    check = found("framework")
    assert check.state is State.WARNING and "its import leaves 2 threads" in check.said


def test_a_framework_that_cannot_be_imported_says_why(module: Path) -> None:
    module.write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    check = found("framework")
    assert check.state is State.BAD and "OSError: libcudart.so.12: cannot open" in check.said
    assert check.remedy is not None and "import framework" in check.remedy


def test_where_nothing_is_installed_it_says_what_is_missing() -> None:
    check = found("frameworks")
    assert check.state is State.WARNING and check.remedy is not None and "dask-swarm[cpu]" in check.remedy


@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        ("echo 'NVIDIA-SMI has failed'; exit 9", State.BAD, "nvidia-smi failed: NVIDIA-SMI has failed"),
        (
            'case "$1" in *uuid*) echo GPU-1;; *) echo "NVIDIA A100, 550.54, 4 MiB, 81920 MiB";; esac',
            State.GOOD,
            "1 to use, of NVIDIA A100, 550.54, 4 MiB, 81920 MiB",
        ),
    ],
)
def test_the_driver_is_asked(
    script: str, state: State, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    check = found("gpus")
    assert check.state is state and said in check.said


def test_gpus_that_nobody_may_use_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho GPU-1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert found("gpus").state is State.WARNING


def test_a_store_is_opened_and_none_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/swarm.db"
    assert found("store", url).said.endswith("is not there yet; the first run makes it")
    assert not (tmp_path / "swarm.db").exists()
    with closing(Store(url)):
        pass
    assert "opens, and holds 0 runs" in found("store", url).said


def test_a_service_is_asked_how_it_is(tmp_path: Path) -> None:
    with Service(tmp_path).started(slots=1) as service:
        assert found("scheduler", scheduler=service.address).state is State.GOOD
    check = found("scheduler", scheduler=service.address)
    assert check.state is State.BAD and check.remedy is not None and "swarm scheduler" in check.remedy
