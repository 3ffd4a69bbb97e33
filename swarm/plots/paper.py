"""Bokeh figures of what the paper on parallel PSO reports: times, shares and archive reads, by fold and generation.

Source: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization, figures 5 to 8 and
10 to 13. As in :mod:`swarm.plots.charts`, docstrings name the columns of the sources.
"""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d
from bokeh.plotting import figure

from swarm.plots.charts import BLUE, GRAY, RED, SOURCES, legend_above, new_figure, whole


def per_fold(
    folds: ColumnDataSource, names: Sequence[str], average: float, *, title: str, y_label: str, bars: bool = True
) -> figure:
    """One number per cross-validation fold, and their average as a line.

    Args:
        folds: Columns ``fold`` (a text), ``value``.
        names: The folds, in order.
        average: Over the folds.
        title: What stands above.
        y_label: Of the axis.
        bars: Bars from zero, or points for what differs by little.
    """
    plot = new_figure(title, height=280, x_axis_label="fold", y_axis_label=y_label, x_range=FactorRange(*names))
    if bars:
        plot.vbar("fold", top="value", width=0.7, source=folds, color=BLUE)
        plot.y_range.start = 0
    else:
        plot.scatter("fold", "value", source=folds, size=10, color=BLUE)
    line = {"color": RED, "line_dash": "dashed", "line_width": 2}
    plot.line(list(names), [average] * len(names), legend_label=f"average {average:.4g}", **line)
    plot.add_tools(HoverTool(tooltips=[("fold", "@fold"), (y_label, "@value")]))
    return legend_above(plot)


def shares(folds: ColumnDataSource, names: Sequence[str]) -> figure:
    """Share of the evaluations of each fold that were trained, read from the archive, and joined in flight.

    Args:
        folds: Columns ``fold`` (a text), ``trained``, ``archive``, ``in_flight`` in percent.
        names: The folds, in order.
    """
    plot = new_figure(
        "Trained and archived",
        height=280,
        x_axis_label="fold",
        y_axis_label="share of evaluations (%)",
        x_range=FactorRange(*names),
    )
    columns = [label.replace(" ", "_") for label in SOURCES]
    plot.vbar_stack(
        columns, x="fold", width=0.7, source=folds, color=list(SOURCES.values()), legend_label=list(SOURCES)
    )
    plot.add_tools(HoverTool(tooltips=[(label, f"@{c}{{0.0}} %") for label, c in zip(SOURCES, columns, strict=True)]))
    plot.y_range = Range1d(0, 100)
    return legend_above(plot)


def per_generation(average: ColumnDataSource, folds: ColumnDataSource | None, *, title: str, y_label: str) -> figure:
    """One number per generation, averaged over the folds.

    Args:
        average: Columns ``generation``, ``value``.
        folds: Columns ``xs``, ``ys``, a thin line per fold; None where there is only one.
        title: What stands above.
        y_label: Of the axis.
    """
    plot = new_figure(title, height=280, x_axis_label="generation", y_axis_label=y_label)
    if folds is not None:
        plot.multi_line("xs", "ys", source=folds, color=GRAY, alpha=0.6, legend_label="each fold")
    plot.line(
        "generation", "value", source=average, color=BLUE, line_width=3, legend_label="average" if folds else y_label
    )
    plot.scatter("generation", "value", source=average, color=BLUE, size=6)
    plot.add_tools(HoverTool(tooltips=[("generation", "@generation"), (y_label, "@value")], mode="vline"))
    plot.y_range.start = 0
    whole(plot.xaxis)
    if folds is not None:
        return legend_above(plot)
    plot.legend.visible = False
    return plot
