"""Trials that somebody has chosen by a drag: the same in all figures, and what they have in common in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from bokeh.models import ColumnDataSource, CustomJS
from bokeh.plotting import figure

from swarm.dashboard.search.words import text
from swarm.plots.axes import Axis
from swarm.plots.plane import brushed
from swarm.service.published.snapshot import Point

_OPTIONS = 3  # that are named
_BRUSH = """
if (!cb_obj.final) return;
const {x0, x1, y0, y1} = cb_obj.geometry, ys = lines.data.ys;
const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)], [low, high] = [Math.min(y0, y1), Math.max(y0, y1)];
const crossed = ys.length === 0 ? [] : Array.from(ys[0], (_, i) => i).filter((i) => left <= i && i <= right);
if (crossed.length === 0) return;
const chosen = new Set();
for (let n = 0; n < ys.length; n++)
  if (crossed.every((i) => low <= ys[n][i] && ys[n][i] <= high)) chosen.add(lines.data.trial[n]);
points.selected.indices = Array.from(points.data.trial, (_, i) => i).filter((i) => chosen.has(points.data.trial[i]));
"""


def brush_lines(plot: figure, lines: ColumnDataSource, points: ColumnDataSource) -> None:
    """Have a drag across axes of parallel coordinates choose the trials whose lines pass there on each of them.

    Args:
        plot: The parallel coordinates.
        lines: Columns ``ys`` and ``trial``.
        points: What is chosen in; column ``trial``.
    """
    brushed(plot)
    plot.js_on_event("selectiongeometry", CustomJS(args={"lines": lines, "points": points}, code=_BRUSH))


def chosen_html(chosen: Sequence[Point], axes: Sequence[Axis], name: str, direction: str) -> str:
    """How good the chosen trials are, and the values that they have, as HTML."""
    fitness = sorted(point.fitness for point in chosen if point.fitness is not None)
    best = fitness[-1] if direction == "maximize" else fitness[0]
    worst = fitness[0] if direction == "maximize" else fitness[-1]
    parts = [f"<b>{len(chosen)}</b> chosen", f"{escape(name)} <b>{text(best)}</b> to {text(worst)}"]
    return " · ".join([*parts, *(part for axis in axes for part in _values(chosen, axis))])


def _values(chosen: Sequence[Point], axis: Axis) -> Iterator[str]:
    values = [point.params[axis.name] for point in chosen if axis.name in point.params]
    if not values:
        return
    if axis.scale == "options":
        counts = Counter(axis.label(value) for value in values).most_common(_OPTIONS)
        yield f"{escape(axis.name)} " + ", ".join(f"{escape(label)} ({count})" for label, count in counts)
    else:
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        yield f"{escape(axis.name)} {min(numbers):.4g} to {max(numbers):.4g}"
