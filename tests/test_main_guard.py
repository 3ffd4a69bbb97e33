"""A script that cannot be imported by the worker processes ends at once, with one line that says why and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from swarm.errors import ClusterError, NotStarted, ScriptEnded, SwarmError

JOB = 'Job(name="g", problem=train, space={"n": Integer(0, 3)}, optimizer=Grid())'
RUN = f'run({JOB}, slots=2, store="s.db", progress=False)'
HEAD = """
from swarm import Client, Grid, Integer, Job, run
from swarm.runner import resume
def train(params, ctx):
    return params["n"]
"""
GUARD = 'put it below: if __name__ == "__main__":'


def script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "main.py").write_text(HEAD + textwrap.dedent(text).format(run=RUN))
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    left = [each for each in psutil.process_iter(["pid", "cwd"]) if each.pid not in before]
    assert [each for each in left if each.info["cwd"] == str(folder)] == [], "a process is left"
    return done


@pytest.mark.parametrize(
    "text",
    [
        'print("best", {run}.best)',
        pytest.param("def main():\n    return {run}\nmain()", marks=pytest.mark.deep),
        "import helper\nhelper.start(lambda: {run})",
        "import asyncio\nasync def cell():\n    return {run}\nasyncio.run(cell())",
        pytest.param("try:\n    {run}\nexcept ValueError:\n    raise SystemExit(3)", marks=pytest.mark.deep),
    ],
)
def test_a_script_without_the_guard_ends_with_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "helper.py").write_text("def start(work):\n    return work()\n")
    done = script(tmp_path, text)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("swarm: ")
    assert "main.py:" in done.stderr
    assert done.stderr.rstrip().endswith(GUARD)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("assert __name__ == '__main__', 'not here'", "main.py:6: AssertionError: not here, when a worker process"),
        ("import os\nif __name__ != '__main__': open('none.csv')", "main.py:7: FileNotFoundError: .*none.csv"),
    ],
)
def test_a_script_that_workers_cannot_import_for_another_reason_says_that(
    tmp_path: Path, text: str, reason: str
) -> None:
    done = script(tmp_path, f"{text}\nif __name__ == '__main__':\n    {{run}}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert re.search(reason, done.stderr)


def test_a_script_that_ends_without_a_word_in_a_worker_is_told_of(tmp_path: Path) -> None:
    done = script(tmp_path, "import os\nif __name__ != '__main__': os._exit(3)\nif __name__ == '__main__':\n    {run}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a worker process could not be started" in done.stderr


def test_a_script_with_the_guard_may_run_in_processes_of_its_own(tmp_path: Path) -> None:
    text = """
        import multiprocessing
        def work():
            print({run}.counts["trained"])
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=work)
            process.start()
            process.join()
    """
    done = script(tmp_path, text)
    assert (done.stdout, done.stderr) == ("4\n", "")


def test_what_ends_a_script_can_be_caught_as_any_error_of_ours(tmp_path: Path) -> None:
    assert issubclass(ScriptEnded, SwarmError)
    assert issubclass(ScriptEnded, ClusterError)
    assert issubclass(ScriptEnded, NotStarted)
    text = """
        import os
        if __name__ != "__main__":
            raise ImportError("no GPU")
        try:
            {run}
        except Exception as error:
            print(type(error).__name__, error)
        assert "SWARM_START_REPORT" not in os.environ
    """
    done = script(tmp_path, text)
    assert done.returncode == 0
    assert "ScriptEnded" in done.stdout
    assert "ImportError: no GPU" in done.stdout
    assert "SWARM_START_REPORT" not in os.environ
