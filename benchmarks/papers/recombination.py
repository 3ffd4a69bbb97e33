"""The recombination paper's tables 1, 2 and 4 and figures 9, 11 and 13, cut down to two cores.

    SWARM_DATA=data python benchmarks/papers/recombination.py [--quick] [--seeds 5] [--slots 2] [--store FOLDER]
                                                       [--parts p3b1 rpv resnet capsnet seq2seq shapes]

p3b1, rpv                 The genetic algorithm begins at the known network and changes its shape as well. Both networks
                          are then trained again, several times, on the same slots.
resnet, capsnet, seq2seq  Population-based training with three parents, once per seed, against as many trainings at
                          fixed hyper-parameters, all for as many epochs. Figures: errors and schedules by epoch.
shapes                    Where the schedules that PBT finds have another shape than the paper's: what either is worth.
                          One network per seed whose learning rate (capsnet) or dropout (seq2seq) falls evenly to a
                          third of the known one, and one where it rises to thrice that.

The data of P3B1, RPV and translation are not public, or not at hand: made-up data stand in for them, and say nothing
about tumours, physics or Vietnamese. A mutation rate of 0.4, and 0.2 in PBT, instead of 0.05 makes up for few
generations. PBT begins at the known hyper-parameters and mutants of them, as the paper's populations do. Networks that
classify are selected by their loss on V, and by the mean of two epochs: a few hundred images tell little of how two
error rates differ. Every search has a store of its own in FOLDER, else in benchmarks/stores/: the same command goes on
after an interruption. All parts take two idle cores an hour; p3b1 measures CPU time, so that others may use the machine
meanwhile. --quick is rpv and seq2seq alone unless --parts names others. Table 3 is
benchmarks/papers/time_to_accuracy.py.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from scipy.stats import mannwhitneyu, wilcoxon

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.papers.lenet4 import scores
from benchmarks.papers.pbt import slope
from benchmarks.shared.numbers import ranged
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.repeated import searched, stores
from benchmarks.shared.saving import earlier, positive, save
from benchmarks.shared.tables import console, table
from swarm import GA, PBT, Job, run
from swarm.cluster.connect import embedded, local_slots
from swarm.config import quiet_dask
from swarm.optimizers import Optimizer
from swarm.optimizers.replay import Replay
from swarm.plots.charts import BLUE, GREEN, RED
from swarm.runner import Run
from swarm.trial import Params, Result
from swarm.workers.keras.time_to_accuracy import TimeToAccuracy
from swarm.workers.models import capsnet, p3b1, resnet20, rpv, seq2seq

F1 = {  # of site, laterality and grade; section 4.2.1
    ("macro", 0): 0.275, ("micro", 0): 0.506, ("macro", 1): 0.907, ("micro", 1): 0.907, ("macro", 2): 0.485,
    ("micro", 2): 0.647,
}  # fmt: skip
OPTIMISED: dict[str, Params] = {  # tables 1 and 2; the exponents of the learning rates and of dropout are lost
    "p3b1": {"dense_shared": 459, "dense_a": 324, "dense_b": 279, "dense_c": 359},
    "rpv": {
        "kernel1": 4, "kernel2": 4, "kernel3": 4, "filters1": 8, "filters2": 15, "filters3": 28, "dense": 59,
        "optimizer": "Adam",
    },
}  # fmt: skip
TABLE_4 = {
    "p3b1": "78.2 % of 118.6 s", "rpv": "80.7 % of 9.22 %", "resnet": "12.5 % of 8 %", "capsnet": "15.5 % of 16.75 %",
    "seq2seq": "7.0 % of 28",
}  # fmt: skip
FIGURES = {"resnet": 9, "capsnet": 11, "seq2seq": 13}
SHAPES = {"capsnet": "learning_rate", "seq2seq": "dropout"}  # what does not go as in the paper's figures
FACTOR = 3


@dataclass(frozen=True)
class Part:
    """One network of table 4.

    Attributes:
        title: Network and data.
        scale: How much of the paper's experiment.
        merit: What is to be lowered, with its unit.
        problem: What is trained.
        optimizer: The genetic algorithm, or PBT.
        score: The merit of a network scored on the test set.
        fixed: Hyper-parameters that are the same for all, besides those of the problem's space.
        fitness: What a network is selected by, on V.
    """

    title: str
    scale: str
    merit: str
    problem: Any
    optimizer: Optimizer
    score: Callable[[Result], float]
    fixed: dict[str, Any] = field(default_factory=dict)
    fitness: str = "loss"

    @property
    def caption(self) -> str:
        """The scale, and the method's."""
        assert isinstance(self.optimizer, GA | PBT)
        unit = "generations" if isinstance(self.optimizer, GA) else "epochs"
        return f"{self.scale}, population {self.optimizer.population}, {self.optimizer.generations} {unit}"


