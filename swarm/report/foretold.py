"""The part of a report about a method's model: how well it foretold, and which moves found the best."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from swarm.report.page import Table, Text
from swarm.report.sections import number
from swarm.report.tables import Tables

_FEWEST = 4  # trials that a rank correlation says something of
_BEST = 10
_MOVES = {
    "particle": "move of a particle",
    "near": "change of a good configuration",
    "anywhere": "anywhere",
}


def foretold(tables: Tables) -> Iterator[Text | Table]:
    """How well the model foretold, and which moves found the best; nothing where there is no model."""
    rows = tables.history.foretold
    if len(rows) < _FEWEST:
        return
    half = len(rows) // 2
    yield Text(
        f"Before each of {len(rows)} trials the model said which fitness it expected. The rank correlation with what "
        f"came is {_correlation(rows)}: {_correlation(rows[:half])} in the first half, {_correlation(rows[half:])} in "
        "the second. 1 is a perfect order, 0 none; near an optimum, where all is alike, it falls."
    )
    sign = tables.run.job.sign
    best = set(rows.assign(loss=sign * rows["fitness"]).nsmallest(_BEST, "loss")["trial"])
    table = [
        [
            _named(str(move)),
            str(len(each)),
            str(int(each["trial"].isin(best).sum())),
            number(sign * (sign * each["fitness"]).min()),
        ]
        for move, each in rows.groupby("move", sort=True)
    ]
    headings = ["candidate", "trials", f"of the {len(best)} best", f"best {tables.fitness_label}"]
    yield Table("Which candidates were chosen, and what came of them", headings, table)


def _named(move: str) -> str:
    """A kind of move for people; one that was refined says so after a comma."""
    kind, comma, rest = move.partition(",")
    return _MOVES.get(kind, kind) + comma + rest


def _correlation(rows: pd.DataFrame) -> str:
    """Spearman's rank correlation, for people; a dash where it has no meaning."""
    if len(rows) < _FEWEST or rows["expected"].nunique() < 2 or rows["fitness"].nunique() < 2:
        return "–"
    return f"{rows['expected'].rank().corr(rows['fitness'].rank()):.2f}"
