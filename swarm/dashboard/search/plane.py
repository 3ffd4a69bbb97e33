"""Two hyper-parameters of a search, chosen by its page: the trials there, the fitness between, and its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColorMapper, ColumnDataSource
from bokeh.models.widgets import Select

from swarm.dashboard.feed import Columns, replace
from swarm.dashboard.search.ground import ground, position
from swarm.dashboard.theme import WIDGETS
from swarm.plots.axes import Axis, drawable
from swarm.plots.plane import plane
from swarm.service.published.snapshot import Point

_MOST = 800  # trials between which is interpolated
_NAN = float("nan")


class Plane:
    """A figure of two hyper-parameters, rebuilt when others are chosen.

    Args:
        points: Columns of the trials.
        mapper: From fitness to colours.
        axes: All hyper-parameters.
        name: What the fitness is.

    Attributes:
        root: What is shown.
        selects: Choose the two.
    """

    def __init__(self, points: ColumnDataSource, mapper: ColorMapper, axes: Sequence[Axis], name: str) -> None:
        self._points, self._mapper, self._name = points, mapper, name
        self._axes = {axis.name: axis for axis in axes}
        names = list(self._axes)
        self.selects = [
            Select(title=title, options=names, value=value, width=150, stylesheets=[WIDGETS])
            for title, value in (("across", names[0]), ("up", names[min(1, len(names) - 1)]))
        ]
        for select in self.selects:
            select.on_change("value", lambda attr, old, new: self._make())
        self.root = column(sizing_mode="stretch_width")
        self._known: list[Point] = []
        self._members: list[list[Point]] = []
        self._make()

    @property
    def _both(self) -> tuple[Axis, Axis]:
        across, up = (self._axes[select.value] for select in self.selects)
        return across, up

    def _make(self) -> None:
        across, up = self._both
        self._ground = ColumnDataSource({"image": []})
        self._moves = ColumnDataSource(_moves([], across, up))
        self._drawn = -1
        plot = plane(self._points, self._ground, self._moves, across, up, mapper=self._mapper, y_label=self._name)
        self.draw(self._known, self._members)
        self.root.children = [plot]

    def draw(self, known: Sequence[Point], members: Sequence[Sequence[Point]]) -> None:
        """Show these trials, which have a fitness, and where members are and were."""
        self._known, self._members = list(known), [list(each) for each in members]
        replace(self._moves, _moves(members, *self._both))
        if known and self._drawn != len(known):
            self._drawn = len(known)
            latest, both = known[-_MOST:], self._both
            across, up = (np.array([position(axis, point.params) for point in latest]) for axis in both)
            fitness = drawable(np.array([point.fitness for point in latest], float))
            self._ground.data = {"image": [ground(across, up, fitness, both)]}


def drawn(axis: Axis, params: Mapping[str, Any]) -> float | str:
    """A value of a hyper-parameter as figures draw it; NaN or an empty text if a configuration is without."""
    if axis.name not in params:
        return "" if axis.scale == "options" else _NAN
    return axis.label(params[axis.name]) if axis.scale == "options" else float(params[axis.name])


def _moves(members: Sequence[Sequence[Point]], across: Axis, up: Axis) -> Columns:
    return {
        "x0": [drawn(across, points[0].params) for points in members],
        "y0": [drawn(up, points[0].params) for points in members],
        "x": [drawn(across, points[-1].params) for points in members],
        "y": [drawn(up, points[-1].params) for points in members],
        "member": [points[-1].member for points in members],
        "trial": [points[-1].trial for points in members],
    }
