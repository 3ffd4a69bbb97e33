"""The parallel PSO paper on MNIST: its figures 5 to 8 and 10 to 13, table 2 and the Wilcoxon tests.

    SWARM_DATA=data python benchmarks/papers/parallel_pso.py [--quick | --full] [--only simplenet1 lenet4] [--slots 2]

Setup A is the paper's serial swarm on one GPU (Algorithm 1, each particle sees the bests of those before it), setup B
its parallel one on six. Both search every fold by themselves, the folds one after another.

train   Every network that the two swarms ask for is trained, on whatever slots there are, all folds at once. The
        store in benchmarks/stores/ keeps what is done: the same command goes on after an interruption.
replay  The searches run again, fold by fold, on one slot (A) and on six (B), and B on one to see that it asks for the
        same networks there. Each training is replaced by a sleep of its recorded length, shortened by a factor: the
        workers are emulated, the master, the archive, the barrier and their overhead are real. Times are what was
        measured, times that factor, so they contain that overhead as often.

By default cut down to what two idle cores do in about an hour: fewer images, epochs, folds and generations, as
every caption says. --full is the paper's own scale, for GPUs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.shared.numbers import extremes
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.saving import KEPT, earlier, positive, save
from benchmarks.shared.tables import console, print_table, table
from swarm import PSO, Job, run
from swarm.cluster.connect import embedded, pool_on
from swarm.config import quiet_dask
from swarm.optimizers import Optimizer
from swarm.plain import canonical
from swarm.plots.charts import BLUE, GRAY, ORANGE
from swarm.report.compare import wilcoxon
from swarm.runner import Run, enroll
from swarm.runs.history import History
from swarm.search import Search
from swarm.store import Source, Store
from swarm.trial import Params
from swarm.workers.models import lenet4, simplenet1
from swarm.workers.node.supervisor import make_slots

PARTICLES, GPUS = 6, 6
PROBLEMS = {"simplenet1": simplenet1.problem, "lenet4": lenet4.problem}
NAMES = {"simplenet1": "SimpleNet-1", "lenet4": "LeNet-4"}
FIGURES = {"simplenet1": (5, 6, 7, 8), "lenet4": (10, 11, 12, 13)}
UPDATES = {"A": "in_place", "B": "sync"}
SLOTS = {"A": 1, "B": GPUS}
TABLE_2 = (29, 8, 3, 2, 92, 5, 2, 1, 258)  # the paper's result, in the order of the search space
DROPCONNECT = 0.9979
COLORS = {"A": ORANGE, "B": BLUE}


@dataclass(frozen=True)
class Scale:
    """How much of the paper's experiment.

    Attributes:
        train: Images that the folds divide; None is all 60,000.
        epochs: Of each training.
        patience: Epochs without a better loss after which a training ends; None trains them all.
        folds: Of ten.
        generations: After the initial one.
        shorter: Recorded seconds per second of sleep.
    """

    train: int | None = None
    epochs: int = 100
    patience: int | None = 5
    folds: int = 10
    generations: int = 100
    shorter: float = 200

    def __str__(self) -> str:
        images = "all 60,000" if self.train is None else f"{self.train:,} of 60,000"
        return (
            f"{images} images, {self.epochs} epoch{'s' * (self.epochs > 1)}{' at most' * (self.patience is not None)}, "
            f"{self.folds} of 10 folds, {self.generations} generations of {PARTICLES} particles"
        )


SCALES = {
    "quick": {"simplenet1": Scale(300, 1, None, 2, 1, 10), "lenet4": Scale(300, 1, None, 2, 0, 10)},
    "cores": {"simplenet1": Scale(1000, 2, None, 6, 30, 5), "lenet4": Scale(1500, 1, None, 6, 12, 5)},
    "full": {"simplenet1": Scale(), "lenet4": Scale()},
}


class OneFold(Job):
    """What a job of many folds does on one of them."""

    fold: int

    def start(self) -> Optimizer:
        assert self.space is not None
        return self.optimizer.start(self.space, seed=self.seed, fold=self.fold, first_id=self.fold, id_step=self.folds)


def job_of(model: str, setup: str, scale: Scale) -> Job:
    """The paper's search with really trained networks."""
    options = {"train": scale.train, "epochs": scale.epochs, "patience": scale.patience}
    method = PSO.paper(particles=PARTICLES, generations=scale.generations, update=UPDATES[setup])  # type: ignore[arg-type]
    return Job(
        name=f"{model}-{setup}", problem=PROBLEMS[model](**options), optimizer=method, folds=scale.folds, seed=1,
        time_limit=None if scale.train is None else 600,
    )  # fmt: skip


# --- replay


def recorded(found: Run) -> dict[tuple[int, str], tuple[float | None, float]]:
    """Fitness and seconds of every evaluation of a run, by fold and hyper-parameters."""
    with closing(Store(found.store, create=False)) as store:
        history = History(store.events(found.job.name), sign=found.job.sign)
    rows = history.evaluations[history.evaluations["purpose"] == "fitness"]
    known = {}
    for trial, fold, fitness, seconds in rows[["trial", "fold", "fitness", "seconds"]].itertuples(index=False):
        key = int(fold), canonical(history.params[trial])
        known[key] = (None if pd.isna(fitness) else float(fitness), float(seconds))
    return known


