"""What the documents show is what there is: their examples are run as a newcomer would, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from services import Service, wait_until
from typer.testing import CliRunner

from swarm import PSO, Job
from swarm.cli import app
from swarm.optimizers import OPTIMIZERS
from swarm.workers.models import PROBLEMS

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"
SMALL = {"particles": 2, "generations": 1}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code(text: str) -> list[str]:
    """Everything that is set as code: spans, and the lines of shell blocks without their comments."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line.split("  #")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return spans + lines


def small(text: str) -> str:
    """The same example with a swarm that is done in seconds."""
    for option, value in SMALL.items():
        text, times = re.subn(rf"\b{option}( ?[=:] ?)\d+", rf"{option}\g<1>{value}", text)
        assert times, f"the example has no {option}"
    return text


def call(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    env = os.environ | environment
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def usage(*command: str) -> str:
    return CliRunner().invoke(app, [*command, "--help"], prog_name="swarm").output


SWARM = sorted({text for text in code(README) + code(CONTRIBUTING) if text.startswith("swarm ")})


COMMANDS = re.findall(r"^  ([a-z]+)  +[A-Z]", usage().partition("Begin:")[2], re.MULTILINE)


def test_the_examples_in_the_readme_are_those_in_the_folder() -> None:
    names = ("digits_mlp.py", "submit.py", "attach.py")
    files = [(EXAMPLES / name).read_text(encoding="utf-8") for name in names]
    assert blocks(README, "python") == [re.sub(r'^""".*"""\n\n', "", text) for text in files]
    assert blocks(README, "yaml") == [(EXAMPLES / "digits.yaml").read_text(encoding="utf-8")]


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(small(blocks(README, "python")[0]), encoding="utf-8")
    printed = call(sys.executable, "mine.py", cwd=tmp_path)
    assert re.search(r"^\d\.\d+ \{'units': \d+, 'rate': ", printed, re.MULTILINE)
    assert "'trained': 4" in printed
    assert "generation" in printed


@pytest.mark.slow
def test_the_job_file_runs(tmp_path: Path) -> None:
    (tmp_path / "JOB.yaml").write_text(small(blocks(README, "yaml")[0]), encoding="utf-8")
    beside = ("--baseline", "random", "--report", "job.html")
    printed = call(BIN / "swarm", "run", "JOB.yaml", "--slots", "2", *beside, cwd=tmp_path)
    shown = blocks(README, "text")[0]
    names = re.findall(r"^ (\w+) ", shown, re.MULTILINE)
    assert "learning_rate" in names and "fitness" in names
    assert re.findall(r"^ (\w+) ", printed, re.MULTILINE) == names
    compared = r"^on the unseen test set: [\d.]+ by PSO, [\d.]+ by random search; \d+ configurations each$"
    assert re.search(compared, printed, re.MULTILINE) and re.search(compared, shown, re.MULTILINE)
    assert re.search(r"^wrote job.html \(\d\.\d MB\)$", printed, re.MULTILINE)
    assert "trainings run" in shown and "4 evaluations: 4 trainings run" in printed
    assert {
        "finished: done",
        "more: swarm show digits --store demo.db, swarm report digits --store demo.db, swarm dashboard --store demo.db",
    } <= set(shown.splitlines())
    more = "more: swarm show digits, swarm report digits, swarm dashboard"
    assert {"finished: done", more} <= set(printed.splitlines())


def test_branin_finds_the_known_minimum(tmp_path: Path) -> None:
    printed = call(sys.executable, EXAMPLES / "branin.py", cwd=tmp_path)
    result = printed.splitlines()[-1]  # after the progress
    assert float(result.split()[0]) == pytest.approx(0.397887, abs=5e-3)


@pytest.mark.slow
def test_the_service_is_started_left_and_found_again_as_shown(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Service(tmp_path) as service:
        block = next(block for block in blocks(README, "sh") if "swarm scheduler" in block)
        scheduler, worker, master = (line.split("#")[0].split()[1:] for line in block.splitlines())
        at = service.address
        service.start("scheduler", *scheduler, "--port", at.rpartition(":")[2], "--dashboard", "127.0.0.1:0")
        service.start("workers", *(word.replace("tcp://127.0.0.1:8786", at) for word in worker))
        service.start("master", *(word.replace("tcp://127.0.0.1:8786", at) for word in master))
        wait_until(lambda: service.client.hello()["master"])
        for name, cwd in (("submit.py", tmp_path), ("attach.py", elsewhere)):
            text = (EXAMPLES / name).read_text(encoding="utf-8")
            (cwd / name).write_text(text.replace("generations=20", "generations=3"), encoding="utf-8")
            printed = call(sys.executable, name, cwd=cwd, DASK_SCHEDULER_ADDRESS=at)
            assert "valley" in printed
        assert "{'x': " in printed
        assert (tmp_path / "swarm.db").exists()


def test_every_script_among_the_examples_is_run_by_a_test_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "branin.py",
        "digits_mlp.py",
        "digits_torch.py",  # this and the next in workers/test_backends.py
        "digits_jax.py",
        "submit.py",
        "attach.py",
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_job_file_is_a_job_even_where_there_is_no_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWARM_DATA", raising=False)
    job = Job.from_file(path)
    assert job.name == path.stem
    assert f"swarm run examples/{path.name}" in path.read_text(encoding="utf-8")


def test_the_job_file_of_the_report_is_the_variant_of_the_same_name() -> None:
    assert Job.from_file(EXAMPLES / "pso-report.yaml").optimizer == PSO.report()


@pytest.mark.parametrize("command", SWARM)
def test_every_command_and_option_that_is_shown_exists(command: str) -> None:
    words = command.split()
    known = usage(words[1])
    options = re.findall(r"--[a-z-]+", command)
    assert set(options) <= set(re.findall(r"--[a-z-]+", known))


def test_every_command_method_and_problem_is_named_in_the_readme() -> None:
    assert "run" in COMMANDS
    for command in COMMANDS:
        assert any(shown.split()[1] == command for shown in SWARM), command
    for name in (*OPTIMIZERS, *PROBLEMS):
        assert f"`{name}`" in README, name


@pytest.mark.parametrize("option", sorted({text.split()[0] for text in code(README) if text.startswith("--")}))
def test_every_option_that_is_named_alone_exists(option: str) -> None:
    assert any(option in re.findall(r"--[a-z-]+", usage(command)) for command in COMMANDS)


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    calls = [text for text in code(README) + code(CONTRIBUTING) if text.startswith("make ")]
    assert calls
    assert {word for text in calls for word in text.partition("#")[0].split()[1:]} <= targets


@pytest.mark.parametrize("text", [README, CONTRIBUTING, CHANGELOG], ids=["README", "CONTRIBUTING", "CHANGELOG"])
def test_every_file_that_is_named_exists(text: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    paths = [span for span in code(text) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.(md|py|svg|toml|txt|yaml))", span)]
    placeholders = {"tests/optimizers/test_NAME.py", "JOB.yaml", "job.yaml", "train.py"}
    assert not [path for path in links + paths if path not in placeholders and not (ROOT / path).exists()]
