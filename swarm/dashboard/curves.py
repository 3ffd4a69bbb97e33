"""The learning curves of a job: of what has ended, what is best, and what is trained at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.widgets import Div, Select
from bokeh.plotting import figure

from swarm.dashboard.board import Board, Shows
from swarm.dashboard.feed import Columns, replace
from swarm.dashboard.live import Page
from swarm.dashboard.reports import STEPS, places, step_name
from swarm.dashboard.theme import WIDGETS
from swarm.plots.charts import CYCLE, GRAY, legend_above, new_figure
from swarm.service.published.snapshot import Point, View

_ENDED = 300  # curves of trainings that have ended, the latest
_BEST = 5
_RUNNING = 20
_NONE = (
    "No training has reported on the way. Call <code>ctx.report(epoch=…, loss=…)</code> in it, or give Keras the "
    "callback <code>swarm.keras.Report(ctx)</code>."
)
Line = tuple[str, Sequence[Mapping[str, float]]]  # what it is called, and its reports


class Curves(Page):
    """The learning curves of a job: those that have ended in grey, the best in colour, what runs now bold."""

    title = "Curves"

    def __init__(self, board: Shows) -> None:
        super().__init__(board)
        self._metric = Select(title="metric", options=[], width=220, stylesheets=[WIDGETS])
        self._said = Div(text=_NONE, disable_math=True, sizing_mode="stretch_width")
        self._sources = {name: ColumnDataSource(_columns([], "", [])) for name in ("ended", "best", "running")}
        self._drawn: tuple[str, str] | None = None
        self.root = column(self._metric, self._said, sizing_mode="stretch_width")

    def update(self, job: str | None) -> None:
        """The curves of this job, as they are now."""
        shown = None if job is None else self.board.shown.get(job)
        ended, best = ([], []) if shown is None or shown.view is None else self._known(shown.view)
        running = self._running(job)
        lines = [reports for _, reports in (*ended, *best, *running)]
        metrics = sorted({name for reports in lines for name in reports[-1] if name not in STEPS})
        if metrics and self._metric.options != metrics:
            self._metric.options = metrics
        if metrics and self._metric.value not in metrics:
            self._metric.value = next((name for name in metrics if name.startswith("val")), metrics[0])
        metric = self._metric.value if metrics else ""
        replace(self._sources["ended"], _columns(ended, metric, [GRAY]))
        replace(self._sources["best"], _columns(best, metric, CYCLE))
        replace(self._sources["running"], _columns(running, metric, CYCLE[_BEST:]))
        drawn = (metric, step_name(lines[0])) if metrics else None  # a legend cannot be drawn of nothing
        if self._drawn != drawn:
            self._drawn = drawn
            self.root.children = [self._metric, self._said, *([] if drawn is None else [self._figure(*drawn)])]
        said = f"<b>{len(ended) + len(best)}</b> have ended, <b>{len(running)}</b> run now" if metrics else _NONE
        if self._said.text != said:
            self._said.text = said

    def _known(self, view: View) -> tuple[list[Line], list[Line]]:
        """Curves of what has ended: of all but the best, and of the best, the first of them with those it continues."""
        ordered = view.ordered()[:_BEST]
        chosen = {point.trial for point in ordered}
        others = [point for point in view.points[-_ENDED:] if point.trial not in chosen]
        whole = {view.lead.trial: view.lineage()} if view.lead is not None else {}
        best = [(_name(point), self._of(whole.get(point.trial, [point]))) for point in ordered]
        ended = [(_name(point), self._of([point])) for point in others]
        return [line for line in ended if line[1]], [line for line in best if line[1]]

    def _of(self, points: Sequence[Point]) -> list[Mapping[str, float]]:
        """What trainings that continue each other have reported, one after the other."""
        return [report for point in points for report in self.board.curve(point.key)]

    def _running(self, job: str | None) -> list[Line]:
        if not isinstance(self.board, Board):
            return []
        self.board.name_bars()
        found = [bar for bar in self.board.running if bar.job == job][-_RUNNING:]
        lines = [("running" if bar.trial is None else f"trial {bar.trial}", self.board.curve(bar.key)) for bar in found]
        return [line for line in lines if line[1]]

    def _figure(self, metric: str, x_label: str) -> figure:
        plot = new_figure(metric, height=440, x_axis_label=x_label, y_axis_label=metric)
        looks: dict[str, dict[str, float]] = {
            "ended": {"line_width": 1, "line_alpha": 0.45},
            "best": {"line_width": 2.5},
            "running": {"line_width": 4, "line_alpha": 0.8},
        }
        for name, look in looks.items():
            legend = {"legend_field": "label"} if name == "best" else {"legend_label": name}
            drawn = plot.multi_line("xs", "ys", source=self._sources[name], color="color", **look, **legend)
            tips = [("", "@label"), (x_label, "$data_x"), (metric, "$data_y")]
            plot.add_tools(HoverTool(tooltips=tips, renderers=[drawn]))
        return legend_above(plot, columns=2)


def _name(point: Point) -> str:
    return f"trial {point.trial}" + ("" if point.fitness is None else f": {point.fitness:.4g}")


def _columns(lines: Sequence[Line], metric: str, colors: Sequence[str]) -> Columns:
    points = [
        [(x, report[metric]) for x, report in zip(places(reports), reports, strict=True) if metric in report]
        for _, reports in lines
    ]
    return {
        "xs": [[x for x, _ in each] for each in points],
        "ys": [[y for _, y in each] for each in points],
        "label": [name for name, _ in lines],
        "color": [colors[i % len(colors)] for i in range(len(lines))],
    }
