"""NHOP: its staged search on the complex cosine against the default and random search, and two replicas against one.

    python benchmarks/papers/nhop.py [--seeds 7] [--slots 2] [--repeats 3] [--store FILE]
                                    [--parts searches replicas] [--quick]
    SWARM_DATA=… python benchmarks/papers/nhop.py  # with MNIST there, the replicas train LeNet-4 as well

The search of examples/nhop.yaml, without its early end of stages; and a job's default, the guided swarm, and random
search, which give each training the epochs of the last stage, and have as many epochs in all. Then the same network
with the same images, on one slot and on two, in turn; the shortest of the repeats counts. A part that is left out stays
as it was. The searches take two idle cores half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.saving import ROOT, earlier, positive, save
from benchmarks.shared.tables import console, table
from swarm import Job, Random, Staged, SurrogatePSO, run
from swarm.cluster.connect import embedded, slots_of
from swarm.config import quiet_dask
from swarm.plots.charts import BLUE, GREEN, RED
from swarm.pool.dask_pool import DaskPool
from swarm.pool.slots import Slots
from swarm.trial import Result, Trial
from swarm.workers.keras import KerasProblem
from swarm.workers.models import digits_cnn, lenet4
from swarm.workers.node.supervisor import make_slots

JOB = ROOT / "examples" / "nhop.yaml"
STAGES = [[100, 60], [300, 40], [800, 25]]
KINDS = {"one slot": (1, True), "two slots, synchronous": (2, True), "two slots, asynchronous": (2, False)}
SPEED = {"learning_rate": 0.05}
PARTS = ("searches", "replicas")


def search(optimizer: Any, epochs: int, seed: int, slots: int, store: str) -> dict[str, Any]:
    """One search; the losses of its stages, and the error of its best on unseen examples."""
    name = f"{type(optimizer).__name__}-{seed}"
    job = Job.from_file(JOB, [f"options.epochs={epochs}"], name=name, optimizer=optimizer, seed=seed, test=True)
    found = run(job, slots=slots, store=store, progress=False)
    trials = found.history
    assert found.best is not None
    return {
        "method": type(optimizer).__name__,
        "seed": seed,
        "trials": len(trials),
        "epochs": float(trials["budget"].fillna(epochs).sum()),
        "stages": trials.groupby("generation")["fitness"].min().tolist(),
        "validation": found.best.fitness,
        "test": found.tests[0].fitness,
        "params": found.best.params,
        "seconds": found.state.trained_seconds,
    }


def searches(seeds: int, slots: int, stages: list[list[int]], store: str) -> list[dict[str, Any]]:
    last = stages[-1][0]
    trials = sum(epochs * number for epochs, number in stages) // last
    rows = []
    for seed in range(1, seeds + 1):
        for method in (Staged(stages=stages, patience=None), SurrogatePSO(trials=trials), Random(trials=trials)):
            rows.append(search(method, last, seed, slots, store))
            console.print(f"seed {seed}, {rows[-1]['method']}: {rows[-1]['validation']:.2e}")
    return rows


async def train(slots: Slots, job: Job) -> tuple[Result, float]:
    """A training, with the same seed for all, and its seconds."""
    assert job.space is not None
    (evaluation,) = job.evaluations(Trial(id=0, params={**job.space.defaults(), **SPEED}))
    async with DaskPool(slots, job.code.pickle, replicas=job.replicas) as pool:
        start = time.perf_counter()
        pool.submit([replace(evaluation, seed=1)])
        while not (ended := await pool.next()):
            pass
    return ended[0], time.perf_counter() - start


def networks(quick: bool) -> dict[str, KerasProblem]:
    """What replicas train. With plain SGD, so that the outcome can be compared to the last digits."""
    common = {"optimizer": "sgd", "patience": None}
    found = {"CNN, 1,350 digits": digits_cnn.problem(**common, batch_size=450, epochs=10 if quick else 200)}
    if Path(os.environ.get("SWARM_DATA", "."), "mnist.npz").is_file():
        options = {**common, "train": 6000, "batch_size": 256, "epochs": 1 if quick else 2}
        found["LeNet-4, 5,400 images"] = lenet4.problem(**options)
    return found


async def replicas(repeats: int, quick: bool) -> list[dict[str, Any]]:
    rows = []
    async with embedded(make_slots(slots=2)) as client, slots_of(client) as slots:
        for name, problem in networks(quick).items():
            jobs = {
                kind: Job(name="job", problem=problem, optimizer=Random(trials=1), replicas=size, sync=sync, test=False)
                for kind, (size, sync) in KINDS.items()
            }
            for job in jobs.values():  # once, so that every worker has imported all it needs
                await train(slots, job)
            found = {kind: [await train(slots, job)] for kind, job in jobs.items()}
            for _ in range(repeats - 1):
                for kind, job in jobs.items():
                    found[kind].append(await train(slots, job))
            for kind, trainings in found.items():
                result, seconds = trainings[0][0], [each.seconds for each, _ in trainings]
                row = {
                    "network": name,
                    "kind": kind,
                    "seconds": seconds,
                    "with_dispatch": [each for _, each in trainings],
                }
                assert result.fitness is not None, result.error
                rows.append({**row, "fitness": result.fitness, **result.metrics})
    return rows


def show_searches(rows: list[dict[str, Any]], stages: list[list[int]]) -> None:
    title = "Mean squared error: " + ", then ".join(f"{number} × {epochs} epochs" for epochs, number in stages)
    others = tuple(dict.fromkeys(row["method"] for row in rows if row["method"] != "Staged"))
    heads = [head for method in ("staged", *others) for head in (method, f"{method}, test")]
    made = table(
        f"{title}; the others at as many epochs in one stage",
        ("seed", *(f"stage {i + 1}" for i in range(len(stages) - 1)), *heads),
    )
    for seed in dict.fromkeys(row["seed"] for row in rows):
        mine = {row["method"]: row for row in rows if row["seed"] == seed}
        ends = [mine[method][kind] for method in ("Staged", *others) for kind in ("validation", "test")]
        values = [*mine["Staged"]["stages"][:-1], *ends]
        made.add_row(str(seed), *(f"{value:.2e}" for value in values))
    console.print(made)


def show_replicas(rows: list[dict[str, Any]]) -> None:
    columns = ("network", "", "seconds", "speed-up", "loss on V", "difference", "accuracy", "staleness")
    made = table("The same training on one slot and on two", columns, words=[""])
    for row in rows:
        alone = next(other for other in rows if other["network"] == row["network"])
        row["speed_up"] = min(alone["seconds"]) / min(row["seconds"])
        row["difference"] = abs(row["val_loss"] - alone["val_loss"])
        figures = [f"{min(row['seconds']):.2f}", f"{row['speed_up']:.2f}", f"{row['val_loss']:.6f}"]
        figures += [f"{row['difference']:.1e}", f"{row['val_accuracy']:.4f}", f"{row.get('staleness', 0):.2f}"]
        made.add_row(row["network"], row["kind"], *figures)
    console.print(made)


def draw(rows: list[dict[str, Any]], stages: list[list[int]]) -> Path:
    """The best of each stage, and those of the other methods, as a figure."""
    figure, (axes,) = panels(7, 3.6)
    staged = [row["stages"] for row in rows if row["method"] == "Staged"]
    places = range(1, len(stages) + 1)
    for each in staged:
        axes.plot(places, each, "o-", color=BLUE, alpha=0.35, markersize=4)
    axes.plot(places, np.median(staged, axis=0), "o-", color=BLUE, label="staged")
    names = [f"stage {i + 1}\n{number} × {epochs}" for i, (epochs, number) in enumerate(stages)]
    for method, color in (("SurrogatePSO", GREEN), ("Random", RED)):
        if not (found := [row for row in rows if row["method"] == method]):
            continue  # results of before have no guided swarm
        axes.plot([len(names) + 1] * len(found), [row["validation"] for row in found], "o", color=color, alpha=0.5)
        middle = statistics.median(row["validation"] for row in found)
        axes.plot(len(names) + 1, middle, "_", color=color, markersize=22, label=f"{method}, as many epochs")
        names.append(f"{method}\n{found[0]['trials']} × {stages[-1][0]}")
    axes.set_xticks(range(1, len(names) + 1), names)
    axes.margins(x=0.08)
    axes.set(yscale="log", ylabel="best mean squared error (validation)", title="Complex cosine, 2,000 examples")
    axes.legend(frameon=False)
    return write(figure, "nhop", "stages.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=positive, default=7)
    parser.add_argument("--slots", type=positive, default=2)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--store", help="file to keep the searches in; the same again goes on from there")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="a minute, to see whether it runs")
    options = parser.parse_args()
    quiet_dask()
    stages = [[5, 3], [20, 2], [40, 2]] if options.quick else STAGES
    result = {"stages": stages, **earlier("nhop", PARTS)}
    if "searches" in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            store = options.store or f"{folder}/nhop.db"
            result["searches"] = searches(1 if options.quick else options.seeds, options.slots, stages, store)
        show_searches(result["searches"], stages)
    if "replicas" in options.parts:
        result["replicas"] = asyncio.run(replicas(1 if options.quick else options.repeats, options.quick))
        show_replicas(result["replicas"])
    if not options.quick:
        console.print(f"drawn in {draw(result['searches'], stages)}")
        save("nhop", result)


if __name__ == "__main__":
    main()
