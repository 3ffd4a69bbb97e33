"""The pages of all jobs together: how far each is, and what the slots of a running cluster train."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div
from bokeh.plotting import figure

from swarm.dashboard.board import ENDED, Bar, Board, Shown, Shows
from swarm.dashboard.cluster.cards import brief, cards_html
from swarm.dashboard.cluster.idle import idle_html
from swarm.dashboard.feed import Columns, Feed, replace
from swarm.dashboard.theme import TABLE
from swarm.plain import params_from_json
from swarm.plots.charts import BLUE, GRAY, GREEN, ORANGE, PURPLE, RED, SKY, YELLOW, as_many_ticks_as_fit
from swarm.plots.units import count, duration

_FINE = (None, "ok", "pruned", "cancelled")  # ends of a training that nobody has to look at
_WAYS = {"maximize": "<small>↑ maximize</small>", "minimize": "<small>↓ minimize</small>"}
_HEADS = ("job", "state", "method", "progress", "running", "best", "hyper-parameters", "left", "owner")
WINDOW = 600.0  # seconds that the chart of slots shows
_STRAGGLER = 3.0  # times the median
_JOB_COLORS = (BLUE, ORANGE, GREEN, SKY, PURPLE, YELLOW, "#8c6bb1", "#7f9c3b")
_NAMED = 12  # jobs in the legend
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
        self.open_trial: Callable[[int], None] = lambda _: None  # set by what has a page of trials as well

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
        found = reversed(self.board.shown.items())
        parts: dict[bool, list[str]] = {False: [], True: []}
        for name, shown in found:
            parts[shown.state.get("state") in ENDED].append(self._row_of(name, shown, slots))
        tables = [_table(rows) for rows in parts.values() if rows]
        text = self._total(slots) + "<h4>Ended</h4>".join(tables or [_table([])])
        if self._table.text != text:
            self._table.text = text

    def _total(self, slots: int) -> str:
        """How many slots there are, and how many of them train, as HTML; nothing where there are none."""
        states = [shown.state for shown in self.board.shown.values()]
        busy = sum(state["running"] for state in states if isinstance(state.get("running"), int))
        return f"<p><b>{busy}</b> trainings run on <b>{slots}</b> slots</p>" if slots else ""

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
            escape(state["owner"]) + self._weight(state["owner"]) + _share(state),
        )
        return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"

    def _weight(self, user: str) -> str:
        weight = self.board.weights.get(user)
        return "" if weight is None else f"<br><small>weight {weight:g}</small>"


def _share(state: dict[str, Any]) -> str:
    """What a job may have, if it is not what every job may, as HTML."""
    parts = [f"priority {state['priority']:g}"] if state.get("priority") not in (None, 1.0) else []
    parts += [f"at most {count(state['most'], 'slot')}"] if state.get("most") is not None else []
    return "".join(f"<br><small>{part}</small>" for part in parts)


def _table(rows: Sequence[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


class Slots(Page):
    """Who trained what on which slot in the last ten minutes."""

    title = "Slots"
    board: Board

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self._said = Div(disable_math=True, sizing_mode="stretch_width")
        self._cards = Div(disable_math=True, sizing_mode="stretch_width", stylesheets=[TABLE], visible=False)
        self._colors: dict[str, str] = {"": GRAY}  # by job
        self._ended: Feed[Bar] = Feed(self._bars)
        self._running = ColumnDataSource(self._bars([]))
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
        as_many_ticks_as_fit(chart)
        for source in (self._ended.source, self._running):
            bars = chart.hbar(
                y="row",
                left="start",
                right="end",
                height=0.8,
                source=source,
                fill_color="color",
                fill_alpha="alpha",
                line_color="edge",
                line_width="width",
            )
            bars.nonselection_glyph = None
            tips = [("job", "@job"), ("trial", "@trial"), ("status", "@status"), ("seconds", "@seconds{0.0}")]
            chart.add_tools(HoverTool(renderers=[bars], tooltips=[*tips, ("slot", "@slot")]))
        self.root = column(self._said, self._cards, chart, sizing_mode="stretch_both")

    def update(self, job: str | None) -> None:
        """All slots, whichever job they train for."""
        self.board.name_bars()
        now = time.time()
        slots = self.board.slots
        names = sorted({*slots, *(bar.slot for bar in self.board.bars if (bar.end or now) > now - WINDOW)})[::-1]
        if self._slots.factors != (rows := list(dict.fromkeys(map(brief, names)))):
            self._slots.factors = rows
        since = min(max(now - WINDOW, min((bar.start for bar in self.board.bars), default=now)), now - 60)
        self._window.update(start=since * 1000, end=now * 1000)
        ended = [bar for bar in self.board.bars if bar.end is not None and bar.end > now - WINDOW]
        # What has ended stays as it is, but not in the order in which it began.
        ended.sort(key=lambda bar: bar.end or 0.0)
        self._ended.show(ended, (ended[0].number, sum(not bar.job for bar in ended)) if ended else None)
        running = self.board.running
        replace(self._running, self._bars(running, now))
        busy = {bar.slot for bar in running}
        free = {brief(slot): kind for slot, kind in self.board.classes.items() if slot not in busy}
        waits = {brief(slot): why for slot, why in self.board.waits.items() if slot in slots}
        said = self._summary(slots, running, ended, now) + idle_html(free, waits, self.board.shown)
        if self._said.text != (said := said + self._legend([*ended, *running])):
            self._said.text = said

        if self._cards.text != (cards := cards_html(self.board.cards)):
            self._cards.update(text=cards, visible=bool(cards))

    def _color(self, job: str) -> str:
        """The colour of a job, the same for as long as the page is open."""
        return self._colors.setdefault(job, _JOB_COLORS[(len(self._colors) - 1) % len(_JOB_COLORS)])

    def _legend(self, bars: Sequence[Bar]) -> str:
        """Which job has which colour, as HTML."""
        jobs = dict.fromkeys(bar.job for bar in bars if bar.job)
        marks = [f"<span style='color:{self._color(job)}'>■</span> {escape(job)}" for job in list(jobs)[-_NAMED:]]
        return "<br>" + " &nbsp; ".join([*marks, "pale: runs now · red edge: failed or lost"]) if bars else ""

    def _bars(self, bars: Sequence[Bar], now: float = 0.0) -> Columns:
        bad = [bar.status not in _FINE for bar in bars]
        return {
            "slot": [bar.slot for bar in bars],
            "row": [brief(bar.slot) for bar in bars],
            "start": [bar.start * 1000 for bar in bars],
            "end": [(bar.end or now) * 1000 for bar in bars],
            "seconds": [(bar.end or now) - bar.start for bar in bars],
            "status": [bar.status or "running" for bar in bars],
            "color": [self._color(bar.job) for bar in bars],
            "alpha": [0.5 if bar.status is None else 0.9 for bar in bars],
            "edge": [RED if is_bad else None for is_bad in bad],
            "width": [3.0 if is_bad else 0.0 for is_bad in bad],
            "job": [bar.job for bar in bars],
            "trial": ["" if bar.trial is None else str(bar.trial) for bar in bars],
        }

    def _summary(self, slots: list[str], running: list[Bar], ended: list[Bar], now: float) -> str:
        first = min((bar.start for bar in self.board.bars), default=now)
        since = max(now - WINDOW, first)
        spent = sum(min(bar.end or now, now) - max(bar.start, since) for bar in [*running, *ended])
        share = spent / (len(slots) * (now - since)) if slots and now > since + 1 else 0.0
        seconds = sorted((bar.end or now) - bar.start for bar in ended)
        usual = seconds[len(seconds) // 2] if seconds else None
        slow = [bar for bar in running if usual is not None and now - bar.start > _STRAGGLER * usual]
        lost = sum(bar.status not in ("ok", "pruned") for bar in ended)
        busy = len({bar.slot for bar in running})  # the next training may be there before the last one has gone
        parts = [f"<b>{busy}</b> of <b>{len(slots)}</b> slots busy", f"<b>{min(share, 1):.0%}</b> utilised"]
        if usual is not None:
            parts.append(f"a training takes {duration(usual)} (median)")
        if slow:
            parts.append(f"<b>{len(slow)}</b> take more than {_STRAGGLER:.0f} times as long")
        if lost:
            parts.append(f"<b>{lost}</b> failed or were lost")
        return " · ".join(parts)


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
