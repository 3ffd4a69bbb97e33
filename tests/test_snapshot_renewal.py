"""A master renews the snapshots of the jobs that it runs, and the next one begins where they end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_master import job_of, mastered, scheduler, worker

from swarm import PSO, Integer, Job
from swarm.client import Client
from swarm.errors import StoreUnavailable
from swarm.search.state import SearchState
from swarm.service import hosted, snapshots
from swarm.store import Event, Store

SPACE = {"x": Integer(0, 10**6)}
EVERY = 10


def gated(folder: Path, until: int) -> Any:
    """A training of which each after so many waits until a file is there."""

    def train(params: Any, ctx: Any) -> float:
        import time

        with (folder / "begun").open("a") as log:
            log.write(".")
        while (folder / "begun").stat().st_size > until and not (folder / "open").exists():
            time.sleep(0.02)
        return float(params["x"])

    return train


def many(folder: Path, name: str = "job") -> Job:
    method = PSO(particles=4, generations=8)  # each position depends on all that came before
    return job_of(name, problem=gated(folder, 28), space=SPACE, optimizer=method, isolation="thread")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots are renewed after few events."""
    monkeypatch.setattr(hosted, "EVERY", EVERY)
    monkeypatch.setattr(snapshots.Snapshots.__init__, "__defaults__", (EVERY,))


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many events of each job were replayed one by one."""
    found: Counter[str] = Counter()
    replay = SearchState.replay

    def noted(self: SearchState, event: Event) -> None:
        found[self.job.name] += 1
        replay(self, event)

    monkeypatch.setattr(SearchState, "replay", noted)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "swarm.db")) as opened:
        yield opened


async def told(client: Client, trials: int, name: str = "job") -> None:
    while (await (await client.attach(name)).state()).told < trials:
        await asyncio.sleep(0.02)


async def kept(store: Store, events: int, name: str = "job") -> snapshots.Snapshot:
    """The snapshot of a job, once it stands for so many events."""
    while (found := await asyncio.to_thread(store.snapshot, name)) is None or found.events < events:
        await asyncio.sleep(0.02)
    return found


async def test_a_snapshot_is_renewed_while_a_job_runs_and_the_next_master_goes_on_from_it(
    tmp_path: Path, store: Store, replays: Counter[str]
) -> None:
    async with scheduler() as served, worker(served.address):
        client = Client(served.address, asynchronous=True)
        async with mastered(tmp_path, served.address):
            await client.submit(many(tmp_path))
            first = await kept(store, EVERY)
            later = await kept(store, first.events + 1)
            await told(client, 28)
        renewals = replays["job"]
        written = store.length("job")
        newest = await kept(store, later.events)
        assert renewals <= newest.events, "a renewal replays what is new alone"
        replays.clear()
        async with mastered(tmp_path, served.address):
            (tmp_path / "open").touch()
            state = await (await client.attach("job")).wait(timeout=240)
            assert (state.state, state.told) == ("finished", 36)
    assert replays["job"] < written - EVERY, "the next master has not replayed what the snapshot knows"
    assert store.snapshot("job") is None, "which leaves with the end of the job"


async def test_a_search_from_a_renewed_snapshot_ends_as_one_that_nobody_has_disturbed(tmp_path: Path) -> None:
    async def found(folder: Path, terms: int) -> Any:
        folder.mkdir()
        async with scheduler() as served, worker(served.address):
            client = Client(served.address, asynchronous=True)
            for term in range(terms):
                async with mastered(folder, served.address):
                    if not term:
                        await client.submit(many(folder))
                    if term + 1 < terms:
                        await told(client, 12 * (term + 1))
                        continue
                    (folder / "open").touch()
                    handle = await client.attach("job")
                    await handle.wait(timeout=240)
                    events = [event.data for event in await handle.events() if event.kind == "asked"]
        return events

    def of(events: list[Any]) -> list[Any]:
        return [[each["id"], each["params"]] for each in events]

    assert of(await found(tmp_path / "three", 3)) == of(await found(tmp_path / "one", 1))


async def test_a_snapshot_that_is_lost_or_cannot_be_kept_costs_a_longer_replay_and_nothing_else(
    tmp_path: Path, store: Store, replays: Counter[str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def full(*_: Any) -> None:
        raise StoreUnavailable("the disk is full")

    async with scheduler() as served, worker(served.address):
        client = Client(served.address, asynchronous=True)
        async with mastered(tmp_path, served.address):
            await client.submit(many(tmp_path))
            await kept(store, EVERY)
            with store._engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM swarm_snapshots")
            monkeypatch.setattr(Store, "keep_snapshot", full)
            await told(client, 28)
        replays.clear()
        written = store.length("job")
        async with mastered(tmp_path, served.address):
            (tmp_path / "open").touch()
            state = await (await client.attach("job")).wait(timeout=240)
            assert (state.state, state.told) == ("finished", 36)
    assert "no snapshot is kept" in caplog.text
    assert replays["job"] >= written


async def test_one_snapshot_of_a_job_is_renewed_at_a_time_and_never_beside_a_replay(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = Counter[str](), Counter[str]()
    replay = snapshots.Snapshots.replay

    def noted(self: Any, job: Job, *arguments: Any) -> Any:
        if store.length(job.name):
            under_way["all"] += 1
            most["all"] = max(most["all"], under_way["all"])
            most[job.name] += 1
        try:
            return replay(self, job, *arguments)
        finally:
            under_way["all"] -= 1 if most[job.name] else 0

    monkeypatch.setattr(snapshots.Snapshots, "replay", noted)
    (tmp_path / "open").touch()
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        handles = [await client.submit(many(tmp_path, name)) for name in ("one", "two")]
        for handle in handles:
            assert (await handle.wait(timeout=240)).state == "finished"
    assert most["one"] >= 2 and most["two"] >= 2
    assert most["all"] == 1
