"""Best found against the number of evaluations: every method of ours, beside Optuna, PySwarms and DEAP.

    pip install -r benchmarks/peers/requirements-peers.txt  # in an environment of its own; what is absent is left out
    python benchmarks/peers/quality.py [--quick] [--evaluations 120] [--seeds 21]

Functions  Sphere, Rosenbrock, Rastrigin and Ackley over 2 (a real, a log-real) and 5 (2 reals, 2 integers, a log-real)
           hyper-parameters, their lowest value 0 at a place of the space that the seed picks; and validation loss in
           the table of trained networks of benchmarks/peers/digits_table.py (nearest configuration).
alone      One evaluation at a time, ours and the peers. All meet the same places of the optimum.
slots      Ours on 6 and 16 emulated slots (VirtualPool) with log-normal durations (median 60 s, sigma 0.6): results
           come out of order.
swarms     PSO and AsyncPSO on as many slots as particles: after as many evaluations; and after the virtual time that
           PSO took for them, where a tenth of all trainings takes ten times as long.

An evaluation is one of the full budget; a method with smaller budgets pays budget/full of one, and a promoted
configuration pays its whole budget. Only losses at the full budget count as found. On the table a budget is an epoch
(1 or 3). On the others budgets of 1 and 3 ninths shift the optimum (by up to a tenth of a range) and are noisy: what
they stand for is emulated. Nothing is answered from an archive: a position that is met again costs again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from scipy.stats import bootstrap, rankdata, wilcoxon

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.peers.digits_table import grid_points
from benchmarks.peers.quality_functions import Array, Function, Record, Spent, functions
from benchmarks.peers.quality_peers import PARTICLES, PEERS, installed
from benchmarks.shared.numbers import bracketed, quartiles
from benchmarks.shared.pictures import hide_empty, legend_below, panels, write
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, table
from swarm.optimizers import (
    BOHB,
    GA,
    OPTIMIZERS,
    PSO,
    TPE,
    AsyncPSO,
    Grid,
    Hyperband,
    Optimizer,
    Random,
    Staged,
    SurrogatePSO,
)
from swarm.pool.virtual import VirtualPool
from swarm.trial import Evaluation

CONSTRICTED = {"inertia": 0.7298, "cognitive": 1.49618, "social": 1.49618}  # Clerc and Kennedy, 2002
PAPER: dict[str, Any] = {"inertia": 0.5, "cognitive": 0.5, "social": 0.5, "velocity": "uniform"}
TICKS = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120)  # evaluations at which the curves are written down
HARD = ("rosenbrock 5-D", "rastrigin 5-D", "digits")  # for the parts on slots
QUICK = ("rosenbrock 2-D", "rastrigin 5-D", "digits")
SHOWN = (
    "PSO",
    "PSO w=0.73",
    "AsyncPSO",
    "GA",
    "TPE",
    "BOHB",
    "Hyperband",
    "Staged",
    "Random",
    "Grid",
)  # in the pictures
PACKAGES = ("optuna", "cmaes", "pyswarms", "deap", "matplotlib", "scipy")

Curves = dict[str, dict[str, Array]]  # by function and method: best so far (seeds, evaluations)


# --- who searches, and how


def ours(function: Function, evaluations: int) -> dict[str, Optimizer]:
    """Every method of the registry, with options for so many evaluations, and variants of the swarms."""
    turns = {"particles": PARTICLES, "generations": math.ceil(evaluations / PARTICLES) - 1}
    # Its mutations of a tenth are for populations of a hundred: a small one needs many of them.
    children = {"population": 10, "generations": math.ceil(evaluations / 10) - 1, "mutation": 0.5, "elite": 1}
    full = function.budgets[-1]
    stages = [[b, round(evaluations / len(function.budgets) * full / b)] for b in function.budgets]
    budgets = {"min_budget": function.budgets[0], "max_budget": full, "iterations": evaluations}
    methods: dict[str, Optimizer] = {
        "SurrogatePSO": SurrogatePSO(trials=evaluations),
        "PSO": PSO.paper(**turns, known="again"),
        "PSO w=0.73": PSO(**turns, **CONSTRICTED),
        "AsyncPSO": AsyncPSO(**turns, **PAPER),
        "AsyncPSO w=0.73": AsyncPSO(**turns, **CONSTRICTED),
        "AsyncPSO koh": AsyncPSO.koh(**turns),
        "AsyncPSO venter": AsyncPSO.venter(**turns),
        "GA": GA(**children, initial="uniform", scale="rank"),
        "Random": Random(trials=evaluations),
        "Grid": Grid(points=grid_points(function.space, evaluations), shuffle=True),
        "Staged": Staged(stages=stages, patience=None),
        "TPE": TPE(trials=evaluations),
        "Hyperband": Hyperband(**budgets),
        "BOHB": BOHB(**budgets),
    }
    return methods


def alone(optimizer: Optimizer, function: Function, seed: int, most: int) -> Record:
    """One evaluation at a time."""
    record, optimizer = Record(function.objective(seed), most), optimizer.start(function.space, seed=seed)
    with contextlib.suppress(Spent):
        while not optimizer.done:
            trial = optimizer.ask()
            assert trial is not None
            optimizer.tell(trial, record(trial.params, (trial.budget or function.budgets[-1]) / function.budgets[-1]))
    return record


async def on_slots(
    optimizer: Optimizer, function: Function, seed: int, most: float, *, slots: int, straggle: float = 0.0,
    until: float = math.inf,
) -> Record:  # fmt: skip
    """On emulated slots: a position follows from what has been told when a slot becomes free.

    Args:
        optimizer: The method.
        function: What it minimises.
        seed: Of the method, the function and the durations.
        most: Evaluations that count.
        slots: Number of slots.
        straggle: Share of the trainings that take ten times as long.
        until: Virtual seconds after which nothing is asked.
    """
    record, optimizer = Record(function.objective(seed), most), optimizer.start(function.space, seed=seed)
    full = function.budgets[-1]

    def seconds(evaluation: Evaluation) -> float:
        rng = np.random.default_rng([seed, evaluation.seed])
        slow = 10.0 if rng.random() < straggle else 1.0
        return slow * 60.0 * (evaluation.budget or full) / full * math.exp(0.6 * rng.standard_normal())

    pool = VirtualPool(slots, lambda e: record(e.params, (e.budget or full) / full, pool.now), seconds)
    trials = {}
    with contextlib.suppress(Spent):
        while not optimizer.done and pool.now < until:
            while pool.free() and (trial := optimizer.ask()) is not None:
                evaluation = Evaluation.of(function.name, trial.params, budget=trial.budget, salt=str(trial.id))
                trials[evaluation.key] = trial
                pool.submit([evaluation])
            for result in await pool.next():
                optimizer.tell(trials.pop(result.key), result.fitness)
    return record


# --- what is measured


def cell(values: Any, low: Any = None, high: Any = None) -> str:
    """Median and quartiles, or any three numbers, for a table."""
    return escape(bracketed(*(quartiles(values) if low is None else (values, low, high)), ".2g"))


def short(values: Any) -> list[float | None]:
    """Numbers for a file: four significant digits, None for inf."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in np.atleast_1d(values)]


