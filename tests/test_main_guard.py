"""A script runs with a main guard and without, and says why if trainings cannot import it."""

from __future__ import annotations

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
        "print({run}.best.fitness)",
        pytest.param("def main():\n    return {run}\nprint(main().best.fitness)", marks=pytest.mark.deep),
        "import helper\nprint(helper.start(lambda: {run}).best.fitness)",
        "import asyncio\nasync def cell():\n    return {run}\nprint(asyncio.run(cell()).best.fitness)",
        "try:\n    print({run}.best.fitness)\nexcept Exception:\n    raise SystemExit(3)",
    ],
    ids=["at the top level", "in a function", "in a function of another module", "in a coroutine", "in a try block"],
)
def test_a_script_without_the_guard_runs_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "helper.py").write_text("def start(work):\n    return work()\n")
    done = script(tmp_path, text)
    assert (done.stdout, done.stderr, done.returncode) == ("3.0\n", "", 0)


def test_what_is_defined_between_two_runs_of_a_script_without_the_guard_travels(tmp_path: Path) -> None:
    text = """
        scale = 1
        print({run}.best.fitness)
        scale, offset = 10, 5
        import math
        class Steps:
            width = 100
        def train(params, ctx):
            return math.floor(scale * params["n"] + offset + Steps.width)
        print(run(Job(name="h", problem=train, space={{"n": Integer(0, 3)}}, optimizer=Grid()), slots=2, store="s.db",
                  progress=False).best.fitness)
        raise SystemExit(4)
    """
    done = script(tmp_path, text)
    assert (done.stdout, done.stderr, done.returncode) == ("3.0\n135.0\n", "", 4)


def test_what_changes_between_a_guarded_run_and_one_without_a_guard_counts(tmp_path: Path) -> None:
    text = """
        base = 2
        def train(params, ctx):
            return base * params["n"]
        def best(name):
            job = Job(name=name, problem=train, space={{"n": Integer(0, 3)}}, optimizer=Grid())
            found = run(job, slots=2, store="s.db", progress=False)
            return found.best.fitness, found.counts["trained"]
        if __name__ == "__main__":
            print(*best("guarded"))
        print(*best("unguarded"))
        base = 3
        print(*best("after"))
    """
    done = script(tmp_path, text)
    assert (done.stdout, done.stderr) == ("6.0 4\n6.0 0\n9.0 4\n", "")


def test_a_module_that_runs_a_search_when_it_is_imported_does_so_once(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(HEAD + f"found = {RUN}\n")
    done = script(tmp_path, "import search\nprint(search.found.best.fitness)")
    assert (done.stdout, done.stderr, done.returncode) == ("3.0\n", "", 0)


@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__': "], ids=["without the guard", "with it"])
def test_only_what_trains_imports_the_script(tmp_path: Path, guard: str) -> None:
    text = f"""
        import os
        with open("imports.txt", "a") as file:
            print(__name__, os.getpid(), file=file)
        def train(params, ctx):
            return os.getppid()
        {guard}print({{run}}.history.fitness.unique().astype(int))
    """
    done = script(tmp_path, text)
    (own, _), *others = (line.split() for line in (tmp_path / "imports.txt").read_text().splitlines())
    assert own == "__main__"
    assert done.stdout == f"[{' '.join(pid for name, pid in others if name == '__mp_main__')}]\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("assert __name__ == '__main__', 'not here'", r"AssertionError: not here"),
        ("import os\nif __name__ != '__main__': open('none.csv')", r"FileNotFoundError: .*none.csv"),
        ("import os\nif __name__ != '__main__': os._exit(3)", r"the process that holds the problem exited with code 3"),
    ],
    ids=["an error", "a file that is not there", "an end without a word"],
)
def test_a_script_that_trainings_cannot_import_says_why(tmp_path: Path, text: str, reason: str) -> None:
    done = script(tmp_path, f"{text}\nif __name__ == '__main__':\n    {{run}}")
    assert done.returncode == 1
    assert re.search(reason, done.stderr.splitlines()[-1])


def test_processes_that_a_training_starts_say_that_they_need_the_guard(tmp_path: Path) -> None:
    text = """
        import multiprocessing
        def train(params, ctx):
            process = multiprocessing.get_context("spawn").Process(target=print)
            process.start()
            process.join()
            return process.exitcode
        print({run}.output(0))
    """
    done = script(tmp_path, text)
    assert "run() is called whenever the script is imported, as by a process that multiprocessing starts" in done.stdout
    assert 'put it below: if __name__ == "__main__":' in done.stdout


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


def test_what_ends_a_script_can_be_caught_as_any_error_of_ours() -> None:
    assert issubclass(ScriptEnded, SwarmError)
    assert issubclass(ScriptEnded, ClusterError)
    assert issubclass(ScriptEnded, NotStarted)


@pytest.mark.parametrize("caught", [False, True], ids=["let pass", "caught"])
def test_a_worker_process_that_cannot_start_ends_the_script_with_one_line(tmp_path: Path, caught: bool) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    hook = "import os, sys\nif '--multiprocessing-fork' in sys.orig_argv:\n    os._exit(3)\n"
    (hooks / "sitecustomize.py").write_text(hook)
    start = f"import os\nos.environ['PYTHONPATH'] = {str(hooks)!r}\n"
    text = "try:\n    {run}\nexcept Exception as error:\n    print(type(error).__name__, error)" if caught else "{run}"
    done = script(tmp_path, start + text)
    assert done.returncode == (0 if caught else 1)
    said = done.stdout if caught else done.stderr
    assert said.startswith("ScriptEnded " if caught else "swarm: ")
    assert "a worker process could not be started" in said
    assert len(said.splitlines()) == 1
