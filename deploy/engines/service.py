"""Engines that run the service: the job is submitted, parts are killed meanwhile, and the answer is compared."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.engines.frame import Engine, Outcome, Row
from deploy.engines.job import NAME, SWARM, Answer, Lines, Work, answer, call
from deploy.engines.processes import Processes, free_port

BRISK = {"DASK_SWARM__LEASE_SECONDS": "3"}
"""A standby takes over, and a killed master comes back into office, after three seconds."""


@dataclass(frozen=True)
class Served:
    """A service that runs.

    Attributes:
        address: Of its scheduler.
        environment: What a client needs in its environment.
        kills: What to kill with SIGKILL while the job runs, by name and in this order. Each brings it back, or leaves
            that to the engine.
        seen: What else is to be said when the job has ended; it may look at the service.
    """

    address: str
    environment: Mapping[str, str]
    kills: Mapping[str, Callable[[], None]]
    seen: Callable[[], str] = field(default=lambda: "")


class Service(Engine):
    """An engine that runs scheduler, master and workers, or one of them."""

    @abstractmethod
    def served(self, folder: Path) -> AbstractContextManager[Served]:
        """Start the engine and the service in a folder, and end both."""

    def run(self, folder: Path, work: Work) -> Row:
        """Submit the job, kill one part after the other, and compare."""
        began = time.monotonic()
        place = folder / "job"
        place.mkdir()
        lines = Lines(place, work)
        with self.served(folder) as served:

            def client(*words: str | Path) -> None:
                call(SWARM, *words, "--scheduler", served.address, environment=served.environment, cwd=place)

            client("submit", lines.job)
            for number, strike in enumerate(served.kills.values(), start=1):
                lines.wait_for(number / (len(served.kills) + 1))
                lines.hold()
                strike()
                lines.release()
            lines.wait_for(1.0)
            client("watch", NAME)
            client("fetch", NAME, "--csv", folder / "trials.csv")
            note = served.seen()
        wrong = faults(lines, work, answer(folder / "trials.csv"))
        begun, ended = lines.of("begun"), lines.of("ended")
        return Row(
            engine=self.name,
            outcome=Outcome.WRONG if wrong else Outcome.SAME,
            version=self.version(),
            killed=tuple(served.kills),
            trainings=f"{len(ended)} of {work.trained}",
            again=str(begun.total() - ended.total()),
            seconds=time.monotonic() - began,
            note="; ".join([*wrong, *([note] if note else [])]),
        )


def faults(lines: Lines, work: Work, found: Answer) -> list[str]:
    """How what was found differs from the undisturbed answer; an empty list if it does not.

    Args:
        lines: What the trainings have noted.
        work: With the answer that is expected.
        found: The trials of the service.
    """
    ended, wrong = lines.of("ended"), []
    if twice := ended.total() - len(ended):
        wrong.append(f"{twice} trainings ended twice")
    if len(ended) != work.trained:
        wrong.append(f"{len(ended)} configurations were trained, not {work.trained}")
    if different := [trial for trial in work.expected.keys() | found if found.get(trial) != work.expected.get(trial)]:
        wrong.append(f"{len(different)} of {len(work.expected)} trials are not those of the undisturbed job")
    return wrong


@dataclass
class Ours:
    """Scheduler, master and workers as processes of this machine, for engines that run only a part of a service.

    Args:
        processes: Where they are started.
        store: Of the master; left out, an SQLite file in the folder.
        certificates: Folder of certificates; left out, there is no TLS.
    """

    processes: Processes
    store: str = ""
    certificates: Path | None = None
    port: int = field(default_factory=free_port)
    pages: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return f"{'tls' if self.certificates else 'tcp'}://127.0.0.1:{self.port}"

    def environment(self, owner: str) -> dict[str, str]:
        """What scheduler, master, worker or a user has in its environment."""
        folder = self.processes.folder
        config = self.certificates / owner / "tls.yaml" if self.certificates else folder / "no-configuration"
        return {**BRISK, "DASK_CONFIG": str(config)}

    def scheduler(self) -> None:
        """Start a scheduler."""
        words = ["--port", str(self.port), "--dashboard", f"127.0.0.1:{self.pages}"]
        self._start("scheduler", "scheduler", *words)

    def master(self) -> None:
        """Start a master."""
        folder = self.processes.folder
        words = ["--store", self.store or f"sqlite:///{folder}/swarm.db", "--results", str(folder / "results")]
        self._start("master", "master", self.address, *words, "--checkpoints", str(folder / "checkpoints"))

    def worker(self, name: str = "worker", slots: int = 2) -> None:
        """Start a worker."""
        self._start(name, "worker", self.address, "--slots", str(slots))

    def _start(self, name: str, command: str, *words: str) -> None:
        self.processes.start(name, SWARM, command, *words, environment=self.environment(command))