def sleeper(known: dict[tuple[int, str], tuple[float | None, float]], shorter: float) -> Any:
    """A training that sleeps as long as the real one took, shortened, and returns what that returned."""

    def replayed(params: Params, ctx: Any) -> float:
        import time

        fitness, seconds = known[ctx.fold, canonical(params)]
        time.sleep(seconds / shorter)
        if fitness is None:
            raise RuntimeError("the recorded training failed")
        return fitness

    return replayed


async def replay(found: Run, slots: int, shorter: float) -> History:
    """The searches of all folds, one after another, on sleeping slots."""
    problem = sleeper(recorded(found), shorter)
    job = found.job
    with tempfile.TemporaryDirectory() as folder, closing(Store(f"{folder}/swarm.db")) as store:
        folds = [
            OneFold(
                name=f"{job.name}-{fold}", problem=problem, space=job.space, optimizer=job.optimizer, seed=job.seed,
                folds=job.folds, fold=fold, isolation="thread",
            )
            for fold in range(job.folds)
        ]  # fmt: skip
        async with embedded(make_slots(slots=slots)) as client, pool_on(client, folds[0], None) as pool:
            await pool.wait_for_slots(60)
            for each in folds:
                enroll(each, store)
                await Search(each, store).run(pool)
        return History(chain.from_iterable(store.events(each.name) for each in folds), sign=job.sign)


def figures_of(history: History, shorter: float) -> dict[str, Any]:
    """What the figures draw: shares and times by fold, reads and times by generation; times as recorded."""
    folds, rows = history.folds, history.generations
    rows = rows.assign(reads=rows["archive"] + rows["in_flight"], seconds=shorter * rows["seconds"])
    means = rows.groupby("generation")[["reads", "trained", "seconds"]].mean()
    last = rows[rows["trained"] > 0].groupby("fold")["generation"].max()
    return {
        "trained": folds["trained"].tolist(),
        "evaluations": folds["evaluations"].tolist(),
        "seconds": (shorter * folds["seconds"]).tolist(),
        "trained_seconds": (shorter * folds["trained_seconds"]).tolist(),
        "last_training": last.tolist(),  # generation, by fold
        "by_generation": {name: means[name].tolist() for name in means},
    }


# --- one model


def measure(model: str, scale: Scale, slots: int | None, store: str) -> dict[str, Any]:
    """Train, replay, and compare the setups."""
    runs = {setup: run(job_of(model, setup, scale), slots=slots, store=store) for setup in ("B", "A")}
    histories = {setup: asyncio.run(replay(runs[setup], SLOTS[setup], scale.shorter)) for setup in SLOTS}
    on_one = asyncio.run(replay(runs["B"], 1, 10 * scale.shorter))
    found: dict[str, Any] = {
        setup: {
            "test": [runs[setup].tests[fold].fitness for fold in range(scale.folds)],
            "average": averages(histories[setup]),
            **figures_of(histories[setup], scale.shorter),
        }
        for setup in SLOTS
    }
    best = runs["B"].best
    assert best is not None
    return {
        "scale": asdict(scale),
        "caption": str(scale),
        "setups": found,
        "same": same(histories["B"], on_one),
        "speedup": sum(found["A"]["seconds"]) / sum(found["B"]["seconds"]),
        "speedup_of_b": sum(found["B"]["trained_seconds"]) / sum(found["B"]["seconds"]),
        "wilcoxon": {name: test(found["A"][name], found["B"][name]) for name in ("average", "test")},
        "found": best.params,
        "found_by_fold": [trial.params for trial, _ in runs["B"].state.optimizer.finalists()],
        "found_accuracy": best.fitness,
    }


def averages(history: History) -> list[float]:
    """Accuracy on V of the particles' own bests, the mean of each fold."""
    best = history.trials.groupby(["fold", "member"])["fitness"].max()
    return [float(each) for each in best.groupby("fold").mean()]


def same(first: History, second: History) -> bool:
    """Whether two runs asked for the same networks, trained the same of them and learned the same."""
    tables = []
    for each in (first, second):
        rows = each.trials.sort_values("trial", ignore_index=True)
        rows = rows.assign(trained=rows["source"] == Source.TRAINED)
        tables.append(rows.drop(columns=["source", "seconds", "start", "end", "slot", "error"]))
    return tables[0].equals(tables[1])


