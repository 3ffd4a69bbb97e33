"""A master that takes over serves at once, and no job's journal keeps it from that, or takes it down for ever."""

from __future__ import annotations

import asyncio
import getpass
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_master import job_of, mastered, scheduler, worker

from swarm import Client, Random
from swarm.errors import InvalidInput, StoreUnavailable
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.service.hosted import REPLAYS_ALLOWED, Places
from swarm.store import Event, State, Store, Submission


def add(store: Store, name: str, results: int = 3) -> None:
    """A job of the store that a master has left after so many of its ten trials."""
    job = job_of(name, optimizer=Random(trials=10))
    store.submit(Submission(name, getpass.getuser()), job.to_dict(), job.code.pickle)
    pool = VirtualPool(1, lambda evaluation: float(evaluation.params["x"]))

    def stop(search: Search) -> None:
        if search.state.told >= results:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        asyncio.run(Search(job, store).run(pool, stop))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "swarm.db")) as opened:
        yield opened


async def states(client: Client) -> dict[str, Any]:
    return {state.name: state for state in await client.jobs()}


def test_a_damaged_journal_fails_its_job_and_no_other(store: Store, tmp_path: Path) -> None:
    for name in ("first", "damaged", "last"):
        add(store, name)
    with closing(sqlite3.connect(tmp_path / "swarm.db")) as connection, connection:
        connection.execute("UPDATE swarm_journal SET data = '{' WHERE job = 'damaged' AND seq = 3")

    async def check() -> None:
        async with scheduler() as one, mastered(tmp_path, one.address), worker(one.address):
            client = Client(one.address, asynchronous=True)
            for name in ("first", "last"):
                assert (await (await client.attach(name)).wait(timeout=60)).state == "finished"
            state = await (await client.attach("damaged")).wait(timeout=60)
            assert state.state == "failed" and "row 3" in state.reason and "swarm delete damaged" in state.reason

    asyncio.run(check())


class Slow(Store):
    """A store that reads one journal only when it is allowed to."""

    allowed = threading.Event()

    def events(self, job: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        if job == "long":
            assert self.allowed.wait(120)
        return super().events(job, after, limit)


def test_a_master_serves_while_a_long_journal_is_replayed(store: Store, tmp_path: Path) -> None:
    for name in ("long", "next"):
        add(store, name)

    async def check() -> None:
        slow = Slow(tmp_path / "swarm.db")
        async with scheduler() as one, mastered(tmp_path, one.address, store=slow), worker(one.address):
            client = Client(one.address, asynchronous=True)
            fresh = await client.submit(job_of("fresh"))
            assert (await fresh.wait(timeout=60)).state == "finished"
            found = await states(client)
            assert {name: found[name].trouble for name in ("long", "next")} == dict.fromkeys(
                ("long", "next"), "its journal is being replayed"
            )
            assert (await (await client.attach("next")).cancel()).state == "cancelled"
            slow.allowed.set()
            done = await (await client.attach("long")).wait(timeout=60)
            assert (done.state, done.told) == ("finished", 10)

    asyncio.run(check())


def test_a_job_that_takes_its_master_down_while_it_is_replayed_is_set_aside(store: Store, tmp_path: Path) -> None:
    for name in ("deadly", "harmless"):
        add(store, name)
    for _ in range(REPLAYS_ALLOWED):
        store.begin_replay("deadly")  # and a master died

    async def check() -> None:
        async with scheduler() as one, mastered(tmp_path, one.address), worker(one.address):
            client = Client(one.address, asynchronous=True)
            state = await (await client.attach("deadly")).wait(timeout=60)
            assert state.state == "failed" and "set aside" in state.reason
            assert (await (await client.attach("harmless")).wait(timeout=60)).state == "finished"
            again = await client.submit(job_of("deadly", optimizer=Random(trials=10)))
            assert (await again.wait(timeout=60)).state == "finished"

    asyncio.run(check())


def test_a_replay_that_ends_is_forgotten_however_it_ends(store: Store) -> None:
    assert [store.begin_replay("job"), store.begin_replay("job"), store.begin_replay("other")] == [1, 2, 1]
    store.end_replay("job")
    assert [store.begin_replay("job"), store.begin_replay("other")] == [1, 2]


class Away(Store):
    """A store that is away for a while: it fails to renew the lease, and to write."""

    away = False
    asked = threading.Event()

    def lease(self, holder: str, seconds: float) -> bool:
        if self.away:
            self.asked.set()
            raise StoreUnavailable("the store is away")
        return super().lease(holder, seconds)


def test_a_master_stays_in_office_while_its_store_is_away(store: Store, tmp_path: Path) -> None:
    async def check() -> None:
        opened = Away(tmp_path / "swarm.db")
        async with scheduler() as one, mastered(tmp_path, one.address, store=opened):
            client = Client(one.address, asynchronous=True)
            opened.away = True
            assert await asyncio.to_thread(opened.asked.wait, 30)
            opened.asked.clear()
            assert await asyncio.to_thread(opened.asked.wait, 30), "it asks again"
            assert (await client.hello())["master"]
            opened.away = False
            handle = await client.submit(job_of())
            assert (await handle.state()).state == State.ACTIVE

    asyncio.run(check())


@pytest.mark.parametrize(
    ("checkpoints", "fine"),
    [
        ("s3://shared/sweeps/mine", True),
        ("S3://shared/sweeps", True),
        ("s3://shared/sweeps/../other", False),
        ("s3://shared/sweeps-of-others", False),
        ("s3://other/sweeps", False),
        ("/shared/a", True),
        ("/shared/../etc", False),
        ("/shareda", False),
        ("ftp://slow.example/x", False),
        (True, True),
        (False, True),
    ],
)
def test_jobs_keep_their_checkpoints_where_the_service_allows_it(checkpoints: str | bool, fine: bool) -> None:
    def train(params: Any, ctx: Any) -> float:
        ctx.save({}, {})
        return 0.0

    train.resumable = True  # type: ignore[attr-defined]
    places = Places(allowed=("s3://shared/sweeps/", "/shared"))
    job = job_of(problem=train, checkpoints=checkpoints)
    if fine:
        places.check(job)
    else:
        with pytest.raises(InvalidInput, match=r"swarm\.checkpoint-places"):
            places.check(job)
    Places().check(job)
