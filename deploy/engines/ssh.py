"""Workers by ``deploy/ssh.sh``, through a real sshd, with TLS."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from deploy.engines.frame import said, which
from deploy.engines.job import SWARM, call, wait_until
from deploy.engines.processes import Processes, free_port, kill, ours
from deploy.engines.service import Ours, Served, Service

DEPLOY = Path(__file__).parent.parent


class Ssh(Service):
    """The worker, sshd, the master and the scheduler are killed."""

    name: ClassVar = "ssh"
    packages: ClassVar = {"sshd": "openssh-server", "ssh": "openssh-client", "openssl": "openssl"}

    def version(self) -> str:
        """As the client says it; Debian makes both of one source."""
        return said(which("ssh"), "-V").partition(",")[0].replace("_", " ")

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """The service by hand, but for its workers: ``deploy/ssh.sh start`` is their beginning."""
        certificates = folder / "certificates"
        call(DEPLOY / "make-certificates", certificates, "ann")
        with Processes(folder) as processes:
            here = Ours(processes, certificates=certificates)
            machine = Machine(processes, here)
            here.scheduler()
            here.master()
            machine.ssh("start")

            def worker() -> None:
                for pid in ours("worker", here.address):
                    kill(pid)
                machine.ssh("start")

            kills = {
                "worker": worker,
                "sshd": lambda: processes.restart("sshd"),
                "master": lambda: processes.restart("master"),
                "scheduler": lambda: processes.restart("scheduler"),
            }
            try:
                yield Served(here.address, here.environment("ann"), kills, seen=machine.stopped)
            finally:
                for pid in ours("worker", here.address):
                    kill(pid)


class Machine:
    """This machine as one that is reached by SSH alone.

    Args:
        processes: Where its sshd is started.
        service: Whose workers it has.
    """

    def __init__(self, processes: Processes, service: Ours) -> None:
        self._service, self._folder = service, processes.folder / "ssh"
        home = self._folder / "home"
        home.mkdir(parents=True)
        port = free_port()
        for name in ("host", "user"):
            call(which("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", self._folder / name)
        (self._folder / "sshd.conf").write_text(_SSHD.format(folder=self._folder, home=home, port=port))
        host = (self._folder / "host.pub").read_text()
        (self._folder / "known").write_text(f"[127.0.0.1]:{port} {host}")
        (self._folder / "ssh.conf").write_text(_SSH.format(folder=self._folder, port=port, user=getpass.getuser()))
        # The only thing that is not as on other machines: ssh reads this folder's settings and not the user's.
        program = self._folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {which("ssh")} -F {self._folder}/ssh.conf "$@"\n')
        program.chmod(0o755)
        (self._folder / "hosts").write_text("# machines, one on each line\nnode\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd, as root, drops its privileges
        processes.start("sshd", which("sshd"), "-D", "-e", "-f", self._folder / "sshd.conf")
        wait_until(lambda: processes.alive("sshd") and "listening" in processes.log("sshd"), "sshd listens")

    def ssh(self, what: str) -> str:
        """``deploy/ssh.sh start``, ``status`` or ``stop``; what it said."""
        certificate = self._service.environment("worker")["DASK_CONFIG"]
        environment = {"SWARM": str(SWARM), "DASK_CONFIG": certificate}
        environment["PATH"] = f"{self._folder}/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        words = [self._service.address, "--slots", "4"] if what == "start" else []
        return call(DEPLOY / "ssh.sh", what, self._folder / "hosts", *words, environment=environment)

    def stopped(self) -> str:
        """Stop the workers as an operator would; nothing if that is what happened."""
        running, stopped = self.ssh("status"), self.ssh("stop")
        left = ours("worker", self._service.address)
        if (running, stopped) == ("node: running\n", "node: stopped\n") and not left:
            return ""
        raise AssertionError(f"ssh.sh said {running!r}, and when it was to stop {stopped!r}; {len(left)} are left")


_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/sshd.pid
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
SetEnv HOME={home}
"""
_SSH = """\
Host node
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known
    StrictHostKeyChecking yes
"""
