"""The slots of a worker's process, of which each training that runs in it leases one.

A machine has one Dask worker with as many threads, and units of a resource, as it has slots. Dask sees to it that no
more trainings come than there are slots; which of them a training has is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from swarm.trial import resource
from swarm.workers.node import gpu, memory

SLOTS = "SWARM_SLOTS"
"""Environment variable of a worker's process: its slots, JSON. Without it the worker is one slot, or its user's."""
TOLD = "swarm_slots"  # what the scheduler knows the names of a worker's slots by
TOPIC = "swarm-slots"  # Dask event topic on which workers of several slots say which one a task has
WAITS = "swarm-waits"  # Dask event topic on which workers say which slot waits for its GPU, and why

_LOOK_SECONDS = 60.0  # between two lines about a slot that is set aside
_log = logging.getLogger("swarm.workers")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one training runs at a time.

    Attributes:
        name: ``host:gpu-uuid`` (``…+gpu-uuid`` with several GPUs, ``…/1`` on a part of one), or ``host:slot-2`` where
            there is no GPU.
        env: Environment of the slot's trainings.
        gpus: Identifiers of its GPUs.
        resource: Dask resource of which it is one unit.
    """

    name: str
    env: dict[str, str] = field(default_factory=dict, hash=False)
    gpus: tuple[str, ...] = ()
    resource: str = resource()


THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that say how many threads a training's libraries start."""


def thread_env(threads: int) -> dict[str, str]:
    """They all, for a training with so many."""
    return dict.fromkeys(THREADS, str(threads))


def worker_name(slots: Sequence[Slot]) -> str:
    """Name of the Dask worker that has these slots."""
    more = f"-and-{len(slots) - 1}-more" if len(slots) > 1 else ""
    return f"{slots[0].name}{more}"


def worker_env(slots: Sequence[Slot]) -> dict[str, str]:
    """Environment of the worker's process, and of what its trainings are forked from: what the slots have in common.

    It may see the GPUs of them all, and touches none.
    """
    env = {name: value for name, value in slots[0].env.items() if all(slot.env.get(name) == value for slot in slots)}
    for pin in gpu.PINS:
        seen = dict.fromkeys(each for slot in slots for each in slot.env.get(pin, "").split(",") if each)
        if seen:
            env[pin] = ",".join(seen)
    return {**env, SLOTS: json.dumps([asdict(slot) for slot in slots])}


class Slots:
    """The slots of this process.

    Args:
        slots: What there is; none where this process is one slot by itself, or its user has several trainings in it.
    """

    def __init__(self, slots: Sequence[Slot] = ()) -> None:
        self.all = tuple(slots)
        self._free = list(slots)
        self._aside: set[Slot] = set()  # what nobody is to have until its GPU is free
        self._changed = threading.Condition()

    @property
    def several(self) -> bool:
        """Whether trainings run side by side in this process."""
        return len(self.all) > 1

    @contextmanager
    def leased(self, rank: Callable[[Slot], int]) -> Iterator[Slot]:
        """One that is free; of several that of the lowest rank."""
        if not self.all:
            yield Slot(_own_name())
            return
        with self._changed:
            while not self._free:  # a training that was cancelled has it for a moment
                self._changed.wait()
            slot = min(self._free, key=rank)
            self._free.remove(slot)
        try:
            yield slot
        finally:
            self._give_back(slot)

    def set_aside(self, slot: Slot, asked: int | None = None) -> None:
        """Offer the slot, which the caller has, no more until its GPU has so many bytes free."""
        worker = worker_here()
        if worker is None:
            return
        with self._changed:
            self._aside.add(slot)
        self._offer(worker, slot)
        threading.Thread(target=self._wait_for_gpu, args=(worker, slot, asked), name="swarm-gpu", daemon=True).start()

    def _wait_for_gpu(self, worker: Any, slot: Slot, asked: int | None) -> None:
        def say(reason: str | None) -> None:
            worker.log_event(WAITS, {"slot": slot.name, "reason": reason})

        _log.warning("slot %s is set aside until its GPU is free", slot.name)
        with contextlib.suppress(memory.NeverFreeError):  # the GPU is another one now, and whoever has it is told
            while memory.obstacle({**os.environ, **slot.env}, _LOOK_SECONDS, asked, say) is not None:
                pass
        with self._changed:
            self._aside.discard(slot)
        self._give_back(slot)
        self._offer(worker, slot)
        say(None)
        _log.info("slot %s is offered again", slot.name)

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            if slot not in self._free and slot not in self._aside:
                self._free.append(slot)
                self._changed.notify()

    def _offer(self, worker: Any, slot: Slot) -> None:
        """Have the scheduler know how many slots of this one's class there are now."""
        count = sum(each.resource == slot.resource and each not in self._aside for each in self.all)
        offer = worker.set_resources(**{slot.resource: count})
        asyncio.run_coroutine_threadsafe(offer, worker.loop.asyncio_loop).result()


def tell_names(worker: Any) -> None:
    """Have a worker that is about to register tell the scheduler the names of its slots."""
    names = [slot.name for slot in own.all]
    worker.startup_information[TOLD] = lambda _: names


def tell_lease(slot: Slot) -> None:
    """Tell the scheduler, for its pages, which slot the task of this thread has."""
    worker = worker_here()
    if own.several and worker is not None:
        worker.log_event(TOPIC, {"task": worker.get_current_task(), "slot": slot.name})


def tell_wait(slot: Slot, reason: str | None) -> None:
    """Tell the scheduler, for its pages and for who waits, why a slot waits for its GPU; None when it does no more."""
    worker = worker_here()
    if worker is not None:
        worker.log_event(WAITS, {"slot": slot.name, "reason": reason})


def worker_here() -> Any:
    """The Dask worker that this thread belongs to, or None."""
    if "distributed" not in sys.modules:  # importing it takes a second, and who has not is no Dask worker
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def _own_name() -> str:
    """Name of the Dask worker that this thread belongs to, else of the machine."""
    worker = worker_here()
    return socket.gethostname() if worker is None else str(worker.name)


def _given() -> list[Slot]:
    return [Slot(**{**slot, "gpus": tuple(slot["gpus"])}) for slot in json.loads(os.environ.get(SLOTS, "[]"))]


own = Slots(_given())
"""Those of this process."""
