"""A day of 10,000 GPUs in a minute: eight methods against virtual slots, and what the master spends per evaluation.

    python benchmarks/scale/scale.py [--quick] [--only PSO AsyncPSO …]
    python benchmarks/scale/scale.py --million        # evaluations, by three methods: half an hour, 1.5 GB of disk

The search, the optimizer, the archive and the journal in SQLite are the real ones; the slots and their clock are
simulated (trainings of log-normal length, median 1 hour, sigma 0.6). No Dask takes part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.saving import machine, save
from benchmarks.shared.tables import console, table
from swarm import BOHB, PSO, TPE, AsyncPSO, Choice, Grid, Hyperband, Integer, Job, Random, Real, Staged
from swarm.optimizers import Optimizer
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation

SPACE = {
    "filters": Integer(1, 512),
    "units": Integer(8, 4096),
    "dropout": Real(0.0, 0.9),
    "rate": Real(1e-5, 1e-1, log=True),
    "activation": Choice("relu", "tanh", "gelu"),
}
HOUR = 3600.0
SIZES = {"quick": (200, 2_000), "": (10_000, 100_000), "million": (10_000, 1_000_000)}  # slots, evaluations
SOME = ["Random", "AsyncPSO", "PSO"]
MARKS = 100


@dataclass
class Gauge:
    """What this process and its store amount to, read once per hundredth of the evaluations."""

    folder: Path
    number: int
    marks: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, search: Search) -> None:
        if search.state.told >= len(self.marks) * self.number // MARKS:
            size = sum(file.stat().st_size for file in self.folder.iterdir())
            mib = psutil.Process().memory_info().rss / 2**20
            self.marks.append({"told": search.state.told, "cpu": time.process_time(), "mib": mib, "bytes": size})

    def ms(self, start: float, stop: float) -> float:
        """CPU milliseconds per evaluation between two shares of all that there were."""
        total = self.marks[-1]["told"]
        inside = [mark for mark in self.marks if start * total <= mark["told"] <= stop * total]
        first, last = inside[0], inside[-1]
        return 1000 * (last["cpu"] - first["cpu"]) / max(1, last["told"] - first["told"])


def methods(slots: int, number: int) -> dict[str, Optimizer]:
    """Every method, sized for so many slots and about so many evaluations."""
    generations = max(1, number // slots - 1)
    return {
        "PSO": PSO(particles=slots, generations=generations),
        "AsyncPSO": AsyncPSO(particles=slots, generations=generations),
        "Random": Random(trials=number),
        "Grid": Grid(points={"dropout": 10, "rate": 10, "filters": 16, "units": 22}),
        "Staged": Staged(stages=[[1, number // 2], [3, number // 4], [9, number // 4]], patience=None),
        "TPE": TPE(trials=number),
        "Hyperband": Hyperband(min_budget=1, max_budget=81, iterations=max(1, number // 60)),
        "BOHB": BOHB(min_budget=1, max_budget=81, iterations=max(1, number // 60)),
    }


def fitness(evaluation: Evaluation) -> float:
    """A smooth landscape; a larger budget comes closer to what it promises."""
    p = evaluation.params
    miss = (p["filters"] / 512 - 0.4) ** 2 + (p["units"] / 4096 - 0.3) ** 2 + (p["dropout"] - 0.2) ** 2  # type: ignore[operator]
    return 1.0 - miss - 0.1 / (evaluation.budget or 10.0)


def seconds(evaluation: Evaluation) -> float:
    """Log-normal length that belongs to the evaluation, in proportion to its budget."""
    z = NormalDist().inv_cdf((int(evaluation.key[:12], 16) + 0.5) / 16**12)
    return HOUR * float(2.718281828 ** (0.6 * z)) * (evaluation.budget or 1.0)


def simulate(name: str, slots: int, number: int) -> dict[str, Any]:
    """Run one method in this process."""
    job = Job(
        name=name, problem=lambda params, ctx: 0.0, space=SPACE, optimizer=methods(slots, number)[name], seed=1,
        stop={"evaluations": number},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, closing(Store(f"{folder}/swarm.db")) as store:
        enroll(job, store)
        search = Search(job, store)
        pool, gauge = VirtualPool(slots, fitness, seconds), Gauge(Path(folder), number)
        began = time.process_time()
        asyncio.run(search.run(pool, gauge))
        cpu = time.process_time() - began
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    told = search.state.told
    return {
        "method": name, "slots": slots, "evaluations": told, "virtual_hours": pool.now / HOUR,
        "busy": pool.busy_seconds / (slots * pool.now), "ms": 1000 * cpu / told,
        "first_tenth_ms": gauge.ms(0, 0.1), "last_tenth_ms": gauge.ms(0.9, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "store_bytes": size / told,
        "marks": gauge.marks[:: MARKS // 20],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 slots, 2,000 evaluations")
    parser.add_argument("--million", action="store_true", help="a million evaluations, where it is not said otherwise "
                        f"by {', '.join(SOME)}")  # fmt: skip
    parser.add_argument("--only", nargs="*", choices=list(methods(10, 100)))
    parser.add_argument("--simulate", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulate:
        name, slots, number = options.simulate
        print(json.dumps(simulate(name, int(slots), int(number))))
        return
    size = "quick" if options.quick else "million" if options.million else ""
    slots, number = SIZES[size]
    title = f"{slots:,} virtual GPUs, {number:,} evaluations; the master on one of {machine()['cores']} cores"
    columns = "method|evaluations|virtual hours|busy|CPU ms / eval.|first tenth|last tenth|peak MiB|store bytes / eval."
    made = table(title, columns.split("|"))
    rows = []
    for name in options.only or (SOME if size == "million" else methods(10, 100)):
        command = [sys.executable, __file__, "--simulate", name, str(slots), str(number)]
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        rows.append(row)
        made.add_row(
            name, f"{row['evaluations']:,}", f"{row['virtual_hours']:.1f}", f"{row['busy']:.2f}", f"{row['ms']:.2f}",
            f"{row['first_tenth_ms']:.2f}", f"{row['last_tenth_ms']:.2f}", f"{row['peak_mib']:.0f}",
            f"{row['store_bytes']:.0f}",
        )  # fmt: skip
    console.print(made)
    name = "scale-million" if size == "million" else "scale"
    save(name, {"quick": options.quick, "rows": rows})


if __name__ == "__main__":
    main()
