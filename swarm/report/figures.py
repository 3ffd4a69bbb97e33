"""Figures of a run for papers, by matplotlib: the same as in the report, as PNG and as PDF, whose lines scale.

::

    from swarm.report.figures import fitness
    fitness(Tables(Run.load("digits"))).savefig("fitness.pdf")
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.ticker import MaxNLocator

from swarm.plots.axes import Axis
from swarm.plots.charts import BLUE, CYCLE, GRAY, KINDS, ORANGE, PALETTE, PURPLE, RED, SKY, SOURCES
from swarm.report.tables import Tables
from swarm.runs.run import Run

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # as text, which publishers ask for
}
_DOTS = 100  # per inch, in a notebook
_WIDE, _HALF = (6.5, 3.2), (3.4, 2.5)  # inches: a page, a column
_MARKERS = {"trained": "o", "archive": "^", "in flight": "D"}


class Picture(Figure):
    """A figure that a notebook shows without pyplot."""

    def png(self) -> bytes:
        """The picture, as a file of that kind."""
        held = io.BytesIO()
        self.savefig(held, format="png", dpi=_DOTS)
        return held.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def save_all(run: Run, folder: Path) -> list[str]:
    """Write every figure that there is of a run into a folder, as PNG (300 dpi) and PDF; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with context([STYLE]):
        for name, figure in figures(Tables(run)):
            for kind in ("png", "pdf"):
                figure.savefig(folder / f"{_file_name(name)}.{kind}")
            names.append(name)
    return names


def _file_name(name: str) -> str:
    """The name of a figure, in which there may be a metric's, as the name of a file in its folder."""
    return re.sub(r"[^\w.-]+", "_", name)[:100]


def _text(label: str) -> str:
    """A label that is drawn as it is: between dollars there would be a formula."""
    return label.replace("$", r"\$")


def figures(tables: Tables) -> Iterator[tuple[str, Picture]]:
    """Every figure that there is of a run, with its name."""
    if not tables.points.empty:
        yield "fitness", fitness(tables)
        yield "hyper-parameters", hyperparameters(tables)
        if len(tables.axes) > 1:
            yield "search-space", parallel(tables)
        if not tables.run.job.optimizer.inherits and tables.importance is not None:
            yield "importance", importance(tables)
    if tables.history.by_generation:
        yield "archive", archive(tables)
        yield "time-saved", saved(tables)
        yield "archive-reads", per_generation(tables, "archive", "archive reads")
        yield "generation-seconds", per_generation(tables, "seconds", "seconds per generation")
    if not tables.trainings.empty:
        yield "slots", slots(tables)
    if tables.run.job.optimizer.inherits and tables.run.best is not None:
        yield "lineage", lineage(tables)
        if tables.schedule:
            yield "schedule", schedule(tables)
    for metric in tables.metrics:
        yield f"curves-{metric}", curves(tables, metric)
    if len(tables.folds) > 1:
        yield "fold-time", per_fold(tables, "wall", f"time per fold ({tables.fold_time.name})")
        yield "fold-shares", shares(tables)
        if tables.folds["test"].notna().any():
            yield "fold-test", per_fold(tables, "test", "test score", bars=False)


def fitness(tables: Tables) -> Picture:
    """Every trial as a point, and the range, mean and best so far over the generations."""
    figure, axes = _figure(_WIDE)
    bands = tables.bands
    axes.fill_between(bands["x"], bands["low"], bands["high"], color=SKY, alpha=0.25, lw=0, label="minimum to maximum")
    _dots(axes, tables, "x", size=14)
    axes.plot(bands["x"], bands["mean"], "--", color=GRAY, label="mean")
    axes.step(bands["x"], bands["best"], where="post", color=PURPLE, lw=2, label="best so far")
    axes.set(xlabel=tables.x_label, ylabel=_text(tables.fitness_label), yscale="log" if tables.log else "linear")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _legend(figure, axes)


