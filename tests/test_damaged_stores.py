"""Stores whose bytes have changed by themselves: a reader gives the right answer, or says that the store is damaged."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from scripts import run_swarm
from test_search import make_pool, search

from swarm import Grid, Integer, Job, Run
from swarm.errors import JobNotFound, StoreDamaged, StoreError, SwarmError
from swarm.runs.upkeep import deletion, forgetting
from swarm.store import State, Store, Submission

FLIPS = 240
NAMES = ("first", "second")


def train(params: Any, ctx: Any) -> float:
    return float(params["x"])


def job_of(name: str) -> Job:
    return Job(name=name, problem=train, space={"x": Integer(0, 9)}, optimizer=Grid(), test=False)


def filled(url: str) -> Store:
    """A store with two finished runs, one of them of the service."""
    store = Store(url)
    for name in NAMES:
        search(job_of(name), store, make_pool(train=lambda each: train(each.params, None)))
    store.set_submission(Submission("first", "ann", 2, state=State.FINISHED, reason="done", summary={"told": 10}))
    return store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that is what was written."""
    file = tmp_path_factory.mktemp("sound") / "swarm.db"
    filled(str(file)).close()
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


def keys_of(store: Store) -> list[str]:
    return [key for key, *_ in store.archived()]


@pytest.fixture(scope="module")
def key(sound: Path) -> str:
    """The first result of it."""
    with closing(Store(sound)) as store:
        return keys_of(store)[0]


@pytest.fixture(scope="module")
def right(sound: Path, key: str) -> dict[str, Any]:
    """What the readers say of it."""
    return answers(sound, key)


QUESTIONS: dict[str, Callable[[Store, str], Any]] = {
    "the journal": lambda store, key: [list(store.events(name)) for name in NAMES],
    "a page of it": lambda store, key: list(store.events("first", 3, 4)),
    "one job": lambda store, key: store.job("first"),
    "all jobs": lambda store, key: store.jobs(),
    "submissions": lambda store, key: store.submissions(),
    "a submission": lambda store, key: store.submission("first"),
    "an answer": lambda store, key: store.answer(key),
    "its code": lambda store, key: store.code("second"),
}
NOTHING = ("a submission", "an answer")  # what an index does not find is not there: it is trained once more


def answers(file: Path, key: str) -> dict[str, Any]:
    """What the readers say: an answer, or an error of ours that names the store."""
    found: dict[str, Any] = {}
    try:
        with closing(Store(file, create=False)) as store:
            for question, ask in QUESTIONS.items():
                found[question] = asked(file, lambda ask=ask: ask(store, key))
    except SwarmError as error:
        assert file.name in str(error), error
    found["a run"] = asked(file, lambda: dict(Run.load("first", file).counts))
    return found


