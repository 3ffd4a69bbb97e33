"""A search on Dask that is its user's: by client, cluster or address; adaptive clusters; and what stays as it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, Security, default_client

import swarm
from swarm import PSO, Grid, Integer, Job, run
from swarm.cluster.certificates import temporary
from swarm.cluster.connect import connected
from swarm.errors import InvalidInput, NoSlots


def train(params: Any, ctx: Any) -> float:
    return float(params["n"])


def a_job(name: str = "own", **changes: Any) -> Job:
    defaults = {"problem": train, "space": {"n": Integer(1, 3)}, "optimizer": Grid(), "isolation": "thread"}
    return Job(**{"name": name, **defaults, **changes})


@contextmanager
def cluster_of(workers: int = 1, **options: Any) -> Iterator[LocalCluster]:
    defaults = {"threads_per_worker": 1, "resources": {"GPU": 1}, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=workers, **{"processes": False, **defaults, **options}) as cluster:
        yield cluster


@pytest.fixture
def best(tmp_path: Path) -> Callable[..., float]:
    def found(job: Job, **where: Any) -> float:
        best = run(job, store=tmp_path / "own.db", progress=False, **where).best
        assert best is not None
        return best.fitness

    return found


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_client_and_a_cluster_stay_their_users_and_serve_one_search_after_another(
    best: Callable[..., float], processes: bool
) -> None:
    with cluster_of(threads_per_worker=2, resources={"GPU": 2}, processes=processes) as cluster:
        with Client(cluster) as client:
            assert best(a_job("one"), client=client) == 3
            assert best(a_job("two", version=2), scheduler=client) == 3
            assert best(a_job("three", version=3), scheduler=cluster) == 3
            assert best(a_job("four", version=4), scheduler=cluster.scheduler_address) == 3
            assert default_client() is client
            assert client.submit(lambda: 5).result() == 5
            assert dask.delayed(6).compute() == 6
        assert client.status == "closed"
    assert cluster.status.name == "closed"


def test_the_certificates_are_those_of_the_client_or_cluster(best: Callable[..., float]) -> None:
    security: Security = temporary()
    with cluster_of(protocol="tls", security=security) as cluster, Client(cluster) as client:
        assert best(a_job("one"), client=client) == 3
        assert best(a_job("two", version=2), scheduler=cluster) == 3
        assert swarm.Client(client).address == swarm.Client(cluster).address == cluster.scheduler_address


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("by", ["cluster", "address"])
def test_an_adaptive_cluster_starts_the_workers_that_a_search_has_use_for_and_ends_them(
    tmp_path: Path, by: str, processes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(params: Any, ctx: Any) -> float:
        from distributed import get_worker

        (tmp_path / f"worker-{get_worker().name}").touch()
        time.sleep(0.4)  # the training
        return float(params["n"])

    with cluster_of(0, processes=processes) as cluster:
        cluster.adapt(minimum=0, maximum=2, interval="100ms", target_duration="500ms")
        job = a_job(problem=slow, space={"n": Integer(1, 99)}, optimizer=PSO(particles=6, generations=2))
        where = cluster if by == "cluster" else cluster.scheduler_address
        run(job, scheduler=where, store=tmp_path / "own.db", progress=False)
        assert len(list(tmp_path.glob("worker-*"))) >= 2
        assert by == "address" or "waiting for workers" in caplog.text  # else they may be there before that is known
        while cluster.scheduler_info["workers"]:
            time.sleep(0.05)  # until the cluster has noticed; the test's time limit fails us if it never does


def test_workers_without_a_slot_are_refused_soon_with_the_remedy(best: Callable[..., float]) -> None:
    begun = time.monotonic()
    with (
        cluster_of(resources=None) as cluster,
        pytest.raises(NoSlots, match=r'no worker with a GPU slot.*resources=\{"GPU": 1\}'),
    ):
        best(a_job(), scheduler=cluster)
    assert time.monotonic() - begun < 60


def test_an_adaptive_cluster_whose_workers_have_no_slot_is_refused_too(best: Callable[..., float]) -> None:
    with cluster_of(0, resources=None) as cluster:
        cluster.adapt(minimum=0, maximum=1, interval="100ms")
        with pytest.raises(NoSlots, match="workers, but no worker with a GPU slot"):
            best(a_job(), scheduler=cluster)


def test_what_is_closed_asynchronous_or_no_scheduler_is_refused_before_anything_runs(tmp_path: Path) -> None:
    async def asynchronous() -> None:
        async with (
            LocalCluster(n_workers=0, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            for each in (cluster, client):
                with pytest.raises(InvalidInput, match="is asynchronous.*asynchronous=True"):
                    run(a_job(), scheduler=each, store=tmp_path / "none.db", progress=False)
            assert swarm.Client(client, asynchronous=True).address == cluster.scheduler_address

    asyncio.run(asynchronous())
    with (
        cluster_of(0) as cluster,
        Client(cluster) as client,
        pytest.raises(InvalidInput, match="scheduler= or client="),
    ):
        run(a_job(), scheduler=cluster, client=client, progress=False)
    for closed in (client, cluster):
        with pytest.raises(InvalidInput, match="is closed"):
            run(a_job(), scheduler=closed, store=tmp_path / "none.db", progress=False)
    for wrong in (8786, Client, object()):
        with pytest.raises(InvalidInput, match="a scheduler is given by its address"):
            run(a_job(), scheduler=wrong, store=tmp_path / "none.db", progress=False)  # type: ignore[arg-type]
    assert not (tmp_path / "none.db").exists()


def test_a_client_that_is_cancelled_amid_its_start_or_end_is_closed_all_the_same() -> None:
    left: list[str] = []

    async def cancelled(after: int) -> bool:
        """Whether the client was there already, when this was cancelled after so many turns of the loop."""
        reached = False

        async def use() -> None:
            nonlocal reached
            async with connected(address):
                reached = True

        task = asyncio.create_task(use())
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return reached and task.cancelled()

    async def each_moment(clients: list[Client]) -> None:
        after = 0
        while not await cancelled(after) and after < 5000:
            after = after * 5 // 4 + 1
        for more in range(12):
            await cancelled(after + more)
        left.extend(client.status for client in clients if client.status not in ("closed", "newly-created"))

    with cluster_of(0) as cluster, pytest.MonkeyPatch.context() as patch:
        address, made, start = cluster.scheduler_address, list[Client](), Client.start
        patch.setattr(Client, "start", lambda self, **options: (made.append(self), start(self, **options))[1])
        asyncio.run(each_moment(made))
    assert len(made) > 5
    assert left == []
