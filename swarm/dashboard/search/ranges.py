"""Which part of an axis is shown: all of it, or where the best trials are, until somebody moves it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from bokeh.models import Range1d

from swarm.plots.axes import drawable

_MARGIN = 0.05
_BEYOND = 0.1  # share of the trials that are worse than a scale of colours reaches
_GOOD = 0.25  # share of the trials that count as the best


def spread(fitness: Sequence[float], *, direction: str, zoomed: bool, log: bool) -> tuple[float, float]:
    """Ends of an axis on which all trials are, or the best quarter of them.

    Args:
        fitness: Of the trials, finite.
        direction: ``maximize`` or ``minimize``.
        zoomed: Whether the best alone count.
        log: Whether the axis has a logarithmic scale.
    """
    if not len(fitness):
        return (1.0, 10.0) if log else (0.0, 1.0)
    values = np.sort(drawable(np.asarray(fitness, float)))
    if zoomed:
        kept = math.ceil(len(values) * _GOOD)
        values = values[-kept:] if direction == "maximize" else values[:kept]
    low, high = float(values[0]), float(values[-1])
    if log:
        low, high = math.log10(low), math.log10(high)
    margin = _MARGIN * (high - low) or abs(high) * _MARGIN or _MARGIN
    low, high = low - margin, high + margin
    return (10.0**low, 10.0**high) if log else (low, high)


def shaded(fitness: Sequence[float], direction: str) -> tuple[float, float]:
    """Ends of a scale of colours, beyond which the worst tenth of the trials are all of one colour.

    Args:
        fitness: Of the trials, finite.
        direction: ``maximize`` or ``minimize``.
    """
    if not len(fitness):
        return 0.0, 1.0
    values = np.sort(drawable(np.asarray(fitness, float)))
    beyond = int(len(values) * _BEYOND)
    values = values[beyond:] if direction == "maximize" else values[: len(values) - beyond]
    low, high = float(values[0]), float(values[-1])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


class Followed:
    """A range that follows the data until somebody moves it by hand.

    Attributes:
        range: What a figure draws by.
    """

    def __init__(self) -> None:
        self.range = Range1d(0.0, 1.0)
        self._set = (0.0, 1.0)

    def follow(self, ends: tuple[float, float], *, force: bool = False) -> None:
        """Show up to these ends, if nobody has moved the range; with ``force``, even then."""
        moved = (self.range.start, self.range.end) != self._set
        if force or (ends != self._set and not moved):
            self._set = ends
            self.range.update(start=ends[0], end=ends[1], reset_start=ends[0], reset_end=ends[1])
