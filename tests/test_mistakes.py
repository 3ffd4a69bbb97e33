"""What users do wrong in the first minutes: one line that says what to do, and exit code 2."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import SWARM, run_swarm
from services import Service, free_port

from swarm import Client, Job, run
from swarm.errors import InvalidInput, InvalidJob, SchedulerUnreachable
from swarm.manners.users_dask import checked_address
from swarm.workers.node.first_contact import FirstContact

LONG = "é" * 150  # a file's name has at most 255 bytes


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """What a command says that is refused: one line on standard error."""
    done = run_swarm(folder, *arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("swarm: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on, which says nothing."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


# --- what listens


def test_a_port_that_is_taken_is_named_with_the_remedy(taken: int, tmp_path: Path) -> None:
    said = refused(tmp_path, "scheduler", "--port", str(taken), "--dashboard", "127.0.0.1:0")
    assert f"cannot listen on 127.0.0.1:{taken}: Address already in use" in said and "--port 0 takes a free one" in said


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--host", "192.0.2.7", "--insecure"], "no address of this machine"),
        (["--host", "no-such-host.invalid", "--insecure"], "there is no host 'no-such-host.invalid'"),
        (["--dashboard", "pages"], "write HOST:PORT, such as 127.0.0.1:8787"),
        (["--dashboard", "127.0.0.1:99999"], "write HOST:PORT"),
        (["--scheduler-file", "absent/scheduler.json"], "cannot write absent/scheduler.json"),
    ],
)
def test_a_scheduler_that_cannot_start_says_why(arguments: list[str], hint: str, tmp_path: Path) -> None:
    pages = [] if "--dashboard" in arguments else ["--dashboard", "127.0.0.1:0"]
    assert hint in refused(tmp_path, "scheduler", "--port", str(free_port()), *pages, *arguments)


# --- where to connect


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("http://127.0.0.1:8787/swarm", "is the address of a page"),
        ("localhost", "names no port"),
        ("tcp://localhost", "names no port"),
        ("localhost:eightyseven", "has no such port as 'eightyseven'"),
        ("tcp://localhost:99999", "has no such port as '99999'"),
        (":8786", "names no port"),
    ],
)
def test_what_is_no_address_is_refused(address: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(hint)):
        checked_address(address)


@pytest.mark.parametrize("command", ["master", "worker", "health", "jobs"])
def test_commands_refuse_what_is_no_address_at_once(command: str, tmp_path: Path) -> None:
    assert "names no port" in refused(tmp_path, command, *(["--scheduler"] if command == "jobs" else []), "localhost")


@pytest.mark.parametrize("command", ["master", "worker"])
def test_a_beginning_that_dask_does_not_know_is_refused_at_once(command: str, tmp_path: Path) -> None:
    said = refused(tmp_path, command, "tpc://localhost:8786")
    assert "is no address of a scheduler: unknown address scheme 'tpc'" in said


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "localhost:8786", "tls://[::1]:8786", "inproc://10.0.0.1/7/1", "wss://a.b:1"]
)
def test_what_is_an_address_is_taken(address: str) -> None:
    assert checked_address(f" {address} ") == address


def impatient(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What ``swarm …`` says that gives up at once; Dask reads the setting when it is imported."""
    env = {**os.environ, "DASK_SWARM__FIRST_CONTACT_SECONDS": "0.2"}
    return subprocess.run(
        [SWARM, *words], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("command", "place"),
    [("master", "silent"), ("worker", "closed"), pytest.param("worker", "silent", marks=pytest.mark.deep)],
)
def test_master_and_worker_give_up_on_a_wrong_address(command: str, place: str, taken: int, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{taken if place == 'silent' else free_port()}"
    slots = ["--slots", "1"] if command == "worker" else ["--store", "a.db"]
    done = impatient(tmp_path, command, address, *slots)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("swarm: ") and "given up after 0.2 s: is the address right?" in last


def test_a_worker_gives_up_on_a_file_that_no_scheduler_writes(tmp_path: Path) -> None:
    done = impatient(tmp_path, "worker", "--scheduler-file", "absent.json", "--slots", "1")
    assert done.returncode == 2
    assert "waiting for a scheduler to write absent.json; given up" in done.stderr.splitlines()[-1]


def test_who_has_reached_the_scheduler_once_never_gives_up() -> None:
    now = [0.0]
    contact = FirstContact(60, clock=lambda: now[0])
    assert contact.failed("away") == "away"
    now[0] = 59
    assert contact.failed("away") == "away"
    now[0] = 60
    with pytest.raises(SchedulerUnreachable, match="away; given up after 60 s"):
        contact.failed("away")
    contact.reached()
    now[0] = 1e6
    assert contact.failed("away again") == "away again"
    assert FirstContact(None, clock=lambda: now[0]).failed("x") == "x"


def test_the_patience_is_a_setting_that_cannot_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    from swarm.config import settings

    assert settings().first_contact_seconds == 60
    with dask.config.set({"swarm.first-contact-seconds": None}):
        assert settings().first_contact_seconds is None
    with dask.config.set({"swarm.first-contact-seconds": -1}), pytest.raises(InvalidInput, match="first-contact"):
        settings()


# --- files that hide modules

JOB = "name: bowl\nproblem: train.py:train\nspace: {x: {integer: [0, 40]}}\noptimizer: {name: Random, trials: 2}\n"
TRAIN = "def train(params, ctx):\n    return params['x']\n"


def job_folder(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in {"train.py": TRAIN, "job.yaml": JOB, **files}.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", ["string", "random", "types", "json", "queue", "numpy", "swarm"])
def test_a_file_that_hides_a_module_is_named(name: str, tmp_path: Path) -> None:
    folder = job_folder(tmp_path / "here", **{f"{name}.py": "X = 1\n"})
    said = refused(folder, "run", "job.yaml", "--slots", "1")
    whose = "the library" if name in ("numpy", "swarm") else "Python's own module"
    assert f"swarm: {folder / name}.py hides {whose} {name} (" in said
    assert f"give it another name, such as my_{name}.py" in said


def test_a_package_beside_the_job_file_that_hides_a_module_is_named(tmp_path: Path) -> None:
    job_folder(tmp_path / "there")
    (tmp_path / "there" / "queue").mkdir()
    (tmp_path / "there" / "queue" / "__init__.py").touch()
    said = refused(tmp_path, "run", "there/job.yaml", "--slots", "1")
    assert f"{tmp_path / 'there' / 'queue'} hides Python's own module queue (" in said


def test_a_file_that_is_only_named_like_a_module_does_no_harm(tmp_path: Path) -> None:
    job_folder(tmp_path, **{"calendar.py": "X = 1\n", "test.py": "raise SystemExit(7)\n"})
    done = run_swarm(tmp_path, "run", "job.yaml", "--slots", "1")
    assert done.returncode == 0, done.stderr


def test_a_script_beside_a_file_that_hides_a_module_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "string.py").write_text("X = 1\n")
    (tmp_path / "script.py").write_text("from swarm import Job\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"swarm: {tmp_path}/string.py hides Python's own module string (ImportError: ")
    assert done.stderr.count("\n") == 1


def test_in_a_notebook_the_import_fails_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "string.py").write_text("X = 1\n")
    code = "try:\n    from swarm import Job\nexcept ImportError as error:\n    print(error)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "give it another name, such as my_string.py" in done.stdout


# --- job files


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("empty.yaml", b"", "empty.yaml is empty: expected lines like"),
        ("comment.yaml", b"# nothing yet\n", "comment.yaml is empty"),
        ("words.yaml", b"just some words\n", "words.yaml holds no job"),
        ("binary.yaml", bytes(range(256)), "binary.yaml is no text: a job file is YAML or JSON, in UTF-8"),
        ("zeros.yaml", bytes(200), "zeros.yaml is no text"),
        ("utf16.yaml", JOB.encode("utf-16"), "utf16.yaml is no text"),
        ("job.yaml.gz", b"\x1f\x8b\x08\x00", "unpack it first: gunzip"),
        ("other.py", TRAIN.encode(), "is a Python file: name it in a job file, problem: other.py:FUNCTION"),
        ("more.py", b"import numpy\nx = {1: [2}\n", "is a Python file"),
        ("tab.yaml", b"name:\tbowl\n\tproblem: x\n", "tab.yaml is not YAML"),
    ],
)
def test_what_is_no_job_file_is_told_from_one(name: str, content: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidJob, match=re.escape(hint)) as raised:
        Job.from_file(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_folder_and_a_misspelt_file_are_answered_with_what_is_there(tmp_path: Path) -> None:
    job_folder(tmp_path)
    assert "Is a directory (did you mean 'job.yaml'?)" in refused(tmp_path, "run", ".")
    assert "No such file or directory (did you mean 'job.yaml'?)" in refused(tmp_path, "run", "jbo.yaml")
    (tmp_path / "bare").mkdir()
    assert "there is no job file in it: swarm init writes one" in refused(tmp_path, "run", "bare")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (f"problem: {LONG}.py", "there is no built-in problem"),
        (f"problem: {LONG}.train", "there is no built-in problem"),
        (f"problem: {LONG}.py:train", "cannot be imported: FileNotFoundError: no file"),
        (f"problem: digits-mlp\nfiles: [{LONG}]", "names no file in"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_in_a_job(line: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"name: long\n{line}\nspace: {{x: {{real: [0, 1]}}}}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=hint):
        Job.from_file(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["run", f"{LONG}.yaml"], "cannot read the job file"),
        (["show", "--store", LONG], "cannot be opened: File name too long"),
        (["run", "job.yaml", "--store", LONG], "unable to open database file"),
        (["init", LONG], "cannot write into"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused_in_a_command(command: list[str], hint: str, tmp_path: Path) -> None:
    job_folder(tmp_path)
    assert hint in refused(tmp_path, *command)


# --- files to write


def test_what_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    job_folder(tmp_path, **{"job.yaml": JOB + "isolation: thread\n"})
    assert run_swarm(tmp_path, "run", "job.yaml", "--slots", "1").returncode == 0
    for command in (
        ["report", "bowl", "--output"],
        ["report", "bowl", "--png"],
        ["export", "bowl", "--csv"],
        ["compare", "bowl", "bowl", "--output"],
    ):
        if command[-1] == "--png":  # a folder, which is made
            (tmp_path / "file").touch()
            assert "cannot write file/x: " in refused(tmp_path, *command, "file/x")
        else:
            said = refused(tmp_path, *command, "absent/x.csv")
            assert "cannot write absent/x.csv: there is no folder absent; make it, mkdir -p absent" in said
    assert "that is a folder; name a file in it" in refused(tmp_path, "export", "bowl", "--csv", ".")


# --- jobs of the service


def test_a_finished_job_that_is_submitted_again_is_refused_unless_there_is_more_to_do(tmp_path: Path) -> None:
    job_folder(tmp_path, **{"job.yaml": JOB + "isolation: thread\n"})
    with Service(tmp_path).started(slots=1) as service:
        at = ["--scheduler", service.address]
        assert run_swarm(tmp_path, "submit", "job.yaml", "--wait", *at).returncode == 0
        said = refused(tmp_path, "submit", "job.yaml", *at)
        assert "job 'bowl' is finished already, and has nothing left to do, its best is" in said
        assert "nothing left to do" in refused(tmp_path, "submit", "job.yaml", "--wait", *at)
        more = run_swarm(tmp_path, "submit", "job.yaml", "optimizer.trials=4", "--wait", *at)
        assert more.returncode == 0, more.stderr
        assert "4 of 4 trials" in more.stdout


# --- in Python


def test_what_is_no_job_is_answered_with_how_to_make_one() -> None:
    with pytest.raises(
        InvalidInput, match=re.escape("takes a Job, not a file name; read it: Job.from_file('job.yaml')")
    ):
        run("job.yaml")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"takes a Job, not dict; make one: Job\(name="):
        Client(f"tcp://127.0.0.1:{free_port()}", patience=0).submit({"name": "a"})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"slots": "2"}, {"slots": 0}, {"slots": 1, "threads": 1.5}])
def test_numbers_of_slots_and_threads_are_whole_and_positive(wrong: dict[str, Any], tmp_path: Path) -> None:
    job = Job.from_file(job_folder(tmp_path) / "job.yaml")
    with pytest.raises(InvalidInput, match="must be at least 1, got"):
        run(job, store=tmp_path / "a.db", progress=False, **wrong)
