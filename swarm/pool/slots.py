"""All GPU slots of a Dask cluster, and the evaluations that are in flight on them, as futures pinned to one slot each.

The master queues, never Dask: at most one evaluation per slot is in flight, so that a dying worker takes no evaluation
along that has not begun, and the next one can always be chosen late. The master retries, never Dask: a lost worker is a
result here for each training that it had, and the search decides. Each search has a
:class:`~swarm.pool.dask_pool.DaskPool` of its own on these slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distributed import Client, Future, KilledWorker
from distributed.client import ClosedClientError

from swarm.pool.fair_share import Claim
from swarm.pool.in_flight import InFlight, sent
from swarm.pool.task_names import GPU, WAITS, dask_key, key_of
from swarm.pool.tenancy.division import Division
from swarm.pool.wishes import Wishes
from swarm.pool.worker_registry import WorkerRegistry
from swarm.trial import Evaluation, Result, Status

if TYPE_CHECKING:
    from swarm.pool.tenancy.tenant import Tenant

_SEND_INTERVAL = 0.001
_RELEASE_SECONDS = 0.02
_PARTING_SECONDS = 10.0  # between the end of a training and that of all its replicas
_STOP_SECONDS = 10.0  # for a training to be told to stop: its worker may hang
_AT_HAND = 4096  # results
_log = logging.getLogger("swarm.slots")


async def _settled(future: Future) -> None:
    """Wait until it has ended, however. Dask's ``wait`` would ask the default client, which may be the user's."""
    await future._state.wait()


class Slots:
    """All GPU slots of a Dask cluster, divided between the pools on them.

    Args:
        client: An asynchronous client.
        task: What a worker runs: ``task(problem, evaluation, results, topic, checkpoints=…) -> Result``; it announces
            the result on the Dask event topic, too.
        topic: Dask event topic of the announcements; left out, one of this client's own.
        stop: What a worker runs to end trainings by key: ``stop(keys)``.
        prune: What a worker runs to end a hopeless training: ``prune(key, metric)``.
        outlive: Trainings go on when this process dies, for another one to join.
        scaling: Says whether the cluster starts workers by itself, as it is needed.

    Attributes:
        wishes: What a cluster that scales by itself is shown of the need for slots.
    """

    def __init__(
        self,
        client: Client,
        task: Callable[..., Result],
        *,
        topic: str | None = None,
        stop: Callable[[list[str]], None] | None = None,
        prune: Callable[[str, str], None] | None = None,
        outlive: bool = False,
        scaling: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.client = client
        self.topic = topic or f"swarm-results-{client.id}"
        self._task = task
        self._stop = stop
        self._prune = prune
        self.outlive = outlive
        self.wishes = Wishes(client, scaling)
        self._roster = WorkerRegistry(client, {self.topic: self._on_announcement, WAITS: self._on_wait})
        self._flights: dict[str, InFlight] = {}
        self._division = Division(self.total, self.used, self.charge)
        self._watchers: set[asyncio.Task[None]] = set()
        self._left: dict[str, list[str]] = {}  # what another process left running, with the class of each slot it has
        self._results: dict[str, Result] = {}  # that workers have announced, the latest: answers that need no slot
        self._inherited: set[str] = set()  # keys of results of another process's trainings

    async def __aenter__(self) -> Slots:
        # Dask's client holds messages back for 10 ms, longer than all the rest of a round trip takes together.
        self.client.scheduler_comm.interval = _SEND_INTERVAL
        await self._roster.count()
        self.watch(self._keep_looking())
        return self

    async def __aexit__(self, *_: object) -> None:
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._roster.unlisten()

    # --- what is there

    def total(self, resource: str = GPU) -> int:
        """Number of slots of this class, over all workers."""
        return self._roster.total(resource)

    def workers(self) -> int:
        """Number of workers, whatever they offer."""
        return self._roster.workers()

    def classes(self) -> set[str]:
        """The classes of the slots that there are."""
        return self._roster.classes()

    def used(self, resource: str = GPU) -> int:
        """Number of slots of this class that something runs on."""
        taken = sum(flight.size for flight in self._flights.values() if flight.resource == resource)
        return taken + sum(left.count(resource) for left in self._left.values())

    def runs(self, key: str) -> bool:
        """Whether this evaluation is in flight, or has ended before anybody here asked."""
        return key in self._flights or key in self._left or key in self._results

    def check(self) -> None:
        """See that there is a scheduler, or that it may come back.

        Raises:
            ClusterError: Dask's client has given it up.
        """
        self._roster.check()

    # --- for the pools

    def join(self, pool: Tenant) -> None:
        """A pool begins to take part."""
        self._division.join(pool)

    def level(self, pool: Tenant) -> None:
        """Give a pool no credit for the time before, beside those that use slots of its class; nor its user."""
        self._division.level(pool)

    def user(self, name: str, resource: str = GPU) -> Claim:
        """The claim of a user to the slots of a class, which the shares of all the user's jobs name."""
        return self._division.user(name, resource)

    def weigh(self, user: str, weight: float) -> None:
        """Have a user's share in the slots be in proportion to this weight from now on."""
        self._division.weigh(user, weight)

    def leave(self, pool: Tenant) -> None:
        """A pool takes part no more."""
        self.wishes.forget(pool)
        self._division.leave(pool)

    def charge(self) -> None:
        """Charge what runs to the pools that pay for it, up to this moment."""
        for flight in self._flights.values():
            flight.charge()

    def allowed(self, pool: Tenant) -> int:
        """How many more slots the pool may take now."""
        return self._division.allowed(pool)

    def spare(self, pool: Tenant) -> int:
        """How many evaluations of the pool may wait beside those that run: one for each slot.

        Nothing waits where others use the slots, which would have them later; nor where a worker has a single slot,
        behind which it would wait while another is free. What waits is recalled as what runs is, by :meth:`drop`, and
        nobody blames it for its worker's end.
        """
        if self._division.shared(pool) or self._left or not self._roster.wide(pool.resource):
            return 0
        total = self.total(pool.resource)
        most = total if pool.share.most is None else min(total, pool.share.most)
        return max(0, total + most - max(total, self.used(pool.resource)))

    def divide(self) -> None:
        """Divide the free slots again, since something has changed, and wake those who may take some."""
        self._division.divide()

    def submit(self, pool: Tenant, evaluation: Evaluation, *args: Any, **options: Any) -> None:
        """Send an evaluation to a worker for a pool, unless it is in flight already; Dask's key is the evaluation's.

        Raises:
            ClusterError: The scheduler is gone.
        """
        self.check()
        flight = self._flights.get(evaluation.key)
        if flight is None and (known := self._results.get(evaluation.key)) is not None:
            if not known.answers_others:
                del self._results[evaluation.key]
            pool.deliver(known)
            return
        self._left.pop(evaluation.key, None)
        if flight is None:
            send: Callable[..., Future] = functools.partial(
                sent, self.client, self._task, pool, evaluation, self.outlive, **options
            )
            future = send(dask_key(evaluation), *args)
            flight = self._flights[evaluation.key] = InFlight(evaluation, pool.resource, send, future)
            self.watch(self._await_end(evaluation.key, flight))
        else:
            pool.wake()  # to join takes no slot, so the search still has what it was offered
        if not flight.pools:
            pool.share.used += flight.size  # the first one pays
            self.divide()
        flight.pools.append(pool)

    def follow(self, running: Mapping[str, list[str]], results: Iterable[Result] = ()) -> None:
        """Take over from another process.

        Args:
            running: Keys of the evaluations that it has left running, each with the class of every slot that it has;
                who submits one of them joins it.
            results: Those that have ended since; they are the answer when somebody submits them.
        """
        self._results |= {result.key: result for result in results}
        self._inherited = set(self._results)
        self._left = {key: slots for key, slots in running.items() if key not in self._results}
        self.divide()

    def keep(self, keys: Collection[str]) -> None:
        """Of what another process left, running or ended, only these evaluations matter to anybody here."""
        self._left = {key: slots for key, slots in self._left.items() if key in keys}
        for key in self._inherited - set(keys) - self._flights.keys():
            self._results.pop(key, None)
        self._inherited.clear()
        self.divide()

    def forget(self, keys: Iterable[str]) -> None:
        """Let these evaluations be trained again, whatever is at hand of them."""
        for key in keys:
            self._results.pop(key, None)

    async def drop(self, pool: Tenant) -> None:
        """End the trainings that nobody but this pool waits for."""
        doomed = []
        for key, flight in list(self._flights.items()):
            if pool in flight.pools:
                flight.settle()
                flight.pools.remove(pool)
                if flight.pools:
                    flight.pools[0].share.used += flight.size
            if not flight.pools:
                doomed.append(key)
        if not doomed:
            return
        flights = [self._flights.pop(key) for key in doomed]
        try:
            await self._end(doomed, [future for flight in flights for future in (flight.future, *flight.others)])
        finally:
            self.divide()

    async def abandon(self, keys: Iterable[str]) -> None:
        """End what another process has left running of these evaluations, and nobody has submitted."""
        left = [key for key in keys if self._left.pop(key, None) is not None]
        if left:
            await self._end(left, [])
            self.divide()

    def prune(self, pool: Tenant, key: str, metric: str) -> None:
        """End the training of ``key``, on the worker from which it reported, unless other pools wait for its end."""
        flight = self._flights.get(key)
        if self._prune is None or flight is None or flight.place is None:
            return
        flight.hopeless[pool] = metric
        if all(flight.hopeless.get(each) == metric for each in flight.pools):
            self.watch(self.client.run(self._prune, key, metric, workers=[flight.place], on_error="ignore"))

    def watch(self, work: Any) -> None:
        """Let this work go on in the background until these slots are closed."""
        watcher = asyncio.ensure_future(work)
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watched)

    def _watched(self, watcher: asyncio.Task[None]) -> None:
        self._watchers.discard(watcher)
        error = None if watcher.cancelled() else watcher.exception()
        if error is not None and not self._roster.gone:
            _log.warning("work beside the searches failed: %s: %s", type(error).__name__, error)

    # --- inside

    async def _await_end(self, key: str, flight: InFlight) -> None:
        with contextlib.suppress(Exception):  # how it ended is read from the future
            await _settled(flight.future)
        if self._flights.get(key) is not flight:  # dropped
            return
        try:
            result = self._results.pop(key, None) or await self._fetch(key, flight.future)
            if flight.others:
                result = await self._joint(key, flight, result)
        except Exception as error:  # such as that the client is reconnecting
            result = Result(
                key=key,
                status=Status.LOST,
                error=f"the end of this training was not observed: {type(error).__name__}: {error}",
            )
        self._release(flight.future, result)
        if result.status is Status.LOST:  # what goes to a worker that is leaving would wait for a busy one instead
            with contextlib.suppress(Exception):
                await self._look()
        # Dask counts a release only when its loop comes round; a submit before that would be given the old error.
        await asyncio.sleep(0)
        if self._flights.get(key) is not flight:
            return
        del self._flights[key]
        flight.settle()
        flight.deliver(result)
        if result.answers_others:
            self._remember(result)
        self.divide()

    def _remember(self, result: Result) -> None:
        """Have it at hand for another pool that comes to the same position before the first has written it down."""
        self._results[result.key] = replace(result, curve=())
        if len(self._results) > max(_AT_HAND, len(self._flights)):
            del self._results[next(iter(self._results))]

    async def _joint(self, key: str, flight: InFlight, first: Result) -> Result:
        """The result of replicas, once all have ended: the first one's, unless that ended on account of another."""
        ends = asyncio.gather(*(self._outcome(key, future) for future in flight.others))
        try:
            async with asyncio.timeout(_PARTING_SECONDS):
                others = await asyncio.shield(ends)
        except TimeoutError:
            await self._end([key], flight.others)
            others = await ends
        for future in flight.others:
            future.release()
        if first.status is Status.LOST and any(end.drained for end in others):  # it has heard of it from that one
            return replace(first, drained=True)
        if first.status is not Status.CANCELLED:
            return first
        causes = (Status.FAILED, Status.CRASHED, Status.LOST)
        blamed = sorted((end for end in others if end.status in causes), key=lambda end: causes.index(end.status))
        return replace(blamed[0], slot=first.slot) if blamed else first

    async def _mind(self, key: str, flight: InFlight, other: Future) -> None:
        """End a training if a replica's machine is gone without a word, since the first would wait for it."""
        with contextlib.suppress(Exception):
            await _settled(other)
        if other.status != "finished" and self._flights.get(key) is flight and self._stop is not None:
            await self.client.run(self._stop, [key], on_error="ignore")

    async def _outcome(self, key: str, future: Future) -> Result:
        with contextlib.suppress(Exception):  # how it ended is read from the future
            await _settled(future)
        return await self._fetch(key, future)

    async def _end(self, keys: list[str], futures: list[Future]) -> None:
        """End these trainings, on the workers too, if they can be reached; one that hangs is not waited for."""
        try:
            await self.client.cancel(futures, asynchronous=True, force=True)
            if self._stop is not None:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self.client.run(self._stop, keys, on_error="ignore")
        except (OSError, ClosedClientError) as error:  # a TimeoutError is an OSError, too
            _log.warning("%d trainings could not be told to end: %s", len(keys), error or type(error).__name__)

    def _release(self, future: Future, result: Result) -> None:
        """Give the worker's memory back, and forget an answer that is not to answer the next submit of that key."""
        if future.status == "finished" and result.answers_others:
            # Not yet: what is sent to a worker keeps the next message to it, a training, waiting for 5 ms.
            asyncio.get_running_loop().call_later(_RELEASE_SECONDS, future.release)
        else:
            future.release()

    async def _fetch(self, key: str, future: Future) -> Result:
        """The result of a future that ended without announcing one: it is in a worker's memory, or it is lost."""
        if future.status == "finished":
            with contextlib.suppress(Exception):  # its worker went away in this moment
                result: Result = await future
                return result
        # Our task never raises, so its worker, or the scheduler, went away.
        error = await future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            self._roster.strike(error.last_worker.address)
            reason = f"its worker {error.last_worker.name} went away"
        elif error is None:
            reason = "the scheduler forgot it"
            self._roster.doubt()
        else:
            reason = f"it could not be run: {type(error).__name__}: {error}"
        _log.warning("evaluation %s is lost: %s", key[:8], reason)
        status = Status.FAILED if reason.startswith("it could not be run") else Status.LOST
        blamed = isinstance(error, KilledWorker) and self._was_alone(key, error.last_worker)
        return Result(key=key, status=status, error=reason, blamed=blamed)

    def _was_alone(self, key: str, worker: Any) -> bool:
        """Whether a training ran in the only thread of a worker that has died, and has perhaps killed it."""
        flight = self._flights.get(key)
        return flight is not None and flight.evaluation.isolation == "thread" and worker.nthreads == 1

    def _on_announcement(self, event: tuple[float, Any]) -> None:
        """Workers announce results on the line on which Dask then reports the task's end, so they come first."""
        message = event[1]
        if "invitation" in message:
            flight = self._flights.get(message["key"])
            if flight is not None:
                flight.invite(message["invitation"])
                for other in flight.others:
                    self.watch(self._mind(message["key"], flight, other))
            return
        if "report" in message:
            report = message["report"]
            flight = self._flights.get(report["key"])
            if flight is not None:
                flight.place = message["worker"]
                for pool in flight.pools:
                    pool.on_report(report["key"], report["metrics"])
            return
        result = Result.from_dict(message["result"])
        if result.key in self._flights:
            self._results[result.key] = result
        elif self._left.pop(result.key, None) is not None:
            self._results[result.key] = result
            self.divide()

    def _on_wait(self, _: Any) -> None:
        """A slot is offered no more, since its GPU is not free, or is again."""
        self._roster.doubt()

    async def _look(self) -> None:
        changed = await self._roster.count()
        self._division.outdate()
        await self.wishes.look()
        if any(self._left.values()):
            await self._count_left()
        if changed:
            self._division.wake_all()

    async def _keep_looking(self) -> None:
        await self._roster.keep(self._look)
        self._division.wake_all()

    async def _count_left(self) -> None:
        """What another process has left running takes no slot when its worker is gone; it may be submitted again."""
        processing = await self.client.scheduler.processing()
        running = {key_of(name) for names in processing.values() for name in names}
        gone = [key for key, slots in self._left.items() if slots and key not in running]
        if gone:
            self._left |= {key: [] for key in gone}
            self.divide()
