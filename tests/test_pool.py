"""The pool on a real Dask cluster: pinning, losses, and what stays in the workers' memory."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm import PSO, AsyncPSO, Grid, Integer, Job, Random
from swarm.cluster.connect import connected, embedded, pool_on, slots_of
from swarm.config import quiet_dask
from swarm.errors import NoSlots, SchedulerUnreachable
from swarm.pool.dask_pool import DaskPool
from swarm.pool.fair_share import Share
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Result, Status, Trial
from swarm.workers.node.slots import Slot
from swarm.workers.node.supervisor import make_slots, nanny_options

quiet_dask()


def job_of(problem: Any, **changes: Any) -> Job:
    defaults = {"name": "job", "space": {"x": Integer(0, 99)}, "optimizer": Random(trials=12), "isolation": "thread"}
    return Job(**{"problem": problem, **defaults, **changes})


@asynccontextmanager
async def pool_of(job: Job, slots: int, results: Path | None = None) -> AsyncIterator[tuple[Any, DaskPool]]:
    folder = None if results is None else str(results)
    async with embedded(make_slots(slots=slots)) as client, pool_on(client, job, folder) as pool:
        await pool.wait_for_slots(60)
        while pool.slots < slots:
            await pool.next()
        yield client, pool


def another_slot(client: Any) -> Any:
    """A worker of its own, with one slot."""
    from distributed import Nanny

    options = {**nanny_options(Slot("another"), host="127.0.0.1"), "security": client.security}
    return Nanny(client.scheduler.address, **options)


async def ended(pool: DaskPool) -> Result:
    """The next result; changes of the slots are passed over."""
    while True:
        for result in await pool.next():
            return result


def exclusive(folder: Path) -> Any:
    """A training that fails if another one runs on its slot at the same time, by a lock taken without waiting."""

    def train(params: Any, ctx: Any) -> float:
        import fcntl
        import time

        with (folder / os.environ["SWARM_SLOT"]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(0.02)  # the training
        return float(params["x"])

    return train


async def test_trainings_never_share_a_slot_and_use_them_all(tmp_path: Path) -> None:
    job = job_of(exclusive(tmp_path), optimizer=Random(trials=40))
    store = Store(str(tmp_path / "swarm.db"))
    enroll(job, store)
    async with pool_of(job, 3) as (_, pool):
        search = Search(job, store)
        await search.run(pool)
    assert search.state.counts["failed"] == 0
    rows = [event.data for event in store.events("job") if event.kind == "result"]
    by_slot: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        by_slot.setdefault(row["slot"], []).append((row["start"], row["end"]))
    assert len(by_slot) == 3
    for intervals in by_slot.values():
        intervals.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(intervals))
    store.close()


async def test_results_leave_the_workers_and_the_scheduler(tmp_path: Path) -> None:
    job = job_of(lambda params, ctx: float(params["x"]))
    async with pool_of(job, 1) as (client, pool):
        pool.submit(job.evaluations(Trial(id=0, params={"x": 3})))
        result = await ended(pool)
        assert (result.status, result.fitness) == (Status.OK, 3.0)
        assert pool.free() == 1
        while await client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)):
            pass  # the release is on its way; should it never come, the test's time limit fails us
        assert not client.futures


async def test_the_scheduler_keeps_no_record_of_trainings_that_have_ended() -> None:
    """A service has millions of them in a year, and its scheduler is never idle."""
    job = job_of(lambda params, ctx: float(params["x"]))

    def kept(dask_scheduler: Any) -> tuple[int, int]:
        gc.collect()  # groups of tasks are held by weak references
        return len(dask_scheduler.task_groups), len(dask_scheduler.extensions["spans"].spans)

    async with pool_of(job, 2) as (client, pool):
        waiting = [job.evaluations(Trial(id=x, params={"x": x})) for x in range(40)]
        left = len(waiting)
        while left:
            while waiting and pool.free():
                pool.submit(waiting.pop())
            left -= len(await pool.next())
        while await client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)):
            pass  # as above
        groups, spans = await client.run_on_scheduler(kept)
    assert groups < 10
    assert spans == 0


async def test_a_killed_worker_is_a_lost_evaluation_and_its_slot_comes_back(tmp_path: Path) -> None:
    marker = tmp_path / "was-here"

    def train(params: Any, ctx: Any) -> float:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(params["x"])

    job = job_of(train)
    async with pool_of(job, 1) as (_, pool):
        evaluation = job.evaluations(Trial(id=0, params={"x": 3}))
        pool.submit(evaluation)
        lost = await ended(pool)
        assert lost.status is Status.LOST
        assert "went away" in str(lost.error)
        await pool.wait_for_slots(60)
        pool.submit(evaluation)
        assert (await ended(pool)).fitness == 3.0


async def test_a_lost_evaluation_can_be_submitted_again_at_once(tmp_path: Path) -> None:
    marker = tmp_path / "was-here"

    def train(params: Any, ctx: Any) -> float:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(params["x"])

    job = job_of(train)
    async with pool_of(job, 1) as (client, pool), another_slot(client):  # is free, so nothing is waited for in between
        while pool.slots < 2:
            await pool.next()
        evaluation = job.evaluations(Trial(id=0, params={"x": 3}))
        pool.submit(evaluation)
        assert (await ended(pool)).status is Status.LOST
        pool.submit(evaluation)
        assert (await ended(pool)).fitness == 3.0


@pytest.mark.slow
async def test_a_crashed_evaluation_that_is_submitted_again_at_once_is_trained_again(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def train(params: Any, ctx: Any) -> float:
        with log.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    job = job_of(train, isolation="process")
    async with pool_of(job, 1) as (_, pool):
        evaluation = job.evaluations(Trial(id=0, params={"x": 3}))
        for times in (1, 2, 3):
            pool.submit(evaluation)
            assert (await ended(pool)).status is Status.CRASHED
            assert log.read_text() == times * "x"


@pytest.mark.slow
async def test_killing_the_worker_under_a_training_in_a_child_process_repeats_what_ran_and_nothing_else(
    tmp_path: Path,
) -> None:
    log = tmp_path / "trainings"
    log.mkdir()

    def train(params: Any, ctx: Any) -> float:
        (log / f"{params['x']}-{os.getpid()}").touch()
        if params["x"] == 5 and len(list(log.glob("5-*"))) == 1:
            psutil.Process().parent().parent().kill()  # the worker; the parent is its fork server
            time.sleep(60)  # until the parent-death signal
        return float(params["x"])

    job = job_of(train, isolation="process", space={"x": Integer(0, 7)}, optimizer=Random(trials=8))
    store = Store(str(tmp_path / "swarm.db"))
    enroll(job, store)
    async with pool_of(job, 2, tmp_path / "results") as (_, pool):
        search = Search(job, store)
        await search.run(pool)
    assert search.state.counts == {"trained": 8, "archive": 0, "in_flight": 0, "failed": 0}
    runs = Counter(int(file.name.split("-")[0]) for file in log.iterdir())
    assert (sorted(runs), runs[5]) == (list(range(8)), 2)
    assert sum(runs.values()) <= 10  # at most the training of the other slot ran when its worker died
    store.close()


async def test_a_scheduler_that_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.cluster.connect._CONNECT_SECONDS", 0.5)
    with pytest.raises(SchedulerUnreachable, match="tcp://127.0.0.1:1 .*start one") as caught:
        async with connected("tcp://127.0.0.1:1"):
            pytest.fail("there is no scheduler")
    assert "\n" not in str(caught.value)


async def test_a_scheduler_without_gpu_slots_is_refused_with_the_remedy(tmp_path: Path) -> None:
    from distributed import Scheduler, Worker

    job = job_of(lambda params, ctx: 0.0)
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    async with (
        Scheduler(port=0, **options) as scheduler,
        Worker(scheduler.address, **options),
        connected(scheduler.address) as client,
        pool_on(client, job, None) as pool,
    ):
        with pytest.raises(NoSlots, match=r"no worker with a GPU slot.*swarm worker tcp://"):
            await pool.wait_for_slots(0.1)


async def test_slots_are_counted_anew_when_workers_join_and_leave() -> None:
    from distributed import Worker

    job = job_of(lambda params, ctx: float(params["x"]))
    async with pool_of(job, 1) as (client, pool):
        options = {"resources": {"GPU": 1}, "nthreads": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        async with Worker(client.scheduler.address, name="late", security=client.security, **options):
            while pool.slots < 2:
                await pool.next()
            assert pool.free() == 2
        while pool.slots > 1:
            await pool.next()
        assert pool.free() == 1


async def test_two_jobs_that_come_to_the_same_positions_train_each_once(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        with (tmp_path / "log").open("a") as log:
            log.write(f"{params['x']}\n")
        return float(params["x"])

    store = Store(str(tmp_path / "swarm.db"))
    jobs = [job_of(train, name=name, space={"x": Integer(0, 9)}, optimizer=Grid()) for name in ("one", "two")]
    searches = []
    for job in jobs:
        enroll(job, store)
        searches.append(Search(job, store))
    async with (
        embedded(make_slots(slots=1)) as client,
        slots_of(client) as slots,
        DaskPool(slots, jobs[0].code.pickle) as one,
        DaskPool(slots, jobs[1].code.pickle) as two,
    ):
        await one.wait_for_slots(60)
        await asyncio.gather(*(search.run(pool) for search, pool in zip(searches, (one, two), strict=True)))
    assert [search.state.told for search in searches] == [10, 10]
    assert sorted((tmp_path / "log").read_text().split(), key=int) == [str(x) for x in range(10)]
    store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_many_searches_on_few_slots_all_end_and_train_nothing_twice(tmp_path: Path, seed: int) -> None:
    """They come one after another, with claims of all kinds, and to many of the same positions."""
    rng = random.Random(seed)

    def train(params: Any, ctx: Any) -> float:
        with (tmp_path / "log").open("a") as log:
            log.write(f"{params['x']}\n")
        return float(params["x"])

    methods = [Grid(), Random(trials=20), PSO(particles=5, generations=6), AsyncPSO(particles=4, generations=7)]
    store = Store(str(tmp_path / "swarm.db"))
    writing = ThreadPoolExecutor(1)  # so that slots change while a search writes
    async with embedded(make_slots(slots=1 + seed % 3)) as client, slots_of(client) as slots:

        async def search(number: int, share: Share) -> Search:
            low = rng.randrange(10)
            space = {"x": Integer(low, low + rng.randint(19, 30))}
            job = job_of(train, name=f"job-{number}", space=space, optimizer=methods[number % 4], seed=number)
            enroll(job, store)
            search = Search(job, store)
            pool = DaskPool(slots, job.code.pickle, share=share)
            slots.join(pool)  # and it stays when its search has ended
            await search.run(pool, thread=writing)
            return search

        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            searches = []
            for number in range(6):
                share = Share(weight=rng.choice([1, 2, 5]), most=rng.choice([None, 1, 2]), closed=rng.random() < 0.5)
                searches.append(group.create_task(search(number, share)))
                for _ in range(rng.randrange(200)):
                    await asyncio.sleep(0)
    assert all(task.result().state.finished() for task in searches)
    trained = (tmp_path / "log").read_text().split()
    assert len(trained) == len(set(trained)) > 20
    writing.shutdown()
    store.close()


async def test_a_search_that_has_ended_keeps_no_slot_from_others(tmp_path: Path) -> None:
    """Its turn would come first, since all that it asked for was trained on the other's account."""
    store = Store(str(tmp_path / "swarm.db"))
    spaces = {"paid": (0, 2), "same": (0, 2), "more": (5, 7)}
    searches = {}
    for name, ends in spaces.items():
        job = job_of(lambda params, ctx: 0.0, name=name, space={"x": Integer(*ends)}, optimizer=Grid())
        enroll(job, store)
        searches[name] = Search(job, store)
    problem = searches["paid"].job.code.pickle
    async with (
        embedded(make_slots(slots=1)) as client,
        slots_of(client) as slots,
        DaskPool(slots, problem) as one,
        DaskPool(slots, problem, share=Share(closed=True)) as other,
    ):
        await one.wait_for_slots(60)
        async with asyncio.timeout(60):
            await searches["paid"].run(one)
            await searches["same"].run(other)
            await searches["more"].run(one)
    assert other.share.seconds < one.share.seconds
    assert [search.state.told for search in searches.values()] == [3, 3, 3]
    store.close()


