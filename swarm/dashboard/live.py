"""The pages of all jobs together: how far each is, and what the slots of a running cluster train."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div
from bokeh.plotting import figure

from swarm.dashboard.board import Bar, Board, Shown, Shows
from swarm.dashboard.feed import Columns, Feed, replace
from swarm.dashboard.theme import TABLE
from swarm.plots.charts import BLUE, GRAY, ORANGE, PURPLE, RED, SKY
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
_WAYS = {"maximize": "<small>↑</small>", "minimize": "<small>↓</small>"}
WINDOW = 600.0  # seconds that the chart of slots shows
_STRAGGLER = 3.0  # times the median
_WAITS = 20  # slots that are said to wait
_SPARK = 100, 22  # width and height in pixels
_SPARKS = 60  # points


class Page(ABC):
    """One tab: ``root`` is what Bokeh shows, ``update`` brings it up to date.

    Args:
        board: What is shown.
    """

    title: str
    root: LayoutDOM

    def __init__(self, board: Shows) -> None:
        self.board = board

    @abstractmethod
    def update(self, job: str | None) -> None:
        """Show how things are; of the pages of one job, that of this job."""


class Jobs(Page):
    """All jobs: how far they are, what they found, and which share of the slots they have."""

    title = "Jobs"

    def __init__(self, board: Shows) -> None:
        super().__init__(board)
        self.root = self._table = Div(disable_math=True, sizing_mode="stretch_width", stylesheets=[TABLE])

    def update(self, job: str | None) -> None:
        """All jobs, the latest first."""
        slots = len(self.board.slots)
        heads = ("job", "state", "method", "progress", "running", "best", "hyper-parameters", "left", "owner")
        rows = [self._row_of(name, shown, slots) for name, shown in reversed(self.board.shown.items())]
        head = "".join(f"<th>{name}</th>" for name in heads)
        text = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        if self._table.text != text:
            self._table.text = text

    def _row_of(self, name: str, shown: Shown, slots: int) -> str:
        """The row of a job; one that cannot be drawn says so, and harms no other."""
        try:
            return self._row(name, shown.state, slots, _sparkline(shown))
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            said = escape(f"cannot be shown: {type(error).__name__}: {error}")
            return f"<tr><td><b>{escape(name)}</b></td><td colspan='8'>{said}</td></tr>"

    def _row(self, name: str, state: dict[str, Any], slots: int, spark: str) -> str:
        best = state["best"]
        done = state["told"] / state["planned"] if state["planned"] else 0.0
        of = escape(f"{state['told']} of {state['planned'] or '?'}")
        left = state["seconds_left"]
        params = (
            "" if best is None else ", ".join(f"{k} {_short(v)}" for k, v in params_from_json(best["params"]).items())
        )
        trouble = state["trouble"] or state["reason"] or state["end_reason"] or ""
        cells = (
            f"<a href='?{escape(urlencode({'job': name, 'page': 'trials'}))}'><b>{escape(name)}</b></a>"
            f"<br><small>{escape(state['problem'])}</small>",
            f"<span class='state {escape(state['state'])}'>{escape(state['state'])}</span>"
            f"<br><small>{escape(trouble)}</small>",
            f"{escape(state['optimizer'])}<br><small>generation {state['generation']:d}</small>",
            f"<progress max='1' value='{done:.4f}'></progress><br><small>{of}</small>",
            f"{state['running']:d}<br><small>{state['running'] / slots:.0%} of {slots} slots</small>"
            if slots
            else "no slots",
            "" if best is None else f"<b>{best['fitness']:.5g}</b> {_WAYS.get(state['direction'], '')}<br>{spark}",
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
    board: Board

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
        waiting = [
            f"<br><b>{escape(name)}</b> waits for its GPU: {escape(why)}"
            for name, why in sorted(self.board.waits.items())
            if name in slots
        ]
        self._said.text = self._summary(slots, running, ended, now) + "".join(waiting[:_WAITS])

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


def _sparkline(shown: Shown) -> str:
    """The best fitness so far over the trials, as a small picture."""
    if shown.view is None:
        return ""
    known = [point.best for point in shown.view.points if point.best is not None]
    best = known[:: max(1, len(known) // _SPARKS)]
    if len(best) < 2:
        return ""
    (width, height), low, high = _SPARK, min(best), max(best)
    span = high - low or 1.0
    places = " ".join(
        f"{width * i / (len(best) - 1):.1f},{(height - 2) * (high - value) / span + 1:.1f}"
        for i, value in enumerate(best)
    )
    drawn = f"<polyline points='{places}' fill='none' stroke='{BLUE}' stroke-width='1.5'/>"
    return f"<svg width='{width}' height='{height}' role='img' aria-label='best so far'>{drawn}</svg>"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
