"""What the pages call the fitness of a job, and its best configuration in words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from swarm.job.specification.merit import targets_of
from swarm.plots.units import duration
from swarm.service.published.snapshot import Point


def fitness_name(job: Mapping[str, Any]) -> str:
    """The metric that the fitness of a job is, the first of several; ``fitness`` where it is a sum, or the training's.

    Args:
        job: As :meth:`swarm.job.Job.to_dict` has it.

    Example:
        >>> fitness_name({"fitness": "val_loss"}), fitness_name({"fitness": {"mae": "minimize", "size": "minimize"}})
        ('val_loss', 'mae')
        >>> fitness_name({"fitness": {"val_loss": 1, "parameters": 1e-7}}), fitness_name({})
        ('fitness', 'fitness')
    """
    fitness = job.get("fitness")
    if isinstance(fitness, str):
        return fitness
    if isinstance(fitness, list | tuple) and fitness:
        return str(fitness[0]["metric"])
    return next(iter(targets_of(fitness)), "fitness") if isinstance(fitness, dict) else "fitness"


def better(direction: str) -> str:
    """Which way is better, in words."""
    return "larger is better" if direction == "maximize" else "smaller is better"


def best_html(name: str, point: Point | None) -> str:
    """The best configuration as a small table, as HTML; empty while there is none."""
    if point is None or point.fitness is None:
        return ""
    rows: dict[str, object] = {name: point.fitness, "trial": point.trial}
    if point.budget is not None:
        rows["budget"] = point.budget
    rows["trained for"] = duration(point.seconds)
    body = _rows(rows) + "<tr><th colspan='2'>hyper-parameters</th></tr>" + _rows(point.params)
    return f"<h4>The best</h4><table>{body}</table>"


def _rows(rows: Mapping[str, object]) -> str:
    return "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(text(value))}</td></tr>" for name, value in rows.items()
    )


def text(value: object) -> str:
    """A value for people: a float in five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