def compare(chosen: list[Function], evaluations: int, seeds: int) -> Curves:
    """Every method and peer, one evaluation at a time."""
    peers = installed()
    for name in PEERS.keys() - peers.keys():
        console.print(f"{name}: not installed, left out")
    curves: Curves = {}
    for function in chosen:
        records = {
            name: [alone(optimizer, function, seed, evaluations) for seed in range(seeds)]
            for name, optimizer in ours(function, evaluations).items()
        }
        for name, search in peers.items():
            records[name] = [Record(function.objective(seed), evaluations) for seed in range(seeds)]
            for seed, record in enumerate(records[name]):
                with contextlib.suppress(Spent):
                    search(function.space, record, seed, evaluations)
        curves[function.name] = {
            name: np.array([record.curve(evaluations) for record in found]) for name, found in records.items()
        }
    return curves


def show(curves: Curves, evaluations: int, seeds: int) -> None:
    """Print the tables of :func:`compare`."""
    for part in ("2-D", "5-D", "digits"):
        columns = {name: found for name, found in curves.items() if name.endswith(part)}
        names = list(next(iter(columns.values())))
        medians = np.array([[quartiles(found[name][:, -1])[0] for name in names] for found in columns.values()])
        ranks = rankdata(medians, axis=1).mean(axis=0)
        title = escape(f"best loss after {evaluations} evaluations: median [quartiles] of {seeds} seeds")
        made = table(title, ("method", *columns, "mean rank"))
        for i, name in enumerate(names):
            cells = [cell(found[name][:, -1]) for found in columns.values()]
            bold = [
                f"[bold]{text}[/]" if row[i] == row.min() else text for text, row in zip(cells, medians, strict=True)
            ]
            made.add_row(name, *bold, f"{ranks[i]:.1f}", end_section=names[i + 1 : i + 2] == [next(iter(PEERS))])
        console.print(made)


def curve_rows(curves: Curves, evaluations: int) -> list[dict[str, Any]]:
    """Final losses of all seeds and the quartiles on the way, for the file."""
    ticks = np.array([tick for tick in TICKS if tick <= evaluations]) - 1
    return [
        {"function": function, "method": name, "peer": name in PEERS, "final": short(x[:, -1])}
        | {key: short(q[ticks]) for key, q in zip(("median", "q25", "q75"), quartiles(x), strict=True)}
        for function, found in curves.items()
        for name, x in found.items()
    ]


