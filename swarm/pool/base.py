"""What a search needs of the slots that train for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from swarm.trial import Evaluation, Result

OnReport = Callable[[str, Mapping[str, float]], None]


class Pool(Protocol):
    """Slots that run evaluations, as :class:`~swarm.pool.dask_pool.DaskPool` and
    :class:`~swarm.pool.virtual.VirtualPool` do.
    """

    @property
    def slots(self) -> int:
        """Number of slots at this moment, busy or free."""
        ...

    def free(self) -> int:
        """Number of slots that nothing runs on."""
        ...

    def spare(self) -> int:
        """How many more evaluations may wait beside those that run, where these are so short that it pays."""
        ...

    def running(self, keys: Collection[str]) -> set[str]:
        """Those of these evaluations that run already, for another search or since before; to submit them joins."""
        ...

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Run these evaluations, at most :meth:`free` and :meth:`spare` of them besides those that run already."""
        ...

    async def next(self) -> list[Result]:
        """Wait until something ended or the slots changed; what ended, perhaps nothing."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, on the pool's own clock."""
        ...

    def open(self, on_report: OnReport) -> None:
        """The search begins to take slots; call ``on_report(key, metrics)`` with what trainings report on the way."""
        ...

    def close(self) -> None:
        """The search takes no more slots; what it was offered goes to others."""
        ...

    def want(self, trainings: int) -> None:
        """Say how many more trainings could run, had it more slots: a cluster that scales by itself has to know."""
        ...

    def prune(self, key: str, metric: str) -> None:
        """End the training of ``key`` soon; its fitness is the last value that it reported of ``metric``."""
        ...
