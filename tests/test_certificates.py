"""The certificates that deploy/make-certificates makes secure a real scheduler."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dask
import pytest
import yaml
from deployment import DEPLOY, certificates
from distributed import Client, Scheduler, Security, Worker
from distributed.comm import connect

from swarm.scheduler.plugin import certified_name


def security(folder: Path, owner: str) -> Security:
    """What ``DASK_CONFIG=folder/owner/tls.yaml`` gives."""
    comm = yaml.safe_load((folder / owner / "tls.yaml").read_text(encoding="utf-8"))["distributed"]["comm"]
    with dask.config.set({"distributed.comm": dask.config.merge(dask.config.get("distributed.comm"), comm)}):
        return Security()


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("issued")
    certificates(folder, "ann")
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    certificates(folder, "ann")
    return folder


def scheduler(secured: Security) -> Scheduler:
    return Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", security=secured)


async def test_a_user_trains_under_his_name_on_a_scheduler_with_tls(issued: Path) -> None:
    async with (
        scheduler(security(issued, "scheduler")) as served,
        Worker(served.address, nthreads=1, dashboard=False, security=security(issued, "worker")),
        Client(served.address, security=security(issued, "ann"), asynchronous=True) as client,
    ):
        assert served.address.startswith("tls://")
        assert await client.submit(sum, [1, 2]) == 3
        assert certified_name(served.client_comms[client.id].comm) == "ann"


async def test_the_masters_certificate_has_the_name_that_the_scheduler_expects(issued: Path) -> None:
    async with (
        scheduler(security(issued, "scheduler")) as served,
        Client(served.address, security=security(issued, "master"), asynchronous=True) as client,
    ):
        assert certified_name(served.client_comms[client.id].comm) == "swarm-master"


async def test_a_certificate_of_another_authority_and_none_at_all_are_refused(issued: Path, foreign: Path) -> None:
    stranger = Security(
        require_encryption=True,
        tls_ca_file=str(issued / "ann" / "ca.pem"),  # as he may have seen it
        tls_client_cert=str(foreign / "ann" / "cert.pem"),
        tls_client_key=str(foreign / "ann" / "key.pem"),
    )
    async with scheduler(security(issued, "scheduler")) as served:
        with pytest.raises(OSError):
            await connect(served.address, timeout=5, **stranger.get_connection_args("client"))
        with pytest.raises(OSError):
            await connect(served.address.replace("tls://", "tcp://"), timeout=5)


async def test_a_user_cannot_pass_himself_off_as_the_scheduler(issued: Path) -> None:
    mine = issued / "ann"
    posing = Security(
        require_encryption=True,
        tls_ca_file=str(mine / "ca.pem"),
        tls_scheduler_cert=str(mine / "cert.pem"),
        tls_scheduler_key=str(mine / "key.pem"),
    )
    async with scheduler(posing) as served:
        with pytest.raises(OSError, match="certificate"):
            await connect(served.address, timeout=5, **security(issued, "master").get_connection_args("client"))


def test_keys_are_readable_for_their_owner_alone(issued: Path) -> None:
    keys = list(issued.rglob("key.pem"))
    assert {key.parent.name for key in keys} == {"ca", "scheduler", "master", "worker", "ann"}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_adding_a_user_leaves_everything_else_as_it_was(tmp_path: Path) -> None:
    certificates(tmp_path, "ann")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert f"kept {tmp_path}/ca\n" in certificates(tmp_path, "bob")
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {"ca", "scheduler", "master", "worker", "ann", "bob"}


def test_certificates_can_be_made_for_another_place(tmp_path: Path) -> None:
    certificates(tmp_path, "--at", "/etc/it's here", "ann")
    assert security(tmp_path, "ann").tls_client_key == "/etc/it's here/ann/key.pem"


@pytest.mark.parametrize("name", ["swarm-master", "scheduler", "ca", "../ann", "a/CN=swarm-master", ""])
def test_a_user_cannot_have_a_name_that_is_somebody_elses(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [DEPLOY / "make-certificates", tmp_path / "made", name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()
