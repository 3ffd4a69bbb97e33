"""One worker process per GPU slot: what this machine offers, and a supervisor that keeps the processes alive."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from typing import Any

from swarm.errors import InvalidInput

RESOURCE = "GPU"
_SEND_INTERVAL = 0.0002  # seconds
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_log = logging.getLogger("swarm.workers")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one training runs at a time.

    Attributes:
        name: ``host:gpu-uuid``, or ``host:slot-2`` where there is no GPU.
        env: Environment of the slot's worker process.
    """

    name: str
    env: dict[str, str] = field(default_factory=dict)


def gpus() -> list[str]:
    """Identifiers (UUIDs) of the GPUs that this process may use, in order; empty where there is none.

    ``CUDA_VISIBLE_DEVICES`` is honoured, as CUDA does.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    found = answer.stdout.split() if answer.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return [_named(part.strip(), found) for part in visible.split(",") if part.strip() not in ("", "-1")]


def make_slots(gpu_list: str | None = None, slots: int | None = None, threads: int | None = None) -> list[Slot]:
    """The slots of this machine.

    Args:
        gpu_list: ``all``, or GPU numbers such as ``0,1``; None takes all GPUs unless ``slots`` is given.
        slots: Number of slots without a GPU each; None makes one per GPU, or one where there is no GPU.
        threads: Threads of one training on a CPU; None is one, which keeps results equal whatever the slots.

    Raises:
        InvalidInput: A GPU that is not there, no GPU at all, or both a GPU list and a number of slots.
    """
    if slots is not None:
        if gpu_list is not None:
            raise InvalidInput("give --gpus or --slots, not both: a GPU is one slot")
        if slots < 1:
            raise InvalidInput(f"--slots must be at least 1, got {slots}")
    found = gpus() if slots is None else []
    if gpu_list is not None and not found:
        raise InvalidInput("no GPU was found (nvidia-smi lists none); without GPUs use --slots N")
    host = socket.gethostname()
    if found:
        wanted = found if gpu_list in (None, "all") else [_named(part.strip(), found) for part in gpu_list.split(",")]
        return [
            Slot(f"{host}:{gpu}", {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) for gpu in wanted
        ]
    env = {"CUDA_VISIBLE_DEVICES": "-1", **_thread_env(threads or 1)}
    return [Slot(f"{host}:slot-{number}", env) for number in range(slots or 1)]


def nanny_options(slot: Slot, host: str | None = None) -> dict[str, Any]:
    """Arguments of the :class:`distributed.Nanny` that keeps the slot's worker process."""
    return {
        "name": slot.name,
        "nthreads": 1,
        "resources": {RESOURCE: 1},
        "env": slot.env,
        "memory_limit": 0,  # Dask would kill the worker; a training's memory is its child's
        "dashboard": False,
        "dashboard_address": f"{host or ''}:0",
        "host": host,
        "preload": ["workers.slots"],
    }


def dask_setup(worker: Any) -> None:
    """What Dask runs in each worker process first.

    Ctrl-C in the terminal is for the master, which ends us in order. The end of a training is sent right behind its
    result, where Dask would wait for 2 ms.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(worker, "batched_stream"):
        worker.batched_stream.interval = _SEND_INTERVAL


async def serve(address: str, slots: list[Slot], *, host: str | None = None) -> None:
    """Keep one worker process per slot connected to the scheduler, until cancelled.

    Dask's workers exit when their scheduler goes away; here each slot dials again, with growing pauses.

    Args:
        address: The scheduler's address.
        slots: What to serve.
        host: Address to listen on; None is chosen by Dask.
    """
    await asyncio.gather(*(_keep(address, slot, host) for slot in slots))


async def _keep(address: str, slot: Slot, host: str | None) -> None:
    from distributed import Nanny

    pause = _FIRST_PAUSE
    while True:
        try:
            async with Nanny(address, **nanny_options(slot, host), death_timeout=None) as nanny:
                _log.info("slot %s serves %s", slot.name, address)
                pause = _FIRST_PAUSE
                await nanny.finished()
        except (OSError, TimeoutError, RuntimeError) as error:
            _log.warning("slot %s: %s", slot.name, str(error).splitlines()[0] if str(error) else type(error).__name__)
        _log.info("slot %s dials again in %.1f s", slot.name, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _named(part: str, found: list[str]) -> str:
    if part in found:
        return part
    if part.isdigit() and int(part) < len(found):
        return found[int(part)]
    raise InvalidInput(f"there is no GPU {part!r}; this machine has {', '.join(map(str, range(len(found)))) or 'none'}")


def _thread_env(threads: int) -> dict[str, str]:
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(threads))
