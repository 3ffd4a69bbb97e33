"""When does the scheduler or the master become the limit: CPU per evaluation and per heartbeat, by number of workers.

    python benchmarks/scale/dask_limit.py [--quick] [--workers 8 64 256 1024] [--machines 64 8] [--rate 50]

Scheduler and master are the service's own processes. The workers are real Dask workers, too, but all in one process,
and their trainings sleep: each about so long that ``--rate`` evaluations end per second, whatever the number of
workers, since a scheduler that is busier handles its messages in larger batches, at less cost. What is measured is the
CPU time of either process, so other work on the machine does little harm. Workers have one slot each, and once several,
as those of ``swarm worker`` on machines with several GPUs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
from distributed import Worker
from distributed.scheduler import heartbeat_interval

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.scale.limits import Costs, draw, table
from benchmarks.shared.pictures import write
from benchmarks.shared.processes import Service, wait_until
from benchmarks.shared.saving import ROOT, machine, save
from benchmarks.shared.tables import console, print_table
from swarm import Job, Random, Real
from swarm.client import JobHandle
from swarm.config import SETTINGS
from swarm.errors import SchedulerUnreachable

CHEAP = {"distributed.admin.system-monitor.interval": "1h", "distributed.worker.http.routes": [], **SETTINGS}
AT_ONCE = 32
GIVE_UP_SECONDS = 600
PICTURE = ROOT / "docs" / "images" / "scale.png"


class Sleeping:
    """A training that takes a while, which its hyper-parameter varies, and costs nothing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, params: Any, ctx: Any) -> float:
        time.sleep(self.seconds * params["share"])
        return float(params["share"])


async def farm(address: str, number: int, slots: int) -> None:
    """Runs ``number`` workers in this process, each with ``slots`` slots."""
    with tempfile.TemporaryDirectory() as folder, dask.config.set(CHEAP):
        options = {"nthreads": slots, "resources": {"GPU": slots}, "memory_limit": 0, "local_directory": folder}
        workers = [
            Worker(address, name=f"worker-{i}", dashboard_address="127.0.0.1:0", **options) for i in range(number)
        ]
        for first in range(0, number, AT_ONCE):
            await asyncio.gather(*workers[first : first + AT_ONCE])
        print("ready", flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def served(number: int, slots: int) -> Iterator[Service]:
    """A scheduler, a master, and a farm of workers."""
    with tempfile.TemporaryDirectory(prefix="limit-") as folder, Service(Path(folder)) as service:
        service.scheduler()
        service.master()
        wait_until(lambda: service.client.hello()["master"], seconds=300)
        command = [sys.executable, __file__, "--farm", service.address, str(number), str(slots)]
        workers = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert workers.stdout is not None
            assert workers.stdout.readline() == "ready\n", "the workers did not start"
            yield service
        finally:
            workers.kill()
            workers.wait()


def cpu(service: Service) -> dict[str, float]:
    """The clock, and CPU seconds of scheduler and master so far."""
    times = {name: psutil.Process(service.processes[name].pid).cpu_times() for name in ("scheduler", "master")}
    return {"clock": time.monotonic(), **{name: used.user + used.system for name, used in times.items()}}


def difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after}


def measure(number: int, rate: float, idle: float, evaluations: int, slots: int = 1) -> dict[str, Any]:
    """What scheduler and master spend with so many workers: for some seconds without any evaluation, then for some."""
    with served(number, slots) as service:
        time.sleep(3 + 2 * heartbeat_interval(number))  # until all have taken up the rhythm
        before = cpu(service)
        time.sleep(idle)
        rest = difference(cpu(service), before)
        job = Job(
            name="limit", problem=Sleeping(number * slots / rate), space={"share": Real(0.5, 1.5)}, isolation="thread",
            optimizer=Random(trials=1_000_000), archive=False,
        )  # fmt: skip
        handle = service.client.submit(job)
        first = told_of(handle, number * slots)
        before = cpu(service)
        told = told_of(handle, first + evaluations) - first
        work = difference(cpu(service), before)
        mib = {n: psutil.Process(service.processes[n].pid).memory_info().rss / 2**20 for n in ("scheduler", "master")}
    found = {
        "workers": number,
        "slots": number * slots,
        "evaluations": told,
        "per_second": told / work["clock"],
        "mib": mib,
    }
    for name in ("scheduler", "master"):
        found[f"{name}_idle"] = rest[name] / rest["clock"]
        found[f"{name}_ms"] = 1000 * (work[name] - found[f"{name}_idle"] * work["clock"]) / told
    return found