@dataclass(frozen=True)
class Size:
    """How much of it all.

    Attributes:
        reports: What changes the network of P3B1.
        collisions: What changes that of RPV.
        residual: What trains ResNet.
        capsules: What trains the capsules.
        sentences: What trains translation.
        images: Of MNIST, for ResNet.
        drawn: Of MNIST, for the capsules.
        jets: Collisions.
        epochs: On these, of 16.
        f1: Share of the paper's F1 scores that is to be reached.
        every: Mini-batches between two looks whether they are.
    """

    reports: GA
    collisions: GA
    residual: PBT
    capsules: PBT
    sentences: PBT
    images: int
    drawn: int
    jets: int
    epochs: int
    f1: float
    every: int


HOW: dict[str, Any] = {"mutation": 0.2, "initial": "default"}  # as the paper: the known ones, and mutants of them
SMALL = GA(population=3, generations=1, mutation=0.4)
QUICK = Size(
    SMALL, SMALL, PBT(population=2, max_budget=2, **HOW), PBT(population=2, max_budget=2, **HOW),
    PBT(population=2, max_budget=3, **HOW), images=500, drawn=250, jets=500, epochs=1, f1=0.5, every=10,
)  # fmt: skip
CORES = Size(
    GA(population=8, generations=5, mutation=0.4), GA(population=16, generations=8, mutation=0.4),
    PBT(population=16, max_budget=10, window=2, **HOW), PBT(population=16, max_budget=8, window=2, **HOW),
    PBT(population=16, max_budget=20, **HOW), images=2000, drawn=1250, jets=2500, epochs=4, f1=1, every=50,
)  # fmt: skip


def error(result: Result) -> float:
    """Share of wrong answers on the test set, in percent."""
    assert result.fitness is not None, result.error
    return 100 * (1 - result.fitness)


def parts(size: Size) -> dict[str, Part]:
    """All of them."""
    reports = TimeToAccuracy(
        network=p3b1.problem(), measure="cpu_seconds", every=size.every, warm_up=size.every, max_iterations=1500,
        thresholds={f"val_f1_{kind}_{task}": size.f1 * least for (kind, task), least in F1.items()},
    )  # fmt: skip
    return {
        "p3b1": Part(
            "P3B1 on made-up reports", f"1,000 reports, {size.f1:g} × the paper's six F1 scores",
            "seconds of CPU", reports, size.reports, lambda result: result.metrics["cpu_seconds"],
        ),
        "rpv": Part(
            "RPV on made-up collisions", f"{size.jets:,} images of 24 × 24, {size.epochs} of 16 epochs",
            "test error (%)", rpv.problem(train=size.jets, splits=5, epochs=size.epochs, score="loss"), size.collisions,
            error,
        ),
        "resnet": Part(
            "ResNet-8 on MNIST",
            f"instead of CIFAR-10, one block per stage instead of three, {size.images:,} images, half to validate",
            "test error (%)", resnet20.problem(data="mnist", train=size.images, splits=2, batch_size=32, score="loss"),
            size.residual, error, fixed={"blocks": 1},
        ),
        "capsnet": Part(
            "Capsules on MNIST", f"instead of CIFAR-10, 8 filters instead of 32, {size.drawn:,} images",
            "test error (%)", capsnet.problem(data="mnist", train=size.drawn, splits=5, batch_size=32, score="loss"),
            size.capsules, error, fixed={"filters": 8},
        ),
        "seq2seq": Part(
            "Translation of made-up sentences", "1,553 sentences of six words", "perplexity",
            seq2seq.problem(score="perplexity", splits=5), size.sentences,
            lambda result: math.exp(result.metrics["test_loss"]), fitness="perplexity",
        ),
    }  # fmt: skip


# --- tables 1 and 2


def reshape(name: str, part: Part, seeds: int, slots: int, folder: Path) -> dict[str, Any]:
    """Search for another network; what the known one and the found one do."""
    job = Job(name=name, problem=part.problem, optimizer=part.optimizer, time_limit=900, test=False, seed=1)
    assert job.space is not None
    original = job.space.defaults()
    found = run(job, slots=slots, store=str(folder / f"{name}.db"), progress=False)
    assert original is not None and found.best is not None, "no training has succeeded"
    networks = {"original": original, "evolved": found.best.params}
    results = asyncio.run(scores(job, networks, seeds, slots))
    return {
        "params": networks,
        "parameters": {network: each[0].metrics.get("parameters") for network, each in results.items()},
        **{network: [part.score(each) for each in rows if each.status == "ok"] for network, rows in results.items()},
    }


