"""The part of a report that sets random search beside the run, where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from swarm.plots import charts
from swarm.report.compare import Comparison
from swarm.report.page import Picture, Text
from swarm.report.sections import source
from swarm.report.tables import Tables
from swarm.terminal.tables import beside_random


def beside(tables: Tables) -> Iterator[Text | Picture]:
    """What random search found with as many trainings; nothing where there is no such run."""
    said, random = beside_random(tables.run), tables.run.baseline
    if said is None or random is None:
        return
    yield Text(f"{said[0].upper()}{said[1:]}.")
    progress, _ = Comparison([tables.run, random]).progress()
    plot = charts.progress(
        {name: source(each) for name, each in progress.items()},
        x="evaluations",
        x_label="evaluations",
        y_label=f"best {tables.fitness_label} so far",
    )
    yield Picture(plot, "The best so far against the number of evaluations, however they were answered.")
    yield Text(
        "This is one search of each kind, and chance may have favoured either: other seeds (--seed) show how often "
        f"each wins. All of the other one: swarm report {random.job.name}."
    )
