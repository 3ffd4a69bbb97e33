"""From 1 to N slots: strong and weak scaling, with and without a barrier, with and without the archive.

    python benchmarks/scale/scaling.py [--quick] [--seeds 5] [--parts strong weak archive gpus]

strong   The same search on 1 … 16 slots. Beside it stands its bound: of a swarm with generations, the sum over them of
         max(longest training, all trainings / slots); without, the same of all at once.
weak     Twice as many particles as slots, and as many generations each, so every slot has as much to do.
archive  A swarm on 8 slots in a space of 256 positions, with the archive and without.
gpus     Where there are GPUs, and only there: real trainings on 1 … N of them, a process each, and several on one;
         trainings per minute, and the most memory that was in use.

Slots are emulated in the first three: worker processes whose trainings sleep, log-normal (sigma 0.6, median 0.2 s), as
long as their position says, so that what has been trained tells how long others will take (longest first).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.scale.speedup import SPACE, makespan, sleeper
from benchmarks.shared.numbers import interval, spread
from benchmarks.shared.pictures import panels, write
from benchmarks.shared.repeated import searched
from benchmarks.shared.saving import earlier, positive, save
from benchmarks.shared.tables import console, print_table, table
from swarm import PSO, AsyncPSO, Integer, Job, Random, run
from swarm.cluster.connect import embedded
from swarm.config import quiet_dask
from swarm.optimizers import Optimizer
from swarm.plots.charts import BLUE, GRAY, ORANGE
from swarm.workers.node.gpu import gpus
from swarm.workers.node.supervisor import make_slots

PARTS = ("strong", "weak", "archive", "gpus")
COUNTS = (1, 2, 4, 8, 16)
METHODS = {"PSO": PSO, "AsyncPSO": AsyncPSO}
COLORS = {"PSO": BLUE, "AsyncPSO": ORANGE}
GENERATIONS = 4  # after the initial one
MEDIAN = 0.2
Row = dict[str, Any]


def job_of(name: str, optimizer: Optimizer, seed: int, **changes: Any) -> Job:
    fields = {"problem": sleeper(MEDIAN, "known"), "space": SPACE, "isolation": "thread", "test": False}
    return Job(**{"name": name, "optimizer": optimizer, "seed": seed, **fields, **changes})


async def scaled(part: str, counts: tuple[int, ...], seeds: int) -> list[Row]:
    """Both methods on so many slots each."""
    rows = []
    for slots in counts:
        particles = max(COUNTS) if part == "strong" else 2 * slots
        async with embedded(make_slots(slots=slots)) as client:
            for name, method in METHODS.items():
                for seed in range(1, seeds + 1):
                    with tempfile.TemporaryDirectory() as folder:
                        job = job_of("job", method(particles=particles, generations=GENERATIONS), seed)
                        history = (await searched(job, client, Path(folder))).history
                    row = makespan(history, slots)
                    if not job.start().generational:
                        row["bound"] = max(history["seconds"].max(), row["total"] / slots)
                    rows.append({"method": name, "slots": slots, "seed": seed, **row, "trained": len(history)})
        console.print(f"{part}: {slots} slots done", style="dim")
    return rows


async def archive(seeds: int) -> list[Row]:
    """The same swarm with the archive and without; without it every position is trained as often as it is visited."""
    rows = []
    space = {f"x{i}": Integer(0, 3) for i in range(4)}
    inner = sleeper(MEDIAN, "known")

    def train(params: Any, ctx: Any) -> float:
        return float(inner({name: (value + 0.5) / 4 for name, value in params.items()}, ctx))

    async with embedded(make_slots(slots=8)) as client:
        for seed in range(1, seeds + 1):
            for kept in (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    method = PSO(particles=16, generations=12)
                    job = job_of("job", method, seed, problem=train, space=space, archive=kept)
                    found = await searched(job, client, Path(folder))
                    history = found.history
                wall = history["end"].max() - history["start"].min()
                row = {"archive": kept, "seed": seed, "wall": wall}
                rows.append({**row, "evaluations": len(history), "trained": found.counts["trained"]})
    return rows


def on_gpus(quick: bool) -> list[Row]:
    """Real trainings: on one GPU, on two, … on all; and with one GPU for two, and for four of them."""
    names = [str(number) for number in range(len(gpus()))]
    layouts = [(count, 1.0) for count in range(1, len(names) + 1)] + [(1, 0.5), (1, 0.25)]
    rows = []
    for count, share in layouts:
        job = Job(
            name="job", problem="digits-cnn", options={"epochs": 2 if quick else 30}, test=False, seed=1,
            optimizer=Random(trials=4 * round(count / share) * (1 if quick else 4)), gpus_per_training=share,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, _Memory() as memory:
            history = run(job, gpus=",".join(names[:count]), store=f"{folder}/swarm.db", progress=False).history
        slots = round(count / share)
        history = history.sort_values("start").iloc[slots:]  # the first of each slot imports TensorFlow
        wall = history["end"].max() - history["start"].min()
        rows.append(
            {"gpus": count, "gpus_per_training": share, "per_minute": 60 * len(history) / wall, "mib": memory.most}
        )
    return rows


class _Memory:
    """The most memory in use on all GPUs together, in MiB, looked at ten times a second."""

    def __enter__(self) -> _Memory:
        self.most, self._ended = 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self._ended.wait(0.1):
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            self.most = max(self.most, sum(map(int, said.split())))


def by_slots(rows: list[Row], method: str, value: Any) -> dict[int, list[float]]:
    """Values of a method's runs by the number of slots."""
    mine = [row for row in rows if row["method"] == method]
    return {
        slots: [value(row) for row in mine if row["slots"] == slots] for slots in sorted({r["slots"] for r in mine})
    }


