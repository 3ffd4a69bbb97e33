"""The first minutes with the command: files to begin with, a look before anything is trained, help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import yaml
from scripts import run_swarm
from typer.main import get_command
from typer.testing import CliRunner

from swarm import PSO, Integer, Job
from swarm.cli import app
from swarm.cli.first import Kind
from swarm.cli.sections import SECTIONS
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.runs.plan import plan
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation
from swarm.version import __version__
from swarm.workers.evaluate import evaluate

JOB = """
name: bowl
problem: train.py:train
space: {x: {integer: [0, 40]}, y: {integer: [0, 40]}}
optimizer: {name: PSO, particles: 6, generations: 4}
"""


def swarm(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("kind", ["keras", "torch", "jax"])
def test_the_files_to_begin_with_train(kind: str, tmp_path: Path) -> None:
    if find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    swarm("init", str(tmp_path), "--for", kind)
    names: dict[str, Any] = {}
    exec((tmp_path / "train.py").read_text(), names)
    job = Job.from_file(tmp_path / "job.yaml")
    assert job.space is not None
    middle = Evaluation.of("first", job.space.decode([0.5] * job.space.dimensions))
    result = evaluate(cloudpickle.dumps(names["train"]), middle)  # not in this process: JAX has threads, and tests fork
    assert result.fitness is not None, result.error
    assert 0.3 < result.fitness <= 1
    assert [point["epoch"] for point in result.curve] == [1, 2, 3, 4, 5]


def test_a_program_to_begin_with_is_searched(tmp_path: Path) -> None:
    assert run_swarm(tmp_path, "init", "--for", "program").returncode == 0
    done = run_swarm(tmp_path, "run", "job.yaml", "stop.evaluations=2", "--slots", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 evaluations: 2 trainings run" in done.stdout


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_written_to_begin_with_is_a_job(kind: str, tmp_path: Path) -> None:
    said = swarm("init", str(tmp_path / "new"), "--for", kind)
    assert f"wrote {tmp_path / 'new' / 'train.py'}" in said.replace("\n", "")
    assert yaml.safe_load((tmp_path / "new" / "job.yaml").read_text())["name"] == "first"
    assert Job.from_file(tmp_path / "new" / "job.yaml").stop.evaluations == 30


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    done = run_swarm(tmp_path, "init")
    assert done.returncode == 2
    assert done.stderr == "swarm: job.yaml would be overwritten: name another folder, swarm init FOLDER\n"
    assert (tmp_path / "job.yaml").read_text() == "mine"
    assert not (tmp_path / "train.py").exists()


def test_a_dry_run_says_what_a_job_costs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    raise SystemExit('trained')\n")
    (tmp_path / "job.yaml").write_text(JOB)
    done = run_swarm(tmp_path, "run", "job.yaml", "repeats=3", "--slots", "2", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "1,681 different configurations" in done.stdout
    assert "30 trials at most, 90 trainings on 2 slots; how long one takes is not known yet" in done.stdout
    assert "the name is free" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"train.py", "job.yaml", "__pycache__"}


def test_a_plan_knows_the_archive_and_the_name(open_store: Callable[..., Store], tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        return float(params["x"])

    def job_of(generations: int, **others: Any) -> Job:
        method = PSO(particles=5, generations=generations)
        return Job(name="job", problem=train, space={"x": Integer(0, 10**6)}, optimizer=method, **others)

    url = f"sqlite:///{tmp_path}/plan.db"
    store, job = Store(url), job_of(3)
    assert plan(job, url, slots=5).seconds is None
    enroll(job, store)
    asyncio.run(Search(job, store).run(VirtualPool(5, lambda e: float(e.params["x"]), lambda e: 60.0)))
    again = plan(job, url, slots=5)
    assert (again.trials, again.known, again.seconds) == (0, 20, 60.0)
    assert again.taken == "finished after 20 trials: nothing would be trained; swarm show job"
    other = plan(job_of(7, seed=2), url, slots=5)
    assert other.taken is not None
    assert "the store has another job of this name" in other.taken
    assert (other.trials, other.trainings, other.seconds_left) == (40, 40, 8 * 60.0)
    assert store.names("") == {"job"}
    store.close()


def test_a_plan_ends_where_the_limits_do() -> None:
    def train(params: Any, ctx: Any) -> float:
        return 0.0

    space = {"x": Integer(0, 10**6)}
    job = Job(name="a", problem=train, space=space, optimizer=PSO(particles=5, generations=99), stop={"evaluations": 7})
    assert plan(job, "absent.db").trials == 7
    assert not Path("absent.db").exists()


@pytest.mark.parametrize(
    ("problem", "hint"),
    [
        ("train.py:trian", "train.py has no 'trian' (did you mean 'train'?)"),
        ("train.py:nothing", "train.py has no 'nothing'; it has prepare, train"),
        ("train:trian", "train has no 'trian' (did you mean 'train'?)"),
        ("train.trian", "did you mean 'train.py:train'?"),
        ("train.py", "did you mean 'train.py:train'?"),
        ("train", "did you mean 'train.py:train'?"),
        ("trains.py:train", "(did you mean 'train.py'?)"),
        ("digits-cn", "did you mean 'digits-cnn'?"),
    ],
)
def test_a_function_that_is_misspelt_is_guessed(problem: str, hint: str, tmp_path: Path) -> None:
    body = "def prepare(x):\n    return 1\n\n\ndef train(params, ctx):\n    return prepare(1)\n"
    (tmp_path / "train.py").write_text("from math import sin\nSIZE = 3\n\n\n" + body)
    (tmp_path / "job.yaml").write_text(JOB)
    done = run_swarm(tmp_path, "run", "job.yaml", f"problem={problem}", "--dry-run")
    assert done.returncode == 2, done.stdout
    assert hint in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_has_every_command_in_a_section() -> None:
    named = [name for names in SECTIONS.values() for name in names]
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(named) == sorted(commands)
    said = swarm("--help")
    assert [title for title in SECTIONS if f"\n{title}:\n" not in said] == []


def test_the_version_is_said() -> None:
    assert swarm("--version") == f"dask-swarm {__version__}\n"


def test_the_start_of_workers_is_no_part_of_the_pace(open_store: Callable[..., Store]) -> None:
    def train(params: Any, ctx: Any) -> float:
        return 0.0

    job = Job(name="job", problem=train, space={"x": Integer(0, 10**6)}, optimizer=PSO(particles=2, generations=4))
    store, left = open_store(), []
    enroll(job, store)
    pool = VirtualPool(0, lambda e: float(e.params["x"]), lambda e: 10.0, changes=[(1000.0, 1)])
    asyncio.run(Search(job, store).run(pool, lambda search: left.append((search.state.told, search.seconds_left))))
    assert {told: left_at for told, left_at in left if left_at is not None} == {
        n: 10.0 * (10 - n) for n in range(1, 10)
    }
