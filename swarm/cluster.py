"""The only place that builds a Dask cluster or client: an embedded cluster, or a scheduler that runs elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dask

from swarm.errors import SchedulerUnreachable
from swarm.job import Job
from workers.checkpoint import CheckpointStore
from workers.evaluate import evaluate
from workers.process import cancel, prune
from workers.slots import Slot, gpus, make_slots, nanny_options

if TYPE_CHECKING:
    from distributed import Client

    from swarm.pool import DaskPool

_SEND_INTERVAL = 0.0002  # seconds
_CONNECT_SECONDS = 10
_DASHBOARD_PORT = 8787
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the master decides what runs again
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,  # samples the stack a hundred times a second
    "distributed.admin.tick.limit": "1h",
}


def quiet_dask(level: str = "critical") -> None:
    """Let Dask log from ``level`` on, here and in the workers that are started from here.

    Whoever has set ``DASK_LOGGING__DISTRIBUTED`` wants it otherwise, and gets it.
    """
    if "DASK_LOGGING__DISTRIBUTED" in os.environ:
        return
    os.environ["DASK_LOGGING__DISTRIBUTED"] = level  # for the worker processes
    dask.config.set({"logging.distributed": level})  # for the import of distributed, which sets the levels
    for name in ("distributed", "distributed.worker", "distributed.nanny", "distributed.scheduler", "bokeh"):
        logging.getLogger(name).setLevel(level.upper())


def local_slots(slots: int | None = None, gpu_list: str | None = None, threads: int | None = None) -> list[Slot]:
    """The slots of this machine: those asked for, else one per GPU, else one per CPU core.

    Args:
        slots: Number of slots on CPUs.
        gpu_list: GPUs to use: ``all`` or ``0,1``.
        threads: Threads of one training on a CPU.

    Raises:
        InvalidInput: A GPU that is not there, or both GPUs and a number of slots.
    """
    if slots is None and gpu_list is None and not gpus():
        slots = len(os.sched_getaffinity(0))
    return make_slots(gpu_list, slots, threads)


@asynccontextmanager
async def embedded(slots: list[Slot]) -> AsyncIterator[Client]:
    """A scheduler in this process and one worker process per slot, on the loopback interface.

    Args:
        slots: The slots to start; their worker processes end with this context.
    """
    # Imported first: its defaults must be there before ours, or leaving the context would take them away.
    from distributed import Client, Nanny, Scheduler, SpecCluster

    with dask.config.set(_SETTINGS):
        workers = {slot.name: {"cls": Nanny, "options": nanny_options(slot, "127.0.0.1")} for slot in slots}
        options = {"host": "127.0.0.1", "port": 0, "dashboard_address": f"127.0.0.1:{_free_port()}"}
        cluster = SpecCluster(
            workers=workers, scheduler={"cls": Scheduler, "options": options}, asynchronous=True, name="swarm"
        )
        async with cluster, Client(cluster, asynchronous=True) as client:
            # The news that a training has ended is sent right behind its result, where Dask would wait for 2 ms.
            cluster.scheduler.client_comms[client.id].interval = _SEND_INTERVAL
            yield client


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Client]:
    """A client of the scheduler at ``address``.

    Raises:
        SchedulerUnreachable: Nothing answers there.
    """
    from distributed import Client

    try:
        client = await Client(address, asynchronous=True, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SchedulerUnreachable(
            f"no Dask scheduler answers at {address} ({reason}); start one: dask scheduler --port 8786"
        ) from None
    async with client:
        yield client


@asynccontextmanager
async def pool_on(
    client: Client, job: Job, results: str | None, checkpoints: str | None = None
) -> AsyncIterator[DaskPool]:
    """The pool that runs a job's trainings on the client's cluster.

    Args:
        client: An asynchronous client.
        job: Whose trainings.
        results: Folder that all workers see, for finished evaluations; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
    """
    from swarm.pool import DaskPool

    pool = DaskPool(
        client,
        evaluate,
        job.code.pickle,
        results=results,
        checkpoints=checkpoints,
        stop=_end_trainings,
        prune=prune,
    )
    async with pool:
        yield pool


def forgetting(checkpoints: str | None) -> Callable[[list[str]], None]:
    """What deletes the checkpoints of evaluations, by key; nothing where none are kept."""
    return (lambda _: None) if checkpoints is None else CheckpointStore(checkpoints).delete


def _end_trainings(keys: list[str]) -> None:
    """Runs on the workers: end the trainings of these evaluations."""
    for key in keys:
        cancel(key)


def dashboard_of(client: Client) -> str | None:
    """Address of the scheduler's dashboard, if it has one."""
    with contextlib.suppress(Exception):  # a nicety: the run does not depend on it
        link: Any = client.dashboard_link
        return str(link)
    return None


def _free_port() -> int:
    """Dask's usual dashboard port if nobody has it, else one that the system chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _DASHBOARD_PORT))
        except OSError:
            return 0
    return _DASHBOARD_PORT
