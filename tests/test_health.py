"""Health that is true: of a real service whose master, store and scheduler are suspended, locked or not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from distributed import Client as DaskClient
from prometheus_client.parser import text_string_to_metric_families
from scripts import run_swarm
from services import Service, free_port, wait_until
from test_master import mastered, raw, scheduler

from swarm.client import Client
from swarm.cluster.standby import keep_standing_by
from swarm.errors import StoreUnavailable
from swarm.service.health import StoreWatch, health_in, verdict
from swarm.terminal.tables import health_lines

# --- what is judged


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_store_that_says_why_it_cannot_be_used_is_in_trouble_until_it_answers() -> None:
    clock = Clock()
    watch = StoreWatch(clock)
    for _ in range(2):
        with contextlib.suppress(StoreUnavailable), watch.asking():
            clock.now += 5
            raise StoreUnavailable("the store postgresql://ann:secret@lab3/swarm cannot be used: it is full")
        clock.now += 1
    text = "the store postgresql://ann:***@lab3/swarm cannot be used: it is full"
    assert watch.trouble == {"text": text, "seconds": 12.0}, "since it was asked first"
    with watch.asking():
        clock.now += 1
    assert watch.trouble is None


def test_a_store_that_does_not_answer_is_in_trouble_after_three_seconds() -> None:
    clock = Clock()
    watch = StoreWatch(clock)
    with watch.asking():
        clock.now += 3
        assert watch.trouble is None
        clock.now += 4
        assert watch.trouble == {"text": "it does not answer", "seconds": 7.0}
    assert watch.trouble is None


def test_each_trouble_has_a_sentence_of_its_own() -> None:
    master = {"version": "1", "master": True, "limit": 10.0, "name": "lab3:7", "silent_seconds": 1.0, "reports": True}
    well = verdict(**master)
    assert (well["ok"], well["problems"], well["silent"], well["store"]) == (True, [], False, "answers")
    silent = verdict(**{**master, "silent_seconds": 12.0})
    assert (silent["ok"], silent["silent"], silent["store"]) == (False, True, "unknown")
    assert silent["problems"][0].startswith("the master lab3:7 has been silent for 12 s: it is suspended")
    away = verdict(**master, trouble={"text": "it does not answer", "seconds": 8.2})
    assert (away["ok"], away["store"], away["trouble"], away["trouble_seconds"]) == (
        False,
        "in trouble",
        "it does not answer",
        8.2,
    )
    assert away["problems"][0].startswith("the store of the master lab3:7 has been in trouble for 8 s: it does not")
    nobody = verdict(version="1", master=False)
    assert nobody["problems"] == ["no master is connected to the scheduler; start one: swarm master"]


def test_an_earlier_scheduler_says_only_whether_a_master_is_there() -> None:
    for master in (True, False):
        found = health_in({"version": "0.9", "protocol": 1, "master": master})
        assert (found["ok"], found["master"], found["store"]) == (master, master, "unknown")
        assert health_lines(found)[0] == f"dask-swarm 0.9, {'a' if master else 'no'} master is connected"


async def test_the_beats_of_an_earlier_master_are_enough_and_its_store_is_unknown() -> None:
    async with scheduler() as served:
        await raw(served.address, op="swarm_attach", master="earlier", term=3)
        assert list(await raw(served.address, op="swarm_beat", master="earlier")) == []
        found = await Client(served.address, asynchronous=True).health()
        assert (found["ok"], found["store"], found["name"], found["term"]) == (True, "unknown", None, 3)


async def test_a_master_serves_a_scheduler_of_an_earlier_version(tmp_path: Path) -> None:
    async with scheduler() as served:
        service = served.plugins["swarm"]
        beats: list[str] = []

        def beat(master: str = "") -> list[int] | None:
            beats.append(master)
            return list(service.beat(master))

        def hello() -> dict[str, Any]:
            return {name: service.hello()[name] for name in ("version", "protocol", "master")}

        served.handlers |= {"swarm_beat": beat, "swarm_hello": hello}
        async with mastered(tmp_path, served.address), DaskClient(served.address, asynchronous=True):
            client = Client(served.address, asynchronous=True)
            while not beats:
                assert (await client.health())["ok"]
            assert await client.weights() == {}


# --- on a real service


@pytest.fixture(scope="module")
def frozen_server(postgres: str) -> psutil.Process:
    """The process of the PostgreSQL server whose store is ``service``'s."""
    folder = sa.make_url(postgres).query["host"]
    return psutil.Process(int(Path(str(folder), "postmaster.pid").read_text().split()[0]))


