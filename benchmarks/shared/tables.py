"""The benchmarks' tables: words on the left, numbers on the right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console(width=150)


def table(title: str, columns: Sequence[str], words: Collection[str] = ()) -> Table:
    """A table without rows.

    Args:
        title: What stands above it.
        columns: Their names; several may have the same.
        words: Which columns hold words besides the first.
    """
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 or column in words else "right")
    return made


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Iterable[object]], words: Collection[str] = ()
) -> None:
    """Print a table of these rows, whose cells are written as they are; its other arguments are those of ``table``."""
    made = table(title, columns, words)
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    console.print(made)
