"""What :class:`swarm.Run` draws and writes of itself, and how it shows itself in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from matplotlib.style import context

from swarm.errors import InvalidInput
from swarm.manners.files import writing
from swarm.manners.notebook import facts, value
from swarm.plots.units import duration
from swarm.report.figures import STYLE, Picture, figures
from swarm.report.tables import Tables
from swarm.runs.run import Run
from swarm.store.columns import columns
from swarm.store.records import Source


def plot(run: Run, name: str) -> Picture:
    """A figure of a run's report.

    Raises:
        InvalidInput: There is no such figure of this run; the text names those that there are.
    """
    there = []
    with context([STYLE]):
        for each, drawn in figures(Tables(run)):
            if each == name:
                return drawn
            there.append(each)
    if not there:
        raise InvalidInput(f"run {run.job.name!r} has no figures yet: no trial has ended")
    near = get_close_matches(name, there, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InvalidInput(f"run {run.job.name!r} has no figure {name!r}{hint}; it has {', '.join(there)}")


def report(run: Run, path: str | Path | None) -> Path:
    """Write the report of a run; left out, the file is named as the run, in the current folder.

    Raises:
        InvalidInput: It cannot be written there.
    """
    from swarm.report.report import write

    with writing(f"{run.job.name}.html" if path is None else path) as file:
        write(run, file)
    return file


def html(run: Run) -> str:
    """A table of what was found, and how the fitness came about."""
    shown = facts(dict(_rows(run)))
    if run.best is None:
        return shown
    drawn = base64.b64encode(plot(run, "fitness").png()).decode()
    return f'{shown}<img alt="fitness by trial" src="data:image/png;base64,{drawn}">'


def _rows(run: Run) -> Iterator[tuple[str, Any]]:
    state, counts = run.state, run.counts
    yield "run", run.job.name
    yield "status", f"{run.status}" + (f": {run.end_reason}" if run.end_reason else "")
    saved = counts[Source.ARCHIVE] + counts[Source.IN_FLIGHT]
    yield "trials", f"{state.told}, {counts['failed']} failed"
    yield "trainings", f"{counts[Source.TRAINED]} in {duration(state.trained_seconds)}, {saved} saved"
    if run.best is None:
        yield "best", "none yet"
        return
    yield "best fitness", f"{run.best.fitness:.6g} (trial {run.best.trial.id}, to {run.job.direction})"
    for fold, score in run.test_scores.items():
        yield "on the unseen test set" + (f", fold {fold}" if len(run.tests) > 1 else ""), score
    others = ("run", "status", "trials", "trainings", "best fitness", "on the unseen test set")
    named = columns(run.best.params, others=others).params
    for name, found in run.best.params.items():
        yield named[name], value(found)
