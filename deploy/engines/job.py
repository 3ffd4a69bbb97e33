"""The job that every engine runs: trainings that sleep, and leave a line when they begin and when they end."""

from __future__ import annotations

import csv
import operator
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

SWARM = Path(sys.executable).with_name("swarm")
NAME = "engines"
_COLUMNS = ("trial", "x", "y", "fitness")
_WAITS = 120.0  # seconds in which something has to happen
_LOOKS = 0.05

_TRAIN = """\
import time
from pathlib import Path

FOLDER, SECONDS = Path({folder!r}), {seconds!r}


def note(what, params):
    with (FOLDER / what).open("a") as lines:
        lines.write(f"{{params['x']}}-{{params['y']}}\\n")


def train(params, ctx):
    note("begun", params)
    while (FOLDER / "hold").exists():  # the killer waits until no training is about to end
        time.sleep(0.02)
    time.sleep(SECONDS)
    note("ended", params)
    return -((params["x"] - 30.5) ** 2 + 0.1 * (params["y"] - 11.25) ** 2)
"""
_JOB = """\
name: {name}
problem: train.py:train
space: {{x: {{integer: [0, 63]}}, y: {{integer: [0, 63]}}}}
optimizer: {{name: PSO, particles: {particles}, generations: {generations}}}
seed: 3
"""

Answer = dict[str, tuple[str, ...]]
"""Trials by number: what was asked for, and the fitness, as they are written, to the last digit."""


@dataclass(frozen=True)
class Work:
    """What the engines do.

    Attributes:
        particles: Of the swarm.
        generations: After the first.
        seconds: Of a training.
        expected: The undisturbed answer.
        trained: Number of trainings that it takes; the archive answers the rest.
    """

    particles: int
    generations: int
    seconds: float
    expected: Answer
    trained: int

    @classmethod
    def undisturbed(cls, folder: Path, particles: int = 10, generations: int = 11, seconds: float = 0.25) -> Work:
        """The work with the answer that the same job gives by ``swarm run``, alone and without a fault."""
        work = cls(particles, generations, seconds, {}, 0)
        lines = Lines(folder, work, sleep=0.0)
        store, table = folder / "undisturbed.db", folder / "trials.csv"
        call(SWARM, "run", lines.job, "--store", store, "--slots", "2", cwd=folder, environment=lines.apart)
        call(SWARM, "export", NAME, "--csv", table, "--store", store, cwd=folder, environment=lines.apart)
        return cls(particles, generations, seconds, answer(table), len(lines.of("ended")))


class Lines:
    """A folder with the job and what its trainings have noted there.

    Args:
        folder: Where; all workers must see it.
        work: What is to be done.
        sleep: Seconds of a training, if not those of the work.
    """

    def __init__(self, folder: Path, work: Work, sleep: float | None = None) -> None:
        self.folder, self._work = folder, work
        self.job = folder / "job.yaml"
        seconds = work.seconds if sleep is None else sleep
        (folder / "train.py").write_text(_TRAIN.format(folder=str(folder), seconds=seconds))
        self.job.write_text(_JOB.format(name=NAME, particles=work.particles, generations=work.generations))

    @property
    def apart(self) -> dict[str, str]:
        """Environment in which no configuration of this user's counts."""
        return {"DASK_CONFIG": str(self.folder / "no-configuration")}

    def of(self, what: str) -> Counter[str]:
        """How often each configuration has ``begun`` or ``ended``."""
        path = self.folder / what
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def wait_for(self, share: float) -> None:
        """Until so much of the work has ended: 0.5 is half."""
        wait_until(lambda: self.of("ended").total() >= share * self._work.trained, f"{share:.0%} of the trainings")

    def hold(self) -> None:
        """Let all that has begun wait, and what sleeps already end and be written down.

        A training that has ended and is killed before its worker has written that down runs again, rightly; here it
        would count as trained twice.
        """
        (self.folder / "hold").touch()
        quiet = max(1.0, 4 * self._work.seconds)
        since, seen = time.monotonic(), self._marks()
        while time.monotonic() - since < quiet or not self._work_left():
            time.sleep(_LOOKS)
            if (now := self._marks()) != seen:
                since, seen = time.monotonic(), now
            if time.monotonic() - since > _WAITS:
                raise AssertionError("no training has begun for two minutes")

    def release(self) -> None:
        """Let them go on."""
        (self.folder / "hold").unlink()

    def _marks(self) -> tuple[int, int]:
        return self.of("begun").total(), self.of("ended").total()

    def _work_left(self) -> bool:
        begun, ended = self._marks()
        return begun > ended


def answer(table: Path) -> Answer:
    """The trials of a table that ``swarm fetch --csv`` or ``swarm export --csv`` has written."""
    with table.open(newline="") as rows:
        return {row["trial"]: tuple(row[name] for name in _COLUMNS[1:]) for row in csv.DictReader(rows)}


def call(
    *command: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 300.0, **options: Any
) -> str:
    """Run a command to its end; what it said.

    Args:
        command: Its words.
        environment: What is added to its environment.
        timeout: Seconds that it may take.
        options: Those of :func:`subprocess.run`.

    Raises:
        AssertionError: It failed; with what it said.
    """
    words, env = [str(word) for word in command], {**os.environ, **(environment or {})}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=timeout, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(words)} failed: {(done.stderr + done.stdout).strip()}")
    return str(done.stdout)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = _WAITS) -> Any:
    """Wait for something that other processes do; what the condition gave.

    Raises:
        AssertionError: It has not come to pass.
    """
    asked = Retrying(retry=retry_if_result(operator.not_), wait=wait_fixed(_LOOKS), stop=stop_after_delay(seconds))
    try:
        return asked(condition)
    except RetryError:
        raise AssertionError(f"{what}: not within {seconds:.0f} s") from None
