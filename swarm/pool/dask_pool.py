"""The slots of a Dask cluster as one search sees them: a pool for :class:`~swarm.search.Search`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence

from swarm.errors import NoSlots
from swarm.pool.ahead import Ahead
from swarm.pool.base import OnReport
from swarm.pool.fair_share import Share
from swarm.pool.slots import Slots
from swarm.pool.task_names import GPU
from swarm.trial import Evaluation, Result

_UNFIT_SECONDS = 3.0  # that workers without a slot of the kind are waited for: one with it may be about to join
_LOOK_SECONDS = 0.5
_log = logging.getLogger("swarm.slots")


class DaskPool:
    """The slots of a cluster as one search sees them.

    Args:
        slots: The slots.
        problem: The pickled problem.
        results: Folder, seen by every worker, where finished evaluations are committed; None commits nothing.
        checkpoints: Where trainings that others may continue keep their checkpoints, a URL or folder that every worker
            sees; None keeps none.
        resource: Class of the slots to use.
        share: The job's claim, where others use the slots as well.
        replicas: Slots that train one network together.
    """

    def __init__(
        self,
        slots: Slots,
        problem: bytes,
        *,
        results: str | None = None,
        checkpoints: str | None = None,
        resource: str = GPU,
        share: Share | None = None,
        replicas: int = 1,
    ) -> None:
        self.problem = problem
        self.resource = resource
        self.share = share or Share()
        self.share.grain = replicas
        self.on_report: OnReport = lambda *_: None
        self.taken: list[str] = []  # keys of the results that the search has; drained by the master, if it tracks them
        self._slots = slots
        self._results = results
        self._checkpoints = checkpoints
        self._ended: list[Result] = []
        self._ahead = Ahead()
        self._told_of_slots = False  # whether every answer of free() since the last next() was that there are some
        self._woken = asyncio.Event()

    async def __aenter__(self) -> DaskPool:
        self._slots.join(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._slots.outlive:
            await self.cancel()
        self._slots.leave(self)
        self.on_report = lambda *_: None  # the search, which has this pool

    # --- the protocol of a pool

    @property
    def slots(self) -> int:
        """Number of slots now, over all workers that offer the resource, whoever uses them."""
        return self._slots.total(self.resource)

    def free(self) -> int:
        """Number of trainings that this search may start now."""
        found = self._slots.allowed(self) // self.share.grain
        self._told_of_slots = self._told_of_slots and found > 0
        return found

    def spare(self) -> int:
        """How many more evaluations may wait beside those that run, where these are so short that it pays."""
        if self.share.grain > 1 or not self._ahead.pays():
            return 0
        return self._slots.spare(self)

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Send evaluations to the workers."""
        for evaluation in evaluations:
            self._slots.submit(self, evaluation, self._results, self._slots.topic, checkpoints=self._checkpoints)

    def running(self, keys: Collection[str]) -> set[str]:
        """Those of the evaluations that are in flight already, whoever submitted them: to join them takes no slot."""
        return set(filter(self._slots.runs, keys))

    async def next(self) -> list[Result]:
        """Wait until an evaluation ended or the slots changed; what ended, perhaps nothing.

        Raises:
            ClusterError: The scheduler is gone.
        """
        looked, self._told_of_slots = self._told_of_slots, True
        if not self._woken.is_set() and self.share.hungry and self._slots.allowed(self) >= self.share.grain:
            if looked:  # the search has left slots that it was offered
                self.share.hungry = False
                self._slots.divide()
            else:  # they are there since it looked
                self._woken.set()
        self._slots.check()
        await self._woken.wait()
        self._woken.clear()
        self._slots.check()
        ended, self._ended = self._ended, []
        self.taken += [result.key for result in ended]
        return ended

    def open(self, on_report: OnReport) -> None:
        """The search begins to take slots; call ``on_report(key, metrics)`` with what trainings report on the way."""
        self.on_report = on_report
        self._slots.level(self)
        self.share.closed = False
        self._slots.divide()

    def close(self) -> None:
        """The search takes no more slots; what it was offered goes to others."""
        self.share.closed = True
        self._slots.divide()

    def want(self, trainings: int) -> None:
        """Say how many more trainings could run: a cluster that scales by itself is shown those without a slot."""
        self._slots.wishes.want(self, max(0, trainings - self.free()))

    def prune(self, key: str, metric: str) -> None:
        """End the training of ``key``, on the worker from which it reported."""
        self._slots.prune(self, key, metric)

    # --- for whoever runs the search

    async def cancel(self) -> None:
        """End the trainings in flight, on the workers too."""
        await self._slots.drop(self)

    async def wait_for_slots(self, seconds: float) -> None:
        """Wait until there are the slots of one training; as long as it takes, where the cluster starts workers itself.

        Args:
            seconds: How long to wait for the workers of any other cluster.

        Raises:
            NoSlots: The workers did not offer them in time; or there are workers, and none offers any.
        """
        wishes, waits = self._slots.wishes, False
        begun = unfit = time.monotonic()
        while self.slots < self.share.grain:
            wishes.want(self, self.share.grain)
            await wishes.look()
            now = time.monotonic()
            if not self._slots.workers() or self.slots:
                unfit = now
            elif now - unfit > _UNFIT_SECONDS:
                raise NoSlots(self._no_slots())
            if wishes.scales and not waits:
                _log.warning("waiting for workers, which the cluster at %s starts by itself", self._address)
                waits = True
            left = begun + seconds - now
            if left <= 0 and not wishes.scales:
                raise NoSlots(self._no_slots())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if wishes.scales else min(left, _LOOK_SECONDS)):
                    await self._woken.wait()
                self._woken.clear()

    @property
    def _address(self) -> str:
        return str(self._slots.client.scheduler.address)

    @property
    def starting(self) -> str:
        """The command that starts a worker with slots of its class."""
        gpus = self.resource.partition("-")[2]
        option = f" --gpus-per-training {gpus}" if gpus else ""
        return f"swarm worker {self._address} --gpus all{option} (or --slots 4{option} without GPUs)"

    def _no_slots(self) -> str:
        """What the cluster lacks, and what to do about it."""
        address, kind = self._address, self.resource
        offered = f"{self.slots} {kind} slots" if self.slots else f"no worker with a {kind} slot"
        if self._slots.workers() and not self.slots:
            offered = f"workers, but {offered}"
        wanted = f", and a training takes {self.share.grain}" if self.share.grain > 1 else ""
        own = f'give your Dask workers resources={{"{kind}": 1}}, as LocalCluster(…) takes it'
        remedy = own if address.startswith("inproc://") else f"start some: {self.starting}; or {own}"
        return f"the scheduler at {address} has {offered}{wanted}; {remedy} (dask worker --resources {kind}=1)"

    def deliver(self, result: Result) -> None:
        """An evaluation of this search has ended."""
        self._ended.append(result)
        self._ahead.note(result)
        self.wake()

    def wake(self) -> None:
        """Something has changed for this search."""
        if not self.share.hungry:
            self.share.hungry = True
            self._slots.divide()  # it may have a part of the slots again
        self._woken.set()

    def pause(self, paused: bool = True) -> None:
        """Take no more slots, or take some again; what runs goes on. There is no credit for the pause."""
        if self.share.paused and not paused:
            self._slots.level(self)
        self.share.paused = paused
        self._slots.divide()
        self.wake()
