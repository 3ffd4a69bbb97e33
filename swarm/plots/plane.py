"""Two hyper-parameters of a search against each other: its trials, where its members move, and the fitness between."""

from __future__ import annotations

from typing import Any

from bokeh.models import BoxSelectTool, ColorBar, ColorMapper, ColumnDataSource, FactorRange, Range1d
from bokeh.plotting import figure
from bokeh.transform import jitter

from swarm.plots.axes import Axis
from swarm.plots.charts import GRAY, ORANGE, as_text, hover, new_figure, whole

_MARGIN = 0.03  # of an axis, beyond its bounds


def plane(
    points: ColumnDataSource,
    ground: ColumnDataSource,
    moves: ColumnDataSource,
    across: Axis,
    up: Axis,
    *,
    mapper: ColorMapper,
    y_label: str,
) -> figure:
    """Trials over two hyper-parameters, in real values and on their own scales; the colour is the fitness.

    Args:
        points: Columns ``trial``, ``fitness``, and those of both axes.
        ground: One row: ``image``, fitness on a grid over both axes.
        moves: A row per member: ``x``, ``y``, ``x0``, ``y0`` (where it is, and where it was), ``member``, ``trial``.
        across: The hyper-parameter along the horizontal axis.
        up: The other one.
        mapper: From fitness to colours.
        y_label: What the colour means.
    """
    options: dict[str, Any] = {}
    for side, axis in (("x", across), ("y", up)):
        options[f"{side}_range"] = _range(axis)
        if axis.scale != "options":
            options[f"{side}_axis_type"] = axis.scale
    plot = new_figure(
        f"{across.name} and {up.name}", height=400, x_axis_label=across.name, y_axis_label=up.name, **options
    )
    (left, width), (bottom, height) = _extent(across), _extent(up)
    plot.image(
        "image",
        source=ground,
        x=left,
        y=bottom,
        dw=width,
        dh=height,
        color_mapper=mapper,
        global_alpha=0.35,
        level="image",
    )
    plot.segment("x0", "y0", "x", "y", source=moves, color=GRAY, line_width=1.5)
    dots = plot.scatter(
        _spread(across, plot.x_range),
        _spread(up, plot.y_range),
        source=points,
        size=7,
        color={"field": "fitness", "transform": mapper},
        line_color=None,
    )
    members = plot.scatter("x", "y", source=moves, size=13, fill_color=None, line_color=ORANGE, line_width=2)
    plot.add_layout(ColorBar(color_mapper=mapper, title=as_text(y_label), width=12), "right")
    plot.add_tools(hover([across, up], [(y_label, "@fitness{%.5g}")], dots))
    for axis, drawn in ((across, plot.xaxis), (up, plot.yaxis)):
        if axis.whole and axis.scale == "linear":
            whole(drawn)
    members.nonselection_glyph = None
    plot.grid.visible = False
    brushed(plot, dots)
    return plot


def brushed(plot: figure, drawn: Any = None) -> None:
    """Let a drag select what lies in a rectangle; nothing is drawn, and listeners to the gesture make the selection."""
    brush = BoxSelectTool(renderers=[] if drawn is None else [drawn])
    plot.add_tools(brush)
    plot.toolbar.active_drag = brush


def _range(axis: Axis) -> Any:
    """From a little below its lowest value to a little above its highest."""
    if axis.scale == "options":
        return FactorRange(*axis.options)
    low, high = axis.low, axis.high
    if axis.scale == "log":
        beyond = (high / low) ** _MARGIN if high > low else 2.0
        return Range1d(low / beyond, high * beyond)
    beyond = (high - low) * _MARGIN or 1.0
    return Range1d(low - beyond, high + beyond)


def _extent(axis: Axis) -> tuple[float, float]:
    """Where the grid begins along an axis, and how long it is."""
    return (0.0, float(len(axis.options))) if axis.scale == "options" else (axis.low, axis.high - axis.low)


def _spread(axis: Axis, range_: Any) -> Any:
    return jitter(axis.column, 0.5, range=range_) if axis.scale == "options" else axis.column
