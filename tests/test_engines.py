"""``make engines``: the frame, and the service on those engines that take seconds and are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

sys.path.append(str(Path(__file__).parent.parent))  # where `python -m deploy.engines` finds them

from deploy.engines import table
from deploy.engines.frame import Engine, Outcome, Row, Unavailable, run_all, which
from deploy.engines.job import Lines, Work
from deploy.engines.service import faults

ROOT = Path(__file__).parent.parent

EXPECTED = {"0": ("3", "4", "-1.5"), "1": ("5", "6", "-2.25")}
PAGE = f"# Engines\n\n{table.BEGIN}\n{table.END}\n\nAfter it.\n"


@pytest.fixture
def work() -> Work:
    return Work(particles=2, generations=0, seconds=0.0, expected=EXPECTED, trained=2)


class Fine(Engine):
    """One that does what it is told."""

    name: ClassVar = "fine"
    packages: ClassVar = {"sh": "dash"}

    def version(self) -> str:
        return "1"

    def run(self, folder: Path, work: Work) -> Row:
        (folder / "store").touch()
        return Row(engine=self.name, outcome=Outcome.SAME, version=self.version(), trainings="2 of 2")


class Broken(Fine):
    """One that does not."""

    name: ClassVar = "broken"

    def run(self, folder: Path, work: Work) -> Row:
        raise ValueError("it broke\non two lines")


class Closed(Fine):
    """One that finds out late that it cannot run here."""

    name: ClassVar = "closed"

    def run(self, folder: Path, work: Work) -> Row:
        raise Unavailable("the kernel has none")


class Missing(Fine):
    """One whose program is not there."""

    name: ClassVar = "missing"
    packages: ClassVar = {"no-such-program": "its-package", "sh": "dash"}


def test_what_happens_to_one_engine_is_nothing_to_the_next(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    rows = run_all([Broken(), Missing(), Closed(), Fine()], work, keep=None, say=said.append)
    assert [(row.engine, row.outcome) for row in rows] == [
        ("broken", Outcome.WRONG),
        ("missing", Outcome.SKIPPED),
        ("closed", Outcome.SKIPPED),
        ("fine", Outcome.SAME),
    ]
    assert rows[0].note == "ValueError: it broke" and "on two lines" in capsys.readouterr().err
    assert "no-such-program" in rows[1].note and "apt-get install its-package" in rows[1].note
    assert "dash" not in rows[1].note
    assert rows[2].note == "the kernel has none"
    assert said[-1] == "fine: same"


def test_a_folder_that_is_kept_has_what_an_engine_has_left(work: Work, tmp_path: Path) -> None:
    run_all([Fine()], work, keep=tmp_path / "kept", say=lambda _: None)
    assert (tmp_path / "kept" / "fine" / "store").exists()


def test_a_row_stays_in_the_page_until_its_engine_has_run_again(tmp_path: Path) -> None:
    page = tmp_path / "engines.md"
    page.write_text(PAGE, encoding="utf-8")
    ran = Row(engine="ssh", outcome=Outcome.SAME, version="9", killed=("worker", "sshd"), trainings="2 of 2", again="1")
    skipped = Row(engine="slurm", outcome=Outcome.SKIPPED, note="not installed")
    table.update(page, [ran, skipped])
    table.update(page, [Row(engine="ssh", outcome=Outcome.SKIPPED, note="not here")])
    table.update(page, [Row(engine="postgres", outcome=Outcome.WRONG, note="a | b")])
    table.update(page, [Row(engine="slurm", outcome=Outcome.SAME, version="22", trainings="2 of 2")])
    lines = page.read_text(encoding="utf-8").splitlines()
    found = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    assert list(found) == ["engine", "ssh", "slurm", "postgres"]
    assert found["ssh"].startswith("| ssh | 9 | worker, sshd | 2 of 2 | 1 | yes |")
    assert "not here" not in found["ssh"] and "| yes |" in found["slurm"]
    assert "| **no** |" in found["postgres"] and "a / b" in found["postgres"]
    assert lines[0] == "# Engines" and lines[-1] == "After it."


def test_an_answer_is_compared_to_the_last_digit_and_trainings_are_counted(work: Work, tmp_path: Path) -> None:
    lines = Lines(tmp_path, work)
    (tmp_path / "ended").write_text("3-4\n5-6\n")
    assert faults(lines, work, dict(EXPECTED)) == []
    assert faults(lines, work, EXPECTED | {"1": ("5", "6", "-2.2500000000000004")}) == [
        "1 of 2 trials are not those of the undisturbed job"
    ]
    assert faults(lines, work, {"0": EXPECTED["0"]}) and faults(lines, work, EXPECTED | {"2": ("7", "8", "-3.0")})
    (tmp_path / "ended").write_text("3-4\n5-6\n5-6\n")
    assert faults(lines, work, EXPECTED) == ["1 trainings ended twice"]
    (tmp_path / "ended").write_text("3-4\n")
    assert faults(lines, work, EXPECTED) == ["1 configurations were trained, not 2"]


def engines(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.engines", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_an_engine_that_is_none_is_refused_before_anything_runs() -> None:
    done = engines("postgers")
    assert done.returncode == 2 and "there is no engine postgers; there are postgres, ssh" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "killed"), [("ssh", "worker, sshd, master"), ("postgres", "worker, PostgreSQL, ")])
def test_a_job_on_a_real_engine_survives_that_its_parts_are_killed(
    engine: str, killed: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "postgres" and which("sshd") and not request.config.getoption("--all"):
        pytest.skip("the one on ssh has run; --all runs both")
    page = tmp_path / "engines.md"
    page.write_text(PAGE, encoding="utf-8")
    done = engines(engine, "--particles", "4", "--generations", "7", "--seconds", "0.1", "--table", page)
    (row,) = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {engine} |")]
    if "| skipped |" in row:
        pytest.skip(row)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| {killed}" in row and "| yes |" in row