def weak_efficiency(rows: list[Row], method: str) -> dict[int, list[float]]:
    """Work done per slot and second, as a share of what one slot did on average."""
    rates = by_slots(rows, method, lambda row: row["total"] / row["slots"] / row["wall"])
    one = statistics.mean(rates[min(rates)])
    return {slots: [rate / one for rate in each] for slots, each in rates.items()}


def show(result: Mapping[str, list[Row]]) -> None:
    """The tables; a figure with ± is the mean and half of its 95 % interval."""
    if rows := result.get("strong"):
        columns = ("slots", *(f"{name}: {what}" for name in METHODS for what in ("speed-up", "bound / wall")))
        made = table("strong scaling: the same search on more slots (emulated)", columns)
        found = [by_slots(rows, name, lambda row: row["total"] / row["wall"]) for name in METHODS]
        close = [by_slots(rows, name, lambda row: row["bound"] / row["wall"]) for name in METHODS]
        for slots in found[0]:
            cells = [spread(each[slots]) for pair in zip(found, close, strict=True) for each in pair]
            made.add_row(str(slots), *cells)
        console.print(made)
    if rows := result.get("weak"):
        paces = [weak_efficiency(rows, name) for name in METHODS]
        print_table(
            "weak scaling: as much to do for every slot (emulated); 1 is the pace of one slot alone",
            ("slots", *METHODS),
            ((slots, *(spread(each[slots]) for each in paces)) for slots in paces[0]),
        )
    if rows := result.get("archive"):
        columns = ("archive", "evaluations", "trained", "seconds")
        made = table("a swarm of 16 in 256 positions, 8 slots (emulated)", columns)
        for kept in (True, False):
            mine = [row for row in rows if row["archive"] == kept]
            counts = (spread([row[name] for row in mine], ".1f") for name in ("evaluations", "trained", "wall"))
            made.add_row("yes" if kept else "no", *counts)
        console.print(made)
    if rows := result.get("gpus"):
        print_table(
            "real trainings (digits network)",
            ("GPUs", "GPUs per training", "trainings per minute", "most memory in use, MiB"),
            (
                (row["gpus"], f"{row['gpus_per_training']:g}", f"{row['per_minute']:.1f}", f"{row['mib']:,}")
                for row in rows
            ),
        )


def draw(result: Mapping[str, list[Row]]) -> None:
    """Both kinds of scaling as a figure."""
    figure, (strong, weak) = panels(9, 3.8, columns=2)
    for name in METHODS:
        speed = by_slots(result["strong"], name, lambda row: row["total"] / row["wall"])
        bound = by_slots(result["strong"], name, lambda row: row["total"] / row["bound"])
        strong.plot(list(bound), [statistics.mean(each) for each in bound.values()], ":", color=COLORS[name])
        for axes, values in ((strong, speed), (weak, weak_efficiency(result["weak"], name))):
            means, halves = zip(*(interval(each) for each in values.values()), strict=True)
            axes.errorbar(
                list(values), means, halves, fmt="o-", color=COLORS[name], label=name, capsize=3, markersize=4
            )
    strong.plot(COUNTS, COUNTS, color=GRAY, linewidth=1, zorder=0)
    strong.set(xlabel="slots", ylabel="speed-up", title="strong: dotted is the bound, grey the ideal")
    weak.axhline(1, color=GRAY, linewidth=1, zorder=0)
    weak.set(xlabel="slots", ylabel="pace per slot, one slot alone = 1", title="weak", ylim=(0, None))
    for axes in (strong, weak):
        axes.set_xscale("log", base=2)
        axes.set_xticks(COUNTS, map(str, COUNTS))
        axes.legend(frameon=False)
    strong.set_yscale("log", base=2)
    strong.set_yticks(COUNTS, map(str, COUNTS))
    write(figure, "scaling", "scaling.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 4 slots, one seed")
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    quiet_dask()
    seeds, counts = (1, (1, 4)) if options.quick else (options.seeds, COUNTS)
    result = earlier("scaling", PARTS)
    for part in options.parts:
        if part == "gpus" and not gpus():
            console.print("gpus: there is none here, left out")
            continue
        if part == "gpus":
            result[part] = on_gpus(options.quick)
        else:
            result[part] = asyncio.run(archive(seeds) if part == "archive" else scaled(part, counts, seeds))
    show(result)
    save("scaling", {**result, "median": MEDIAN, "generations": GENERATIONS})
    if {"strong", "weak"} <= result.keys():
        draw(result)


if __name__ == "__main__":
    main()
