"""A store in PostgreSQL, behind pgbouncer where that is installed."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from deploy.engines.frame import Unavailable, said, which
from deploy.engines.job import call, wait_until
from deploy.engines.processes import Processes, free_port
from deploy.engines.service import Ours, Served, Service


class Postgres(Service):
    """The database server, its pooler, a worker and the master are killed."""

    name: ClassVar = "postgres"
    packages: ClassVar = {"postgres": "postgresql"}
    optional: ClassVar = {"pgbouncer": "pgbouncer"}

    def check(self) -> None:
        """It does not run as root, so root needs its user."""
        super().check()
        if os.geteuid() == 0 and not _exists("postgres"):
            raise Unavailable("there is no user postgres, and PostgreSQL does not run as root; install postgresql")

    def version(self) -> str:
        """As the server says it, and the pooler."""
        server = said(which("postgres"), "--version").rpartition(") ")[2].split(" ")[0]
        found = f"PostgreSQL {server}"
        if which("pgbouncer"):
            found += f", {said(which('pgbouncer'), '--version').splitlines()[0]}"
        return found

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """A server of its own, and the service by hand."""
        password = secrets.token_hex(16)
        with Processes(folder, {"PGPASSWORD": password}) as processes:
            server = Server(processes, password)
            port = pooled(processes, server) if which("pgbouncer") else server.port
            ours = Ours(processes, store=f"postgresql://swarm@127.0.0.1:{port}/swarm")
            ours.scheduler()
            ours.master()
            for name in ("worker-1", "worker-2"):
                ours.worker(name)
            kills: dict[str, Callable[[], None]] = {
                "worker": lambda: processes.restart("worker-1"),
                "PostgreSQL": server.restart,
                "master": lambda: processes.restart("master"),
            }
            if which("pgbouncer"):
                kills["pgbouncer"] = lambda: processes.restart("pgbouncer")
            yield Served(ours.address, ours.environment("master"), kills)


class Server:
    """A server with an empty database ``swarm``, in a folder of its own.

    Args:
        processes: Where it is started.
        password: Of its user ``swarm``.
    """

    def __init__(self, processes: Processes, password: str) -> None:
        self._processes, self.port = processes, free_port()
        folder = processes.folder / "postgres"
        folder.mkdir()
        (folder / "password").write_text(password)
        self._user = _unprivileged("postgres", processes.folder, folder)
        data = folder / "data"
        secret = [f"--pwfile={folder}/password", "--auth=scram-sha-256"]
        call(which("initdb"), "--pgdata", data, "--username", "swarm", *secret, "--no-sync", cwd=folder, **self._user)
        words = ["-D", str(data), "-p", str(self.port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
        processes.start("postgres", which("postgres"), *words, cwd=folder, **self._user)
        self._ready()
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--username", "swarm"]
        call(which("createdb"), *address, "swarm", environment={"PGPASSWORD": password})

    def restart(self) -> None:
        """Kill it, all its processes, and start it again: it recovers from its log."""
        self._processes.restart("postgres")
        self._ready()

    def _ready(self) -> None:
        def answers() -> bool:
            self._processes.alive("postgres")
            question = [which("pg_isready"), "--host", "127.0.0.1", "--port", str(self.port)]
            return "accepting connections" in said(*question)

        wait_until(answers, "PostgreSQL answers")


def pooled(processes: Processes, server: Server) -> int:
    """Start pgbouncer before the server; its port."""
    folder = processes.folder / "pgbouncer"
    folder.mkdir()
    port = free_port()
    (folder / "users").write_text(f'"swarm" "{processes.environment["PGPASSWORD"]}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\nswarm = host=127.0.0.1 port={server.port} dbname=swarm\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {folder}/users\nserver_login_retry = 1\n"
    )
    user = _unprivileged("postgres", processes.folder, folder)
    processes.start("pgbouncer", which("pgbouncer"), folder / "pgbouncer.ini", cwd=folder, **user)
    return port


def _exists(user: str) -> bool:
    return user in {entry.pw_name for entry in pwd.getpwall()}


def _unprivileged(user: str, outer: Path, folder: Path) -> dict[str, Any]:
    """Options by which a process runs as a user that owns ``folder``; none where we are not root."""
    if os.geteuid() != 0:
        return {}
    outer.chmod(0o711)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, user)
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
