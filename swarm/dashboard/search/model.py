"""The page of a method's model: what it expected of each trial, how well it foretold, which candidates it chose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape

from bokeh.models import ColumnDataSource
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div

from swarm.dashboard.board import Shown
from swarm.dashboard.feed import replace
from swarm.dashboard.job_page import JobPage
from swarm.dashboard.search.words import fitness_name
from swarm.dashboard.theme import TABLE, tiled
from swarm.plots.axes import Axis
from swarm.plots.foretold import (
    WINDOW,
    Foretold,
    correlations,
    diagonal,
    expectations,
    named,
    over_time,
    point_columns,
    rank_correlation,
)
from swarm.service.published.snapshot import View

_BEST = 10
_NONE = "This method has no model that says beforehand what it expects of a trial: <code>SurrogatePSO</code> has one."


class Model(JobPage):
    """What the model expected, what came, and which candidates were chosen."""

    title = "Model"

    def kind(self, view: View) -> object:
        """Whether a model has said anything."""
        return any(point.foretold for point in view.points)

    def figures(self, axes: Sequence[Axis], shown: Shown) -> list[LayoutDOM]:
        """The candidates, expected and found, and the rank correlation; none where nothing is foretold."""
        assert shown.view is not None
        if not self.kind(shown.view):
            return []
        self._points, self._line = ColumnDataSource(point_columns([])), ColumnDataSource(diagonal([]))
        self._over_time = ColumnDataSource(over_time([]))
        expected = expectations(self._points, self._line, label=fitness_name(shown.job))
        self._candidates = Div(stylesheets=[TABLE], disable_math=True, sizing_mode="stretch_width")
        return [self._candidates, tiled([expected, correlations(self._over_time)])]

    def draw(self, view: View, job: object) -> str:
        """How well the model foretold."""
        if not self.kind(view):
            return _NONE
        rows = foretold(view)
        replace(self._points, point_columns(rows))
        replace(self._line, diagonal(rows))
        replace(self._over_time, over_time(rows))
        if self._candidates.text != (table := _table(rows, view)):
            self._candidates.text = table
        return _said(rows)


def foretold(view: View) -> list[Foretold]:
    """The trials of which a model said what it expected, and that have a fitness, in the order of the questions."""
    return [
        Foretold(point.trial, str(point.foretold["move"]), float(point.foretold["expected"]), point.fitness)
        for point in sorted(view.points, key=lambda point: point.trial)
        if point.foretold and point.fitness is not None
    ]


def _said(rows: Sequence[Foretold]) -> str:
    latest, all_ = rank_correlation(rows[-WINDOW:]), rank_correlation(rows)
    if latest is None or all_ is None:
        return f"Of <b>{len(rows)}</b> trials the model said what it expected: too few to judge it by."
    return (
        f"Of <b>{len(rows)}</b> trials the model said what it expected. Rank correlation with what came: "
        f"<b>{all_:.2f}</b>, of the last {min(WINDOW, len(rows))} <b>{latest:.2f}</b>. 1 is a perfect order, 0 none; "
        "near an optimum, where all is alike, it falls."
    )


def _table(rows: Sequence[Foretold], view: View) -> str:
    """Which kinds of candidates were chosen, and how many of the best they are, as HTML."""
    best = {point.trial for point in view.ordered()[:_BEST]}
    kinds = defaultdict[str, list[Foretold]](list)
    for row in rows:
        kinds[named(row.move)].append(row)
    lines = "".join(
        f"<tr><td>{escape(kind)}</td><td>{len(each)}</td><td>{sum(row.trial in best for row in each)}</td></tr>"
        for kind, each in sorted(kinds.items())
    )
    heads = "".join(f"<th>{head}</th>" for head in ("candidate", "trials", f"of the {len(best)} best"))
    return f"<table><tr>{heads}</tr>{lines}</table>"
