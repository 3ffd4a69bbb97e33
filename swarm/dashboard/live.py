"""The pages that only a running cluster has: its jobs, its slots, and the learning curves of what is trained now."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div, Select
from bokeh.plotting import figure

from swarm.dashboard.board import Bar, Board, Curve
from swarm.dashboard.feed import Columns, Feed, replace
from swarm.dashboard.theme import TABLE
from swarm.plots.charts import BLUE, CYCLE, GRAY, ORANGE, PURPLE, RED, SKY, curves
from swarm.plots.units import duration
from swarm.trial import params_from_json

BAR_COLORS = {
    "running": SKY,
    "ok": BLUE,
    "pruned": ORANGE,
    "failed": RED,
    "crashed": RED,
    "lost": PURPLE,
    "cancelled": GRAY,
}
WINDOW = 600.0  # seconds that the chart of slots shows
_STRAGGLER = 3.0  # times the median
_LINES = 20


class Page(ABC):
    """One tab: ``root`` is what Bokeh shows, ``update`` brings it up to date.

    Args:
        board: What is shown.
    """

    title: str
    root: LayoutDOM

    def __init__(self, board: Board) -> None:
        self.board = board

    @abstractmethod
    def update(self, job: str | None) -> None:
        """Show how things are; of the pages of one job, that of this job."""


class Jobs(Page):
    """All jobs: how far they are, what they found, and which share of the slots they have."""

    title = "Jobs"

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.root = self._table = Div(disable_math=True, sizing_mode="stretch_width", stylesheets=[TABLE])

    def update(self, job: str | None) -> None:
        """All jobs, the latest first."""
        slots = len(self.board.slots)
        heads = ("job", "state", "method", "progress", "running", "best", "hyper-parameters", "left", "owner")
        rows = [self._row_of(name, shown.state, slots) for name, shown in reversed(self.board.shown.items())]
        head = "".join(f"<th>{name}</th>" for name in heads)
        text = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        if self._table.text != text:
            self._table.text = text

    def _row_of(self, name: str, state: dict[str, Any], slots: int) -> str:
        """The row of a job; one that cannot be drawn says so, and harms no other."""
        try:
            return self._row(state, slots)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            said = escape(f"cannot be shown: {type(error).__name__}: {error}")
            return f"<tr><td><b>{escape(name)}</b></td><td colspan='8'>{said}</td></tr>"

    def _row(self, state: dict[str, Any], slots: int) -> str:
        best = state["best"]
        done = state["told"] / state["planned"] if state["planned"] else 0.0
        of = escape(f"{state['told']} of {state['planned'] or '?'}")
        left = state["seconds_left"]
        params = (
            "" if best is None else ", ".join(f"{k} {_short(v)}" for k, v in params_from_json(best["params"]).items())
        )
        trouble = state["trouble"] or state["reason"] or state["end_reason"] or ""
        cells = (
            f"<b>{escape(state['name'])}</b><br><small>{escape(state['problem'])}</small>",
            f"<span class='state {escape(state['state'])}'>{escape(state['state'])}</span>"
            f"<br><small>{escape(trouble)}</small>",
            f"{escape(state['optimizer'])}<br><small>generation {state['generation']:d}</small>",
            f"<progress max='1' value='{done:.4f}'></progress><br><small>{of}</small>",
            f"{state['running']:d}<br><small>{state['running'] / slots:.0%} of {slots} slots</small>"
            if slots
            else "no slots",
            "" if best is None else f"<b>{best['fitness']:.5g}</b>",
            f"<small>{escape(params)}</small>",
            "" if left is None else duration(left),
            escape(state["owner"]) + self._weight(state["owner"]),
        )
        return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"

    def _weight(self, user: str) -> str:
        weight = self.board.weights.get(user)
        return "" if weight is None else f"<br><small>weight {weight:g}</small>"


class Slots(Page):
    """Who trained what on which slot in the last ten minutes."""

    title = "Slots"

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self._said = Div(disable_math=True, sizing_mode="stretch_width")
        self._ended: Feed[Bar] = Feed(_bars)
        self._running = ColumnDataSource(_bars([]))
        self._slots = FactorRange(factors=[])
        self._window = Range1d(-WINDOW * 1000, 0)
        chart = figure(
            x_axis_type="datetime",
            y_range=self._slots,
            x_range=self._window,
            sizing_mode="stretch_both",
            min_height=300,
            tools="xpan,xwheel_zoom,reset,save",
            x_axis_label="time",
            y_axis_label="slot",
        )
        for source in (self._ended.source, self._running):
            bars = chart.hbar(
                y="slot", left="start", right="end", height=0.8, source=source, fill_color="color", line_color=None
            )
            bars.nonselection_glyph = None
            tips = [("job", "@job"), ("trial", "@trial"), ("status", "@status"), ("seconds", "@seconds{0.0}")]
            chart.add_tools(HoverTool(renderers=[bars], tooltips=[*tips, ("slot", "@slot")]))
        self.root = column(self._said, chart, sizing_mode="stretch_both")

    def update(self, job: str | None) -> None:
        """All slots, whichever job they train for."""
        self.board.name_bars()
        now = time.time()
        slots = self.board.slots
        names = sorted({*slots, *(bar.slot for bar in self.board.bars if (bar.end or now) > now - WINDOW)})[::-1]
        if self._slots.factors != names:
            self._slots.factors = names
        since = min(max(now - WINDOW, min((bar.start for bar in self.board.bars), default=now)), now - 60)
        self._window.update(start=since * 1000, end=now * 1000)
        ended = [bar for bar in self.board.bars if bar.end is not None and bar.end > now - WINDOW]
        # What has ended stays as it is, but not in the order in which it began.
        ended.sort(key=lambda bar: bar.end or 0.0)
        self._ended.show(ended, ended[0].number if ended else None)
        running = self.board.running
        replace(self._running, _bars(running, now))
        self._said.text = self._summary(slots, running, ended, now)

    def _summary(self, slots: list[str], running: list[Bar], ended: list[Bar], now: float) -> str:
        first = min((bar.start for bar in self.board.bars), default=now)
        since = max(now - WINDOW, first)
        spent = sum(min(bar.end or now, now) - max(bar.start, since) for bar in [*running, *ended])
        share = spent / (len(slots) * (now - since)) if slots and now > since + 1 else 0.0
        seconds = sorted((bar.end or now) - bar.start for bar in ended)
        usual = seconds[len(seconds) // 2] if seconds else None
        slow = [bar for bar in running if usual is not None and now - bar.start > _STRAGGLER * usual]
        lost = sum(bar.status not in ("ok", "pruned") for bar in ended)
        parts = [f"<b>{len(running)}</b> of <b>{len(slots)}</b> slots busy", f"<b>{min(share, 1):.0%}</b> utilised"]
        if usual is not None:
            parts.append(f"a training takes {duration(usual)} (median)")
        if slow:
            parts.append(f"<b>{len(slow)}</b> take more than {_STRAGGLER:.0f} times as long")
        if lost:
            parts.append(f"<b>{lost}</b> failed or were lost")
        return " · ".join(parts)


class Training(Page):
    """The learning curves of what is trained now."""

    title = "Training"

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self._metric = Select(title="metric", options=[], width=220)
        self._said = Div(disable_math=True, sizing_mode="stretch_width")
        self._source = ColumnDataSource(_lines([], ""))
        self._drawn: str | None = None
        self.root = column(self._metric, self._said, sizing_mode="stretch_width")

    def update(self, job: str | None) -> None:
        """What is trained for this job now."""
        self.board.name_bars()
        running = [bar for bar in self.board.running if bar.job == job and bar.key in self.board.curves]
        found = [(bar, self.board.curves[bar.key]) for bar in running[-_LINES:]]
        metrics = sorted({name for _, curve in found for name in curve.points[-1][1]})
        if metrics and self._metric.options != metrics:
            self._metric.options = metrics
        if metrics and self._metric.value not in metrics:
            self._metric.value = next((name for name in metrics if name.startswith("val")), metrics[0])
        metric = self._metric.value
        replace(self._source, _lines(found, metric))
        drawn = metric if found else None  # a legend cannot be drawn of nothing
        if self._drawn != drawn:
            self._drawn = drawn
            chart = [curves(self._source, metric=drawn, x_label="report")] if drawn else []
            self.root.children = [self._metric, self._said, *chart]
        said = "" if found else "Nothing is trained now that reports on the way (<code>ctx.report</code>)."
        if self._said.text != said:
            self._said.text = said


def _bars(bars: Sequence[Bar], now: float = 0.0) -> Columns:
    return {
        "slot": [bar.slot for bar in bars],
        "start": [bar.start * 1000 for bar in bars],
        "end": [(bar.end or now) * 1000 for bar in bars],
        "seconds": [(bar.end or now) - bar.start for bar in bars],
        "status": [bar.status or "running" for bar in bars],
        "color": [BAR_COLORS.get(bar.status or "running", RED) for bar in bars],
        "job": [bar.job for bar in bars],
        "trial": ["" if bar.trial is None else str(bar.trial) for bar in bars],
    }


def _lines(found: Sequence[tuple[Bar, Curve]], metric: str) -> Columns:
    drawn = [(bar, [(x, y[metric]) for x, y in curve.points if metric in y]) for bar, curve in found]
    return {
        "xs": [[x for x, _ in points] for _, points in drawn],
        "ys": [[y for _, y in points] for _, points in drawn],
        "label": ["?" if bar.trial is None else f"trial {bar.trial}" for bar, _ in drawn],
        "color": [CYCLE[bar.number % len(CYCLE)] for bar, _ in drawn],
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
