"""Short trainings: the next one waits beside each that runs, and nothing else changes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from swarm import PSO, AsyncPSO, Job, Random, Real
from swarm.cluster.connect import embedded, pool_on, slots_of
from swarm.config import quiet_dask
from swarm.pool.ahead import Ahead
from swarm.pool.dask_pool import DaskPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Evaluation, Result, Status
from swarm.workers.node.supervisor import make_slots

quiet_dask()


def trainings(seconds: float, gap: float, number: int = 30) -> list[Result]:
    return [
        Result(key=str(i), status=Status.OK, fitness=0.0, slot="one", seconds=seconds,
               start=i * (seconds + gap), end=i * (seconds + gap) + seconds)
        for i in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "gap", "pays"), [(0.15, 0.015, True), (0.15, 0.005, False), (60, 0.015, False)])
def test_it_pays_for_trainings_shorter_than_twenty_gaps(seconds: float, gap: float, pays: bool) -> None:
    known = Ahead()
    assert not known.pays()
    for result in trainings(seconds, gap):
        known.note(result)
        known.pays()
    assert known.pays() is pays


def test_it_still_pays_once_the_gaps_are_short_for_that_very_reason() -> None:
    known = Ahead()
    for result in trainings(0.1, 0.02):
        known.note(result)
    assert known.pays()
    for result in trainings(0.1, 0.0, 200):
        known.note(result)
    assert known.pays()


class Watched:
    """A pool on which a search runs, and the most that was in flight."""

    def __init__(self, pool: DaskPool) -> None:
        self.most = 0
        self.bars: list[tuple[str, float, float]] = []
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def submit(self, evaluations: Sequence[Evaluation]) -> None:
        self._pool.submit(evaluations)
        self.most = max(self.most, self._pool.share.used)


def locking(folder: Path) -> Any:
    """A short training that fails if another one has its slot."""

    def train(params: Any, ctx: Any) -> float:
        import fcntl

        with (folder / os.environ.get("SWARM_SLOT", "only")).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(0.005)  # the training
        return float(params["x"])

    return train


def bars(dask_scheduler: Any) -> list[tuple[str, float, float]]:
    """What the page of slots shows of the trainings that have ended: slot, start and end."""
    board = dask_scheduler.plugins["swarm"].board
    return sorted((bar.slot, bar.start, bar.end) for bar in board.bars if bar.end is not None)


async def searched(job: Job, folder: Path, slots: int) -> tuple[Search, Watched]:
    store = Store(str(folder / "ahead.db"))
    enroll(job, store)
    async with embedded(make_slots(slots=slots)) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        watched, search = Watched(pool), Search(job, store)
        await search.run(watched)
        watched.bars = await client.run_on_scheduler(bars)
    store.close()
    return search, watched


def a_job(folder: Path, optimizer: Any, **changes: Any) -> Job:
    defaults = {"name": "ahead", "space": {"x": Real(0, 1)}, "isolation": "thread", "seed": 3}
    return Job(**{**defaults, "problem": locking(folder), "optimizer": optimizer, **changes})


@pytest.mark.parametrize("optimizer", [PSO(particles=20, generations=7), Random(trials=160)], ids=["pso", "random"])
async def test_one_waits_beside_each_and_slots_are_not_shared_and_each_is_trained_once(
    tmp_path: Path, optimizer: Any
) -> None:
    search, watched = await searched(a_job(tmp_path, optimizer), tmp_path, 2)
    assert search.state.counts == {"trained": 160, "archive": 0, "in_flight": 0, "failed": 0}
    assert 2 < watched.most <= 4
    assert len(watched.bars) >= 158  # the end of the last ones may not have come yet
    assert {slot for slot, _, _ in watched.bars} != {""}
    for (slot, _, end), (following, start, _) in pairwise(watched.bars):  # what waits is shown when it begins
        assert slot != following or start >= end


async def test_a_method_that_is_asked_late_on_one_slot_is_asked_as_late_as_ever(tmp_path: Path) -> None:
    search, watched = await searched(a_job(tmp_path, AsyncPSO(particles=8, generations=7)), tmp_path, 1)
    assert search.state.counts["failed"] == 0
    assert watched.most == 1


async def test_what_waits_is_recalled_and_not_blamed_when_the_worker_dies(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        with (tmp_path / "log").open("a") as log:
            log.write(f"{params['x']}\n")
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return float(params["x"])

    job = a_job(tmp_path, Random(trials=4), problem=train)
    evaluations = [Evaluation.of(job.code.fingerprint, {"x": float(x)}, isolation="thread") for x in range(4)]
    async with (
        embedded(make_slots(slots=2)) as client,
        slots_of(client) as slots,
        DaskPool(slots, job.code.pickle) as pool,
    ):
        await pool.wait_for_slots(60)
        pool.submit(evaluations)
        while not (tmp_path / "log").exists() or len((tmp_path / "log").read_text().splitlines()) < 2:
            await asyncio.sleep(0.01)
        worker = next(iter((await client.run(os.getpid)).values()))
        os.kill(worker, signal.SIGKILL)
        ended: list[Result] = []
        while len(ended) < 4:
            ended += await pool.next()
        assert {(each.status, each.blamed) for each in ended} == {(Status.LOST, False)}
        (tmp_path / "log").unlink()
        await pool.wait_for_slots(60)
        pool.submit(evaluations)
        while not (tmp_path / "log").exists() or len((tmp_path / "log").read_text().splitlines()) < 2:
            await asyncio.sleep(0.01)
        await pool.cancel()
        (tmp_path / "go").touch()
        pool.submit(evaluations[:1])  # has its slot at once: nothing waits before it
        ended = []
        while not ended:
            ended += await pool.next()
        assert ended[0].key == evaluations[0].key
        assert len((tmp_path / "log").read_text().splitlines()) <= 3  # those that waited were never called
