"""The HPO report's figures 3 to 5: grid search, random search, PSO and BOHB on LeNet-5 and CIFAR-10 at equal epochs.

    SWARM_DATA=data python benchmarks/papers/hpo_report.py [--quick | --full] [--seeds 7] [--slots 2] [--store FOLDER]

The report ran each method once, BOHB on 40 % of the others' epochs and grid search not at all. Here all spend as many
epochs, at several seeds, and two methods that the report does not have are beside them: the guided swarm, which is the
default of a job, and TPE. As there, every question is a training from the start: nothing is answered from the archive,
and BOHB's longer trainings do not go on from its shorter ones. A fifth of the training images validates.

Every search has a store of its own in FOLDER, else in benchmarks/stores/: the same command goes on after an
interruption. By default cut down to what two idle cores do in an hour, as every caption says; --full is the
report's own scale, for GPUs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kruskal

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.numbers import interval
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.repeated import searched, stores
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, table
from swarm import BOHB, PSO, TPE, Grid, Job, Random, SurrogatePSO
from swarm.cluster.connect import embedded, local_slots
from swarm.config import quiet_dask
from swarm.job import Stop
from swarm.optimizers import Optimizer
from swarm.plots.charts import CYCLE
from swarm.runner import Run
from swarm.workers.models import lenet5

ORIGINAL = "original"  # LeNet-5 as it was, to see what any search is worth
POINTS = 4  # values of each hyper-parameter on the grid
SAID = {"Grid": "not run", "Random": "67.83 %, 3,981", "PSO": "66.8 %, 4,000", "BOHB": "66.5 %, 1,600"}


@dataclass(frozen=True)
class Scale:
    """How much of the report's experiment.

    Attributes:
        train: Images to train and validate; None is all.
        epochs: Of a whole training; BOHB also trains for a quarter of that.
        evaluations: Whole trainings of a search, or what costs as many epochs.
    """

    train: int | None = None
    epochs: int = 40
    evaluations: int = 100

    def __str__(self) -> str:
        images = "all" if self.train is None else f"{self.train:,}"
        return (
            f"{images} training images of CIFAR-10 (JPEG-recompressed), a fifth to validate, {self.epochs} epochs per "
            f"training, {self.epochs * self.evaluations:,} per search"
        )


SCALES = {"quick": Scale(500, 4, 5), "cores": Scale(2500, 8, 20), "full": Scale()}


def methods(scale: Scale) -> dict[str, Optimizer]:
    """Those of figure 3 and two more, each for as many epochs, and the original network."""
    n = scale.evaluations
    return {
        "Grid": Grid(points=dict.fromkeys(lenet5.SPACE, POINTS), shuffle=True),
        "Random": Random(trials=n),
        "PSO": replace(PSO.report(), generations=n // 5 - 1),
        # With eta = 4 an iteration is 4 short trainings and a whole one, or 2 whole ones: it costs 2 either way.
        "BOHB": BOHB(min_budget=scale.epochs / 4, max_budget=scale.epochs, eta=4, iterations=n // 2),
        "SurrogatePSO": SurrogatePSO(trials=n),
        "TPE": TPE(trials=n),
        ORIGINAL: PSO(particles=1, generations=0, defaults=True),
    }


def jobs(scale: Scale, seeds: int) -> dict[str, list[Job]]:
    """A search per method and seed, by method."""
    problem = lenet5.problem(train=scale.train, epochs=scale.epochs, splits=5)
    return {
        method: [
            Job(
                name=f"{method}-{scale.train}-{scale.epochs * scale.evaluations}-{seed}", problem=problem,
                optimizer=optimizer, stop=Stop(evaluations=scale.evaluations if method == "Grid" else None),
                archive=False, checkpoints=False, seed=seed,
            )
            for seed in range(1, seeds + 1)
        ]
        for method, optimizer in methods(scale).items()
    }  # fmt: skip


def outcome(found: Run, epochs: int) -> dict[str, Any]:
    """What a search has found, and the best accuracy so far after each of its trainings, in the order of asking."""
    trials, best = found.history, found.best
    assert best is not None
    return {
        "params": best.params,
        "validation": best.fitness,
        "test": found.tests[0].fitness,
        "spent": trials["budget"].astype(float).fillna(epochs).cumsum().tolist(),
        "best": trials["fitness"].astype(float).cummax().ffill().tolist(),
        "seconds": found.state.trained_seconds,
    }


async def measure(scale: Scale, seeds: int, slots: int | None, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All searches; seed by seed, so that what else the machine does meets all methods."""
    every = jobs(scale, seeds)
    rows: dict[str, list[dict[str, Any]]] = {method: [] for method in every}
    async with embedded(local_slots(slots)) as client:
        for seed in range(seeds):
            for method, mine in every.items():
                rows[method].append(row := outcome(await searched(mine[seed], client, folder), scale.epochs))
                console.print(
                    f"{method}, seed {seed + 1}: {row['validation']:.4f} on V, {row['test']:.4f} on the test set"
                )
    return rows