def show_reshaped(name: str, part: Part, found: dict[str, Any]) -> None:
    """Table 1 or 2."""
    title = f"{part.title}: {part.caption}, mutation 0.4; {len(found['original'])} trainings each"
    made = table(title, ("", "original", "the paper's", "ours"))
    original, evolved = found["params"].values()
    for key, value in original.items():
        values = (value, OPTIMISED[name].get(key, "?"), evolved[key])
        made.add_row(key, *(f"{each:.3g}" if isinstance(each, float) else str(each) for each in values))
    made.add_section()
    before, after = (f"{number:,.0f}" for number in found["parameters"].values())
    made.add_row("parameters", before, "", after)
    console.print(made)


# --- figures 9, 11 and 13


async def train(name: str, part: Part, seeds: int, slots: int, folder: Path) -> dict[str, Any]:
    """PBT and fixed hyper-parameters at every seed."""
    space = {**part.problem.space, **part.fixed}
    every: dict[str, list[Run]] = {"original": [], "evolved": []}
    async with embedded(local_slots(slots)) as client:
        for seed in range(1, seeds + 1):
            fields: dict[str, Any] = {"problem": part.problem, "space": space, "time_limit": 900, "seed": seed}
            evolving = Job(name=f"{name}-pbt-{seed}", optimizer=part.optimizer, **fields)
            plain = Job(name=f"{name}-fixed-{seed}", optimizer=followed(evolving), **fields)
            for kind, job in {"evolved": evolving, "original": plain}.items():
                every[kind].append(found := await searched(job, client, folder))
                console.print(f"{job.name}: {part.merit} {part.score(found.tests[0]):.2f}")
    schedules = {kind: [each.schedule for each in runs] for kind, runs in every.items()}
    names, defaults = evolving.space.names, evolving.space.defaults()
    return {
        **{kind: [part.score(each.tests[0]) for each in runs] for kind, runs in every.items()},
        "curves": {kind: [each["fitness"].tolist() for each in those] for kind, those in schedules.items()},
        "schedules": {hyper: [each[hyper].tolist() for each in schedules["evolved"]] for hyper in names},
        "defaults": {hyper: defaults[hyper] for hyper in names},
        "slopes": {hyper: [slope(each, hyper) for each in schedules["evolved"]] for hyper in names},
    }


def followed(job: Job, hyper: str = "", factor: float = 1.0) -> Replay:
    """One training of as many epochs as a network of the population has, at the defaults.

    One hyper-parameter may change: from epoch to epoch by the same ratio, up to ``factor`` times its default.
    """
    assert isinstance(job.optimizer, PBT) and job.space is not None
    defaults = job.space.defaults()
    assert defaults is not None
    epochs = job.optimizer.generations
    steps = []
    for epoch in range(1, epochs + 1):
        moved = {hyper: defaults[hyper] * factor ** ((epoch - 1) / (epochs - 1))} if hyper else {}
        steps.append({"budget": epoch, "params": {**defaults, **moved}})
    return Replay(steps=steps)


async def shapes(name: str, part: Part, seeds: int, slots: int, folder: Path) -> dict[str, Any]:
    """Merits of networks whose hyper-parameter falls, and of those where it rises, at every seed."""
    space, hyper = {**part.problem.space, **part.fixed}, SHAPES[name]
    factors = {"falls": 1 / FACTOR, "rises": FACTOR}
    found: dict[str, Any] = {"hyper": hyper, "factor": FACTOR, **{shape: [] for shape in factors}}
    async with embedded(local_slots(slots)) as client:
        for seed in range(1, seeds + 1):
            fields: dict[str, Any] = {"problem": part.problem, "space": space, "time_limit": 900, "seed": seed}
            known = Job(name=name, optimizer=part.optimizer, **fields)
            jobs = [
                Job(name=f"{name}-{shape}-{seed}", optimizer=followed(known, hyper, factor), **fields)
                for shape, factor in factors.items()
            ]
            ended = await asyncio.gather(*(searched(job, client, folder) for job in jobs))
            for shape, each in zip(factors, ended, strict=True):
                found[shape].append(score := part.score(each.tests[0]))
                console.print(f"{name}, {hyper} {shape}, seed {seed}: {part.merit} {score:.2f}")
    return found


