"""How soon a master serves that takes over many jobs with long journals, and how fast it replays them.

    python benchmarks/long_journals.py            # 200 jobs with 1,000,000 events in all
    python benchmarks/long_journals.py --jobs 10 --events 100000
    python benchmarks/long_journals.py --quick

A particle swarm is searched on the virtual clock until its journal is long enough; that journal then stands under the
name of each job. Scheduler and master are real processes on this machine, without workers: nothing is trained.
Meanwhile a client asks for a job's description, which the master itself answers, to see how long that takes.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from cluster import save
from rich.console import Console

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the processes are those of the tests
from services import Service, wait_until

from swarm import PSO, Job, Real
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.store import Store, Submission

SPACE = {f"x{number}": Real(-1, 1) for number in range(4)}
console = Console(width=130)


class Long(Exception):
    """The journal is as long as it should be."""


def train(params: Any, ctx: Any) -> float:
    return -sum(value**2 for value in params.values())


def job_of(name: str, trials: int) -> Job:
    return Job(name=name, problem=train, space=SPACE, optimizer=PSO(particles=30, generations=trials // 30 + 2), seed=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--events", type=int, default=1_000_000, help="in all")
    parser.add_argument("--quick", action="store_true", help="20 jobs with 10,000 events")
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.events = 20, 10_000
    with tempfile.TemporaryDirectory(prefix="journals-") as folder, Service(Path(folder)) as service:
        events = written(Path(folder) / "swarm.db", options.jobs, options.events // options.jobs)
        service.scheduler()
        found = {"jobs": options.jobs, "events": events, **measured(service)}
    console.print(
        f"{found['jobs']} jobs with {found['events']} events: serving after {found['serving']:.1f} s, all replayed "
        f"after {found['replayed']:.1f} s, {found['rate']:.0f} events a second; a question meanwhile took "
        f"{found['median']:.3f} s (median), {found['slowest']:.3f} s at most"
    )
    console.print(f"written to {save('long-journals', found)}")


def written(file: Path, jobs: int, events: int) -> int:
    """Write a store of so many jobs, each with a journal of so many events; return the number of events in all."""

    def stop(search: Search) -> None:
        if search.state.events >= events:
            raise Long

    with closing(Store(file)) as store:
        for number in range(jobs):
            job = job_of(f"job-{number}", events // 2)
            store.submit(Submission(job.name, getpass.getuser()), job.to_dict(), job.code.pickle)
        job = job_of("job-0", events // 2)
        pool = VirtualPool(30, lambda evaluation: train(evaluation.params, None))
        with suppress(Long):
            asyncio.run(Search(job, store).run(pool, stop))
    with closing(sqlite3.connect(file)) as connection, connection:
        for number in range(1, jobs):
            connection.execute(
                "INSERT INTO swarm_journal (job, seq, time, kind, data) "
                "SELECT ?, seq, time, kind, data FROM swarm_journal WHERE job = 'job-0'",
                (f"job-{number}",),
            )
        connection.execute("UPDATE swarm_jobs SET status = 'running'")
        return int(connection.execute("SELECT count(*) FROM swarm_journal").fetchone()[0])


def measured(service: Service) -> dict[str, float]:
    """How a new master does."""
    began = time.monotonic()
    service.master("master")
    client = service.client
    wait_until(lambda: client.hello()["master"])
    office = time.monotonic() - began
    handle, took = client.attach("job-0"), []
    handle.pause()  # the first thing that it does for anybody
    serving = time.monotonic() - began
    while any(state.trouble == "its journal is being replayed" for state in client.jobs()):
        asked = time.monotonic()
        handle.pause()
        took.append(time.monotonic() - asked)
        time.sleep(0.1)  # between two questions
    replayed = time.monotonic() - began
    with closing(sqlite3.connect(Path(service.folder) / "swarm.db")) as connection:
        events = int(connection.execute("SELECT count(*) FROM swarm_journal").fetchone()[0])
    took = sorted(took) or [0.0]
    return {
        "serving": serving, "replayed": replayed, "rate": events / (replayed - office),
        "median": took[len(took) // 2], "slowest": took[-1],
    }  # fmt: skip


if __name__ == "__main__":
    main()
