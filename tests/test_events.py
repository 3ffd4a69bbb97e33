"""The lines of a journal: each event as it is written and read back, those of earlier versions, damaged ones."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm.errors import StoreDamaged
from swarm.store import Store
from swarm.store.events import (
    Again,
    Answered,
    Asked,
    Began,
    Ended,
    Enqueued,
    Event,
    Extended,
    Led,
    Lookup,
    Resumed,
    Retried,
    Stopped,
    read_event,
    without_curve,
)
from swarm.store.records import Source
from swarm.trial import Result, Status, Trial

OK = Result(key="k1", status=Status.OK, fitness=0.1 + 0.2, metrics={"loss": 1e-300}, seconds=2.5, start=1.0, end=3.5)
BAD = Result(key="k2", status=Status.FAILED, error="ValueError: “x” is no number\n  train.py, line 3", blamed=True)
TRIAL = Trial(id=7, params={"x": 0.1, "n": 3, "on": True, "how": "tanh"}, generation=2, member=1, budget=3.0, parent=4)

EVENTS = [
    Began(version="1.2.3", job={"name": "j"}, time=1.0),
    Resumed(version="1.2.4", joined=True, time=2.0),
    Asked(trial=TRIAL, evaluations=(Lookup("k1", Source.TRAINED), Lookup("k2", Source.ARCHIVE, BAD)), time=3.0),
    Asked(trial=dataclasses.replace(TRIAL, donors=(1, 2), fold=3), evaluations=(), purpose="test", time=4.0),
    Asked(trial=TRIAL, evaluations=(Lookup("k1", Source.IN_FLIGHT),), time=5.0),
    Answered(result=OK, time=6.0),
    Answered(result=BAD, time=7.0),
    Again(key="k1", status=Status.LOST, error="its worker went away", time=8.0),
    Again(key="k1", status=Status.CRASHED, error=None, blamed=True, time=9.0),
    Retried(failures=2, keys=("k1", "k2"), time=10.0),
    Ended(reason="done", time=11.0),
    Enqueued(configurations=({"x": 0.5}, {"n": 3, "how": "tanh"}), user="ann", time=11.1),
    Stopped(reason="enough", time=11.2),
    Extended(version="1.2.5", limits={"optimizer.trials": 9}, optimizer={"name": "Random", "trials": 9}, time=11.5),
    Ended(reason="its first 5 trainings have all failed", failed=True, time=12.0),
    Led(trial=7, fitness=-0.5, generation=2, time=13.0),
]


@pytest.mark.parametrize("event", EVENTS, ids=[f"{place}-{event.kind}" for place, event in enumerate(EVENTS)])
def test_an_event_is_read_back_from_json_as_it_was(event: Event) -> None:
    line = json.dumps(event.data, allow_nan=False)
    assert read_event(event.kind, json.loads(line), event.time) == event


def test_a_store_gives_back_the_events_that_it_was_given(tmp_path: Path) -> None:
    journal = [event for event in EVENTS if not isinstance(event, Led)]
    with closing(Store(tmp_path / "swarm.db")) as store:
        store.append("job", 0, journal[:5])
        store.append("job", 5, journal[5:])
        assert list(store.events("job")) == journal


OLD: list[tuple[str, dict[str, Any], Event]] = [
    ("job", {"version": "0.1"}, Began(version="0.1")),
    ("again", {"key": "k1", "status": "crashed"}, Again(key="k1", status=Status.CRASHED)),
    ("ended", {"reason": "done"}, Ended(reason="done")),
    (
        "asked",
        {
            "id": 0,
            "params": {"x": 1},
            "generation": 0,
            "member": 0,
            "fold": None,
            "budget": None,
            "evaluations": [{"key": "k", "source": "trained", "result": None}],
        },
        Asked(trial=Trial(id=0, params={"x": 1}), evaluations=(Lookup("k", Source.TRAINED),)),
    ),
    (
        "result",
        {"key": "k", "status": "failed", "fitness": None, "error": "Infeasible: too large", "passing": False},
        Answered(result=Result(key="k", status=Status.FAILED, error="Infeasible: too large", blamed=True)),
    ),
]


@pytest.mark.parametrize(("kind", "data", "event"), OLD, ids=[kind for kind, *_ in OLD])
def test_a_line_of_an_earlier_version_is_read(kind: str, data: dict[str, Any], event: Event) -> None:
    assert read_event(kind, data, 0.0) == event


DAMAGE = {
    "a kind that does not exist": ("kind", "result", "resolt"),
    "no JSON": ("data", "ok", 'o"k'),
    "a status that does not exist": ("data", "ok", "oq"),
    "a field's name": ("data", "key", "kez"),
    "a number that is text": ("data", "ok", "failed"),  # a failure with a fitness
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_names_the_job_the_row_and_what_to_do(tmp_path: Path, damage: tuple[str, str, str]) -> None:
    column, old, new = damage
    with closing(Store(tmp_path / "swarm.db")) as store:
        store.append("job", 0, [EVENTS[0], Answered(result=OK, time=1.0)])
    with closing(sqlite3.connect(tmp_path / "swarm.db")) as connection, connection:
        connection.execute(f"UPDATE swarm_journal SET {column} = replace({column}, ?, ?) WHERE seq = 1", (old, new))
    with closing(Store(tmp_path / "swarm.db")) as store, pytest.raises(StoreDamaged) as caught:
        list(store.events("job"))
    for part in ("'job'", "row 1", "swarm.db", "Restore", "swarm delete job"):
        assert part in str(caught.value)


def test_only_the_learning_curve_goes() -> None:
    result = dataclasses.replace(OK, curve=({"loss": 1.0},))
    assert without_curve(Answered(result=result, time=1.0)) == Answered(result=OK, time=1.0)
    assert without_curve(EVENTS[0]) is EVENTS[0]
