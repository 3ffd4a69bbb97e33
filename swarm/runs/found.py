"""What a schedule and a winner need to know of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from swarm.job.job import Job
    from swarm.search.state import Best


class Found(Protocol):
    """A run with what it has found: a :class:`~swarm.runs.run.Run`."""

    @property
    def job(self) -> Job:
        """What was submitted."""
        ...

    @property
    def store(self) -> str:
        """Where its journal is, as it was named."""
        ...

    @property
    def url(self) -> str:
        """The same, from whatever folder."""
        ...

    @property
    def best(self) -> Best | None:
        """The best trial; None if no training has succeeded."""
        ...

    @property
    def history(self) -> pd.DataFrame:
        """One row per trial."""
        ...
