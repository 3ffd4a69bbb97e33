"""A curve in a line of text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 400


class Sparkline:
    """Values as a line of bars, of which the last is the latest: ``▁▂▂▅▇█``. Printed, it is as wide as there is room.

    Args:
        values: Those so far.
        width: Bars at most.
    """

    def __init__(self, values: Iterable[float] = (), width: int = 40) -> None:
        self._width = width
        self._values: list[float] = []
        self._stride = 1
        self._added = 0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """The next value. When there are many, every second is dropped."""
        self._added += 1
        if self._added % self._stride == 0:
            self._values.append(value)
        if len(self._values) > _POINTS:
            self._values, self._stride = self._values[1::2], 2 * self._stride

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, max(min(self._width, len(self._values), options.max_width), 1))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.bars(min(self._width, options.max_width)), style="green", no_wrap=True)

    def bars(self, width: int = 40) -> str:
        """The line, at most so wide; the lowest value has the lowest bar, the highest the highest."""
        count = min(width, len(self._values))
        shown = [self._values[(i + 1) * len(self._values) // count - 1] for i in range(count)]
        low, high = min(shown, default=0.0), max(shown, default=0.0)
        span = high / 2 - low / 2  # halves: the whole may be no float
        places = [(value / 2 - low / 2) / span if span > 0 else 0.0 for value in shown]
        return "".join(_BARS[round(place * (len(_BARS) - 1))] for place in places)
