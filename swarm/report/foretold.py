"""The part of a report about a method's model: how well it foretold, and which moves found the best."""

from __future__ import annotations

from collections.abc import Iterator

from bokeh.models import ColumnDataSource

from swarm.plots import foretold as plots
from swarm.plots.foretold import Foretold, named, rank_correlation
from swarm.report.page import Picture, Table, Text
from swarm.report.sections import number
from swarm.report.tables import Tables

_BEST = 10


def foretold(tables: Tables) -> Iterator[Text | Picture | Table]:
    """How well the model foretold, and which moves found the best; nothing where there is no model."""
    rows = tables.history.foretold
    if len(rows) < plots.FEWEST:
        return
    known = [
        Foretold(trial, str(move), expected, fitness)
        for trial, move, expected, fitness in rows[["trial", "move", "expected", "fitness"]].itertuples(index=False)
    ]
    half = len(known) // 2
    yield Text(
        f"Before each of {len(rows)} trials the model said which fitness it expected. The rank correlation with what "
        f"came is {_correlation(known)}: {_correlation(known[:half])} in the first half, {_correlation(known[half:])} "
        "in the second. 1 is a perfect order, 0 none; near an optimum, where all is alike, it falls."
    )
    points, line, latest = map(
        ColumnDataSource, (plots.point_columns(known), plots.diagonal(known), plots.over_time(known))
    )
    yield Picture(
        plots.expectations(points, line, label=tables.fitness_label),
        "What came of each trial, over what the model expected; the colour is the kind of candidate.",
        half=True,
    )
    yield Picture(plots.correlations(latest), "How well the order of the latest trials was foretold.", half=True)
    sign = tables.run.job.sign
    best = set(rows.assign(loss=sign * rows["fitness"]).nsmallest(_BEST, "loss")["trial"])
    table = [
        [
            named(str(move)),
            str(len(each)),
            str(int(each["trial"].isin(best).sum())),
            number(sign * (sign * each["fitness"]).min()),
        ]
        for move, each in rows.groupby("move", sort=True)
    ]
    headings = ["candidate", "trials", f"of the {len(best)} best", f"best {tables.fitness_label}"]
    yield Table("Which candidates were chosen, and what came of them", headings, table)


def _correlation(rows: list[Foretold]) -> str:
    """The rank correlation, for people; a dash where it has no meaning."""
    found = rank_correlation(rows)
    return "–" if found is None else f"{found:.2f}"
