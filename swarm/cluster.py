"""The only place that builds a Dask cluster or client: an embedded cluster, or a scheduler that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_random_exponential,
)

from swarm.errors import ClusterError, InvalidInput, LeaseLost, NoService, SchedulerUnreachable, StoreUnavailable
from swarm.guest import LOGGING, NOISY, Shared, configured
from swarm.job import Job
from swarm.main_guard import reason, reported
from swarm.nannies import started
from swarm.store import Store
from swarm.trial import resource
from workers.checkpoint import CheckpointStore
from workers.environment import unmet
from workers.evaluate import evaluate
from workers.exposure import check_exposed
from workers.gpu import claimed, gpus
from workers.problem import load
from workers.process import cancel, prune
from workers.slots import Slot, address_of, make_slots, nanny_options

if TYPE_CHECKING:
    from distributed import Client

    from swarm.dask_pool import DaskPool
    from swarm.master import Places
    from swarm.slots import Slots

_SEND_INTERVAL = 0.0002  # seconds
_CONNECT_SECONDS = 10
_DASHBOARD_PORT = 8787
_STANDBY_SECONDS = 1.0
_LONGEST_PAUSE = 10.0
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the master decides what runs again
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,  # samples the stack a hundred times a second
    "distributed.scheduler.worker-ttl": "1 minute",  # a worker that hangs is restarted then
    "distributed.admin.tick.limit": "1h",
}
ROUTES = "distributed.scheduler.http.routes"


def scheduler_settings() -> dict[str, Any]:
    """Those of Dask's scheduler where it is ours, with the swarm's pages."""
    import distributed  # noqa: F401 - its own settings must be there before ours

    routes = dask.config.get(ROUTES)
    return {**SETTINGS, ROUTES: routes if "swarm.scheduler" in routes else [*routes, "swarm.scheduler"]}


_reported = Shared(reported)
_configured = Shared(lambda: configured(scheduler_settings()))


def quiet_dask(level: str = "critical") -> None:
    """Let Dask log from ``level`` on, here and in the workers that are started from here, for good.

    That is for a process of ours; in a process of the user's see :mod:`swarm.guest`. Whoever has set
    ``DASK_LOGGING__DISTRIBUTED`` wants it otherwise, and gets it.
    """
    if LOGGING in os.environ:
        return
    os.environ[LOGGING] = level  # for the worker processes
    dask.config.set({"logging.distributed": level})  # for the import of distributed, which sets the levels
    for name in NOISY:
        logging.getLogger(name).setLevel(level.upper())


def local_slots(
    slots: int | None = None,
    gpu_list: str | None = None,
    threads: int | None = None,
    *,
    gpus_per_training: float = 1,
) -> list[Slot]:
    """The slots of this machine: those asked for, else one per GPU, else one per CPU core.

    Args:
        slots: Number of slots on CPUs.
        gpu_list: GPUs to use: ``all`` or ``0,1``.
        threads: Threads of one training on a CPU.
        gpus_per_training: GPUs of a slot, or one over the number of slots that share a GPU.

    Raises:
        InvalidInput: A GPU that is not there, too few of them, or both GPUs and a number of slots.
    """
    if slots is None and gpu_list is None and not gpus():
        slots = len(os.sched_getaffinity(0))
    return make_slots(gpu_list, slots, threads, gpus_per_training)


@asynccontextmanager
async def embedded(slots: list[Slot]) -> AsyncIterator[Client]:
    """A scheduler in this process and one worker process per slot, on the loopback interface.

    Args:
        slots: The slots to start; their worker processes end with this context.

    Raises:
        NotStarted: A worker process could not be started, such as one that cannot import the user's script.
    """
    from distributed import Client, Nanny, Scheduler, SpecCluster

    nannies: list[Nanny] = []

    def nanny(*arguments: Any, **options: Any) -> Nanny:
        nannies.append(Nanny(*arguments, **options))
        return nannies[-1]

    with _configured, _reported, claimed(gpu for slot in slots for gpu in slot.gpus):
        workers = {slot.name: {"cls": nanny, "options": nanny_options(slot, "127.0.0.1")} for slot in slots}
        options = {"host": "127.0.0.1", "port": 0, "dashboard_address": f"127.0.0.1:{_free_port()}"}
        options["preload"] = ["swarm.scheduler"]  # the swarm's pages
        cluster = SpecCluster(
            workers=workers, scheduler={"cls": Scheduler, "options": options}, asynchronous=True, name="swarm"
        )
        async with started(cluster, nannies, reason), Client(cluster, asynchronous=True) as client:
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


async def check_unserved(client: Client) -> None:
    """See that no master divides the slots of the cluster, since that would not know of ours.

    Raises:
        InvalidInput: There is one.
    """
    hello = await client.scheduler.swarm_hello()
    if hello is not None and hello["master"]:
        address = client.scheduler.address
        raise InvalidInput(
            f"a master divides the slots at {address}, and would not know of this run: "
            f"submit the job to it, swarm submit JOB.yaml --scheduler {address} --wait"
        )


def slots_of(client: Client, *, topic: str | None = None, outlive: bool = False) -> Slots:
    """All slots of the client's cluster.

    Args:
        client: An asynchronous client.
        topic: Dask event topic on which results are announced; left out, one of this client's own.
        outlive: Trainings go on when this process dies, for another one to join.
    """
    from swarm.slots import Slots

    return Slots(client, evaluate, topic=topic, stop=_end_trainings, prune=prune, outlive=outlive)


@asynccontextmanager
async def pool_on(
    client: Client, job: Job, results: str | None, checkpoints: str | None = None
) -> AsyncIterator[DaskPool]:
    """The pool that runs a job's trainings on the client's cluster, which it has for itself.

    Args:
        client: An asynchronous client.
        job: Whose trainings.
        results: Folder that all workers see, for finished evaluations; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
    """
    from swarm.dask_pool import DaskPool

    async with (
        slots_of(client) as slots,
        DaskPool(
            slots,
            job.code.pickle,
            results=results,
            checkpoints=checkpoints,
            resource=resource(job.gpus_per_training),
            replicas=job.replicas,
        ) as pool,
    ):
        yield pool


async def serve_scheduler(
    host: str,
    port: int,
    *,
    dashboard: str,
    scheduler_file: Path | None = None,
    insecure: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Be the scheduler, until cancelled.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes any.
        dashboard: Address of the dashboard.
        scheduler_file: File to write the address to.
        insecure: Serve others than this machine even without TLS.
        say: Told the addresses.

    Raises:
        InvalidInput: Others could reach it without TLS.
        SchedulerUnreachable: The port is taken, or the address is not ours.
    """
    from distributed import Scheduler, Security

    import swarm.scheduler  # its settings must be there before a scheduler is made
    from swarm.config import settings

    tls = Security().get_listen_args("scheduler").get("ssl_context") is not None
    check_exposed(host, insecure, tls=tls)
    scheduler = Scheduler(
        host=host,
        port=port,
        protocol="tls" if tls else "tcp",
        dashboard_address=dashboard,
        scheduler_file=None if scheduler_file is None else str(scheduler_file),
        preload=[swarm.scheduler.__name__],
        worker_ttl=f"{settings().worker_ttl_seconds} s",
    )
    try:
        await scheduler
    except OSError as error:
        raise SchedulerUnreachable(f"cannot listen on {host}:{port} ({error}); take another --port") from None
    async with scheduler:
        import swarm.dashboard.pages  # now, when nobody waits for it

        gc.freeze()  # what has been imported stays: looking through it for garbage would take 150 ms at a time
        pages = f"http://{dashboard.rpartition(':')[0]}:{scheduler.services['dashboard'].port}/swarm"
        say(f"scheduler at {scheduler.address}, dashboard at {pages}")
        await scheduler.finished()


