"""The parts of a report that show figures, a section each, made of a run's tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from bokeh.models import ColumnDataSource

from swarm.plots import charts, paper
from swarm.report.page import Picture, Table, Text
from swarm.report.tables import MOST_POINTS, Tables
from swarm.store.records import Source
from swarm.trial import mean

_MOST_ROWS = 200
Part = Text | Table | Picture


def source(table: pd.DataFrame) -> ColumnDataSource:
    """Column data of a table, as Bokeh draws it."""
    return ColumnDataSource({str(name): table[name].to_numpy() for name in table.columns})


def number(value: float | None) -> str:
    """A number for people; a dash if there is none."""
    return "–" if value is None or pd.isna(value) else f"{value:.5g}"


def search(tables: Tables) -> Iterator[Part]:
    """Fitness over the search."""
    if tables.points.empty:
        return
    bands, points = tables.bands, tables.points
    plot = charts.fitness(
        source(points), source(bands), tables.axes, x_label=tables.x_label, y_label=tables.fitness_label, log=tables.log
    )
    every, means = tables.history.points, bands["mean"]
    thin = f" Of {len(every)} trials, {len(points)} are drawn." if len(points) < len(every) else ""
    said = "no trial meets the constraints"
    for _, best in every[every["trial"] == tables.history.best].iterrows():
        said = f"the best, {number(best['fitness'])}, is trial {best['trial']} of generation {best['generation']}"
    yield Picture(
        plot,
        f"The mean went from {number(means.iloc[0])} to {number(means.iloc[-1])}; {said}. Point at a trial to see its "
        f"hyper-parameters.{thin}",
    )
    if tables.history.by_generation:
        names = ["generation", "evaluations", "minimum", "mean", "maximum", "trained", "archive", "in flight", "failed"]
        yield Table("The same as a table", [*names, "seconds"], _generation_rows(tables), folded=True)


def _generation_rows(tables: Tables) -> list[list[str]]:
    rows = []
    for each in sorted(tables.run.state.generations.values(), key=lambda each: each.number)[:_MOST_ROWS]:
        known = each.told > each.failed
        fitness = [number(value) if known else "–" for value in (each.low, each.mean, each.high)]
        sources = [str(each.sources[one]) for one in Source]
        seconds = f"{each.lasted:.1f}"
        rows.append([str(each.number), str(sum(each.sources.values())), *fitness, *sources, str(each.failed), seconds])
    return rows


def hyperparameters(tables: Tables) -> Iterator[Part]:
    """What was tried, and what mattered."""
    if tables.points.empty:
        return
    points = source(tables.points)
    if len(tables.axes) > 1:
        palette = charts.PALETTE[::-1] if tables.run.job.sign < 0 else charts.PALETTE
        plot = charts.parallel(
            source(tables.lines), tables.axes, y_label=tables.fitness_label, palette=palette, log=tables.log
        )
        caption = "Every configuration is a line through its value on each axis; the best are drawn on top."
        yield Picture(plot, caption)
    yield from _importance(tables)
    best = tables.run.best.params if tables.run.best else {}
    for axis in tables.axes:
        caption = f"The best has {axis.name} {value(best[axis.name])}." if axis.name in best else axis.name
        yield Picture(charts.value(points, axis, y_label=tables.fitness_label, log=tables.log), caption, half=True)


def _importance(tables: Tables) -> Iterator[Part]:
    if tables.run.job.optimizer.inherits:
        yield Text(
            "Importance is not estimated: these hyper-parameters changed while the networks trained, so what a trial "
            "reached says little about its last ones."
        )
        return
    found = tables.importance
    if found is None:
        yield Text("Importance is not estimated: there are fewer than ten different configurations, or all are alike.")
        return
    table = found.table
    bars = table.assign(low=table["importance"] - table["deviation"], high=table["importance"] + table["deviation"])
    most = table.iloc[0]
    caption = (
        f"Permutation importance on a random forest: {most['name']} matters most ({most['importance']:.2f}). "
        f"{found.confidence}"
    )
    yield Picture(charts.importance(source(bars), list(table["name"])), caption)


def archive(tables: Tables) -> Iterator[Part]:
    """What was trained, what was saved."""
    rows, unit = tables.generations, tables.work
    if not tables.history.by_generation:
        return
    shares = rows[["trained", "archive", "in_flight"]].sum()
    text = ", ".join(f"{count} {str(name).replace('_', ' ')}" for name, count in shares.items())
    yield Picture(charts.archive(source(rows)), f"How evaluations were answered: {text}.", half=True)
    hours = tables.history.generations[["trained_hours", "saved_hours"]].max()
    on_gpus = ("GPU hours", f", at {tables.run.job.gpus:g} GPU per training")
    name, remark = on_gpus if tables.on_gpus else ("hours of CPU slots", "")
    spent, spared = hours["trained_hours"], hours["saved_hours"]
    caption = f"{spent:.3g} {name} were spent and {spared:.3g} saved{remark}."
    yield Picture(charts.saved(source(rows), unit=f"training time ({unit.name})"), caption, half=True)


def slots(tables: Tables) -> Iterator[Part]:
    """Who trained what, and when."""
    rows = tables.trainings
    if rows.empty:
        return
    unit, used = tables.time.name, tables.history.utilisation
    failed = int((rows["kind"] == "failed").sum())
    thin = f" The {MOST_POINTS} longest are drawn." if len(tables.history.trainings) > MOST_POINTS else ""
    shares = ", ".join(f"{name} {used[name]:.0%}" for name in tables.slots[:12])
    more = " and so on" if len(tables.slots) > 12 else ""
    caption = f"Who trained what, and when; {failed or 'none'} failed. Time spent training: {shares}{more}.{thin}"
    yield Picture(charts.slots(source(rows), tables.slots, unit=unit), caption)
    steps = charts.busy(source(tables.busy), len(tables.slots), unit=unit)
    yield Picture(steps, f"How many of the {len(tables.slots)} slots (dotted line) trained at a time.")


def lineage(tables: Tables) -> Iterator[Part]:
    """Where the networks of a population come from, and the schedule that it found; nothing for other methods."""
    if not tables.run.job.optimizer.inherits or tables.run.best is None:
        return
    rows, palette = tables.lineage, charts.PALETTE[::-1] if tables.run.job.sign < 0 else charts.PALETTE
    edges = rows[rows["parent"].notna()].assign(width=lambda each: each["winner"].map({True: 4.0, False: 1.0}))
    nodes = rows.assign(parent=rows["parent"].map(lambda value: "nothing" if pd.isna(value) else f"trial {value:.0f}"))
    places = ["generation", "member", "fitness", "trial", "parent"]
    plot = charts.lineage(
        source(nodes[places]),
        source(edges[["generation", "member", "parent_generation", "parent_member", "width"]]),
        y_label=tables.fitness_label,
        palette=palette,
        log=tables.log,
    )
    first = tables.history.trials.set_index("trial").loc[rows.loc[rows["winner"], "trial"].min()]
    yield Picture(
        plot,
        "Each line leads from a network to one that went on with its weights. The winner's, thick, began as member "
        f"{first['member']} of generation {first['generation']}.",
    )
    for name, steps in tables.schedule.items():
        log = next(axis.scale for axis in tables.axes if axis.name == name) == "log"
        first_value, last_value = number(steps["value"].iloc[0]), number(steps["value"].iloc[-1])
        caption = f"The winner's {name} went from {first_value} to {last_value}."
        yield Picture(charts.schedule(source(steps), name=name, log=log), caption, half=True)


def curves(tables: Tables) -> Iterator[Part]:
    """Learning curves of the best few."""
    for metric in tables.metrics:
        curves = [each for each in tables.curves if metric in each.reports]
        lines = {
            "xs": [each.x for each in curves],
            "ys": [each.reports[metric].to_numpy(float) for each in curves],
            "label": [each.label for each in curves],
            "color": [charts.CYCLE[each.rank - 1] for each in curves],
        }
        caption = f"{metric} of the {len(curves)} best configurations, epoch by epoch."
        yield Picture(charts.curves(ColumnDataSource(lines), metric=metric), caption, half=len(tables.metrics) > 1)


def paper_figures(tables: Tables) -> Iterator[Part]:
    """Figures 5 to 8 and 10 to 13 of the paper on parallel PSO; figures 5 and 10 with the folds as points."""
    folds, unit, several = tables.folds, tables.fold_time.name, len(tables.folds) > 1
    yield Text(
        "The measures of “Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization”"
        + (": each fold has its own swarm, and the swarms share the slots." if several else " (its figures 5 to 8).")
    )
    names = list(folds["fold"])
    scores = folds.dropna(subset="test")
    if len(scores) > 1:
        found = [result.fitness for result in tables.run.tests.values() if result.fitness is not None]
        low, average, high = min(found), mean(found), max(found)
        plot = paper.per_fold(
            source(scores[["fold", "test"]].rename(columns={"test": "value"})),
            list(scores["fold"]),
            float(scores["test"].mean()),
            title="Test score of each fold's best",
            y_label="test score",
            bars=False,
        )
        yield Picture(
            plot,
            f"Minimum {number(low)}, mean {number(average)}, maximum {number(high)} (figures 5 and 10).",
            half=True,
        )
    if several:
        for column, what in (("wall", "from its first question to its last answer"), ("training", "of training")):
            plot = paper.per_fold(
                source(folds[["fold", column]].rename(columns={column: "value"})),
                names,
                folds[column].mean(),
                title=f"Time per fold, {what}",
                y_label=f"time ({unit})",
            )
            caption = f"{folds[column].mean():.3g} {unit} per fold on average, {what} (figures 6 and 11)."
            yield Picture(plot, caption, half=True)
        caption = (
            f"{folds['trained'].mean():.0f} % were trained, all else was answered without (figures 7 and 12, top)."
        )
        yield Picture(
            paper.shares(source(folds[["fold", "trained", "archive", "in_flight"]]), names), caption, half=True
        )
    if tables.history.by_generation:
        yield from _paper_generations(tables)


def _paper_generations(tables: Tables) -> Iterator[Part]:
    figures = (
        ("archive", "Archive reads per generation", "archive reads", "figures 7 and 12, bottom"),
        ("seconds", "Time per generation", "seconds", "figures 8 and 13"),
    )
    for column, title, label, where in figures:
        average, each = tables.per_generation(column)
        lines = {
            "xs": [one["generation"].to_numpy() for one in each],
            "ys": [one["value"].to_numpy(float) for one in each],
        }
        folds = ColumnDataSource(lines) if len(each) > 1 else None
        plot = paper.per_generation(source(average), folds, title=title, y_label=label)
        caption = f"{average['value'].mean():.3g} {label} per generation on average ({where})."
        yield Picture(plot, caption, half=True)


def values(tables: Tables, trial: int, names: list[str]) -> list[str]:
    """Values of these hyper-parameters in a trial, for people."""
    params = tables.history.params[trial]
    return [value(params[name]) if name in params else "–" for name in names]


def value(value: Any) -> str:
    """A value of a hyper-parameter for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