def test(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    p, method = wilcoxon(first, second)
    return {"p": p, "method": method, "pairs": len(first), "lowest_p": 2.0 ** (1 - len(first))}


# --- show


def show(model: str, result: dict[str, Any]) -> None:
    setups = result["setups"]
    columns = ("setup", "workers", "test accuracy: mean", "lowest", "highest", "trained", "last training", "s per fold")
    made = table(f"{NAMES[model]} on MNIST: {result['caption']}; workers are emulated", columns)
    for setup, row in setups.items():
        share = sum(row["trained"]) / sum(row["evaluations"])
        made.add_row(
            setup, str(SLOTS[setup]), *extremes(row["test"], ".4f", statistics.mean),
            f"{share:.1%}", f"{statistics.mean(row['last_training']):.1f}", f"{statistics.mean(row['seconds']):.1f}",
        )  # fmt: skip
    console.print(made)
    console.print(
        f"speed-up of B over A {result['speedup']:.2f}, over its own trainings one after another "
        f"{result['speedup_of_b']:.2f}; it asks for the same networks on 1 and {GPUS} slots: {result['same']}"
    )
    for name, found in result["wilcoxon"].items():
        console.print(f"Wilcoxon of the {name} accuracy, A and B: p = {found['p']:.4f} ({found['method']}, two-tailed)")
    if model == "lenet4":
        show_table_2(result["found"])


def show_table_2(found: Params) -> None:
    print_table(
        "Table 2: LeNet-4",
        ("", "original", "lower", "upper", "the paper's PSO", "our PSO"),
        (
            (name, domain["default"], *domain["integer"], theirs, found[name])
            for (name, domain), theirs in zip(lenet4.SPACE.items(), TABLE_2, strict=True)
        ),
    )


def draw(model: str, result: dict[str, Any]) -> None:
    """The four figures of a model, side by side."""
    setups = result["setups"]
    figure, (accuracy, shares, seconds, times, reads, rest) = panels(15, 7, rows=2, columns=3)
    rest.remove()
    folds = range(1, len(setups["A"]["test"]) + 1)
    for offset, (setup, row) in zip((-0.2, 0.2), setups.items(), strict=True):
        color, label = COLORS[setup], f"{setup}: {SLOTS[setup]} worker{'s' * (setup == 'B')}"
        scores = [min(row["test"]), statistics.mean(row["test"]), max(row["test"])]
        accuracy.plot([i + offset / 2 for i in range(3)], scores, "o", color=color, label=label)
        x = [fold + offset for fold in folds]
        times.bar(x, row["seconds"], 0.4, color=color)
        times.axhline(statistics.mean(row["seconds"]), color=color, ls="--")
        trained = [100 * a / b for a, b in zip(row["trained"], row["evaluations"], strict=True)]
        shares.bar(x, trained, 0.4, color=color)
        shares.bar(x, [100 - each for each in trained], 0.4, bottom=trained, color=GRAY, alpha=0.3)
        reads.plot(row["by_generation"]["reads"], color=color)
        seconds.plot(row["by_generation"]["seconds"], color=color)
        seconds.axhline(statistics.mean(row["by_generation"]["seconds"]), color=color, ls="--")
    accuracy.set(ylabel="test accuracy of the folds' best", xlim=(-0.5, 2.5))
    accuracy.set_xticks(range(3), ["minimum", "mean", "maximum"])
    if model == "lenet4":
        accuracy.axhline(DROPCONNECT, color="black", ls=":", label="DropConnect, 99.79 % (on all images)")
    times.set(xlabel="fold", ylabel="seconds per fold")
    shares.set(xlabel="fold", ylabel="trained, of all evaluations (%)", ylim=(0, 100))
    reads.set(xlabel="generation", ylabel="answers without training", ylim=(0, PARTICLES))
    seconds.set(xlabel="generation", ylabel="seconds per generation", ylim=(0, None))
    numbers = FIGURES[model]
    places = (accuracy, times, shares, reads, seconds)
    titles = [f"Figure {each}" for each in (*numbers[:2], f"{numbers[2]}, top", f"{numbers[2]}, bottom", numbers[3])]
    for axes, title in zip(places, titles, strict=True):
        axes.set_title(title)
        if axes is not accuracy:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy.legend(frameon=False, fontsize=8)
    scale = result["scale"]
    figure.suptitle(
        f"{NAMES[model]} on MNIST: {result['caption']}.\nWorkers are emulated: they sleep as long as the recorded "
        f"trainings took, {scale['shorter']:g} times shorter; times as recorded. Dashed: means."
    )
    write(figure, "parallel-pso", f"{model}.png")


def others(scale: str) -> dict[str, Any]:
    """What was measured before at this scale, by model."""
    found = earlier("parallel-pso", ["scale", "models"])
    return dict(found["models"]) if found.get("scale") == scale else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="300 images, 2 folds, one generation or none")
    size.add_argument("--full", action="store_true", help="the paper's scale, for GPUs")
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--slots", type=positive, help="to train on; left out, one per GPU or core")
    options = parser.parse_args()
    quiet_dask()
    name = "quick" if options.quick else "full" if options.full else "cores"
    with tempfile.TemporaryDirectory() as temporary:
        stores = Path(temporary) if options.quick else KEPT.with_name("stores") / "parallel-pso"
        stores.mkdir(parents=True, exist_ok=True)
        for model in options.only:
            result = measure(model, SCALES[name][model], options.slots, str(stores / f"{model}-{name}.db"))
            show(model, result)
            save("parallel-pso", {"scale": name, "models": {**others(name), model: result}})
            draw(model, result)


if __name__ == "__main__":
    main()
