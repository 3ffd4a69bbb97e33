"""A service for many short jobs, one after the other: does its memory stay, and are its answers as fast at the end?

    python benchmarks/cost/year.py                    # 20,000 jobs, as many as in a year, the last 1,000 of them live
    python benchmarks/cost/year.py --live 20000       # all of them: some hours
    python benchmarks/cost/year.py --seconds 480      # as many of the live ones as there is time for
    python benchmarks/cost/year.py --quick

Scheduler, master and worker are real processes on this machine, the store is an SQLite file; each job has four trials
of a function that takes no time. The first jobs are written into the store as if they had ended, with journal and
archive; the others are submitted and run, and some are in work at any time. At ten moments the memory of scheduler and
master is looked at, and the questions that people ask are timed, from a client that asks them one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.processes import Service, wait_until
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console
from swarm import Integer, Job, Random
from swarm.client import Client
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.service.published.job_state import state_of
from swarm.store import State, Store, Submission, code_table
from swarm.store.sql import rows, tables

AT_A_TIME = 20  # jobs in work
LOOKS = 10
ASKED = 10  # times, of each question


def square(params: Any, ctx: Any) -> float:
    return float(params["x"]) ** 2


def job_of(number: int) -> Job:
    return Job(
        name=f"job-{number}", problem=square, space={"x": Integer(0, 10**6)}, optimizer=Random(trials=4), seed=number,
        isolation="thread",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=positive, default=20_000)
    parser.add_argument("--live", type=positive, default=1000, help="how many of them are submitted and run")
    parser.add_argument("--seconds", type=float, help="submit no more after this time")
    parser.add_argument("--quick", action="store_true", help="40 jobs, the last 20 of them live")
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.live = 40, 20
    before = max(0, options.jobs - options.live)
    with tempfile.TemporaryDirectory(prefix="year-") as folder, Service(Path(folder)) as service:
        if before:
            written(Path(folder) / "swarm.db", before)
        service.started()
        looks, wall = year(service, options.jobs, options.seconds, before)
    console.print(f"{looks[-1]['ended'] - before} jobs after {before} in {wall:.0f} s")
    save("year", {"looks": looks, "jobs": looks[-1]["ended"], "before": before, "wall_seconds": wall})


def written(file: Path, jobs: int) -> None:
    """Write a store of jobs that have ended, one each half an hour until now."""
    with closing(Store(file)) as store:
        first, mine = job_of(0), Submission("job-0", getpass.getuser())
        store.submit(mine, first.to_dict(), first.code.pickle)
        search = Search(first, store)
        asyncio.run(search.run(VirtualPool(2, lambda evaluation: square(evaluation.params, None))))
        events = list(store.events(first.name))
        ended = replace(mine, state=State.FINISHED, summary=state_of(search.state, mine), ended=time.time())
        store.set_submission(replace(ended, ended=time.time() - 1800 * jobs))
        spec, code = first.to_dict(), first.code.pickle
        with store._engine.begin() as connection:
            for number in range(1, jobs):
                name, when = f"job-{number}", time.time() - 1800 * (jobs - number)
                row = rows.job_row(name, {**spec, "name": name, "seed": number}, when, code)
                connection.execute(tables.jobs.insert(), {**row, "status": "finished"})
                code_table.keep(connection, name, code)
                submission = rows.submission_row(replace(ended, job=name, ended=when))
                connection.execute(tables.submissions.insert(), submission)
                connection.execute(tables.journal.insert(), rows.lines(name, 0, events))
                connection.execute(tables.lengths.insert(), {"job": name, "events": len(events)})


def year(service: Service, jobs: int, seconds: float | None, before: int = 0) -> tuple[list[dict[str, Any]], float]:
    """Submit jobs, a few at a time; return what was measured on the way, and the seconds that it took."""
    client, began = service.client, time.monotonic()
    span = max(1, (jobs - before) // LOOKS)
    client.submit(job_of(before)).wait(timeout=60)  # processes have imported what they need
    done = before + 1
    looks = [look(service, client, done)]
    show(looks)
    while done < jobs and (seconds is None or time.monotonic() - began < seconds):
        upto = min(jobs, done + AT_A_TIME)
        for number in range(done, upto):
            client.submit(job_of(number))
        wait_until(lambda: client.counts().get("active", 0) == 0, seconds=300)
        if upto // span > done // span or upto == jobs:
            looks.append(look(service, client, upto))
            show(looks[-1:])
        done = upto
    if looks[-1]["ended"] != done:
        looks.append(look(service, client, done))
    assert client.counts().get("finished") == done, client.counts()
    return looks, time.monotonic() - began


def look(service: Service, client: Client, jobs: int) -> dict[str, Any]:
    """Measure the memory of the processes and the latency of each request, after a number of jobs have ended."""
    memory = {name: memory_of(service, name) for name in ("master", "scheduler")}
    handle, again = client.attach("job-0"), job_of(0)
    asked: dict[str, Callable[[], Any]] = {
        "jobs": lambda: client.jobs(20),
        "status": handle.state,
        "submit": lambda: client.submit(again),  # what is there already; new ones would be more jobs
    }
    return {"ended": jobs, "memory_mib": memory, **{name: timed(ask) for name, ask in asked.items()}}


def timed(ask: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of a question: the median, and the slowest."""
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - began))
    return {"median": statistics.median(took), "slowest": max(took)}


def memory_of(service: Service, name: str) -> float:
    """MiB of a process."""
    return float(psutil.Process(service.processes[name].pid).memory_info().rss) / 2**20


def show(looks: list[dict[str, Any]]) -> None:
    for each in looks:
        times = ", ".join(
            f"{name} {each[name]['median']:.0f} ms (at most {each[name]['slowest']:.0f})"
            for name in ("jobs", "status", "submit")
        )
        memory = ", ".join(f"{name} {size:.0f} MiB" for name, size in each["memory_mib"].items())
        console.print(f"{each['ended']:6d} jobs: {memory}; {times}")


if __name__ == "__main__":
    main()
