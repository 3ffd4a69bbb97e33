"""LeNet's time to a fixed accuracy on MNIST: the genetic algorithm begins at the known network and makes it faster.

    SWARM_DATA=… python benchmarks/papers/time_to_accuracy.py [--quick] [--parts search networks] [--seeds 7]
                                                              [--generations 8] [--slots N]

search    Table 3 of Recombination of Artificial Neural Networks, cut down: 10,000 images, 95 % instead of 98.6 %, and a
          few generations, therefore with a higher mutation rate than its 0.05. It goes by CPU time, so that others may
          use the machine meanwhile.
networks  The original network and the found one, trained at the same seeds, side by side, and scored on the unseen test
          set. For seconds that say something, one slot per core and nobody else.

Without the part search, networks trains what the search before has found.
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

from scipy.stats import wilcoxon

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.papers.lenet4 import scores
from benchmarks.shared.numbers import many
from benchmarks.shared.saving import earlier, positive, save
from benchmarks.shared.tables import console, table
from swarm import Job, run
from swarm.config import quiet_dask
from swarm.optimizers.genetic import GA
from swarm.trial import Params, Result
from swarm.workers.keras.time_to_accuracy import Measure
from swarm.workers.models import lenet_time

PARTS = ("search", "networks")
Options = dict[str, Any]


def searched(options: Options) -> Job:
    """The search, by options as the command line names them."""
    return Job(
        name="lenet-time",
        problem=lenet_time.problem(
            thresholds={"val_accuracy": options["threshold"]},
            measure=options["measure"],
            max_iterations=options["max_iterations"],
            every=20 if options["quick"] else 100,
            train=options["train"],
        ),
        optimizer=GA(
            population=options["population"], generations=options["generations"], mutation=options["mutation"]
        ),
        direction="minimize",
        time_limit=900,
        test=False,
        seed=1,
    )


def search(options: Options) -> dict[str, Any]:
    """Look for the fastest network: what was found, and how."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        looked = run(searched(options), slots=options["slots"], store=f"{folder}/swarm.db")
        counts, history = looked.counts, looked.history
    if looked.best is None:
        raise SystemExit("no training reached the accuracy: lower --threshold, or raise --max-iterations")
    return {
        "options": options, "found": looked.best.params, "counts": counts, "seconds": time.perf_counter() - began,
        "history": history.drop(columns=["error"]).to_dict("records"),
    }  # fmt: skip


def networks(found: Params, options: Options, seeds: int, slots: int) -> dict[str, Any]:
    """What the original network and the found one take to the accuracy, and p that the found one is no faster."""
    job = searched(options)
    assert job.space is not None
    original = job.space.defaults()
    assert original is not None
    both: dict[str, Params] = {"original": original, "optimised": found}
    results = asyncio.run(scores(job, both, seeds, slots))
    rows = {name: summary(params, results[name]) for name, params in both.items()}
    each = [row.get("each_seconds", []) for row in rows.values()]
    complete = all(len(seconds) == seeds for seconds in each) and seeds > 1  # only then they are pairs
    p = float(wilcoxon(*each, alternative="greater").pvalue) if complete else None
    return {"networks": rows, "p": p, "slots": slots}


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


def show(result: Mapping[str, Any]) -> None:
    """The table: hyper-parameters first, then what they led to."""
    rows, threshold = result["networks"], result["options"]["threshold"]
    seeds = many(rows["original"]["trainings"], "seed")
    made = table(f"LeNet on MNIST, time to {threshold:.1%}, {seeds} each", ("hyper-parameter", *rows))
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
        p = "" if result["p"] is None else f", one-sided p of Wilcoxon {result['p']:.2g}"
        console.print(f"{1 - optimised / original:.1%} less time (the paper, at 98.6 %: 83.5 %){p}")
    console.print(f"search: {result['counts']}, {result['seconds']:.0f} s on {result['options']['slots']} slots")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 %% on 1,000 images, twice 4 networks, 1 seed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=positive, default=7, help="of the networks")
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
    result = earlier("time-to-accuracy", ("options", "found", "counts", "seconds", "history", "networks", "p", "slots"))
    if "search" in options.parts:
        result = search({name: value for name, value in vars(options).items() if name not in ("parts", "seeds")})
    if "networks" in options.parts:
        if "found" not in result:
            parser.error("no search has been made yet: add the part search")
        result |= networks(result["found"], result["options"], options.seeds, options.slots)
    if "networks" in result:
        show(result)
    save("time-to-accuracy", result)


if __name__ == "__main__":
    main()
