"""Bokeh figures of a run, for pages that are live and for reports: each draws column data that its caller keeps.

A figure knows nothing of jobs and journals. Its docstring names the columns that its :class:`ColumnDataSource` has;
the tables of :class:`swarm.runs.history.History` have them. What is streamed or patched into the source is drawn.
Colours of text, axes and backgrounds are left to the theme; those here can be told apart by the colour-blind, on black
and white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    FactorRange,
    FixedTicker,
    HoverTool,
    LinearAxis,
    LinearColorMapper,
    LogColorMapper,
    Range1d,
    Span,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from bokeh.transform import factor_cmap, factor_mark, jitter

from swarm.plots.axes import Axis

# Okabe and Ito, Color Universal Design (2008), without the black.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GRAY = "#CC79A7", "#56B4E9", "#F0E442", "#888888"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GRAY)
SOURCES = {"trained": BLUE, "archive": ORANGE, "in flight": GREEN}
MARKERS = {"trained": "circle", "archive": "triangle", "in flight": "diamond"}
KINDS = {"trained": BLUE, "test": PURPLE, "pruned": ORANGE, "failed": RED, "running": SKY}
PALETTE = tuple(Viridis256[30:225])  # dark to bright, without the ends that white and black swallow
_HOVER_ROWS = 20


def fitness(
    points: ColumnDataSource,
    bands: ColumnDataSource,
    axes: Sequence[Axis] = (),
    *,
    title: str = "Fitness",
    x_label: str = "generation",
    y_label: str = "fitness",
    log: bool = False,
    budgets: bool = False,
) -> figure:
    """Every trial as a point, and the range, mean and best so far over the generations.

    Args:
        points: Columns ``x``, ``fitness``, ``source`` (a key of :data:`SOURCES`), ``trial``, and for the hover one per
            axis, named :attr:`Axis.column`.
        bands: Columns ``x``, ``low``, ``mean``, ``high``, ``best``.
        axes: Hyper-parameters that the hover shows.
        title: What stands above.
        x_label: Of the axis.
        y_label: Of the axis.
        log: Whether fitness has a logarithmic scale, here and below.
        budgets: Whether colours tell budgets apart: points then have columns ``budget``, a text, and ``color``.
    """
    scale = "log" if log else "linear"
    plot = new_figure(title, height=440, x_axis_label=x_label, y_axis_label=y_label, y_axis_type=scale)
    plot.varea("x", "low", "high", source=bands, fill_color=SKY, fill_alpha=0.25, legend_label="minimum to maximum")
    told = {"legend_field": "budget", "color": "color"} if budgets else {"legend_field": "source"}
    dots = _dots(plot, "x", points, size=7, alpha=0.75, **told)
    plot.line("x", "mean", source=bands, line_width=2, line_dash="dashed", color=GRAY, legend_label="mean")
    plot.step("x", "best", source=bands, mode="after", line_width=3, color=PURPLE, legend_label="best so far")
    rows = [("fitness", "@fitness{%.5g}"), ("answered", "@source"), *([("", "@budget")] if budgets else [])]
    plot.add_tools(hover(axes, rows, dots))
    return legend_above(plot, columns=2 if budgets else 3)


def shades(count: int) -> list[str]:
    """So many colours, from dark to bright, each to be seen on black and on white."""
    seen = PALETTE[len(PALETTE) // 4 :]
    return [seen[round(i * (len(seen) - 1) / max(1, count - 1))] for i in range(count)]


def parallel(
    lines: ColumnDataSource,
    axes: Sequence[Axis],
    *,
    y_label: str = "fitness",
    palette: Sequence[str] = PALETTE,
    log: bool = False,
) -> figure:
    """Parallel coordinates: a line per trial through its value on every axis; the colour is its fitness.

    Args:
        lines: Columns ``xs`` (0, 1, …, one per axis), ``ys`` (positions in [0, 1]), ``fitness``, ``trial`` and one per
            axis, named :attr:`Axis.column`. What stands last is drawn on top.
        axes: Hyper-parameters, from the left to the right.
        y_label: What the colour means.
        palette: Colours from low to high fitness.
        log: Whether fitness has a logarithmic scale.
    """
    plot = new_figure("Search space", height=400, x_range=Range1d(-0.35, len(axes) - 0.6), y_range=Range1d(-0.05, 1.05))
    mapper = (LogColorMapper if log else LinearColorMapper)(palette=list(palette))
    drawn = plot.multi_line(
        "xs", "ys", source=lines, color={"field": "fitness", "transform": mapper}, line_width=1.5, alpha=0.7
    )
    drawn.hover_glyph = drawn.glyph.clone(line_width=4, line_alpha=1.0)
    plot.xaxis.ticker = FixedTicker(ticks=list(range(len(axes))))
    plot.xaxis.major_label_overrides = {i: axis.name for i, axis in enumerate(axes)}
    plot.xgrid.visible = plot.ygrid.visible = plot.yaxis.visible = False
    if len(axes) > 8:
        plot.xaxis.major_label_orientation = 0.6
    ticks = [(i, place, text) for i, axis in enumerate(axes) for place, text in axis.ticks]
    for i in range(len(axes)):
        ticker = FixedTicker(ticks=[place for at, place, _ in ticks if at == i])
        plot.add_layout(LinearAxis(fixed_location=i, ticker=ticker, major_label_text_font_size="0pt"), "left")
    labels = dict(zip(("x", "y", "text"), map(list, zip(*ticks, strict=True)), strict=True))
    plot.text(source=ColumnDataSource(labels), x_offset=-7, text_align="right", text_baseline="middle", padding=1)
    plot.add_layout(ColorBar(color_mapper=mapper, title=as_text(y_label), width=12), "right")
    plot.add_tools(hover(axes, [(y_label, "@fitness{%.5g}")], drawn, line_policy="interp"))
    return plot


def value(points: ColumnDataSource, axis: Axis, *, y_label: str = "fitness", log: bool = False) -> figure:
    """What came of each value of one hyper-parameter.

    Args:
        points: Columns of :func:`fitness`, among them that of the axis.
        axis: The hyper-parameter.
        y_label: Of the axis.
        log: Whether fitness has a logarithmic scale.
    """
    options: dict[str, Any] = {"y_axis_type": "log" if log else "linear"}
    if axis.scale == "options":
        options["x_range"] = FactorRange(*axis.options)
    else:
        options["x_axis_type"] = axis.scale
    plot = new_figure(axis.name, height=250, y_axis_label=y_label, **options)
    across = axis.column if axis.scale != "options" else jitter(axis.column, 0.5, range=plot.x_range)
    dots = _dots(plot, across, points, size=6, alpha=0.6)
    if axis.whole:
        whole(plot.xaxis)
    plot.add_tools(hover([axis], [(y_label, "@fitness{%.5g}"), ("answered", "@source")], dots))
    return plot


def archive(generations: ColumnDataSource, *, title: str = "Answers per generation") -> figure:
    """How the evaluations of each generation were answered.

    Args:
        generations: Columns ``generation``, ``trained``, ``archive``, ``in_flight``.
        title: What stands above.
    """
    plot = new_figure(title, height=320, x_axis_label="generation", y_axis_label="evaluations")
    labels = list(SOURCES)
    plot.vbar_stack(
        [label.replace(" ", "_") for label in labels],
        x="generation",
        width=0.9,
        source=generations,
        color=list(SOURCES.values()),
        legend_label=labels,
        line_color=None,
    )
    rows = [(label, f"@{{{label.replace(' ', '_')}}}") for label in labels]
    plot.add_tools(HoverTool(tooltips=[("generation", "@generation"), *rows]))
    plot.y_range.start = 0
    whole(plot.xaxis)
    whole(plot.yaxis)
    return legend_above(plot)


def saved(generations: ColumnDataSource, *, unit: str = "GPU hours") -> figure:
    """Time that trainings have taken so far, and that answers without training have saved.

    Args:
        generations: Columns ``generation``, ``spent``, ``saved``.
        unit: Of both.
    """
    plot = new_figure("Time spent and saved", height=320, x_axis_label="generation", y_axis_label=unit)
    for column, color, label, dash in (
        ("spent", BLUE, "spent on training", "solid"),
        ("saved", ORANGE, "saved", "dashed"),
    ):
        plot.line(
            "generation", column, source=generations, color=color, line_width=3, line_dash=dash, legend_label=label
        )
    plot.add_tools(HoverTool(tooltips=[("generation", "@generation"), ("spent", "@spent"), ("saved", "@saved")]))
    plot.y_range.start = 0
    return legend_above(plot)


def slots(trainings: ColumnDataSource, names: Sequence[str], *, unit: str = "s") -> figure:
    """Gantt chart: which slot trained what, and when.

    Args:
        trainings: Columns ``slot``, ``start``, ``end`` (since the run began), ``kind`` (a key of :data:`KINDS`),
            ``trial``, ``duration`` and ``note`` (texts for the hover).
        names: All slots, from the top to the bottom.
        unit: Of ``start`` and ``end``.
    """
    names = list(names)
    plot = new_figure(
        "Slots",
        height=110 + (26 if len(names) <= 24 else 14) * len(names),
        x_axis_label=f"time since the start ({unit})",
        y_range=FactorRange(*names[::-1]),
    )
    plot.hbar(
        "slot",
        left="start",
        right="end",
        height=0.8,
        source=trainings,
        color=factor_cmap("kind", list(KINDS.values()), list(KINDS)),
        line_color="white",
        line_width=0.5,
        legend_field="kind",
    )
    rows = [("trial", "@trial"), ("slot", "@slot"), ("", "@kind, @duration"), ("", "@note")]
    plot.add_tools(HoverTool(tooltips=rows))
    plot.ygrid.visible = False
    plot.x_range.start = 0
    return legend_above(plot)


def busy(steps: ColumnDataSource, slots: int, *, unit: str = "s") -> figure:
    """How many slots train over time.

    Args:
        steps: Columns ``time``, ``busy`` (from then on).
        slots: Number of slots there are, a line.
        unit: Of ``time``.
    """
    plot = new_figure("Busy slots", height=200, x_axis_label=f"time since the start ({unit})", y_axis_label="slots")
    plot.step("time", "busy", source=steps, mode="after", line_width=2, color=BLUE)
    plot.add_layout(Span(location=slots, dimension="width", line_color=GRAY, line_dash="dotted", line_width=2))
    plot.y_range = Range1d(0, slots * 1.15)
    plot.x_range.start = 0
    whole(plot.yaxis)
    return plot


def lineage(
    nodes: ColumnDataSource,
    edges: ColumnDataSource,
    *,
    y_label: str = "fitness",
    palette: Sequence[str] = PALETTE,
    log: bool = False,
) -> figure:
    """Whose weights each network goes on from; the winner's line is thick.

    Args:
        nodes: Columns ``generation``, ``member``, ``fitness``, ``trial`` and ``parent`` (a text).
        edges: Columns ``generation``, ``member``, ``parent_generation``, ``parent_member``, ``width``.
        y_label: What the colour means.
        palette: Colours from low to high fitness.
        log: Whether fitness has a logarithmic scale.
    """
    plot = new_figure("Lineage", height=360, x_axis_label="generation", y_axis_label="member of the population")
    plot.segment(
        "parent_generation",
        "parent_member",
        "generation",
        "member",
        source=edges,
        line_width="width",
        color=GRAY,
        alpha=0.8,
    )
    mapper = (LogColorMapper if log else LinearColorMapper)(palette=list(palette))
    dots = plot.scatter(
        "generation",
        "member",
        source=nodes,
        size=11,
        color={"field": "fitness", "transform": mapper},
        line_color="white",
    )
    plot.add_layout(ColorBar(color_mapper=mapper, title=as_text(y_label), width=12), "right")
    rows = [("trial", "@trial"), ("goes on from", "@parent"), (y_label, "@fitness{%.5g}")]
    plot.add_tools(HoverTool(tooltips=rows, formatters={"@fitness": "printf"}, renderers=[dots]))
    plot.xgrid.visible = plot.ygrid.visible = False
    return plot


def schedule(steps: ColumnDataSource, *, name: str, log: bool = False, mean: bool = True) -> figure:
    """One hyper-parameter over the training of PBT's winner.

    Args:
        steps: Columns ``budget``, ``value``, and ``mean`` (that of the population), if so.
        name: The hyper-parameter.
        log: Whether its scale is logarithmic.
        mean: Whether to draw the population's mean.
    """
    plot = new_figure(
        name, height=260, x_axis_label="budget", y_axis_label=name, y_axis_type="log" if log else "linear"
    )
    if mean:
        plot.line(
            "budget",
            "mean",
            source=steps,
            color=GRAY,
            line_dash="dashed",
            line_width=2,
            legend_label="population's mean",
        )
    plot.step("budget", "value", source=steps, mode="before", color=PURPLE, line_width=3, legend_label="winner")
    plot.scatter("budget", "value", source=steps, color=PURPLE, size=6)
    return legend_above(plot)


def curves(lines: ColumnDataSource, *, metric: str, x_label: str = "epoch") -> figure:
    """Learning curves.

    Args:
        lines: Columns ``xs``, ``ys`` (a list per curve), ``label``, ``color``.
        metric: What the trainings reported.
        x_label: Of the axis.
    """
    plot = new_figure(metric, height=320, x_axis_label=x_label, y_axis_label=metric)
    drawn = plot.multi_line("xs", "ys", source=lines, color="color", line_width=2.5, legend_field="label")
    plot.add_tools(HoverTool(tooltips=[("", "@label"), (x_label, "$data_x"), (metric, "$data_y")], renderers=[drawn]))
    return legend_above(plot, columns=2)


def importance(bars: ColumnDataSource, names: Sequence[str]) -> figure:
    """How much each hyper-parameter matters.

    Args:
        bars: Columns ``name``, ``importance``, ``low`` and ``high`` (its standard deviation below and above).
        names: From the most important one to the least.
    """
    plot = new_figure(
        "Hyper-parameter importance",
        height=110 + 30 * len(names),
        x_axis_label="loss of R² when shuffled",
        y_range=FactorRange(*list(names)[::-1]),
    )
    plot.hbar("name", right="importance", height=0.6, source=bars, color=BLUE)
    plot.segment("low", "name", "high", "name", source=bars, line_width=2, color=GRAY)
    plot.add_tools(HoverTool(tooltips=[("", "@name"), ("importance", "@importance{0.000}")]))
    plot.ygrid.visible = False
    return plot


def progress(
    runs: Mapping[str, ColumnDataSource], *, x: str, x_label: str, y_label: str = "best fitness so far"
) -> figure:
    """The best so far of several runs.

    Args:
        runs: By the name of the run: columns ``best`` and that named by ``x``.
        x: Name of the column along the axis.
        x_label: Of the axis.
        y_label: Of the axis.
    """
    plot = new_figure(y_label, height=400, x_axis_label=x_label, y_axis_label=y_label)
    dashes = ("solid", "dashed", "dotdash", "dotted")
    for i, (name, source) in enumerate(runs.items()):
        plot.step(
            x,
            "best",
            source=source,
            mode="after",
            line_width=2.5,
            color=CYCLE[i % len(CYCLE)],
            line_dash=dashes[i // len(CYCLE) % len(dashes)],
            legend_label=name,
        )
    plot.add_tools(HoverTool(tooltips=[(x_label, "$data_x"), (y_label, "$data_y")]))
    return legend_above(plot)


def new_figure(title: str, **options: Any) -> figure:
    """An empty figure as all here are: as wide as there is room, with tools that show themselves when pointed at."""
    for name in ("x_axis_label", "y_axis_label"):
        if isinstance(options.get(name), str):
            options[name] = as_text(options[name])
    plot = figure(
        title=as_text(title), sizing_mode="stretch_width", min_width=280, tools="pan,box_zoom,reset,save", **options
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    return plot


def as_text(label: str) -> str:
    """A label that Bokeh draws as it is: it would set as a formula what stands between certain brackets."""
    for bracket in ("$$", "\\[", "\\("):
        label = label.replace(bracket, " ".join(bracket))
    return label


def whole(axis: Any) -> None:
    """Put no ticks between whole numbers."""
    axis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)


def as_many_ticks_as_fit(plot: figure, each: int = 90) -> None:
    """Keep the labels along the x axis apart, however narrow the window is: Bokeh wants six ticks in any.

    Args:
        plot: A figure with one x axis.
        each: Pixels that a label and the gap beside it take.
    """
    code = "ticker.desired_num_ticks = Math.max(2, Math.min(8, Math.floor(cb_obj.inner_width / each)));"
    plot.js_on_change("inner_width", CustomJS(args={"ticker": plot.xaxis[0].ticker, "each": each}, code=code))


def legend_above(plot: figure, columns: int = 3) -> figure:
    """Put the legend outside of the data; a click on an entry hides what it stands for."""
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.update(orientation="horizontal", location="left", ncols=columns, margin=0, spacing=6, click_policy="hide")
    return plot


def _dots(plot: figure, across: Any, points: ColumnDataSource, **options: Any) -> Any:
    """Trials by their fitness; where the answer came from is their colour and shape."""
    return plot.scatter(
        across,
        "fitness",
        source=points,
        line_color=None,
        color=options.pop("color", factor_cmap("source", list(SOURCES.values()), list(SOURCES))),
        marker=factor_mark("source", list(MARKERS.values()), list(MARKERS)),
        **options,
    )


def hover(axes: Sequence[Axis], rows: list[tuple[str, str]], drawn: Any, **options: Any) -> HoverTool:
    """What is shown of a trial: its number, these rows, and its hyper-parameters."""
    formatters = {"@fitness": "printf"}
    rows = [("trial", "@trial"), *rows]
    for axis in axes[:_HOVER_ROWS]:
        field = f"@{{{axis.column}}}"
        rows.append((axis.name, field if axis.scale == "options" else f"{field}{{%.4g}}"))
        if axis.scale != "options":
            formatters[field] = "printf"
    return HoverTool(tooltips=rows, formatters=formatters, renderers=[drawn], **options)