def scheduler_address(address: str | None, file: Path | None, configured: str | None) -> Callable[[], str]:
    """What gives the scheduler's address: as it was said, or what a scheduler file says at that moment.

    Raises:
        InvalidInput: Both or none was given.
    """
    if address is not None and file is not None:
        raise InvalidInput("give the scheduler's address or --scheduler-file, not both")
    if file is not None:
        return lambda: address_of(file)
    address = address or configured
    if address is None:
        raise InvalidInput("give the scheduler's address, tcp://HOST:8786, --scheduler-file, or DASK_SCHEDULER_ADDRESS")
    return lambda: address


async def serve_jobs(
    scheduler: Callable[[], str],
    store: str,
    *,
    places: Places,
    lease_seconds: float,
    admins: Iterable[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Be the master of the jobs in a store, until cancelled: wait for the lease, dial, serve, and dial again.

    Args:
        scheduler: Gives the scheduler's address, anew for each dial.
        store: URL of the store.
        places: Where trainings leave what others need.
        lease_seconds: A standby takes over when the master has been silent for so long.
        admins: Who may steer everybody's jobs.
        say: Told what happens.

    Raises:
        NoService: The scheduler was started without our plugin.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((ClusterError, LeaseLost, StoreUnavailable, OSError))
        & retry_if_not_exception_type(NoService),
        wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE),
        before_sleep=lambda state: say(f"{_reason(state)}; trying again"),
    )
    while True:
        async for attempt in attempts:
            with attempt:
                opened = Store(store)
                try:
                    await _hold_office(scheduler, opened, holder, places, lease_seconds, tuple(admins), say)
                finally:
                    with contextlib.suppress(StoreUnavailable):
                        opened.give_up_lease()
                    opened.close()


