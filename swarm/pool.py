"""Evaluations as Dask futures, each pinned to one GPU slot.

The master queues, never Dask: at most one evaluation per slot is in flight, so that a dying worker takes no other
evaluation along and the next one can always be chosen late. The master retries, never Dask: a lost worker is a result
here, and the search decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distributed import Client, Future, KilledWorker, wait

from swarm.errors import NoSlots
from swarm.trial import Evaluation, Result, Status

RESOURCE = "GPU"
_SEND_INTERVAL = 0.001
_RELEASE_SECONDS = 0.02
_log = logging.getLogger("swarm.pool")


class DaskPool:
    """The GPU slots of a Dask cluster.

    Args:
        client: An asynchronous client.
        task: What a worker runs: ``task(problem, evaluation, results, topic, checkpoints=…) -> Result``; it announces
            the result on the Dask event topic, too.
        problem: The pickled problem.
        results: Folder, seen by every worker, where finished evaluations are committed; None commits nothing.
        checkpoints: Where trainings that others may continue keep their checkpoints, a URL or folder that every worker
            sees; None keeps none.
        stop: What a worker runs to end trainings by key: ``stop(keys)``.
        prune: What a worker runs to end a hopeless training: ``prune(key, metric)``.
    """

    def __init__(
        self,
        client: Client,
        task: Callable[..., Result],
        problem: bytes,
        *,
        results: str | None = None,
        checkpoints: str | None = None,
        stop: Callable[[list[str]], None] | None = None,
        prune: Callable[[str, str], None] | None = None,
    ) -> None:
        self._client = client
        self._task = task
        self._problem = problem
        self._results = results
        self._checkpoints = checkpoints
        self._stop = stop
        self._prune = prune
        self._on_report: Callable[[str, Mapping[str, float]], None] = lambda *_: None
        self._places: dict[str, str] = {}  # worker address by evaluation key, as the reports say it
        self._slots: dict[str, int] = {}  # by worker address
        self._futures: dict[str, Future] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._done: list[str] = []
        self._announced: dict[str, Result] = {}
        self._topic = f"swarm-results-{client.id}"
        self._wake = asyncio.Event()
        self._stale = asyncio.Event()

    async def __aenter__(self) -> DaskPool:
        # Dask's client holds messages back for 10 ms, longer than all the rest of a round trip takes together.
        self._client.scheduler_comm.interval = _SEND_INTERVAL
        await self._count_slots()
        self._client.subscribe_topic("all", self._on_event)
        self._client.subscribe_topic(self._topic, self._on_announcement)
        self._watch(self._keep_counting())
        return self

    async def __aexit__(self, *_: object) -> None:
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        # A client that is closing may have dropped the topic by itself.
        for topic in ("all", self._topic):
            with contextlib.suppress(ValueError, KeyError):
                self._client.unsubscribe_topic(topic)
        await self.cancel()

    # --- the protocol of a pool

    @property
    def slots(self) -> int:
        """Number of slots now, over all workers that offer the resource ``GPU``."""
        return sum(self._slots.values())

    def free(self) -> int:
        """Number of slots that nothing runs on."""
        return self.slots - len(self._futures)

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        """Send evaluations to the workers; Dask's task key is the evaluation's key."""
        for evaluation in evaluations:
            future = self._client.submit(
                self._task,
                self._problem,
                evaluation,
                self._results,
                self._topic,
                key=_dask_key(evaluation),
                resources={RESOURCE: 1},
                retries=0,
                pure=False,
                **self._continued(evaluation),
            )
            self._futures[evaluation.key] = future
            self._watch(self._await_end(evaluation.key, future))

    async def next(self) -> list[Result]:
        """Wait until an evaluation ended or the slots changed; what ended, perhaps nothing."""
        await self._wake.wait()
        self._wake.clear()
        keys, self._done = self._done, []
        futures = {key: self._futures[key] for key in keys}
        results = [
            self._announced.pop(key) if key in self._announced else await self._fetch(key, futures[key]) for key in keys
        ]
        for key, future in futures.items():
            self._release(future)
            del self._futures[key]
            self._places.pop(key, None)
        # Dask counts a release only when its loop comes round; a submit before that would be given the old error.
        await asyncio.sleep(0)
        return results

    def _release(self, future: Future) -> None:
        """Give the worker's memory back, and forget an error, which would answer the next submit of that key."""
        if future.status == "finished":
            # Not yet: what is sent to a worker keeps the next message to it, a training, waiting for 5 ms.
            asyncio.get_running_loop().call_later(_RELEASE_SECONDS, future.release)
        else:
            future.release()

    def watch(self, on_report: Callable[[str, Mapping[str, float]], None]) -> None:
        """Call ``on_report(key, metrics)`` with what trainings report on the way."""
        self._on_report = on_report

    def prune(self, key: str, metric: str) -> None:
        """End the training of ``key``, on the worker from which it reported."""
        if self._prune is not None and key in self._places:
            workers = [self._places[key]]
            self._watch(self._client.run(self._prune, key, metric, workers=workers, on_error="ignore"))

    async def cancel(self) -> None:
        """End the trainings in flight, on the workers too."""
        if not self._futures:
            return
        keys = list(self._futures)
        futures = list(self._futures.values())
        self._futures.clear()
        await self._client.cancel(futures, asynchronous=True, force=True)
        if self._stop is not None:
            await self._client.run(self._stop, keys, on_error="ignore")

    async def wait_for_slots(self, seconds: float) -> None:
        """Wait until there is a slot.

        Raises:
            NoSlots: No worker offered one in time.
        """
        deadline = time.monotonic() + seconds
        while not self.slots:
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, deadline - time.monotonic()))
                self._wake.clear()
            except TimeoutError:
                address = self._client.scheduler.address
                raise NoSlots(
                    f"the scheduler at {address} has no worker with a GPU slot; "
                    f"start some: swarm worker {address} --gpus all (or --slots 4 without GPUs)"
                ) from None

    # --- inside

    def _continued(self, evaluation: Evaluation) -> dict[str, str]:
        """Where checkpoints are, for a slice of training: a whole one needs none."""
        if self._checkpoints is None or evaluation.budget is None:
            return {}
        return {"checkpoints": self._checkpoints}

    def _watch(self, work: Any) -> None:
        watcher = asyncio.ensure_future(work)
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _await_end(self, key: str, future: Future) -> None:
        with contextlib.suppress(Exception):  # how it ended is read from the future
            await wait([future])
        self._done.append(key)
        self._wake.set()

    async def _fetch(self, key: str, future: Future) -> Result:
        """The result of a future that ended without announcing one: it is in a worker's memory, or it is lost."""
        if future.status == "finished":
            with contextlib.suppress(Exception):  # its worker went away in this moment
                result: Result = await future
                return result
        # Our task never raises, so its worker, or the scheduler, went away.
        error = await future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            self._slots.pop(error.last_worker.address, None)
            reason = f"its worker {error.last_worker.name} went away"
        elif error is None:
            reason = "the scheduler forgot it"
        else:
            reason = f"it could not be run: {type(error).__name__}: {error}"
        _log.warning("evaluation %s is lost: %s", key[:8], reason)
        status = Status.FAILED if reason.startswith("it could not be run") else Status.LOST
        return Result(key=key, status=status, error=reason)

    def _on_announcement(self, event: tuple[float, Any]) -> None:
        """Workers announce results on the line on which Dask then reports the task's end, so they come first."""
        message = event[1]
        if "report" in message:
            report = message["report"]
            self._places[report["key"]] = message["worker"]
            self._on_report(report["key"], report["metrics"])
            return
        result = Result.from_dict(message["result"])
        if result.key in self._futures:
            self._announced[result.key] = result

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") in ("add-worker", "remove-worker"):
            self._stale.set()

    async def _keep_counting(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            with contextlib.suppress(OSError):  # the client is reconnecting; the workers will announce themselves
                await self._count_slots()
            self._wake.set()

    async def _count_slots(self) -> None:
        found = await self._client.scheduler.identity(n_workers=-1)
        self._slots = {
            address: min(int(worker["resources"].get(RESOURCE, 0)), worker["nthreads"])
            for address, worker in found["workers"].items()
        }


def _dask_key(evaluation: Evaluation) -> str:
    return f"{'train' if evaluation.purpose == 'fitness' else 'test'}-{evaluation.key}"
