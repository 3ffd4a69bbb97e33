"""Kill whatever can be killed, every few seconds, and see whether the answer is the same and nothing was lost.

A scheduler, two masters (one stands by) and three machines with workers, all real processes on this machine; two jobs
of sleeping trainings in child processes that log each beginning and end. Every few seconds one is chosen at random and
killed with SIGKILL, and started again as systemd or Kubernetes would; a master may also be stopped with SIGSTOP until
another has taken over, when it wakes up. With --hangs, workers are stopped until their nanny replaces them, and whole
machines until they are given up and their trainings run elsewhere: what such a machine or worker was training may end
all the same, so some trainings end twice, and count once. The same jobs then run undisturbed.

With --store sqlite or --store postgres, only the store has faults, each for longer than a lease: it is locked by
another process, its disk is full (a small one, which root mounts), its server is suspended, or a master dies whose
clock was an hour off. No training is to notice: none is interrupted, none is done twice.

    python benchmarks/faults/chaos.py                 # three minutes of kills, 8 slots; five times
    python benchmarks/faults/chaos.py --hangs
    python benchmarks/faults/chaos.py --store sqlite
    python benchmarks/faults/chaos.py --store postgres
    python benchmarks/faults/chaos.py --seconds 30
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.faults import store_faults
from benchmarks.shared.processes import Service, is_worker, kill, logging_training, trainings, wait_until
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, print_table
from swarm import PSO, Integer, Job, Random
from swarm.client import JobHandle, JobState
from swarm.errors import SwarmError
from swarm.pool.virtual import VirtualPool

MACHINES = {"workers-1": 3, "workers-2": 3, "workers-3": 2}
MASTERS = ("master-1", "master-2")
WEIGHTS = {
    "worker": 6,
    "machine": 2,
    "master": 3,
    "stopped master": 1,
    "scheduler": 1,
}
HANGS = {"hung worker": 2, "hung machine": 1}
HANG_SECONDS = 45  # longer than it takes to give a machine up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="how long to kill")
    parser.add_argument("--every", type=float, default=5, help="mean seconds between two kills")
    parser.add_argument("--training", type=float, default=2, help="seconds of a training")
    parser.add_argument("--seed", type=int, default=0, help="of the first run's kills; each further one adds one")
    parser.add_argument("--repetitions", type=positive, default=5)
    parser.add_argument("--hangs", action="store_true", help="hang workers and machines, too")
    parser.add_argument("--store", choices=("sqlite", "postgres"), help="only the store has faults")
    parser.add_argument("--folder", type=Path, help="keep logs and stores here, a folder that is new or empty")
    parser.add_argument("--quick", action="store_true", help="15 seconds of kills, short trainings")
    options = parser.parse_args()
    if options.folder and options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder} is not empty: name a new folder, as old logs would be counted, too")
    if options.quick:
        options.seconds, options.training, options.repetitions = 15, min(options.training, 0.5), 1
    expected = {name: undisturbed(job_of(name, Path(), 0.0)) for name in ("pso", "random")}
    runs = []
    for seed in range(options.seed, options.seed + options.repetitions):
        with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
            folder = Path(options.folder or temporary, f"seed-{seed}")
            folder.mkdir(parents=True)
            kills, rows, wall = disturbed(folder, options, seed)
        show(kills, rows, expected, wall)
        runs.append({"seed": seed, "kills": kills, "jobs": rows, "wall_seconds": wall})
    kind = "chaos-hangs" if options.hangs else f"chaos-{options.store}" if options.store else "chaos"
    save(kind, {"runs": runs, "undisturbed": expected})


def job_of(name: str, folder: Path, seconds: float) -> Job:
    method = PSO(particles=16, generations=30) if name == "pso" else Random(trials=300)
    space = {"x": Integer(0, 4095), "y": Integer(0, 4095)}
    return Job(name=name, problem=logging_training(folder, seconds), space=space, optimizer=method, seed=3)


def undisturbed(job: Job) -> dict[str, Any]:
    """What the search finds without a fault, on the virtual clock."""
    import asyncio

    from swarm.search import Search
    from swarm.store import Store

    def fitness(evaluation: Any) -> float:
        return -sum((float(value) - 30.0) ** 2 for value in evaluation.params.values())

    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/swarm.db")
        store.add_job(job.name, job.to_dict(), b"")
        search = Search(job, store)
        asyncio.run(search.run(VirtualPool(8, fitness)))
        store.close()
    assert search.state.best is not None
    return {
        "best": search.state.best.params,
        "fitness": search.state.best.fitness,
        "trained": search.state.counts["trained"],
    }


def disturbed(
    folder: Path, options: argparse.Namespace, seed: int
) -> tuple[Counter[str], dict[str, dict[str, Any]], float]:
    """Run both jobs while things die."""
    rng = random.Random(seed)
    kills: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        url, weights = place_of(folder, options, stack)
        service = stack.enter_context(Service(folder, url, env={"DASK_SWARM__WORKER_TTL_SECONDS": "5"}))
        service.scheduler()
        for name, slots in MACHINES.items():
            service.workers(slots, name)
        for name in MASTERS:
            service.master(name)
        wait_until(lambda: service.client.hello()["master"])
        began = time.monotonic()
        handles = []
        for name in ("pso", "random"):
            (folder / name).mkdir()
            handles.append(service.client.submit(job_of(name, folder / name, options.training)))
        while time.monotonic() - began < options.seconds:
            time.sleep(rng.uniform(0.5, 1.5) * options.every)  # the faults' own rhythm, nothing is waited for
            if wait_until(service.client.hello) and all(ended(handle) for handle in handles):
                break
            kind = rng.choices(list(weights), list(weights.values()))[0]
            hit = store_faults.strike if options.store else strike
            console.print(f"{time.monotonic() - began:5.0f} s  {kind} {hit(service, kind, rng)}", highlight=False)
            kills[kind] += 1
        states: list[JobState] = [handle.wait(timeout=900) for handle in handles]
        wall = time.monotonic() - began
    rows = {state.name: row_of(state, folder / state.name) for state in states}
    return kills, rows, wall


def place_of(
    folder: Path, options: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[str | None, dict[str, int]]:
    """URL of the store, None for the usual one, and which faults there are to be, how often."""
    if options.store == "postgres":
        return stack.enter_context(store_faults.server()), store_faults.POSTGRES
    if options.store == "sqlite":
        disk = folder / "disk"
        disk.mkdir()
        trouble = stack.enter_context(store_faults.disk(disk))
        if trouble is not None:
            console.print(f"the disk is never full: {trouble}")
        faults = {kind: often for kind, often in store_faults.SQLITE.items() if kind != "full disk" or trouble is None}
        return f"sqlite:///{disk}/swarm.db", faults
    return None, WEIGHTS | HANGS if options.hangs else WEIGHTS


def ended(handle: JobHandle) -> bool:
    try:
        return bool(handle.state().ended)
    except SwarmError:  # nobody is there to say
        return False


def strike(service: Service, kind: str, rng: random.Random) -> str:
    """Kill one of this kind, and start it again."""
    name = rng.choice(list(MACHINES))
    if kind in ("worker", "hung worker"):
        found = [child for child in psutil.Process(service.processes[name].pid).children() if is_worker(child)]
        if found:
            (kill if kind == "worker" else suspend)(rng.choice(found))
        return f"on {name}"
    if kind == "hung machine":
        machine = psutil.Process(service.processes[name].pid)
        sleepers = [machine, *machine.children(recursive=True)]
        for process in sleepers:
            suspend(process)
        time.sleep(HANG_SECONDS)
        for process in sleepers:
            wake(process)
        return name
    if kind == "machine":
        service.kill(name)
        service.workers(MACHINES[name], name)
        return name
    if kind == "scheduler":
        service.kill("scheduler")
        service.scheduler()
        return ""
    name = rng.choice(MASTERS)
    if kind == "master":
        service.kill(name)
        service.master(name)
        return name
    service.kill(name, signal.SIGSTOP)
    time.sleep(6)  # longer than its lease
    service.kill(name, signal.SIGCONT)
    return name


def suspend(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()


def wake(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def row_of(state: JobState, folder: Path) -> dict[str, Any]:
    begun, ended = trainings(folder, "begun"), trainings(folder, "ended")
    assert state.best is not None
    return {
        "state": state.state,
        "told": state.told,
        "trained": state.counts["trained"],
        "failed": state.counts["failed"],
        "positions": len(ended),
        "begun": sum(begun.values()),
        "interrupted": sum(begun.values()) - sum(ended.values()),
        "trained_twice": sum(ended.values()) - len(ended),
        "best": state.best["params"],
        "fitness": state.best["fitness"],
    }


def show(kills: Counter[str], rows: dict[str, Any], expected: dict[str, Any], wall: float) -> None:
    killed = ", ".join(f"{count} × {kind}" for kind, count in kills.items())
    print_table(
        f"{sum(kills.values())} kills in {wall:.0f} s ({killed}); 8 emulated slots on 2 cores",
        ("job", "end", "told", "counted", "finished", "interrupted", "finished twice", "best", "undisturbed"),
        (
            (name, row["state"], row["told"], row["trained"], row["positions"], row["interrupted"],
             row["trained_twice"], row["best"], expected[name]["best"])
            for name, row in rows.items()
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
