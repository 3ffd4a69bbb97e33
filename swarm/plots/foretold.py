"""How well a method's model foretold what came of its trials: numbers and figures.

Source of the rank correlation: Spearman, The proof and measurement of association between two things (1904).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure

from swarm.plots.charts import BLUE, CYCLE, GRAY, PURPLE, legend_above, new_figure

FEWEST = 4  # trials that a rank correlation says something of
WINDOW = 20  # trials of which the latest rank correlation is
_MOVES = {  # what they are called, and in short
    "particle": ("move of a particle", "particle"),
    "near": ("change of a good configuration", "near a good one"),
    "anywhere": ("anywhere", "anywhere"),
}


@dataclass(frozen=True)
class Foretold:
    """A trial of which a model said what it expected.

    Attributes:
        trial: Its number.
        move: What kind of candidate it was, as the method notes it.
        expected: The fitness that the model expected.
        fitness: What came.
    """

    trial: int
    move: str
    expected: float
    fitness: float


def named(move: str) -> str:
    """A kind of candidate for people; one that was refined says so after a comma."""
    kind, comma, rest = move.partition(",")
    return _MOVES.get(kind, (kind, kind))[0] + comma + rest


def _short(move: str) -> str:
    """A kind of candidate in short, refined or not."""
    kind = move.partition(",")[0]
    return _MOVES.get(kind, (kind, kind))[1]


def rank_correlation(rows: Sequence[Foretold]) -> float | None:
    """Spearman's; None where it has no meaning: of few trials, and where all is alike.

    Example:
        >>> rank_correlation([Foretold(i, "near", x, y) for i, (x, y) in enumerate([(1, 5), (2, 6), (3, 8), (4, 7)])])
        0.8
        >>> rank_correlation([Foretold(i, "near", x, y) for i, (x, y) in enumerate([(1, 5), (1, 6), (3, 8), (4, 8)])])
        0.888888888889
    """
    if len(rows) < FEWEST:
        return None
    expected, fitness = (_ranks([getattr(row, name) for row in rows]) for name in ("expected", "fitness"))
    if np.ptp(expected) == 0 or np.ptp(fitness) == 0:
        return None
    return round(float(np.corrcoef(expected, fitness)[0, 1]), 12)


def _ranks(values: Sequence[float]) -> np.ndarray[Any, Any]:
    """Ranks from 1 on; equal values have the mean of theirs. SciPy's would cost each scheduler a second."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[places]


def over_time(rows: Sequence[Foretold]) -> dict[str, list[float]]:
    """Columns ``trial`` and ``correlation``: of the latest trials at each, at most ``WINDOW``."""
    found = [(row.trial, rank_correlation(rows[max(0, i + 1 - WINDOW) : i + 1])) for i, row in enumerate(rows)]
    known = [(float(trial), value) for trial, value in found if value is not None]
    return {"trial": [trial for trial, _ in known], "correlation": [value for _, value in known]}


def point_columns(rows: Iterable[Foretold]) -> dict[str, list[object]]:
    """Columns ``trial``, ``move``, ``expected``, ``fitness`` and ``color``, by kind of candidate."""
    each = list(rows)
    colors = dict(zip(dict.fromkeys(sorted(_short(row.move) for row in each)), CYCLE, strict=False))
    return {
        **{name: [getattr(row, name) for row in each] for name in ("trial", "expected", "fitness")},
        "move": [_short(row.move) for row in each],
        "color": [colors.get(_short(row.move), GRAY) for row in each],
    }


def diagonal(rows: Sequence[Foretold]) -> dict[str, list[float]]:
    """Columns ``x`` and ``y``: where what came is what was expected."""
    values = [value for row in rows for value in (row.expected, row.fitness)]
    ends = [min(values), max(values)] if values else []
    return {"x": ends, "y": ends}


def expectations(points: ColumnDataSource, line: ColumnDataSource, *, label: str = "fitness") -> figure:
    """What came of each trial, over what the model expected.

    Args:
        points: Columns of :func:`point_columns`.
        line: Columns of :func:`diagonal`.
        label: What fitness is called.
    """
    plot = new_figure("Expected and found", height=380, x_axis_label=f"expected {label}", y_axis_label=label)
    plot.line("x", "y", source=line, color=GRAY, line_dash="dashed", line_width=2, legend_label="as expected")
    dots = plot.scatter(
        "expected", "fitness", source=points, color="color", size=8, alpha=0.8, line_color=None, legend_field="move"
    )
    rows = [("trial", "@trial"), ("", "@move"), ("expected", "@expected{0.0000}"), (label, "@fitness{0.0000}")]
    plot.add_tools(HoverTool(tooltips=rows, renderers=[dots]))
    return legend_above(plot, columns=2)


def correlations(line: ColumnDataSource) -> figure:
    """How well the order of the latest trials was foretold.

    Args:
        line: Columns of :func:`over_time`.
    """
    plot = new_figure(
        f"Rank correlation of the last {WINDOW}", height=380, x_axis_label="trial", y_axis_label="rank correlation",
        y_range=Range1d(-1.05, 1.05),
    )  # fmt: skip
    plot.line("trial", "correlation", source=line, color=PURPLE, line_width=3)
    plot.scatter("trial", "correlation", source=line, color=BLUE, size=5)
    return plot
