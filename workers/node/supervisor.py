"""One worker process with all slots of this machine: what it offers, and a supervisor that keeps it alive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.errors import InvalidInput
from swarm.trial import resource
from swarm.workers.cards.choice import chosen
from swarm.workers.cards.driver import Device
from swarm.workers.cards.load import tell_cards
from swarm.workers.node.first_contact import FirstContact
from swarm.workers.node.gate import WORKER, guard
from swarm.workers.node.gpu import devices, gpus, slot_env
from swarm.workers.node.leaving import Leaving, attach
from swarm.workers.node.listen import listening_host
from swarm.workers.node.private import scratch
from swarm.workers.node.slots import Slot, own, tell_names, thread_env, worker_env, worker_name

if TYPE_CHECKING:
    from distributed import Nanny

_SETTINGS = {"distributed.diagnostics.nvml": False}
_SEND_INTERVAL = 0.0002  # seconds
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_DIAL_SECONDS = 3.0  # Dask would try for 30 before we look again where the scheduler is
_log = logging.getLogger("swarm.workers")


def make_slots(
    gpu_list: str | None = None, slots: int | None = None, threads: int | None = None, gpus_per_training: float = 1
) -> list[Slot]:
    """The slots of this machine.

    Args:
        gpu_list: ``all``, numbers and ranges such as ``0,2-3``, or identifiers (UUIDs), which may be cut short; None
            takes all GPUs unless ``slots`` is given. A number means all parts of a GPU that is divided (MIG), ``0:1``
            one.
        slots: Number of slots without a GPU each; None makes one per GPU, or one where there is no GPU.
        threads: CPU threads of one training; None is one without a GPU, which keeps results equal whatever the slots,
            and beside a GPU the slot's share of the cores, or what ``OMP_NUM_THREADS`` says.
        gpus_per_training: GPUs of one slot, or one over the number of slots that share a GPU. Slots without a GPU are
            offered to the same trainings, so that these can be tried anywhere.

    Raises:
        InvalidInput: A GPU that is not there, no GPU at all or too few, or both a GPU list and a number of slots.
    """
    try:
        offered = resource(gpus_per_training)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    if slots is not None and gpu_list is not None:
        raise InvalidInput("give --gpus or --slots, not both: a GPU is one slot")
    for name, number in (("slots", slots), ("threads", threads)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidInput(f"--{name} must be at least 1, got {number!r}")
    found = gpus() if slots is None else []
    if gpu_list is not None and not found:
        raise InvalidInput("no GPU was found (see swarm doctor); without GPUs use --slots N")
    if found:
        return _gpu_slots(_chosen(gpu_list, found), gpus_per_training, offered, threads)
    env = {"CUDA_VISIBLE_DEVICES": "-1", **thread_env(threads or 1)}
    return [Slot(f"{socket.gethostname()}:slot-{number}", env, resource=offered) for number in range(slots or 1)]


def nanny_options(*slots: Slot, host: str | None = None) -> dict[str, Any]:
    """Arguments of the :class:`distributed.Nanny` that keeps the worker process of these slots.

    The worker's HTTP pages have no use here and know no TLS, so they stay on the loopback interface. Dask does not look
    at NVIDIA's driver by itself: it would in its event loop, which hangs if the driver does.
    """
    return {
        "name": worker_name(slots),
        "nthreads": len(slots),
        "resources": dict(Counter(slot.resource for slot in slots)),
        "env": worker_env(slots),
        "config": _SETTINGS,
        "memory_limit": 0,  # Dask would kill the worker; a training's memory is its child's
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
        "host": host,
        "preload": ["swarm.workers.node.supervisor"],
        "preload_nanny": ["swarm.workers.node.gate"],
        "local_directory": scratch(),
    }


def dask_setup(worker: Any) -> None:
    """What Dask runs in each worker process first.

    Ctrl-C in the terminal is for the master, which ends us in order. The end of a training is sent right behind its
    result, where Dask would wait for 2 ms.
    """
    guard(worker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(worker, "batched_stream"):
        worker.batched_stream.interval = _SEND_INTERVAL
        tell_names(worker)
        attach(worker)
        tell_cards(worker, (card for slot in own.all for card in slot.gpus))


async def serve(
    scheduler: Callable[[], str],
    slots: Iterable[Slot],
    *,
    host: str | None = None,
    insecure: bool = False,
    first_seconds: float | None = None,
    leaving: Leaving | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Keep one worker process with these slots connected to the scheduler, until cancelled or told to end.

    Dask's workers exit when their scheduler goes away; this one dials again, with growing pauses. They are random, lest
    all workers of a cluster dial in step.

    Args:
        scheduler: Gives the scheduler's address, asked again for each dial, so that one that was started again is found
            wherever it is; see :func:`address_of`. An OSError means that it is not known now.
        slots: What to serve.
        host: Address to listen on; None is the interface that leads to the scheduler.
        insecure: Listen where others can reach us even without TLS.
        first_seconds: Give up if the scheduler was never reached for so long; None tries for ever.
        leaving: When the worker ends in order, and returns; None: never.
        ready: Told what it does whenever it has been connected.

    Raises:
        SchedulerUnreachable: It was not.
        InvalidInput: Others could reach the worker, or TLS lacks its certificates.
    """
    supervisor = _Supervisor(scheduler, tuple(slots), host, insecure, FirstContact(first_seconds), ready)
    if leaving is None:
        return await supervisor.keep()
    keeping, telling = asyncio.ensure_future(supervisor.keep()), asyncio.ensure_future(leaving.told())
    try:
        await asyncio.wait({keeping, telling}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            return keeping.result()
        await leaving.drain(supervisor.nanny, telling.result())
    finally:
        for task in (keeping, telling):
            task.cancel()
        await asyncio.gather(keeping, telling, return_exceptions=True)


class _Supervisor:
    """What keeps a worker process.

    Args:
        scheduler, slots, host, insecure: As of :func:`serve`.
        contact: Gives up if the scheduler is never reached.
        ready: Told what it does whenever it has been connected.

    Attributes:
        nanny: What has the worker's process; None where there is none.
    """

    def __init__(
        self,
        scheduler: Callable[[], str],
        slots: tuple[Slot, ...],
        host: str | None,
        insecure: bool,
        contact: FirstContact,
        ready: Callable[[str], None],
    ) -> None:
        self.nanny: Nanny | None = None
        self._scheduler = scheduler
        self._slots = slots
        self._host, self._insecure = host, insecure
        self._contact = contact
        self._ready = ready

    async def keep(self) -> None:
        """Start it, and again whenever it has ended, until cancelled."""
        import dask

        dask.config.set(_SETTINGS)
        pause, name = _FIRST_PAUSE, worker_name(self._slots)
        while True:
            try:
                await self._serve(name)
            except (OSError, TimeoutError, RuntimeError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                _log.warning("worker %s: %s", name, self._contact.failed(reason))
            if self.nanny is not None:  # it was connected
                self.nanny, pause = None, _FIRST_PAUSE
            seconds = random.uniform(pause / 2, pause)
            _log.info("worker %s dials again in %.1f s", name, seconds)
            await asyncio.sleep(seconds)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, name: str) -> None:
        """Once: until the worker or its scheduler is gone."""
        from distributed import Nanny

        address = self._scheduler()
        listen = listening_host(address, self._host, self._insecure)
        await _check_answer(address)
        self._contact.reached()
        async with Nanny(address, **nanny_options(*self._slots, host=listen), death_timeout=None) as nanny:
            self.nanny = nanny
            _log.info("worker %s serves %s with %d slots", name, address, len(self._slots))
            self._ready(f"serves {address}, slots: {len(self._slots)}")
            await nanny.finished()


def address_of(file: Path) -> str:
    """The address in a scheduler file, as ``dask scheduler --scheduler-file`` writes it.

    Raises:
        OSError: The file is not there, or not written to its end.
    """
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except FileNotFoundError:
        raise OSError(f"waiting for a scheduler to write {file}") from None
    except (ValueError, KeyError, TypeError):
        raise OSError(f"{file} names no scheduler (yet)") from None


async def _check_answer(address: str) -> None:
    """See whether a scheduler answers, before a worker is started for it.

    Raises:
        OSError: Nothing answers.
        InvalidInput: There are no certificates for its TLS, or not those of a worker.
    """
    from distributed.comm import connect
    from distributed.core import send_recv
    from distributed.security import Security

    options = Security().get_connection_args("worker")  # what a Nanny takes, too: Dask's configuration
    if address.startswith("tls://") and options["ssl_context"] is None:
        raise InvalidInput(
            f"{address} speaks TLS, but this machine's certificates are not configured: set Dask's "
            "distributed.comm.tls.ca-file, distributed.comm.tls.worker.cert and distributed.comm.tls.worker.key"
        )
    try:
        async with asyncio.timeout(2 * _DIAL_SECONDS):  # Dask's own limit does not hold for the greeting
            line = await connect(address, timeout=_DIAL_SECONDS, **options)
    except TimeoutError:
        raise OSError(f"no scheduler answers at {address}: is that its port?") from None
    try:
        if address.startswith("tls://"):
            async with asyncio.timeout(_DIAL_SECONDS):
                role = await send_recv(line, op="swarm_role")
            if role in ("user", "master"):
                raise InvalidInput(
                    f"{address} takes this machine's certificate for a {role}'s: a worker needs the one named "
                    f"{WORKER!r} (deploy/make-certificates; DASK_CONFIG=…/worker/tls.yaml)"
                )
    finally:
        line.abort()


def _chosen(gpu_list: str | None, found: list[str]) -> list[str]:
    known = {device.uuid: device for device in (devices() if gpu_list else ())}
    there = [known.get(uuid) or Device(uuid, number, "") for number, uuid in enumerate(found)]
    return [device.uuid for device in chosen(gpu_list, there)]


def _gpu_slots(used: list[str], gpus_per_training: float, offered: str, threads: int | None) -> list[Slot]:
    """Slots of one or more GPUs each, or of a part of one."""
    if gpus_per_training < 1:
        numbers = range(round(1 / gpus_per_training))
        places = [(f"{gpu}/{number}", [gpu]) for gpu in used for number in numbers]
    else:
        size = int(gpus_per_training)
        groups = [used[i : i + size] for i in range(0, len(used) - size + 1, size)]
        if not groups:
            raise InvalidInput(f"a training is to have {size} GPUs, but there are {len(used)}: {', '.join(used)}")
        if size > 1 and any(gpu.startswith("MIG-") for gpu in used):
            raise InvalidInput("CUDA shows a process one part of a divided GPU (MIG) only: use --gpus-per-training 1")
        if left := used[len(groups) * size :]:
            _log.warning("not used, since a training takes %d GPUs: %s", size, ", ".join(left))
        places = [("+".join(group), group) for group in groups]
    host, threading = socket.gethostname(), _threads_beside_gpu(threads, len(places))
    return [
        Slot(
            f"{host}:{place}",
            {**slot_env(f"{host}:{place}", group, gpus_per_training), **threading},
            tuple(group),
            offered,
        )
        for place, group in places
    ]


def _threads_beside_gpu(threads: int | None, slots: int) -> dict[str, str]:
    """Threads for what a training on a GPU does on the CPU, such as loading data: its share of the cores."""
    if threads is not None:
        return thread_env(threads)
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    count = int(said) if said.isdigit() and int(said) else max(1, _cores() // slots)
    return {name: value for name, value in thread_env(count).items() if not name.startswith("TF_NUM_INTEROP")}


def _cores() -> int:
    """Cores that this process may use, as its container limits them."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no limit, "max", or no cgroup of version 2
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores
