from __future__ import annotations

import json
import os
import shlex
import sys
import textwrap
from pathlib import Path

import cloudpickle
import psutil
import pytest

from swarm.errors import InvalidProblem
from swarm.job.problem import Problem
from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.command import CommandProblem
from swarm.workers.context import Context
from swarm.workers.evaluate import evaluate

PYTHON = shlex.quote(sys.executable)
PATIENCE = 20  # seconds until a process that was killed must be gone


@pytest.fixture
def program(tmp_path):
    """Writes a Python program; returns the command that runs it with the arguments given."""

    def write(source, arguments=""):
        (tmp_path / "train.py").write_text("import os, sys\nfrom pathlib import Path\n" + textwrap.dedent(source))
        return f"{PYTHON} {shlex.quote(str(tmp_path / 'train.py'))} {arguments}"

    return write


def run(problem, params=None, checkpoints=None, **options):
    return evaluate(cloudpickle.dumps(problem), Evaluation.of("p", params or {}, **options), checkpoints=checkpoints)


def error_of(problem, params=None, **options):
    result = run(problem, params, **options)
    assert result.status is Status.FAILED
    return result.error


# --- what the program is told


ARGUMENTS = "print('arguments:', len(sys.argv) - 1); Path(sys.argv[1]).write_text(repr(sys.argv[2:])); print('FoM: 1')"


def test_placeholders_are_filled_with_hyper_parameters_and_what_the_evaluation_is(program, tmp_path):
    command = program(ARGUMENTS, "{out} --lr={lr} {lr:.1e} {units} {on} {budget} {fold} {{braces}}")
    params = {"out": str(tmp_path / "out"), "lr": 0.015, "units": 32, "on": True}
    assert run(CommandProblem(command=command), params, budget=9.0, fold=3).fitness == 1
    assert (tmp_path / "out").read_text() == repr(["--lr=0.015", "1.5e-02", "32", "True", "9", "3", "{braces}"])


@pytest.mark.parametrize("value", ["two words", "; touch {out}", "$(id)", "'quoted", "@checkpoint", "{seed}", ""])
def test_a_value_is_one_argument_whatever_it_holds(program, tmp_path, value):
    command = program(ARGUMENTS, "{out} {value}")
    result = run(CommandProblem(command=command), {"out": str(tmp_path / "out"), "value": value})
    assert result.metrics["arguments"] == 2
    assert (tmp_path / "out").read_text() == repr([value])


def test_the_environment_is_the_workers_with_seed_and_budget(program, monkeypatch):
    monkeypatch.setenv("OF_THE_WORKER", "5")
    source = "print('own:', os.environ['OF_THE_WORKER']); print('seed:', os.environ['SWARM_SEED'])\n"
    source += "print('FoM:', os.environ.get('SWARM_BUDGET', -1))"
    problem = CommandProblem(command=program(source))
    result = run(problem, isolation="thread", budget=12.5)
    assert (result.fitness, result.metrics["own"]) == (12.5, 5)
    assert result.metrics["seed"] == Evaluation.of("p", {}, budget=12.5).seed
    assert run(problem).fitness == -1


def test_a_python_of_another_environment_does_not_get_our_libraries(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path[1:]]))
    source = """
        folders = os.environ["PYTHONPATH"].split(os.pathsep)
        print("ours:", sum("site-packages" in folder or "lib-dynload" in folder for folder in folders))
        print("FoM:", folders.count(sys.argv[1]))
    """
    result = run(CommandProblem(command=program(source, "{own}")), {"own": str(tmp_path)}, isolation="thread")
    assert result.fitness >= 1
    assert result.metrics["ours"] == 0


def test_it_runs_in_the_folder_that_the_problem_names(program, tmp_path):
    program("print('FoM:', Path('train.py').is_file())")
    (tmp_path / "here").write_text("FoM: 7\n")
    assert run(CommandProblem(command="cat here", cwd=str(tmp_path))).fitness == 7


def test_the_problems_budget_stands_in_for_a_missing_one(program):
    problem = CommandProblem(command=program("print('FoM:', sys.argv[1])", "{budget}"), budget=4)
    assert run(problem).fitness == 4
    assert run(problem, budget=2.5).fitness == 2.5


# --- what it answers


