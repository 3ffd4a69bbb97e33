"""The same search on a virtual clock: simulated slots with given durations, failures, losses and joins.

A day of many GPUs takes seconds, and no test of the loop has to sleep.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from swarm.trial import Evaluation, Result, Status

Train = Callable[[Evaluation], float | Mapping[str, float] | Status | None]


class VirtualPool:
    """Slots whose trainings take no real time.

    Args:
        slots: Number of slots at the beginning.
        train: Fitness of an evaluation, or a mapping with ``fitness`` and other metrics; None where its configuration
            is infeasible; ``Status.FAILED`` for a training that fails though it is not, ``Status.CRASHED`` or
            ``Status.LOST`` for one that has to run again.
        seconds: Virtual seconds that an evaluation takes.
        changes: ``(time, number)`` pairs: at that virtual time so many slots join, or leave if negative. Slots that
            leave take the evaluations with them that were submitted last.

    Example:
        >>> from swarm.trial import Evaluation
        >>> pool = VirtualPool(2, train=lambda e: e.params["x"] ** 2, seconds=lambda e: 60.0)
        >>> pool.submit([Evaluation.of("square", {"x": 3.0})])
        >>> pool.free()
        1
    """

    def __init__(
        self,
        slots: int,
        train: Train,
        seconds: Callable[[Evaluation], float] = lambda _: 1.0,
        changes: Iterable[tuple[float, int]] = (),
    ) -> None:
        self.now = 0.0
        self.submitted = 0
        self.busy_seconds = 0.0
        self._slots = slots
        self._train = train
        self._seconds = seconds
        self._changes = sorted(changes)
        self._order = itertools.count()
        self._idle = list(range(slots))
        self._names = itertools.count(slots)
        self._running: list[tuple[float, int, int, float, Evaluation]] = []  # end, order, slot, start, evaluation

    @property
    def slots(self) -> int:
        """Number of slots now."""
        return self._slots

    def free(self) -> int:
        """Number of slots that nothing runs on."""
        return len(self._idle)

    def spare(self) -> int:
        """None: nothing is lost between two of them."""
        return 0

    def time(self) -> float:
        """The virtual time in seconds; it begins at 0."""
        return self.now

    def running(self, keys: Collection[str]) -> set[str]:
        """None: what was simulated before is gone."""
        return set()

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Start evaluations now; they end when their virtual seconds are over."""
        if len(evaluations) > self.free():
            raise ValueError(f"{len(evaluations)} evaluations for {self.free()} free slots")
        for evaluation in evaluations:
            self.submitted += 1
            slot = heapq.heappop(self._idle)
            end = self.now + self._seconds(evaluation)
            heapq.heappush(self._running, (end, next(self._order), slot, self.now, evaluation))

    def open(self, on_report: Callable[[str, Mapping[str, float]], None]) -> None:
        """Simulated trainings report nothing, and nobody else uses these slots."""

    def close(self) -> None:
        """Nobody else uses these slots."""

    def want(self, trainings: int) -> None:
        """These slots are as many as they are."""

    def prune(self, key: str, metric: str) -> None:
        """Nobody asks for it, since nothing is reported."""

    async def next(self) -> list[Result]:
        """Advance the clock to the next end or change; what ended then.

        Raises:
            RuntimeError: Nothing runs and nothing will change: the caller would wait for ever.
        """
        change = self._changes[0][0] if self._changes else float("inf")
        if self._running and self._running[0][0] <= change:
            end, _, slot, start, evaluation = heapq.heappop(self._running)
            self.now = end
            heapq.heappush(self._idle, slot)
            self.busy_seconds += end - start
            return [self._result(evaluation, slot, start)]
        if not self._changes:
            raise RuntimeError("nothing runs on the virtual slots, so nothing will ever end")
        when, number = self._changes.pop(0)
        self.now = max(self.now, when)
        return self._leave(-number) if number < 0 else self._join(number)

    def _result(self, evaluation: Evaluation, slot: int, start: float) -> Result:
        got = self._train(evaluation)
        times = {"start": start, "end": self.now, "seconds": self.now - start, "slot": f"virtual-{slot}"}
        if isinstance(got, Status):
            died = got is Status.CRASHED
            return Result(key=evaluation.key, status=got, error=f"simulated: {got.value}", blamed=died, **times)  # type: ignore[arg-type]
        if got is None:
            error = "simulated failure"
            return Result(key=evaluation.key, status=Status.FAILED, error=error, blamed=True, **times)  # type: ignore[arg-type]
        metrics = dict(got) if isinstance(got, Mapping) else {"fitness": got}
        fitness = metrics.pop("fitness")
        return Result(key=evaluation.key, status=Status.OK, fitness=fitness, metrics=metrics, **times)  # type: ignore[arg-type]

    def _join(self, number: int) -> list[Result]:
        for _ in range(number):
            heapq.heappush(self._idle, next(self._names))
        self._slots += number
        return []

    def _leave(self, number: int) -> list[Result]:
        lost = []
        number = min(number, self._slots)
        self._slots -= number
        for _ in range(number):
            if self._idle:
                self._idle.pop()
                continue
            victim = max(self._running, key=lambda entry: entry[1])
            self._running.remove(victim)
            heapq.heapify(self._running)
            lost.append(Result(key=victim[4].key, status=Status.LOST, error="its virtual slot left"))
        return lost
