"""Stores that are locked, suspended or away: nobody waits for ever, and a run goes on when the store is back."""

from __future__ import annotations

import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from swarm import Grid, Integer, Job, run
from swarm.errors import SchedulerUnreachable, StoreAway, StoreUnavailable
from swarm.search.patience import patiently
from swarm.store import Event, Store
from swarm.store.events import Ended
from swarm.store.run_lock import alone

on_postgres = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
LINE: list[Event] = [Ended(reason="done")]


def train(params: Any, ctx: Any) -> float:
    return float(params["x"])


def job_of(problem: Callable[..., float] = train) -> Job:
    space = {"x": Integer(0, 9)}
    return Job(name="job", problem=problem, space=space, optimizer=Grid(), test=False, isolation="thread")


class Server:
    """The processes of a PostgreSQL server, which can be suspended."""

    def __init__(self, url: str) -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            folder = connection.execute(sa.text("SHOW data_directory")).scalar_one()
        engine.dispose()
        self._first = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))

    @contextmanager
    def suspended(self) -> Iterator[None]:
        self.tell(signal.SIGSTOP)
        try:
            yield
        finally:
            self.tell(signal.SIGCONT)

    def tell(self, number: int) -> None:
        for process in (self._first, *self._first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Said(logging.Handler):
    """Does something as soon as a log says that a store is waited for."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self.then, self.texts = then, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if "waiting for it" in record.getMessage():
            self.texts.append(record.getMessage())
            self.then()

    def __enter__(self) -> Said:
        logging.getLogger("swarm.store").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("swarm.store").removeHandler(self)


@contextmanager
def locked(file: Path) -> Iterator[Callable[[], None]]:
    """An SQLite file that another program holds, and what lets it go."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as holder:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("BEGIN EXCLUSIVE")
        yield holder.rollback


CALLS: dict[str, Callable[[Store], object]] = {
    "a reader": lambda store: store.jobs(),
    "a writer": lambda store: store.append("job", store.term, LINE),
    "the lease": lambda store: store.lease("here", 5),
}


@on_postgres
@pytest.mark.parametrize("call", CALLS)
def test_a_suspended_server_is_away_within_seconds_and_its_connections_recover(store_url: str, call: str) -> None:
    with closing(Store(store_url, seconds=1)) as store:
        store.add_job("job", {}, b"")
        with Server(store_url).suspended():
            began = time.monotonic()
            for _ in range(2):  # with the connection of before, and with a new one
                with pytest.raises(StoreAway, match="has not answered|timeout"):
                    CALLS[call](store)
            assert time.monotonic() - began < 15
        patiently(lambda: CALLS[call](store), 30)
        assert [job.name for job in store.jobs()] == ["job"]


@on_postgres
def test_a_store_on_a_suspended_server_is_away_for_whoever_opens_it_or_takes_a_lock(store_url: str) -> None:
    with closing(Store(store_url, seconds=1)) as store, Server(store_url).suspended():
        with pytest.raises(StoreAway):
            Store(store_url, seconds=1)
        with pytest.raises(StoreAway), alone(store, "job"):
            pass


@on_postgres
def test_a_statement_that_waits_for_a_lock_is_ended_by_the_server(store_url: str) -> None:
    engine = sa.create_engine(store_url)
    with closing(Store(store_url, seconds=1)) as store, engine.connect() as other:
        other.execute(sa.text("LOCK TABLE swarm_jobs IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreAway, match="statement timeout; its server is overloaded"):
            store.jobs()
        other.rollback()
        assert store.jobs() == []
    engine.dispose()


def test_what_takes_long_at_a_server_may(postgres: str) -> None:
    """Deleting a large run may take longer than an answer."""
    from swarm.store.sql.engine import postgres_engine, unhurried

    engine = postgres_engine(sa.make_url(postgres).set(drivername="postgresql+psycopg"), 0.5)
    slow = sa.text("SELECT pg_sleep(2)")
    with engine.connect() as connection, unhurried(connection):
        connection.execute(slow)
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(slow)
    engine.dispose()


def test_a_locked_file_is_away_and_a_name_that_cannot_be_a_store_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "swarm.db", seconds=0.1)
    with locked(tmp_path / "swarm.db"), closing(store), pytest.raises(StoreAway, match=r"locked.*close that"):
        store.add_job("a", {}, b"")
    for name in (tmp_path / "none" / "swarm.db", tmp_path):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            patiently(lambda name=name: Store(name), 30)
        assert not isinstance(caught.value, StoreAway) and time.monotonic() - began < 10


def test_patience_ends_with_the_error(tmp_path: Path) -> None:
    def refused() -> None:
        raise StoreAway("locked")

    with Said(lambda: None) as said, pytest.raises(StoreAway, match="locked"):
        patiently(refused, 0.2)
    assert said.texts == ["locked; waiting for it, at most 0.2 s"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is away after a second, not after ten."""
    import dask

    monkeypatch.setitem(dask.config.config, "swarm", {"store-timeout-seconds": 1})


@pytest.mark.usefixtures("short")
def test_a_run_waits_at_its_start_for_a_store_that_is_locked(tmp_path: Path) -> None:
    file = tmp_path / "swarm.db"
    with locked(file) as let_go, Said(let_go) as said:
        found = run(job_of(), slots=2, store=file, progress=False)
    assert found.counts["trained"] == 10
    assert [text.split(" cannot ")[0] for text in said.texts] == [f"the store sqlite:///{file}"]


@on_postgres
@pytest.mark.usefixtures("short")
def test_a_run_waits_at_its_start_for_a_server_that_is_away(store_url: str) -> None:
    server = Server(store_url)
    with server.suspended(), Said(lambda: server.tell(signal.SIGCONT)) as said:
        found = run(job_of(), slots=2, store=store_url, progress=False)
    assert found.counts["trained"] == 10 and said.texts


class Locking:
    """A training that has another program lock the store for a while, longer than a statement waits."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, params: Any, ctx: Any) -> float:
        if params["x"] == 3:
            began = threading.Event()
            threading.Thread(target=self.lock, args=(began,), daemon=True).start()
            assert began.wait(20)
        return float(params["x"])

    def lock(self, began: threading.Event) -> None:
        with closing(sqlite3.connect(self.file, isolation_level=None, timeout=20)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            began.set()
            time.sleep(3)  # the fault lasts so long
            holder.rollback()


@pytest.mark.usefixtures("short")
def test_a_run_waits_for_a_store_that_is_locked_meanwhile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "swarm.db"
    found = run(job_of(Locking(file)), slots=1, store=file)
    assert found.counts["trained"] == 10
    assert "locked" in capsys.readouterr().out


@pytest.mark.usefixtures("short")
def test_a_run_whose_scheduler_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(SchedulerUnreachable):
        run(job_of(), scheduler="tcp://127.0.0.1:1", store=tmp_path / "swarm.db", progress=False)
    assert list(tmp_path.iterdir()) == []
