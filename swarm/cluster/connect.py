"""The only place that builds a Dask cluster or client: an embedded cluster, or a scheduler that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from swarm.cluster.certificates import temporary
from swarm.cluster.nannies import started, without_script
from swarm.config import scheduler_settings
from swarm.errors import InvalidInput, InvalidProblem, NotAllowed, SchedulerUnreachable
from swarm.manners.guest import Shared, configured
from swarm.manners.shadowing import check_unhidden
from swarm.manners.users_dask import UsersDask
from swarm.trial import resource
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation.process import cancel, prune
from swarm.workers.node.gpu import claimed, gpus
from swarm.workers.node.private import scratch
from swarm.workers.node.slots import Slot
from swarm.workers.node.supervisor import make_slots, nanny_options
from swarm.workers.problem import load

if TYPE_CHECKING:
    from distributed import Client, Scheduler

    from swarm.job.job import Job
    from swarm.pool.dask_pool import DaskPool
    from swarm.pool.slots import Slots

_SEND_INTERVAL = 0.0002  # seconds
_CONNECT_SECONDS = 10
_DASHBOARD_PORT = 8787


_unburdened = Shared(without_script)
_configured = Shared(lambda: configured(scheduler_settings()))


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
        gpu_list: GPUs to use: ``all``, ``0,2-3`` or UUIDs.
        threads: CPU threads of one training.
        gpus_per_training: GPUs of a slot, or one over the number of slots that share a GPU.

    Raises:
        InvalidInput: A GPU that is not there, too few of them, or both GPUs and a number of slots.
    """
    if slots is None and gpu_list is None and not gpus():
        slots = len(os.sched_getaffinity(0))
    return make_slots(gpu_list, slots, threads, gpus_per_training)


@asynccontextmanager
async def embedded(slots: list[Slot]) -> AsyncIterator[Client]:
    """A scheduler in this process and a worker process with these slots, on the loopback interface.

    They speak TLS with a certificate that is made for them and never leaves them, so that no other user of this machine
    can have code run here.

    Args:
        slots: The slots to start; their worker process ends with this context.

    Raises:
        NotStarted: A worker process could not be started.
    """
    from distributed import Nanny, Scheduler, SpecCluster

    check_unhidden()
    nannies: list[Nanny] = []

    def nanny(*arguments: Any, **options: Any) -> Nanny:
        nannies.append(Nanny(*arguments, **options))
        return nannies[-1]

    with _configured, _unburdened, claimed(gpu for slot in slots for gpu in slot.gpus):
        tls: dict[str, Any] = {"protocol": "tls", "security": temporary()}
        own = nanny_options(*slots, host="127.0.0.1")
        workers = {own["name"]: {"cls": nanny, "options": own | tls}}
        options = {"host": "127.0.0.1", "port": 0, "dashboard_address": f"127.0.0.1:{_free_port()}", **tls}
        options["local_directory"] = scratch()
        options["preload"] = ["swarm.scheduler"]  # the swarm's pages
        cluster = SpecCluster(
            workers=workers,
            scheduler={"cls": Scheduler, "options": options},
            security=tls["security"],
            asynchronous=True,
            name="swarm",
        )
        async with started(cluster, nannies), _client(cluster) as client:
            # The news that a training has ended is sent right behind its result, where Dask would wait for 2 ms.
            cluster.scheduler.client_comms[client.id].interval = _SEND_INTERVAL
            _make_own(cluster.scheduler)
            yield client


@asynccontextmanager
async def paged() -> AsyncIterator[Client]:
    """A scheduler without workers in this process, for its pages alone; nobody else can talk to it."""
    from distributed import Scheduler

    with _configured:
        scheduler = Scheduler(
            protocol="inproc",
            dashboard_address=f"127.0.0.1:{_free_port()}",
            preload=["swarm.scheduler"],
            local_directory=scratch(),
        )
        async with scheduler, _client(scheduler.address) as client:
            _make_own(scheduler)
            yield client


def _make_own(scheduler: Scheduler) -> None:
    """Let the pages, which only users of this machine reach, write notes on trials without a token."""
    scheduler.plugins["swarm"].desk.own = True


