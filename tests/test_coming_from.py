"""The page for those who come from other tools: each of its files runs, ours and Optuna's, in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import run_script, run_swarm
from services import wait_until
from test_docs import PAGES, blocks

from swarm import Run

PAGE = "guides/coming-from.md"
FILES = {title: text for _, title, text in blocks(PAGE) if title}
COMMANDS = [line.split("#")[0].strip() for name, _, text in blocks(PAGE) if name == "sh" for line in text.splitlines()]
ALONE = {  # a script of its own, and what it prints
    "known.py": r"^0 +0 +32 +0\.010 +32 .*\n1 +1 .*0\.003 ",
    "prune.py": r"^0\.\d+ 0\.\d+ \{1\.0, 3\.0, 9\.0\}$",
    "front.py": r"units .* weights\n0 ",
    "optuna_prune.py": "",
    "optuna_front.py": r"^\[\(\{'units': ",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the page."""
    for title, text in FILES.items():
        (tmp_path / title).write_text(text, encoding="utf-8")
    return tmp_path


def printed(folder: Path, script: str) -> str:
    """What a script of the page prints, which ends well."""
    if script.startswith("optuna"):
        pytest.importorskip("optuna", reason="the extra optuna is not installed: pip install '.[optuna]'")
    done = run_script(folder, script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_and_every_line_of_the_page_is_run_here() -> None:
    assert FILES.keys() == ALONE.keys() | {"network.py", "digits.py", "optuna_digits.py", "from_study.py"}
    assert {language for language, title, _ in blocks(PAGE) if not title} == {"python", "sh"}
    assert COMMANDS[0] == "swarm resume digits"


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[pytest.mark.deep] * (name == "prune.py")) for name in ALONE]
)
def test_a_file_of_the_page_runs(script: str, folder: Path) -> None:
    assert re.search(ALONE[script], printed(folder, script), re.MULTILINE)


@pytest.mark.slow
def test_a_search_of_the_page_goes_on_after_a_kill_and_is_looked_at_and_taken_away(folder: Path) -> None:
    store = folder / "swarm.db"
    with (folder / "killed.txt").open("w") as log:
        killed = subprocess.Popen(
            [sys.executable, "digits.py"], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    wait_until(lambda: Run.load("digits", store).counts["trained"] >= 2, of="the second training")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = Run.load("digits", store)
    assert before.end_reason is None
    for line in COMMANDS:
        done = run_swarm(folder, *line.split()[1:])
        assert done.returncode == 0, line + done.stdout + done.stderr
    after = Run.load("digits", store)
    assert after.end_reason == "evaluations used up" and after.counts["trained"] == 12
    both = after.history.merge(before.history[before.history["status"] == "ok"], on="trial", suffixes=("", "_before"))
    assert len(both) >= 2 and (both["seconds"] == both["seconds_before"]).all()  # none of them was trained again
    for name in ("digits.html", "trials.csv", "ours.db"):
        assert (folder / name).stat().st_size > 0


@pytest.mark.deep
def test_a_search_of_the_page_begins_with_what_optuna_has_found(folder: Path) -> None:
    assert "'units'" in printed(folder, "optuna_digits.py")
    assert re.search(r"^12 0\.\d+$", printed(folder, "from_study.py"), re.MULTILINE)


def test_what_the_page_says_of_optuna_is_there() -> None:
    optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed: pip install '.[optuna]'")
    for name in ("enqueue_trial", "add_trial", "best_trials", "best_params", "best_value", "trials_dataframe"):
        assert name in PAGES[PAGE] and hasattr(optuna.Study, name)