def test_the_last_figure_of_merit_is_the_fitness_and_each_is_reported(program):
    source = """
        print("epoch: 1"); print("FoM: 0.5")
        print("loading 3 files: done"); print("note: none"); print("a: b: 3")
        print("epoch: 2"); print("  FoM:  7.5e-1  "); print("seconds: 3")
    """
    result = run(CommandProblem(command=program(source)))
    assert result.fitness == 0.75
    assert result.metrics == {"epoch": 2, "seconds": 3}
    assert result.curve == ({"epoch": 1, "FoM": 0.5}, {"epoch": 2, "FoM": 0.75})


def test_reports_come_while_the_program_runs(program, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    command = program("print('FoM: 1'); print('FoM:', Path(sys.argv[1]).read_text())", "{fifo}")
    reported = []

    def answer(metrics):
        reported.append(metrics["FoM"])
        if metrics["FoM"] == 1:
            (tmp_path / "fifo").write_text("2")

    params = {"fifo": str(tmp_path / "fifo")}
    assert CommandProblem(command=command)(params, Context(params=params, _send=answer)) == {"fitness": 2}
    assert reported == [1, 2]


def test_the_figure_of_merit_may_have_another_name():
    problem = CommandProblem(command="printf 'val_loss: 0.25\\nFoM: 3\\n'", metric="val_loss")
    assert run(problem).fitness == 0.25


# --- what goes wrong


def test_an_exit_code_is_a_failure_that_ends_with_the_last_of_stderr(program):
    source = "[print('line', i, file=sys.stderr) for i in range(30)]; print('FoM: 1'); raise ValueError('lr is odd')"
    error = error_of(CommandProblem(command=program(source)))
    assert error.splitlines()[0] == "CommandFailed: the command exited with code 1: ValueError: lr is odd"
    assert error.rstrip().endswith("ValueError: lr is odd")
    assert "line 29" in error
    assert "line 5\n" not in error


def test_a_signal_is_a_failure(program):
    error = error_of(CommandProblem(command=program("os.kill(os.getpid(), 11)")))
    assert "was killed by signal 11 (SIGSEGV): its stderr is empty" in error


@pytest.mark.parametrize(("printed", "reason"), [("", "printed no line 'FoM: number'"), ("FoM: ?", "printed no line")])
def test_no_figure_of_merit_is_a_failure(printed, reason):
    assert reason in error_of(CommandProblem(command=f"echo '{printed}'"))


def test_a_figure_of_merit_that_is_no_number_is_a_failure():
    assert "a fitness of nan, which is no finite number" in error_of(
        CommandProblem(command="printf 'FoM: 1\\nFoM: nan'")
    )


def test_a_program_that_is_not_there_is_a_failure():
    assert "the command cannot be started: [Errno 2]" in error_of(CommandProblem(command="no-such-program"))


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_the_time_limit_ends_the_program_and_what_it_started(program, isolation):
    source = """
        import subprocess, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("epoch 3", file=sys.stderr, flush=True)
        print("program:", os.getpid()); print("child:", child.pid); print("FoM: 1")
        time.sleep(600)
    """
    result = run(CommandProblem(command=program(source), time_limit=2), isolation=isolation)
    assert "the command exceeded its time limit of 2 s: epoch 3" in result.error
    assert_gone(result.curve[0]["program"], result.curve[0]["child"])


def assert_gone(*pids):
    for pid in pids:
        try:
            psutil.Process(int(pid)).wait(PATIENCE)
        except psutil.NoSuchProcess:
            continue


SLEEPS = """
    import json, psutil, signal, time
    Path(sys.argv[1], "half").write_text("a checkpoint")
    family = [process.pid for process in psutil.Process(os.getppid()).children()]  # itself, and what tidies up
    Path("log").write_text(json.dumps([sys.argv[1], *family]))
    if "kill" in sys.argv:
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
"""


@pytest.mark.parametrize(("end", "limit", "status"), [("kill", None, Status.CRASHED), ("late", 2, Status.FAILED)])
def test_a_training_that_is_killed_leaves_neither_program_nor_directory(program, tmp_path, end, limit, status):
    problem = CommandProblem(command=program(SLEEPS, f"@checkpoint {end}"), cwd=str(tmp_path))
    assert run(problem, checkpoints=str(tmp_path / "checkpoints"), time_limit=limit).status is status
    directory, *family = json.loads((tmp_path / "log").read_text())
    assert len(family) == 2
    assert_gone(*family)
    assert not Path(directory).exists()


# --- what is refused


def test_an_unknown_placeholder_is_refused_when_the_problem_is_made():
    with pytest.raises(InvalidProblem, match=r"placeholder \{lr\}, but there are only budget, fold, rate, seed"):
        CommandProblem(command="train --lr {lr}", space={"rate": {"real": [0, 1]}})


def test_an_unknown_placeholder_is_refused_at_the_call_if_the_space_is_unknown():
    problem = CommandProblem(command="echo {lr} {budget}")
    assert error_of(problem, {"lr": 1}) == (
        "InvalidProblem: the command has a placeholder {budget}, but there are only fold, lr, seed"
    )


@pytest.mark.parametrize("placeholder", ["{}", "{0}", "{lr.__class__}", "{lr[0]}", "{lr!r}"])
def test_a_placeholder_is_the_name_of_a_hyper_parameter_and_nothing_else(placeholder):
    with pytest.raises(InvalidProblem, match="placeholder"):
        CommandProblem(command=f"echo {placeholder}", space={"lr": {"real": [0, 1]}})


@pytest.mark.parametrize("command", ["", "   ", "echo 'open", "echo {lr", "echo }"])
def test_a_command_that_cannot_be_read_is_refused(command):
    with pytest.raises(InvalidProblem, match="command"):
        CommandProblem(command=command)


def test_a_metric_of_two_words_is_refused():
    with pytest.raises(InvalidProblem, match="single word"):
        CommandProblem(command="echo", metric="val loss")


# --- checkpoints


COUNTS = """
    state, parts = Path(sys.argv[1], "state.txt"), Path(sys.argv[1], "parts")
    done = int(state.read_text()) if state.exists() else 0
    state.write_text(str(done + 1))
    parts.mkdir(exist_ok=True)
    (parts / f"{done}.npy").write_bytes(bytes([0, 255, done]))
    Path(sys.argv[1], "empty").touch()
    print("files:", sum(path.is_file() for path in Path(sys.argv[1]).rglob("*"))); print("FoM:", done + 1)
"""


def test_the_checkpoint_of_the_parent_lies_in_the_directory(program, tmp_path):
    problem, url = CommandProblem(command=program(COUNTS, "@checkpoint")), str(tmp_path / "checkpoints")
    first = run(problem, checkpoints=url)
    second = run(problem, checkpoints=url, parent=first.key)
    assert (first.fitness, first.metrics["files"]) == (1, 3)
    assert (second.fitness, second.metrics["files"]) == (2, 4)
    arrays = CheckpointStore(url).load(second.key).arrays
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        "empty": b"", "parts/0.npy": b"\x00\xff\x00", "parts/1.npy": b"\x00\xff\x01", "state.txt": b"2",
    }  # fmt: skip