def curves(rows: Sequence[dict[str, Any]], epochs: Sequence[int]) -> np.ndarray[Any, Any]:
    """Best accuracy so far at these numbers of epochs, (seed, epochs); NaN before the first training has ended."""
    found = []
    for row in rows:
        last = np.searchsorted(row["spent"], epochs, side="right") - 1
        found.append(np.where(last < 0, np.nan, np.array(row["best"])[last]))
    return np.array(found)


def compared(found: dict[str, list[dict[str, Any]]], scale: Scale) -> dict[str, Any]:
    """How the methods compare: on average, beyond chance, and how soon each has what the least has in the end."""
    epochs = range(scale.epochs * scale.evaluations + 1)
    means = {name: curves(rows, epochs).mean(axis=0) for name, rows in found.items() if name != ORIGINAL}
    level = float(min(mean[-1] for mean in means.values()))
    tests = [[row["test"] for row in found[name]] for name in means]
    return {
        "intervals": {
            name: {kind: interval([row[kind] for row in rows]) for kind in ("validation", "test")}
            for name, rows in found.items()
        },
        "level": level,
        "epochs_to_level": {name: int(np.argmax(mean >= level)) for name, mean in means.items()},
        "kruskal_p": float(kruskal(*tests).pvalue),
    }


def show(result: dict[str, Any]) -> None:
    names = ("F6", "C1", "C3", "C5")
    columns = ("method", *names, "epochs", "V, % ± 95 %", "test, % ± 95 %", "to the level", "report: V, epochs")
    made = table(f"Figures 3 to 5, LeNet-5: {result['caption']}", columns)
    for method, rows in result["methods"].items():
        best = max(rows, key=lambda row: row["validation"])["params"]
        values = {name[:2].upper(): value for name, value in best.items()}
        made.add_row(
            method, *(str(values[name]) for name in names), f"{rows[0]['spent'][-1]:g}",
            *(f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in result["intervals"][method].values()),
            str(result["epochs_to_level"].get(method, "–")), SAID.get(method, "–"),
        )  # fmt: skip
    console.print(made)
    console.print(
        f"Configurations are those of the best seed. The level is {100 * result['level']:.1f} % on V, which the least "
        f"method has in the end (mean). Test accuracies of the methods: Kruskal-Wallis p = {result['kruskal_p']:.3f}"
    )


def draw(result: dict[str, Any]) -> None:
    """Best validation accuracy over the epochs, mean and 95 % interval; and the accuracies on the test set."""
    figure, (left, right) = panels(11, 4.6, columns=2, width_ratios=(3, 2))
    scale = Scale(**result["scale"])
    epochs = range(0, scale.epochs * scale.evaluations + 1, max(1, scale.epochs // 4))
    for place, (method, rows) in enumerate(result["methods"].items()):
        color = "black" if method == ORIGINAL else CYCLE[place]
        tests = [100 * row["test"] for row in rows]
        mean, half = interval(tests)
        right.plot([place] * len(tests), tests, "o", color=color, alpha=0.4, ms=4)
        right.errorbar(place + 0.2, mean, half, color=color, fmt="_", ms=14, capsize=4)
        if method == ORIGINAL:
            level, _ = interval([100 * row["validation"] for row in rows])
            left.axhline(level, color=color, ls=":", label="original, one training")
            continue
        means, halves = np.transpose([interval(column) for column in 100 * curves(rows, epochs).T])
        left.plot(epochs, means, color=color, label=method, drawstyle="steps-post")
        left.fill_between(epochs, means - halves, means + halves, color=color, alpha=0.12, step="post", lw=0)
    left.set(xlabel="epochs spent", ylabel="best validation accuracy (%)", xlim=(0, epochs[-1]))
    right.set(ylabel="test accuracy of the best, trained again (%)")
    right.set_xticks(range(len(result["methods"])), list(result["methods"]), rotation=30, ha="right")
    left.legend(frameon=False, loc="lower right")
    seeds = len(result["methods"]["PSO"])
    figure.suptitle(f"LeNet-5: {result['caption']}.\nMean of {seeds} seeds with its 95 % interval", fontsize=10)
    write(figure, "hpo-report", "hpo-report.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="500 images, 4 epochs, 5 evaluations, 1 seed")
    size.add_argument("--full", action="store_true", help="the report's scale, for GPUs")
    parser.add_argument("--seeds", type=positive, default=7)
    parser.add_argument("--slots", type=positive, help="to train on; left out, one per GPU or core")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="where the searches are kept")
    options = parser.parse_args()
    quiet_dask()
    scale = SCALES["quick" if options.quick else "full" if options.full else "cores"]
    with stores("hpo-report", options.store) as folder:
        found = asyncio.run(measure(scale, 1 if options.quick else options.seeds, options.slots, folder))
    compares = compared(found, scale)
    result = {"scale": asdict(scale), "caption": str(scale), **compares, "methods": found}
    show(result)
    save("hpo-report", result)
    draw(result)


if __name__ == "__main__":
    main()
