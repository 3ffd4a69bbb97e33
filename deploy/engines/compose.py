"""``docker-compose.yml``, by Docker."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import yaml

from deploy.engines.frame import Unavailable, said, which
from deploy.engines.job import call, wait_until
from deploy.engines.processes import free_port, kill
from deploy.engines.service import Served, Service

ROOT = Path(__file__).parent.parent.parent
KILLED = ("worker", "database", "master", "scheduler")
_BUILD_SECONDS = 1800.0


class Compose(Service):
    """A worker, the database, the master and the scheduler are killed; their containers start again."""

    name: ClassVar = "compose"
    packages: ClassVar = {"docker": "docker.io"}

    def check(self) -> None:
        """It takes a daemon that answers, and the plugin."""
        super().check()
        if failure := _failure("info"):
            raise Unavailable(f"Docker's daemon does not answer: {failure}")
        if failure := _failure("compose", "version"):
            raise Unavailable(f"Docker has no command compose, which Docker's own packages bring: {failure}")

    def version(self) -> str:
        """Of the daemon, and of compose."""
        docker = which("docker")
        daemon = said(docker, "version", "--format", "{{.Server.Version}}")
        return f"Docker {daemon}, Compose {said(docker, 'compose', 'version', '--short')}"

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """The whole file, with two workers, ports of its own, and a folder in which trainings leave their lines."""
        (folder / "job").chmod(0o777)  # containers run as a user of their own
        folder.chmod(0o755)
        project = Project(folder)
        try:
            project.up()
            kills = {name: partial(project.strike, name) for name in KILLED}
            yield Served(f"tcp://127.0.0.1:{project.port}", {"DASK_CONFIG": str(folder / "none")}, kills, project.seen)
        finally:
            project("down", "--volumes", "--timeout", "1")


class Project:
    """The services of the file, under a name of their own.

    Args:
        folder: Where its settings are, and the folder of the job.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._name = f"engines-{secrets.token_hex(4)}"
        self._more, self._settings = folder / "compose.yml", folder / "settings"
        job = str(folder / "job")
        self._more.write_text(yaml.safe_dump({"services": {"worker": {"volumes": [f"{job}:{job}"]}}}))
        self._settings.write_text(
            f"POSTGRES_PASSWORD={secrets.token_hex(12)}\nSWARM_PORT={self.port}\nSWARM_DASHBOARD_PORT={free_port()}\n"
        )

    def __call__(self, *words: str) -> str:
        """A command of compose; what it said."""
        files = [f"--file={path}" for path in (ROOT / "docker-compose.yml", self._more)]
        options = [f"--project-name={self._name}", *files, f"--env-file={self._settings}"]
        return call(which("docker"), "compose", *options, *words, timeout=_BUILD_SECONDS, cwd=ROOT)

    def up(self) -> None:
        """Build the images and start all.

        Raises:
            Unavailable: The images cannot be had here, as without a network.
        """
        self("config", "--quiet")
        try:
            self("build")
            self("up", "--no-start", "--scale", "worker=2")
        except AssertionError as error:
            raise Unavailable(f"the images cannot be had: {str(error).splitlines()[-1]}") from None
        self("up", "--detach", "--scale", "worker=2")

    def seen(self) -> str:
        """How often Docker has started each service again, how large our images are, and which database it was."""
        restarts = {name: sum(int(_of(each, "RestartCount")) for each in self._containers(name)) for name in KILLED}
        images = [_of(self._containers(name)[0], "Config.Image") for name in ("scheduler", "worker")]
        sizes = [f"{image} {int(_of(image, 'Size')) / 1e6:,.0f} MB" for image in images]
        database = said(which("docker"), "exec", self._containers("database")[0], "postgres", "--version")
        return "; ".join(
            [
                f"restarts by Docker: {', '.join(f'{name} {times}' for name, times in restarts.items())}",
                f"images: {', '.join(sizes)}",
                database.replace("postgres (PostgreSQL)", "PostgreSQL").partition(" (")[0],
            ]
        )

    def strike(self, service: str) -> None:
        """Kill the processes of one of a service's containers; its restart policy starts it again."""
        pid = wait_until(lambda: self._first(service), f"{service} runs")
        kill(pid)
        wait_until(lambda: self._first(service) not in (0, pid), f"{service} runs again")

    def _first(self, service: str) -> int:
        """Number of the first process of a container, as this machine has it; 0 where none runs."""
        found = self._containers(service)
        return int(_of(found[0], "State.Pid")) if found else 0

    def _containers(self, service: str) -> list[str]:
        """Those of a service that run."""
        label = f"label=com.docker.compose.project={self._name}"
        of = f"label=com.docker.compose.service={service}"
        return call(which("docker"), "ps", "--quiet", "--filter", label, "--filter", of).split()


def _of(thing: str, what: str) -> str:
    """What Docker knows of a container or an image."""
    return call(which("docker"), "inspect", "--format", f"{{{{.{what}}}}}", thing).strip()


def _failure(*words: str) -> str:
    """The last line of what a command of Docker's says that fails; empty if it does not."""
    command = [which("docker"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stderr.strip() or done.stdout.strip() or "it fails").splitlines()
    return lines[-1] if done.returncode else ""
