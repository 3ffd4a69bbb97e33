"""The service as real processes, to be used, killed and started again by tests and by the chaos benchmark."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from swarm.client import Client
from swarm.errors import SwarmError

_FIRST_PORT, _LAST_PORT = 20_000, 32_000  # below the ports that Linux gives to connections by itself (32,768 on)
_tried = itertools.count(random.Random(os.getpid()).randrange(_LAST_PORT - _FIRST_PORT))


def free_port() -> int:
    """A port to listen on in a moment.

    It is none that the system gives to another process meanwhile: those come from a range of their own.
    """
    for number in itertools.islice(_tried, _LAST_PORT - _FIRST_PORT):
        port = _FIRST_PORT + number % (_LAST_PORT - _FIRST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError(f"all ports from {_FIRST_PORT} to {_LAST_PORT} are in use")


class Service:
    """Scheduler, workers and masters on this machine, each a process of its own.

    Args:
        folder: Where the store, the logs and the files of trainings are.
        store: URL of the store; left out, an SQLite file in the folder.
        env: Further environment of all processes.
    """

    def __init__(self, folder: Path, store: str | None = None, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.store = store or f"sqlite:///{folder}/swarm.db"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.interpreters: dict[str, str] = {}  # of processes, by their names, that have another Python than the tests
        self._env = {"DASK_SWARM__LEASE_SECONDS": "3", "DASK_CONFIG": str(folder / "dask"), **(env or {})}

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.kill(name)
        if "PYTEST_CURRENT_TEST" not in os.environ:  # a benchmark's terminal is for its figures
            return
        for log in sorted(self.folder.glob("*.log")):  # pytest shows it where the test has failed
            print(f"--- {log.name}", log.read_text(errors="replace")[-4000:], sep="\n")

    def start(self, name: str, *arguments: str, inside: Sequence[str] = ()) -> None:
        """Start ``swarm …`` under a name, ``inside`` what another command makes for it."""
        self.python(name, "-c", "from swarm.cli import main; main()", *arguments, inside=inside)

    def python(self, name: str, *arguments: str, inside: Sequence[str] = ()) -> None:
        """Start ``python …`` under a name, likewise."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*inside, self.interpreters.get(name, sys.executable), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                start_new_session=True,
                cwd=self.folder,
            )

    def scheduler(self) -> None:
        self.start("scheduler", "scheduler", "--port", str(self.port), "--dashboard", "127.0.0.1:0")

    def workers(self, slots: int, name: str = "workers") -> None:
        self.start(name, "worker", "--scheduler", self.address, "--slots", str(slots))

    def master(self, name: str = "master") -> None:
        self.start(name, "master", self.address, "--store", self.store)

    def started(self, slots: int = 2) -> Service:
        """Start one of each, and wait until they can be used."""
        self.scheduler()
        self.workers(slots)
        self.master()
        wait_until(lambda: self._alive() and self.client.hello()["master"])
        return self

    def _alive(self) -> bool:
        """Whether all runs that was started; what has ended is no reason to wait, and has said why."""
        for name, process in self.processes.items():
            assert process.poll() is None, f"the {name} has ended by itself:\n{self.log(name)}"
        return True

    @property
    def client(self) -> Client:
        return Client(self.address)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process; after SIGKILL, what it has started is ended, too."""
        process = self.processes[name]
        if number is not signal.SIGKILL:
            process.send_signal(number)
            return
        children = [] if process.poll() is not None else psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        del self.processes[name]
        if name.startswith("workers"):  # a machine that is switched off
            for child in children:
                kill(child)

    def worker_processes(self) -> list[psutil.Process]:
        """The Dask worker processes, one per machine."""
        found = []
        for name, process in self.processes.items():
            if name.startswith("workers"):
                found += [child for child in psutil.Process(process.pid).children() if is_worker(child)]
        return found

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def wait_until(condition: Callable[[], Any], seconds: float = 60.0, of: str = "it") -> Any:
    """Wait for something that other processes do; what the condition gave."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            found = condition()
        except SwarmError as error:
            last, found = error, None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{of} has not come to pass in {seconds} s; last: {last!r}")


def logging_training(folder: Path, seconds: float, gate: str | None = None) -> Any:
    """A training that sleeps, and leaves a line when it begins and one when it has ended.

    Args:
        folder: Where its lines and the gate are.
        seconds: How long it sleeps.
        gate: File that it waits for as well.
    """

    def train(params: Any, ctx: Any) -> float:
        import time
        from pathlib import Path

        position = "-".join(str(value) for value in params.values())
        with Path(folder, "begun").open("a") as log:
            log.write(f"{position}\n")
        time.sleep(seconds)
        while gate is not None and not Path(folder, gate).exists():
            time.sleep(0.05)
        with Path(folder, "ended").open("a") as log:
            log.write(f"{position}\n")
        return -sum((float(value) - 30.0) ** 2 for value in params.values())

    return train


def trainings(folder: Path, name: str) -> Counter[str]:
    """How often each position was begun, or ended."""
    path = folder / name
    return Counter(path.read_text().split()) if path.exists() else Counter()
