"""The pages of one search, live: fitness, search space, archive and lineage, from its
:class:`~swarm.service.published.snapshot.View`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import isnan

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS, LinearColorMapper, TapTool
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Button, Div, Select, Toggle

from swarm.dashboard.board import Shown, Shows
from swarm.dashboard.feed import Columns, Feed, replace
from swarm.dashboard.job_page import JobPage
from swarm.dashboard.search.choice import brush_lines, chosen_html
from swarm.dashboard.search.front import FrontPane, several
from swarm.dashboard.search.ground import position
from swarm.dashboard.search.importance import Matters
from swarm.dashboard.search.plane import Plane, drawn
from swarm.dashboard.search.ranges import Followed, shaded, spread
from swarm.dashboard.search.words import best_html, better, fitness_name
from swarm.dashboard.theme import TABLE, WIDGETS, tiled, write_on
from swarm.plots import charts
from swarm.plots.axes import Axis, drawable
from swarm.plots.plane import brushed
from swarm.plots.units import Unit
from swarm.service.published.snapshot import Lead, Point, Row, View
from swarm.space.space import Space
from swarm.store.records import Source

_LINES = 300
_REASONS = 5  # why trials failed
_GOLDEN = 0.618034  # neighbours land far apart
_SECONDS = Unit.of(0.0)
_NAN = float("nan")  # always the same one: lists with it are then equal, and are not sent again


class Fitness(JobPage):
    """Every trial, how good the search became, and the best configuration."""

    title = "Fitness"

    def __init__(self, board: Shows) -> None:
        super().__init__(board)
        self._along = Select(title="along", options=[], width=140, stylesheets=[WIDGETS])
        self._zoom = Toggle(label="zoom to the best", width=140, align="end", stylesheets=[WIDGETS])
        self._zoom.on_change("active", lambda attr, old, new: self._zoomed())
        self._offered = ""
        self._forced = False

    def kind(self, view: View) -> object:
        """Whether the budgets are colours, and whether the scale is logarithmic."""
        return len(_budgets(view)) > 1, _wide(view)

    def figures(self, axes: Sequence[Axis], shown: Shown) -> list[LayoutDOM]:
        """One, beside it the best configuration, and below it the front where several targets count."""
        assert shown.view is not None
        self._axes, self._name = axes, fitness_name(shown.job)
        self._offer(shown.view)
        self._points: Feed[Point] = Feed(lambda points: self._columns(points, shown.view))
        self._bands = ColumnDataSource(_bands(shown.view, self._along.value))
        self._up, self._log = Followed(), _wide(shown.view)
        plot = charts.fitness(
            self._points.source,
            self._bands,
            axes,
            title=f"{shown.view.direction} {self._name}",
            y_label=f"{self._name} ({better(shown.view.direction)})",
            log=self._log,
            budgets=len(_budgets(shown.view)) > 1,
        )
        plot.update(height=520, y_range=self._up.range)
        plot.add_tools(TapTool(description="look into a trial"))
        self._points.source.selected.on_change("indices", lambda _, __, places: self._look_into(places))
        self._axis = plot.xaxis[0]
        self._best = Div(width=260, disable_math=True, stylesheets=[TABLE])
        self._front = FrontPane(shown.job, axes) if several(shown.job) else None
        top = column(row(self._along, self._zoom), tiled([plot, self._best]), sizing_mode="stretch_width")
        return [top, *([] if self._front is None else [self._front.root])]

    def draw(self, view: View, job: object) -> str:
        """Points, bands and the best."""
        self._offer(view)
        self._unit, self._began = Unit.of(view.points[-1].end - view.points[0].start), view.points[0].start
        along = self._along.value
        self._axis.axis_label = f"time since the start ({self._unit.name})" if along == "time" else along
        self._points.show(view.points, (job, view.thinned, along, self._unit, _budgets(view)))
        replace(self._bands, _bands(view, along, self._began, self._unit))
        known = [point.fitness for point in view.points if point.fitness is not None]
        ends = spread(known, direction=view.direction, zoomed=self._zoom.active, log=self._log)
        self._up.follow(ends, force=self._forced)
        self._forced = False
        self._best.text = best_html(self._name, _best(view))
        if self._front is not None:
            self._front.draw(view)
        said = f"<b>{view.all.told}</b> trials answered"
        said += "" if view.lead is None else f", best <b>{view.lead.fitness:.6g}</b>"
        return said + (f", <b>{view.all.failed}</b> failed{errors_html(view)}" if view.all.failed else "")

    def _look_into(self, places: Sequence[int]) -> None:
        """Open the page of the trial whose point was clicked."""
        if places and places[0] < len(trials := self._points.source.data["trial"]):
            self._points.source.selected.indices = []
            self.open_trial(int(trials[places[0]]))

    def _zoomed(self) -> None:
        self._forced = True

    def _offer(self, view: View) -> None:
        """Offer what there is to draw along; generations first, once there are several."""
        options = [*(["generation"] if len(view.rows) > 1 else []), "trial", "time"]
        if self._along.options != options:
            self._along.options = options
        if self._along.value in ("", self._offered) or self._along.value not in options:
            self._along.value = self._offered = options[0]  # nobody has chosen another

    def _columns(self, points: Sequence[Point], view: View | None) -> Columns:
        found = {"x": np.array([self._x(point) for point in points], float), **_point_columns(points, self._axes)}
        budgets = [] if view is None else _budgets(view)
        shades = charts.shades(len(budgets))
        found["budget"] = ["" if point.budget is None else f"budget {point.budget:g}" for point in points]
        found["color"] = [
            shades[budgets.index(point.budget)] if point.budget in budgets else charts.BLUE for point in points
        ]
        return found

    def _x(self, point: Point) -> float:
        if self._along.value == "time":
            return (point.end - self._began) / self._unit.seconds
        aside = point.member * _GOLDEN % 1 - 0.5  # members of a generation side by side
        return point.generation + 0.6 * aside if self._along.value == "generation" else float(point.trial)


class SearchSpace(JobPage):
    """Where the search has looked, what it found there, what matters, and where its members are moving."""

    title = "Search space"

    def figures(self, axes: Sequence[Axis], shown: Shown) -> Iterator[LayoutDOM]:
        """Two hyper-parameters, parallel coordinates, importance, and each hyper-parameter by itself.

        What is chosen in one of them by a drag is chosen in all.
        """
        assert shown.view is not None
        self._axes, self._view, self._name = axes, shown.view, fitness_name(shown.job)
        self._points: Feed[Point] = Feed(lambda points: _point_columns(points, axes))
        self._points.source.selected.on_change("indices", lambda attr, old, new: self._choose())
        self._lines, self._chosen = ColumnDataSource(_lines([], axes)), ""
        palette = list(charts.PALETTE if shown.job["direction"] == "minimize" else charts.PALETTE[::-1])
        self._mapper = LinearColorMapper(palette=palette, low=0.0, high=1.0, nan_color="#00000000")
        self._plane = Plane(self._points.source, self._mapper, axes, self._name)
        self._matters = Matters(Space.parse(shown.job["space"]))
        clear = Button(label="choose none", width=120, align="end", stylesheets=[WIDGETS])
        clear.js_on_click(CustomJS(args={"source": self._points.source}, code="source.selected.indices = [];"))
        self._about = Div(disable_math=True, sizing_mode="stretch_width", visible=False)
        top = row(*self._plane.selects, clear, styles={"flex-wrap": "wrap"}, sizing_mode="stretch_width")
        parallel = charts.parallel(self._lines, axes, palette=palette, y_label=self._name)
        brush_lines(parallel, self._lines, self._points.source)
        beside = [self._plane.root] if len(axes) < 2 else [self._plane.root, parallel]
        write_on(self.root.document, parallel)
        yield column(top, self._about, tiled(beside), sizing_mode="stretch_width")
        values = [charts.value(self._points.source, axis, y_label=self._name) for axis in axes]
        for plot in values:
            brushed(plot, plot.renderers[0])
        yield tiled(values)
        yield self._matters.root

    def draw(self, view: View, job: object) -> str:
        """Points, the best and latest lines, the last move of each member, and what matters."""
        known = [point for point in view.points if point.fitness is not None]
        if self._points.show(known, (job, view.thinned)):
            low, high = shaded([each for point in known if (each := point.fitness) is not None], view.direction)
            self._mapper.update(low=low, high=high)
        best = view.ordered()[:20][::-1]
        drawn = {point.trial for point in best}
        others = [point for point in known if point.trial not in drawn]
        chosen = [*others[-(_LINES - len(best)) :], *best]  # the best on top
        replace(self._lines, _lines(chosen, self._axes))
        self._follow()
        self._plane.draw(known, [list(points) for points in view.moves.values()])
        self._matters.draw(known)
        moved = any(len(points) > 1 for points in view.moves.values())
        said = f"<b>{len(view.moves)}</b> members" + (
            ", in rings; a line leads back to where each was" if moved else ""
        )
        return f"{said}. A drag over trials or lines chooses them in all figures; Escape or a button chooses none."

    def _choose(self) -> None:
        """Trials were chosen, in whichever figure."""
        self._follow()
        rows = self._points.source.selected.indices
        trials = {int(self._points.source.data["trial"][i]) for i in rows if i < len(self._points.source.data["trial"])}
        chosen = [point for point in self._view.points if point.trial in trials]
        said = chosen_html(chosen, self._axes, self._name, self._view.direction) if chosen else ""
        self._about.update(text=said, visible=bool(said))

    def _follow(self) -> None:
        """Choose the lines of the trials that are chosen."""
        data, rows = self._points.source.data["trial"], self._points.source.selected.indices
        trials = {int(data[i]) for i in rows if i < len(data)}
        lines = [i for i, trial in enumerate(self._lines.data["trial"]) if int(trial) in trials]
        if self._lines.selected.indices != lines:
            self._lines.selected.indices = lines


class Archive(JobPage):
    """How often the archive answered, and what that saved."""

    title = "Archive"

    def figures(self, axes: Sequence[Axis], shown: Shown) -> list[LayoutDOM]:
        """Answers per generation, time spent and saved."""
        self._gpus = float(shown.job["gpus_per_training"] * shown.job["replicas"])
        self._rows = ColumnDataSource(_generations([], 1.0))
        self._unit = "GPU hours" if _on_gpus(shown.view) else "hours of CPU slots"
        return [charts.archive(self._rows), charts.saved(self._rows, unit=self._unit)]

    def kind(self, view: View) -> object:
        """Whether the slots have GPUs."""
        return _on_gpus(view)

    def draw(self, view: View, job: object) -> str:
        """All generations."""
        rows = sorted(view.rows.values(), key=lambda row: row.number)
        replace(self._rows, _generations(rows, self._gpus))
        sources, hours = view.all.sources, view.all.saved * self._gpus / 3600
        return (
            f"<b>{sources[Source.TRAINED]}</b> trained, <b>{sources[Source.ARCHIVE]}</b> answered by the archive, "
            f"<b>{sources[Source.IN_FLIGHT]}</b> joined in flight; <b>{hours:.3g}</b> {self._unit} saved"
        )


class Lineage(JobPage):
    """Whose weights each member of a population goes on from, and the schedule that the winner was trained by."""

    title = "PBT"

    def kind(self, view: View) -> object:
        """Whether trainings are handed on."""
        return any(point.parent is not None for point in view.points)

    def figures(self, axes: Sequence[Axis], shown: Shown) -> list[LayoutDOM]:
        """The tree, and one figure per hyper-parameter; none where nothing is handed on."""
        assert shown.view is not None
        if not self.kind(shown.view):
            return []
        self._axes = axes
        self._nodes, self._edges = ColumnDataSource(_nodes([])), ColumnDataSource(_edges([], set(), {}))
        palette = charts.PALETTE if shown.job["direction"] == "minimize" else charts.PALETTE[::-1]
        tree = charts.lineage(self._nodes, self._edges, palette=palette)
        self._steps = {axis.name: ColumnDataSource(_steps([], axis)) for axis in axes if axis.scale != "options"}
        schedules = [
            charts.schedule(self._steps[axis.name], name=axis.name, log=axis.scale == "log", mean=False)
            for axis in axes
            if axis.scale != "options"
        ]
        return [tree, tiled(schedules)]

    def draw(self, view: View, job: object) -> str:
        """Tree and schedule, where trainings are handed on."""
        if not self.kind(view):
            return "This method trains every network from its beginning: there is no lineage to see."
        line = view.lineage()
        winners = {point.trial for point in line}
        replace(self._nodes, _nodes(view.points))
        replace(self._edges, _edges(view.points, winners, {point.trial: point for point in view.points}))
        for axis in self._axes:
            if axis.name in self._steps:
                replace(self._steps[axis.name], _steps(line, axis))
        return f"The winner's line has <b>{len(line)}</b> slices"


# --- rows to columns


def _point_columns(points: Sequence[Point], axes: Sequence[Axis]) -> Columns:
    # Arrays are sent as they are, lists number by number.
    columns: Columns = {
        "trial": np.array([point.trial for point in points], int),
        "fitness": drawable(np.array([np.nan if point.fitness is None else point.fitness for point in points], float)),
        "source": [point.source.replace("_", " ") for point in points],
    }
    for axis in axes:
        values = [drawn(axis, point.params) for point in points]
        columns[axis.column] = values if axis.scale == "options" else np.array(values, float)
    return columns


def errors_html(view: View) -> str:
    """Why trials failed, the most frequent reasons first, each with the user's own lines, as HTML."""
    found = sorted(view.errors.items(), key=lambda each: each[1][0], reverse=True)[:_REASONS]
    return "".join(
        f"<details><summary>failed {times} times: {escape(error)}</summary><pre>{escape(where)}</pre></details>"
        for error, (times, where) in found
    )


