"""The service under many users: how fast it answers, how fairly it shares, how soon another master is there.

    python benchmarks/cost/service.py            # about ten minutes: five times each part
    python benchmarks/cost/service.py --only crowd
    python benchmarks/cost/service.py --quick

Scheduler, master and workers are real processes on this machine; slots are emulated, trainings sleep.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.processes import Service, logging_training, trainings, wait_until
from benchmarks.shared.saving import earlier, positive, save
from benchmarks.shared.tables import print_table
from swarm import PSO, Grid, Integer, Job, Random
from swarm.client import Client

PARTS = ("crowd", "fairness", "takeover")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 jobs, 10 seconds of sharing")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="of sharing")
    parser.add_argument("--repetitions", type=positive, default=5)
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.seconds, options.repetitions = 20, 10, 1
    result: dict[str, list[dict[str, Any]]] = earlier("service", PARTS)
    result |= {part: [] for part in options.only}
    for part in list(options.only) * options.repetitions:  # in turn, so that noise of the machine meets all
        with tempfile.TemporaryDirectory(prefix="service-") as folder, Service(Path(folder)) as service:
            if part == "crowd":
                service.started(slots=2)
                figures = asyncio.run(crowd(service, options.jobs, options.clients, options.watchers))
            else:
                service.started(slots=8)
                wait_until(lambda running=service: running.client.health()["slots"].get("GPU", {}).get("offered") == 8)
                figures = fairness(service, options.seconds) if part == "fairness" else takeover(service)
        result[part].append(figures)
        show(part, figures)
    save("service", result)


async def crowd(service: Service, jobs: int, clients: int, watchers: int) -> dict[str, Any]:
    """Many clients submit at once while many others look; seconds of each answer."""
    looks: list[float] = []
    submissions: dict[str, float] = {}  # by job
    over = asyncio.Event()

    async def submit(number: int) -> None:
        client = Client(service.address, asynchronous=True, user=f"user-{number}")
        for i in range(number, jobs, clients):
            job = Job(
                name=f"job-{i}", problem=square, space={"x": Integer(0, 9)}, optimizer=Random(trials=5), seed=i,
                isolation="thread", archive=False,
            )  # fmt: skip
            began = time.perf_counter()
            await client.submit(job)
            submissions[job.name] = time.perf_counter() - began

    async def watch(number: int) -> None:
        client = Client(service.address, asynchronous=True)
        await asyncio.sleep(number / watchers)  # people do not look in step
        while not over.is_set():
            began = time.perf_counter()
            there = list(submissions)
            await (client.jobs() if number % 5 == 0 else client.attach(there[number % len(there)]))
            looks.append(time.perf_counter() - began)
            await asyncio.sleep(1)

    began = time.perf_counter()
    first = [asyncio.ensure_future(submit(number)) for number in range(clients)]
    await first[0]
    watching = [asyncio.ensure_future(watch(number)) for number in range(watchers)]
    await asyncio.gather(*first)
    client = Client(service.address, asynchronous=True)
    while not all(state.ended for state in await client.jobs()):
        await asyncio.sleep(0.5)
    wall = time.perf_counter() - began
    over.set()
    await asyncio.gather(*watching)
    states = await client.jobs()
    return {
        "jobs": len(states),
        "finished": sum(state.state == "finished" for state in states),
        "wall_seconds": wall,
        "looks": len(looks),
        "look_ms": summary(looks),
        "submit_ms": summary(list(submissions.values())),
    }


def square(params: Any, ctx: Any) -> float:
    return float(params["x"]) ** 2


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    ordered = sorted(seconds)
    return {"median": 1e3 * statistics.median(ordered), "p95": 1e3 * ordered[int(0.95 * len(ordered))]}


def fairness(service: Service, wall: float) -> dict[str, Any]:
    """Two jobs of priorities 1 and 3, the second's trainings a third as long; slot seconds of so many seconds."""
    handles = {}
    for name, priority, seconds in (("one", 1.0, 1.5), ("three", 3.0, 0.5)):
        (service.folder / name).mkdir()
        job = Job(
            name=name, problem=logging_training(service.folder / name, seconds), optimizer=Grid(),
            space={"x": Integer(0, 9999)}, isolation="thread",
        )  # fmt: skip
        handles[name] = service.client.submit(job, priority=priority)
    wait_until(lambda: sum(handle.state().running for handle in handles.values()) == 8)
    before = {name: handle.state().trained_seconds for name, handle in handles.items()}
    time.sleep(wall)
    spent = {name: handle.state().trained_seconds - before[name] for name, handle in handles.items()}
    for handle in handles.values():
        handle.cancel()
    return {"seconds": spent, "ratio": spent["three"] / spent["one"]}


def takeover(service: Service) -> dict[str, Any]:
    """Kill the master while eight trainings run; a standby is there."""
    service.master("standby")
    wait_until(lambda: "standing by" in service.log("standby"))
    job = Job(
        name="job", problem=logging_training(service.folder, 5), optimizer=PSO(particles=8, generations=2), seed=1,
        space={"x": Integer(0, 9999), "y": Integer(0, 9999)},
    )  # fmt: skip
    handle = service.client.submit(job)
    wait_until(lambda: sum(trainings(service.folder, "begun").values()) == 8)
    service.kill("master")
    began = time.perf_counter()
    wait_until(lambda: service.client.hello()["master"])
    seconds = time.perf_counter() - began
    state = handle.wait(timeout=120)
    ended = trainings(service.folder, "ended")
    return {
        "seconds_to_take_over": seconds,
        "lease_seconds": 3,
        "trained": state.counts["trained"],
        "begun": sum(trainings(service.folder, "begun").values()),
        "finished_twice": sum(ended.values()) - len(ended),
    }


def show(part: str, figures: dict[str, Any]) -> None:
    texts = {
        name: ", ".join(f"{k} {v:.1f}" for k, v in value.items()) if isinstance(value, dict) else f"{value:.4g}"
        for name, value in figures.items()
    }
    rows = ((name.replace("_", " "), text) for name, text in texts.items())
    print_table(f"{part}; emulated slots, 2 cores", ("what", "measured"), rows, words=["measured"])


if __name__ == "__main__":
    main()
