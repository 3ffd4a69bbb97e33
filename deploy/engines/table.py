"""The rows of all engines, for a terminal and for the documentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from deploy.engines.frame import Outcome, Row

BEGIN, END = "<!-- make engines writes from here -->", "<!-- to here -->"
COLUMNS = (
    "engine",
    "version",
    "killed by `kill -9`",
    "trainings",
    "cut short",
    "same answer",
    "seconds",
    "seen",
    "date",
)
_WORDS = {Outcome.SAME: "yes", Outcome.WRONG: "**no**", Outcome.SKIPPED: "skipped"}


def cells(row: Row) -> list[str]:
    """Of a row, by :data:`COLUMNS`."""
    word = _WORDS[row.outcome]
    if row.outcome is Outcome.SAME and not row.trainings:
        word = "valid"  # no job runs there
    seconds = f"{row.seconds:.0f}" if row.outcome is not Outcome.SKIPPED else ""
    killed = ", ".join(row.killed)
    return [row.engine, row.version, killed, row.trainings, row.again, word, seconds, row.note, row.date]


def terminal(rows: Sequence[Row]) -> Table:
    """For people who wait for it."""
    table = Table(title="one job on each engine, parts of it killed, against the same job undisturbed")
    for column in COLUMNS[:-1]:
        table.add_column(column.replace("`", ""), overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in cells(row)[:-1]))
    return table


def update(page: Path, rows: Sequence[Row]) -> None:
    """Write rows into a page; a row that is there stays if its engine had no turn, or none was possible here."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    inside, _, after = rest.partition(END)
    lines = {found[1]: line for line in inside.splitlines() if (found := re.match(r"\| (\w[\w-]*) \|", line))}
    lines.pop("engine", None)
    for row in rows:
        if row.outcome is not Outcome.SKIPPED or "| skipped |" in lines.get(row.engine, "| skipped |"):
            lines[row.engine] = "| " + " | ".join(cell.replace("|", "/") for cell in cells(row)) + " |"
    head = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    page.write_text("\n".join([before + BEGIN, *head, *lines.values(), END]) + after, encoding="utf-8")
