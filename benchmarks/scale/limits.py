"""How many GPUs scheduler and master can keep busy: the model of docs/guides/scale.md, from its measured constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed.scheduler import heartbeat_interval
from matplotlib.figure import Figure

from benchmarks.shared.pictures import panels

FULL = 0.7  # of a core: above it, answers begin to wait
LENGTHS = {"1 s": 1.0, "10 s": 10.0, "1 min": 60.0, "10 min": 600.0, "1 h": 3600.0}
MOST = 10_000_000


@dataclass(frozen=True)
class Costs:
    """CPU seconds of a single core.

    Attributes:
        master: Of the master per evaluation.
        master_slope: Of the master per evaluation and worker.
        scheduler: Of the scheduler per evaluation.
        scheduler_slope: Of the scheduler per evaluation and worker.
        beat: Of the scheduler per heartbeat.
        idle: Of the scheduler per second, for itself.
    """

    master: float
    master_slope: float
    scheduler: float
    scheduler_slope: float
    beat: float
    idle: float

    def of_master(self, gpus: float, seconds: float) -> float:
        """The master's share of a core, with trainings of this length on so many GPUs."""
        return gpus / seconds * (self.master + self.master_slope * gpus)

    def of_scheduler(self, gpus: float, seconds: float) -> float:
        """The scheduler's share of a core; Dask has each worker beat the more rarely the more there are."""
        beats = gpus / heartbeat_interval(int(gpus))
        return gpus / seconds * (self.scheduler + self.scheduler_slope * gpus) + self.beat * beats + self.idle


def most(share: Callable[[float, float], float], seconds: float) -> int:
    """The largest number of GPUs, one per worker, at which this share of a core is not too much."""
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share(middle, seconds) <= FULL else (low, middle)
    return low


def table(costs: Costs) -> dict[str, dict[str, int]]:
    """Most GPUs of master and scheduler, by length of training."""
    return {
        name: {"master": most(costs.of_master, seconds), "scheduler": most(costs.of_scheduler, seconds)}
        for name, seconds in LENGTHS.items()
    }


def draw(result: dict[str, Any]) -> Figure:
    """What was measured, and what follows for the number of GPUs."""
    costs, rows = Costs(**result["costs"]), result["rows"]
    figure, (left, right) = panels(11, 4.2, columns=2)
    workers = [row["workers"] for row in rows]
    line = np.linspace(0, max(workers), 50)
    for name, start, slope, color, mark in (
        ("scheduler", costs.scheduler, costs.scheduler_slope, "C0", "o"),
        ("master", costs.master, costs.master_slope, "C1", "s"),
    ):
        left.plot(line, 1000 * (start + slope * line), color=color, lw=1)
        left.plot(workers, [row[f"{name}_ms"] for row in rows], mark, color=color, label=name)
    left.set(xlabel="workers", ylabel="CPU, ms per evaluation", ylim=(0, None), title="Measured, with straight lines")
    left.legend(frameon=False)
    lengths = np.geomspace(0.5, 10_000, 60)
    for name, share, color in (("scheduler", costs.of_scheduler, "C0"), ("master", costs.of_master, "C1")):
        right.loglog(lengths, [most(share, each) for each in lengths], color=color, label=f"{name} at {FULL:.0%}")
    either = [min(most(costs.of_scheduler, each), most(costs.of_master, each)) for each in lengths]
    right.fill_between(lengths, 1, either, color="C2", alpha=0.15, lw=0, label="both below")
    right.set(xlabel="length of a training", ylabel="GPUs", ylim=(10, 1e6), title="From the model")
    right.set_xticks(list(LENGTHS.values()), LENGTHS)
    right.set_xticks([], minor=True)
    right.legend(frameon=False)
    return figure
