"""The command ``swarm`` as people run it: real processes, really killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from scripts import SWARM, run_swarm

TRAIN = """
import time


def train(params, ctx):
    {body}
    with open({log!r}, "a") as log:
        log.write(f"{{params['x']}}/{{params['y']}}\\n")
    return -(params["x"] - 7) ** 2 - (params["y"] - 3) ** 2
"""

JOB = """
name: bowl
problem: train.py:train
space: {x: {integer: [0, 40]}, y: {integer: [0, 40]}}
optimizer: {name: PSO, particles: 6, generations: 8}
seed: 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job file, whose trainings write their keys into the file ``log`` when they have finished."""
    write(tmp_path)
    return tmp_path


def write(folder: Path, job: str = JOB, body: str = "pass") -> None:
    (folder / "train.py").write_text(TRAIN.format(body=body, log=str(folder / "log")))
    (folder / "job.yaml").write_text(job)


def swarm(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_swarm(folder, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in the background, in a process group of its own; killed at the end."""
    process = subprocess.Popen(
        [SWARM, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"{text!r} never came: {process.stderr.read() if process.stderr else ''}")


def exported(folder: Path, name: str = "bowl") -> pd.DataFrame:
    swarm(folder, "export", name, "--csv", f"{name}.csv")
    return pd.read_csv(folder / f"{name}.csv")


TRAJECTORY = ["trial", "generation", "member", "status", "fitness", "x", "y"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The history of the job when nothing happens to it, on one slot."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write(folder)
    swarm(folder, "run", "job.yaml", "--slots", "1")
    return exported(folder)


def test_a_run_prints_its_generations_and_its_result(folder: Path) -> None:
    done = swarm(folder, "run", "job.yaml", "--slots", "2")
    assert "dashboard: http://127.0.0.1:" in done.stdout
    assert "generation 8: fitness" in done.stdout
    assert "best of bowl" in done.stdout
    assert "54 evaluations" in done.stdout
    assert done.stderr == ""


def test_why_trainings_fail_is_said_at_once_and_at_the_end(folder: Path) -> None:
    write(folder, body="assert params['x'] > 20, 'x is too small'")
    done = swarm(folder, "run", "job.yaml", "--slots", "1")
    assert done.stdout.count("AssertionError: x is too small") == 2
    assert "trials failed" in done.stdout


def test_two_slots_give_the_same_history_as_one(folder: Path, undisturbed: pd.DataFrame) -> None:
    swarm(folder, "run", "job.yaml", "--slots", "2")
    pd.testing.assert_frame_equal(exported(folder)[TRAJECTORY], undisturbed[TRAJECTORY])


def test_a_run_killed_in_the_middle_resumes_to_the_same_answer(folder: Path, undisturbed: pd.DataFrame) -> None:
    with started(folder, "run", "job.yaml", "--slots", "2") as process:
        read_until(process, "generation 2:")
        os.killpg(process.pid, signal.SIGKILL)  # the run, its workers and their trainings
    done = swarm(folder, "resume", "bowl", "--slots", "2")
    assert "going on after" in done.stdout
    history = exported(folder)
    pd.testing.assert_frame_equal(history[TRAJECTORY], undisturbed[TRAJECTORY])
    runs = Counter((folder / "log").read_text().split())
    assert len(runs) == (history["source"] == "trained").sum()
    assert max(runs.values()) == 1, "a training that had finished was repeated"


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(folder: Path, undisturbed: pd.DataFrame) -> None:
    with started(folder, "run", "job.yaml", "--slots", "2") as process:
        read_until(process, "generation 1:")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors.strip() == "bowl was stopped; go on with: swarm resume bowl --store sqlite:///swarm.db"
    assert "stopped" in swarm(folder, "show").stdout
    swarm(folder, "run", "job.yaml", "--slots", "2")  # the same job under the same name goes on, too
    pd.testing.assert_frame_equal(exported(folder)[TRAJECTORY], undisturbed[TRAJECTORY])


def test_the_same_job_again_is_answered_by_the_archive(folder: Path) -> None:
    swarm(folder, "run", "job.yaml", "--slots", "2")
    trainings = (folder / "log").read_text()
    done = swarm(folder, "run", "job.yaml", "--again", "--slots", "2")
    assert "0 trainings run, 54 saved" in done.stdout
    assert (folder / "log").read_text() == trainings
    assert set(exported(folder, "bowl-2")["source"]) == {"archive"}


def test_another_job_of_the_same_name_is_refused_saying_what_differs(folder: Path) -> None:
    swarm(folder, "run", "job.yaml", "--slots", "1")
    done = swarm(folder, "run", "job.yaml", "--seed", "6", code=2)
    assert "seed is 6, was 5" in done.stderr
    write(folder, body="time.time()")
    done = swarm(folder, "run", "job.yaml", code=2)
    assert "problem.fingerprint" in done.stderr


def test_show_lists_runs_and_generations(folder: Path) -> None:
    swarm(folder, "run", "job.yaml", "--slots", "1")
    assert "finished" in swarm(folder, "show").stdout
    shown = swarm(folder, "show", "bowl").stdout
    for word in ("gen", "mean", "trained", "archive", "in flight", "seconds", "best of bowl"):
        assert word in shown


BAD = [
    (JOB.replace("PSO", "PSA"), [], "did you mean 'PSO'"),
    (JOB.replace("particles", "particle"), [], "did you mean 'particles'"),
    (JOB.replace("seed", "sed"), [], "unknown key 'sed'"),
    (JOB.replace("seed: 5", "seed: five"), [], "seed"),
    (JOB.replace("x: {integer: [0, 40]}", "x: {integer: [40, 0]}"), [], "swap them"),
    (JOB.replace("train.py:train", "train.py:nothing"), [], "it has train"),
    (JOB.replace("train.py:train", "train.py:time"), [], "not module"),
    (JOB, ["--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
    (JOB, ["--slots", "0"], "at least 1"),
    (JOB, ["--store", "nowhere/swarm.db"], "does its folder exist"),
    (JOB, ["--gpus", "all", "--slots", "2"], "not both"),
]


@pytest.mark.parametrize(("job", "arguments", "says"), BAD, ids=[bad[2] for bad in BAD])
def test_bad_input_is_one_line_exit_code_2_and_writes_nothing(
    job: str, arguments: list[str], says: str, folder: Path
) -> None:
    write(folder, job)
    done = swarm(folder, "run", "job.yaml", *arguments, code=2)
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(folder.glob("*.db*"))


def test_a_locked_and_a_newer_store_are_one_line_and_exit_code_2(folder: Path) -> None:
    swarm(folder, "run", "job.yaml", "--slots", "1")
    holder = sqlite3.connect(folder / "swarm.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    command = [SWARM, "run", "job.yaml", "--again"]
    env = {**os.environ, "DASK_SWARM__STORE_PATIENCE_SECONDS": "1"}  # which Dask reads when it is imported
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "locked" in done.stderr, done.stderr
    holder.execute("ROLLBACK")
    holder.execute("UPDATE swarm_meta SET value = '99'")
    holder.close()
    done = swarm(folder, "show", code=2)
    assert "upgrade" in done.stderr


@contextlib.contextmanager
def scheduler(folder: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A plain Dask scheduler and its address; killed at the end."""
    dask = str(Path(sys.executable).with_name("dask"))
    command = [dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", "127.0.0.1:0"]
    env = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "info"}  # its address stands in its log
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if "Scheduler at:" in line)
            # From here on somebody has to read what it says, or a full pipe stops it.
            with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
                try:
                    yield process, address
                finally:
                    process.kill()
        finally:
            process.kill()


def test_a_run_on_a_scheduler_with_workers_started_by_hand(folder: Path, undisturbed: pd.DataFrame) -> None:
    with scheduler(folder) as (_, address):
        done = swarm(folder, "run", "job.yaml", "--scheduler", address, code=2)
        assert "no worker with a GPU slot" in done.stderr
        assert not list(folder.glob("*.db*"))
        with started(folder, "worker", address, "--slots", "2", "--host", "127.0.0.1") as worker:
            read_until(worker, "2 slots")
            swarm(folder, "run", "job.yaml", "--scheduler", address)
        pd.testing.assert_frame_equal(exported(folder)[TRAJECTORY], undisturbed[TRAJECTORY])


@pytest.mark.slow
def test_a_scheduler_killed_and_started_again_costs_no_result(folder: Path, undisturbed: pd.DataFrame) -> None:
    write(folder, body="time.sleep(0.2)  # long enough to be in flight when the scheduler dies")
    with scheduler(folder) as (process, address):
        port = int(address.rsplit(":", 1)[1])
        with started(folder, "worker", address, "--slots", "2", "--host", "127.0.0.1") as worker:
            read_until(worker, "2 slots")
            with started(folder, "run", "job.yaml", "--scheduler", address) as run:
                read_until(run, "generation 2:")
                process.kill()
                process.wait()
                with scheduler(folder, port):
                    read_until(run, "finished: done")
    pd.testing.assert_frame_equal(exported(folder)[TRAJECTORY], undisturbed[TRAJECTORY])
