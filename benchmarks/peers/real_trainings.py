"""Real trainings, not tables: the default method beside PSO, TPE, random search and Optuna's TPE, at equal cost.

    SWARM_DATA=data python benchmarks/peers/real_trainings.py [--quick] [--parts digits lenet5] [--seeds 5]

digits  The demo's network and space (examples/digits.yaml), 40 trainings.
lenet5  LeNet-5 on a part of CIFAR-10, 24 trainings; left out without its data.

All methods train on two slots of this machine, each search in a store of its own and without an archive, so that every
question is a training; Optuna's sampler is asked in the place of one of our methods. Seed by seed, in turn, so that
what else the machine does meets all methods. The same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.stats import wilcoxon

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.peers.answers import Optuna
from benchmarks.shared import pictures
from benchmarks.shared.repeated import searched, stores
from benchmarks.shared.saving import ROOT, earlier, positive, save
from benchmarks.shared.tables import console, print_table
from swarm import PSO, TPE, Job, Random, SurrogatePSO
from swarm.cluster.connect import embedded, local_slots
from swarm.config import quiet_dask
from swarm.optimizers import OPTIMIZERS, Optimizer
from swarm.plots.charts import CYCLE
from swarm.runner import Run
from swarm.trial import Trial
from swarm.workers.models import lenet5

DEFAULT, PEER = "SurrogatePSO", "Optuna TPE"
SLOTS = 2
TRAININGS = {"digits": 40, "lenet5": 24}
DIGITS = ROOT / "examples" / "digits.yaml"
Rows = list[dict[str, Any]]


@dataclass(kw_only=True)
class OptunaTPE(Optimizer):
    """Optuna's TPE in the place of a method of ours: it is asked when a slot is free, and told when a training ends."""

    trials: int = 1
    limits: ClassVar[tuple[str, ...]] = ("trials",)

    def _begin(self) -> None:
        import optuna

        self._study = Optuna(optuna.samplers.TPESampler(seed=self._seed), self._space)
        self._tickets: dict[int, Any] = {}

    def _exhausted(self) -> bool:
        return self._asked >= self.trials

    def _ask(self) -> Trial:
        ticket, params = self._study.ask()
        trial = self._trial(params, member=self._asked)
        self._tickets[trial.id] = ticket
        return trial

    def _tell(self, trial: Trial, loss: float) -> None:
        self._study.tell(self._tickets.pop(trial.id), loss)


