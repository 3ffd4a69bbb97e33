"""Starts the contenders of benchmarks/peers/peers.py, kills them, and reads what they trained."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

SCRIPTS = Path(__file__).parent / "contenders"
sys.path.append(str(SCRIPTS))
from training import Task  # noqa: E402 - it lies where the peers find it, too

DISTRIBUTIONS = {
    "ours": "dask-swarm",
    "optuna": "optuna",
    "leap": "leap-ec",
    "deap": "deap",
    "propulate": "propulate",
    "ray": "ray",
}
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n")
GIVE_UP_SECONDS = 300  # on a run that does not begin


@dataclass(frozen=True)
class Training:
    """What one training wrote: ``end`` is None if it was cut short; ``params`` are its values in order."""

    begin: float
    end: float | None
    pid: int
    params: tuple[float, ...]
    loss: float | None


def versions(pythons: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the tools that are installed, and of the others why they are left out."""
    found, reasons = {}, {}
    for tool, name in DISTRIBUTIONS.items():
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        command = [pythons.get(tool, sys.executable), "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons[tool] = f"{name} is not installed"
        elif tool == "propulate" and shutil.which(MPIRUN[0]) is None:
            reasons[tool] = "there is no mpirun"
        else:
            found[tool] = done.stdout.strip()
    return found, reasons


class Run:
    """One run of a contender, perhaps in several attempts.

    Args:
        tool: Its name in DISTRIBUTIONS.
        task: What to do.
        python: Interpreter of the tool's environment.
    """

    def __init__(self, tool: str, task: Task, python: str) -> None:
        self.task = task
        self.called = 0.0
        launcher = [*MPIRUN, str(task.slots)] if tool == "propulate" else []
        self._file = Path(task.folder, "task.json")
        self._command = [*launcher, python, str(SCRIPTS / f"run_{tool}.py"), str(self._file)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, resume: bool = False) -> None:
        """Start it, or go on after it was cut short."""
        self._file.write_text(json.dumps(asdict(replace(self.task, resume=resume))))
        self.called = self.called or time.time()
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "RAY_USAGE_STATS_ENABLED": "0"}
        with Path(self.task.folder, "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    def ended(self) -> int | None:
        """Exit code, or None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; exit code, or None if it has not come by then."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def wait_until(self, true: Callable[[list[Training]], bool], seconds: float, every: float = 0.1) -> bool:
        """Wait until its trainings are so; False if it ended, or the time was up, before they were."""
        give_up = time.monotonic() + seconds
        while self.ended() is None and time.monotonic() < give_up:
            if true(self.trainings()):
                return True
            time.sleep(every)
        return False

    def begun(self) -> float:
        """Wait for the first training; when it began.

        Raises:
            RuntimeError: There is none.
        """
        if not self.wait_until(bool, GIVE_UP_SECONDS, every=0.02) and not self.trainings():
            raise RuntimeError(f"nothing was trained: {self.output()}")
        return self.trainings()[0].begin

    def kill(self) -> None:
        """Kill it and all that it has started, as a power failure would."""
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # those whose parents have ended
        self._process.wait()

    def trainings(self) -> list[Training]:
        """What was trained so far, in the order of beginning."""
        file = Path(self.task.folder, "trainings")
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
        return trainings(lines)

    def answer(self) -> dict[str, Any] | None:
        """What it found, once it has said so."""
        file = Path(self.task.folder, "answer.json")
        return json.loads(file.read_text()) if file.is_file() else None

    def output(self) -> str:
        """The last line that it printed."""
        return (Path(self.task.folder, "output.txt").read_text(errors="replace").splitlines() or ["no output"])[-1]


def trainings(lines: Sequence[Mapping[str, Any]]) -> list[Training]:
    """Put the lines of each training together."""
    ends = {line["id"]: line for line in lines if line["kind"] == "end"}
    found = []
    for line in lines:
        if line["kind"] == "begin":
            end = ends.get(line["id"], {"time": None, "loss": None})
            found.append(Training(line["time"], end["time"], line["pid"], tuple(line["params"]), end["loss"]))
    return sorted(found, key=lambda each: each.begin)


def full_from(done: Sequence[Training], slots: int) -> float | None:
    """When every slot was in use for the first time; None if that was never so."""
    changes = sorted([(each.begin, 1) for each in done] + [(each.end, -1) for each in done if each.end is not None])
    running = 0
    for moment, change in changes:
        running += change
        if running >= slots:
            return moment
    return None


def busy(done: Sequence[Training], first: float, last: float) -> float:
    """Slot-seconds of training between two moments; one without an end lasted to the second."""
    ends = [last if each.end is None else min(each.end, last) for each in done]
    return sum(max(0.0, end - max(each.begin, first)) for each, end in zip(done, ends, strict=True))


def repeated(done: Sequence[Training]) -> int:
    """Trainings of parameters that had begun to be trained before."""
    return len(done) - len({each.params for each in done})
