"""How a worker ends in order: a worker that is told to end takes nothing new, and gives its trainings a while to save.

The supervisor hears of it, by a signal or since its lifetime is over, and tells the worker's process, which holds the
trainings (:mod:`swarm.workers.node.ending`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swarm.workers.node import ending
from swarm.workers.node.slots import WAITS, own

if TYPE_CHECKING:
    from distributed import Nanny

_GRACE_SECONDS = 60.0  # where nobody says how many
_MARGIN_SECONDS = 15.0  # beyond the grace: for trainings to be ended, and for a machine that is busy
_FORGET_SECONDS = 5.0  # for the master to have the last results
_LOOK_SECONDS = 0.05
_log = logging.getLogger("swarm.workers")


class Leaving:
    """When a worker ends, and what its trainings have of that.

    Args:
        grace: Seconds that they have to save and end.
        lifetime: Seconds after which the worker ends by itself; None: it does not.
        stagger: Seconds by which that is changed at random, up or down, lest all workers of a cluster end at once.
        say: Tells people something.
        begun: Called when the worker begins to end.
    """

    def __init__(
        self,
        grace: float = _GRACE_SECONDS,
        lifetime: float | None = None,
        stagger: float = 0.0,
        say: Callable[[str], None] = lambda _: None,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self._grace = grace
        self._lifetime = None if lifetime is None else max(0.0, lifetime + random.uniform(-stagger, stagger))
        self._say = say
        self._begun = begun

    async def told(self) -> str:
        """Wait until the worker is to end; why, in words.

        Another SIGTERM then ends it at once, as it would any program. SIGUSR1 is what Slurm sends ahead of a job's end;
        another one says nothing new.
        """
        loop = asyncio.get_running_loop()
        reason: asyncio.Future[str] = loop.create_future()

        def hear(name: str) -> None:
            loop.remove_signal_handler(signal.SIGTERM)
            if not reason.done():
                reason.set_result(f"told to end by {name}")

        for number in (signal.SIGTERM, signal.SIGUSR1):
            loop.add_signal_handler(number, hear, number.name)
        try:
            async with asyncio.timeout(self._lifetime):
                return await reason
        except TimeoutError:
            loop.remove_signal_handler(signal.SIGTERM)
            return f"its lifetime of {self._lifetime:.4g} s is over"

    async def drain(self, nanny: Nanny | None, reason: str) -> None:
        """Have the trainings of a worker end, and wait for that.

        Args:
            nanny: It keeps the worker's process; None if there is none now.
            reason: Why it ends.
        """
        self._begun()
        if nanny is None or nanny.worker_address is None:
            self._say(f"worker ends, {reason}: no training is here")
            return
        nanny.close_gracefully(reason=reason)  # if its process ends meanwhile, it is not started again
        try:
            async with asyncio.timeout(self._grace + _MARGIN_SECONDS):
                worker = nanny.rpc(nanny.worker_address)
                count = await worker.swarm_end(seconds=self._grace)
                trainings = {0: "no training is here", 1: "a training has"}.get(count, f"{count} trainings have")
                more = f" {self._grace:g} s to save and end; SIGTERM once more ends at once" if count else ""
                self._say(f"worker ends, {reason}: {trainings}{more}")
                for line in await worker.swarm_ended():
                    self._say(line)
        except (OSError, TimeoutError, RuntimeError) as error:  # it hangs, or is gone
            self._say(f"the worker's process does not answer: its trainings start over elsewhere ({error!r})")


def attach(worker: Any) -> None:
    """Have a worker of ours take part: it listens to its supervisor alone when it is told to end.

    One without a supervisor, ``dask worker`` with our preload, ends in the same way before its ``--lifetime`` is over.
    Its process leaves the group of the supervisor's, since a signal may be sent to the whole of that.
    """

    async def begin(seconds: float) -> int:
        worker.batched_send({"op": "worker-status-change", "status": "paused", "stimulus_id": "swarm-worker-ends"})
        _explain(worker, f"its worker ends within {seconds:g} s")
        return await asyncio.to_thread(ending.own.begin, seconds)

    async def ended() -> list[str]:
        lines = await asyncio.to_thread(ending.own.wait)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORGET_SECONDS):
                # Results that come in a moment, or that the master has not released: Dask would compute them again.
                while worker.state.executing or worker.data:
                    await asyncio.sleep(_LOOK_SECONDS)
        _explain(worker, None)
        return lines

    async def leave() -> None:
        await begin(grace)
        for line in await ended():
            _log.info("worker %s: %s", worker.name, line)
        await worker.close_gracefully(reason="worker-lifetime-reached")

    worker.handlers |= {"swarm_end": begin, "swarm_ended": ended}
    if worker.lifetime:  # of Dask's own worker, which ends then whatever it does: its trainings save before
        grace = min(_GRACE_SECONDS, worker.lifetime / 2)
        worker.io_loop.call_later(max(0.0, worker.lifetime - grace - min(_MARGIN_SECONDS, grace / 2)), leave)
    if own.all and worker.nanny is not None:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)


def _explain(worker: Any, reason: str | None) -> None:
    """Tell the scheduler, for its pages and for the master, why there are no slots here."""
    for slot in own.all:
        worker.log_event(WAITS, {"slot": slot.name, "reason": reason})
