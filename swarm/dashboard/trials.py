"""The trials of a job: a table to sort, filter and choose from, and all that is known of the one that is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

import yaml
from bokeh.layouts import column, row
from bokeh.models import CDSView, CustomJS, CustomJSFilter
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Button, DataTable, Div, HTMLTemplateFormatter, TableColumn, TextInput

from swarm.dashboard.board import Shown, Shows
from swarm.dashboard.feed import Columns, Feed
from swarm.dashboard.job_page import JobPage
from swarm.dashboard.reports import STEPS, places, step_name
from swarm.dashboard.theme import TABLE, TABLE_ROWS, WIDGETS
from swarm.dashboard.trial.artifacts import left_html
from swarm.dashboard.trial.notes import NoteField
from swarm.plain import params_as_json
from swarm.plots.axes import Axis
from swarm.plots.charts import CYCLE, new_figure
from swarm.plots.units import duration
from swarm.service.published.snapshot import Point, View
from swarm.store.left import Left

_PARAM, _METRIC = "p:", "m:"  # columns of hyper-parameters and metrics, whatever those are called
_CURVES = 6  # metrics whose curves are drawn
_ANSWERS = {"archive": "from the archive", "in_flight": "from a training of the same configuration that was running"}
_SHORT = (  # a column is as wide as nine characters
    "<%- value === null || Number.isNaN(value) ? '' : typeof value !== 'number' ? value : "
    "value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(3) : +value.toPrecision(5) %>"
)
_FILTER = """
const terms = text.value.trim().split(/\\s+/).filter(Boolean).map((term) => {
  const found = term.match(/^(.+?)(<=|>=|!=|=|<|>)(.+)$/);
  return found ? {name: found[1], by: found[2], value: found[3]} : {word: term.toLowerCase()};
});
const data = source.data, names = Object.keys(data), count = source.get_length() || 0;
const compare = (a, by, b) => ({
  "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b, "=": a == b, "!=": a != b,
})[by];
const holds = (term, i) => {
  if (term.word !== undefined) return names.some((name) => String(data[name][i]).toLowerCase().includes(term.word));
  const name = names.find((each) => each === term.name || each.slice(2) === term.name);
  if (name === undefined) return false;
  const value = data[name][i], number = Number(term.value);
  if (Number.isNaN(number)) return compare(String(value), term.by, term.value);
  return value !== null && compare(value, term.by, number);
};
const kept = [];
for (let i = 0; i < count; i++) if (terms.every((term) => holds(term, i))) kept.push(i);
return kept;
"""


class Trials(JobPage):
    """Every trial as a row, and one of them closely."""

    title = "Trials"

    def __init__(self, board: Shows) -> None:
        super().__init__(board)
        self._wanted: int | None = None
        self._job = ""
        self._point: Point | None = None
        self._left: Left | str = ""

    def update(self, job: str | None) -> None:
        """The trials of this job."""
        self._job = job or ""
        super().update(job)

    def figures(self, axes: Sequence[Axis], shown: Shown) -> Iterator[LayoutDOM]:
        """The table, and beside it what is known of the chosen trial."""
        assert shown.view is not None
        self._axes, self._metrics, self._point = axes, _metrics(shown.view), None
        self._noted: dict[int, str] = {}
        self._feed: Feed[Point] = Feed(self._columns)
        self._view = shown.view
        source = self._feed.source
        text = TextInput(title="filter: words, or units>30 status=failed", width=320, stylesheets=[WIDGETS])
        chosen = CDSView(filter=CustomJSFilter(args={"text": text}, code=_FILTER))
        text.js_on_change("value_input", CustomJS(args={"source": source}, code="source.change.emit();"))
        table = DataTable(
            source=source,
            view=chosen,
            columns=list(self._headings(shown.view)),
            index_position=None,
            sizing_mode="stretch_width",
            height=460,
            autosize_mode="none",
            reorderable=False,
            stylesheets=[TABLE_ROWS],
        )
        source.selected.on_change("indices", lambda _, __, rows: self._choose(rows))
        self._detail = Div(
            text="Choose a row to see all of its trial.",
            disable_math=True,
            sizing_mode="stretch_width",
            stylesheets=[TABLE],
        )
        self._copy = Button(label="copy as YAML", width=130, visible=False, stylesheets=[WIDGETS])
        self._text = CustomJS(args={"text": ""}, code="navigator.clipboard.writeText(text);")
        self._copy.js_on_click(self._text)
        self._curves = column(sizing_mode="stretch_width")
        self._note = NoteField(self.board, self._show_rows)
        closely = column(row(self._copy), self._note.root, self._detail, self._curves, width=340)
        beside = row(column(text, table, sizing_mode="stretch_width", min_width=320), closely, spacing=24)
        beside.update(sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})  # below it where there is no room
        yield beside

    def kind(self, view: View) -> object:
        """Of the columns."""
        noted = self.board.notes(self._job) is not None
        return (_metrics(view), any(point.parent is not None for point in view.points), noted)

    def draw(self, view: View, job: object) -> str:
        """All rows."""
        self._view = view
        self._show_rows()
        self._choose_wanted()
        self._note.update()
        if self._point is not None and self.board.left(self._job, self._point.key) != self._left:
            self._show_detail(self._point)
        told, shown = view.all.told, len(view.points)
        said = f"<b>{told:,}</b> trials answered" + (f", of which {shown:,} are kept here" if shown < told else "")
        return said + (f"; <b>{view.all.failed}</b> failed" if view.all.failed else "")

    def _show_rows(self) -> None:
        """Show all rows, with the notes that there are now."""
        found = dict(self.board.notes(self._job) or {})
        if found != self._noted:  # Bokeh 3.9 redraws a table only if its number of rows changes
            self._feed.show([], None)
        self._noted = found
        self._feed.show(self._view.points, (self._job, self._view.thinned, tuple(self._noted.items())))

    def choose(self, trial: int) -> None:
        """Show this trial at the next update, if it is there."""
        self._wanted = trial

    def _choose_wanted(self) -> None:
        wanted, self._wanted = self._wanted, None
        numbers = [point.trial for point in self._view.points] if wanted is not None else []
        if wanted in numbers:
            self._feed.source.selected.indices = [numbers.index(wanted)]

    def _choose(self, rows: Sequence[int]) -> None:
        """Show the trial of the row that was chosen last."""
        if not rows or not 0 <= rows[-1] < len(self._feed.source.data["trial"]):
            return
        number = int(self._feed.source.data["trial"][rows[-1]])
        point = next((each for each in self._view.points if each.trial == number), None)
        if point is None:
            return
        self._point = point
        self._show_detail(point)
        self._text.args = {"text": yaml.safe_dump(params_as_json(point.params), sort_keys=False)}
        self._copy.visible = True
        self._note.show(self._job, point)
        self._curves.children = list(curve_figures(self.board.curve(point.key)))

    def _show_detail(self, point: Point) -> None:
        """All that is known of a trial by now."""
        self._left = self.board.left(self._job, point.key)
        self._detail.text = detail_html(point, self._view) + left_html(self.board, point.key, self._left)

    def _headings(self, view: View) -> Iterator[TableColumn]:
        yield _heading("trial", "trial", 60)
        yield _heading("generation", "gen", 50)
        yield _heading("fitness", "fitness", 90)
        yield _heading("status", "status", 80)
        yield _heading("seconds", "seconds", 80)
        for axis in self._axes:
            yield _heading(_PARAM + axis.name, axis.name, 90)
        for name in self._metrics:
            yield _heading(_METRIC + name, name, 90)
        yield _heading("slot", "slot", 90)
        if any(point.parent is not None for point in view.points):
            yield _heading("parent", "continues", 80)
        if self.board.notes(self._job) is not None:
            yield _heading("note", "note", 200)

    def _columns(self, points: Sequence[Point]) -> Columns:
        return {
            "trial": [point.trial for point in points],
            "generation": [point.generation for point in points],
            "fitness": [point.fitness for point in points],
            "status": ["failed" if point.fitness is None else point.source.replace("_", " ") for point in points],
            "seconds": [point.seconds for point in points],
            "slot": [point.slot for point in points],
            "parent": [point.parent for point in points],
            "note": [self._noted.get(point.trial, "") for point in points],
            **{_PARAM + axis.name: [_cell(point.params, axis) for point in points] for axis in self._axes},
            **{_METRIC + name: [point.metrics.get(name) for point in points] for name in self._metrics},
        }


def _heading(field: str, title: str, width: int) -> TableColumn:
    return TableColumn(field=field, title=title, width=width, formatter=HTMLTemplateFormatter(template=_SHORT))


def _metrics(view: View) -> tuple[str, ...]:
    """Names of the metrics of the trials, in the order in which they come."""
    return tuple(dict.fromkeys(name for point in view.points for name in point.metrics))


def _cell(params: Mapping[str, Any], axis: Axis) -> Any:
    if axis.name not in params:  # its condition does not hold
        return None
    value = params[axis.name]
    return axis.label(value) if axis.scale == "options" else value


def detail_html(point: Point, view: View) -> str:
    """All that is known of a trial, as HTML."""
    place = f"trial {point.trial} · generation {point.generation} · member {point.member}"
    leads = view.lead is not None and view.lead.trial == point.trial
    return (
        f"<h3>{place}{' · the best' if leads else ''}</h3>"
        + _rows("", _facts(point))
        + _rows("hyper-parameters", point.params.items())
        + _rows("metrics", point.metrics.items())
        + _error(point, view)
    )


def _facts(point: Point) -> Iterator[tuple[str, object]]:
    yield "fitness", "failed" if point.fitness is None else point.fitness
    if point.best is not None:
        yield "best so far, then", point.best
    yield "answer", _ANSWERS.get(point.source, point.source)
    if point.slot:
        yield "slot", point.slot
    yield "trained for", duration(point.seconds)
    yield "began", datetime.fromtimestamp(point.start).strftime("%Y-%m-%d %H:%M:%S")
    yield "answered", datetime.fromtimestamp(point.end).strftime("%Y-%m-%d %H:%M:%S")
    if point.budget is not None:
        yield "budget", point.budget
    if point.parent is not None:
        yield "continues trial", point.parent


def _rows(heading: str, rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values; nothing if there are none."""
    texts = [(name, f"{value:.6g}" if isinstance(value, float) else str(value)) for name, value in rows]
    cells = "".join(f"<tr><td><small>{escape(name)}</small></td><td>{escape(text)}</td></tr>" for name, text in texts)
    return f"<h4>{escape(heading)}</h4><table>{cells}</table>" if cells else ""


def _error(point: Point, view: View) -> str:
    """Why a trial failed, with the user's own lines if they are known."""
    if not point.error:
        return ""
    where = next((where for reason, (_, where) in view.errors.items() if reason.startswith(point.error)), "")
    return f"<h4>why it failed</h4><p>{escape(point.error)}</p>" + (f"<pre>{escape(where)}</pre>" if where else "")


def curve_figures(reports: Sequence[Mapping[str, float]]) -> Iterator[LayoutDOM]:
    """A figure for each metric that a training has reported on the way."""
    names = list(dict.fromkeys(name for report in reports for name in report if name not in STEPS))
    for number, name in enumerate(names[:_CURVES]):
        points = [(x, report[name]) for x, report in zip(places(reports), reports, strict=True) if name in report]
        plot = new_figure(name, height=220, x_axis_label=step_name(reports), y_axis_label=name)
        xs, ys = zip(*points, strict=True)
        plot.line(list(xs), list(ys), line_width=2, color=CYCLE[number % len(CYCLE)])
        plot.scatter(list(xs), list(ys), size=5, color=CYCLE[number % len(CYCLE)])
        yield plot
