"""Scheduler, master and client in one process: what is refused, who may do what, and what TLS adds."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from distributed import Client as DaskClient
from distributed import Scheduler, Security
from distributed.core import connect, send_recv

from swarm import Integer, Job, Random
from swarm.client import Client
from swarm.cluster import forgetting, quiet_dask, slots_of
from swarm.errors import InvalidInput, NoMaster, NotAllowed
from swarm.master import Master, Places
from swarm.protocol import RESULTS
from swarm.store import Store

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
    store = Store(f"{folder}/swarm.db")
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
            places=Places(),
            forgetting=forgetting,
            unfit=lambda _: asyncio.sleep(0, None),
            **options,
        )
        serving = asyncio.ensure_future(master.run())
        while not (await Client(address, asynchronous=True, security=security).hello())["master"]:
            await asyncio.sleep(0.01)
        yield
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    store.close()


def job_of(name: str = "job") -> Job:
    space = {"x": Integer(0, 9)}
    return Job(name=name, problem=lambda params, ctx: 0.0, space=space, optimizer=Random(trials=3))


async def raw(address: str, **message: Any) -> Any:
    """What anybody could send who reaches the port."""
    comm = await connect(address)
    try:
        return await send_recv(comm, **message)
    finally:
        await comm.close()


async def test_a_job_waits_for_workers_and_says_so(tmp_path: Path) -> None:
    async with scheduler() as served, mastered(tmp_path, served.address):
        handle = await Client(served.address, asynchronous=True).submit(job_of(), priority=2.0, most=3)
        state = await handle.state()
        while state.trouble is None:
            state = await handle.state()
        assert state.trouble == "waits for a worker that offers a GPU slot"
        assert (state.state, state.priority, state.most, state.told) == ("active", 2.0, 3, 0)
        assert (await handle.share(priority=5.0, most=0)).priority == 5.0
        assert (await handle.state()).most is None
        assert [state.name for state in await handle.client.jobs()] == ["job"]


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


async def test_without_a_master_the_service_says_what_to_start(tmp_path: Path) -> None:
    async with scheduler() as served:
        client = Client(served.address, asynchronous=True)
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
