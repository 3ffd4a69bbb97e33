"""Who shares the slots of a cluster, as the slots see it."""

from __future__ import annotations

from typing import Protocol

from swarm.pool.base import OnReport
from swarm.pool.fair_share import Share
from swarm.trial import Result


class Tenant(Protocol):
    """One search on the slots of a cluster: a :class:`~swarm.pool.dask_pool.DaskPool`.

    Attributes:
        problem: The pickled problem.
        resource: Class of the slots that it uses.
        share: Its claim, where others use the slots as well.
        on_report: Called with the key and the metrics of what a training reports on the way.
    """

    problem: bytes
    resource: str
    share: Share
    on_report: OnReport

    def deliver(self, result: Result) -> None:
        """An evaluation of this search has ended."""
        ...

    def wake(self) -> None:
        """Something has changed for this search."""
        ...
