"""Each cell of the table in docs/guides/security.md, tried on a real service: the page cannot say what is not so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
import yaml
from distributed.comm import connect
from distributed.core import send_recv
from distributed.protocol import to_serialize
from distributed.protocol.serialize import ToPickle
from distributed.security import Security

from swarm import Integer, Job, Random
from swarm.client import AsyncClient, Client
from swarm.errors import JobConflict, SwarmError
from swarm.scheduler.readers import Readers
from swarm.scheduler.roles import FOR_MASTERS, FOR_USERS, FOR_WORKERS
from tests.services import Service, wait_until

ROOT = Path(__file__).parent.parent
MAKE_CERTIFICATES = ROOT / "deploy" / "make-certificates"
PAGE = ROOT / "docs" / "guides" / "security.md"
TRIED = re.compile(r"^\| What somebody tries \|.*?(?=\n\n)", re.DOTALL | re.MULTILINE)
USERS = {"user": "bob", "administrator": "eve"}


def train(params: Any, ctx: Any) -> float:
    return float(params["x"])


def job_of(name: str, **changes: Any) -> Job:
    defaults = {"problem": train, "space": {"x": Integer(0, 9)}, "optimizer": Random(trials=1), "isolation": "thread"}
    return Job(**{"name": name, **defaults, **changes})


class Touch:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


# --- the service


class Secured(Service):
    """A service whose processes have certificates, each its own."""

    def __init__(self, folder: Path, certificates: Path) -> None:
        super().__init__(folder, env={"DASK_SWARM__ADMINS": '["eve"]'})
        self.address = self.address.replace("tcp://", "tls://")
        self._certificates = certificates

    def start(self, name: str, *arguments: str, **options: Any) -> None:
        owner = "worker" if name == "workers" else name
        self._env["DASK_CONFIG"] = str(self._certificates / owner / "tls.yaml")
        super().start(name, *arguments, **options)

    @property
    def client(self) -> Client:
        return Client(self.address, security=security(self._certificates, "ann"))


def security(certificates: Path, owner: str) -> Security:
    comm = yaml.safe_load((certificates / owner / "tls.yaml").read_text())["distributed"]["comm"]
    with dask.config.set({"distributed.comm": dask.config.merge(dask.config.get("distributed.comm"), comm)}):
        made = Security()
    for end in ("client", "worker"):  # so that each certificate may be tried at each end
        for kind in ("cert", "key"):
            setattr(made, f"tls_{end}_{kind}", str(certificates / owner / f"{kind}.pem"))
    return made


@dataclass
class Somebody:
    """Who tries something: his certificate, and the service he tries it on.

    Attributes:
        name: His name.
        address: Of the scheduler.
        security: His certificate.
        folder: Where a pickle that is opened leaves a file.
        near: Addresses of a worker and its nanny.
    """

    name: str
    address: str
    security: Security
    folder: Path
    near: tuple[str, str]

    @property
    def client(self) -> AsyncClient:
        return Client(self.address, asynchronous=True, security=self.security, user=self.name)

    async def ask(self, operation: str, at: str | None = None, **arguments: Any) -> Any:
        line = await connect(at or self.address, timeout=10, **self.security.get_connection_args("client"))
        try:
            return await asyncio.wait_for(send_recv(line, op=operation, **arguments), 20)
        finally:
            line.abort()

    def mark(self) -> Path:
        path = self.folder / "opened"
        path.unlink(missing_ok=True)
        return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run([MAKE_CERTIFICATES, folder, "ann", "bob", "eve"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def services(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Service]]:
    """The service with TLS, and one without; in each a job of ann's has ended, and another waits."""
    with Secured(tmp_path_factory.mktemp("tls"), certificates) as tls, Service(tmp_path_factory.mktemp("tcp")) as tcp:
        for service in (tls, tcp):
            service.scheduler()
            service.workers(1)
            service.master()
        for service in (tls, tcp):
            wait_until(lambda service=service: service.client.hello()["master"])
            client = service.client if service is tls else Client(service.address, user="ann")
            assert client.submit(job_of("found")).wait(timeout=120).best is not None
            shared = client.submit(job_of("shared", shared=True, optimizer=Random(trials=2)))
            assert shared.wait(timeout=120).shared
            client.submit(job_of("waiting", problem=lambda params, ctx: 1.0, optimizer=Random(trials=2))).pause()
        yield {True: tls, False: tcp}


