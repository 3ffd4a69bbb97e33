"""Whether a slot's GPUs have the memory that its next training needs; what has it otherwise, and what to do."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from swarm.workers.cards import driver
from swarm.workers.cards.driver import Device, Holder, NoAnswerError
from swarm.workers.node.gpu import GPUS_PER_TRAINING, OURS, PATIENCE, SLOT, VISIBLE

Say = Callable[[str | None], None]

_UNNAMED = 0.1  # of a GPU's memory may be held by nobody that the driver names: by itself, or by a screen elsewhere
_SAID = 1.0  # seconds; the driver has freed a dead process' memory before
_SAY_AGAIN = 30.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_GIB = 1 << 30
_log = logging.getLogger("swarm.workers")


class NeverFreeError(Exception):
    """A training asks for more memory than its GPU can ever give; the text says what to do."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a slot's next training asks of each of its GPUs.

    Attributes:
        slot: Name of the slot.
        share: Of a GPU that the slot has.
        memory: Bytes that the job asks for; None takes the slot's share of what is there for trainings.
    """

    slot: str
    share: float
    memory: int | None

    def bytes_of(self, device: Device) -> int:
        """How much that is on this GPU."""
        return self.memory or int(OURS * self.share * (device.total - _persistent(device)))


_promised: dict[str, dict[str, _Asked]] = {}  # what trains in this process, by GPU and slot
_lock = threading.Lock()


@contextmanager
def granted(
    env: Mapping[str, str], memory: int | None = None, patience: float | None = None, say: Say = lambda _: None
) -> Iterator[str | None]:
    """Waits until a slot's GPUs have the memory for its next training, and keeps that from the others meanwhile.

    Args:
        env: Environment of the slot's trainings, as :func:`swarm.workers.node.gpu.slot_env` made it.
        memory: Bytes that the job asks for on each GPU; None is nine tenths of what others leave for good.
        patience: Seconds to wait; None takes them from the environment.
        say: Told why the slot waits, as soon as it does for longer than a moment, and None at the end of that.

    Yields:
        None once it is there, or at once where the slot has no GPU; else, in one line, what holds it and what to do.

    Raises:
        NeverFreeError: The GPU is too small.
    """
    try:
        yield _waited(env, memory, patience, say)
    finally:
        with _lock:
            for promises in _promised.values():
                promises.pop(env.get(SLOT, ""), None)


def obstacle(
    env: Mapping[str, str] = os.environ,
    patience: float | None = None,
    memory: int | None = None,
    say: Say = lambda _: None,
) -> str | None:
    """Why a slot's GPUs cannot be used after all this waiting, as :func:`granted` says; None if they can."""
    with granted(env, memory, patience, say) as reason:
        return reason


def _waited(env: Mapping[str, str], memory: int | None, patience: float | None, say: Say) -> str | None:
    if SLOT not in env or GPUS_PER_TRAINING not in env:
        return None
    asked = _Asked(env[SLOT], min(1.0, float(env[GPUS_PER_TRAINING])), memory)
    limit = float(env.get(PATIENCE, "60")) if patience is None else patience
    start, pause, said, again = time.monotonic(), _FIRST_PAUSE, None, 0.0
    while (reason := _taken(env[VISIBLE].split(","), asked)) is not None:
        waited = time.monotonic() - start
        if said != reason and limit > 0 and waited >= max(again, min(_SAID, limit)):
            _log.warning("slot %s waits for its GPU: %s", asked.slot, reason)
            say(reason)
            said, again = reason, waited + _SAY_AGAIN  # amounts may change all the time
        if waited >= limit:
            return reason
        time.sleep(min(pause, limit - waited))
        pause = min(2 * pause, _LONGEST_PAUSE)
    if said is not None:
        _log.info("slot %s has its GPU", asked.slot)
        say(None)
    return None


def _taken(mine: list[str], asked: _Asked) -> str | None:
    """Why the slot cannot have its GPUs now; None once it has them."""
    try:
        seen = driver.look(mine)
    except NoAnswerError as error:
        return str(error)
    found = {device.uuid: device for device in (() if seen is None else seen.devices)}
    with _lock:
        for uuid in mine:
            device = found.get(uuid)
            if device is None:
                return f"NVIDIA's driver no longer lists {uuid}; the kernel's log (dmesg) says why"
            if (reason := _reason(device, asked)) is not None:
                return reason
        for uuid in mine:
            _promised.setdefault(uuid, {})[asked.slot] = asked
    return None


