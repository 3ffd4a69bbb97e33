"""What runs where in a master: in its event loop are decisions, and what takes its time is in threads, or in pieces."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from test_master import job_of, job_of_two, mastered, scheduler, worker

from swarm import PSO, TPE, Integer, Job, SurrogatePSO
from swarm.blocking import Turns
from swarm.client import Client
from swarm.errors import InvalidInput
from swarm.optimizers.tpe import Guided
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.service import master
from swarm.service.garbage import Collections
from swarm.service.hosted import Hosted, Places
from swarm.service.published import publisher
from swarm.service.snapshots import Snapshots
from swarm.store import Event, Store

SPACE = {"x": Integer(0, 99), "y": Integer(0, 99)}
LARGE: dict[tuple[Any, str], str] = {
    (Job, "from_dict"): "a job is built",
    (Job, "compared"): "a job is compared with the one in the store",
    (Job, "following"): "a second search is built",
    (master, "parse"): "a request is read",
    (publisher, "_picture"): "the first picture of a job is written",
    (publisher, "_events"): "what has happened is written",
    (Places, "check"): "a place of checkpoints is looked at",
    (Store, "content"): "code is read",
    (Snapshots, "replay"): "a journal is replayed",
    (SurrogatePSO, "_plan"): "a model chooses",
    (Guided, "_drawn"): "a model with many candidates chooses",
}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """The threads in which each of the large things was done."""
    found: dict[str, set[int]] = defaultdict(set)

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            found[what].add(threading.get_ident())
            return function(*arguments, **options)

        return call

    for (owner, name), what in LARGE.items():
        as_it_is = inspect.getattr_static(owner, name)
        made = noted(what, getattr(as_it_is, "__func__", as_it_is))
        monkeypatch.setattr(owner, name, classmethod(made) if isinstance(as_it_is, classmethod) else made)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "swarm.db")) as opened:
        yield opened


def endless(name: str) -> Job:
    return job_of(name, space=SPACE, optimizer=PSO(particles=3, generations=10**6), isolation="thread")


async def everything(folder: Path, address: str, store: Store) -> None:
    """One of each that users do with a service, and what a service does with jobs."""
    client = Client(address, asynchronous=True)
    async with worker(address), mastered(folder, address, store=store, places=Places(allowed=(str(folder),))):
        guided = job_of("guided", space=SPACE, optimizer=None, stop={"evaluations": 14}, isolation="thread")
        many = job_of("tpe", space=SPACE, optimizer=TPE(trials=14, candidates=400), isolation="thread")
        placed = job_of("placed", isolation="thread", checkpoints=str(folder / "points"))
        two = await asyncio.to_thread(job_of_two)  # which looks at its second search, too
        for job in (guided, many, placed, two):
            handle = await client.submit(job)
            assert (await handle.wait(timeout=60)).state == "finished"
        await (await client.attach("job-then")).wait(timeout=60)
        assert len(await handle.events()) > 3
        with pytest.raises(InvalidInput, match="the places that this service allows"):
            await client.submit(job_of("elsewhere", checkpoints="/elsewhere"))
        await client.submit(guided)
        failed = await client.submit(job_of("failed", problem=lambda params, ctx: 1 / 0, isolation="thread"))
        assert (await failed.wait(timeout=60)).state == "failed"
        left, gone = [await client.submit(endless(name)) for name in ("left", "gone")]
        await gone.pause()
        await gone.resume()
        await gone.share(priority=2.0)
        await gone.cancel()
        assert [state.state for state in await client.jobs()].count("cancelled") == 1
        while (await left.state()).told < 10:
            pass


async def test_nothing_that_may_take_long_is_done_in_the_loop_of_a_master(
    tmp_path: Path, threads: dict[str, set[int]]
) -> None:
    statements: dict[int, Counter[str]] = defaultdict(Counter)

    def noted(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements[threading.get_ident()][statement] += 1

    def in_office() -> Store:
        """A store whose statements are noted, once it has the lease."""
        opened = Store(tmp_path / "swarm.db")
        assert opened.lease("here", 60)
        sa.event.listen(opened._engine, "before_cursor_execute", noted)
        return opened

    loop = threading.get_ident()
    async with scheduler() as served:
        await everything(tmp_path, served.address, in_office())
        client = Client(served.address, asynchronous=True)
        async with worker(served.address), mastered(tmp_path, served.address, store=in_office()):
            left = await client.attach("left")
            told = (await left.state()).told
            while (await left.state()).told <= told:
                pass
            await left.cancel()
    here = [each for each in statements.pop(loop) if "swarm_lease" not in each]  # which the tests themselves take
    assert here == [] and len(statements) > 2, "the store is used in threads alone"
    made = {what: where for what, where in threads.items() if loop not in where}
    assert set(made) == set(LARGE.values())


async def test_long_work_of_a_search_is_done_in_pieces_between_which_others_have_a_turn(store: Store) -> None:
    now, turn, events = [0.0], [0], Counter[int]()

    def slow(event: Event) -> None:
        now[0] += 0.002
        events[turn[0]] += 1

    async def others() -> None:
        while True:
            turn[0] += 1
            await asyncio.sleep(0)

    job = job_of(space=SPACE, optimizer=PSO(particles=300, generations=4, known="answer"), archive=True)
    store.add_job(job.name, job.to_dict(), job.code.pickle)
    search = Search(job, store, slow)
    search._turns = Turns(0.005, lambda: now[0])
    ticking = asyncio.ensure_future(others())
    await search.run(VirtualPool(300, lambda evaluation: float(evaluation.params["x"])))
    ticking.cancel()
    assert events.total() > 2000
    assert max(events.values()) <= 4, "five milliseconds, and what had begun"


async def test_a_turn_is_given_after_so_long_and_not_before() -> None:
    now = [0.0]
    turns = Turns(1.0, lambda: now[0])
    now[0] = 0.9
    assert not await turns.give()
    now[0] = 1.0
    assert await turns.give()
    now[0] = 1.9
    assert not await turns.give()


async def test_a_job_that_has_ended_is_out_of_memory_without_a_look_for_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[Any]] = []
    start = master.Master._start

    def started(self: master.Master, hosted: Hosted) -> None:
        kept.append(weakref.ref(hosted))
        start(self, hosted)

    monkeypatch.setattr(master.Master, "_start", started)
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        gc.disable()
        try:
            first = await client.submit(job_of("first", isolation="thread"))
            assert (await first.wait(timeout=60)).state == "finished"
            never = await client.submit(job_of("never", optimizer=PSO(generations=10**6), isolation="thread"))
            await never.cancel()
            for _ in range(100):  # pages are told its end, and the connection forgets the message
                await client.hello()
                if not any(each() for each in kept):
                    break
                await asyncio.sleep(0.05)
            left = [each() for each in kept]
            assert left == [None, None], [gc.get_referrers(each) for each in left if each is not None]
        finally:
            gc.enable()


def test_what_survives_a_long_collection_is_set_aside_and_all_of_it_is_looked_at_once_an_hour() -> None:
    now, used = [0.0], [0.0]
    collections = Collections(lambda: now[0], lambda: used[0])

    def collected(seconds: float, generation: int = 2) -> int:
        collections("start", {"generation": generation})
        used[0] += seconds
        collections("stop", {"generation": generation})
        return gc.get_freeze_count()

    before = gc.get_freeze_count()
    try:
        assert collected(0.001) == collected(1.0, generation=1) == before
        assert collected(0.1) > before + 1000
        now[0] = 3599.0
        assert collected(0.001) > before + 1000
        now[0] = 3600.0
        assert collected(0.001) == 0
        assert collected(0.1) > 1000
    finally:
        gc.unfreeze()
