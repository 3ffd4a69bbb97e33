"""A snapshot is a cache of a replay: with it, without it and in spite of it, a search is in the same state."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pickle
import random
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_readers import METHODS, SPACE, TARGETS, measured, train

from swarm import Job
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.service import snapshots
from swarm.service.snapshots import Snapshots
from swarm.store import Event, State, Store, Submission
from swarm.store.records import Snapshot

NAME = "job"
_MANY = (dict, list, tuple, deque)


def job_of(method: str) -> Job:
    several: dict[str, Any] = {"fitness": TARGETS} if method == "several targets" else {"direction": "minimize"}
    return Job(name=NAME, problem=train, space=SPACE, optimizer=METHODS[method], seed=4, test=False, **several)


def journal_of(job: Job) -> list[Event]:
    """The whole journal of a search whose trainings end in any order."""
    times = random.Random(1)
    with closing(Store("sqlite:///journal.db")) as store:
        store.submit(Submission(NAME, "me"), job.to_dict(), job.code.pickle)
        asyncio.run(Search(job, store).run(VirtualPool(5, measured, lambda _: times.uniform(1, 9))))
        return list(store.events(NAME))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store("sqlite:///swarm.db")) as opened:
        yield opened


def replayed(store: Store, job: Job, every: int = 1) -> tuple[list[Any], int]:
    """All that a replay knows, and before how many events it was asked whether to go on."""
    asked = []
    state, outlet = Snapshots(store, every).replay(job, lambda: asked.append(1))
    return [described(state), outlet.message()], len(asked)


def described(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """A value down to its numbers, so that two that are alike in all are equal, and no other two."""
    if id(value) in seen:
        return "as above"
    inside = _parts(value)
    return (
        repr(value) if inside is None else [type(value).__name__, *(described(x, (*seen, id(value))) for x in inside)]
    )


def _parts(value: Any) -> list[Any] | None:
    """What a value is made of; None of a number, a text and the like."""
    if isinstance(value, type):
        return None
    if isinstance(value, _MANY):  # a Counter has attributes, too
        return list(value.items() if isinstance(value, dict) else value)
    if is_dataclass(value) and not hasattr(value, "__dict__"):
        return [getattr(value, each.name) for each in fields(value)]
    if hasattr(value, "__dict__"):
        known = vars(value) if not callable(value) else {}
        return [each for each in known.items() if each[0] not in ("job", "_on_event")]
    if isinstance(value, (np.ndarray, np.random.Generator)):
        return [
            value.bit_generator.state
            if isinstance(value, np.random.Generator)
            else (value.dtype.str, value.shape, value.tobytes())
        ]
    return sorted(value) if isinstance(value, (set, frozenset)) else None


@pytest.mark.parametrize("method", METHODS)
def test_a_replay_from_a_snapshot_knows_what_a_replay_of_all_knows(
    store: Store, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_of(method)
    events = journal_of(job)
    store.submit(Submission(NAME, "me"), job.to_dict(), job.code.pickle)
    written = 0
    for until in sorted({1, len(events) // 3, len(events) // 2, len(events) - 1, len(events)}):
        store.append(NAME, written, events[written:until])
        written = until
        found, fewer = replayed(store, job)
        kept = store.snapshot(NAME)
        assert kept is not None and kept.events == until
        again, none = replayed(store, job)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM swarm_snapshots")
        whole, all_of_them = replayed(store, job, every=10**9)
        assert found == whole and again == whole
        assert none == 0 and fewer <= all_of_them and all_of_them >= until
        store.keep_snapshot(NAME, kept)
    assert fewer < all_of_them
    assert not caplog.records


class _Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("called",)


def _resealed(snapshot: Snapshot, **changes: Any) -> Snapshot:
    changed = replace(snapshot, **changes)
    return changed.sealed(snapshots._seal(NAME, changed))


def _flipped(snapshot: Snapshot, place: int) -> Snapshot:
    state = bytearray(snapshot.state)
    state[place % len(state)] ^= 1
    return replace(snapshot, state=bytes(state))


SPOILED = {
    "a bit of it flipped": lambda found: _flipped(found, 1000),
    "of another number of events": lambda found: replace(found, events=found.events - 1),
    "of another version": lambda found: _resealed(found, maker="0" * 64),
    "of another journal": lambda found: _resealed(found, prefix="0" * 64),
    "of a longer journal": lambda found: _resealed(found, events=found.events + 99),
    "that is no snapshot": lambda found: _resealed(found, state=zlib.compress(pickle.dumps([1, 2]))),
    "that is cut short": lambda found: _resealed(found, state=found.state[:-9]),
    "that calls a function": lambda found: _resealed(found, state=zlib.compress(pickle.dumps(_Evil()))),
    "that is of the text kind": lambda found: replace(found, events="many"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_snapshot_that_cannot_be_trusted_is_passed_over(
    store: Store, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_of("PSO")
    store.submit(Submission(NAME, "me"), job.to_dict(), job.code.pickle)
    store.append(NAME, 0, journal_of(job))
    whole, all_of_them = replayed(store, job)
    kept = store.snapshot(NAME)
    assert kept is not None and not caplog.records
    store.keep_snapshot(NAME, SPOILED[kind](kept))
    found, as_many = replayed(store, job)
    assert found == whole and as_many == all_of_them
    assert "its snapshot is passed over" in caplog.text and not Path("called").exists()
    mended = store.snapshot(NAME)
    assert mended is not None and (mended.events, mended.prefix) == (kept.events, kept.prefix)


def test_a_damaged_journal_is_told_of_although_a_snapshot_knows_better(store: Store) -> None:
    job = job_of("PSO")
    store.submit(Submission(NAME, "me"), job.to_dict(), job.code.pickle)
    store.append(NAME, 0, journal_of(job))
    replayed(store, job)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE swarm_journal SET time = time + 1 WHERE seq = 3")
    with pytest.raises(Exception, match="damaged at row 3"):
        replayed(store, job)


def test_snapshots_leave_with_the_end_of_a_job_with_its_deletion_and_when_its_journal_is_cut(store: Store) -> None:
    job = job_of("PSO")
    store.submit(Submission(NAME, "me"), job.to_dict(), job.code.pickle)
    store.append(NAME, 0, journal_of(job))
    replayed(store, job)
    store.set_submission(Submission(NAME, "me", state=State.PAUSED))
    assert store.snapshot(NAME) is not None
    store.set_submission(Submission(NAME, "me", state=State.FINISHED))
    assert store.snapshot(NAME) is None
    replayed(store, job)
    store.cut(NAME, 5, [])
    assert store.snapshot(NAME) is None
    replayed(store, job)
    assert store.snapshot(NAME) is not None
    store.delete_job(NAME)
    assert store.snapshot(NAME) is None


@pytest.mark.parametrize("what", [_Evil(), logging.getLogger, Store, io.open])
def test_reading_a_snapshot_makes_nothing_but_what_snapshots_hold(what: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="nothing that a snapshot holds"):
        snapshots._Unpickler(io.BytesIO(pickle.dumps(what))).load()
    assert not Path("called").exists()
