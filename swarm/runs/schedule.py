"""The schedule that a population has found: the hyper-parameters of each slice along the winner's parents.

Source: Recombination of Artificial Neural Networks, right panels of figures 9, 11 and 13.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from swarm.errors import InvalidJob
from swarm.job.job import Job
from swarm.optimizers.replay import Replay
from swarm.space.domain import Integer
from swarm.space.space import Space
from swarm.store.columns import PARAMS, columns

if TYPE_CHECKING:
    from swarm.runs.found import Found

_MEAN = "mean_"


def schedule_columns(space: Space) -> dict[str, tuple[str, str]]:
    """Of each searched hyper-parameter its column in a schedule, and that of its mean over the generation."""
    means = [f"{_MEAN}{prefix}{name}" for name in space.names for prefix in ("", PARAMS)]
    named = columns(space.names, others=means).params
    return {name: (own, _MEAN + own) for name, own in named.items()}


def schedule(run: Found) -> pd.DataFrame:
    """One row per slice of the winner's network, the first slice first.

    Columns: ``trial``, ``generation``, ``member``, ``budget`` (trained up to), ``fitness``, and one column per
    hyper-parameter, named as by :mod:`swarm.store.columns`. ``mean_…`` columns give the mean of every numeric one over
    the generation.

    Raises:
        InvalidJob: The run trained no slices, or none has succeeded.
    """
    if run.best is None or not run.job.optimizer.inherits:
        raise InvalidJob(
            f"run {run.job.name!r} has no schedule: only methods that hand trainings on, such as PBT, find one"
            if run.best is not None
            else f"run {run.job.name!r} has no best yet"
        )
    assert run.job.space is not None
    history = run.history.set_index("trial", drop=False)
    parents = {int(trial): parent for trial, parent in run.history[["trial", "parent"]].itertuples(index=False)}
    line = [run.best.trial.id]
    while pd.notna(parent := parents[line[-1]]):
        line.append(int(parent))
    named, there = schedule_columns(run.job.space), columns(run.job.space.names).params
    values = pd.DataFrame({own: history[there[name]] for name, (own, _) in named.items()})
    found = history[["trial", "generation", "member", "budget", "fitness"]].join(values).loc[line[::-1]]
    means = values.groupby(history["generation"]).mean(numeric_only=True)
    return found.join(means.add_prefix(_MEAN), on="generation").reset_index(drop=True)


def replay(run: Found, *, name: str, repeats: int = 1) -> Job:
    """The job that trains one network by the schedule of a run, from the start.

    Args:
        run: A run of PBT, or another method that hands trainings on.
        name: Name of the new job.
        repeats: Trainings at different seeds; the fitness is their mean.

    Raises:
        InvalidJob: The run has no schedule.
    """
    assert run.job.space is not None
    named = schedule_columns(run.job.space)
    domains = run.job.space.domains
    steps = [
        {
            "budget": row["budget"],
            "params": {
                name: _exactly(domains[name], row[own]) for name, (own, _) in named.items() if _is_there(row[own])
            },
        }
        for row in schedule(run).to_dict("records")
    ]
    data = run.job.to_dict() | {"name": name, "repeats": repeats, "optimizer": Replay(steps=steps), "stop": {}}
    return Job.from_dict(data, run.job.code.pickle)


def _is_there(value: Any) -> bool:
    """Whether a configuration has a parameter, by what stands in its column."""
    return not (isinstance(value, float) and math.isnan(value))


def _exactly(domain: Any, value: Any) -> Any:
    """The value that stands in a column, where whole numbers are others beside what is missing."""
    return int(value) if isinstance(domain, Integer) else value


def plot(table: pd.DataFrame, file: Path, title: str) -> None:
    """Draw a schedule as an HTML page: fitness and every numeric hyper-parameter over the budget.

    The line is the winner's, the dashed one the mean of the population.
    """
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure, output_file, save

    source, panels = ColumnDataSource({name: table[name].to_numpy() for name in table.columns}), []
    for name in ["fitness", *(name for name in table.columns if _MEAN + name in table)]:
        wide = bool((table[name] > 0).all()) and table[name].max() > 10 * table[name].min()
        panel = figure(
            width=640, height=280, title=name, x_axis_label="budget", y_axis_type="log" if wide else "linear"
        )
        panel.line("budget", name, source=source, line_width=2, legend_label="winner")
        panel.scatter("budget", name, source=source, size=6)
        if name != "fitness":
            panel.line(
                "budget", _MEAN + name, source=source, line_dash="dashed", color="gray", legend_label="mean of all"
            )
        panels.append(panel)
    output_file(file, title=title, mode="inline")
    save(column(*panels))
