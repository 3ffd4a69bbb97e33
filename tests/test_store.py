"""What only some stores can get wrong: files, locks and addresses."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from swarm.errors import JobNotFound, StoreUnavailable
from swarm.runner import free_name
from swarm.store import Store


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, and long enough not to be taken for an empty file " * 20)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store(str(file))


def test_a_folder_that_is_not_there_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does its folder exist"):
        Store(str(tmp_path / "nowhere" / "swarm.db"))


def test_a_store_to_read_must_exist_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="--store"):
        Store(str(tmp_path / "swarm.db"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.store.sql.engine._BUSY_SECONDS", 0.05)
    store = Store(str(tmp_path / "swarm.db"))
    holder = sqlite3.connect(tmp_path / "swarm.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match=r"locked.*close that"):
        store.add_job("a", {}, b"")
    holder.execute("ROLLBACK")
    holder.close()
    store.add_job("a", {}, b"")  # nothing was broken
    store.close()


def test_a_read_only_database_says_so(tmp_path: Path) -> None:
    Store(str(tmp_path / "swarm.db")).close()
    store = Store(f"sqlite:///file:{tmp_path}/swarm.db?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match=r"readonly.*writable"):
        store.add_job("a", {}, b"")
    store.close()


CODE = b"x" * 50_000
MANY = 3000


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[Store, set[tuple[str, str]]]]:
    """A store with thousands of jobs, each with code of its own, and the columns that were read since."""
    store = Store(str(tmp_path / "swarm.db"))
    store.add_job("run", SPEC, CODE)
    database = sqlite3.connect(tmp_path / "swarm.db")
    for table in ("swarm_jobs", "swarm_job_code", "swarm_code", "swarm_submissions"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        row = dict(zip(columns, next(database.execute(f"SELECT * FROM {table}"), [None] * len(columns)), strict=True))
        rows = [{**row, **_numbered(table, number)} for number in range(2, MANY)]
        marks = ", ".join(f":{column}" for column in columns)
        database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
    database.commit()
    database.close()
    read: set[tuple[str, str]] = set()

    def note(action: int, table: str, column: str, *_: object) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add((table, column))
        return sqlite3.SQLITE_OK

    store.close()
    sa.event.listen(store._engine, "connect", lambda connection, _: connection.set_authorizer(note))
    yield store, read
    store.close()


SPEC = {"name": "run", "problem": {"name": "p"}, "optimizer": {"name": "PSO"}, "direction": "minimize"}


def _numbered(table: str, number: int) -> dict[str, object]:
    name = f"run-{number}" if number % 3 else f"other-{number}"
    return {
        "swarm_jobs": {"name": name, "created": float(number), "crc": None},
        "swarm_job_code": {"job": name, "digest": f"{number:064}"},
        "swarm_code": {"digest": f"{number:064}", "data": CODE[: 100 + number % 50]},
        "swarm_submissions": {
            "job": name,
            "owner": "ada",
            "priority": 1.0,
            "state": "finished",
            "environment": "[]",
            "summary": "null",
        },
    }[table]


def _refused(ask: Callable[[str], object]) -> None:
    with pytest.raises(JobNotFound):
        ask("nothing")


LISTINGS = {
    "jobs": lambda store: store.jobs(),
    "submissions": lambda store: store.submissions(),
    "one job": lambda store: store.job("run-2999"),
    "an unknown job": lambda store: _refused(store.job),
    "the code of an unknown job": lambda store: _refused(store.code),
    "names that begin alike": lambda store: store.names("run"),
    "a new job": lambda store: store.add_job("new", SPEC, CODE[:999]),
    "a new job with known code": lambda store: store.add_job("known", SPEC, CODE),
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_nothing_but_who_asks_for_it_reads_code(full: tuple[Store, set[tuple[str, str]]], listing: str) -> None:
    store, read = full
    LISTINGS[listing](store)
    assert not read & {("swarm_code", "data"), ("swarm_jobs", "problem")} or listing == "the code of an unknown job"
    assert ("swarm_code", "data") not in read
    store.code("run")
    assert ("swarm_code", "data") in read  # so it would have been seen


@pytest.mark.parametrize("question", ["one job", "an unknown job", "the code of an unknown job", "a new job"])
def test_what_is_asked_of_one_job_takes_no_memory_for_the_others(
    full: tuple[Store, set[tuple[str, str]]], question: str
) -> None:
    store, _ = full
    store.job("run")  # what is compiled and cached, once
    LISTINGS[question](store)
    tracemalloc.start()
    if question != "a new job":
        LISTINGS[question](store)
    else:
        store.add_job("newer", SPEC, CODE[:999])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100 * MANY  # bytes: less than the shortest line of each job


def test_a_free_name_is_the_first_that_no_job_has(full: tuple[Store, set[tuple[str, str]]]) -> None:
    store, _ = full
    assert free_name("run", store.url) == "run-3"  # every third is called otherwise
    assert free_name("other", store.url) == "other" and free_name("other-3", store.url) == "other-3-2"


def test_a_code_that_no_database_can_hold_is_refused_with_the_remedy(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "swarm.db"))

    def limited(connection: sqlite3.Connection, _: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)

    store.close()
    sa.event.listen(store._engine, "connect", limited)
    with pytest.raises(StoreUnavailable, match=r"too big; load data in prepare\(\)"):
        store.add_job("a", {}, b"x" * 20_000)
    assert store.jobs() == []
    store.close()


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(StoreUnavailable, match="sqlite:///FILE or postgresql://"):
        Store("mysql://host/name")


def test_a_server_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Store("postgresql://127.0.0.1:1/none")
    assert "\n" not in str(caught.value)


def test_a_database_without_an_encoding_holds_every_name(postgres: str) -> None:
    server = sa.make_url(postgres).set(drivername="postgresql+psycopg")
    maker = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with maker.connect() as connection:
        connection.execute(
            sa.text("CREATE DATABASE plain ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        )
    try:
        store = Store(server.set(database="plain").render_as_string(hide_password=False))
        store.add_job("größe", {"note": "π ≈ 3.14"}, b"")
        assert [job.name for job in store.jobs()] == ["größe"]
        assert store.job("größe").spec == {"note": "π ≈ 3.14"}
        store.close()
    finally:
        with maker.connect() as connection:
            connection.execute(sa.text("DROP DATABASE plain WITH (FORCE)"))
        maker.dispose()