@asynccontextmanager
async def connected(scheduler: str | UsersDask) -> AsyncIterator[Client]:
    """A client of our own of a scheduler, by its address or as its user has named it.

    Raises:
        SchedulerUnreachable: Nothing answers there.
        NotAllowed: Our certificate is one of a user or a worker, who have no trainings run by themselves.
    """
    place = UsersDask(scheduler) if isinstance(scheduler, str) else scheduler
    address = place.address
    async with contextlib.AsyncExitStack() as stack:
        try:
            await _check_role(place)
            async with asyncio.timeout(_CONNECT_SECONDS):  # Dask waits for ever for a port that accepts and is silent
                client = await stack.enter_async_context(
                    _client(address, timeout=_CONNECT_SECONDS, security=place.security)
                )
        except (OSError, TimeoutError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SchedulerUnreachable(
                f"no Dask scheduler answers at {address} ({reason}); start one: swarm scheduler"
            ) from None
        yield client


@asynccontextmanager
async def _client(where: Any, **options: Any) -> AsyncIterator[Client]:
    """A client of our own, closed however this ends.

    Dask leaves one open if it is cancelled while it connects or closes, and the garbage collector would close it where
    no loop runs any more.
    """
    from distributed import Client

    client = Client(where, asynchronous=True, set_as_default=False, **options)
    try:
        async with client:
            yield client
    finally:
        if client.status != "closed":
            await client.close()


async def _check_role(place: UsersDask) -> None:
    """See that our certificate is one with which Dask may be used; only the service's scheduler looks at that."""
    from distributed import Security
    from distributed.core import connect, send_recv

    address = place.address
    if not address.startswith("tls://"):
        return
    async with asyncio.timeout(_CONNECT_SECONDS):
        arguments = (place.security or Security()).get_connection_args("client")
        line = await connect(address, timeout=_CONNECT_SECONDS, **arguments)
        try:
            role = await send_recv(line, op="swarm_role")
        finally:
            line.abort()
    if role in ("user", "worker"):
        raise NotAllowed(
            f"{address} takes your certificate for a {role}'s, and only a master's may run trainings there by itself: "
            f"submit the job to the service, swarm submit JOB.yaml --scheduler {address} --wait"
        )


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


def slots_of(
    client: Client, *, topic: str | None = None, outlive: bool = False, place: UsersDask | None = None
) -> Slots:
    """All slots of the client's cluster.

    Args:
        client: An asynchronous client.
        place: How its user has named it, if a user has.
        topic: Dask event topic on which results are announced; left out, one of this client's own.
        outlive: Trainings go on when this process dies, for another one to join.
    """
    from swarm.pool.slots import Slots

    async def scaling() -> bool:
        known = None if place is None else place.scales
        return await _is_adaptive(client) if known is None else known

    return Slots(client, evaluate, topic=topic, stop=_end_trainings, prune=prune, outlive=outlive, scaling=scaling)


async def _is_adaptive(client: Client) -> bool:
    """Whether somebody asks the scheduler now and then how many workers there should be, as Dask's ``adapt()`` does."""

    def asked(dask_scheduler: Any) -> bool:  # within a function, it needs nothing of ours in the scheduler
        return bool(dask_scheduler.counters["op"].components[0].get("adaptive_target", 0) > 0.5)

    try:
        return bool(await client.run_on_scheduler(asked))
    except Exception:  # it runs no functions for us, or keeps no count
        return False


@asynccontextmanager
async def pool_on(
    client: Client,
    job: Job,
    results: str | None,
    checkpoints: str | None = None,
    place: UsersDask | None = None,
) -> AsyncIterator[DaskPool]:
    """The pool that runs a job's trainings on the client's cluster, which it has for itself.

    Args:
        client: An asynchronous client.
        job: Whose trainings.
        results: Folder that all workers see, for finished evaluations; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
        place: How its user has named the cluster, if a user has.
    """
    from swarm.pool.dask_pool import DaskPool

    async with (
        slots_of(client, place=place) as slots,
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


def check_installed(job: Job) -> None:
    """Refuse to train here what imports packages that are not installed here, if it is built in.

    Raises:
        InvalidProblem: Some are :func:`missing`.
    """
    if needed := missing(job):
        raise InvalidProblem(
            f"problem {job.code.name} needs {' and '.join(needed)}, not installed here; install it with: "
            "pip install 'dask-swarm[cpu]', or for NVIDIA's GPUs: pip install 'dask-swarm[gpu]'"
        )


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