@pytest.fixture(scope="module")
def somebody(services: dict[bool, Service], certificates: Path) -> Callable[[str], Somebody]:
    """Gives who has the certificate of a column of the table."""

    async def near(address: str, shown: Security) -> tuple[str, str]:
        client = Somebody("master", address, shown, ROOT, ("", ""))
        [(worker, known)] = (await client.ask("identity", n_workers=-1))["workers"].items()
        return worker, known["nanny"]

    found: dict[bool, tuple[str, str]] = {}

    def of(column: str) -> Somebody:
        secured = column != "without TLS"
        service = services[secured]
        if secured not in found:
            shown = security(certificates, "master") if secured else Security()
            found[secured] = asyncio.run(near(service.address, shown))
        name = USERS.get(column, column)
        shown = security(certificates, name) if secured else Security()
        return Somebody("bob" if not secured else name, service.address, shown, service.folder, found[secured])

    return of


# --- what is tried: each gives something if it works


async def see(who: Somebody) -> Any:
    return (await who.client.hello())["master"]


async def submit(who: Somebody) -> Any:
    return (await who.client.submit(job_of(f"of-{who.name}"))).name


async def list_jobs(who: Somebody) -> Any:
    return [state for state in await who.client.jobs() if (state.name, state.owner) == ("found", "ann")]


async def read_found(who: Somebody) -> Any:
    return (await (await who.client.attach("found")).state()).best


async def read_events(who: Somebody) -> Any:
    return await (await who.client.attach("found")).events()


async def read_shared(who: Somebody) -> Any:
    """Of what has ended, from the scheduler and from the master."""
    [listed] = [state for state in await who.client.jobs() if state.name == "shared"]
    return listed.best and (await (await who.client.attach("shared")).state()).best


async def read_shared_events(who: Somebody) -> Any:
    return await (await who.client.attach("shared")).events()


async def steer(who: Somebody) -> Any:
    return await (await who.client.attach("waiting")).pause()


async def register(who: Somebody) -> Any:
    async with asyncio.timeout(20):
        options = {"nthreads": 1, "dashboard": False, "host": "127.0.0.1", "security": who.security}
        async with distributed.Worker(who.address, **options) as worker:
            return worker.status is distributed.core.Status.running


async def do_the_masters_work(who: Somebody) -> Any:
    return (await who.ask("swarm_take", number=-1)) is None


async def use_dask(who: Somebody) -> Any:
    """In a process of its own: a client of Dask's that is refused leaves a mess behind."""
    shown: dict[str, Any] = {}
    if who.address.startswith("tls://"):
        names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
        shown = {"require_encryption": True, **{name: getattr(who.security, name) for name in names}}
    code = (
        "import distributed, sys, json\n"
        "security = distributed.Security(**json.loads(sys.argv[2]))\n"
        "client = distributed.Client(sys.argv[1], security=security, timeout=10)\n"
        "print('three is', client.submit(sum, [1, 2], resources={'GPU': 1}).result(timeout=20))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, who.address, json.dumps(shown), stdout=-1, stderr=-3
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return b"three is 3" in said


async def run_in_scheduler(who: Somebody) -> Any:
    return (await who.ask("run_function", function=pickle.dumps(os.getpid)))["status"] == "OK"


async def open_pickle(who: Somebody) -> Any:
    mark = who.mark()
    await who.ask("swarm_hello", more=ToPickle(Touch(mark)))
    return None


async def put_into_event(who: Somebody) -> Any:
    await who.ask("log_event", topic="anything", msg=to_serialize(Touch(who.mark())))
    return True


async def gather(who: Somebody) -> Any:
    return (await who.ask("gather", keys=()))["status"] == "OK"


async def talk_to_worker(who: Somebody) -> Any:
    return (await who.ask("identity", at=who.near[0]))["type"] == "Worker"


async def run_in_nanny(who: Somebody) -> Any:
    return (await who.ask("run", at=who.near[1], function=pickle.dumps(os.getpid)))["status"] == "OK"


TRY: dict[str, Callable[[Somebody], Awaitable[Any]]] = {
    "see whether a master is there": see,
    "submit a job": submit,
    "list all jobs, with owner and state": list_jobs,
    "read what another's job has found": read_found,
    "read the events of another's job": read_events,
    "read what another's shared job has found": read_shared,
    "read the events of another's shared job": read_shared_events,
    "steer another's job": steer,
    "register a worker": register,
    "do the master's work": do_the_masters_work,
    "have Dask run a function": use_dask,
    "run code in the scheduler": run_in_scheduler,
    "have the scheduler open a pickle": open_pickle,
    "put a pickle into an event": put_into_event,
    "fetch results from the workers": gather,
    "talk to a worker's port": talk_to_worker,
    "run code in a worker's nanny": run_in_nanny,
}


def cells() -> list[Any]:
    """Row, column and what the page says."""
    table = TRIED.search(PAGE.read_text(encoding="utf-8"))
    assert table is not None
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
    return [
        pytest.param(row[0], column, said, id=f"{row[0]}, {column}")
        for row in rows
        for column, said in zip(head[1:], row[1:], strict=True)
    ]


def test_the_table_names_all_that_is_tried() -> None:
    assert {cell.values[0] for cell in cells()} == set(TRY)
    assert {cell.values[2] for cell in cells()} == {"yes", "no"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a Dask client or worker that is refused amid its start
@pytest.mark.parametrize(("row", "column", "said"), cells())
def test_the_page_says_what_is_so(row: str, column: str, said: str, somebody: Callable[[str], Somebody]) -> None:
    who = somebody(column)
    who.mark()
    try:
        works = bool(asyncio.run(TRY[row](who)))
    except (SwarmError, OSError, PermissionError, TimeoutError, RuntimeError, TypeError, AssertionError):
        works = False
    opened = (who.folder / "opened").exists()
    assert (works or opened) == (said == "yes")
    assert not opened or said == "yes"


# --- what else a certificate is refused, on the same service


def test_every_handler_of_the_service_says_whom_it_is_for() -> None:
    async def handlers() -> set[str]:
        options = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0", "preload": ["swarm.scheduler"]}
        async with distributed.Scheduler(**options) as scheduler:
            return {name for name in scheduler.handlers if name.startswith("swarm_")}

    assert asyncio.run(handlers()) == FOR_USERS | FOR_MASTERS | {"swarm_refused"}
    assert {name for name in FOR_WORKERS if name.startswith("swarm_")} <= FOR_USERS


DASKS = [
    "register-client",
    "scatter",
    "update_data",
    "broadcast",
    "proxy",
    "restart",
    "restart_workers",
    "retire_workers",
    "terminate",
    "events",
    "get_logs",
    "worker_logs",
    "set_metadata",
    "register_scheduler_plugin",
    "register_worker_plugin",
    "register_nanny_plugin",
    "dump_cluster_state_to_url",
    "get_cluster_state",
    "benchmark_hardware",
    "replicate",
    "rebalance",
    "connection_stream",
    "feed",
    "dump_state",
    "echo",
    "call_stack",
    "profile",
    "who_has",
    "swarm_refused",
    "anything",
]


@pytest.mark.slow
@pytest.mark.parametrize("operation", DASKS)
def test_a_user_may_ask_for_nothing_of_dasks(operation: str, somebody: Callable[[str], Somebody]) -> None:
    with pytest.raises(PermissionError, match="'bob' is a user's: users submit jobs"):
        asyncio.run(somebody("user").ask(operation))


@pytest.mark.slow
def test_a_pickle_in_the_first_message_is_not_opened_either(somebody: Callable[[str], Somebody]) -> None:
    who = somebody("user")
    greeting = {"handshake_overrides": {"compression": ToPickle(Touch(who.mark()))}}

    async def greet() -> None:
        line = await connect(who.address, timeout=5, **greeting, **who.security.get_connection_args("client"))
        try:
            await send_recv(line, op="swarm_hello")
        finally:
            line.abort()

    with contextlib.suppress(OSError, TimeoutError):
        asyncio.run(asyncio.wait_for(greet(), 10))
    assert not (who.folder / "opened").exists()
    assert asyncio.run(see(who))


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", [b"\xff" * 64, struct.pack("QQ", 8, 1 << 40), struct.pack("Q", (1 << 64) - 1), b"\0" * 16]
)
def test_what_is_no_message_ends_its_own_connection_alone(what: bytes, somebody: Callable[[str], Somebody]) -> None:
    who = somebody("user")

    async def answer() -> None:
        line = await connect(who.address, timeout=5, **who.security.get_connection_args("client"))
        try:
            await line.stream.write(what)
            await asyncio.wait_for(line.read(), 10)
            await asyncio.wait_for(line.read(), 10)
        finally:
            line.abort()

    with pytest.raises(OSError):
        asyncio.run(answer())
    assert asyncio.run(see(who))


@pytest.mark.slow
def test_a_message_larger_than_any_job_is_refused(somebody: Callable[[str], Somebody]) -> None:
    with pytest.raises(PermissionError, match=r"swarm\.max-submission"):
        asyncio.run(somebody("user").ask("swarm_call", method="submit", data="{}", blob=bytes(140 << 20)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", str(ROOT / "examples" / "digits.yaml"), "--store", "s.db", "--scheduler"], "certificate for a user's"),
        (["worker", "--slots", "1"], "a worker needs the one named 'swarm-worker'"),
    ],
)
def test_commands_that_need_another_certificate_say_which(
    words: list[str], said: str, somebody: Callable[[str], Somebody], certificates: Path
) -> None:
    who, mine = somebody("user"), certificates / "bob"
    environment = os.environ | {
        "DASK_CONFIG": str(mine / "tls.yaml"),
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT": str(mine / "cert.pem"),
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY": str(mine / "key.pem"),
    }
    command = [sys.executable, "-c", "from swarm.cli import main; main()", *words, who.address]
    done = subprocess.run(
        command, env=environment, cwd=who.folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert said in " ".join((done.stderr + done.stdout).split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_another_job_of_the_same_name_says_nothing_of_the_first(somebody: Callable[[str], Somebody]) -> None:
    async def submit_it(who: Somebody) -> Any:
        return await who.client.submit(job_of("found", optimizer=Random(trials=5)))

    with pytest.raises(JobConflict, match="another job named 'found', which belongs to 'ann'") as caught:
        asyncio.run(submit_it(somebody("user")))
    assert "trials" not in str(caught.value)


def test_shared_jobs_are_read_by_everybody_and_others_by_their_owners_and_administrators() -> None:
    readers, state = Readers(), {"name": "j", "owner": "ann", "told": 3, "best": {"fitness": 1.0}, "errors": {"e": 1}}
    readers.note({"j": json.dumps(state)})
    readers.everything = frozenset({"eve"})
    seen = {who: json.loads(readers.shown("j", json.dumps(state), who)) for who in ("ann", "eve", "bob", None)}
    assert seen["ann"] == seen["eve"] == seen[None] == state
    assert seen["bob"] | {"best": state["best"], "errors": state["errors"]} == {
        **state,
        "tests": {},
        "reason": None,
        "trouble": None,
    }
    assert (seen["bob"]["best"], seen["bob"]["told"]) == (None, 3)
    assert not readers.may_read("unknown", "bob")
    shared = json.dumps(state | {"shared": True})
    readers.note({"j": shared})
    assert json.loads(readers.shown("j", shared, "bob"))["best"] == state["best"]
    readers.note({"j": json.dumps(state)})
    assert not readers.may_read("j", "bob")
    readers.everything = None
    assert json.loads(readers.shown("j", json.dumps(state), "bob")) == state
