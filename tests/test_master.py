"""Scheduler, master and client in one process: what is refused, who may do what, and what TLS adds."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from distributed import Client as DaskClient
from distributed import Scheduler, Security, Worker
from distributed.core import connect, send_recv

from swarm import Grid, Integer, Job, Random, SurrogatePSO
from swarm.client import Client
from swarm.cluster.connect import forgetting, slots_of
from swarm.config import quiet_dask
from swarm.errors import InvalidInput, NoMaster, NotAllowed
from swarm.service.inbox import Inbox
from swarm.service.master import Master, Places
from swarm.service.protocol import RESULTS
from swarm.store import State, Store, Submission
from swarm.workers.checkpoints.checkpoint import CheckpointStore

quiet_dask()
MAKE_CERTIFICATES = Path(__file__).parent.parent / "deploy" / "make-certificates"


@asynccontextmanager
async def scheduler(security: Security | None = None) -> AsyncIterator[Scheduler]:
    options = {"protocol": "tls", "security": security} if security else {}
    async with Scheduler(
        host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", preload=["swarm.scheduler"], **options
    ) as started:
        yield started


@asynccontextmanager
async def mastered(folder: Path, address: str, security: Security | None = None, **options: Any) -> AsyncIterator[None]:
    """A master in office, without workers."""
    store = options.pop("store", None) or Store(f"{folder}/swarm.db")
    assert store.lease("here", 60)
    async with (
        DaskClient(address, asynchronous=True, security=security) as client,
        slots_of(client, topic=RESULTS, outlive=True) as slots,
    ):
        master = Master(
            client,
            slots,
            store,
            holder="here",
            **{"unfit": lambda _: asyncio.sleep(0, None), "places": Places(), "forgetting": forgetting, **options},
        )
        serving = asyncio.ensure_future(master.run())
        while not (await Client(address, asynchronous=True, security=security).hello())["master"]:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    store.close()


def worker(address: str) -> Worker:
    """A machine with one slot, in this process."""
    return Worker(address, nthreads=1, resources={"GPU": 1}, dashboard=False, dashboard_address="127.0.0.1:0")


def job_of(name: str = "job", **changes: Any) -> Job:
    defaults = {"problem": lambda params, ctx: 0.0, "space": {"x": Integer(0, 9)}, "optimizer": Random(trials=3)}
    return Job(**{"name": name, **defaults, **changes})


def job_of_two() -> Job:
    """A job that finds x = 1, y = 1, and is followed by a second search; all in this process."""

    def train(params: Any, ctx: Any) -> float:
        return float(params["x"] + params["y"])

    space = {"x": Integer(0, 1), "y": Integer(0, 1)}
    then = {"optimizer": {"name": "Random", "trials": 2}, "search": ["y"]}
    return job_of(problem=train, space=space, optimizer=Grid(), isolation="thread", then=then)


class Saving:
    """A training whose checkpoint may be continued; it does to the folder of the checkpoints what it is told to."""

    resumable = True

    def __init__(self, spoil: Callable[[], None] = lambda: None) -> None:
        self.spoil = spoil

    def __call__(self, params: Any, ctx: Any) -> float:
        import numpy as np

        ctx.save({"w": np.zeros(1)})
        self.spoil()
        return float(params["x"])


def saving(problem: Saving, trials: int) -> Job:
    """A job that lets go of almost all its checkpoints, all in this process."""
    space = {"x": Integer(0, 999)}
    return job_of(problem=problem, space=space, optimizer=Random(trials=trials), isolation="thread", test=False)


class Slow:
    """A storage that begins to delete, and goes on when its gate is opened."""

    def __init__(self) -> None:
        self.begun, self.gate = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, place: str | None) -> Callable[[list[str]], None]:
        def delete(keys: list[str]) -> None:
            self._loop.call_soon_threadsafe(self.begun.set)
            assert self.gate.wait(20)
            forgetting(place)(keys)

        return delete


async def raw(address: str, **message: Any) -> Any:
    """What anybody could send who reaches the port."""
    comm = await connect(address)
    try:
        return await send_recv(comm, **message)
    finally:
        await comm.close()


async def test_malformed_and_oversized_requests_are_refused_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="swarm")
    with dask.config.set({"swarm.max-submission": "1 kB"}):
        async with scheduler() as served, mastered(tmp_path, served.address):
            client = Client(served.address, asynchronous=True)
            for malformed in ({"data": {"spec": {}}}, {"blob": ["x"]}, {"method": 7}, {"user": b"x"}):
                answer = await raw(served.address, **{"op": "swarm_call", "method": "submit", **malformed})
                assert answer["error"][0] == "InvalidInput"
            assert "malformed request" in caplog.text
            with pytest.raises(InvalidInput, match=r"MB, the limit is 0.0 MB: let the training load"):
                await client.submit(job_of())
            assert "refused a request of" in caplog.text
            for method, data in (("submit", "no json"), ("explode", "{}"), ("cancel", json.dumps({"name": 3}))):
                answer = await raw(served.address, op="swarm_call", method=method, data=data)
                assert answer["error"][0] == "InvalidInput"
            assert (await client.hello())["master"]
            assert await client.jobs() == []


async def test_ended_jobs_are_listed_by_the_page_and_found_by_name(tmp_path: Path) -> None:
    with closing(Store(f"{tmp_path}/swarm.db")) as store:
        for number in range(250):
            state = State.FAILED if number % 2 else State.FINISHED
            submission = Submission(f"old-{number}", "ann", state=state, ended=float(number + 1))
            store.submit(submission, {**job_of(f"old-{number}").to_dict(), "name": f"old-{number}"}, b"")
    async with scheduler() as served, mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        await client.submit(job_of("new"))
        assert [each.name for each in await client.jobs(limit=2)] == ["old-248", "old-249", "new"]
        assert [each.name for each in await client.jobs(2, "failed")] == ["old-247", "old-249"]
        assert [each.name for each in await client.jobs(state="active")] == ["new"]
        assert len(await client.jobs()) == 101 and len(await client.jobs(limit=None)) == 251
        assert await client.counts() == {"active": 1, "failed": 125, "finished": 125}
        served.plugins["swarm"]._states.clear()  # of what has ended, a scheduler may forget most
        found = await client.attach("old-3")
        assert (await found.state()).state == "failed"
        with pytest.raises(InvalidInput, match="a job is active, paused, finished, cancelled, failed, not 'ended'"):
            await client.jobs(state="ended")
        with pytest.raises(InvalidInput, match="limit is -1"):
            await client.jobs(limit=-1)


async def test_a_master_deletes_jobs_that_ended_longer_ago_than_they_are_kept(tmp_path: Path) -> None:
    with closing(Store(f"{tmp_path}/swarm.db")) as store:
        for number in range(30):
            submission = Submission(f"old-{number}", "ann", state=State.FINISHED, ended=float(number + 1))
            store.submit(submission, job_of(f"old-{number}").to_dict(), b"")
        store.submit(Submission("late", "ann", state=State.FINISHED, ended=time.time()), job_of("late").to_dict(), b"")
        store.add_job("own", job_of("own").to_dict(), b"")  # a run of somebody's own is not the service's
        async with scheduler() as served, mastered(tmp_path, served.address, keep_ended=3600.0):
            client = Client(served.address, asynchronous=True)
            await client.submit(job_of("new"))
            while len(store.names("old")) > 0:
                await asyncio.sleep(0.01)
            assert [each.name for each in await client.jobs()] == ["late", "new"]
        assert store.names("") == {"late", "new", "own"}


async def test_a_master_takes_office_with_a_store_that_was_restored_from_a_backup(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = tmp_path / "later"
    later.mkdir()
    with closing(Store(f"{later}/swarm.db")) as store:
        for number in range(5):
            assert store.lease(f"master {number}", 0)
    async with scheduler() as served:
        async with mastered(later, served.address):
            assert (await Client(served.address, asynchronous=True).hello())["term"] == 6
        async with mastered(tmp_path, served.address):
            client = Client(served.address, asynchronous=True)
            assert (await client.hello())["term"] == 6
            assert (await (await client.submit(job_of())).state()).state == "active"
    assert "term 1 is behind term 6" in caplog.text


async def test_only_the_owner_and_administrators_may_change_a_job(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address, admins=["root"]):
        ann, bob, root = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "bob", "root"))
        handle = await ann.submit(job_of())
        for change in ("cancel", "pause", "share"):
            with pytest.raises(NotAllowed, match="belongs to 'ann', and you are 'bob'"):
                await getattr(await bob.attach("job"), change)()
        assert (await (await root.attach("job")).pause()).state == "paused"
        assert (await handle.cancel()).state == "cancelled"
        with pytest.raises(NotAllowed):
            await bob.submit(job_of())  # which would make it go on
        assert await (await ann.submit(job_of())).status == "active"


async def test_a_cancelled_job_that_goes_on_is_not_shown_as_cancelled_again(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address):
        handle = await Client(served.address, asynchronous=True).submit(job_of())
        await handle.cancel()
        await Client(served.address, asynchronous=True).submit(job_of())
        shown = []
        for _ in range(10):  # across several rounds of the master's reports
            shown.append(await handle.status)
            await asyncio.sleep(0.1)
        assert shown == ["active"] * 10


async def test_without_a_master_the_service_says_what_to_start(tmp_path: Path) -> None:
    async with scheduler() as served:
        client = Client(served.address, asynchronous=True, patience=0)
        assert (await client.hello())["master"] is False
        for ask in (client.jobs, lambda: client.submit(job_of())):
            with pytest.raises(NoMaster, match="start one: swarm master"):
                await ask()


async def test_with_certificates_their_names_are_the_owners(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run([MAKE_CERTIFICATES, tmp_path, "ann", "bob"], check=True, capture_output=True)

    def security(owner: str) -> Security:
        comm = yaml.safe_load((tmp_path / owner / "tls.yaml").read_text())["distributed"]["comm"]
        with dask.config.set({"distributed.comm": dask.config.merge(dask.config.get("distributed.comm"), comm)}):
            return Security()

    async with scheduler(security("scheduler")) as served:
        async with mastered(tmp_path, served.address, security("master")):
            ann = Client(served.address, asynchronous=True, security=security("ann"), user="somebody-else")
            bob = Client(served.address, asynchronous=True, security=security("bob"), user="ann")
            handle = await ann.submit(job_of())
            assert (await handle.state()).owner == "ann"
            with pytest.raises(NotAllowed, match="you are 'bob'"):
                await (await bob.attach("job")).cancel()
            comm = await connect(served.address, **security("bob").get_connection_args("client"))
            with pytest.raises(PermissionError, match="swarm-master"):
                await send_recv(comm, op="swarm_attach", master="bob's", term=99)
            await comm.close()
        with pytest.raises(InvalidInput, match="you have no certificate: set"):
            Client(served.address)


async def test_checkpoints_that_cannot_be_deleted_stay_and_the_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"

    def spoil() -> None:
        for save in folder.glob("*.partial*"):  # a folder of its name cannot be deleted like a file
            Path(folder, f"{save.name.partition('.')[0]}.folder").mkdir(exist_ok=True)

    places = Places(checkpoints=str(folder))
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address, places=places):
        client = Client(served.address, asynchronous=True)
        state = await (await client.submit(saving(Saving(spoil), trials=60))).wait(timeout=60)
        assert (state.state, state.told, state.counts["failed"]) == ("finished", 60, 0)
        assert (await client.hello())["master"]
    refused = [record for record in caplog.records if "cannot be deleted, and stay" in record.getMessage()]
    assert len(refused) == 1
    assert "job job: checkpoints that nobody needs" in refused[0].getMessage()


async def test_the_search_does_not_wait_for_deletions_but_its_end_does(tmp_path: Path) -> None:
    slow = Slow()
    kept = CheckpointStore(str(tmp_path / "checkpoints"))
    options = {"places": Places(checkpoints=str(tmp_path / "checkpoints")), "forgetting": slow}
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address, **options):
        handle = await Client(served.address, asynchronous=True).submit(saving(Saving(), trials=60))
        await slow.begun.wait()
        while (await handle.state()).told < 60:
            await asyncio.sleep(0.01)
        assert len(kept.keys()) == 60
        assert await handle.status == "active"
        slow.gate.set()
        assert (await handle.wait(timeout=60)).state == "finished"
        assert len(kept.keys()) == 1


async def test_neither_cancelling_nor_the_end_of_the_master_waits_for_deletions(tmp_path: Path) -> None:
    slow = Slow()
    options = {"places": Places(checkpoints=str(tmp_path / "checkpoints")), "forgetting": slow}
    async with scheduler() as served, worker(served.address):
        async with asyncio.timeout(15), mastered(tmp_path, served.address, **options):  # less than the storage takes
            handle = await Client(served.address, asynchronous=True).submit(saving(Saving(), trials=900))
            await slow.begun.wait()
            assert (await handle.cancel()).state == "cancelled"
        slow.gate.set()


async def test_a_job_whose_checkpoints_can_be_nowhere_fails_with_the_reason(tmp_path: Path) -> None:
    places = Places(checkpoints="nowhere://bucket")
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address, places=places):
        handle = await Client(served.address, asynchronous=True).submit(saving(Saving(), trials=3))
        state = await handle.wait(timeout=60)
    assert (state.state, state.told) == ("failed", 0)
    assert "checkpoints of job 'job' cannot be at nowhere://bucket: Protocol not known: nowhere" in state.reason


async def test_a_job_that_names_no_method_ponders_beside_the_loop_of_the_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, plan = set(), SurrogatePSO._plan

    def noted(self: SurrogatePSO) -> Any:
        threads.add(threading.current_thread().name.partition("_")[0])
        return plan(self)

    monkeypatch.setattr(SurrogatePSO, "_plan", noted)
    space, stop = {"x": Integer(0, 99), "y": Integer(0, 99)}, {"evaluations": 14}
    job = job_of(problem=lambda params, ctx: params["x"], space=space, optimizer=None, stop=stop, isolation="thread")
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        handle = await Client(served.address, asynchronous=True).submit(job)
        state = await handle.wait(timeout=60)
    assert (state.state, state.told) == ("finished", 14)
    assert "swarm-asks" in threads and threads <= {"swarm-asks", "swarm-jobs"}


async def test_a_second_search_whose_name_is_taken_is_not_begun_and_the_first_says_so(tmp_path: Path) -> None:
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        assert (await (await client.submit(job_of("job-then", isolation="thread"))).wait(timeout=60)).reason is None
        state = await (await client.submit(job_of_two())).wait(timeout=60)
        assert (state.state, state.told) == ("finished", 4)
        assert state.reason.startswith("its second search was not begun: there is another job named 'job-then'")
        assert {each.name for each in await client.jobs()} == {"job-then", "job"}


async def test_a_second_search_that_is_somebody_elses_is_left_alone_and_the_first_says_so(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address):
        ann, bob = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "bob"))
        theirs = await bob.submit(job_of_two().following({"x": 1, "y": 1}))
        await theirs.cancel()
        handle = await ann.submit(job_of_two())
        async with worker(served.address):
            state = await handle.wait(timeout=60)
        assert state.state == "finished"
        assert state.reason.startswith("its second search was not begun: job 'job-then' belongs to 'bob'")
        assert await theirs.status == "cancelled"


async def test_a_second_search_has_the_share_that_the_first_has_at_its_end(tmp_path: Path) -> None:
    async with scheduler() as served:
        client = Client(served.address, asynchronous=True)
        async with mastered(tmp_path, served.address):
            handle = await client.submit(job_of_two(), most=2)
            await handle.pause()
        async with mastered(tmp_path, served.address):
            await handle.resume()
            await handle.share(priority=7.0, most=5)
            async with worker(served.address):
                assert (await handle.wait(timeout=60)).reason is None
                state = await (await client.attach("job-then")).wait(timeout=60)
    assert (state.state, state.told, state.priority, state.most) == ("finished", 2, 7.0, 5)


async def test_a_master_takes_office_where_others_have_tasks_that_take_slots(tmp_path: Path) -> None:
    async with scheduler() as served, DaskClient(served.address, asynchronous=True) as other:
        theirs = other.submit(sum, [1, 2], key=("chunk", 0), resources={"GPU": 1})  # arrays of Dask have such keys
        while ("chunk", 0) not in served.tasks or served.tasks["chunk", 0].state != "no-worker":
            await asyncio.sleep(0.01)
        async with mastered(tmp_path, served.address):
            handle = await Client(served.address, asynchronous=True).submit(job_of(isolation="thread"))
            async with worker(served.address):
                assert (await handle.wait(timeout=60)).told == 3
                assert await theirs == 3


async def test_while_the_workers_are_looked_at_for_one_job_others_have_its_slots(tmp_path: Path) -> None:
    looking, gate = asyncio.Event(), asyncio.Event()

    async def unfit(requirements: list[str]) -> None:
        if "numpy>=1" in requirements:
            looking.set()
            await gate.wait()

    async with (
        scheduler() as started,
        worker(started.address),
        mastered(tmp_path, started.address, unfit=unfit),
    ):
        client = Client(started.address, asynchronous=True)
        first = await client.submit(job_of("first", requirements=["numpy>=1"], isolation="thread"))
        await looking.wait()
        second = await client.submit(job_of("second", isolation="thread"))
        assert (await second.wait(timeout=20)).state == "finished"
        assert (await first.state()).told == 0
        gate.set()
        assert (await first.wait(timeout=20)).state == "finished"


async def test_a_limit_that_no_training_fits_into_is_refused(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        remedy = r"takes 3 slots, its replicas, and it may use 2: give --max-slots 3 \(in Python, most=3\) or more"
        with pytest.raises(InvalidInput, match=remedy):
            await client.submit(job_of(replicas=3), most=2)
        assert await client.jobs() == []
        handle = await client.submit(job_of(replicas=3), most=3)
        with pytest.raises(InvalidInput, match=remedy):
            await handle.share(priority=4.0, most=2)
        state = await handle.state()
        assert (state.priority, state.most) == (1.0, 3)
        assert (await handle.share(most=0)).most is None


async def test_a_retry_is_not_answered_by_what_a_suspended_master_still_wants(tmp_path: Path) -> None:
    """Dask keeps a result for as long as any client wants it."""

    def train() -> int:
        with (tmp_path / "log").open("a") as log:
            log.write("trained\n")
        return len((tmp_path / "log").read_text().split())

    async with (
        scheduler() as started,
        worker(started.address),
        DaskClient(started.address, asynchronous=True) as suspended,
        DaskClient(started.address, asynchronous=True) as successor,
    ):
        await suspended.scheduler.swarm_attach(master=suspended.id, term=1)
        first = suspended.submit(train, key="train-key", pure=False)
        assert await first == 1
        await successor.scheduler.swarm_attach(master=successor.id, term=2)
        assert await successor.submit(train, key="train-key", pure=False) == 2


async def test_a_request_whose_announcement_was_missed_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler announces requests from the moment when the master is in office, perhaps before it is heard."""
    monkeypatch.setattr(Inbox, "_on_request", lambda *_: None)
    async with scheduler() as started, mastered(tmp_path, started.address), asyncio.timeout(20):
        handle = await Client(started.address, asynchronous=True).submit(job_of())
        assert (await handle.pause()).state == "paused"
