"""LeNet-4 on MNIST: the network that the swarm finds against the original one, trained equally long.

    SWARM_DATA=… python benchmarks/papers/lenet4.py [--quick] [--parts search networks] [--seeds 5] [--generations 10]
                                                    [--epochs 2] [--slots 2]

search    The job file examples/lenet4-mnist.yaml: a sixth of the images, one epoch.
networks  The original hyper-parameters and the found ones, trained at the same seeds on all the images for as many
          epochs, and scored on the unseen test set.

A part that is left out stays as it was. They take two idle cores 8 and 15 minutes.
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

from scipy.stats import wilcoxon

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.numbers import extremes, many
from benchmarks.shared.saving import ROOT, earlier, positive, save
from benchmarks.shared.tables import console, table
from swarm import PSO, Job, run
from swarm.cluster.connect import embedded, local_slots, pool_on
from swarm.config import quiet_dask
from swarm.trial import Evaluation, Params, Result

JOB = ROOT / "examples" / "lenet4-mnist.yaml"
PARTS = ("search", "networks")


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


def search(generations: int, slots: int, options: dict[str, Any]) -> dict[str, Any]:
    """Look for hyper-parameters: what was found, and how."""
    method = PSO.paper(particles=6, generations=generations, defaults=True)
    job = Job.from_file(JOB, optimizer=method, test=False, **options)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        looked = run(job, slots=slots, store=f"{folder}/swarm.db")
        counts, history = looked.counts, looked.history
    assert looked.best is not None, "no training has succeeded"
    return {
        "found": looked.best.params, "counts": counts, "seconds": time.perf_counter() - began, "slots": slots,
        "history": history.drop(columns=["error"]).to_dict("records"),
    }  # fmt: skip


def networks(found: Params, seeds: int, slots: int, trained: dict[str, Any]) -> dict[str, Any]:
    """The original and the found network: what they score on the test set, and what they cost."""
    job = Job.from_file(JOB, test=False, time_limit=3600, options=trained)
    assert job.space is not None
    original = job.space.defaults()
    assert original is not None
    both = {"original": original, "found": found}
    rows: dict[str, Any] = {}
    for name, results in asyncio.run(scores(job, both, seeds, slots)).items():
        failed = next((result.error for result in results if result.status != "ok"), None)
        assert failed is None, failed
        rows[name] = {
            "params": dict(both[name]),
            "accuracy": [result.fitness for result in results],
            "parameters": results[0].metrics["parameters"],
            "seconds": statistics.mean(result.seconds for result in results),
        }
    pairs = (rows["found"]["accuracy"], rows["original"]["accuracy"])
    p = float(wilcoxon(*pairs, alternative="greater").pvalue) if seeds > 1 else None
    return {"networks": rows, "p": p, "trained_on": {key: trained[key] for key in ("train", "epochs")}}


def show(result: dict[str, Any]) -> None:
    columns = ("network", "test accuracy, mean", "lowest", "highest", "parameters", "training s, mean")
    rows = result["networks"]
    images, epochs = (result["trained_on"][key] for key in ("train", "epochs"))
    title = f"LeNet-4 on {images or 'all'} images of MNIST, {many(epochs, 'epoch')}, "
    title += many(len(rows["found"]["accuracy"]), "seed")
    made = table(title, columns)
    for name, row in rows.items():
        sizes = (f"{row['parameters']:,.0f}", f"{row['seconds']:.1f}")
        made.add_row(name, *extremes(row["accuracy"], ".4f", statistics.mean), *sizes)
    console.print(made)
    console.print(f"found: {rows['found']['params']}")
    if result["p"] is not None:
        console.print(f"one-sided p of Wilcoxon {result['p']:.2g}")
    console.print(f"search: {result['counts']}, {result['seconds']:.0f} s on {result['slots']} slots")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 images, 1 generation, 1 seed, 1 epoch")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--epochs", type=positive, default=2, help="of the networks")
    parser.add_argument("--slots", type=positive, default=2)
    options = parser.parse_args()
    quiet_dask()
    looked: dict[str, Any] = {}
    trained: dict[str, Any] = {"data": "mnist", "train": None, "epochs": options.epochs, "score": "loss"}
    if options.quick:
        options.seeds, options.generations = 1, 1
        looked = {"options": {"data": "mnist", "train": 1000, "epochs": 1, "score": "loss"}}
        trained |= {"train": 1000, "epochs": 1}
    result = earlier("lenet4", ("found", "counts", "seconds", "slots", "history", "networks", "p", "trained_on"))
    if "search" in options.parts:
        result |= search(options.generations, options.slots, looked)
    if "networks" in options.parts:
        if "found" not in result:
            parser.error("no search has been made yet: add the part search")
        result |= networks(result["found"], options.seeds, options.slots, trained)
    if "networks" in result:
        show(result)
    save("lenet4", result)


if __name__ == "__main__":
    main()
