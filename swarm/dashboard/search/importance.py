"""How much each hyper-parameter matters so far, worked out beside the pages again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING

from bokeh.layouts import column
from bokeh.models import ColumnDataSource
from bokeh.models.widgets import Div

from swarm.dashboard.search.aside import Aside
from swarm.plots.axes import drawable
from swarm.plots.charts import importance as importance_figure
from swarm.service.published.snapshot import Point
from swarm.space.space import Space
from swarm.trial import Params

if TYPE_CHECKING:
    from swarm.runs.importance import Importance

_MOST = 500  # trials, the latest


class Matters:
    """The importance of the hyper-parameters of a search, as a figure.

    Args:
        space: Of the search.

    Attributes:
        root: What is shown.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        names = list(space.names)
        nothing = [0.0] * len(names)
        bars = {"name": names, "importance": nothing, "low": nothing, "high": nothing}
        self._bars = ColumnDataSource(bars)
        self._plot = importance_figure(self._bars, names)
        self._said = Div(disable_math=True, sizing_mode="stretch_width")
        self.root = column(self._said, sizing_mode="stretch_width")
        self._aside: Aside[Importance] = Aside()

    def draw(self, known: Sequence[Point]) -> None:
        """Show what is known of it; from time to time it is worked out of these trials, which have a fitness."""
        budget = Counter(point.budget for point in known).most_common(1)[0][0] if known else None
        alike = [point for point in known if point.budget == budget][-_MOST:]
        fitness = [float(drawable(point.fitness)) for point in alike]
        work = partial(_importance, self._space, [point.params for point in alike], fitness)
        if self._aside.ask(len(known), work):
            self._show(self._aside.found, budget)

    def _show(self, found: Importance | None, budget: float | None) -> None:
        if found is None:
            self._said.text = "Too few different trials to say which hyper-parameters matter."
            return
        table = found.table
        self._plot.y_range.factors = list(table["name"])[::-1]
        self._bars.data = {
            "name": list(table["name"]),
            "importance": list(table["importance"]),
            "low": list(table["importance"] - table["deviation"]),
            "high": list(table["importance"] + table["deviation"]),
        }
        if self._plot not in self.root.children:
            self.root.children = [self._plot, self._said]
        upto = "" if budget is None else f" Of the trials with budget {budget:g}, of which there are most."
        self._said.text = escape(found.confidence + upto)


def _importance(space: Space, configurations: list[Params], fitness: list[float]) -> Importance | None:
    from swarm.runs.importance import importance  # pandas: a second that the pages do without

    return importance(space, configurations, fitness)
