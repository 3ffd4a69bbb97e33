"""Population-based training with three parents against the default hyper-parameters, trained as many epochs.

    python benchmarks/papers/pbt.py [--quick] [--seeds 5] [--job examples/pbt-digits.yaml] [--slots 2]

Per seed: a run of the job, and then one network that is trained from the start by the schedule that it has found. The
defaults are trained once per seed. All are scored on the unseen test set. Writes a table, JSON, and with matplotlib
the figure of the paper: the schedules of the winners.
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

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.papers.lenet4 import scores
from benchmarks.shared.numbers import extremes
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.saving import ROOT, positive, save
from benchmarks.shared.tables import console, print_table
from swarm import Job, run
from swarm.config import quiet_dask
from swarm.runs.schedule import replay

JOB = ROOT / "examples" / "pbt-digits.yaml"
SMALL = {"optimizer": {"name": "PBT", "population": 4, "max_budget": 4, "mutation": 0.4, "initial": "uniform"}}


def defaults_of(job: Job, path: Path, seeds: int, slots: int) -> list[float]:
    """Test error of the default hyper-parameters, trained as many epochs as a network of the population."""
    epochs = int(job.optimizer.max_budget)  # type: ignore[attr-defined]  # PBT has it
    assert job.space is not None
    original = job.space.defaults()
    assert original is not None
    options = {**job.options, "epochs": epochs, "patience": None}
    plain = Job.from_file(path, options=options, optimizer={"name": "Random", "trials": 1})
    return [1 - (r.fitness or 0) for r in asyncio.run(scores(plain, {"default": original}, seeds, slots))["default"]]


def slope(schedule: pd.DataFrame, name: str) -> float:
    """Change of the logarithm of a hyper-parameter per slice, by least squares."""
    values = np.log(np.maximum(schedule[name].to_numpy(dtype=float), 1e-12))
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 seed, 4 networks, 4 epochs")
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--job", type=Path, default=JOB)
    parser.add_argument("--slots", type=positive, default=2)
    options = parser.parse_args()
    changes: dict[str, Any] = SMALL if options.quick else {}
    if options.quick:
        options.seeds = 1
    quiet_dask()
    began = time.perf_counter()
    errors: dict[str, list[float]] = {
        "default": defaults_of(Job.from_file(options.job, **changes), options.job, options.seeds, options.slots),
        "PBT": [],
        "its schedule, replayed": [],
    }
    schedules, traffic = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            store = f"{folder}/swarm.db"
            job = Job.from_file(options.job, name=f"pbt-{seed}", seed=seed, **changes)
            found = run(job, slots=options.slots, store=store, progress=False)
            again = run(replay(found, name=f"replay-{seed}"), slots=options.slots, store=store, progress=False)
            errors["PBT"].append(1 - (found.tests[0].fitness or 0))
            errors["its schedule, replayed"].append(1 - (again.tests[0].fitness or 0))
            schedules.append(found.schedule)
            traffic.append(found.state.checkpoint_seconds / found.state.trained_seconds)
            console.print(f"seed {seed}: {errors['PBT'][-1]:.4f}, replayed {errors['its schedule, replayed'][-1]:.4f}")
    print_table(
        f"{options.job.name}: test error of {options.seeds} seeds",
        ("networks", "mean", "lowest", "highest"),
        ((name, *extremes(values, ".4f", statistics.mean)) for name, values in errors.items()),
    )
    slopes = [slope(schedule, "learning_rate") for schedule in schedules]
    console.print(f"slope of log learning rate per slice: {', '.join(f'{value:+.3f}' for value in slopes)}")
    console.print(f"checkpoints: {100 * statistics.mean(traffic):.1f} % of the training seconds")
    result = {
        "errors": errors, "slopes": slopes, "checkpoint_share": traffic, "seconds": time.perf_counter() - began,
        "schedules": [schedule.to_dict("records") for schedule in schedules],
    }  # fmt: skip
    save("pbt", result)
    _draw(schedules, errors)


def _draw(schedules: list[pd.DataFrame], errors: dict[str, list[float]]) -> None:
    names = [name.removeprefix("mean_") for name in schedules[0].columns if name.startswith("mean_")]
    figure, (left, *others) = panels(4 * len(names) + 4, 3.4, columns=len(names) + 1)
    left.boxplot(list(errors.values()), tick_labels=[name.replace(", ", ",\n") for name in errors])
    left.set_ylabel("test error")
    for panel, name in zip(others, names, strict=True):
        for schedule in schedules:
            panel.step(schedule["budget"], schedule[name], where="pre", alpha=0.7)
        panel.set(title=name, xlabel="epoch")
        if min(schedule[name].min() for schedule in schedules) > 0:
            panel.set_yscale("log")
    write(figure, "pbt", "schedules.png")


if __name__ == "__main__":
    main()
