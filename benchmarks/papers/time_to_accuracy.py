"""LeNet's time to a fixed accuracy on MNIST: the genetic algorithm begins at the known network and makes it faster.

    SWARM_DATA=… python benchmarks/papers/time_to_accuracy.py [--quick] [--seeds 3] [--generations 8] [--slots N]

Table 3 of Recombination of Artificial Neural Networks, cut down: 10,000 images, 95 % instead of 98.6 %, and a few
generations, therefore with a higher mutation rate than its 0.05. Then both networks are trained again at the same
seeds, side by side, and scored on the unseen test set. The search goes by CPU time, so that others may use the machine
meanwhile; for seconds that say something, one slot per core and nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.papers.lenet4 import scores
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, table
from swarm import Job, run
from swarm.config import quiet_dask
from swarm.optimizers.genetic import GA
from swarm.trial import Params, Result
from swarm.workers.keras.time_to_accuracy import Measure
from swarm.workers.models import lenet_time


def summary(params: Params, results: list[Result]) -> dict[str, Any]:
    """What the trainings of a network took, those that reached the accuracy."""
    reached = [result for result in results if result.fitness is not None]
    row: dict[str, Any] = {"params": dict(params), "trainings": len(results), "reached": len(reached)}
    if reached:
        for name in ("seconds", "cpu_seconds", "iterations", "parameters"):
            row[name] = statistics.mean(result.metrics[name] for result in reached)
        row["each_seconds"] = [result.metrics["seconds"] for result in reached]
        row["test_accuracy"] = statistics.mean(result.fitness or 0.0 for result in reached)
    return row


def show(rows: Mapping[str, dict[str, Any]], title: str) -> None:
    """The table: hyper-parameters first, then what they led to."""
    made = table(title, ("hyper-parameter", *rows))
    for name in lenet_time.problem().space:
        made.add_row(name, *(f"{row['params'][name]:.4g}" for row in rows.values()))
    made.add_section()
    for name, form in {
        "reached": "d", "seconds": ".1f", "cpu_seconds": ".1f", "iterations": ".0f", "parameters": ",.0f",
        "test_accuracy": ".4f",
    }.items():  # fmt: skip
        made.add_row(name, *(format(row[name], form) if name in row else "never" for row in rows.values()))
    console.print(made)
    original, optimised = (row.get("seconds") for row in rows.values())
    if original and optimised:
        console.print(f"{1 - optimised / original:.1%} less time (the paper, at 98.6 %: 83.5 %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 %% on 1,000 images, twice 4 networks, 1 seed")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--population", type=int, default=10)
    parser.add_argument("--mutation", type=float, default=0.4)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--train", type=int, default=10_000, help="images")
    parser.add_argument("--max-iterations", type=int, default=2000)
    parser.add_argument("--measure", choices=get_args(Measure), default="cpu_seconds")
    parser.add_argument("--slots", type=positive, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.generations, options.population = 1, 1, 4
        options.threshold, options.train, options.max_iterations = 0.2, 1000, 60
    quiet_dask()
    job = Job(
        name="lenet-time",
        problem=lenet_time.problem(
            thresholds={"val_accuracy": options.threshold},
            measure=options.measure,
            max_iterations=options.max_iterations,
            every=20 if options.quick else 100,
            train=options.train,
        ),
        optimizer=GA(population=options.population, generations=options.generations, mutation=options.mutation),
        direction="minimize",
        time_limit=900,
        test=False,
        seed=1,
    )
    assert job.space is not None
    original = job.space.defaults()
    assert original is not None
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        search = run(job, slots=options.slots, store=f"{folder}/swarm.db")
        counts, history = search.counts, search.history
    if search.best is None:
        raise SystemExit("no training reached the accuracy: lower --threshold, or raise --max-iterations")
    seconds = time.perf_counter() - began
    networks: dict[str, Params] = {"original": original, "optimised": search.best.params}
    results = asyncio.run(scores(job, networks, options.seeds, options.slots))
    rows = {name: summary(params, results[name]) for name, params in networks.items()}
    show(rows, f"LeNet on MNIST, time to {options.threshold:.1%}, {options.seeds} seeds each")
    console.print(f"search: {counts}, {seconds:.0f} s on {options.slots} slots")
    result = {"options": vars(options), "networks": rows, "counts": counts, "seconds": seconds}
    save("time-to-accuracy", {**result, "history": history.drop(columns=["error"]).to_dict("records")})


if __name__ == "__main__":
    main()
