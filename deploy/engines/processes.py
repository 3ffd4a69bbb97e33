"""Processes that an engine starts, kills with SIGKILL, starts again, and ends when its turn is over."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from deploy.engines.job import SWARM


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(pid: int) -> None:
    """SIGKILL for a process and all that it has started, as when its machine is switched off."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs([process], timeout=10)


def ours(command: str, mark: str) -> list[int]:
    """Processes ``swarm COMMAND …`` or ``dask COMMAND …`` with a text among their words, of any parent."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if command in words[1:4] and "python" in Path(words[0]).name and any(mark in word for word in words):
            found.append(int(process.info["pid"]))
    return found


class Processes:
    """Those of one engine, by name.

    Args:
        folder: Where their logs are, and where they work.
        environment: What is added to the environment of all of them.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = {"PATH": f"{SWARM.parent}:{os.environ['PATH']}", **(environment or {})}
        self._commands: dict[str, tuple[list[str], dict[str, Any]]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.kill(name)

    def start(
        self, name: str, *command: str | Path, environment: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        """Start a command, which is remembered by its name.

        Args:
            name: What it is called.
            command: Its words.
            environment: What is added to its environment.
            options: Those of :class:`subprocess.Popen`.
        """
        self._commands[name] = [str(word) for word in command], {"environment": environment or {}, **options}
        self._begin(name)

    def _begin(self, name: str) -> None:
        words, options = self._commands[name]
        given = {key: value for key, value in options.items() if key != "environment"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                words,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment, **options["environment"]},
                start_new_session=True,
                **{"cwd": self.folder, **given},
            )

    def pid(self, name: str) -> int:
        """Of its process."""
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """End it, and all that it has started, at once."""
        process = self._running.pop(name)
        kill(process.pid)
        process.wait()

    def restart(self, name: str) -> None:
        """Kill it, and start it again by the same command."""
        self.kill(name)
        self._begin(name)

    def log(self, name: str) -> str:
        """What it has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def alive(self, name: str) -> bool:
        """Whether it runs.

        Raises:
            AssertionError: It has ended by itself; with what it said last.
        """
        if self._running[name].poll() is not None:
            last = self.log(name).strip().rpartition("\n")[2]
            raise AssertionError(f"{name} has ended by itself: {last}")
        return True
