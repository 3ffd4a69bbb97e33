"""Who trains what on which slot, as the scheduler sees it."""

from __future__ import annotations

import time
from typing import Any

from distributed import Scheduler

from swarm.dashboard.board import GPU, Board, slot_names


def capacity(scheduler: Scheduler) -> dict[str, dict[str, float]]:
    """How many slots workers offer, and how many of them are busy, by class."""
    found: dict[str, dict[str, float]] = {}
    for worker in scheduler.workers.values():
        for name, amount in worker.resources.items():
            slots = found.setdefault(name, {"offered": 0, "busy": 0})
            slots["offered"] += amount
            slots["busy"] += worker.used_resources.get(name, 0)
    return dict(sorted(found.items()))


def occupancy(scheduler: Scheduler, board: Board) -> list[dict[str, Any]]:
    """The slots in the order of their names, each a dictionary.

    ``slot``, ``host``, ``resource``: its name, its machine, its class; ``key``: of the evaluation that it trains, or
    None; ``job`` and ``trial``, as far as they are known; ``seconds`` since it began; ``report``: the latest of it.
    ``waits``: why it waits for its GPU and trains nothing, or None.
    """
    board.name_bars()
    running = {bar.slot: bar for bar in board.running}
    slots = []
    workers = {name: worker for worker in scheduler.workers.values() for name in slot_names(worker)}
    for name, worker in sorted(workers.items()):
        offered = next(each for each in worker.resources if each.startswith(GPU))
        slot = {"slot": name, "host": worker.host, "resource": offered, "waits": board.waits.get(name)}
        bar = running.get(name)
        if bar is None:
            slots.append({**slot, "key": None})
            continue
        curve = board.curves.get(bar.key)
        report = dict(curve.points[-1][1]) if curve is not None and curve.points else {}
        seconds = max(0.0, time.time() - bar.start)
        slots.append({**slot, "key": bar.key, "job": bar.job, "trial": bar.trial, "seconds": seconds, "report": report})
    return slots
