"""Rows for the figures of the live pages, and the way they get into a browser without being sent twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from bokeh.models import ColumnDataSource

T = TypeVar("T")
Columns = dict[str, Any]  # lists of equal length by name


class Feed(Generic[T]):
    """Brings a list that only grows into a figure: what is new is streamed, anything else is sent again.

    Args:
        columns: Makes columns of rows; of no rows, empty ones.
    """

    def __init__(self, columns: Callable[[Sequence[T]], Columns]) -> None:
        self._columns = columns
        self._sent = 0
        self._edition: object = None
        self.source = ColumnDataSource(columns([]))

    def show(self, rows: Sequence[T], edition: object) -> bool:
        """Show these rows; whether anything is new.

        Args:
            rows: All of them.
            edition: As long as it stays the same, rows are only ever added at the end.
        """
        if edition == self._edition and len(rows) == self._sent:
            return False
        if edition != self._edition or len(rows) < self._sent:
            self.source.data = self._columns(rows)
        else:
            self.source.stream(self._columns(rows[self._sent :]))
        self._edition, self._sent = edition, len(rows)
        return True


def replace(source: ColumnDataSource, columns: Columns) -> None:
    """Send columns if they differ from what is there."""
    if source.data.keys() != columns.keys() or not all(_alike(source.data[name], columns[name]) for name in columns):
        source.data = columns


def _alike(one: Any, other: Any) -> bool:
    """Whether two columns are the same, lists or arrays."""
    if not isinstance(one, np.ndarray) and not isinstance(other, np.ndarray):
        return bool(one == other)
    first, second = np.asarray(one), np.asarray(other)
    return np.array_equal(first, second, equal_nan=first.dtype.kind == second.dtype.kind == "f")
