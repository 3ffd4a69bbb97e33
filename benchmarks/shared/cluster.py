"""What the benchmarks share: a Dask cluster of their own, machine facts, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

QUICK = "--quick" in sys.argv  # every benchmark's word for a look at whether it works; the figures mean little
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks" / "results"
RESULTS = KEPT.with_name("results-quick") if QUICK else KEPT


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


def machine() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    packages = ("dask", "distributed", "numpy", "sqlalchemy", "keras", "tensorflow-cpu", "tensorflow")
    versions = {}
    for name in packages:
        with contextlib.suppress(Exception):
            versions[name] = version(name)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def positive(text: str) -> int:
    """An option that counts: at least 1, since nothing must not take the place of earlier figures."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def command() -> str:
    """How this benchmark was called; of paths only the last part, the others are this machine's."""
    options = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return shlex.join(["python", Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix(), *options])


def earlier(name: str, parts: Sequence[str]) -> dict[str, Any]:
    """What was measured of these parts before; a run that leaves some out keeps them."""
    file = RESULTS / name / f"{name}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    return {part: found[part] for part in parts if part in found}


def save(name: str, result: dict[str, Any]) -> Path:
    """Write a benchmark's figures in place of the earlier ones; those of a quick run into a folder of their own."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"machine": machine(), "command": command(), **result}, indent=1) + "\n")
    return file