def draw(name: str, part: Part, found: dict[str, Any]) -> None:
    """Fitness by epoch, the merits on the test set, then the schedules of the winners beside what is usual."""
    columns = 2 + len(found["defaults"])
    figure, (left, unseen, *others) = panels(3.2 * columns, 3.8, columns=columns)
    epochs = range(1, 1 + len(found["curves"]["original"][0]))
    bands = list(zip(*found["curves"]["original"], strict=True))
    left.fill_between(epochs, [*map(min, bands)], [*map(max, bands)], color=RED, alpha=0.15, lw=0)
    left.plot(epochs, [*map(statistics.mean, bands)], color=RED, label="fixed: mean, lowest, highest")
    evolved = list(zip(*found["curves"]["evolved"], strict=True))
    left.plot(epochs, [*map(statistics.mean, evolved)], color=GREEN, label="PBT: mean of the winners")
    left.set(xlabel="epoch", title=f"{part.fitness} on V", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    for pair in zip(found["original"], found["evolved"], strict=True):
        unseen.plot((0, 1), pair, color="gray", lw=0.8, alpha=0.6)
    for place, (kind, color) in enumerate((("original", RED), ("evolved", GREEN))):
        unseen.plot([place] * len(found[kind]), found[kind], "o", color=color, ms=5)
        unseen.plot(place, statistics.mean(found[kind]), "_", color=color, ms=26, mew=2)
    unseen.set_xticks((0, 1), ("fixed", "PBT"))
    title = part.merit if part.merit.startswith("test") else f"{part.merit} on the test set"
    unseen.set(title=title, xlim=(-0.5, 1.5))
    for axes, (hyper, default) in zip(others, found["defaults"].items(), strict=True):
        for each in found["schedules"][hyper]:
            axes.step(epochs, each, where="mid", color=BLUE, alpha=0.6)
        axes.axhline(default, color=RED, ls="--")
        axes.set(title=hyper, xlabel="epoch", yscale="linear" if hyper in ("routings", "dropout") else "log")
    seeds = f"{len(found['evolved'])} seeds; dashed: the defaults"
    figure.suptitle(f"Figure {FIGURES[name]}: {part.title}, {part.caption}, {seeds}", fontsize=10)
    write(figure, "recombination", f"figure-{FIGURES[name]}.png")


# --- table 4


def chance(found: dict[str, Any]) -> float | None:
    """Probability of so much less, or more, if evolution gained nothing; one-sided, None of a single training.

    Wilcoxon's signed ranks where each seed trains both from the same weights, else Mann and Whitney's.
    """
    evolved, original = found["evolved"], found["original"]
    if min(len(evolved), len(original)) < 2:
        return None
    test = wilcoxon if "slopes" in found else mannwhitneyu
    return float(f"{test(evolved, original, alternative='less').pvalue:.2g}")


def show(results: dict[str, Any]) -> None:
    """Table 4."""
    columns = ("network, data", "lowered", "original", "evolved", "less", "p", "the paper")
    made = table("Table 4: what evolution gains", columns, words=["lowered"])
    for name, found in results.items():
        runs = [found[kind] for kind in ("original", "evolved")]
        figures = [escape(ranged(each, ".2f", center=statistics.mean)) for each in runs]
        p = "" if found.get("p") is None else f"{found['p']:.2g}"
        made.add_row(found["title"], found["merit"], *figures, f"{100 * found['less']:.0f} %", p, TABLE_4[name])
    console.print(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = tuple(parts(CORES))
    parser.add_argument("--quick", action="store_true", help="2 or 3 networks, 1 seed; rpv and seq2seq alone")
    parser.add_argument("--parts", nargs="+", choices=(*known, "shapes"))
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--slots", type=positive, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="where the searches are kept")
    options = parser.parse_args()
    quiet_dask()
    seeds = 1 if options.quick else options.seeds
    every, results = parts(QUICK if options.quick else CORES), earlier("recombination", ["parts"]).get("parts", {})
    with stores("recombination", options.store) as folder:
        chosen = options.parts or (("rpv", "seq2seq") if options.quick else (*known, "shapes"))
        for name in (each for each in chosen if each != "shapes"):
            part = every[name]
            if name in FIGURES:
                found = asyncio.run(train(name, part, seeds, options.slots, folder))
            else:
                found = reshape(name, part, seeds, options.slots, folder)
                show_reshaped(name, part, found)
            less = 1 - statistics.mean(found["evolved"]) / statistics.mean(found["original"])
            about = {"title": part.title, "scale": part.caption, "merit": part.merit, "less": less, "p": chance(found)}
            kept = {"shapes": results[name]["shapes"]} if "shapes" in results.get(name, {}) else {}
            results[name] = {**about, **found, **kept}
            save("recombination", {"parts": {each: results[each] for each in known if each in results}})
            if name in FIGURES:
                draw(name, part, found)
        for name in SHAPES if "shapes" in chosen else ():
            if name in results:
                results[name]["shapes"] = asyncio.run(shapes(name, every[name], seeds, options.slots, folder))
                save("recombination", {"parts": {each: results[each] for each in known if each in results}})
    show(results)


if __name__ == "__main__":
    main()