@pytest.fixture(scope="module")
def pages() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, postgres: str, pages: str) -> Iterator[Service]:
    """A scheduler and a worker, and what a master needs that nobody has started yet."""
    url = sa.make_url(postgres).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE health"))
    store = url.set(database="health").render_as_string(hide_password=False)
    with Service(tmp_path_factory.mktemp("service"), store=store) as service:
        service.start("scheduler", "scheduler", "--port", str(service.port), "--dashboard", pages.partition("//")[2])
        service.workers(1)
        wait_until(lambda: service.client.health()["slots"])
        yield service
    with engine.connect() as connection:
        connection.execute(sa.text("DROP DATABASE health WITH (FORCE)"))
    engine.dispose()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def told(service: Service, pages: str) -> tuple[list[str], dict[str, float]]:
    """The problems that command and HTTP route tell alike, with the exit code and status that belong to them."""
    status, body = get(f"{pages}/swarm/health")
    by_http = json.loads(body)
    done = run_swarm(service.folder, "health", service.address, "--json")
    by_command = json.loads(done.stdout)
    assert (status, by_http["status"]) == ((200, "ok") if by_http["ok"] else (503, "trouble"))
    assert done.returncode == (0 if by_command["ok"] else 1)
    assert by_http["ok"] == by_command["ok"]
    families = text_string_to_metric_families(get(f"{pages}/metrics")[1])
    samples = [sample for family in families for sample in family.samples]
    metrics = {each.name.removeprefix("dask_swarm_"): each.value for each in samples if not each.labels}
    assert metrics["healthy"] == by_http["ok"]
    return by_http["problems"], metrics


@pytest.mark.slow
def test_a_scheduler_without_a_master_is_not_well(service: Service, pages: str) -> None:
    problems, metrics = told(service, pages)
    assert problems == ["no master is connected to the scheduler; start one: swarm master"]
    assert metrics["master_connected"] == 0
    done = run_swarm(service.folder, "health", service.address)
    assert (done.returncode, "no master is connected" in done.stdout) == (1, True)


@pytest.mark.slow
def test_a_master_whose_store_answers_is_well_and_says_who_it_is(service: Service, pages: str) -> None:
    service.master()
    found = wait_until(lambda: (health := service.client.health())["store"] == "answers" and health)
    assert (found["ok"], found["term"], found["workers"]) == (True, 1, 1)
    assert found["slots"] == {"GPU": {"offered": 1, "busy": 0}}
    assert str(service.processes["master"].pid) in found["name"]
    problems, metrics = told(service, pages)
    assert problems == []
    assert (metrics["master_connected"], metrics["store_answers"], metrics["master_term"]) == (1, 1, 1)
    done = run_swarm(service.folder, "health", service.address)
    assert done.returncode == 0
    assert f"a master is connected; {found['name']} in term 1, heard of" in done.stdout
    assert "its store answers; 0 of 1 GPU slots busy" in done.stdout


@pytest.mark.slow
def test_a_suspended_master_is_not_well_until_it_goes_on(service: Service, pages: str) -> None:
    service.kill("master", signal.SIGSTOP)
    try:
        wait_until(lambda: not service.client.health()["ok"], seconds=20)
        problems, metrics = told(service, pages)
        assert "has been silent for" in problems[0] and "it is suspended" in problems[0]
        assert metrics["master_connected"] == 0
    finally:
        service.kill("master", signal.SIGCONT)
    wait_until(lambda: service.client.health()["ok"])