def _bands(view: View, along: str = "", began: float = 0.0, unit: Unit = _SECONDS) -> Columns:
    """Range, mean and best so far, along generations, trials or time; left out, as the page begins."""
    rows = sorted(view.rows.values(), key=lambda row: row.number)
    if len(rows) == 1 or along in ("trial", "time"):
        rows = _blocks(view)
    rows = [row for row in rows if row.lead is not None or row.low is not None]
    best, lead = [], None
    for each in rows:
        if each.lead is not None and (lead is None or view.led or view.better(each.lead, lead)):
            lead = each.lead
        best.append(_NAN if lead is None else lead.fitness)
    if view.led and view.lead is not None and best:  # the rows of a run without generations do not know
        best[-1] = view.lead.fitness
    places = [float(row.number) for row in rows]
    if along == "time":
        ends = _ends(view)
        places = [(ends[row.number] - began) / unit.seconds for row in rows]
    return {
        "x": places,
        **{name: [_number(getattr(row, name)) for row in rows] for name in ("low", "mean", "high")},
        "best": [_number(each) for each in best],
    }


def _ends(view: View) -> dict[int, float]:
    """When the last of each of the :func:`_blocks` was answered, none before the one ahead of it."""
    width, ends = _width(view), dict[int, float]()
    latest = view.points[0].end
    for point in sorted(view.points, key=lambda point: point.trial):
        latest = max(latest, point.end)
        ends[point.trial // width * width + width // 2] = latest
    return ends


def _on_gpus(view: View | None) -> bool:
    """Whether any slot that trained has a GPU."""
    return view is not None and any(":gpu" in point.slot.lower() for point in view.points)


def _budgets(view: View) -> list[float]:
    """What trials were trained up to, from the lowest to the highest."""
    return sorted({point.budget for point in view.points if point.budget is not None})


def _wide(view: View) -> bool:
    """Whether fitness is a loss over so wide a range that it needs a logarithmic scale."""
    known = [point.fitness for point in view.points if point.fitness is not None]
    return view.direction == "minimize" and bool(known) and 0 < 20 * min(known) < max(known)


def _best(view: View) -> Point | None:
    """The trial that leads, if it is still known."""
    return next((point for point in view.points if view.lead is not None and point.trial == view.lead.trial), None)


def _number(value: float | None) -> float:
    return _NAN if value is None or isnan(value) else float(drawable(value))


def _width(view: View) -> int:
    """Trials of one of the :func:`_blocks`."""
    return max(5, view.all.told // 30)


def _blocks(view: View) -> list[Row]:
    """Rows of so many trials each, for methods without generations."""
    width = _width(view)
    blocks: dict[int, Row] = {}
    for point in reversed(view.ordered()):  # the last to lead a block is its best
        if point.fitness is not None:
            block = blocks.setdefault(point.trial // width, Row(point.trial // width * width + width // 2))
            block.told += 1
            block.measure(point.fitness)
            block.lead = Lead(point.trial, point.fitness, point.budget)
    return [blocks[number] for number in sorted(blocks)]


def _generations(rows: Sequence[Row], gpus: float) -> Columns:
    spent = saved = 0.0
    columns: Columns = {name: [] for name in ("generation", "trained", "archive", "in_flight", "spent", "saved")}
    for each in rows:
        spent, saved = spent + each.seconds * gpus / 3600, saved + each.saved * gpus / 3600
        values = (each.number, *(each.sources[source] for source in Source), spent, saved)
        for column_, value in zip(columns.values(), values, strict=True):
            column_.append(value)
    return columns


def _lines(points: Sequence[Point], axes: Sequence[Axis]) -> Columns:
    return {
        "xs": [list(range(len(axes))) for _ in points],
        "ys": [[position(axis, point.params) for axis in axes] for point in points],
        **{name: list(values) for name, values in _point_columns(points, axes).items() if name != "source"},
    }


def _nodes(points: Sequence[Point]) -> Columns:
    return {
        "generation": [point.generation for point in points],
        "member": [point.member for point in points],
        "fitness": drawable([_NAN if point.fitness is None else point.fitness for point in points]),
        "trial": [point.trial for point in points],
        "parent": ["its beginning" if point.parent is None else str(point.parent) for point in points],
    }


def _edges(points: Sequence[Point], winners: set[int], by_trial: Mapping[int, Point]) -> Columns:
    pairs = [(by_trial[p.parent], p) for p in points if p.parent is not None and p.parent in by_trial]
    return {
        "generation": [child.generation for _, child in pairs],
        "member": [child.member for _, child in pairs],
        "parent_generation": [parent.generation for parent, _ in pairs],
        "parent_member": [parent.member for parent, _ in pairs],
        "width": [4 if child.trial in winners else 1 for _, child in pairs],
    }


def _steps(line: Sequence[Point], axis: Axis) -> Columns:
    return {
        "budget": [point.budget or 0.0 for point in line],
        "value": [drawn(axis, point.params) for point in line],
    }
