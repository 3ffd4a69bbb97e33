"""What the swarm's pages cost: throughput, the scheduler's attention, and memory, with a page open and without.

    python benchmarks/cost/dashboard.py                 # about ten minutes; the last part needs chromium
    python benchmarks/cost/dashboard.py --quick

A search of evaluations that take no time runs on two slots. Phases without and with an open page take turns: of the
page only the server's side is there, since drawing it would take the cores that the search is measured on. Meanwhile
a probe in the scheduler's event loop notes how late it is. Then a real browser keeps the page open to the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from tornado.websocket import WebSocketClientConnection, websocket_connect

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.numbers import ranged
from benchmarks.shared.processes import Service, available, browser, wait_until
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, print_table
from swarm import Job, Random, Real

PAGES = ("Jobs", "Fitness", "Search+space", "Archive", "Slots")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds, and no browser")
    parser.add_argument("--trials", type=int, default=50_000)
    parser.add_argument("--rounds", type=positive, default=10)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each phase")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder, Service(Path(folder)) as service:
        service.started(slots=2)
        space = {name: Real(0, 1) for name in "abcd"}
        job = Job(name="fast", problem=fast, space=space, optimizer=Random(trials=options.trials), isolation="thread")
        service.client.submit(job)
        wait_until(lambda: told(service) > 200)
        result = asyncio.run(turns(service, rounds, options.seconds))
        show(result)
        if not options.quick and available():
            result["page"] = kept_open(service)
            show_page(result["page"])
    save("dashboard", result)


def fast(params: Any, ctx: Any) -> float:
    return sum(params.values())


def told(service: Service) -> int:
    return int(service.client.attach("fast").state().told)


def url(service: Service) -> str:
    found = re.search(r"dashboard at (.*)/swarm", service.log("scheduler"))
    assert found is not None
    return found[1]


async def turns(service: Service, rounds: int, seconds: float) -> dict[str, Any]:
    """Phases without and with an open page, in turn."""
    from distributed import Client

    phases: list[dict[str, Any]] = []
    async with Client(service.address, asynchronous=True) as client:
        await client.run_on_scheduler(start_probe)
        for number in range(2 * rounds):
            page = PAGES[number // 2 % len(PAGES)] if number % 2 else None
            opened = None if page is None else await open_page(f"{url(service)}/swarm?page={page}")
            await client.run_on_scheduler(read_probe)
            before, began = await asyncio.to_thread(told, service), time.perf_counter()
            await asyncio.sleep(seconds)
            rate = (await asyncio.to_thread(told, service) - before) / (time.perf_counter() - began)
            late = await client.run_on_scheduler(read_probe)
            if opened is not None:
                opened.close()
            memory = psutil.Process(service.processes["scheduler"].pid).memory_info().rss / 2**20
            phases.append({"page": page, "per_second": rate, "memory_mib": memory, **late})
    pairs = [b["per_second"] / a["per_second"] for a, b in zip(phases[::2], phases[1::2], strict=True)]
    return {"phases": phases, "ratio": statistics.median(pairs), "ratios": pairs}


async def open_page(address: str) -> WebSocketClientConnection:
    """What a browser does, without drawing."""

    def fetch() -> str:
        with urllib.request.urlopen(address) as answer:
            return str(answer.read().decode())

    page = await asyncio.to_thread(fetch)
    token = re.search(r'"token":"([^"]+)"', page)
    assert token is not None
    socket = address.replace("http://", "ws://").replace("/swarm?", "/swarm/ws?")
    connection = await websocket_connect(socket, subprotocols=["bokeh", token[1]], on_message_callback=lambda _: None)
    header = {"msgid": "1", "msgtype": "PULL-DOC-REQ"}
    for part in (header, {}, {}):
        await connection.write_message(json.dumps(part))
    return connection


def start_probe(dask_scheduler: Any) -> None:
    """Runs in the scheduler: note how much later than asked its event loop comes round, a hundred times a second.

    And how long Python collected garbage at a time, which is not for any page's sake.
    """
    import asyncio
    import gc
    import time

    dask_scheduler.lateness, dask_scheduler.collections = [], []

    def collecting(phase: str, info: Any) -> None:
        if phase == "start":
            dask_scheduler.collecting = time.perf_counter()
        else:
            dask_scheduler.collections.append(time.perf_counter() - dask_scheduler.collecting)

    gc.callbacks.append(collecting)

    async def probe() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            dask_scheduler.lateness.append(time.perf_counter() - began - 0.01)

    dask_scheduler.probe = asyncio.ensure_future(probe())


def read_probe(dask_scheduler: Any) -> dict[str, float]:
    """Runs in the scheduler: what the probe has noted since the last time, in milliseconds."""
    late, garbage = sorted(dask_scheduler.lateness) or [0.0], max(dask_scheduler.collections, default=0.0)
    dask_scheduler.lateness.clear()
    dask_scheduler.collections.clear()
    return {
        "late_p99_ms": 1000 * late[int(0.99 * (len(late) - 1))],
        "late_most_ms": 1000 * late[-1],
        "garbage_most_ms": 1000 * garbage,
    }


def kept_open(service: Service) -> list[dict[str, float]]:
    """Memory of scheduler and page, from when it is opened until the search has ended."""
    rows = []
    began = time.monotonic()
    with browser() as chromium:
        page = chromium.open(f"{url(service)}/swarm?page=fitness", seconds=120)
        while True:
            state = service.client.attach("fast").state()
            memory = psutil.Process(service.processes["scheduler"].pid).memory_info().rss / 2**20
            rows.append(
                {
                    "seconds": time.monotonic() - began,
                    "told": state.told,
                    "scheduler_mib": memory,
                    "page_mib": page.memory() / 2**20,
                    "errors": len(page.errors),
                }
            )
            if state.ended:
                return rows
            time.sleep(20)


def show(result: dict[str, Any]) -> None:
    numbers = ("per_second", "late_p99_ms", "late_most_ms", "garbage_most_ms", "memory_mib")
    print_table(
        "phases; 2 slots, evaluations take no time",
        ("page", "evaluations/s", "scheduler late p99 ms", "most ms", "garbage ms", "scheduler MiB"),
        ((phase["page"] or "none", *(f"{phase[name]:.1f}" for name in numbers)) for phase in result["phases"]),
    )
    console.print(f"throughput with a page open / without: {ranged(result['ratios'], '.3f')}", markup=False)


def show_page(rows: list[dict[str, float]]) -> None:
    columns = ("seconds", "told", "scheduler_mib", "page_mib", "errors")
    print_table("one page kept open in chromium", columns, ([f"{row[name]:.0f}" for name in columns] for row in rows))


if __name__ == "__main__":
    main()