async def on_many_slots(chosen: list[Function], curves: Curves, evaluations: int, seeds: int) -> list[dict[str, Any]]:
    """Ours on 6 and 16 slots after as many evaluations as alone."""
    columns = ("method", *(f"{f.name}, {n}" for f in chosen for n in (1, 6, 16)), "hours on 6", "on 16")
    made = table(f"median of the best loss after {evaluations} evaluations on 1, 6 and 16 slots", columns)
    rows = []
    for name in ours(chosen[0], evaluations):
        cells, hours = [], {}
        for function in chosen:
            cells.append(f"{quartiles(curves[function.name][name][:, -1])[0]:.2g}")
            search = partial(on_slots, ours(function, evaluations)[name], function, most=evaluations)
            for slots in (6, 16):
                found = [await search(seed=seed, slots=slots) for seed in range(seeds)]
                bests = [record.steps[-1][2] for record in found]
                hours[slots] = statistics.median(record.steps[-1][1] for record in found) / 3600
                cells.append(f"{quartiles(bests)[0]:.2g}")
                row = {"method": name, "function": function.name, "slots": slots, "hours": round(hours[slots], 3)}
                rows.append(row | {"final": short(bests)})
        made.add_row(name, *cells, f"{hours[6]:.2f}", f"{hours[16]:.2f}")
    console.print(made)
    console.print("hours: virtual time of the evaluations on the last function, median; a swarm of 6 uses 6 slots.")
    return rows


Pairs = list[tuple[Record, Record]]  # PSO and AsyncPSO, by seed


async def duel(function: Function, slots: int, options: dict[str, float], most: int, seeds: int) -> tuple[Pairs, Pairs]:
    """PSO and AsyncPSO at equal evaluations; and with stragglers, until PSO has made its evaluations."""
    turns = math.ceil(most / slots) - 1
    sync = PSO(particles=slots, generations=turns, **options)
    free = AsyncPSO(particles=slots, generations=100 * turns, **options)
    go = partial(on_slots, function=function, slots=slots)
    even, late = [], []
    for seed in range(seeds):
        even.append((await go(sync, seed=seed, most=most), await go(free, seed=seed, most=most)))
        waiting = await go(sync, seed=seed, most=most, straggle=0.1)
        until = waiting.steps[-1][1]
        late.append((waiting, await go(free, seed=seed, most=math.inf, straggle=0.1, until=until)))
    return even, late


async def swarms(chosen: list[Function], most: int, seeds: int) -> tuple[list[dict[str, Any]], dict[Any, Pairs]]:
    """PSO against AsyncPSO: rows for the file, and the runs with stragglers by constants, function and slots."""
    title = escape(f"PSO and AsyncPSO, a particle per slot: median [95 % bootstrap] of {seeds} seeds")
    columns = ("function", "w", "slots", "at equal", "PSO", "AsyncPSO", "lower / higher", "p", "evaluations")
    made = table(title, columns, words=["at equal"])
    rows, runs = [], {}
    for function in chosen:
        for w, options in (("0.5", PAPER), ("0.73", CONSTRICTED)):
            for slots in (6, 16):
                even, late = await duel(function, slots, options, most, seeds)
                runs[w, function.name, slots] = late
                for kind, found in (("evaluations", even), ("time, stragglers", late)):
                    row = {"function": function.name, "w": w, "slots": slots, "equal": kind, **verdict(found, kind)}
                    rows.append(row)
                    made.add_row(
                        function.name, w, str(slots), kind, cell(*row["pso"]), cell(*row["async"]),
                        f"{row['lower']} / {row['higher']}", f"{row['p']:.3f}", f"{row['evaluations']:.0f}",
                    )  # fmt: skip
    console.print(made)
    console.print(
        f"PSO made {most} evaluations; evaluations: of AsyncPSO, median. lower / higher: seeds where AsyncPSO found a\n"
        "lower or a higher loss. p: two-sided Wilcoxon on log10 of the losses, paired by seed; no correction for the\n"
        "number of comparisons. w = 0.5 with φ = 0.5, w = 0.73 with φ = 1.5."
    )
    return rows, runs