def hyperparameters(tables: Tables) -> Picture:
    """What came of each value of each hyper-parameter, a panel each."""
    columns = min(3, len(tables.axes))
    rows = -(-len(tables.axes) // columns)
    figure = Picture(figsize=(6.5, 0.4 + 1.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for panel in list(panels)[len(tables.axes) :]:
        panel.remove()
    for panel, axis in zip(figure.axes, tables.axes, strict=True):
        _dots(panel, tables, axis.column, size=8, axis=axis)
        panel.set(xlabel=axis.name, yscale="log" if tables.log else "linear")
        if axis.scale == "log":
            panel.set_xscale("log")
        if axis.whole:
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.supylabel(_text(tables.fitness_label), fontsize=9)
    return figure


def parallel(tables: Tables) -> Picture:
    """Parallel coordinates: a line per configuration through its value on every axis; the colour is its fitness."""
    figure, axes = _figure(_WIDE)
    lines = LineCollection(
        [np.column_stack([x, y]) for x, y in zip(tables.lines["xs"], tables.lines["ys"], strict=True)],
        array=tables.lines["fitness"].to_numpy(),
        cmap=_palette(tables),
        norm=_norm(tables),
        lw=1,
        alpha=0.7,
    )
    axes.add_collection(lines)
    for i, axis in enumerate(tables.axes):
        axes.axvline(i, color="black", lw=0.8)
        for place, text in axis.ticks:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
            axes.text(i - 0.03, place, _text(text), ha="right", va="center", fontsize=7, bbox=box)
    axes.set(xlim=(-0.4, len(tables.axes) - 0.9), ylim=(-0.04, 1.04), yticks=[])
    axes.set_xticks(range(len(tables.axes)), [axis.name for axis in tables.axes])
    axes.spines["left"].set_visible(False)
    axes.grid(False)
    figure.colorbar(ScalarMappable(_norm(tables), _palette(tables)), ax=axes, label=_text(tables.fitness_label))
    return figure


def importance(tables: Tables) -> Picture:
    """How much each hyper-parameter mattered."""
    found = tables.importance
    assert found is not None
    figure, axes = _figure((3.4, 0.8 + 0.28 * len(found.table)))
    rows = found.table[::-1]
    axes.barh(rows["name"], rows["importance"], xerr=rows["deviation"], color=BLUE, ecolor=GRAY, height=0.6)
    axes.set(xlabel=f"loss of R² when shuffled (R² = {found.r2:.2f})")
    axes.grid(axis="y", visible=False)
    return figure


def archive(tables: Tables) -> Picture:
    """How the evaluations of each generation were answered."""
    figure, axes = _figure(_HALF)
    _stack(axes, tables.generations, "generation", width=0.9)
    axes.set(xlabel="generation", ylabel="evaluations")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return _legend(figure, axes)


def saved(tables: Tables) -> Picture:
    """Time that trainings have taken so far, and that answers without training have saved."""
    figure, axes = _figure(_HALF)
    rows = tables.generations
    axes.plot(rows["generation"], rows["spent"], color=BLUE, label="spent")
    axes.plot(rows["generation"], rows["saved"], "--", color=ORANGE, label="saved")
    axes.set(xlabel="generation", ylabel=f"training time ({tables.work.name})", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _legend(figure, axes)


def slots(tables: Tables) -> Picture:
    """Gantt chart: which slot trained what, and when."""
    figure, axes = _figure((6.5, 0.9 + 0.26 * len(tables.slots)))
    for kind, rows in tables.trainings.groupby("kind"):
        places = [tables.slots.index(slot) for slot in rows["slot"]]
        widths = rows["end"] - rows["start"]
        color, label = KINDS[str(kind)], str(kind)
        axes.barh(places, widths, left=rows["start"], height=0.8, color=color, edgecolor="white", lw=0.3, label=label)
    axes.set_yticks(range(len(tables.slots)), list(map(_text, tables.slots)))
    axes.invert_yaxis()
    axes.set(xlabel=f"time since the start ({tables.time.name})", xlim=(0, None))
    axes.grid(axis="y", visible=False)
    return _legend(figure, axes)


def lineage(tables: Tables) -> Picture:
    """Whose weights each network goes on from; the winner's line is thick."""
    figure, axes = _figure(_WIDE)
    rows = tables.lineage[tables.lineage["parent"].notna()]
    ends = rows[["parent_generation", "parent_member", "generation", "member"]].to_numpy(float).reshape(-1, 2, 2)
    axes.add_collection(LineCollection(list(ends), color=GRAY, lw=np.where(rows["winner"], 2.5, 0.6), zorder=1))
    rows = tables.lineage
    dots = axes.scatter(
        rows["generation"], rows["member"], c=rows["fitness"], cmap=_palette(tables), norm=_norm(tables), s=28, zorder=2
    )
    axes.set(xlabel="generation", ylabel="member of the population")
    axes.grid(False)
    figure.colorbar(dots, label=_text(tables.fitness_label))
    return figure


def schedule(tables: Tables) -> Picture:
    """Hyper-parameters over the training of PBT's winner, a panel each."""
    columns = min(3, len(tables.schedule))
    rows = -(-len(tables.schedule) // columns)
    figure = Picture(figsize=(6.5, 0.4 + 2.0 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[len(tables.schedule) :]:
        panel.remove()
    scales = {axis.name: axis.scale for axis in tables.axes}
    for panel, (name, steps) in zip(figure.axes, tables.schedule.items(), strict=True):
        panel.plot(steps["budget"], steps["mean"], "--", color=GRAY, label="population's mean")
        panel.step(steps["budget"], steps["value"], where="pre", color=PURPLE, lw=2, label="winner")
        panel.set(xlabel="budget", ylabel=name, yscale=scales[name])
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def curves(tables: Tables, metric: str) -> Picture:
    """What the trainings of the best configurations reported."""
    figure, axes = _figure(_HALF)
    for curve in tables.curves:
        if metric in curve.reports:
            axes.plot(curve.x, curve.reports[metric], color=CYCLE[curve.rank - 1], label=curve.label)
    axes.set(xlabel="epoch", ylabel=_text(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _legend(figure, axes, columns=2)


def per_fold(tables: Tables, column: str, label: str, *, bars: bool = True) -> Picture:
    """A column of :attr:`Tables.folds`, and its average as a line (figures 5, 6, 10 and 11 of the paper)."""
    figure, axes = _figure(_HALF)
    average = tables.folds[column].mean()
    if bars:
        axes.bar(tables.folds["fold"], tables.folds[column], width=0.7, color=BLUE)
    else:  # scores differ by little, which bars from zero would hide
        axes.plot(tables.folds["fold"], tables.folds[column], "o", color=BLUE)
    axes.axhline(average, color=RED, ls="--", label=f"average {average:.4g}")
    axes.set(xlabel="fold", ylabel=label)
    axes.grid(axis="x", visible=False)
    return _legend(figure, axes)


def shares(tables: Tables) -> Picture:
    """Share of the evaluations of each fold that were trained and not (figures 7 and 12, top)."""
    figure, axes = _figure(_HALF)
    _stack(axes, tables.folds, "fold", width=0.7)
    axes.set(xlabel="fold", ylabel="share of evaluations (%)", ylim=(0, 100))
    return _legend(figure, axes)


def per_generation(tables: Tables, column: str, label: str) -> Picture:
    """A column of :attr:`History.generations`, by fold and on average (figures 7, 8, 12 and 13 of the paper)."""
    figure, axes = _figure(_HALF)
    average, folds = tables.per_generation(column)
    for i, fold in enumerate(folds if len(folds) > 1 else []):
        axes.plot(fold["generation"], fold["value"], color=GRAY, lw=0.6, label=None if i else "each fold")
    axes.plot(average["generation"], average["value"], color=BLUE, label="average" if len(folds) > 1 else None)
    axes.set(xlabel="generation", ylabel=label, ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _legend(figure, axes) if len(folds) > 1 else figure


def _figure(size: tuple[float, float]) -> tuple[Picture, Axes]:
    figure = Picture(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Picture, axes: Axes, columns: int = 5) -> Picture:
    """Put the legend above the data."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)
    return figure


def _dots(axes: Axes, tables: Tables, column: str, *, size: float, axis: Axis | None = None) -> None:
    """The trials as points, by where their answers came from."""
    for source, color in SOURCES.items():
        rows = tables.points[tables.points["source"] == source]
        if rows.empty:
            continue
        x = rows[column]
        if axis is not None and axis.scale == "options":
            spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(x))
            x = x.map({option: i for i, option in enumerate(axis.options)}) + spread
            axes.set_xticks(range(len(axis.options)), list(map(_text, axis.options)))
        axes.scatter(x, rows["fitness"], s=size, color=color, marker=_MARKERS[source], alpha=0.7, lw=0, label=source)


def _stack(axes: Axes, rows: pd.DataFrame, x: str, width: float) -> None:
    """Bars of what was trained, read from the archive and joined in flight, on top of each other."""
    bottom = np.zeros(len(rows))
    for source, color in SOURCES.items():
        height = rows[source.replace(" ", "_")].to_numpy(float)
        axes.bar(rows[x], height, width, bottom=bottom, color=color, label=source)
        bottom += height


def _palette(tables: Tables) -> ListedColormap:
    """Dark is better."""
    return ListedColormap(PALETTE[::-1] if tables.run.job.sign < 0 else PALETTE)


def _norm(tables: Tables) -> Normalize:
    return (LogNorm if tables.log else Normalize)(*tables.fitness_range)