async def test_to_join_a_training_of_another_search_leaves_no_slot_idle(tmp_path: Path) -> None:
    """The first position's training ends when the second one is trained, which only the other search can begin."""

    def train(params: Any, ctx: Any) -> float:
        if params["x"] == 1:
            (tmp_path / "go").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return 0.0

    store = Store(str(tmp_path / "swarm.db"))
    searches = []
    for name in ("one", "two"):
        job = job_of(train, name=name, space={"x": Integer(0, 1)}, optimizer=Grid())
        enroll(job, store)
        searches.append(Search(job, store))
    problem = searches[0].job.code.pickle
    async with (
        embedded(make_slots(slots=2)) as client,
        slots_of(client) as slots,
        DaskPool(slots, problem, share=Share(most=1)) as one,
    ):
        while one.slots < 2:
            await one.next()
        first = asyncio.ensure_future(searches[0].run(one))
        while not searches[0].running:
            await asyncio.sleep(0)
        async with DaskPool(slots, problem, share=Share(most=1, closed=True)) as two, asyncio.timeout(60):
            await asyncio.gather(first, searches[1].run(two))
    assert [search.state.told for search in searches] == [2, 2]
    store.close()


async def test_a_slot_that_another_process_left_busy_is_offered_when_its_training_ends(tmp_path: Path) -> None:
    job, key = job_of(lambda params, ctx: 1.0), "0" * 40

    def train() -> None:
        while not (tmp_path / "go").exists():
            time.sleep(0.01)

    async with (
        embedded(make_slots(slots=1)) as client,
        slots_of(client) as slots,
        DaskPool(slots, job.code.pickle) as pool,
    ):
        await pool.wait_for_slots(60)
        left = client.submit(train, key=f"train-{key}", resources={pool.resource: 1})
        while not any(names for names in (await client.processing()).values()):
            pass
        slots.follow({key: [pool.resource]})
        assert pool.free() == 0
        topic, ended = slots.topic, {"result": Result(key=key, status=Status.OK, fitness=1.0).to_dict()}

        def announce(dask_worker: Any) -> None:
            dask_worker.log_event(topic, ended)

        await client.run(announce)
        async with asyncio.timeout(10):
            while not pool.free():
                await pool.next()
        (tmp_path / "go").touch()
        await left