def asked(file: Path, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except SwarmError as error:
        assert file.name in str(error) and "\n" not in str(error), error
        return error


def check_answers(found: dict[str, Any], right: dict[str, Any], what: str, *, whole: bool = True) -> None:
    for question, answer in found.items():
        if isinstance(answer, SwarmError) or (not whole and question in NOTHING and answer is None):
            continue
        assert answer == right[question], f"{what}: another answer to {question}"


@pytest.mark.parametrize("part", range(4))
def test_no_bit_of_a_file_that_flips_gives_another_answer(
    sound: Path, key: str, right: dict[str, Any], tmp_path: Path, part: int
) -> None:
    content, chance = sound.read_bytes(), random.Random(part)
    file, noticed = tmp_path / "swarm.db", 0
    for _ in range(FLIPS // 4):
        place, bit = chance.randrange(len(content)), 1 << chance.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= bit if chance.random() < 0.7 else chance.randrange(1, 256)
        for leftover in tmp_path.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        file.write_bytes(flipped)
        found = answers(file, key)
        noticed += any(isinstance(answer, StoreError) for answer in found.values())
        check_answers(found, right, f"byte {place}, bit {bit}", whole=False)
    assert noticed, "some of them were in rows"


def changed(value: Any, chance: random.Random) -> Any:
    """A value with one bit of it flipped."""
    if not isinstance(value, str | bytes) or not value:
        return 3.0 if value is None or value == "" else float(value) * 2 + 1
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
    return data.decode() if isinstance(value, str) else bytes(data)


COLUMNS = [
    *((table, column) for table in ("swarm_journal",) for column in ("data", "kind", "time")),
    *(("swarm_jobs", column) for column in ("spec", "created", "status")),
    *(("swarm_archive", column) for column in ("result", "params", "budget", "created", "problem", "job")),
    *(("swarm_submissions", column) for column in ("owner", "priority", "most", "state", "reason", "summary")),
    *(("swarm_submissions", column) for column in ("environment", "ended")),
    ("swarm_code", "data"),
]
CHANGES: dict[str, Callable[[Any, random.Random], Any]] = {
    "a bit": changed,
    "another type": lambda value, chance: 7 if isinstance(value, str | bytes) else "seven",
    "not UTF-8": lambda value, chance: b"\xff\xfe" + str(value).encode(),
    "half of it": lambda value, chance: value[: len(value) // 2] if isinstance(value, str | bytes) else -1.5,
    "nothing": lambda value, chance: "" if isinstance(value, str) else 0 if value else -1.5,
}


@pytest.mark.matrix(times=2)  # each column with two changes, and each change of several columns
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(each) for each in COLUMNS])
def test_no_column_that_changes_gives_another_answer(
    sound: Path, key: str, right: dict[str, Any], tmp_path: Path, table: str, column: str, change: str
) -> None:
    chance = random.Random(f"{table}.{column} {change}")
    file = tmp_path / "swarm.db"
    shutil.copy(sound, file)
    where = {"swarm_archive": f" WHERE key = '{key}'"}.get(table, "")
    with closing(sqlite3.connect(file)) as database, database:
        row, value = chance.choice(database.execute(f"SELECT rowid, {column} FROM {table}{where}").fetchall())
        new = CHANGES[change](value, chance)
        cast = "CAST(? AS TEXT)" if change == "not UTF-8" else "?"
        database.execute(f"UPDATE {table} SET {column} = {cast} WHERE rowid = ?", (new, row))
    found = answers(file, key)
    check_answers(found, right, f"{table}.{column} {value!r} -> {new!r}")
    assert any(isinstance(answer, StoreError) for answer in found.values())
    with closing(Store(file)) as store:
        assert store.check().findings


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with closing(filled(store_url)) as opened:
        yield opened


def execute(store: Store, statement: str, **values: Any) -> None:
    engine = sa.create_engine(store.url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()


@pytest.mark.parametrize("row", [0, 3, 21])
def test_a_row_that_a_journal_has_lost_is_missed_wherever_it_was(store: Store, row: int) -> None:
    events = list(store.events("first"))
    assert len(events) == 22 == store.length("first")
    execute(store, "DELETE FROM swarm_journal WHERE job = 'first' AND seq = :row", row=row)
    with pytest.raises(StoreDamaged, match=rf"journal of job 'first' .* row {row}: it is missing.*swarm delete first"):
        list(store.events("first"))
    assert list(store.events("first", row + 1)) == events[row + 1 :] if row < 21 else True
    [finding] = store.check().findings
    assert (finding.what, "swarm delete first" in finding.remedy) == (f"journal of job 'first', row {row}", True)


def test_a_job_whose_code_is_lost_is_no_job_without_code(store: Store) -> None:
    code = store.code("first")
    execute(store, "DELETE FROM swarm_job_code WHERE job = 'first'")
    assert store.code("first") == code
    execute(store, "DELETE FROM swarm_job_code")
    execute(store, "DELETE FROM swarm_code")
    with pytest.raises(JobNotFound, match="has no code"):
        store.code("first")


def test_rows_of_two_jobs_that_changed_places_are_noticed(store: Store) -> None:
    for old, new in (("first", "x"), ("second", "first"), ("x", "second")):
        execute(store, "UPDATE swarm_journal SET job = :new WHERE job = :old AND seq = 0", old=old, new=new)
    for name in NAMES:
        with pytest.raises(StoreDamaged, match="row 0"):
            next(store.events(name))


def test_one_damaged_job_does_not_hide_the_others(store: Store) -> None:
    execute(store, "UPDATE swarm_jobs SET spec = replace(spec, 'first', 'fir5t') WHERE name = 'first'")
    execute(store, "UPDATE swarm_submissions SET owner = 'bob'")
    store.set_submission(Submission("second", "ann"))
    damaged: dict[str, str] = {}
    assert [job.name for job in store.jobs(lambda name, error: damaged.update({name: str(error)}))] == ["second"]
    assert re.search("row of job 'first' .* is damaged.*swarm delete first", damaged.pop("first")) and not damaged
    assert [each.job for each in store.submissions(on_damage=lambda name, _: damaged.update({name: ""}))] == ["second"]
    assert store.ended(9, on_damage=lambda name, _: damaged.update({name: ""})) == [] and list(damaged) == ["first"]
    for listed in (store.jobs, store.submissions, store.specs, lambda: store.ended(9), lambda: store.job("first")):
        with pytest.raises(StoreDamaged):
            listed()
    assert store.job("second").name == "second"


@pytest.mark.parametrize("what", ["spec", "data"])
def test_what_the_error_advises_helps(store: Store, what: str) -> None:
    table, name = ("swarm_jobs", "name") if what == "spec" else ("swarm_journal", "job")
    execute(store, f"UPDATE {table} SET {what} = '{{' WHERE {name} = 'first'")
    with pytest.raises(StoreDamaged, match="swarm delete first"):
        store.job("first") if what == "spec" else list(store.events("first"))
    found = deletion(store, "first")
    assert found.damage is not None and "damaged" in found.damage
    found.do()
    assert (store.check().findings, [job.name for job in store.jobs()]) == ([], ["second"])
    with pytest.raises(JobNotFound):
        store.job("first")


def test_what_is_damaged_of_the_archive_can_be_forgotten_and_is_trained_again(store: Store) -> None:
    key, *others = keys_of(store)
    execute(store, "UPDATE swarm_archive SET result = replace(result, 'seconds', 'secondz') WHERE key = :key", key=key)
    with pytest.raises(StoreDamaged, match=rf"result '{key}' .* which job 'first' has trained.*forget --damaged"):
        store.answer(key)
    chosen = forgetting(store, damaged=True)
    assert chosen.keys == (key,)
    chosen.do()
    assert (store.answer(key), keys_of(store), store.check().findings) == (None, others, [])
    assert (
        search(job_of("third"), store, make_pool(train=lambda each: train(each.params, None))).state.counts["trained"]
        == 1
    )


def test_rows_of_an_earlier_version_are_read_without_a_checksum(store: Store, store_url: str) -> None:
    right = [list(store.events(name)) for name in NAMES], store.jobs(), store.submissions()
    tables = ("journal", "jobs", "archive", "submissions")
    assert store.check().unsealed == 0
    for table in tables:
        execute(store, f"ALTER TABLE swarm_{table} DROP COLUMN crc")
    execute(store, "ALTER TABLE swarm_jobs DROP COLUMN code")
    for index in ("swarm_submissions_ended", "swarm_submissions_states"):
        execute(store, f"DROP INDEX {index}")
    execute(store, "ALTER TABLE swarm_submissions DROP COLUMN ended")
    execute(store, "DROP TABLE swarm_lengths")
    execute(store, "UPDATE swarm_meta SET value = '3'")
    with closing(Store(store_url)) as again:
        assert ([list(again.events(name)) for name in NAMES], again.jobs(), again.submissions()) == right
        checked = again.check()
        assert (checked.findings, checked.unsealed) == ([], sum(checked.rows.values()))
        [(job, submission)] = again.ended(5)
        assert (job.name, submission.ended) == ("first", list(again.events("first"))[-1].time)
        again.append("first", 22, list(again.events("second"))[:1])
        assert again.length("first") == 23


def test_the_command_says_that_a_store_is_sound_or_what_to_do(tmp_path: Path) -> None:
    filled(str(tmp_path / "swarm.db")).close()
    done = run_swarm(tmp_path, "check")
    assert done.returncode == 0, done.stderr
    assert "is sound: 2 jobs, 1 submissions, 34 events, 10 results" in done.stdout
    with closing(sqlite3.connect(tmp_path / "swarm.db")) as database, database:
        database.execute("UPDATE swarm_journal SET data = '[red]' WHERE job = 'second' AND seq = 2")
    done = run_swarm(tmp_path, "check")
    assert done.returncode == 1
    said = " ".join(done.stdout.replace("│", " ").split())
    assert "journal of job 'second', row 2" in said and "checksum" in said and "swarm delete second" in said
    (tmp_path / "swarm.db").write_bytes((tmp_path / "swarm.db").read_bytes()[:4096] + b"\xff" * 9000)
    done = run_swarm(tmp_path, "check")
    assert done.returncode == 1 and "Traceback" not in done.stderr
