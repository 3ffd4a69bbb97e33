"""A run's tables as its figures draw them, whichever library does: thinned out, in readable units, with labels."""

from __future__ import annotations

import math
import re
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from swarm.plots.axes import Axis, axes, columns, drawable
from swarm.plots.units import Unit, duration
from swarm.runs.history import History
from swarm.runs.importance import Importance, importance
from swarm.runs.run import Run
from swarm.runs.schedule import schedule_columns
from swarm.store.sql import Store

MOST_POINTS = 4000
_MOST_LINES, _BEST_LINES = 400, 100
_MOST_STEPS = 300
BEST_FEW = 5
_CURVES = ("val_accuracy", "val_loss", "accuracy", "loss")


@dataclass(frozen=True)
class Curve:
    """A learning curve: the trial with its rank among the best, and its reports, a row each."""

    rank: int
    trial: int
    fitness: float
    reports: pd.DataFrame

    @property
    def label(self) -> str:
        """What a legend says."""
        return f"{self.rank}. trial {self.trial} ({self.fitness:.5g})"

    @property
    def x(self) -> list[float]:
        """Epochs of the reports, or their numbers where they name no epoch."""
        return list(self.reports.get("epoch", pd.Series(range(1, len(self.reports) + 1))).astype(float))


class Tables:
    """What the figures of one run are drawn from; every table is made when it is asked for first.

    Args:
        run: The run, finished or not.
    """

    def __init__(self, run: Run) -> None:
        assert run.job.space is not None
        self.run, self.space = run, run.job.space
        with closing(Store(run.url, create=False)) as store:
            events = store.events(run.job.name)
            self.history = History(events, sign=run.job.sign, gpus=run.job.gpus, leaders=run.state.leaders)
            best = self.history.best_trials(BEST_FEW)
            curves = self.history.curves(store, best["trial"])
        ranked = enumerate(zip(best["trial"], best["fitness"], strict=True), start=1)
        self.curves = [Curve(i, trial, fitness, curves[trial]) for i, (trial, fitness) in ranked if trial in curves]

    @cached_property
    def axes(self) -> list[Axis]:
        """Of all searched hyper-parameters."""
        return axes(self.space)

    @property
    def fitness_label(self) -> str:
        """What fitness is."""
        fitness = self.run.job.fitness
        return fitness if isinstance(fitness, str) else next(iter(self.run.job.targets), "fitness")

    @cached_property
    def log(self) -> bool:
        """Whether fitness is a loss over so wide a range that it needs a logarithmic scale."""
        low, high = self.fitness_range
        return self.run.job.sign > 0 and 0 < 20 * low < high

    @property
    def fitness_range(self) -> tuple[float, float]:
        """Lowest and highest fitness, as they are drawn; NaN if there is none."""
        fitness = drawable(self.history.points["fitness"])
        return float(fitness.min()), float(fitness.max())

    @property
    def x_label(self) -> str:
        """What :attr:`points` and :attr:`bands` have as ``x``."""
        return "generation" if self.history.by_generation else "trial"

    @cached_property
    def bands(self) -> pd.DataFrame:
        """:attr:`History.bands`."""
        rows = self.history.bands
        return rows.assign(**{name: drawable(rows[name]) for name in ("low", "mean", "high", "best")})

    @cached_property
    def points(self) -> pd.DataFrame:
        """:attr:`History.points` with a column per axis, thinned out evenly; ``source`` as people write it."""
        rows = self.history.points
        every = math.ceil(max(1, len(rows)) / MOST_POINTS)
        rows = rows[(np.arange(len(rows)) % every == 0) | rows["is_best"].to_numpy()]
        values = columns(self.history.configurations, self.axes)
        points: pd.DataFrame = rows[["trial", "x", "fitness", "source"]].join(values, on="trial").reset_index(drop=True)
        source = [source.replace("_", " ") for source in points["source"]]
        return points.assign(fitness=drawable(points["fitness"]), source=source)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """Trials as lines over parallel axes, the best last: ``xs``, ``ys`` and the columns of :attr:`points`."""
        order = {trial: place for place, trial in enumerate(self.history.ordered(self.history.points)["trial"])}
        rows = self.points.sort_values("trial", key=lambda trials: trials.map(order), ascending=False)
        rows = rows.drop_duplicates([axis.column for axis in self.axes], keep="last")
        rest, best = rows.iloc[:-_BEST_LINES], rows.iloc[-_BEST_LINES:]
        rest = rest.iloc[:: math.ceil(max(1, len(rest)) / (_MOST_LINES - _BEST_LINES))]
        rows = pd.concat([rest, best], ignore_index=True)
        places = [self.space.encode(self.history.params[trial]) for trial in rows["trial"]]
        numbers = [np.arange(len(self.axes), dtype=float)] * len(rows)
        return rows.assign(xs=pd.Series(numbers, dtype=object), ys=pd.Series(places, dtype=object))

    @cached_property
    def time(self) -> Unit:
        """Unit of :attr:`trainings` and :attr:`busy`."""
        return Unit.of(self.history.end - self.history.start)

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """:attr:`History.trainings` in the unit of :attr:`time`, the longest if there are many.

        Also ``duration`` and ``note`` for people.
        """
        rows = self.history.trainings.nlargest(MOST_POINTS, "seconds").sort_values("start", ignore_index=True)
        fitness = rows["fitness"].map(lambda value: "" if pd.isna(value) else f"fitness {value:.5g}")
        rows = rows.assign(
            duration=rows["seconds"].map(duration), note=rows["error"].where(rows["error"].notna(), fitness)
        )
        rows = rows.assign(start=rows["start"] / self.time.seconds, end=rows["end"] / self.time.seconds)
        return rows[["slot", "start", "end", "kind", "trial", "duration", "note"]]

    @cached_property
    def slots(self) -> list[str]:
        """Names of the slots that trained, in order."""
        return sorted(self.history.utilisation.index, key=_natural)

    @property
    def on_gpus(self) -> bool:
        """Whether slots with GPUs trained, by their names."""
        return any(":gpu" in name for name in self.slots)

    @cached_property
    def busy(self) -> pd.DataFrame:
        """:attr:`History.busy` in the unit of :attr:`time`; where there are many changes, averages over a while."""
        rows = self.history.busy
        if len(rows) > _MOST_STEPS:
            worked = np.concatenate([[0.0], np.cumsum(rows["busy"].to_numpy()[:-1] * np.diff(rows["time"]))])
            times = np.linspace(rows["time"].iloc[0], rows["time"].iloc[-1], _MOST_STEPS + 1)
            busy = np.diff(np.interp(times, rows["time"], worked)) / np.diff(times)
            rows = pd.DataFrame({"time": times, "busy": np.append(busy, 0.0)})
        return rows.assign(time=rows["time"] / self.time.seconds)

    @cached_property
    def work(self) -> Unit:
        """Unit of the training time in :attr:`generations`."""
        rows = self.history.generations
        return Unit.of(max(rows["trained_seconds"].sum(), rows["saved_seconds"].sum()))

    @cached_property
    def generations(self) -> pd.DataFrame:
        """Over all folds: ``generation``, ``trained``, ``archive``, ``in_flight``, ``spent`` and ``saved`` so far."""
        rows = self.history.generations.groupby("generation")
        sums = rows[["trained", "archive", "in_flight"]].sum()
        seconds = rows[["trained_seconds", "saved_seconds"]].sum().cumsum() / self.work.seconds
        return sums.assign(spent=seconds["trained_seconds"], saved=seconds["saved_seconds"]).reset_index()

    @cached_property
    def lineage(self) -> pd.DataFrame:
        """:attr:`History.lineage`, the winner's line last."""
        rows = self.history.lineage.sort_values("winner", ignore_index=True)
        return rows.assign(fitness=drawable(rows["fitness"]))

    @cached_property
    def schedule(self) -> dict[str, pd.DataFrame]:
        """What PBT's winner was trained with, by searched number: ``budget``, ``value``, ``mean`` of the population."""
        table, named = self.run.schedule, schedule_columns(self.space)
        found = {}
        for axis in self.axes:
            if axis.scale != "options":
                column, average = named[axis.name]
                columns = {"budget": table["budget"], "value": table[column], "mean": table[average]}
                found[axis.name] = pd.DataFrame(columns).astype(float)
        return found

    @property
    def metrics(self) -> list[str]:
        """What the best trainings reported and is worth drawing, at most two metrics."""
        reported = {name for curve in self.curves for name in curve.reports.select_dtypes("number").columns}
        known = [name for name in _CURVES if name in reported]
        return (known or sorted(reported - {"epoch", "step"}))[:2]

    @cached_property
    def importance(self) -> Importance | None:
        """How much each hyper-parameter mattered; None where nothing can be said."""
        rows = self.history.points
        return importance(self.space, [self.history.params[trial] for trial in rows["trial"]], rows["fitness"])

    @cached_property
    def folds(self) -> pd.DataFrame:
        """One row per fold.

        Columns: ``fold`` (a text); ``trained``, ``archive``, ``in_flight`` (percent); ``training``, ``wall``
        (time in the unit of :attr:`fold_time`), ``test`` (score of its best on the test set, NaN if there is none).
        """
        rows = self.history.folds
        shares = 100 * rows[["trained", "archive", "in_flight"]].div(rows["evaluations"], axis=0)
        scores = {fold: result.fitness for fold, result in self.run.tests.items()}
        return shares.assign(
            fold=rows["fold"].astype(str).astype(object),
            training=rows["trained_seconds"] / self.fold_time.seconds,
            wall=rows["seconds"] / self.fold_time.seconds,
            test=drawable(rows["fold"].map(scores).astype(float)),
        )

    @cached_property
    def fold_time(self) -> Unit:
        """Unit of the times in :attr:`folds`."""
        return Unit.of(float(self.history.folds["seconds"].max()))

    def per_generation(self, column: str) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
        """A column of :attr:`History.generations` averaged over the folds, and for each fold.

        The tables have the columns ``generation`` and ``value``.
        """
        rows = self.history.generations.rename(columns={column: "value"})
        average = rows.groupby("generation")["value"].mean().reset_index()
        return average, [each[["generation", "value"]] for _, each in rows.groupby("fold")]


def _natural(text: str) -> list[str | int]:
    """Sorts slot-2 before slot-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]