def methods(trainings: int) -> dict[str, Optimizer]:
    """The methods, each limited to this number of trainings; Optuna's only if it is installed."""
    found: dict[str, Optimizer] = {
        DEFAULT: SurrogatePSO(trials=trainings),
        "PSO": PSO(particles=8, generations=trainings // 8 - 1),
        "TPE": TPE(trials=trainings),
        "Random": Random(trials=trainings),
    }
    if importlib.util.find_spec("optuna") is None:
        console.print("Optuna is left out: it is not installed (pip install optuna)", highlight=False)
        return found
    OPTIMIZERS["OptunaTPE"] = OptunaTPE
    return {**found, PEER: OptunaTPE(trials=trainings)}


def task(name: str, quick: bool) -> dict[str, Any]:
    """What a job says of its problem."""
    if name == "digits":
        job = Job.from_file(DIGITS)
        return {"problem": job.problem, "options": {"epochs": 1 if quick else 5}, "space": job.space}
    return {"problem": lenet5.problem(train=300 if quick else 2500, epochs=1 if quick else 4, splits=5)}


def outcome(found: Run) -> dict[str, Any]:
    """The best so far, in the order in which trainings ended, with the slots' seconds until then."""
    rows = found.history.sort_values("end")
    assert found.best is not None
    return {
        "best": rows["fitness"].astype(float).cummax().ffill().tolist(),
        "ends": (rows["end"] - rows["start"].min()).tolist(),
        "test": found.tests[0].fitness if found.tests else None,
        "params": found.best.params,
        "trained_seconds": found.state.trained_seconds,
    }


async def measure(name: str, seeds: int, quick: bool, folder: Path) -> dict[str, Rows]:
    about, trainings = task(name, quick), 8 if quick else TRAININGS[name]
    rows: dict[str, Rows] = {method: [] for method in methods(trainings)}
    async with embedded(local_slots(SLOTS)) as client:
        for seed in range(1, seeds + 1):
            for method, optimizer in methods(trainings).items():
                job = Job(
                    name=f"{name}-{method.replace(' ', '-')}-{trainings}-{seed}", optimizer=optimizer, seed=seed,
                    archive=False, checkpoints=False, **about,
                )  # fmt: skip
                rows[method].append(row := outcome(await searched(job, client, folder)))
                console.print(f"{name}, {method}, seed {seed}: {row['best'][-1]:.4f}, {row['ends'][-1]:.0f} s")
    return rows


def compared(rows: dict[str, Rows]) -> dict[str, Any]:
    """The best at the number of trainings, and at the seconds of the slots, that every method has reached."""
    trainings = min(len(row["best"]) for mine in rows.values() for row in mine)
    seconds = min(row["ends"][-1] for mine in rows.values() for row in mine)
    found: dict[str, Any] = {"trainings": trainings, "seconds": seconds, "by": {}}
    ends = {
        method: {
            "trainings": [row["best"][trainings - 1] for row in mine],
            "seconds": [at(row, seconds) for row in mine],
            "test": [row["test"] for row in mine],
        }
        for method, mine in rows.items()
    }
    for method, values in ends.items():
        against = [ours - theirs for ours, theirs in zip(ends[DEFAULT]["trainings"], values["trainings"], strict=True)]
        found["by"][method] = {
            **values, "better": sum(d > 0 for d in against), "worse": sum(d < 0 for d in against),
            "p": float(wilcoxon(against, alternative="greater").pvalue) if any(against) else 1.0,
        }  # fmt: skip
    return found


def at(row: dict[str, Any], seconds: float) -> float:
    """The best of what had ended by then."""
    ended = int(np.searchsorted(row["ends"], seconds, side="right"))
    return float(row["best"][max(0, ended - 1)])


def show(name: str, found: dict[str, Any]) -> None:
    rows = []
    for method, row in found["by"].items():
        middle = [statistics.median(row[key]) for key in ("trainings", "seconds", "test")]
        versus = ("", "") if method == DEFAULT else (f"{row['better']}, {row['worse']}", f"{row['p']:.2g}")
        rows.append((method, *(f"{100 * value:.2f} %" for value in middle), *versus))
    print_table(
        f"{name}: best validation accuracy after {found['trainings']} trainings, or {found['seconds']:.0f} s of "
        f"{SLOTS} slots; medians",
        ("method", "equal trainings", "equal slot time", "test set", f"{DEFAULT} better, worse", "p"),
        rows,
    )


def draw(result: dict[str, Any], names: Sequence[str]) -> None:
    """Median of the best over the trainings; a panel per task."""
    figure, panels = pictures.panels(5.5 * len(names), 4, columns=len(names))
    for axes, name in zip(panels, names, strict=True):
        n, rows = result[name]["trainings"], result[name]["rows"]
        for color, (method, mine) in zip(CYCLE, rows.items(), strict=False):
            curves = 100 * np.array([row["best"][:n] for row in mine])
            axes.plot(range(1, n + 1), np.median(curves, axis=0), color=color, label=method, drawstyle="steps-post")
        low = np.median([row["best"][n // 4] for mine in rows.values() for row in mine])
        axes.set(xlabel="trainings", ylabel="best validation accuracy (%)", title=name, ylim=(100 * low - 2, None))
        axes.legend(frameon=False, loc="lower right")
    pictures.write(figure, "real-trainings", "real-trainings.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 short trainings each, 1 seed")
    parser.add_argument("--parts", nargs="+", choices=list(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="where the searches are kept")
    options = parser.parse_args()
    quiet_dask()
    result: dict[str, Any] = {} if options.quick else earlier("real-trainings", list(TRAININGS))
    for name in options.parts:
        if name == "lenet5" and not Path(os.environ.get("SWARM_DATA", ""), "cifar10-12k.npz").is_file():
            console.print("lenet5 is left out: no cifar10-12k.npz in the folder that SWARM_DATA names")
            continue
        with stores("real-trainings", options.store) as folder:
            rows = asyncio.run(measure(name, 1 if options.quick else options.seeds, options.quick, folder))
        result[name] = {**compared(rows), "rows": rows}
        show(name, result[name])
        save("real-trainings", {"slots": SLOTS, **result})
        draw(result, list(result))


if __name__ == "__main__":
    main()
