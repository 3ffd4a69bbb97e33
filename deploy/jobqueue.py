"""Workers as batch jobs by dask-jobqueue: scheduler and master run here, each job is one worker with one GPU.

From a checkout, in a folder that the nodes see, too::

    pip install dask-jobqueue
    deploy/make-certificates certificates $USER
    python deploy/jobqueue.py 8      # 8 jobs, until Ctrl-C

For PBS, LSF, SGE or HTCondor take another class of dask_jobqueue. ``deploy/slurm.sh`` does the same without it, and
keeps the service running when you log out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Security

CERTIFICATES = Path("certificates").absolute()


def security() -> Security:
    """TLS with the certificates of scheduler, workers and master; other users of the cluster reach these nodes, too."""
    roles = {"scheduler": "scheduler", "worker": "worker", "client": "master"}
    files = {
        f"tls_{role}_{kind}": f"{CERTIFICATES}/{owner}/{kind}.pem"
        for role, owner in roles.items()
        for kind in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=f"{CERTIFICATES}/worker/ca.pem", **files)


def cluster() -> SLURMCluster:
    """A scheduler with our plugin, and the description of a job; no job is submitted yet."""
    return SLURMCluster(
        cores=1,  # Dask's threads, one training at a time; the job has more, for its data
        job_cpu=8,
        processes=1,
        memory="32GB",
        walltime="12:00:00",
        job_extra_directives=["--gres=gpu:1"],
        worker_extra_args=[
            "--resources",
            "GPU=1",
            "--memory-limit",
            "0",
            "--no-dashboard",
            "--preload",
            "swarm.workers.node.supervisor",
            "--preload-nanny",
            "swarm.workers.node.gate",
        ],
        security=security(),
        scheduler_options={"preload": ["swarm.scheduler"], "dashboard_address": "127.0.0.1:8787"},
    )


def main(jobs: int) -> None:
    """Submit the jobs, and be the master until Ctrl-C.

    Args:
        jobs: Number of workers.
    """
    with cluster() as started:
        started.scale(jobs=jobs)
        print(f"swarm submit JOB.yaml --scheduler {started.scheduler_address}", flush=True)
        master = ["swarm", "master", started.scheduler_address, "--store", "sqlite:///swarm.db", "--results", "results"]
        environment = os.environ | {"DASK_CONFIG": f"{CERTIFICATES}/master/tls.yaml"}
        subprocess.run([*master, "--checkpoints", "checkpoints"], env=environment, check=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
