"""Which of a cluster's slots count, those to which Dask gives work now, and whose they are."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker, get_worker
from distributed.core import Status

import swarm.cluster.connect
import swarm.pool.worker_registry
from swarm import Integer, Job, Random
from swarm.cluster.connect import connected, pool_on, slots_of
from swarm.config import quiet_dask
from swarm.dashboard.board import Board
from swarm.dashboard.live import Slots as SlotsPage
from swarm.errors import ClusterError, InvalidInput
from swarm.pool.dask_pool import DaskPool
from swarm.pool.slots import Slots
from swarm.pool.worker_registry import WorkerRegistry
from swarm.runner import enroll, run
from swarm.scheduler.slot_status import occupancy
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation, Result, Trial
from swarm.trial import Status as Ended

quiet_dask()
OPTIONS = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


async def test_a_worker_that_takes_no_work_now_offers_no_slot_until_it_does() -> None:
    # Dask would queue its share behind the training of another worker, although a slot becomes free in a moment.
    async with (
        Scheduler(port=0, **OPTIONS) as scheduler,
        Worker(scheduler.address, resources={"GPU": 1}, nthreads=1, **OPTIONS) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        worker.status = Status.paused  # or it has registered a moment ago, and is not ready
        while scheduler.running:
            await client.scheduler.identity()
        async with slots_of(client) as slots:
            assert slots.total() == 0
            worker.status = Status.running
            while not slots.total():
                await client.scheduler.identity()
            assert slots.total() == 1


async def test_a_run_on_slots_that_a_master_divides_is_sent_to_the_master(tmp_path: Path) -> None:
    job = Job(name="job", problem=lambda params, ctx: 0.0, space={"x": Integer(0, 9)}, optimizer=Random(trials=1))
    async with (
        Scheduler(port=0, preload=["swarm.scheduler"], **OPTIONS) as scheduler,
        Client(scheduler.address, asynchronous=True) as master,
    ):
        await master.scheduler.swarm_attach(master=master.id, term=0)
        with pytest.raises(InvalidInput, match="swarm submit JOB.yaml --scheduler tcp://"):
            await asyncio.to_thread(run, job, scheduler=scheduler.address, store=f"{tmp_path}/own.db", progress=False)
    assert list(tmp_path.iterdir()) == []


async def test_why_a_slot_waits_stands_on_the_page_and_in_the_list_until_it_waits_no_more() -> None:
    async with (
        Scheduler(port=0, **OPTIONS) as scheduler,
        Worker(scheduler.address, name="a<b", resources={"GPU": 1}, nthreads=1, **OPTIONS),
    ):
        board = Board(scheduler)
        page = SlotsPage(board)

        def shown() -> tuple[str | None, bool]:
            page.update(None)
            (slot,) = occupancy(scheduler, board)
            return slot["waits"], "<b>a&lt;b</b> waits for its GPU: 3 &lt; 5" in page.root.children[0].text

        assert shown() == (None, False)
        board.log_event("swarm-waits", {"slot": "a<b", "reason": "3 < 5"})
        board.log_event("swarm-waits", {"slot": "nobody's", "reason": "x"})
        assert shown() == ("3 < 5", True)
        assert list(board.waits) == ["a<b"]
        board.log_event("swarm-waits", {"slot": "a<b", "reason": None})
        assert shown() == (None, False)
        board.log_event("swarm-waits", {"slot": "a<b", "reason": "3 < 5"})
        board.add_worker(next(iter(scheduler.workers.values())))  # the same machine, with another process
        assert shown() == (None, False)


def endless(params: Any, ctx: Any) -> float:
    """Until its worker closes."""
    worker = get_worker()
    while worker.status is Status.running:
        time.sleep(0.05)
    return 0.0


async def test_slots_are_heard_of_again_when_the_scheduler_was_started_anew() -> None:
    worker = {"resources": {"GPU": 1}, "nthreads": 1, **OPTIONS}
    first = await Scheduler(port=0, **OPTIONS)
    address, port = first.address, first.port
    old = [await Worker(address, **worker) for _ in range(2)]
    job = Job(name="job", problem=endless, space={"x": Integer(0, 9)}, optimizer="Grid", isolation="thread")
    async with (
        Client(address, asynchronous=True) as client,
        slots_of(client) as slots,
        DaskPool(slots, job.code.pickle) as pool,
    ):
        assert slots.total() == 2
        pool.submit(job.evaluations(Trial(id=0, params={"x": 1})))
        await first.close()
        await asyncio.gather(*(each.close() for each in old))
        async with Scheduler(port=port, **OPTIONS) as second, Worker(second.address, **worker), asyncio.timeout(30):
            lost = await pool.next()
            while not lost:
                lost = await pool.next()
            assert lost[0].status is Ended.LOST
            while slots.total() != 1:
                await pool.next()
            async with Worker(second.address, **worker):  # of which it hears as it happens
                while slots.total() != 2:
                    await pool.next()


async def test_a_scheduler_that_was_started_anew_while_nothing_ran_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm.pool.worker_registry, "_LOOK_SECONDS", 0.2)
    worker = {"resources": {"GPU": 1}, "nthreads": 1, **OPTIONS}
    first = await Scheduler(port=0, **OPTIONS)
    async with Client(first.address, asynchronous=True) as client, slots_of(client) as slots:
        assert slots.total() == 0
        await first.close()
        async with Scheduler(port=first.port, **OPTIONS) as second, Worker(second.address, **worker):
            async with asyncio.timeout(30):
                while slots.total() != 1:
                    await asyncio.sleep(0.01)


async def test_a_search_says_so_when_the_scheduler_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm.cluster.connect, "_CONNECT_SECONDS", 1)
    job = Job(name="job", problem=endless, space={"x": Integer(0, 9)}, optimizer="Grid", isolation="thread")
    store = Store(f"{tmp_path}/swarm.db")
    enroll(job, store)
    search = Search(job, store)
    scheduler = await Scheduler(port=0, **OPTIONS)
    async with Worker(scheduler.address, resources={"GPU": 1}, nthreads=1, **OPTIONS) as worker:
        with pytest.raises(ClusterError, match=f"scheduler at {scheduler.address} went away .*same command goes on"):
            async with connected(scheduler.address) as client, pool_on(client, job, None) as pool:
                await pool.wait_for_slots(30)
                running = asyncio.ensure_future(search.run(pool))
                while not search.running:
                    await asyncio.sleep(0.01)
                await scheduler.close()
                await worker.close()
                async with asyncio.timeout(30):
                    await running
    assert store.job("job").status == "stopped"
    store.close()


def lost_while_leaving(
    problem: bytes, evaluation: Evaluation, results: str | None, topic: str, checkpoints: str | None = None
) -> Result:
    """What a worker does when its GPU is not free: it takes no more work, and says that the training is lost."""
    worker = get_worker()

    async def pause() -> None:
        worker.status = Status.paused

    asyncio.run_coroutine_threadsafe(pause(), worker.loop.asyncio_loop).result()
    result = Result(key=evaluation.key, status=Ended.LOST, error="its GPU is not free")
    worker.log_event(topic, {"result": result.to_dict()})
    return result


async def test_the_slot_of_a_worker_that_is_leaving_is_not_free_when_its_loss_is_told() -> None:
    # What is submitted again at once would be queued behind the training of another worker.
    job = Job(name="job", problem=endless, space={"x": Integer(0, 9)}, optimizer="Grid", isolation="thread")
    async with (
        Scheduler(port=0, **OPTIONS) as scheduler,
        Worker(scheduler.address, resources={"GPU": 1}, nthreads=1, **OPTIONS),
        Client(scheduler.address, asynchronous=True) as client,
        Slots(client, lost_while_leaving) as slots,
        DaskPool(slots, job.code.pickle) as pool,
    ):
        await pool.wait_for_slots(30)
        pool.submit(job.evaluations(Trial(id=0, params={"x": 1})))
        async with asyncio.timeout(30):
            while not (ended := await pool.next()):
                pass
        assert ended[0].status is Ended.LOST
        assert pool.free() == 0


def waiting(gate: Path) -> None:
    """Until the gate is there."""
    while not gate.exists():
        time.sleep(0.05)


async def test_a_slot_that_another_process_left_busy_is_free_when_its_worker_goes(tmp_path: Path) -> None:
    key, worker = "0" * 40, {"resources": {"GPU": 1}, "nthreads": 1, **OPTIONS}
    job = Job(name="job", problem=endless, space={"x": Integer(0, 9)}, optimizer="Grid", isolation="thread")
    async with (
        Scheduler(port=0, **OPTIONS) as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
        Worker(scheduler.address, **worker),
    ):
        old = await Worker(scheduler.address, **worker)
        left = client.submit(waiting, tmp_path / "go", key=f"train-{key}", resources={"GPU": 1}, workers=[old.address])
        while f"train-{key}" not in old.state.tasks:
            await client.scheduler.identity()
        async with slots_of(client) as slots, DaskPool(slots, job.code.pickle) as pool, asyncio.timeout(30):
            slots.follow({key: [pool.resource]})
            while pool.slots != 2:
                await pool.next()
            assert pool.free() == 1
            await scheduler.remove_worker(old.address, stimulus_id="it is gone")
            while (pool.slots, pool.free()) != (1, 1):
                await pool.next()
        (tmp_path / "go").touch()
        await old.close()
        left.release()


async def test_what_another_process_left_running_is_ended_when_nobody_wants_it(tmp_path: Path) -> None:
    def stop(keys: list[str]) -> None:
        (tmp_path / "ended").write_text(" ".join(keys))

    async with (
        Scheduler(port=0, **OPTIONS) as scheduler,
        Worker(scheduler.address, resources={"GPU": 1}, nthreads=1, **OPTIONS),
        Client(scheduler.address, asynchronous=True) as client,
        Slots(client, lost_while_leaving, stop=stop) as slots,
    ):
        slots.follow({"left": ["GPU"]})
        assert slots.used() == 1
        await slots.abandon({"left", "of another"})
        assert (slots.used(), (tmp_path / "ended").read_text()) == (0, "left")


@pytest.mark.parametrize("steps", range(4))
async def test_looking_ends_when_it_is_cancelled_in_the_moment_of_news(steps: int) -> None:
    async def look() -> None:
        pass

    roster = WorkerRegistry(None, {})  # type: ignore[arg-type]  # nobody is asked
    looking = asyncio.ensure_future(roster.keep(look))
    await asyncio.sleep(0)
    roster.doubt()
    for _ in range(steps):
        await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait([looking], timeout=5)
    assert looking.cancelled()
