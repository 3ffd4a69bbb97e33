"""Workers as batch jobs by dask-jobqueue: scheduler and master run here, each job is one worker with one GPU.

From a checkout, in a folder that the nodes see, too::

    pip install dask-jobqueue
    deploy/make-certificates certificates $USER
    python deploy/jobqueue.py 1:20                        # from 1 to 20 jobs, as there are trainings, until Ctrl-C
    python deploy/jobqueue.py 8 --system pbs --queue gpu  # always 8, on PBS

What a job is comes from the options, else from your site's ``jobqueue.yaml`` (in ``~/.config/dask`` or ``/etc/dask``):
``cores``, ``memory``, ``walltime``, ``queue``, ``resource-spec``, ``job-extra-directives``, ``job-script-prologue``. On
Slurm a job asks for ``--gres=gpu:1`` unless there are directives; other systems' words for a GPU stand there, or in the
resource-spec. Jobs that have ended are replaced. Some minutes before its time is over a worker takes nothing new, its
trainings save and go on elsewhere, and another job is submitted.

``deploy/slurm.sh`` does the same on Slurm without dask-jobqueue, and keeps the service running when you log out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import dask_jobqueue
from dask_jobqueue import JobQueueCluster
from distributed import Security

CERTIFICATES = Path("certificates").absolute()
SYSTEMS = {
    "slurm": dask_jobqueue.SLURMCluster,
    "pbs": dask_jobqueue.PBSCluster,
    "lsf": dask_jobqueue.LSFCluster,
    "sge": dask_jobqueue.SGECluster,
    "oar": dask_jobqueue.OARCluster,
    "moab": dask_jobqueue.MoabCluster,
}


def security() -> Security:
    """TLS with the certificates of scheduler, workers and master; other users of the cluster reach these nodes, too."""
    roles = {"scheduler": "scheduler", "worker": "worker", "client": "master"}
    files = {
        f"tls_{role}_{kind}": f"{CERTIFICATES}/{owner}/{kind}.pem"
        for role, owner in roles.items()
        for kind in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=f"{CERTIFICATES}/worker/ca.pem", **files)


def seconds(walltime: str, system: str = "slurm") -> int:
    """A walltime in seconds: ``D-HH:MM:SS`` and what is left of it, as Slurm reads it; LSF's are ``HH:MM``."""
    days, _, rest = walltime.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        parts += [0] * (3 - len(parts))  # from hours on
    elif system == "lsf" or len(parts) == 1:
        parts.append(0)  # from minutes on, down
    hours, minutes, left = [0] * (3 - len(parts)) + parts
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + left


def lifetime(walltime: str, system: str = "slurm") -> tuple[int, int]:
    """How long a worker lives, and by how much that changes at random, lest all end at once; both in seconds.

    It is over five minutes before the job's time is, or after nine tenths of a short one.
    """
    whole = seconds(walltime, system)
    end = max(whole - 300, whole * 9 // 10)
    stagger = min(300, (end - whole // 2) // 4) if whole > 1200 else 0
    return end - stagger, stagger


def cluster(system: str = "slurm", port: int = 0, **options: Any) -> JobQueueCluster:
    """A scheduler with our plugin, and the description of a job; no job is submitted yet.

    Args:
        system: Batch system, one of SYSTEMS.
        port: Of the scheduler; 0 is any.
        options: Those of its class in dask-jobqueue; None, or left out, is what the site says.
    """

    def site(name: str) -> Any:
        return dask.config.get(f"jobqueue.{system}.{name}", None)

    given = {name: value for name, value in options.items() if value is not None}
    if "cores" not in given and site("cores") is None:
        given["cores"] = 1  # Dask's threads, one training at a time; a job has more, for its data
        if system == "slurm" and site("job-cpu") is None:
            given.setdefault("job_cpu", 8)
    if site("memory") is None:
        given.setdefault("memory", "32GB")
    if system == "slurm" and not site("job-extra-directives"):
        given.setdefault("job_extra_directives", ["--gres=gpu:1"])
    end, stagger = lifetime(str(given.get("walltime") or site("walltime")), system)
    worker = ["--resources", "GPU=1", "--memory-limit", "0", "--no-dashboard"]
    worker += ["--lifetime", f"{end}s", "--lifetime-stagger", f"{stagger}s"]
    worker += ["--preload", "swarm.workers.node.supervisor", "--preload-nanny", "swarm.workers.node.gate"]
    return SYSTEMS[system](
        processes=1,
        worker_extra_args=[*(site("worker-extra-args") or []), *worker],
        security=security(),
        scheduler_options={"preload": ["swarm.scheduler"], "dashboard_address": "127.0.0.1:8787", "port": port},
        **given,
    )


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line; ``minimum`` and ``maximum`` are numbers of jobs."""
    summary, _, more = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", metavar="MINIMUM:MAXIMUM", help="how many jobs there are; one number keeps it so")
    parser.add_argument("--system", choices=SYSTEMS, default="slurm", help="batch system (default: slurm)")
    parser.add_argument(
        "--port", type=int, default=0, help="port of the scheduler, by which clients find it again (default: any)"
    )
    parser.add_argument("--cores", type=int, help="CPU cores of a job")
    parser.add_argument("--memory", help="memory of a job, such as 32GB")
    parser.add_argument("--walltime", help="time of a job, such as 12:00:00")
    parser.add_argument("--queue", help="queue or partition")
    parser.add_argument(
        "--directive",
        action="append",
        metavar="TEXT",
        help="further line of the job's head, such as --directive=--gres=gpu:1; may be given again",
    )
    found = parser.parse_args(words)
    low, _, high = found.jobs.partition(":")
    try:
        found.minimum, found.maximum = int(low), int(high or low)
    except ValueError:
        parser.error(f"a number of jobs such as 8, or from and to such as 1:20, not {found.jobs!r}")
    if not 0 <= found.minimum <= found.maximum or found.maximum == 0:
        parser.error(f"from at least 0 to at least as many and at least 1, not {found.jobs!r}")
    return found


def main() -> None:
    """Have as many jobs as there is work for, and be the master until Ctrl-C."""
    chosen = parsed()
    names = ("cores", "memory", "walltime", "queue")
    options = {name: getattr(chosen, name) for name in names} | {"job_extra_directives": chosen.directive}
    with cluster(chosen.system, chosen.port, **options) as started:
        started.adapt(minimum_jobs=chosen.minimum, maximum_jobs=chosen.maximum)
        print(f"swarm submit JOB.yaml --scheduler {started.scheduler_address}", flush=True)
        master = ["swarm", "master", started.scheduler_address, "--store", "sqlite:///swarm.db", "--results", "results"]
        environment = os.environ | {"DASK_CONFIG": f"{CERTIFICATES}/master/tls.yaml"}
        subprocess.run([*master, "--checkpoints", "checkpoints"], env=environment, check=True)


if __name__ == "__main__":
    main()