def test_without_checkpoints_the_directory_is_empty_and_nothing_is_kept(program, tmp_path):
    problem = CommandProblem(command=program(COUNTS, "@checkpoint"))
    assert [run(problem, repeat=repeat).fitness for repeat in range(2)] == [1, 1]


def test_a_program_that_fails_leaves_no_checkpoint(program, tmp_path):
    url = str(tmp_path / "checkpoints")
    result = run(CommandProblem(command=program(COUNTS + "\n    sys.exit(3)", "@checkpoint")), checkpoints=url)
    assert result.status is Status.FAILED
    assert CheckpointStore(url).keys() == set()


def test_a_program_that_writes_nothing_leaves_no_checkpoint(tmp_path):
    result = run(CommandProblem(command="echo FoM: 1 @checkpoint\n", metric="FoM"), checkpoints=str(tmp_path))
    assert result.status is Status.FAILED, "FoM: 1 and more is no measurement"
    result = run(CommandProblem(command="sh -c 'echo FoM: 1' @checkpoint"), checkpoints=str(tmp_path))
    assert "checkpoint_bytes" not in result.metrics


def test_a_command_is_resumable_if_it_has_a_checkpoint():
    assert Problem.of(CommandProblem(command="train --to=@checkpoint/model")).resumable
    assert not Problem.of(CommandProblem(command="train")).resumable


# --- what it is


def test_a_changed_program_is_another_problem(program, tmp_path):
    def fingerprint(source, **options):
        program(source)
        return Problem.of(CommandProblem(command="python train.py {lr}", cwd=str(tmp_path), **options)).fingerprint

    assert fingerprint("print(1)") == fingerprint("print(1)", space={"lr": {"real": [0, 1]}}, name="other")
    assert fingerprint("print(1)") != fingerprint("print(2)")
    assert fingerprint("print(1)") != fingerprint("print(1)", metric="loss")


def test_a_client_makes_and_pickles_it():
    problem = CommandProblem(command="train {lr}", space={"lr": {"real": [0, 1]}})
    assert cloudpickle.loads(cloudpickle.dumps(problem)) == problem
    assert hash(problem)
