"""LeNet-4 on MNIST: the network that the swarm finds against the original one, trained equally long.

    SWARM_DATA=… python benchmarks/papers/lenet4.py [--quick] [--seeds 3] [--generations 10] [--slots 2]

Runs the job file examples/lenet4-mnist.yaml, then trains the original hyper-parameters and the found ones at the same
seeds, on the same images, for as many epochs, and scores both on the unseen test set.
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
from benchmarks.shared.numbers import extremes
from benchmarks.shared.saving import ROOT, positive, save
from benchmarks.shared.tables import console, table
from swarm import PSO, Job, run
from swarm.cluster.connect import embedded, local_slots, pool_on
from swarm.config import quiet_dask
from swarm.trial import Evaluation, Params, Result

JOB = ROOT / "examples" / "lenet4-mnist.yaml"


async def scores(job: Job, networks: dict[str, Params], seeds: int, slots: int) -> dict[str, list[Result]]:
    """Every network trained at every seed and scored on the test set."""
    wanted = {
        name: [Evaluation.of(job.code.fingerprint, params, purpose="test", repeat=100 + seed) for seed in range(seeds)]
        for name, params in networks.items()
    }
    # Seed by seed, so that what else the machine does meets all; networks that are equal are trained once.
    every = {evaluation.key: evaluation for each in zip(*wanted.values(), strict=True) for evaluation in each}
    waiting, found = list(every.values()), dict[str, Result]()
    async with embedded(local_slots(slots)) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        while len(found) < len(every):
            batch = [waiting.pop(0) for _ in range(min(pool.free(), len(waiting)))]
            pool.submit(batch)
            found |= {result.key: result for result in await pool.next()}
    return {name: [found[evaluation.key] for evaluation in each] for name, each in wanted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 images, 1 generation, 1 seed")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--slots", type=positive, default=2)
    options = parser.parse_args()
    quiet_dask()
    changes: dict[str, Any] = {}
    if options.quick:
        options.seeds, options.generations = 1, 1
        changes["options"] = {"data": "mnist", "train": 1000, "epochs": 1, "score": "loss"}
    method = PSO.paper(particles=6, generations=options.generations, defaults=True)
    job = Job.from_file(JOB, optimizer=method, test=False, **changes)
    assert job.space is not None
    original = job.space.defaults()
    assert original is not None
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        search = run(job, slots=options.slots, store=f"{folder}/swarm.db")
        counts, history = search.counts, search.history
    assert search.best is not None
    seconds = time.perf_counter() - began
    results = asyncio.run(
        scores(job, {"original": original, "found": search.best.params}, options.seeds, options.slots)
    )
    columns = ("network", "test accuracy, mean", "lowest", "highest", "parameters", "training s, mean")
    made = table(f"LeNet-4 on MNIST: {JOB.name}, {options.seeds} seeds each", columns)
    rows: dict[str, Any] = {}
    for name, found in results.items():
        accuracy = [result.fitness or 0.0 for result in found]
        rows[name] = {
            "params": dict(original if name == "original" else search.best.params),
            "accuracy": accuracy,
            "mean": statistics.mean(accuracy),
            "parameters": found[0].metrics["parameters"],
            "seconds": statistics.mean(result.seconds for result in found),
        }
        row = rows[name]
        sizes = (f"{row['parameters']:,.0f}", f"{row['seconds']:.1f}")
        made.add_row(name, *extremes(accuracy, ".4f", statistics.mean), *sizes)
    console.print(made)
    console.print(f"found: {rows['found']['params']}")
    console.print(f"search: {counts}, {seconds:.0f} s on {options.slots} slots")
    result = {"networks": rows, "counts": counts, "seconds": seconds, "slots": options.slots}
    save("lenet4", {**result, "history": history.drop(columns=["error"]).to_dict("records")})


if __name__ == "__main__":
    main()