def _reason(device: Device, asked: _Asked) -> str | None:
    if device.error is not None:
        return f"{device.uuid}: {device.error}; the kernel's log (dmesg) says why"
    by_slot = [(process, process.setting(SLOT)) for process in device.processes]
    left = [process for process, slot in by_slot if slot == asked.slot]
    if left:
        return f"what an earlier training left is still on {device.uuid}: {_named(left)}; {_remedy(left)}"
    if not device.total:
        return None
    needed = asked.bytes_of(device)
    if needed > device.total - device.reserved:
        raise NeverFreeError(
            f"the job asks for {_size(needed)} of a GPU (gpu_memory), and {device.uuid} ({device.name}) has "
            f"{_size(device.total)}: ask for less, or offer larger GPUs alone (swarm worker --gpus)"
        )
    neighbours = {slot: each for slot, each in _promised.get(device.uuid, {}).items() if slot != asked.slot}
    free = _free_for(device, asked, neighbours, by_slot)
    if free >= needed:
        return None
    ours = {slot for _, slot in by_slot if slot is not None and _shares(slot, asked.slot)}
    others = [process for process, slot in by_slot if slot not in ours]
    return _sentence(device, asked, needed, free, others, bool(neighbours))


def _free_for(
    device: Device, asked: _Asked, neighbours: Mapping[str, _Asked], by_slot: list[tuple[Holder, str | None]]
) -> int:
    """Bytes that the slot's next training may count on.

    On a shared GPU what the neighbours have been promised is theirs, whether they have taken it yet or not. Beyond
    their promise they may take what is there, and the next is let in all the same, unless its job asks for so much.
    """
    if asked.share == 1:
        return device.free
    promised = sum(each.bytes_of(device) for each in neighbours.values())
    strangers = sum(
        process.memory or 0
        for process, slot in by_slot
        if not process.graphics and process.known and not (slot is not None and _shares(slot, asked.slot))
    )
    room = device.total - _persistent(device) - strangers - promised
    if asked.memory is None:
        return room
    taken = {name: sum(process.memory or 0 for process, slot in by_slot if slot == name) for name in neighbours}
    coming = sum(max(0, each.bytes_of(device) - taken[name]) for name, each in neighbours.items())
    return min(room, device.free - coming)


def _shares(one: str, other: str) -> bool:
    """Whether two slots are parts of one GPU."""
    return one.rpartition("/")[0] == other.rpartition("/")[0] != ""


def _persistent(device: Device) -> int:
    """Bytes that others keep for good: the driver, and what draws the screen."""
    held = sum(process.memory or 0 for process in device.processes)
    drawn = sum(process.memory or 0 for process in device.processes if process.graphics)
    unnamed = max(0, device.total - device.free - device.reserved - held)
    return device.reserved + drawn + min(unnamed, int(_UNNAMED * device.total))


def _sentence(device: Device, asked: _Asked, needed: int, free: int, others: list[Holder], shared: bool) -> str:
    source = "that the job asks for (gpu_memory)" if asked.memory else "that a training may count on"
    beside = ", beside what its neighbours were promised" if shared else ""
    has = f"{device.uuid} has {_size(max(0, free)).removesuffix(' GiB')} of {_size(device.total)} free{beside}"
    if others:
        why = f"it is in use by {_named(others)}; {_remedy(others)}"
    elif shared:
        why = "it is in use by its neighbours; wait for them"
    else:
        why = "it is in use by processes that the driver does not name here; look for them on the host"
    return (
        f"{has}, not the {_size(needed)} {source}; {why}, ask for less (gpu_memory in the job), or leave the GPU out "
        "(--gpus)"
    )


def _named(holders: list[Holder]) -> str:
    amounts = ["" if each.memory is None else f", {_size(each.memory)}" for each in holders]
    return ", ".join(
        f"process {each.pid} ({each.program}{amount})" for each, amount in zip(holders, amounts, strict=True)
    )


def _remedy(holders: list[Holder]) -> str:
    pids = [str(each.pid) for each in holders if not each.graphics] or [str(each.pid) for each in holders]
    return f"end it (kill {' '.join(pids)})"


def _size(amount: int) -> str:
    return f"{amount / _GIB:.1f} GiB"