@pytest.mark.slow
def test_a_suspended_postgresql_is_said_by_the_master_that_it_keeps_waiting(
    service: Service, frozen_server: psutil.Process, pages: str
) -> None:
    frozen = [frozen_server, *frozen_server.children(recursive=True)]
    for process in frozen:
        process.suspend()
    try:
        wait_until(lambda: service.client.health()["store"] == "in trouble", seconds=30)
        problems, metrics = told(service, pages)
        assert problems[0].startswith("the store of the master"), problems
        assert "it does not answer" in problems[0]
        assert (metrics["master_connected"], metrics["store_answers"]) == (1, 0)
        done = run_swarm(service.folder, "health", service.address)
        assert (done.returncode, "has been in trouble for" in done.stdout) == (1, True)
    finally:
        for process in frozen:
            process.resume()
    wait_until(lambda: service.client.health()["store"] == "answers")


@pytest.mark.slow
def test_without_a_scheduler_the_exit_code_is_another(tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = run_swarm(tmp_path, "health", address)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no scheduler answers" in done.stderr
    done = run_swarm(tmp_path, "health", address, "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["ok"], "no scheduler answers" in found["problems"][0]) == (False, True)


@pytest.mark.slow
def test_masters_that_stand_by_are_named_until_they_take_office_or_are_gone(tmp_path: Path) -> None:
    pages = f"http://127.0.0.1:{free_port()}"
    with Service(tmp_path) as service:
        service.start("scheduler", "scheduler", "--port", str(service.port), "--dashboard", pages.partition("//")[2])
        service.master()
        wait_until(lambda: service.client.health()["store"] == "answers")
        assert service.client.health()["standbys"] == []
        for name in ("second", "third"):
            service.master(name)
        waiting = wait_until(lambda: len(found := service.client.health()["standbys"]) == 2 and found)
        for name in ("second", "third"):
            assert any(f":{service.processes[name].pid}:" in each for each in waiting)
        problems, metrics = told(service, pages)
        assert (problems, metrics["standbys"]) == ([], 2)
        assert json.loads(get(f"{pages}/swarm/health")[1])["standbys"] == waiting
        assert f"standing by: {', '.join(waiting)}" in run_swarm(tmp_path, "health", service.address).stdout
        service.kill("third")
        left = wait_until(lambda: len(found := service.client.health()["standbys"]) == 1 and found)
        assert f":{service.processes['second'].pid}:" in left[0]
        service.kill("master")
        found = wait_until(lambda: not (health := service.client.health())["master"] and health)
        assert f"{left[0]} stands by, and takes over when the lease" in found["problems"][0]
        found = wait_until(lambda: (health := service.client.health())["name"] == left[0] and health)
        assert (found["ok"], found["standbys"]) == (True, [])


async def test_a_standby_tells_an_earlier_scheduler_nothing(tmp_path: Path) -> None:
    async with scheduler() as served:
        asked: list[str] = []
        hello = served.plugins["swarm"].hello

        def earlier() -> dict[str, Any]:
            asked.append("swarm_hello")
            return {**hello(), "health": {"ok": True, "problems": []}}

        served.handlers |= {"swarm_hello": earlier, "swarm_stand_by": lambda name: asked.append("swarm_stand_by")}
        standing = asyncio.ensure_future(keep_standing_by(lambda: served.address, "second"))
        while not asked:
            await asyncio.sleep(0)
        await Client(served.address, asynchronous=True).hello()
        standing.cancel()
        assert set(asked) == {"swarm_hello"}


@pytest.mark.slow
def test_a_locked_sqlite_store_is_said_and_why(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        service.scheduler()
        service.master()
        wait_until(lambda: service.client.health()["store"] == "answers")
        with closing(sqlite3.connect(tmp_path / "swarm.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")  # as a backup would, for longer than SQLite waits
            found = wait_until(lambda: (health := service.client.health())["trouble"] and health)
            assert (found["ok"], found["master"], found["store"]) == (False, True, "in trouble")
            wait_until(lambda: "locked" in (service.client.health()["trouble"] or ""))
            other.execute("ROLLBACK")
        wait_until(lambda: service.client.health()["ok"])
