"""The units of ``deploy/systemd``, under a real systemd that boots in a container over this machine's own files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import psutil

from deploy.engines.frame import Unavailable, said, which
from deploy.engines.job import call, wait_until
from deploy.engines.processes import Processes, free_port
from deploy.engines.service import BRISK, Served, Service
from deploy.engines.slurm import strike

ROOT = Path(__file__).parent.parent.parent
UNITS = ("swarm-scheduler", "swarm-master", "swarm-worker")


class Systemd(Service):
    """The worker, the master and the scheduler are killed; systemd starts them again."""

    name: ClassVar = "systemd"
    packages: ClassVar = {"systemd-nspawn": "systemd-container", "openssl": "openssl", "useradd": "passwd"}

    def check(self) -> None:
        """It mounts, and starts a container."""
        super().check()
        if os.geteuid() != 0:
            raise Unavailable("a container takes root; run it as root")

    def version(self) -> str:
        """As systemd says it."""
        return " ".join(said(which("systemd-nspawn"), "--version").split()[:2])

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """A container with the three units, and this machine's network."""
        (folder / "job").chmod(0o777)  # trainings run as the user swarm
        folder.chmod(0o755)
        with machine(folder) as root, Processes(folder) as processes:
            address = f"tls://127.0.0.1:{_configure(root)}"
            words = ["--quiet", f"--directory={root}", "--register=no", "--keep-unit", f"--bind={folder / 'job'}"]
            processes.start("container", which("systemd-nspawn"), *words, "--boot", "systemd.unit=multi-user.target")
            inside = Container(processes)
            inside.ready()
            client = {"DASK_CONFIG": str(root / "etc" / "swarm" / "bob" / "tls.yaml")}
            marks = {"worker": address, "master": address, "scheduler": address.rpartition(":")[2]}
            kills = {name: partial(strike, name, mark) for name, mark in marks.items()}
            yield Served(address, client, kills, inside.seen)


class Container:
    """The container as its systemd sees it.

    Args:
        processes: Where it was started.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def ready(self) -> None:
        """Until all three units are active, which each says of itself.

        Raises:
            Unavailable: The container does not boot here.
        """
        try:
            wait_until(lambda: self._states() == ["active"] * 3, "units are active")
        except AssertionError as error:
            last = [line for line in self._processes.log("container").strip().splitlines() if line]
            raise Unavailable(f"{error}; the container: {last[-1] if last else 'silent'}") from None

    def seen(self) -> str:
        """How often systemd has started each unit again."""
        times = [f"{unit} {self._ask('show', '--property=NRestarts', '--value', unit)}" for unit in UNITS]
        return f"restarts by systemd: {', '.join(times)}"

    def _states(self) -> list[str]:
        self._processes.alive("container")
        return self._ask("is-active", *UNITS).splitlines()

    def _ask(self, *words: str) -> str:
        first = self._first()
        if first is None:
            return ""
        return said(which("nsenter"), "--target", str(first), "--all", "systemctl", *words)

    def _first(self) -> int | None:
        """The container's first process, seen from here."""
        nspawn = psutil.Process(self._processes.pid("container"))
        return next((child.pid for child in nspawn.children() if "systemd" in child.name()), None)


@contextmanager
def machine(folder: Path) -> Iterator[Path]:
    """This machine's files as another machine's: what is changed there is in a layer above them, and gone at the end.

    Raises:
        Unavailable: The kernel has no overlay file system.
    """
    root = folder / "root"
    mounts = [root]
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    layers = f"lowerdir=/,upperdir={folder / 'upper'},workdir={folder / 'work'}"
    try:
        call("mount", "-t", "overlay", "overlay", "-o", layers, root)
    except AssertionError as error:
        raise Unavailable(f"no overlay of this machine's files: {error}") from None
    try:
        python = root / "opt" / "python"  # units see no home folder, where this Python may be
        python.mkdir(parents=True)
        call("mount", "--bind", sys.base_prefix, python)
        mounts.append(python)
        _install(root / "opt" / "swarm", Path("/opt/python/bin") / Path(os.path.realpath(sys.executable)).name)
        yield root
    finally:
        for mount in reversed(mounts):
            subprocess.run(["umount", "--recursive", "--lazy", mount], check=False)


def _install(place: Path, python: Path) -> None:
    """An environment that has what this one has; its Python is found where it is seen by units."""
    shutil.rmtree(place, ignore_errors=True)
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    (place / "bin" / "python").symlink_to(python)
    known = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    (packages / "here.pth").write_text("\n".join(known) + "\n")
    program = place / "bin" / "swarm"
    program.write_text(
        '#!/opt/swarm/bin/python\nfrom swarm.cli import main\n\nif __name__ == "__main__":\n    main()\n'
    )
    program.chmod(0o755)


def _configure(root: Path) -> str:
    """The user, certificates, settings and units; the port of the scheduler."""
    call(which("useradd"), "--root", root, "--system", "--home-dir", "/var/lib/swarm", "swarm")
    settings = root / "etc" / "swarm"
    call(ROOT / "deploy" / "make-certificates", "--at", "/etc/swarm", settings, "ann")
    call(ROOT / "deploy" / "make-certificates", settings, "bob")  # who submits, from outside
    port, pages = free_port(), free_port()
    (settings / "environment").write_text(
        f"SCHEDULER=tls://127.0.0.1:{port}\nSTORE=sqlite:////var/lib/swarm/swarm.db\nSHARED=/var/lib/swarm\n"
    )
    options = {"scheduler": f"--port {port} --dashboard 127.0.0.1:{pages}", "worker": "--slots 4", "master": ""}
    more = {"LD_LIBRARY_PATH": "/opt/python/lib", **BRISK}
    for part, words in options.items():
        lines = [f"{name}={value}\n" for name, value in (more | {"SWARM_OPTIONS": f'"{words}"'}).items()]
        (settings / part / "environment").write_text("".join(lines))
    call("chroot", root, "chown", "--recursive", "swarm:swarm", "/etc/swarm")
    units = root / "etc" / "systemd" / "system"
    wanted = units / "multi-user.target.wants"
    shutil.rmtree(wanted, ignore_errors=True)  # this machine's services are not started a second time
    wanted.mkdir(parents=True)
    for unit in UNITS:
        text = (ROOT / "deploy" / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
        (units / f"{unit}.service").write_text(re.sub(r"network-online.target", "network.target", text))
        (wanted / f"{unit}.service").symlink_to(f"../{unit}.service")
    return str(port)
