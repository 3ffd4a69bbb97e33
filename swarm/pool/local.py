"""Cheap functions called in this process, one call after another: no Dask, no other process, nothing to wait for.

Why one at a time? Python runs one thread at a time anyway, and functions that draw from the global random generators,
or keep something between their calls, find it as they have left it. Those that take longer are better off in processes:
:class:`GrowingPool` goes on there.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from swarm.pool.base import OnReport
from swarm.trial import Evaluation, Result

if TYPE_CHECKING:
    from swarm.pool.dask_pool import DaskPool

Call = Callable[[Evaluation, OnReport], Result]
_LONG_SECONDS = 0.02  # what a call in another process costs is small beside this
_LOOKED_AT = 5  # calls


class LocalPool:
    """Slots of this process, whose evaluations are called one after another in a thread.

    Args:
        slots: Their names.
        call: Evaluates, and reports on the way; it raises nothing.
    """

    def __init__(self, slots: Sequence[str], call: Call) -> None:
        self._call = call
        self._idle = list(reversed(slots))
        self._slots = len(slots)
        self._busy: dict[str, str] = {}  # slots by key of the evaluation
        self._waiting: queue.SimpleQueue[Evaluation | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._ended: list[Result] = []
        self._woken = asyncio.Event()
        self._on_report: OnReport = lambda *_: None
        self._lengths: list[float] = []  # of the latest calls, in seconds
        self._since: float | None = None  # when the call began that goes on

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self._slots

    @property
    def busy(self) -> int:
        """Evaluations that have not ended."""
        return len(self._busy)

    def free(self) -> int:
        """Number of slots that nothing runs on."""
        return len(self._idle)

    def spare(self) -> int:
        """None: they follow each other as it is."""
        return 0

    def running(self, keys: Collection[str]) -> set[str]:
        """Those of these evaluations that have not ended."""
        return self._busy.keys() & set(keys)

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Call these as their turn comes."""
        for evaluation in evaluations:
            if evaluation.key not in self._busy:
                self._busy[evaluation.key] = self._idle.pop()
                self._waiting.put(evaluation)
        if self._thread is None:
            # A daemon, since a call that hangs can neither be stopped nor may it keep the process from its end.
            self._thread = threading.Thread(target=self._work, name="swarm-calls", daemon=True)
            self._thread.start()

    async def next(self) -> list[Result]:
        """Wait until something ended; what ended."""
        await self._woken.wait()
        return self.take_ended()

    def take_ended(self) -> list[Result]:
        """What has ended and was not taken before."""
        self._woken.clear()
        ended, self._ended = self._ended, []
        return ended

    def open(self, on_report: OnReport) -> None:
        """Call ``on_report(key, metrics)`` with what evaluations report on the way."""
        self._on_report = on_report

    def close(self) -> None:
        """The search takes no more slots."""

    def want(self, trainings: int) -> None:
        """These slots are as many as they are."""

    def prune(self, key: str, metric: str) -> None:
        """Nothing, since a call cannot be stopped; jobs that prune have processes."""

    def wake(self) -> None:
        """Something has changed for the search."""
        self._woken.set()

    def hand_over(self, most: int) -> list[Evaluation]:
        """Remove at most so many evaluations that have not begun, the next one first, and free their slots."""
        found: list[Evaluation] = []
        with contextlib.suppress(queue.Empty):
            while len(found) < most:
                evaluation = self._waiting.get_nowait()
                assert evaluation is not None, "the pool has ended"
                self._idle.append(self._busy.pop(evaluation.key))
                found.append(evaluation)
        return found

    def end(self) -> None:
        """No call begins any more; one that goes on is left alone."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put(None)

    def is_slow(self) -> bool:
        """Whether its functions take so long that several processes would be faster."""
        since = self._since
        lasts = since is not None and time.monotonic() - since > _LOOKED_AT * _LONG_SECONDS
        known = len(self._lengths) == _LOOKED_AT and median(self._lengths) > _LONG_SECONDS
        return self._slots > 1 and (known or (lasts and (not self._lengths or self._lengths[-1] > _LONG_SECONDS)))

    def _work(self) -> None:
        while (evaluation := self._waiting.get()) is not None:
            begun = self._since = time.monotonic()
            result = self._call(evaluation, self._report)
            self._since = None
            self._lengths = [*self._lengths[1 - _LOOKED_AT :], time.monotonic() - begun]
            self._tell(self._take, result)

    def _report(self, key: str, metrics: Mapping[str, float]) -> None:
        self._tell(lambda: self._on_report(key, metrics))

    def _tell(self, work: Callable[..., Any], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(work, *args)
        except RuntimeError:  # the loop is closed: nobody waits for it any more
            self._waiting.put(None)

    def _take(self, result: Result) -> None:
        slot = self._busy.pop(result.key)
        self._idle.append(slot)
        self._ended.append(replace(result, slot=slot))
        self._woken.set()


class GrowingPool:
    """Slots of this process at first, and those of another pool later, as soon as there is one.

    Args:
        first: Runs what is submitted until then. It finishes the call that it has begun; the other pool takes those
            that wait behind it.
    """

    def __init__(self, first: LocalPool) -> None:
        self._first = first
        self._later: DaskPool | None = None
        self._on_report: OnReport | None = None

    def grow(self, later: DaskPool) -> None:
        """Run there what is submitted from now on, and what waits behind the call that has begun here."""
        if self._on_report is not None:
            later.open(self._on_report)
        self._later = later
        later.submit(self._first.hand_over(later.free() - 1))  # one slot counts as that of the call here
        self._first.wake()

    @property
    def slots(self) -> int:
        """Number of slots at this moment, busy or free."""
        return (self._later or self._first).slots

    def free(self) -> int:
        """Number of slots that nothing runs on."""
        return self._first.free() if self._later is None else max(0, self._later.free() - self._first.busy)

    def spare(self) -> int:
        """How many more evaluations may wait beside those that run, where these are so short that it pays."""
        return 0 if self._later is None or self._first.busy else self._later.spare()

    def running(self, keys: Collection[str]) -> set[str]:
        """Those of these evaluations that run already."""
        later = set() if self._later is None else self._later.running(keys)
        return later | self._first.running(keys)

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._first.time()

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Run these evaluations."""
        (self._later or self._first).submit(evaluations)

    async def next(self) -> list[Result]:
        """Wait until something ended or the slots changed; what ended, perhaps nothing."""
        if self._later is None:
            return await self._first.next()
        if not self._first.busy:
            if ended := self._first.take_ended():
                self._later.wake()  # the slots that it left to these are its own now
            return ended or await self._later.next()
        here, there = (asyncio.ensure_future(each.next()) for each in (self._first, self._later))
        try:
            await asyncio.wait((here, there), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (here, there):
                task.cancel()  # which loses nothing: results are taken after the last wait
        if here.done():
            self._later.wake()  # likewise
        return [result for task in (here, there) if task.done() for result in task.result()]

    def open(self, on_report: OnReport) -> None:
        """The search begins to take slots."""
        self._on_report = on_report
        self._first.open(on_report)

    def close(self) -> None:
        """The search takes no more slots."""
        if self._later is not None:
            self._later.close()

    def want(self, trainings: int) -> None:
        """Say how many more trainings could run."""
        if self._later is not None:
            self._later.want(trainings)

    def prune(self, key: str, metric: str) -> None:
        """Jobs that prune have processes from the start."""
