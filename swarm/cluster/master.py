"""The master as a process: it waits for its lease, serves the jobs of a store, and dials again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_random_exponential,
)

from swarm.blocking import in_thread
from swarm.cluster.connect import connected, forgetting, slots_of
from swarm.cluster.standby import keep_standing_by
from swarm.errors import ClusterError, LeaseLost, NoService, StoreUnavailable
from swarm.service.garbage import lighten
from swarm.store.sql import SECONDS, Store
from swarm.workers.node.first_contact import FirstContact
from swarm.workers.node.requirements import unmet

if TYPE_CHECKING:
    from swarm.service.hosted import Places

_STANDBY_SECONDS = 1.0
_LONGEST_PAUSE = 10.0


async def serve_jobs(
    scheduler: Callable[[], str],
    store: str,
    *,
    places: Places,
    lease_seconds: float,
    store_seconds: float = SECONDS,
    admins: Iterable[str] = (),
    shared: bool = False,
    keep_ended: float | None = None,
    first_seconds: float | None = None,
    say: Callable[[str], None] = lambda _: None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Be the master of the jobs in a store, until cancelled: wait for the lease, dial, serve, and dial again.

    Args:
        scheduler: Returns the scheduler's address; called before each attempt to connect.
        store: URL of the store.
        places: Where trainings leave what others need.
        lease_seconds: A standby takes over when the master has been silent for so long.
        store_seconds: What the store's server has not answered for so long has failed.
        admins: Who may steer everybody's jobs.
        shared: With TLS, everybody who has a certificate may read everybody's jobs.
        keep_ended: Seconds after which a job that has ended is deleted; None keeps it.
        first_seconds: Give up if the scheduler, or the store, was never reached for so long; None tries for ever. Once
            both were there, it always does.
        say: Told what happens.
        ready: Told what it does whenever it stands by or takes office.

    Raises:
        SchedulerUnreachable: It has given up.
        NoService: The scheduler was started without our plugin.
    """
    lighten()

    def begin(what: str) -> None:
        say(what)
        ready(what)

    thread = ThreadPoolExecutor(1, "swarm-lease")
    contact = FirstContact(first_seconds)
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((ClusterError, LeaseLost, StoreUnavailable, OSError))
        & retry_if_not_exception_type(NoService),
        wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE),
        before_sleep=lambda state: say(f"{contact.failed(_reason(state))}; trying again"),
    )
    while True:
        async for attempt in attempts:
            with attempt:
                opened = await in_thread(thread, lambda: Store(store, seconds=store_seconds))
                try:
                    how = lease_seconds, tuple(admins), shared, keep_ended
                    await _wait_for_office(scheduler, opened, holder, lease_seconds, thread, contact, begin)
                    await _hold_office(scheduler, opened, holder, places, *how, contact, begin)
                finally:
                    with contextlib.suppress(StoreUnavailable):
                        opened.give_up_lease()
                    opened.close()


async def _wait_for_office(
    scheduler: Callable[[], str],
    store: Store,
    holder: str,
    lease_seconds: float,
    thread: Executor,
    contact: FirstContact,
    begin: Callable[[str], None],
) -> None:
    """Take the lease as soon as nobody has it, and have the scheduler know that we wait."""
    lease = partial(store.lease, holder, lease_seconds)
    if await in_thread(thread, lease):
        return
    contact.reached()  # by the one that is at work: this one is to outlast whatever ends that
    begin("another master is at work; standing by")
    telling = asyncio.ensure_future(keep_standing_by(scheduler, holder))
    try:
        while not await in_thread(thread, lease):
            await asyncio.sleep(_STANDBY_SECONDS)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _hold_office(
    scheduler: Callable[[], str],
    store: Store,
    holder: str,
    places: Places,
    lease_seconds: float,
    admins: tuple[str, ...],
    shared: bool,
    keep_ended: float | None,
    contact: FirstContact,
    begin: Callable[[str], None],
) -> None:
    """One term of office."""
    from swarm.runs.artifacts import left
    from swarm.service.master import Master
    from swarm.service.protocol import RESULTS

    async with connected(scheduler()) as client, slots_of(client, topic=RESULTS, outlive=True) as slots:
        contact.reached()
        begin(f"serving {client.scheduler.address}, {slots.total()} slots, store {store.url}")

        async def unfit(requirements: Iterable[str]) -> str | None:
            found = await client.run(unmet, list(requirements), on_error="ignore")
            return next(
                (f"{complaints[0]} (worker {worker})" for worker, complaints in found.items() if complaints), None
            )

        await Master(
            client,
            slots,
            store,
            holder=holder,
            places=places,
            forgetting=forgetting,
            unfit=unfit,
            lease_seconds=lease_seconds,
            admins=admins,
            shared=shared,
            keep_ended=keep_ended,
            look=partial(left, results=places.results),
        ).run()


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome is not None else None
    return (str(error).splitlines() or [type(error).__name__])[0]
