"""How many zero-length evaluations a second: our whole loop, store included, beside plain Dask.

    python benchmarks/peers/overhead.py [--quick] [--slots 2] [--repetitions 3]

Every contender runs in a process of its own against one and the same Dask cluster, in turn, with as many evaluations
in flight as there are slots. Ours asks the optimizer, looks into the archive, journals every ask and result in
SQLite and can be resumed; the plain loops keep nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.cluster import cluster
from benchmarks.shared.numbers import ranged
from benchmarks.shared.saving import machine, positive, save
from benchmarks.shared.tables import console, table

CONTENDERS = {
    "ours": "dask-swarm: optimizer, archive, journal in SQLite",
    "home": "the same as run() does it on one machine, without a cluster",
    "as_completed": "plain as_completed loop, resources GPU=1",
    "as_completed_free": "plain as_completed loop, no resources",
    "map": "plain Client.map, generation by generation",
}


def nothing(params: Any, ctx: Any) -> float:
    """A training of no length."""
    return float(params["x"])


def plain(x: float) -> float:
    return x


def run_ours(address: str | None, number: int, slots: int, ends: list[float]) -> None:
    from swarm import Job, Random, Real, run
    from swarm.store import Store

    job = Job(
        name="overhead", problem=nothing, space={"x": Real(0, 1)}, optimizer=Random(trials=number), isolation="thread"
    )
    with tempfile.TemporaryDirectory() as folder:
        where: dict[str, Any] = {"slots": slots} if address is None else {"scheduler": address}
        run(job, **where, store=f"{folder}/swarm.db", progress=False)
        store = Store(f"{folder}/swarm.db")
        ends.extend(event.time for event in store.events(job.name) if event.kind == "result")
        store.close()


def run_as_completed(address: str, number: int, slots: int, ends: list[float], pinned: bool = True) -> None:
    from distributed import Client, as_completed

    kind: dict[str, Any] = {"pure": False, **({"resources": {"GPU": 1}} if pinned else {})}
    with Client(address) as client:
        running = as_completed([client.submit(plain, float(i), **kind) for i in range(slots)], with_results=True)
        asked = slots
        for future, _ in running:
            ends.append(time.perf_counter())
            future.release()
            if asked < number:
                running.add(client.submit(plain, float(asked), **kind))
                asked += 1


def run_map(address: str, number: int, slots: int, ends: list[float]) -> None:
    from distributed import Client

    with Client(address) as client:
        for first in range(0, number, slots):
            numbers = [float(i) for i in range(first, min(first + slots, number))]
            futures = client.map(plain, numbers, pure=False, resources={"GPU": 1})
            client.gather(futures)
            ends.extend([time.perf_counter()] * len(numbers))


def contend(name: str, address: str, number: int, slots: int) -> dict[str, float]:
    """Run one contender in this process and say how it went."""
    ends: list[float] = []
    runs = {
        "ours": run_ours,
        "home": lambda _, *args: run_ours(None, *args),
        "as_completed": run_as_completed,
        "as_completed_free": lambda *args: run_as_completed(*args, pinned=False),
        "map": run_map,
    }
    runs[name](address, number, slots, ends)
    assert len(ends) == number
    tenth = number // 10
    return {
        "per_second": (number - slots) / (ends[-1] - ends[slots - 1]),
        "first_tenth": (tenth - slots) / (ends[tenth - 1] - ends[slots - 1]),
        "last_tenth": tenth / (ends[-1] - ends[-1 - tenth]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(name: str, address: str, number: int, slots: int) -> dict[str, float]:
    """Run one contender in a fresh process."""
    command = [sys.executable, __file__, "--contend", name, address, str(number), str(slots)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300 evaluations, one repetition")
    parser.add_argument("--slots", type=positive, default=2)
    parser.add_argument("--repetitions", type=positive, default=3)
    parser.add_argument("--numbers", type=int, nargs="*", default=[1000, 10_000, 30_000])
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--contend", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    contenders = [name for name in CONTENDERS if name in {*options.only, "as_completed"}]  # the measure of all
    if options.contend:
        name, address, number, slots = options.contend
        print(json.dumps(contend(name, address, int(number), int(slots))))
        return
    numbers, repetitions = ([300], 1) if options.quick else (options.numbers, options.repetitions)
    columns = ("contender", "evaluations", "per second", "× pinned as_completed", "last / first tenth", "peak MiB")
    made = table(f"zero-length evaluations per second, {options.slots} slots, {machine()['cores']} cores", columns)
    rows: list[dict[str, Any]] = []
    with cluster(options.slots) as address:
        measure("as_completed", address, 200, options.slots)  # the first contact imports much on every side
        for number in numbers:
            # The long run is for growth; one look at each contender is enough there.
            times = repetitions if number <= 10_000 else 1
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
            for _ in range(times):
                for name in contenders:  # in turn, so that noise of the machine meets all
                    runs[name].append(measure(name, address, number, options.slots))
            for name, found in runs.items():
                middle = {key: statistics.median(run[key] for run in found) for key in found[0]}
                ratios = [
                    run["per_second"] / base["per_second"]
                    for run, base in zip(found, runs["as_completed"], strict=True)
                ]
                row = {"evaluations": number, "contender": name, **middle, "ratios": ratios, "runs": found}
                rows.append(row)
                made.add_row(
                    CONTENDERS[name],
                    f"{number:,}",
                    f"{middle['per_second']:.0f}",
                    ranged(ratios, ".2f"),
                    f"{middle['last_tenth'] / middle['first_tenth']:.2f}",
                    f"{middle['peak_mib']:.0f}",
                )
    console.print(made)
    save("overhead", {"slots": options.slots, "rows": rows})


if __name__ == "__main__":
    main()
