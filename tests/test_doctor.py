"""What ``swarm doctor`` says of a machine: each thing is good, or has its remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from gpus import Gpus, card, gpus_here, uuid
from modules import put_away
from services import Service
from typer.testing import CliRunner

from swarm.cli import app, machine
from swarm.cli.machine import Check, State, checks
from swarm.store import Store
from swarm.workers.cards import driver
from swarm.workers.node.gpu import claimed


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
    with put_away("framework"):
        yield file


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


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    with gpus_here(tmp_path, monkeypatch) as found:
        yield found


def test_each_gpu_is_looked_at(cards: Gpus) -> None:
    assert found("gpus") == Check("gpus", State.GOOD, "2 to use, of 2, NVIDIA's driver 580.65.06")
    for number in range(2):
        check = found(f"gpu {number}")
        assert check.state is State.GOOD
        assert check.said == f"NVIDIA H100 80GB HBM3, {uuid(number)}, 80.0 GiB of 80.0 GiB free"


def test_a_gpu_on_which_a_training_would_wait_says_why_and_what_to_do(
    cards: Gpus, caplog: pytest.LogCaptureFixture
) -> None:
    cards.runs(f"{uuid(1)} {os.getpid()} 70000 C")
    assert found("gpu 0").state is State.GOOD
    check = found("gpu 1")
    assert check.state is State.WARNING and check.remedy is not None
    assert f"a training would wait: {uuid(1)} has 11.6 of 80.0 GiB free" in check.said
    assert f"kill {os.getpid()}" in check.said and not caplog.text


def test_a_gpu_that_a_worker_serves_says_so(cards: Gpus) -> None:
    cards.runs(f"{uuid(1)} {os.getpid()} 70000 C")
    with claimed([uuid(1)]):
        check = found("gpu 1")
    assert check.state is State.GOOD and check.said.endswith(f"served by process {os.getpid()}")


def test_a_card_that_is_lost_is_bad(cards: Gpus) -> None:
    cards.has(card(0), card(1), "lost")
    assert found("gpus").said.startswith("1 to use, of 1")
    check = found("gpu 1")
    assert check.state is State.BAD and "GPU is lost" in check.said


@pytest.mark.parametrize(("trouble", "said"), [("fail", "Driver Not Loaded"), ("hang", "has not answered")])
def test_a_driver_in_trouble_is_bad(cards: Gpus, monkeypatch: pytest.MonkeyPatch, trouble: str, said: str) -> None:
    monkeypatch.setenv(driver.ANSWER, "0.5" if trouble == "hang" else "20")
    with cards.trouble(trouble):
        check = found("gpus")
    assert check.state is State.BAD and said in check.said and check.remedy is not None


def test_gpus_that_nobody_may_use_or_that_are_not_there_are_said(cards: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert found("gpus").state is State.WARNING
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    check = found("gpus")
    assert check.state is State.BAD and "no GPU '7'" in check.said


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
