"""How soon a master serves that takes over many jobs with long journals, and how fast it replays them.

    python benchmarks/cost/long_journals.py            # 200 jobs with 1,000,000 events in all
    python benchmarks/cost/long_journals.py --jobs 10 --events 100000
    python benchmarks/cost/long_journals.py --quick

A particle swarm is searched on the virtual clock until its journal is long enough; that journal then stands under the
name of each job. Scheduler and master are real processes on this machine, without workers: nothing is trained.
Meanwhile a client has a job paused, which the master itself does, to see how long that takes. Then that master is
killed in its turn, and the next one has the snapshots that the first has left: all of each journal, at best.
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

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.processes import Service, wait_until
from benchmarks.shared.saving import save
from benchmarks.shared.tables import console
from swarm import PSO, Job, Real
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.store import Store, Submission

SPACE = {f"x{number}": Real(-1, 1) for number in range(4)}


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
        found: dict[str, Any] = {"jobs": options.jobs, "events": events}
        for how in ("journals", "snapshots"):
            found[how] = measured(service, f"master-{how}")
            service.kill(f"master-{how}")
    for how in ("journals", "snapshots"):
        each = found[how]
        console.print(
            f"from {how}: {found['jobs']} jobs with {found['events']} events: serving after {each['serving']:.1f} s, "
            f"all replayed after {each['replayed']:.1f} s, {each['rate']:.0f} events a second ({each['rate_cpu']:.0f} "
            f"a second of the processor's); a question meanwhile "
            f"took {each['median']:.3f} s (median), {each['slowest']:.3f} s at most"
        )
    save("long-journals", found)


def written(file: Path, jobs: int, events: int) -> int:
    """Write a store of jobs with journals of a given length; return the number of events in all."""

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


def measured(service: Service, name: str) -> dict[str, float]:
    """How a new master does; one before it was killed, if there was one, and its lease has to expire."""
    client = service.client
    wait_until(lambda: client.hello() and not client.hello()["master"])
    with closing(sqlite3.connect(Path(service.folder) / "swarm.db")) as connection, connection:
        connection.execute("UPDATE swarm_lease SET expires = 0")
    began = time.monotonic()
    service.master(name)
    wait_until(lambda: client.hello()["master"])
    office, used = time.monotonic() - began, cpu_seconds(service, name)
    handle, took = client.attach("job-0"), []
    handle.pause()  # the first thing that it does for anybody
    serving = time.monotonic() - began
    while any(state.trouble == "its journal is being replayed" for state in client.jobs()):
        asked = time.monotonic()
        handle.pause()
        took.append(time.monotonic() - asked)
        time.sleep(0.1)  # between two questions
    replayed, used = time.monotonic() - began, cpu_seconds(service, name) - used
    with closing(sqlite3.connect(Path(service.folder) / "swarm.db")) as connection:
        events = int(connection.execute("SELECT count(*) FROM swarm_journal").fetchone()[0])
    took = sorted(took) or [0.0]
    return {
        "serving": serving, "replayed": replayed, "rate": events / (replayed - office), "rate_cpu": events / used,
        "median": took[len(took) // 2], "slowest": took[-1],
    }  # fmt: skip


def cpu_seconds(service: Service, name: str) -> float:
    """How long a process has used a processor: what does not depend on who else uses this machine."""
    used = psutil.Process(service.processes[name].pid).cpu_times()
    return float(used.user + used.system)


if __name__ == "__main__":
    main()
