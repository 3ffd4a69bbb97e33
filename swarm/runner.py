"""Run a job here and wait for it: on an embedded cluster, or on a scheduler that runs elsewhere."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from swarm.blocking import in_thread, wait_for
from swarm.code.main_guard import check_first
from swarm.config import settings
from swarm.errors import (
    AllFailed,
    Interrupted,
    InvalidInput,
    InvalidJob,
    JobNotFound,
    NoSlots,
    NotStarted,
    ScriptEnded,
    StoreUnavailable,
)
from swarm.job.job import Job, check_job
from swarm.job.stored_problem import advice
from swarm.manners.guest import quiet, tidy
from swarm.manners.users_dask import DaskClient, Named, UsersDask, users_dask
from swarm.pool.base import Pool
from swarm.runs.run import STORE, Run, StoreName, named_store, stored_job
from swarm.runs.upkeep import check_not_submitted
from swarm.search.checkpoint_cleanup import CheckpointCleanup
from swarm.search.patience import patiently, patiently_awaited
from swarm.search.retry import retry
from swarm.search.search import Search
from swarm.steering import baseline as beside
from swarm.steering.ended_trial import OnTrial
from swarm.steering.enrolment import enroll, enrolled
from swarm.steering.extension import differences, extend
from swarm.steering.notice import Notice
from swarm.store.records import JobStatus
from swarm.store.run_lock import alone
from swarm.store.sql import Store

if TYPE_CHECKING:
    from distributed import Client

    from swarm.service.published.publisher import Publisher

__all__ = ["STORE", "Run", "Where", "enroll", "free_name", "resume", "run"]


_WAIT_FOR_SLOTS = 10.0
_log = logging.getLogger("swarm.runner")


@dataclass(frozen=True)
class Where:
    """Where trainings run.

    Attributes:
        scheduler: A Dask scheduler, by its address, or a client or cluster of its user's; None starts an embedded
            cluster.
        slots: Slots of the embedded cluster on CPUs; None takes one per GPU, or one per CPU core where there is no GPU.
        gpus: GPUs of the embedded cluster: ``all``, ``0,2-3`` or UUIDs.
        threads: CPU threads of one training.
    """

    scheduler: Named | None = None
    slots: int | None = None
    gpus: str | None = None
    threads: int | None = None

    @property
    def users(self) -> UsersDask | None:
        """The user's scheduler, if one is named.

        Raises:
            InvalidInput: It cannot be used.
        """
        return None if self.scheduler is None or self.scheduler == "" else users_dask(self.scheduler)


Watcher = Callable[[Search, str | None], None]


@dataclass(frozen=True)
class _Wishes:
    """What a caller wants besides: failures trained again, to be told of trials, and random search beside it."""

    retry_failed: bool
    on_trial: OnTrial | None
    baseline: bool = False


def run(
    job: Job,
    *,
    slots: int | None = None,
    gpus: str | None = None,
    threads: int | None = None,
    scheduler: Named | None = None,
    client: DaskClient | None = None,
    store: StoreName = STORE,
    progress: bool = True,
    retry_failed: bool = False,
    on_trial: OnTrial | None = None,
    baseline: Literal["random"] | None = None,
) -> Run:
    """Run a job to its end, or on from where it was stopped, and return what was found.

    It trains on this machine, or on the workers of a Dask scheduler, and returns when the search has ended. The same
    call after an interruption goes on from the journal in the store; after the end it trains nothing and returns the
    finished run, unless limits of the job were raised: then it goes on from its end. Trainings import the script that
    calls it up to there; what is below ``if __name__ == "__main__":`` they skip.

    Args:
        job: What to search, and how.
        slots: Trainings at a time on this machine's CPUs; left out, one per GPU, or per core where there is no GPU.
        gpus: GPUs to use on this machine: ``all``, ``0,2-3`` or UUIDs.
        threads: CPU threads of one training; left out, one without a GPU, else its share of the cores.
        scheduler: A Dask scheduler whose workers train instead of this machine's: its address, your
            ``distributed.Client``, or a cluster such as ``LocalCluster`` or ``SLURMCluster``. Client and cluster stay
            yours, and open; one that is adaptive starts the workers that the search has use for.
        client: The same, for a client.
        store: URL or file of the store, a text or a path, where the run can be found again.
        progress: Show how it goes: a live block in a terminal, a line per generation elsewhere.
        retry_failed: Train again what has failed in this run, which goes on from before its first failure; what has
            succeeded is not trained twice.
        on_trial: Called in this process with each trial that has ended here, a :class:`swarm.EndedTrial`, one after the
            other. If it returns True or raises :class:`swarm.StopSearch`, nothing more is asked for, and the search
            ends with what was; a generation is completed. What else it raises stops the run like Ctrl-C, and passes.
        baseline: ``random`` then runs random search beside it, to see what the search was worth: a second run,
            ``NAME-random``, of as many different configurations, with the same trainings, folds and seed. It is
            :attr:`Run.baseline <swarm.Run.baseline>` of what is returned, and stands in the report. ``on_trial`` is not
            told of its trials.

    Returns:
        The finished run: ``best`` (None if no training has succeeded), ``counts``, ``history``. If the job has a second
        search (``then``), the run of that one, with the first as ``before``.

    Raises:
        JobConflict: The store has another job of this name, or another process is running it.
        InvalidJob: Random search at the same number of trainings would say nothing of this job.
        SchedulerUnreachable: Nothing answers at ``scheduler``.
        InvalidInput: A master divides the slots there; submit the job to it. Or what was given as scheduler or client
            is none, closed, or asynchronous.
        NoSlots: The scheduler has no worker with a GPU slot.
        NotStarted: Worker processes cannot start; a script ends with the one line that says why.
        StoreUnavailable: The store cannot be written; one that is locked or away has been waited for a minute
            (``swarm.store-patience-seconds`` of Dask's configuration).
        AllFailed: The first trainings have all failed for one reason, which the text tells with the remedy.
        InvalidProblem: What a built-in problem needs is not installed here.
        Interrupted: Ctrl-C; the journal holds all that was done, the same call goes on.

    Example:
        ::

            >>> from swarm import Job, Real, run
            >>> def train(params, ctx):
            ...     return (params["x"] - 1) ** 2
            >>> job = Job(
            ...     name="valley",
            ...     problem=train,
            ...     space={"x": Real(-5, 5)},
            ...     stop={"evaluations": 30},
            ...     direction="minimize",
            ...     isolation="thread",  # a process for each call would cost more than the call
            ... )
            >>> found = run(job, slots=1, store="valley.db", progress=False)
            >>> found.counts["trained"], round(found.best.params["x"], 1)
            (30, 1.0)
    """
    check_first("run()")
    if client is not None and scheduler is not None:
        raise InvalidInput("give scheduler= or client=, not both: each of them says where to train")
    where = Where(scheduler if client is None else client, slots, gpus, threads)
    check_job(job, "run(job)")
    if said := advice(job.name, job.code.pickle):
        _log.warning(said)
    named = named_store(store)
    if baseline is not None:
        beside.check(job, named, baseline)
    return _watched(job, where, named, progress, _Wishes(retry_failed, on_trial, baseline is not None))


def resume(
    name: str,
    *,
    store: StoreName = STORE,
    where: Where | None = None,
    progress: bool = True,
    retry_failed: bool = False,
    on_trial: OnTrial | None = None,
) -> Run:
    """Go on with a run of the store, from exactly where its journal ends, or from before its first failure.

    Raises:
        JobNotFound: The store has no job of that name.
    """
    check_first("resume()")
    job = patiently(lambda: _job_of(name, store), settings().store_patience_seconds)
    return _watched(job, where or Where(), named_store(store), progress, _Wishes(retry_failed, on_trial))


def _job_of(name: str, store: StoreName) -> Job:
    with closing(Store(store, create=False)) as opened:
        return stored_job(opened.job(name), named_store(store))


def _watched(job: Job, where: Where, store: str, progress: bool, wishes: _Wishes) -> Run:
    users = where.users  # looked at in the caller's thread, where it is seen whether that has an event loop to wait for

    def finish(show: Watcher) -> Run:
        try:
            return wait_for(lambda: _run(job, where, users, store, show, wishes), (signal.SIGINT, signal.SIGTERM))
        except KeyboardInterrupt:
            how = "the same again" if wishes.baseline else f"swarm resume {job.name} --store {store}"
            raise Interrupted(f"{job.name} was stopped; go on with: {how}") from None
        except NotStarted as error:
            if threading.current_thread() is not threading.main_thread():
                raise
            raise ScriptEnded(str(error)) from None  # not within the loop, which SystemExit would end

    with tidy:
        if not progress:
            found = finish(lambda *_: None)
        else:
            from swarm.terminal.progress import Progress
            from swarm.terminal.text import console

            with Progress(console()) as show:
                show.say(f"{job.name}: " + (f"joining {where.scheduler} …" if where.scheduler else "starting …"))
                found = finish(show)
    if job.then is None or found.best is None:
        return found
    following = job.following(found.best.params)
    return replace(_watched(following, where, store, progress, wishes), before=found)


async def _run(job: Job, where: Where, users: UsersDask | None, store: str, on_change: Watcher, wishes: _Wishes) -> Run:
    """Run a job, and then random search if it is to stand beside it, on one cluster."""
    async with AsyncExitStack() as stack:
        cluster = _Cluster(users, where, stack)
        found = await _run_on(cluster, job, store, on_change, wishes)
        if wishes.baseline and found.best is not None:
            random = beside.baseline(job, max(found.configurations.values()))
            await _run_on(cluster, random, store, on_change, _Wishes(wishes.retry_failed, None))
        return found


class _Cluster:
    """Where the searches of one call train.

    Args:
        users: The user's scheduler; None starts a cluster when one is needed.
        where: What that is like.
        stack: Ends it.
    """

    def __init__(self, users: UsersDask | None, where: Where, stack: AsyncExitStack) -> None:
        self.users, self.where = users, where
        self._stack = stack
        self._client: Client | None = None

    async def client(self, slots: list[Any]) -> Client:
        """A client of it, the same for all searches."""
        from swarm.cluster.connect import check_unserved, connected, embedded

        if self._client is None:
            self._stack.enter_context(quiet)
            if self.users is None:
                self._client = await self._stack.enter_async_context(embedded(slots))
            else:
                self._client = await self._stack.enter_async_context(connected(self.users))
                await check_unserved(self._client)
        return self._client


async def _run_on(cluster: _Cluster, job: Job, store: str, on_change: Watcher, wishes: _Wishes) -> Run:
    from swarm.cluster.at_home import at_home, suits
    from swarm.cluster.connect import dashboard_of, forgetting, keeping, pool_on
    from swarm.runs.artifacts import left
    from swarm.service.published.of_trials import of_run
    from swarm.service.published.publisher import showing

    users, where = cluster.users, cluster.where
    working: Pool
    async with AsyncExitStack() as stack:
        stack.enter_context(_telling_the_remedy(job.name, store))
        if users is not None or job.isolation == "process":
            stack.enter_context(quiet)
        if users is None:
            _check_installed(job, store)
        slots = [] if users is not None else local_slots(job, where)
        if users is not None:  # before the store: a scheduler that is not there must leave nothing behind
            client = await cluster.client(slots)
            shared = job.checkpoints if isinstance(job.checkpoints, str) else None
            pool = await stack.enter_async_context(pool_on(client, job, None, shared, users))
            await pool.wait_for_slots(_WAIT_FOR_SLOTS)
        chosen = settings()
        patience = chosen.store_patience_seconds
        opening = partial(in_thread, None, partial(Store, store, seconds=chosen.store_timeout_seconds))
        opened = await patiently_awaited(opening, patience)
        stack.enter_context(closing(opened))
        results = None
        if users is None:
            results, shared = _folders(job, opened)
        if job.optimizer.inherits and shared is None:
            raise InvalidJob(
                f"job {job.name!r} hands trainings on, but there is no place for their checkpoints that all workers "
                "see: give one, checkpoints: a folder or URL"
            )
        again = partial(retry, opened, job, results, keeping(shared)) if wishes.retry_failed else None
        taking = partial(in_thread, None, partial(_taken_up, job, opened, stack, again))
        search, outlet = await patiently_awaited(taking, patience)
        search.check_failed()
        show = partial(showing, search=search, outlet=outlet, answer=of_run(store, job.name, left))
        if not search.state.finished():
            if users is None and suits(job, slots, where.threads):
                home = at_home(job, slots, results, shared, show)
                working, linked = await stack.enter_async_context(home)
            else:
                stack.enter_context(quiet)
                if users is None:
                    client = await cluster.client(slots)
                    pool = await stack.enter_async_context(pool_on(client, job, results, shared))
                working, linked = pool, partial(str, await dashboard_of(client) or "")
                await stack.enter_async_context(show(client))
            forget = CheckpointCleanup(job.name, lambda: forgetting(shared))
            await _search(search, working, partial(_shown, on_change, linked), forget, wishes)
        return Run(search.state, store, JobStatus.FINISHED)


async def _search(
    search: Search, pool: Pool, show: Callable[[Search], None], forget: CheckpointCleanup, wishes: _Wishes
) -> None:
    """Run a search to its end; whom it notifies has been told when this returns."""
    notify, patience = search.job.notify, settings().store_patience_seconds
    with ThreadPoolExecutor(1, "swarm-asks") as asking:
        notice = None if notify is None else Notice(notify, search.job.name)
        try:
            await search.run(pool, show, forget, patience, asking=asking, on_trial=wishes.on_trial, notice=notice)
        finally:
            if notice is not None:
                await in_thread(asking, notice.wait)
        await forget.done()


def _shown(on_change: Watcher, linked: Callable[[], str | None], search: Search) -> None:
    on_change(search, linked() or None)


@contextmanager
def _telling_the_remedy(name: str, store: str) -> Iterator[None]:
    try:
        yield
    except AllFailed as error:
        raise AllFailed(
            f"{error}; mend that, then: swarm resume {name} --store {store} --retry-failed (in Python: "
            "run(job, retry_failed=True)); if you have changed the code, run it under another name; "
            "max_failures: 0 in the job lets it go on all the same"
        ) from None


def _check_installed(job: Job, store: str) -> None:
    """Refuse a run whose trainings would all fail, for what their built-in problem needs is not installed here."""
    from swarm.cluster.connect import check_installed, missing

    if not missing(job):
        return
    with suppress(StoreUnavailable, JobNotFound), closing(Store(store, create=False)) as opened:
        if opened.job(job.name).status is JobStatus.FINISHED:  # there is nothing left to train
            return
    check_installed(job)


def local_slots(job: Job, where: Where) -> list[Any]:
    """The slots of this machine on which the job would be trained.

    Raises:
        NoSlots: A training of it takes more.
    """
    from swarm.cluster import connect

    slots = connect.local_slots(where.slots, where.gpus, where.threads, gpus_per_training=job.gpus_per_training)
    if len(slots) < job.replicas:
        raise NoSlots(
            f"a training of {job.name!r} takes {job.replicas} slots, and here are {len(slots)}: give "
            f"--slots {job.replicas} (without GPUs), or fewer replicas"
        )
    return slots


def _folders(job: Job, store: Store) -> tuple[str | None, str | None]:
    """Where this machine's workers commit results, and where they keep checkpoints; None where they do not."""
    folder = store.folder
    results = None if folder is None else str(folder / "results")
    if isinstance(job.checkpoints, str) or folder is None or not job.checkpoints:
        return results, job.checkpoints if isinstance(job.checkpoints, str) else None
    return results, str(folder / "checkpoints")


def _taken_up(
    job: Job, store: Store, stack: AsyncExitStack, again: Callable[[], object] | None
) -> tuple[Search, Publisher]:
    """The job's search as its journal tells it, which nobody else goes on with until the stack ends.

    Args:
        job: The job.
        store: Where its journal is.
        stack: What ends with the run.
        again: Has its failed trainings trained again; None leaves them as they are.

    Raises:
        JobConflict: Somebody runs it, or the name stands for another job.
    """
    from swarm.service.published.publisher import Publisher

    with ExitStack() as held:  # until all of it has worked: the store may go away in between, and we try again
        status, found = enrolled(job, store)
        if status is JobStatus.FINISHED and again is None and not found.raised:  # to be looked at by anybody
            outlet = Publisher(job)
            search = Search(job, store, outlet.note)
            if search.state.finished():
                return search, outlet
        held.enter_context(alone(store, job.name))
        if found.raised:
            check_not_submitted(store, job.name)
            extend(store, job, differences(job, store.job(job.name)))
        if again is not None:
            check_not_submitted(store, job.name)
            again()
        outlet = Publisher(job)
        search = Search(job, store, outlet.note)
        stack.push(held.pop_all())
        return search, outlet


def free_name(name: str, store: StoreName) -> str:
    """``name`` if the store has no such job, else the first of ``name-2``, ``name-3``, … that is free."""
    with closing(Store(store)) as opened:
        taken = opened.names(name)
    number = 2
    free = name
    while free in taken:
        free = f"{name}-{number}"
        number += 1
    return free
