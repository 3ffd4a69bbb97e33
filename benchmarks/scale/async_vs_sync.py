"""The barrier's price: the asynchronous swarm beside the synchronous one, on real Dask slots that sleep.

    python benchmarks/scale/async_vs_sync.py [--quick] [--seeds 5]

Some 320 evaluations (whole generations) on 6 and 16 slots (N GPUs emulated by N worker processes whose trainings
sleep), log-normal durations (sigma 0.6, a median of 0.2 s; of 2 s for AsyncPSO on 16 slots alone) with and without 10 %
stragglers of 10 times the length, `isolation: thread`, store included. Seeds after the first repeat the 16 slots and
0.2 s alone.

efficiency   a greedy schedule without any overhead of the durations that were slept, in the order of starting / wall
utilisation  training seconds / (slots × wall)
gap          milliseconds from a training's end to the next one's start on its slot, median
to best      share of the wall-clock time until the swarm first reached 99 % of the way to the optimum
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.scale.speedup import in_order
from benchmarks.shared.saving import QUICK, machine, positive, save
from benchmarks.shared.tables import console, table
from swarm import PSO, AsyncPSO, Job, Real, run
from swarm.optimizers import Optimizer

SPACE = {f"x{i}": Real(0, 1) for i in range(4)}
EVALUATIONS = 120 if QUICK else 320


def sleeper(median: float, stragglers: bool) -> Any:
    """A training that sleeps; how long is a function of its position, but nobody can foresee it."""

    def train(params: Any, ctx: Any) -> float:
        import hashlib
        import math
        import statistics
        import time

        values = [params[name] for name in sorted(params)]
        digest = hashlib.sha256(repr(values).encode()).digest()
        z = statistics.NormalDist().inv_cdf((int.from_bytes(digest[:6], "big") + 0.5) / 2**48)
        slow = stragglers and digest[6] < 26  # 10 % of 256
        time.sleep(median * math.exp(0.6 * z) * (10 if slow else 1))
        return -sum((value - 0.3) ** 2 for value in values)

    return train


def measure(optimizer: Optimizer, slots: int, median: float, stragglers: bool, seed: int) -> dict[str, Any]:
    """One run on an embedded cluster with a fresh store."""
    job = Job(
        name="run", problem=sleeper(median, stragglers), space=SPACE, optimizer=optimizer, seed=seed,
        isolation="thread",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        history = run(job, slots=slots, store=f"{folder}/swarm.db", progress=False).history
    trained: pd.DataFrame = history[history["source"] == "trained"].sort_values("start")
    began, wall = trained["start"].min(), trained["end"].max() - trained["start"].min()
    good = trained[trained["fitness"] > 0.01 * trained["fitness"].iloc[:slots].mean()]
    return {
        "wall": wall,
        "trained": len(trained),
        "efficiency": in_order(list(trained["seconds"]), slots) / wall,
        "gap_ms": gap(trained),
        "utilisation": trained["seconds"].sum() / (slots * wall),
        "to_best": (good["end"].min() - began) if len(good) else None,
        "best": trained["fitness"].max(),
    }


def gap(trained: pd.DataFrame) -> float:
    """Milliseconds between two trainings on one slot, median."""
    ordered = trained.sort_values(["slot", "start"])
    between = ordered["start"] - ordered.groupby("slot")["end"].shift()
    return 1000 * float(between.median())


def settings(quick: bool, seeds: int) -> Iterator[tuple[int, float, int]]:
    """Seed, median length and slots of each comparison, those that are repeated first."""
    if quick:
        yield 1, 0.05, 6
        return
    for seed in range(1, seeds + 1):
        yield seed, 0.2, 16
    yield 1, 0.2, 6
    yield 1, 2.0, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="120 evaluations, a median of 0.05 s and 6 slots only")
    parser.add_argument("--seeds", type=positive, default=5)
    options = parser.parse_args()
    columns = "method|slots|median s|stragglers|seed|wall s|efficiency|utilisation|gap ms|s to 99 % of the way|best"
    made = table(f"{EVALUATIONS} evaluations, emulated slots, {machine()['cores']} cores", columns.split("|"))
    rows: list[dict[str, Any]] = []
    for seed, median, slots in settings(options.quick, options.seeds):
        # A quarter of an hour of sleep of PSO says no more at 2 s than at 0.2 s.
        for kind in (PSO, AsyncPSO) if median < 2 else (AsyncPSO,):
            for stragglers in (False, True):
                optimizer = kind(particles=slots, generations=EVALUATIONS // slots - 1)
                found = measure(optimizer, slots, median, stragglers, seed)
                row = {"method": kind.__name__, "slots": slots, "median": median, "stragglers": stragglers}
                rows.append({**row, "seed": seed, **found})
                to_best = "never" if found["to_best"] is None else f"{found['to_best']:.1f}"
                made.add_row(
                    kind.__name__, str(slots), f"{median}", "10 % of 10 ×" if stragglers else "none", str(seed),
                    f"{found['wall']:.1f}", f"{found['efficiency']:.3f}", f"{found['utilisation']:.2f}",
                    f"{found['gap_ms']:.0f}", to_best, f"{found['best']:.2g}",
                )  # fmt: skip
    console.print(made)
    save("async-vs-sync", {"quick": options.quick, "rows": rows})


if __name__ == "__main__":
    main()
