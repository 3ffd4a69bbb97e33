"""The jobs of a service, as a list that a notebook shows as a table."""

from __future__ import annotations

from swarm.manners.notebook import grid
from swarm.service.published.job_state import JobState


class Jobs(list[JobState]):
    """What :meth:`swarm.Client.jobs` returns: where jobs stand, in a list."""

    def _repr_html_(self) -> str:
        from swarm.terminal.tables import JOB_COLUMNS, job_row

        return grid(JOB_COLUMNS, map(job_row, self))
