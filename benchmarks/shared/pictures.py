"""The benchmarks' pictures: their size, their look, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.shared.saving import RESULTS, written


def panels(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches, and its panels, row by row; the rest is for ``Figure.subplots``."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [each for row in figure.subplots(rows, columns, squeeze=False, **grid) for each in row]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.3)
    return figure, axes


def legend_below(figure: Figure, axes: Axes, columns: int = 6) -> None:
    """One legend for all panels, of what this one shows."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), frameon=False)


def hide_empty(axes: Sequence[Axes]) -> None:
    """Panels that nothing was drawn into leave their place free."""
    for each in axes:
        each.set_visible(each.has_data())


def write(figure: Figure, name: str, file: str) -> Path:
    """Write a figure beside the results of this name."""
    path = RESULTS / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return written(path)
