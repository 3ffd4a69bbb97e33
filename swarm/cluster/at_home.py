"""Cheap functions in the calling process: they begin at once, and Dask is started beside them where it pays."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from swarm.blocking import in_thread
from swarm.cluster.connect import dashboard_of, embedded, paged, pool_on
from swarm.job.job import Job
from swarm.manners.guest import quiet
from swarm.pool.local import GrowingPool, LocalPool
from swarm.workers.bundle import Bundle
from swarm.workers.command import CommandProblem
from swarm.workers.evaluate import call
from swarm.workers.node.slots import Slot

if TYPE_CHECKING:
    from distributed import Client

    from swarm.pool.dask_pool import DaskPool

Show = Callable[["Client"], AbstractAsyncContextManager[None]]
_PAGES_AFTER = 1.5  # seconds: nobody looks at the pages of a run that ends sooner, and their import takes as long
_LOOK_SECONDS = 0.1
_WORKER_SECONDS = 120.0
_IMPORTS = ("distributed", "swarm.scheduler", "swarm.pool.dask_pool")
_log = logging.getLogger("swarm.runner")


def suits(job: Job, slots: Sequence[Slot], threads: int | None) -> bool:
    """Whether a job's trainings are functions that may be called in this process."""
    plain = job.isolation == "thread" and job.replicas == 1 and not job.optimizer.inherits and threads is None
    program = isinstance(job.problem, CommandProblem)
    if not plain or program or hasattr(job.problem, "preload") or any(slot.gpus for slot in slots):
        return False
    own = job.code.origin is None or ":" in job.code.origin  # what is built in trains networks
    bundle = Bundle.of(job.code.pickle) if own else None
    return bundle is not None and bundle.is_here()  # a stored job's modules may be others than this process has


@asynccontextmanager
async def at_home(
    job: Job, slots: list[Slot], results: str | None, checkpoints: str | None, show: Show
) -> AsyncIterator[tuple[GrowingPool, Callable[[], str | None]]]:
    """The pool of a job whose functions are called here, and what gives the address of the pages once they are there.

    Args:
        job: Whose trainings.
        slots: The slots of this machine.
        results: Folder for finished evaluations and the files that trainings leave, or None.
        checkpoints: Folder for checkpoints, or None.
        show: Keeps the pages of a client's scheduler up to date with the job's search.
    """
    first = LocalPool(
        [slot.name for slot in slots], partial(call, job.code.pickle, checkpoints=checkpoints, results=results)
    )
    pool, beside = GrowingPool(first), _Beside(show)
    chore = asyncio.ensure_future(beside.run(first, pool, partial(_elsewhere, job, slots, results, checkpoints)))
    try:
        yield pool, lambda: beside.link
    finally:
        first.end()
        chore.cancel()
        await asyncio.gather(chore, return_exceptions=True)


@asynccontextmanager
async def _elsewhere(
    job: Job, slots: list[Slot], results: str | None, checkpoints: str | None
) -> AsyncIterator[tuple[Client, DaskPool]]:
    async with embedded(slots) as client, pool_on(client, job, results, checkpoints) as pool:
        await pool.wait_for_slots(_WORKER_SECONDS)
        yield client, pool


class _Beside:
    """Dask beside the functions: a scheduler for its pages, or processes where the functions take long.

    Attributes:
        link: Address of the pages; None while there are none.
    """

    def __init__(self, show: Show) -> None:
        self.link: str | None = None
        self._show = show

    async def run(self, first: LocalPool, pool: GrowingPool, elsewhere: Callable[[], Any]) -> None:
        """Start what pays, when it does, and keep it until this is cancelled."""
        for _ in range(round(_PAGES_AFTER / _LOOK_SECONDS)):
            if first.is_slow():
                break
            await asyncio.sleep(_LOOK_SECONDS)
        with ThreadPoolExecutor(1, "swarm-imports") as thread:
            for name in _IMPORTS:
                await in_thread(thread, partial(importlib.import_module, name))
        try:
            with quiet:
                if not first.is_slow():
                    async with paged() as client, self._shown(client):
                        while not first.is_slow():
                            await asyncio.sleep(_LOOK_SECONDS)
                async with elsewhere() as (client, later), self._shown(client):
                    pool.grow(later)
                    await asyncio.Event().wait()
        except Exception as error:  # the run does not depend on it
            said = str(error).splitlines() or [type(error).__name__]
            _log.warning("the run goes on in this process alone, without Dask's pages: %s", said[0])

    @asynccontextmanager
    async def _shown(self, client: Client) -> AsyncIterator[None]:
        async with self._show(client):
            self.link = await dashboard_of(client)
            try:
                yield
            finally:
                self.link = None
