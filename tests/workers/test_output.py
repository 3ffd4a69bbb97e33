"""What trainings print is kept, a file for each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from scripts import run_swarm

from swarm import Grid, Integer, Job, run
from swarm.trial import Evaluation, Status
from swarm.workers.isolation import process
from swarm.workers.isolation.output import Output


@pytest.fixture(autouse=True)
def no_server_is_left() -> Any:
    yield
    process.close()


def printed(folder: Path, train: Callable[..., Any] | bytes, **fields: Any) -> tuple[Status, str]:
    """The status of a training, and what is kept of what it printed."""
    name = folder / "kept" / f"{fields.get('x', 0)}.txt"
    evaluation = Evaluation.of("problem", {"x": fields.pop("x", 0)}, budget=1, **fields)
    code = train if isinstance(train, bytes) else cloudpickle.dumps(train)
    result = process.run(code, evaluation, lambda _: None, str(folder / "saved"), prints=name)
    return result.status, name.read_text() if name.exists() else ""


def test_both_streams_of_a_training_and_of_its_own_processes_are_kept(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        import subprocess
        import sys

        print("one", flush=True)
        print("two", file=sys.stderr, flush=True)
        subprocess.run(["echo", "three"], check=True)
        print("four", end="")  # not flushed
        return 1.0

    assert printed(tmp_path, train) == (Status.OK, "one\ntwo\nthree\nfour")


def test_slices_that_follow_each_other_in_one_process_have_a_file_each(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        import os

        import numpy

        print(os.getpid(), "x" * params["x"])
        ctx.save({"x": numpy.zeros(1)})
        return 1.0

    code = cloudpickle.dumps(train)
    (_, first), (_, second) = (printed(tmp_path, code, x=x, slice=True) for x in (3, 5))
    assert [first.split()[1], second.split()[1]] == ["xxx", "xxxxx"]
    assert first.split()[0] == second.split()[0]


def test_the_last_words_of_a_training_that_dies_are_kept(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        import os

        os.write(2, b"no memory\n")
        os._exit(3)

    assert printed(tmp_path, train) == (Status.CRASHED, "no memory\n")


def test_of_much_output_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        for number in range(200_000):
            print(f"line {number}")
        return 1.0

    status, text = printed(tmp_path, train)
    assert status is Status.OK
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 199998\nline 199999\n")
    assert "bytes are left out here" in text
    assert len(text) < 140_000


def test_what_prints_nothing_has_no_file(tmp_path: Path) -> None:
    assert printed(tmp_path, lambda params, ctx: 1.0) == (Status.OK, "")
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_costs_the_output_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")

    def train(params: Any, ctx: Any) -> float:
        print("lost" * 100_000)
        return 1.0

    assert printed(tmp_path, train) == (Status.OK, "")


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 131_072, 131_073, 1_000_000])
def test_no_byte_is_lost_or_doubled_that_has_room(size: int, tmp_path: Path) -> None:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    output = Output(ends[0], tmp_path / "out")
    content = bytes(i % 251 for i in range(size))
    for start in range(0, size, 50_000):
        os.write(ends[1], content[start : start + 50_000])
        assert output.take()
    os.close(ends[1])
    output.end()
    os.close(ends[0])
    kept = (tmp_path / "out").read_bytes() if size else b""
    if size <= 131_072:
        assert kept == content
    else:
        assert kept.startswith(content[:65_536] + b"\n")
        assert kept.endswith(b"\n" + content[-65_536:])


@pytest.mark.slow
def test_what_a_trial_printed_is_shown_and_goes_with_its_run(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        print("I am", "abc"[params["n"]] * 5)
        return float(params["n"])

    store = tmp_path / "runs.db"
    job = Job(name="talks", problem=train, space={"n": Integer(0, 2)}, optimizer=Grid())
    found = run(job, slots=1, store=store, progress=False)
    assert [found.output(trial) for trial in range(3)] == ["I am aaaaa\n", "I am bbbbb\n", "I am ccccc\n"]
    assert found.output(99) == ""
    said = run_swarm(tmp_path, "show", "talks", "--output", "1", "--store", "runs.db")
    assert said.stdout == "I am bbbbb\n"
    assert list(tmp_path.rglob("*.txt"))
    gone = run_swarm(tmp_path, "delete", "talks", "--yes", "--archive", "--store", "runs.db")
    assert gone.returncode == 0, gone.stderr
    assert not list(tmp_path.rglob("*.txt"))
