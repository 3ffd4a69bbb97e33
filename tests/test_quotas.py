"""How much of the service one user may take, and all together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest
from test_master import job_of, job_of_two, mastered, raw, scheduler, worker

from swarm.client import Client
from swarm.config import settings
from swarm.errors import QuotaExceeded
from swarm.job.job import Job
from swarm.service.quotas import Backlog, Holdings, Quotas
from swarm.store import Store

QUOTAS = Quotas.of(settings())


def holdings(**limits: int) -> Holdings:
    return Holdings(replace(QUOTAS, **limits))


def test_a_user_has_so_many_jobs_and_others_have_theirs() -> None:
    held = holdings(max_jobs_per_user=2)
    for name in ("a", "b"):
        held.check("ann", b"")
        held.hold(name, "ann", b"")
    with pytest.raises(QuotaExceeded, match=r"2 jobs of 'ann'.*limit of 2 \(swarm.max-jobs-per-user\).*cancel JOB"):
        held.check("ann", b"")
    held.check("bob", b"")
    held.release("a")
    held.check("ann", b"")


def test_all_users_have_so_many_jobs_together() -> None:
    held = holdings(max_jobs=2)
    held.hold("a", "ann", b"")
    held.hold("b", "bob", b"")
    with pytest.raises(QuotaExceeded, match=r"there are 2 jobs that have not ended.*swarm.max-jobs\)"):
        held.check("eve", b"")


def test_code_counts_once_for_the_jobs_of_a_user_that_share_it() -> None:
    held = holdings(max_code_per_user=10, max_code=15)
    held.hold("a", "ann", b"six by")
    held.check("ann", b"six by")
    held.hold("b", "ann", b"six by")
    with pytest.raises(QuotaExceeded, match=r"6 bytes of code in jobs of 'ann'.*5 more.*max-code-per-user.*load"):
        held.check("ann", b"other")
    held.release("a")
    with pytest.raises(QuotaExceeded):
        held.check("ann", b"other")
    held.hold("c", "bob", b"six by")
    with pytest.raises(QuotaExceeded, match=r"12 bytes of code in jobs that have not ended.*swarm.max-code\)"):
        held.check("bob", b"four")
    held.release("b")
    held.check("ann", b"other")


def test_what_is_released_twice_or_never_was_there_counts_nothing() -> None:
    held = holdings(max_jobs=1, max_code=5)
    held.release("a")
    held.hold("a", "ann", b"12345")
    held.hold("a", "ann", b"12345")
    held.release("a")
    held.release("a")
    held.check("ann", b"54321")


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"max_requests_per_user": 2}, r"2 requests that wait for the master, of 'ann'.*swarm.max-requests-per-user"),
        ({"max_requests": 3}, r"3 requests that wait for the master,.*swarm.max-requests\)"),
        ({"max_request_bytes_per_user": 30}, r"30 bytes of requests.*of 'ann'.*swarm.max-request-bytes-per-user"),
        ({"max_request_bytes": 35}, r"35 bytes of requests.*swarm.max-request-bytes\)"),
    ],
)
def test_requests_wait_up_to_a_number_and_a_size(limits: dict[str, int], complaint: str) -> None:
    backlog = Backlog(replace(QUOTAS, **limits))
    with ExitStack() as waiting:
        for user, size in (("ann", 10), ("bob", 5), ("ann", 20)):
            waiting.enter_context(backlog.waiting(user, size))
        with pytest.raises(QuotaExceeded, match=complaint), backlog.waiting("ann", 1):
            pass
        assert len(backlog) == 3
    with backlog.waiting("ann", 30):
        assert len(backlog) == 1


# --- in the service


@contextmanager
def limits(**settings: Any) -> Iterator[None]:
    with dask.config.set({f"swarm.{name.replace('_', '-')}": value for name, value in settings.items()}):
        yield


async def test_a_job_beyond_the_limit_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    with limits(max_jobs_per_user=2):
        async with scheduler() as served, mastered(tmp_path, served.address):
            ann, bob = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "bob"))
            first = await ann.submit(job_of("a"))
            await (await ann.submit(job_of("b"))).pause()
            with pytest.raises(QuotaExceeded, match="max-jobs-per-user"):
                await ann.submit(job_of("c"))
            assert {state.name for state in await ann.jobs()} == {"a", "b"}
            assert (await (await ann.submit(job_of("a"))).state()).state == "active", "the same job is not one more"
            await bob.submit(job_of("d"))
            await first.cancel()
            await ann.submit(job_of("c"))
            with pytest.raises(QuotaExceeded):
                await ann.submit(job_of("a"))  # which would make it go on
            assert (await first.state()).state == "cancelled"
        async with scheduler() as served, mastered(tmp_path, served.address):
            with pytest.raises(QuotaExceeded, match="2 jobs of 'ann'"):  # the next master counts what it finds
                await Client(served.address, asynchronous=True, user="ann").submit(job_of("e"))


async def test_a_second_search_takes_the_place_of_the_first_and_ended_jobs_count_no_more(tmp_path: Path) -> None:
    with limits(max_jobs=1):
        async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
            client = Client(served.address, asynchronous=True)
            assert (await (await client.submit(job_of_two())).wait(timeout=60)).reason is None
            assert (await (await client.attach("job-then")).wait(timeout=60)).state == "finished"
            assert (await (await client.submit(job_of("next"))).state()).name == "next"


async def test_code_beyond_the_limit_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    class Carrying:
        def __init__(self, cargo: bytes) -> None:
            self.cargo = cargo

        def __call__(self, params: Any, ctx: Any) -> float:
            return 0.0

    def carrying(name: str, cargo: bytes) -> Job:
        return job_of(name, problem=Carrying(cargo * 50_000))

    with limits(max_code_per_user="80 kB"):
        async with scheduler() as served, mastered(tmp_path, served.address):
            client = Client(served.address, asynchronous=True)
            await client.submit(carrying("a", b"a"))
            await client.submit(carrying("same", b"a"))
            with pytest.raises(QuotaExceeded, match=r"swarm.max-code-per-user.*let trainings load their data"):
                await client.submit(carrying("b", b"b"))
    assert Store(f"{tmp_path}/swarm.db").names("") == {"a", "same"}


async def test_a_request_beyond_the_limit_is_refused_while_others_wait_and_taken_afterwards(tmp_path: Path) -> None:
    with limits(max_requests_per_user=2):
        async with scheduler() as served:
            await raw(served.address, op="swarm_attach", master="nobody", term=1)  # answers nothing

            def asked(user: str) -> asyncio.Future[Any]:
                call = {"op": "swarm_call", "method": "describe", "data": json.dumps({"name": "a"}), "user": user}
                return asyncio.ensure_future(raw(served.address, **call))

            waiting = [asked("ann"), asked("ann")]
            service = served.plugins["swarm"]
            while service.health()["requests"] < 2:
                await asyncio.sleep(0.01)
            kind, text = (await asked("ann"))["error"]
            assert (kind, "swarm.max-requests-per-user" in text) == ("QuotaExceeded", True)
            other = asked("bob")
            while service.health()["requests"] < 3:
                await asyncio.sleep(0.01)
            for number in await raw(served.address, op="swarm_beat", master="nobody"):
                await raw(served.address, op="swarm_reply", number=number, answer={"ok": "{}"})
            assert [await each for each in (*waiting, other)] == [{"ok": "{}"}] * 3
            again = asked("ann")
            while service.health()["requests"] < 1:
                await asyncio.sleep(0.01)
            assert not again.done()
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
