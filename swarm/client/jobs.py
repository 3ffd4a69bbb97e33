"""The jobs of a service, as a list that a notebook shows as a table."""

from __future__ import annotations

from swarm.manners.notebook import grid
from swarm.plots.units import duration
from swarm.service.published.job_state import JobState


class Jobs(list[JobState]):
    """What :meth:`swarm.Client.jobs` returns: where jobs stand, in a list."""

    def _repr_html_(self) -> str:
        columns = ("job", "owner", "state", "priority", "running", "trials", "left", "best", "method", "problem")
        return grid(columns, map(_row, self))


def _row(state: JobState) -> list[object]:
    return [
        state.name,
        state.owner,
        state.state,
        state.priority,
        state.running,
        f"{state.told} of {state.planned or '?'}",
        None if state.seconds_left is None else duration(state.seconds_left),
        None if state.best is None else state.best["fitness"],
        state.optimizer,
        state.problem,
    ]
