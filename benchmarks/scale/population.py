"""How large a population keeps all GPUs busy, with a barrier after every generation and without, on a virtual clock.

    python benchmarks/scale/population.py [--quick]

The search is the real one; slots and trainings are simulated (lengths log-normal with sigma 0.6, which nothing that the
search knows foretells). Beside it stands what is to be expected: where k trainings per slot come between two barriers,
and the longest of them takes L times the mean, a slot is busy k / (k + L - 1) of the time, for while the last ones end
there is nothing to begin. Without barriers, k counts all trainings of the search.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.scale.scale import SPACE, fitness, seconds
from benchmarks.shared.saving import save
from benchmarks.shared.tables import print_table
from swarm import PSO, AsyncPSO, Job
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation

ROUNDS = 4  # generations, or turns of every particle


def measure(method: type[PSO] | type[AsyncPSO], slots: int, times: int) -> dict[str, Any]:
    """The share of the slots' time that trainings take, and what their lengths let expect."""
    lengths: list[float] = []

    def taking(evaluation: Evaluation) -> float:
        lengths.append(seconds(evaluation))
        return lengths[-1]

    job = Job(
        name="population", problem=lambda params, ctx: 0.0, space=SPACE, seed=1, archive=False,
        optimizer=method(particles=slots * times, generations=ROUNDS - 1),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, closing(Store(f"{folder}/swarm.db")) as store:
        enroll(job, store)
        pool = VirtualPool(slots, fitness, taking)
        asyncio.run(Search(job, store).run(pool))
    together = slots * times if job.optimizer.generational else len(lengths)
    longest = statistics.mean(max(lengths[i : i + together]) for i in range(0, len(lengths), together))
    ratio, k = longest / statistics.mean(lengths), together / slots
    return {
        "method": method.__name__, "slots": slots, "times": times, "between_barriers": k, "longest": ratio,
        "busy": pool.busy_seconds / (slots * pool.now), "expected": k / (k + ratio - 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 slots instead of 1,000, populations up to 8 × that")
    options = parser.parse_args()
    slots, sizes = (100, (1, 2, 8)) if options.quick else (1000, (1, 2, 4, 8, 16))
    rows = [measure(PSO, slots, times) for times in sizes] + [measure(AsyncPSO, slots, times) for times in sizes[:3]]
    print_table(
        f"{slots:,} virtual GPUs, {ROUNDS} generations",
        ("method", "population / GPUs", "k: trainings per GPU between barriers", "L", "busy", "expected"),
        (
            (row["method"], row["times"], f"{row['between_barriers']:g}", f"{row['longest']:.1f}",
             f"{row['busy']:.2f}", f"{row['expected']:.2f}")
            for row in rows
        ),
    )  # fmt: skip
    save("population", {"quick": options.quick, "rows": rows})


if __name__ == "__main__":
    main()
