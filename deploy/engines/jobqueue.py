"""Workers by ``deploy/jobqueue.py``: dask-jobqueue on the same Slurm."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from deploy.engines import slurm
from deploy.engines.frame import Unavailable
from deploy.engines.job import call, wait_until
from deploy.engines.processes import free_port
from deploy.engines.service import BRISK, Served, Service

DEPLOY = Path(__file__).parent.parent


class Jobqueue(Service):
    """A worker in its batch job, and then scheduler and master with ``jobqueue.py`` itself, are killed."""

    name: ClassVar = "jobqueue"
    packages: ClassVar = slurm.PROGRAMS

    def check(self) -> None:
        """It takes dask-jobqueue, too."""
        super().check()
        slurm.check()
        if importlib.util.find_spec("dask_jobqueue") is None:
            raise Unavailable("dask-jobqueue is not installed: .venv/bin/python -m pip install dask-jobqueue")

    def version(self) -> str:
        """Of the library, and of Slurm."""
        return f"dask-jobqueue {version('dask-jobqueue')}, {slurm.version()}"

    @contextmanager
    def served(self, folder: Path) -> Iterator[Served]:
        """As its file says, with two to four jobs of one GPU each."""
        certificates = folder / "certificates"
        call(DEPLOY / "make-certificates", certificates, "ann")
        port = str(free_port())
        with slurm.cluster(folder, {}) as site:
            job = ["--cores", "1", "--memory", "1GB", "--walltime", "01:00:00", "--directive=--gres=gpu:1"]
            command = [sys.executable, str(DEPLOY / "jobqueue.py"), "2:4", "--port", port, *job]
            site.processes.start("jobqueue", *command, environment=BRISK)

            def address() -> str:
                site.processes.alive("jobqueue")
                lines = [line for line in site.processes.log("jobqueue").splitlines() if "--scheduler" in line]
                return lines[0].split()[-1] if lines else ""

            found = wait_until(address, "jobqueue.py says the address")
            kills = {
                "worker": lambda: slurm.strike("distributed.cli.dask_worker", found),
                "jobqueue.py (scheduler, master)": lambda: site.processes.restart("jobqueue"),
            }
            yield Served(found, {"DASK_CONFIG": f"{certificates}/ann/tls.yaml"}, kills, site.seen)
