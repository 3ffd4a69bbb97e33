"""What a job's code costs where it is not needed, and what is said of code that is large."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from distributed import Worker
from test_master import mastered, scheduler, worker

from swarm import Integer, Job, Random, run
from swarm.client import Client
from swarm.config import quiet_dask
from swarm.job.stored_problem import Codes, advice
from swarm.pool.virtual import VirtualPool
from swarm.runner import Run, enroll, resume
from swarm.search import Search
from swarm.store import Store
from swarm.workers.problem import load

quiet_dask()
LARGE = 12_000_000  # bytes, above what Dask has a word to say on


def train(params: Any, ctx: Any) -> float:
    return float(params["x"])


def with_data(size: int) -> Any:
    data = bytes(size)

    def train(params: Any, ctx: Any) -> float:
        return float(params["x"] + len(data))

    return train


def job_of(name: str = "job", **changes: Any) -> Job:
    defaults = {"problem": train, "space": {"x": Integer(0, 9), "y": Integer(0, 9)}, "optimizer": Random(trials=3)}
    return Job(**{"name": name, "isolation": "thread", **defaults, **changes})


def without_code(file: Path) -> None:
    """Take the code out of a store, as who tries to read it then would notice."""
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM swarm_code"))
    engine.dispose()


def contents(file: Path) -> int:
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        found = int(connection.execute(sa.text("SELECT count(*) FROM swarm_code")).scalar_one())
    engine.dispose()
    return found


def searched(job: Job, file: Path) -> None:
    with closing(Store(str(file))) as store:
        enroll(job, store)
        asyncio.run(Search(job, store).run(VirtualPool(2, lambda evaluation: 1.0)))


def test_who_looks_at_a_run_reads_no_code(tmp_path: Path) -> None:
    file = tmp_path / "swarm.db"
    searched(job_of(), file)
    without_code(file)
    found = Run.load("job", str(file))
    assert found.counts["trained"] == 3 and found.job.code.name == "train" and len(found.history) == 3
    assert resume("job", store=str(file)).best == found.best  # it has ended: nothing is to be trained


def test_a_run_that_is_loaded_has_its_code_when_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "swarm.db"
    searched(job_of(problem=with_data(5)), file)
    found = Run.load("job", str(file))
    assert load(found.job.code.pickle)({"x": 1}, None) == 6.0
    again = Job.from_dict(found.job.to_dict(), found.job.code.pickle)
    assert again.to_dict() == found.job.to_dict() and again.code.pickle == found.job.code.pickle


def test_a_search_the_one_that_follows_and_the_same_job_again_have_one_code(tmp_path: Path) -> None:
    then = {"optimizer": {"name": "Random", "trials": 2}, "search": ["y"]}
    file = tmp_path / "swarm.db"
    job = job_of(problem=with_data(1000), then=then)
    found = run(job, slots=1, store=str(file), progress=False)
    assert found.before is not None and found.job.name == "job-then"
    run(job, slots=1, store=str(file), progress=False)
    run(job_of("other", problem=job.problem), slots=1, store=str(file), progress=False)
    assert contents(file) == 1
    with closing(Store(str(file))) as store:
        assert store.code("job") == store.code("job-then") == store.code("other")


def test_jobs_of_one_content_share_its_bytes_for_as_long_as_one_of_them_is_there(tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "swarm.db"))) as store:
        for name, code in (("a", b"same" * 100), ("b", b"same" * 100), ("c", b"other")):
            store.add_job(name, {}, code)
        codes = Codes(store)
        one, other, third = codes.of("a"), codes.of("b"), codes.of("c")
        assert one() is other() and third() == b"other"
        del one, other
        gc.collect()
        assert list(codes._known.values()) == [third]
        assert codes.of("a")() == b"same" * 100


async def test_a_master_reads_no_code_of_jobs_that_have_ended(tmp_path: Path) -> None:
    async with scheduler() as one:
        client = Client(one.address, asynchronous=True)
        async with mastered(tmp_path, one.address), worker(one.address):
            handle = await client.submit(job_of(problem=with_data(1000)))
            assert (await handle.wait(timeout=60)).state == "finished"
        without_code(tmp_path / "swarm.db")
        async with mastered(tmp_path, one.address):
            [state] = await client.jobs()
            assert (state.state, state.told) == ("finished", 3)


async def test_a_master_holds_the_code_of_its_jobs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []
    monkeypatch.setattr("swarm.service.hosted.DaskPool", _noting(given))
    async with scheduler() as one, mastered(tmp_path, one.address), worker(one.address):
        client, train = Client(one.address, asynchronous=True), with_data(100_000)
        jobs = [job_of(f"job-{number}", problem=train, seed=number) for number in range(4)]
        handles = [await client.submit(job) for job in jobs]
        for handle in handles:
            assert (await handle.wait(timeout=60)).state == "finished"
    assert len(given) == 4 and len({id(code) for code in given}) == 1


def _noting(given: list[bytes]) -> Any:
    from swarm.pool.dask_pool import DaskPool

    class Noting(DaskPool):
        def __init__(self, slots: Any, problem: bytes, **options: Any) -> None:
            given.append(problem)
            super().__init__(slots, problem, **options)

    return Noting


def test_large_code_is_worth_one_line_that_says_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    then = {"optimizer": {"name": "Random", "trials": 2}, "search": ["y"]}
    job = job_of(problem=with_data(LARGE), then=then)
    with caplog.at_level(logging.WARNING, "swarm"):  # and Dask says nothing: a warning would be an error here
        found = run(job, slots=1, store=str(tmp_path / "swarm.db"), progress=False)
    assert found.before is not None and found.before.counts["trained"] == 3
    [record] = [each for each in caplog.records if each.name.startswith("swarm")]
    assert "job 'job' carries 12 MB" in record.message and "prepare()" in record.message


def test_small_code_is_not_worth_a_word() -> None:
    assert advice("job", bytes(10_000_000)) is None
    assert "carries 10 MB" in (advice("job", bytes(10_000_001)) or "")


async def test_a_client_says_so_when_it_submits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with scheduler() as one, mastered(tmp_path, one.address):
        started: Worker = worker(one.address)
        async with started:
            client = Client(one.address, asynchronous=True)
            with caplog.at_level(logging.WARNING, "swarm.client"):
                handle = await client.submit(job_of(problem=with_data(LARGE)))
            assert (await handle.wait(timeout=60)).state == "finished"
    assert [each.message for each in caplog.records if "carries 12 MB" in each.message]
