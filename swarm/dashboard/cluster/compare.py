"""Several jobs in one figure: how good each became, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.widgets import CheckboxGroup, Div, Select
from bokeh.plotting import figure

from swarm.dashboard.board import Shown, Shows
from swarm.dashboard.feed import Columns, replace
from swarm.dashboard.live import Page
from swarm.dashboard.theme import TABLE, WIDGETS, tiled
from swarm.plots.axes import drawable
from swarm.plots.charts import CYCLE, legend_above, new_figure
from swarm.plots.units import Unit, duration
from swarm.service.published.snapshot import View
from swarm.store.records import Source

_MOST = 5  # jobs that are compared
_ACROSS = {"trials": "trials answered", "time": "time since the start"}
_HEADS = ("job", "method", "best", "found by", "trials", "trained", "failed", "took", "of training")


class Compare(Page):
    """The best so far of up to five jobs, over trials or time, and a table of what each found and cost."""

    title = "Compare"

    def __init__(self, board: Shows) -> None:
        super().__init__(board)
        self._along = Select(title="along", options=[*_ACROSS], value="trials", width=140, stylesheets=[WIDGETS])
        self._picked = CheckboxGroup(labels=[], active=[], styles={"max-height": "420px", "overflow-y": "auto"})
        self._names: list[str] = []
        self._job: str | None = None
        self._lines = ColumnDataSource(_columns({}, "trials", Unit.of(0.0)))
        self._plot: figure | None = None
        self._beside = column(sizing_mode="stretch_width")
        self._table = Div(disable_math=True, sizing_mode="stretch_width", stylesheets=[TABLE])
        picking = column(Div(text="<b>jobs to compare</b>, up to five"), self._picked, width=260)
        narrow = {"min-width": "0", "max-width": "100%"}  # else the table would make the page as wide as itself
        self._table.styles = narrow
        parts = self._along, tiled([self._beside, picking]), self._table
        self.root = column(*parts, sizing_mode="stretch_width", styles=narrow)

    def update(self, job: str | None) -> None:
        """The jobs that are picked, at first the chosen one and the latest other of its problem."""
        self._offer(job)
        chosen = [self._names[i] for i in self._picked.active if i < len(self._names)]
        shown = {name: self.board.shown[name] for name in chosen if name in self.board.shown}
        views = {name: each.view for name, each in shown.items() if each.view is not None and each.view.points}
        kept = dict(list(views.items())[:_MOST])
        self._draw(kept)
        said = _caution(shown, kept) + _table_html(shown, kept)
        if self._table.text != said:
            self._table.text = said

    def _offer(self, job: str | None) -> None:
        """Offer all jobs, the latest first; who was picked stays so."""
        names = list(reversed(self.board.shown))
        picked = {self._names[i] for i in self._picked.active if i < len(self._names)}
        if job is not None and job != self._job and job in self.board.shown:
            self._job = job
            picked = picked | {job} if len(picked) > 1 else {job, *self._like(job)}
        active = [place for place, name in enumerate(names) if name in picked]
        if names != self._names or active != self._picked.active:
            self._names = names
            self._picked.update(labels=names, active=active)

    def _like(self, job: str) -> list[str]:
        """The latest other job of the same problem, if there is one."""
        problem = self.board.shown[job].state.get("problem")
        others = (name for name in reversed(self.board.shown) if name != job)
        return [name for name in others if self.board.shown[name].state.get("problem") == problem][:1]

    def _draw(self, views: Mapping[str, View]) -> None:
        along = self._along.value
        unit = Unit.of(max((view.points[-1].end - view.points[0].start for view in views.values()), default=0.0))
        replace(self._lines, _columns(views, along, unit))
        if not views or not any(self._lines.data["xs"]):  # a legend cannot be drawn of nothing
            self._beside.children = [Div(text="Pick a job that has trials.")]
            self._plot = None
            return
        if self._plot is None:
            self._plot = self._figure()
            self._beside.children = [self._plot]
        self._plot.xaxis[0].axis_label = _ACROSS[along] + (f" ({unit.name})" if along == "time" else "")

    def _figure(self) -> figure:
        plot = new_figure("best so far", height=440, x_axis_label="", y_axis_label="fitness")
        drawn = plot.multi_line("xs", "ys", source=self._lines, color="color", line_width=2.5, legend_field="label")
        plot.add_tools(HoverTool(tooltips=[("", "@label"), ("", "$data_x"), ("best", "$data_y")], renderers=[drawn]))
        return legend_above(plot, columns=2)


def _columns(views: Mapping[str, View], along: str, unit: Unit) -> Columns:
    lines = [_steps(view, along, unit) for view in views.values()]
    return {
        "xs": [xs for xs, _ in lines],
        "ys": [list(drawable(ys)) for _, ys in lines],
        "label": list(views),
        "color": [CYCLE[i % len(CYCLE)] for i in range(len(lines))],
    }


def _steps(view: View, along: str, unit: Unit) -> tuple[list[float], list[float]]:
    """Where the best changed, as the corners of a line, and where it stands now."""
    began = view.points[0].start
    xs: list[float] = []
    ys: list[float] = []
    for point in view.points:
        if point.best is None:
            continue
        x = (point.end - began) / unit.seconds if along == "time" else float(point.index + 1)
        if ys and ys[-1] != point.best:
            xs.append(x)
            ys.append(ys[-1])
        if not ys or ys[-1] != point.best or point is view.points[-1]:
            xs.append(x)
            ys.append(point.best)
    return xs, ys


def _caution(shown: Mapping[str, Shown], kept: Mapping[str, View]) -> str:
    """Why the numbers should be taken with care, as HTML; nothing if they need not."""
    found = []
    if len(shown) > _MOST:
        found.append(f"the first {_MOST} are compared")
    if len({view.direction for view in kept.values()}) > 1:
        found.append("in some a larger fitness is better, in others a smaller one")
    if len({shown[name].state.get("problem") for name in kept}) > 1:
        found.append("they trained different problems, so their fitness may not compare")
    return f"<p><b>{escape('; '.join(found))}</b></p>" if found else ""


def _table_html(shown: Mapping[str, Shown], kept: Mapping[str, View]) -> str:
    rows = "".join(_row(name, shown[name], view) for name, view in kept.items())
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""


def _row(name: str, shown: Shown, view: View) -> str:
    way = "↑" if view.direction == "maximize" else "↓"
    lead = view.lead
    cells: Sequence[str] = (
        f"<b>{escape(name)}</b>",
        escape(str(shown.state.get("optimizer", ""))),
        "" if lead is None else f"<b>{lead.fitness:.5g}</b> {way}",
        "" if lead is None else f"trial {lead.trial:d}",
        f"{view.all.told:,}",
        f"{view.all.sources[Source.TRAINED]:,}",
        f"{view.all.failed:,}",
        duration(max(0.0, view.points[-1].end - view.points[0].start)),
        duration(view.all.seconds),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