def told_of(handle: JobHandle, wanted: int) -> int:
    """Evaluations that have ended, once there are as many; asks seldom, since the scheduler has to answer."""
    told, deadline = 0, time.monotonic() + GIVE_UP_SECONDS
    while told < wanted:
        assert time.monotonic() < deadline, f"{told} of {wanted} evaluations ended in {GIVE_UP_SECONDS} s"
        time.sleep(1)
        with contextlib.suppress(SchedulerUnreachable):  # on a machine that is busy, an answer may take too long
            told = int(handle.state().told)
    return told


def fitted(rows: list[dict[str, Any]]) -> Costs:
    """Straight lines through what was measured."""
    workers = np.array([row["workers"] for row in rows], float)
    beats = workers / [heartbeat_interval(int(n)) for n in workers]

    def line(x: Any, name: str, unit: float = 1.0) -> tuple[float, float]:
        y = np.array([row[name] / unit for row in rows])
        slope = max(0.0, float(np.polyfit(x, y, 1)[0]))  # more workers make nothing cheaper
        return float(np.mean(y - slope * x)), slope

    idle, beat = line(beats, "scheduler_idle")
    return Costs(*line(workers, "master_ms", 1000), *line(workers, "scheduler_ms", 1000), beat=beat, idle=idle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 and 64 workers, 200 evaluations each")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 256, 1024])
    parser.add_argument("--rate", type=float, default=50, help="evaluations per second")
    parser.add_argument("--idle", type=float, default=20, help="seconds without evaluations")
    parser.add_argument("--evaluations", type=int, default=2000, help="for each number of workers")
    parser.add_argument("--machines", type=int, nargs=2, metavar=("WORKERS", "SLOTS"), default=(64, 8))
    parser.add_argument("--farm", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.farm:
        asyncio.run(farm(options.farm[0], *map(int, options.farm[1:])))
        return
    if options.quick:
        options.workers, options.machines, options.idle, options.evaluations = [8, 64], (8, 8), 4, 200
    rows = []
    for number in options.workers:
        rows.append(measure(number, options.rate, options.idle, options.evaluations))
        console.print({name: value for name, value in rows[-1].items() if name != "mib"})
    workers, slots = options.machines
    machines = measure(workers, options.rate, options.idle, options.evaluations, slots)
    show([*rows, machines], options.rate)
    costs = fitted(rows)
    result = {
        "quick": options.quick, "rate": options.rate, "rows": rows, "machines": machines, "costs": vars(costs),
        "limits": table(costs),
    }  # fmt: skip
    save("dask-limit", result)
    drawn = write(draw(result), "dask-limit", "dask-limit.png")
    if not options.quick:
        shutil.copy(drawn, PICTURE)


def show(rows: list[dict[str, Any]], rate: float) -> None:
    print_table(
        f"CPU per evaluation at about {rate:g} evaluations/s; {machine()['cores']} cores",
        ("workers", "slots", "evaluations", "per second", "scheduler ms", "idle %", "master ms", "idle %"),
        (
            (f"{row['workers']:,}", f"{row['slots']:,}", f"{row['evaluations']:,}", f"{row['per_second']:.0f}",
             f"{row['scheduler_ms']:.2f}", f"{100 * row['scheduler_idle']:.1f}",
             f"{row['master_ms']:.2f}", f"{100 * row['master_idle']:.1f}")
            for row in rows
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