def verdict(pairs: Pairs, kind: str) -> dict[str, Any]:
    """Medians with bootstrap intervals of both, and a paired test."""
    limits = [math.inf if kind == "evaluations" else sync.steps[-1][1] for sync, _ in pairs]
    bests = np.array([[record.at(limit) for record in pair] for pair, limit in zip(pairs, limits, strict=True)]).T
    difference = np.diff(np.log10(bests + 1e-12), axis=0)[0]
    row: dict[str, Any] = {}
    for name, values in zip(("pso", "async"), bests, strict=True):
        interval = bootstrap((values,), np.median, method="percentile", n_resamples=2000, rng=0).confidence_interval
        row |= {name: short([np.median(values), *interval]), f"{name}_final": short(values)}
    return row | {
        "lower": int((difference < 0).sum()),
        "higher": int((difference > 0).sum()),
        "p": float(wilcoxon(difference).pvalue) if difference.any() else 1.0,
        "evaluations": statistics.median(free.evaluations for _, free in pairs),
    }


# --- pictures


def draw_curves(curves: Curves, names: Sequence[str], file: str) -> None:
    """Best-so-far medians with quartile bands, a panel per function."""
    rows = math.ceil(len(curves) / 3)
    figure, axes = panels(16, 4.2 * rows, rows, 3)
    for axis, (function, found) in zip(axes, curves.items(), strict=False):
        for i, name in enumerate(name for name in names if name in found):
            middle, low, high = quartiles(found[name])
            x, colour = np.arange(1, len(middle) + 1), f"C{i}"
            axis.fill_between(x, low, high, color=colour, alpha=0.08, linewidth=0)
            axis.plot(x, middle, "--" if name in PEERS else "-", color=colour, label=name, linewidth=1.8)
        axis.set(title=function, yscale="log", xlabel="evaluations")
    finish(figure, axes, file)


def draw_swarms(runs: dict[Any, Pairs], file: str) -> None:
    """PSO and AsyncPSO with stragglers against virtual time."""
    names = list(dict.fromkeys(function for _, function, _ in runs))
    figure, axes = panels(4.5 * len(names), 8, 2, len(names))
    for (w, function, slots), late in runs.items():
        axis = axes[(6, 16).index(slots) * len(names) + names.index(function)]
        times = np.linspace(0, statistics.median(a.steps[-1][1] for a, _ in late), 300)
        for name, records in zip(("PSO", "AsyncPSO"), zip(*late, strict=True), strict=True):
            middle, low, high = quartiles([[record.at(when) for when in times] for record in records])
            colour = {"PSO": "C0", "AsyncPSO": "C1"}[name]
            style = "-" if w == "0.5" else ":"
            axis.fill_between(times / 3600, low, high, color=colour, alpha=0.1, linewidth=0)
            axis.plot(times / 3600, middle, style, color=colour, label=f"{name} w={w}", linewidth=1.8)
        axis.set(title=f"{function}, {slots} slots", yscale="log", xlabel="virtual hours")
    finish(figure, axes, file)


def finish(figure: Any, axes: Any, file: str) -> None:
    """Plain numbers on the axes, one legend for all panels; write the picture."""
    from matplotlib.ticker import LogFormatter

    for axis in axes:
        axis.yaxis.set_major_formatter(LogFormatter())
        axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    hide_empty(axes)
    figure.supylabel("best loss so far: median, quartiles")
    legend_below(figure, axes[0])
    write(figure, "quality", file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 seeds, 3 functions")
    parser.add_argument("--evaluations", type=int, default=120)
    parser.add_argument("--seeds", type=positive, default=21)
    options = parser.parse_args()
    evaluations, seeds = options.evaluations, 2 if options.quick else options.seeds
    chosen = [function for function in functions() if not options.quick or function.name in QUICK]
    hard = [function for function in chosen if function.name in HARD]
    covered = {type(optimizer).__name__ for optimizer in ours(chosen[0], evaluations).values()}
    for name in OPTIMIZERS.keys() - covered:
        console.print(f"{name}: left out, it has no options in ours()")
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # PySwarms leaves a log behind
        curves = compare(chosen, evaluations, seeds)
    show(curves, evaluations, seeds)
    slots = asyncio.run(on_many_slots(hard, curves, evaluations, seeds))
    versus, runs = asyncio.run(swarms(hard, 48 * math.ceil(evaluations / 48), seeds))  # whole generations of 6 and 16
    packages = {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    result = {
        "quick": options.quick, "evaluations": evaluations, "seeds": seeds, "packages": packages, "ticks": TICKS,
        "cpu_seconds": round(time.process_time() - began), "alone": curve_rows(curves, evaluations), "slots": slots,
        "swarms": versus,
    }  # fmt: skip
    console.print(f"{result['cpu_seconds']} s of one core")
    save("quality", result)
    draw_curves(curves, SHOWN, "quality-ours.png")
    draw_curves(curves, (*SHOWN[:2], "TPE", "BOHB", *PEERS), "quality-peers.png")
    draw_swarms(runs, "quality-swarms.png")


if __name__ == "__main__":
    main()
