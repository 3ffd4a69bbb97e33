"""What the cards of a worker's slots have of memory and load, told to the scheduler's pages with each heartbeat.

A thread asks the driver, since a driver may hang, and the heartbeat tells what it said last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from swarm.workers.cards import amd, driver

CARDS = "swarm_cards"
"""What the scheduler knows the cards by, among the metrics of a worker."""
_SECONDS = 5.0  # between two looks


def look(uuids: Sequence[str]) -> list[dict[str, Any]]:
    """The cards with these identifiers.

    Returns:
        Of each ``uuid``, ``index`` and ``name``, bytes ``used`` of ``total``, and ``load`` in percent; None is what the
        driver does not tell.
    """
    try:
        seen = driver.look(uuids)
    except driver.NoAnswerError:
        return []
    return [_told(device) for device in (() if seen is None else seen.devices) if device.uuid in uuids]


def _told(device: driver.Device) -> dict[str, Any]:
    known = device.total > 0 and device.error is None
    return {
        "uuid": device.uuid,
        "index": device.index,
        "name": device.name,
        "total": device.total if known else None,
        "used": device.total - device.free if known else None,
        "load": device.load,
    }


def tell_cards(worker: Any, uuids: Iterable[str]) -> None:
    """Have a worker that is about to register tell the scheduler of its cards, if NVIDIA's driver speaks of some.

    Args:
        worker: Dask's worker.
        uuids: Identifiers of the cards that its slots use.
    """
    used = dict.fromkeys(each for each in uuids if not each.startswith(amd.PREFIX))
    if not used:
        return
    latest: list[list[dict[str, Any]]] = [[]]

    def watch() -> None:
        while True:  # a daemon: it ends with the worker's process
            latest[0] = look(list(used))
            time.sleep(_SECONDS)

    worker.metrics[CARDS] = lambda _: latest[0]
    threading.Thread(target=watch, name="swarm-cards", daemon=True).start()
