"""What the page of fitness shows of several targets: the front that nobody dominates, and how its hypervolume grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div
from bokeh.plotting import figure

from swarm.dashboard.feed import Columns, replace
from swarm.dashboard.search.aside import Aside
from swarm.dashboard.search.words import text
from swarm.dashboard.theme import TABLE, tiled
from swarm.job.specification.merit import losses, targets_of, unmet
from swarm.optimizers.front import Losses, hypervolume, undominated
from swarm.plots.axes import Axis
from swarm.plots.charts import GRAY, RED, new_figure
from swarm.service.published.snapshot import Point, View
from swarm.trial import Direction

_MARKS = 40  # trials after which the hypervolume is worked out
_ROWS = 30  # of the table


class FrontPane:
    """Which trials nobody beats in all targets, while a search with several of them runs.

    Args:
        job: As :meth:`swarm.job.Job.to_dict` has it.
        axes: Its hyper-parameters.

    Attributes:
        root: What is shown: trials over the first two targets, the hypervolume, and the front as a table.
    """

    def __init__(self, job: Mapping[str, Any], axes: Sequence[Axis]) -> None:
        self._targets = several(job)
        self._constraints: Mapping[str, str] = job.get("constraints") or {}
        self._axes, self._drawn = axes, (-1, -1)
        self._others, self._best = ColumnDataSource(self._columns([])), ColumnDataSource(self._columns([]))
        self._grown = ColumnDataSource({"trials": [], "share": []})
        self._table = Div(disable_math=True, sizing_mode="stretch_width", stylesheets=[TABLE])
        self._aside: Aside[Columns] = Aside()
        self._beside = tiled([self._plane()])
        parts = [self._beside, self._table]
        self.root: LayoutDOM = column(*parts, sizing_mode="stretch_width", styles={"min-width": "0"})

    def draw(self, view: View) -> None:
        """Front and others, and what is known of its growth."""
        if self._drawn != (len(view.points), view.thinned):
            self._drawn = len(view.points), view.thinned
            self._points = [point for point in view.points if self._counts(point)]
            self._show()
        ordered = [self._losses(point) for point in sorted(self._points, key=lambda point: point.end)]
        if self._aside.ask(len(ordered), partial(growth, ordered)) and self._aside.found is not None:
            self._grown.data = self._aside.found
            if len(self._beside.children) == 1:  # a figure of nothing has no range
                self._beside.children = [*self._beside.children, self._growth()]

    def _show(self) -> None:
        places = set(undominated([self._losses(point) for point in self._points]))
        best = sorted((self._points[place] for place in places), key=self._losses)
        replace(self._best, self._columns(best))
        replace(self._others, self._columns([point for n, point in enumerate(self._points) if n not in places]))
        of = f"{len(best)} of {len(self._points)} trials are dominated by no other"
        self._table.text = f"<h4>The front: {of}</h4>{self._html(best[:_ROWS])}"

    def _losses(self, point: Point) -> Losses:
        return tuple(losses(point, self._targets, 1))

    def _counts(self, point: Point) -> bool:
        """Whether a trial can be on the front: it has all targets, and meets the constraints."""
        if point.fitness is None or not {*list(self._targets)[1:]} <= {*point.metrics}:
            return False
        return unmet(point, self._targets, self._constraints) is None

    def _values(self, point: Point) -> list[float]:
        """The targets of a trial, the first of which is its fitness."""
        found = losses(point, self._targets, 1)
        return [loss if each == "minimize" else -loss for loss, each in zip(found, self._targets.values(), strict=True)]

    def _columns(self, points: Sequence[Point]) -> Columns:
        values = [self._values(point) for point in points]
        return {
            "trial": [point.trial for point in points],
            **{f"target {n}": [each[n] for each in values] for n in range(len(self._targets))},
        }

    def _plane(self) -> figure:
        names = list(self._targets)
        x, y = (f"{name} ({self._targets[name]})" for name in names[:2])
        plot = new_figure("The front", height=420, x_axis_label=x, y_axis_label=y)
        drawn = [plot.scatter("target 0", "target 1", source=self._others, size=6, color=GRAY, alpha=0.6)]
        if len(names) == 2:
            plot.line("target 0", "target 1", source=self._best, color=RED)
        drawn.append(plot.scatter("target 0", "target 1", source=self._best, size=9, color=RED))
        tips = [("trial", "@trial"), *((name, f"@{{target {n}}}") for n, name in enumerate(names))]
        plot.add_tools(HoverTool(tooltips=tips, renderers=drawn))
        return plot

    def _growth(self) -> figure:
        label = "share of what it is by now"
        plot = new_figure("Hypervolume of the front", height=420, x_axis_label="trials", y_axis_label=label)
        plot.step("trials", "share", source=self._grown, mode="after", line_width=2)
        return plot

    def _html(self, points: Sequence[Point]) -> str:
        names = [*self._targets, *(axis.name for axis in self._axes)]
        head = "".join(f"<th>{escape(name)}</th>" for name in ("trial", *names))
        rows = ("".join(f"<td>{escape(text(value))}</td>" for value in self._row(point)) for point in points)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _row(self, point: Point) -> list[object]:
        params = [point.params.get(axis.name, "") for axis in self._axes]
        return [point.trial, *self._values(point), *params]


def several(job: Mapping[str, Any]) -> dict[str, Direction]:
    """The targets of a job if it has several, else none."""
    fitness = job.get("fitness")
    found = targets_of(fitness) if isinstance(fitness, dict) else {}
    return found if len(found) > 1 else {}


def growth(known: Sequence[Losses]) -> Columns:
    """The hypervolume of the front after each trial, as a share of what it is after all.

    The reference is the worst of each target among them.

    Args:
        known: Losses of the trials in the order of their answers.

    Example:
        >>> growth([(2.0, 2.0), (0.0, 2.0), (1.0, 1.0), (2.0, 0.0)])["share"]
        [0.0, 0.0, 1.0, 1.0]
    """
    reference = [max(each) for each in zip(*known, strict=True)]
    marks = sorted({round(1 + (len(known) - 1) * part / (_MARKS - 1)) for part in range(_MARKS)})
    front: list[Losses] = []
    volumes, before = [], 0
    for mark in marks:
        front.extend(known[before:mark])
        front = [front[place] for place in undominated(front)]
        before = mark
        volumes.append(hypervolume(front, reference))
    whole = volumes[-1] or 1.0
    return {"trials": marks, "share": [volume / whole for volume in volumes]}
