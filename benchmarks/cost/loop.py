"""How long the master's event loop is held up: by whom, and what ran there.

    python benchmarks/cost/loop.py             # about two minutes
    python benchmarks/cost/loop.py --only takeover guided
    python benchmarks/cost/loop.py --quick

Scheduler, workers and master are real processes on this machine, the store is an SQLite file; trainings take no time.
In the master each callback of the loop is timed by what its thread has used of the processor, which does not depend on
who else uses this machine, and a watchdog notes where those are that take long. The parts:

``takeover``: a master takes 50 jobs over, with 2,000 events each, and draws the first picture of each.
``guided``: four guided searches of 320 trials each.
``crowds``: methods with the largest populations that the settings allow.
``code``: a job with 10 MB of code is submitted, and runs.
Meanwhile a client asks for jobs, states and events.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.cost.long_journals import written
from benchmarks.shared.processes import Service, wait_until
from benchmarks.shared.saving import earlier, save
from benchmarks.shared.tables import console
from swarm import GA, PSO, TPE, Grid, Hyperband, Integer, Job, MuPlusLambda, Real, SurrogatePSO
from swarm.client import Client
from swarm.errors import InvalidInput, SwarmError
from swarm.store import Store

PARTS = ("takeover", "guided", "crowds", "code")
BOUND = 0.05  # seconds
LOOK = 0.005  # between two looks of the watchdog


# --- in the master


class Watch:
    """Times each callback of the event loop of this process.

    Args:
        file: Where a line is written for each that takes longer than the bound.
    """

    def __init__(self, file: Path) -> None:
        self._lines = file.open("a", buffering=1)
        self._thread = threading.get_ident()
        self._since: float | None = None  # when the callback that runs now began
        self._places: Counter[str] = Counter()  # where the watchdog saw it
        self._collecting = 0.0  # seconds that this callback has spent on garbage
        self._begun = 0.0
        self.callbacks, self.slowest = 0, 0.0

    def install(self) -> None:
        """Begin."""
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            if threading.get_ident() != self._thread:
                return run(handle)
            self._collecting, began, used = 0.0, time.perf_counter(), time.thread_time()
            self._since = began
            try:
                return run(handle)
            finally:
                used, self._since = time.thread_time() - used, None
                self._note(handle, used, time.perf_counter() - began)

        asyncio.Handle._run = timed  # type: ignore[method-assign]
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._look, daemon=True).start()

    def _note(self, handle: asyncio.Handle, used: float, took: float) -> None:
        self.callbacks += 1
        self.slowest = max(self.slowest, used)
        if used > BOUND:
            places = self._places.most_common(3)
            found = {"used": used, "took": took, "garbage": self._collecting, "time": time.time(), "places": places}
            self._lines.write(json.dumps({**found, "what": _named(handle)}) + "\n")
        self._places.clear()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == self._thread:
            now = time.perf_counter()
            self._collecting += now - self._begun if phase == "stop" else 0.0
            self._begun = now

    def _look(self) -> None:
        while True:
            time.sleep(LOOK)
            since = self._since
            if since is not None and time.perf_counter() - since > BOUND / 2:
                stack = traceback.extract_stack(sys._current_frames()[self._thread])
                ours = [f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in stack]
                self._places[" < ".join(reversed(ours[-12:]))] += 1

    def summary(self) -> dict[str, Any]:
        return {"callbacks": self.callbacks, "slowest": self.slowest}


def _named(handle: asyncio.Handle) -> str:
    task = getattr(handle._callback, "__self__", None)
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    return str(getattr(coroutine, "__qualname__", None) or handle._callback)[:200]


async def serve(address: str, store: str, file: Path) -> None:
    """Be the master, and watch its loop."""
    from swarm.cluster.master import serve_jobs
    from swarm.service.hosted import Places

    folder = Store.folder_of(store)
    watch = Watch(file)

    def say(text: str) -> None:
        if text.startswith("serving"):
            watch.install()

    serving = asyncio.ensure_future(
        serve_jobs(
            lambda: address, store, lease_seconds=10.0, say=say,
            places=Places(results=str(folder and folder / "results"), checkpoints=str(folder and folder / "points")),
        )
    )  # fmt: skip
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving
    file.with_suffix(".summary").write_text(json.dumps(watch.summary()))


# --- beside it


def nothing(params: Any, ctx: Any) -> float:
    return -sum(float(value) ** 2 for value in params.values() if not isinstance(value, str))


class Large:
    """A training whose code has this many bytes."""

    def __init__(self, size: int) -> None:
        self.data = bytes(range(256)) * (size // 256)

    def __call__(self, params: Any, ctx: Any) -> float:
        return float(params["x"])


SPACE = {f"x{number}": Real(-1, 1) for number in range(4)}


def job_of(name: str, **changes: Any) -> Job:
    return Job(**{"name": name, "problem": nothing, "space": SPACE, "isolation": "thread", **changes})


def guided(service: Service, quick: bool) -> None:
    """Four guided searches at a time."""
    trials = 40 if quick else 320
    finite = {f"x{number}": Integer(0, 9) for number in range(4)}
    spaces = [SPACE, SPACE, finite, {f"x{number}": Real(-1, 1) for number in range(12)}]
    jobs = [
        job_of(f"guided-{number}", space=space, optimizer=SurrogatePSO(trials=trials), archive=False, seed=number)
        for number, space in enumerate(spaces)
    ]
    ended(service, jobs, seconds=1200)


def crowds(service: Service, quick: bool) -> None:
    """The largest populations, for so long as it takes to see some generations begin."""
    many = 1000 if quick else 10_000
    methods = {
        "pso": PSO(particles=many, generations=3),
        "ga": GA(population=many, generations=3),
        "mu": MuPlusLambda(population=many, children=many, evaluations=3 * many),
        "tpe": TPE(trials=many),
        "grid": Grid(),
        "hyperband": Hyperband(min_budget=1, max_budget=243),
    }
    space = {f"x{number}": Integer(0, 99) for number in range(4)}
    jobs = [job_of(f"crowd-{name}", space=space, optimizer=method) for name, method in methods.items()]
    handles = [service.client.submit(job) for job in jobs]
    deadline = time.monotonic() + (10 if quick else 60)
    while time.monotonic() < deadline and not all(handle.state().ended for handle in handles):
        time.sleep(0.2)
    cancelled(service)


def code(service: Service, quick: bool) -> None:
    """A large code is submitted, and each training is sent with it."""
    problem = Large(10_000_000)
    ended(
        service,
        [job_of("code", problem=problem, space={"x": Integer(0, 999)}, optimizer=PSO(particles=8, generations=2))],
    )


def takeover(service: Service, quick: bool) -> None:
    """The first master takes over what an earlier one has left."""
    wait_until(lambda: all(state.trouble is None for state in service.client.jobs()), seconds=600)
    time.sleep(1)
    cancelled(service)


def ended(service: Service, jobs: list[Job], seconds: float = 300) -> None:
    """Submit jobs, and wait for their end."""
    handles = [service.client.submit(job) for job in jobs]
    for handle in handles:
        assert handle.wait(timeout=seconds).state == "finished", handle.state()


def cancelled(service: Service) -> None:
    """End what goes on."""
    for state in service.client.jobs(0):
        with suppress(InvalidInput):  # it has just ended
            service.client.attach(state.name).cancel()


def look(client: Client, over: threading.Event) -> None:
    """Ask like people and pages do, one question after the other."""
    while not over.wait(0.2):
        with suppress(SwarmError):  # such as that the last job has just ended, and the service with it
            for state in client.jobs()[:50]:
                if over.is_set():
                    return
                handle = client.attach(state.name)
                handle.state()
                if not state.ended:
                    handle.events()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, and smaller ones")
    parser.add_argument("--master", nargs=3, metavar=("SCHEDULER", "STORE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.master:
        address, store, file = options.master
        return asyncio.run(serve(address, store, Path(file)))
    found = earlier("loop", PARTS)
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="loop-") as folder, Service(Path(folder)) as service:
            found[part] = measured(service, part, options.quick)
        show(part, found[part])
    save("loop", found)
    return None


def measured(service: Service, part: str, quick: bool) -> dict[str, Any]:
    """Do a part with a master of its own; what it has found."""
    if part == "takeover":
        written(service.folder / "swarm.db", 10 if quick else 50, 500 if quick else 2000)
    service.scheduler()
    service.workers(4)
    lines = service.folder / "loop.jsonl"
    arguments = [str(Path(__file__).resolve()), "--master", service.address, service.store, str(lines)]
    service.python("master", *arguments)
    wait_until(lambda: service.client.hello()["master"])
    over = threading.Event()
    looking = threading.Thread(target=look, args=(service.client, over))
    looking.start()
    try:
        globals()[part](service, quick)
    finally:
        over.set()
        looking.join()
    service.kill("master", signal.SIGTERM)
    service.processes["master"].wait(60)
    slow = [json.loads(line) for line in lines.read_text().splitlines()]
    return {**json.loads(lines.with_suffix(".summary").read_text()), "slow": slow}


def show(part: str, found: dict[str, Any]) -> None:
    slow, slowest = found["slow"], 1000 * found["slowest"]
    console.print(f"{part}: {found['callbacks']} callbacks, the slowest {slowest:.0f} ms; {len(slow)} above 50 ms")
    for each in sorted(slow, key=lambda each: -each["used"])[:12]:
        where = each["places"][0][0] if each["places"] else "?"
        garbage = 1000 * each["garbage"]
        console.print(
            f"  {1000 * each['used']:.0f} ms ({garbage:.0f} of garbage) {each['what']}: {where}", highlight=False
        )


if __name__ == "__main__":
    main()
