"""The front of several targets, as a part of a report: what nobody dominates, and how it grew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from bokeh.models import HoverTool
from bokeh.plotting import figure

from swarm.plots import charts
from swarm.report.page import Picture, Table, Text
from swarm.report.sections import source, value
from swarm.report.tables import Tables
from swarm.runs.front import front as front_of
from swarm.runs.front import growth, values

_MOST_ROWS = 200
_MOST_POINTS = 3000


def front(tables: Tables) -> Iterator[Text | Table | Picture]:
    """The trials over the first two targets, the front as a table, and its hypervolume over the trials."""
    state = tables.run.state
    for wanted, times in state.unmet.most_common():
        yield Text(f"{times} trials did not meet {wanted}, and can neither be the best nor on the front.")
    targets = list(state.job.targets)
    if not targets or not state.front:
        return
    trials = [int(trial) for trial in tables.history.points["trial"] if state.losses_of(int(trial)) is not None]
    rows = pd.DataFrame(
        [values(state, trial) for trial in trials], columns=[f"target {n}" for n in range(len(targets))]
    )
    rows = rows.assign(trial=trials, front=[trial in {best.trial.id for best in state.front} for trial in trials])
    yield Picture(_scatter(rows, targets), _caption(state.front, len(trials), targets))
    grown = growth(state, trials)
    plot = charts.new_figure("Hypervolume of the front", x_axis_label="trials", y_axis_label="share of that at the end")
    plot.step("trials", "share", source=source(grown), mode="after", line_width=2)
    half = grown[grown["share"] >= 0.9]["trials"].iloc[0]
    yield Picture(plot, f"Nine tenths of the hypervolume at the end were reached after {half} trials.", half=True)
    table = front_of(state)
    cells = [[value(each) for each in row] for row in table.head(_MOST_ROWS).itertuples(index=False)]
    yield Table("The front as a table", [str(name) for name in table.columns], cells)


def _scatter(rows: pd.DataFrame, targets: list[str]) -> figure:
    """All trials over the first two targets; those of the front are connected by steps where there are only two."""
    plot = charts.new_figure("The front", x_axis_label=targets[0], y_axis_label=targets[1])
    others, chosen = rows[~rows["front"]].tail(_MOST_POINTS), rows[rows["front"]].sort_values("target 0")
    plot.scatter("target 0", "target 1", source=source(others), size=6, color="#9aa5b1", alpha=0.6)
    along = source(chosen)
    if len(targets) == 2:
        plot.line("target 0", "target 1", source=along, color="#d1495b")
    plot.scatter("target 0", "target 1", source=along, size=9, color="#d1495b")
    tips = [("trial", "@trial"), *((name, f"@{{target {place}}}") for place, name in enumerate(targets))]
    plot.add_tools(HoverTool(tooltips=tips))
    return plot


def _caption(front: Sequence[object], trials: int, targets: list[str]) -> str:
    named = f"{', '.join(targets[:-1])} and {targets[-1]}"
    return (
        f"Of {trials} trials {len(front)} are dominated by no other, by {named}: one that is better in one of these is "
        "worse in another."
    )