async def _hold_office(
    scheduler: Callable[[], str],
    store: Store,
    holder: str,
    places: Places,
    lease_seconds: float,
    admins: tuple[str, ...],
    say: Callable[[str], None],
) -> None:
    """One term of office."""
    from swarm.master import Master
    from swarm.protocol import RESULTS

    if not store.lease(holder, lease_seconds):
        say("another master is at work; standing by")
        while not store.lease(holder, lease_seconds):
            await asyncio.sleep(_STANDBY_SECONDS)
    async with connected(scheduler()) as client, slots_of(client, topic=RESULTS, outlive=True) as slots:
        say(f"serving {client.scheduler.address}, {slots.total()} slots, store {store.url}")

        async def unfit(requirements: Iterable[str]) -> str | None:
            found = await client.run(unmet, list(requirements), on_error="ignore")
            return next(
                (f"{complaints[0]} (worker {worker})" for worker, complaints in found.items() if complaints), None
            )

        await Master(
            client,
            slots,
            store,
            holder=holder,
            places=places,
            forgetting=forgetting,
            unfit=unfit,
            lease_seconds=lease_seconds,
            admins=admins,
        ).run()


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome is not None else None
    return (str(error).splitlines() or [type(error).__name__])[0]


def forgetting(checkpoints: str | None) -> Callable[[list[str]], None]:
    """What deletes the checkpoints of evaluations, by key; nothing where none are kept."""
    return (lambda _: None) if checkpoints is None else CheckpointStore(checkpoints).delete


def keeping(checkpoints: str | None) -> Callable[[str], bool]:
    """What says whether there is a checkpoint of an evaluation, by key."""
    return (lambda _: False) if checkpoints is None else CheckpointStore(checkpoints).exists


def missing(job: Job) -> list[str]:
    """Packages that a job's built-in problem imports first thing, and that are not installed here."""
    origin = job.code.origin
    if origin is None or ":" in origin:  # the user's own: it knows best what it needs
        return []
    needed = [name.partition(".")[0] for name in getattr(load(job.code.pickle), "preload", ())]
    return [name for name in dict.fromkeys(needed) if importlib.util.find_spec(name) is None]


def _end_trainings(keys: list[str]) -> None:
    """Runs on the workers: end the trainings of these evaluations."""
    for key in keys:
        cancel(key)


async def dashboard_of(client: Client) -> str | None:
    """Address of the scheduler's dashboard, if it has one: of the swarm's pages, if those are there."""
    with contextlib.suppress(Exception):  # a nicety: the run does not depend on it
        link = str(client.dashboard_link)
        pages = await client.scheduler.swarm_hello() is not None
        return link.removesuffix("status") + "swarm" if pages else link
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
