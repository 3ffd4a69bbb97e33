"""A Dask cluster of the benchmarks' own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def cluster(slots: int) -> Iterator[str]:
    """A scheduler, and a worker with ``slots`` single-threaded GPU slots that has registered; yields the address."""
    env = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "info", "PYTHONUNBUFFERED": "1"}
    tool = Path(sys.executable)
    scheduler = subprocess.Popen(
        [tool.with_name("dask"), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    workers = None
    try:
        assert scheduler.stderr is not None
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
        command = [tool.with_name("swarm"), "worker", address, "--slots", str(slots), "--host", "127.0.0.1"]
        workers = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        next(line for line in scheduler.stderr if "Starting worker compute stream" in line)
        # Nobody reads the pipe from here on; a full one would stop the scheduler.
        subprocess.Popen(["cat"], stdin=scheduler.stderr, stdout=subprocess.DEVNULL)
        yield address
    finally:
        for process in (workers, scheduler):
            if process is not None:
                process.terminate()
                process.wait()