@pytest.mark.slow
async def test_hopeless_trainings_are_ended_early_and_their_slots_are_free_at_once(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        accuracy = 1.0 - params["x"] / 10
        for epoch in range(3):
            ctx.report(epoch=epoch, accuracy=accuracy)
        if params["x"] > 3:
            time.sleep(100)  # many more epochs, if nobody stops them
        return float(accuracy)

    rule = {"metric": "accuracy", "after": 1, "trainings": 3}
    job = job_of(train, isolation="process", prune=rule, space={"x": Integer(0, 7)}, optimizer=Grid())
    store = Store(str(tmp_path / "swarm.db"))
    enroll(job, store)
    search = Search(job, store)
    async with pool_of(job, 2) as (_, pool):
        await search.run(pool)
    results = [event.data for event in store.events("job") if event.kind == "result"]
    pruned = [result for result in results if result["status"] == Status.PRUNED]
    assert sorted(result["fitness"] for result in pruned) == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert all(result["seconds"] < 5 for result in pruned)
    assert search.state.counts["pruned"] == 4
    assert search.state.best is not None
    assert search.state.best.params == {"x": 0}
    assert store.result(pruned[0]["key"]) is None  # no answer for other jobs
    store.close()


@pytest.mark.slow
async def test_one_jobs_pruning_ends_no_training_that_another_waits_for(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        for epoch in range(3):
            ctx.report(epoch=epoch, accuracy=1.0 - params["x"] / 10)
        time.sleep(0.5)  # the epochs that pruning would save
        return 100.0 + params["x"]

    rule = {"metric": "accuracy", "after": 1, "trainings": 3}
    changes: dict[str, Any] = {"isolation": "process", "space": {"x": Integer(0, 7)}, "optimizer": Grid()}
    jobs = [job_of(train, name="pruning", prune=rule, **changes), job_of(train, name="whole", **changes)]
    store = Store(str(tmp_path / "swarm.db"))
    for job in jobs:
        enroll(job, store)
    pruning, whole = (Search(job, store) for job in jobs)
    async with (
        embedded(make_slots(slots=2)) as client,
        slots_of(client) as slots,
        DaskPool(slots, jobs[0].code.pickle) as one,
        DaskPool(slots, jobs[1].code.pickle) as other,
        asyncio.timeout(120),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(pruning.run(one))
        group.create_task(whole.run(other))
    assert whole.state.told == pruning.state.told == 8
    assert whole.state.counts["pruned"] == whole.state.counts["failed"] == 0
    assert whole.state.best is not None
    assert whole.state.best.fitness == 107.0
    store.close()


async def test_nobody_else_on_this_machine_can_talk_to_the_embedded_cluster() -> None:
    from distributed.comm import connect
    from distributed.core import send_recv

    from swarm.cluster.certificates import temporary

    async with embedded(make_slots(slots=1)) as client:
        [(worker, known)] = (await client.scheduler.identity(n_workers=-1))["workers"].items()
        for address in (client.scheduler.address, worker, known["nanny"]):
            assert address.startswith("tls://127.0.0.1:")
            with pytest.raises(OSError):
                line = await connect(address.replace("tls://", "tcp://"), timeout=2)
                await asyncio.wait_for(send_recv(line, op="identity"), 5)
            with pytest.raises(OSError):
                line = await connect(address, timeout=2, **temporary().get_connection_args("client"))
                await asyncio.wait_for(send_recv(line, op="identity"), 5)
        assert client.dashboard_link.startswith("http://127.0.0.1:")
