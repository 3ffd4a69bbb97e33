"""The service by ``deploy/slurm.sh`` on a Slurm of one node, with GPUs that are plain files."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from deploy.engines.frame import Unavailable, said, which
from deploy.engines.job import call, wait_until
from deploy.engines.processes import Processes, free_port, kill, ours
from deploy.engines.service import BRISK, Served, Service

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = {
    **dict.fromkeys(("slurmctld", "slurmd", "sbatch"), "slurm-wlm"),
    "munged": "munge",
    "openssl": "openssl",
}
_GPUS = 4


def check() -> None:
    """Whether Slurm's daemons can run here.

    Raises:
        Unavailable: They cannot.
    """
    if os.geteuid() != 0:
        raise Unavailable("slurmd starts jobs as their owners, which takes root; run it as root")


def version() -> str:
    """As Slurm says it."""
    return said(which("slurmctld"), "-V").replace("slurm-wlm", "Slurm")


class Slurm(Service):
    """A worker, Slurm's daemon of the node, the master, Slurm's controller and the scheduler are killed."""

    name: ClassVar = "slurm"
    packages: ClassVar = PROGRAMS

    def check(self) -> None:
        """It takes root, too."""
        super().check()
        check()

    def version(self) -> str:
        """As Slurm says it."""
        return version()

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """One job for the service, and an array of two for workers."""
        shared = folder / "shared"
        environment = {"SWARM_FOLDER": str(shared), "SWARM_PORT": str(free_port()), **BRISK}
        file = str(shared / "scheduler.json")
        with cluster(folder, environment) as site:
            site.submit("service", options=("--time=60",))
            site.submit("workers", "--slots", "2", options=("--time=60", "--array=1-2", f"--gpus={_GPUS // 2}"))
            address = wait_until(lambda: _address(environment), "slurm.sh says the address")
            owner = call("id", "-un").strip()
            kills = {
                "worker": lambda: strike("worker", file),
                "slurmd": lambda: site.processes.restart("slurmd"),
                "master": lambda: strike("master", file),
                "slurmctld": site.controller_again,
                "scheduler": lambda: strike("scheduler", file),
            }
            yield Served(address, {"DASK_CONFIG": f"{shared}/certificates/{owner}/tls.yaml"}, kills, site.seen)


def _address(environment: dict[str, str]) -> str:
    file = Path(environment["SWARM_FOLDER"], "scheduler.json")
    return call(ROOT / "deploy" / "slurm.sh", "address", environment=environment).strip() if file.exists() else ""


def strike(command: str, mark: str) -> None:
    """Kill one of our processes that Slurm's jobs have started; what keeps it running starts it again."""
    kill(wait_until(lambda: ours(command, mark), f"swarm {command} runs")[0])


class Site:
    """A Slurm that runs.

    Args:
        processes: Its daemons.
        environment: Of who submits.
    """

    def __init__(self, processes: Processes, environment: dict[str, str]) -> None:
        self.processes = processes
        self.environment = {**processes.environment, **environment}

    def submit(self, *words: str, options: tuple[str, ...] = ()) -> None:
        """``sbatch deploy/slurm.sh WORD…``."""
        log = f"--output={self.processes.folder}/job-%A-%a.log"
        self.call("sbatch", log, *options, ROOT / "deploy" / "slurm.sh", *words)

    def call(self, program: str, *words: str | Path) -> str:
        """One of Slurm's programs; what it said."""
        return call(which(program), *words, environment=self.environment, cwd=ROOT)

    def controller_again(self) -> None:
        """Kill the controller and start it again; it reads its state from the folder."""
        self.processes.restart("slurmctld")
        self.ready()

    def ready(self) -> None:
        """Until the node takes jobs."""

        def idle() -> bool:
            self.processes.alive("slurmctld")
            state = said("env", *self._words(), which("sinfo"), "--noheader", "--format=%T")
            return state in ("idle", "mixed", "allocated")

        wait_until(idle, "Slurm's node takes jobs")

    def _words(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.environment.items()]

    def seen(self) -> str:
        """How many jobs run, and with how many GPUs."""
        found = self.call("squeue", "--noheader", "--Format=state,tres-per-job:40,tres-per-node:40").splitlines()
        running = [line for line in found if line.startswith("RUNNING")]
        gpus = sum(int(number) for number in re.findall(r"gpu:(\d+)", "\n".join(running)))
        return f"at the end {len(running)} batch jobs run, with {gpus} GPUs"

    def end(self) -> None:
        """End all jobs, at once."""
        self.call("scancel", "--user", call("id", "-un").strip(), "--signal=KILL", "--full")
        self.call("scancel", "--user", call("id", "-un").strip())
        with suppress(AssertionError):  # then the daemons end with what they still run
            wait_until(lambda: not self.call("squeue", "--noheader").strip(), "Slurm's jobs end", seconds=30)


@contextmanager
def cluster(folder: Path, environment: dict[str, str]) -> Iterator[Site]:
    """A Slurm of one node, ended with all that it runs.

    Args:
        folder: For its configuration, its state and its logs.
        environment: Of who submits, in addition.
    """
    conf = _configured(folder)
    with Processes(folder, {"SLURM_CONF": str(conf)}) as processes:
        files = {name: folder / f"munge.{name}" for name in ("socket", "pid", "seed", "log")}
        options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
        processes.start("munged", which("munged"), "--foreground", f"--key-file={folder}/munge.key", *options)
        wait_until(lambda: processes.alive("munged") and files["socket"].exists(), "munged answers")
        processes.start("slurmctld", which("slurmctld"), "-D", "-f", conf)
        processes.start("slurmd", which("slurmd"), "-D", "-f", conf)
        site = Site(processes, environment)
        site.ready()
        try:
            yield site
        finally:
            site.end()
            for command in ("worker", "master", "scheduler", "distributed.cli.dask_worker"):
                for pid in ours(command, str(folder)):
                    kill(pid)


def _configured(folder: Path) -> Path:
    """Slurm's configuration."""
    folder.chmod(0o711)  # who submits reaches the socket
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for number in range(_GPUS):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{_GPUS - 1}]\n")
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(_CONF.format(folder=folder, host=host, ports=[free_port(), free_port()], gpus=_GPUS))
    return conf


_CONF = """\
ClusterName=engines
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
