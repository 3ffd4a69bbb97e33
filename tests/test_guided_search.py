"""A search whose method ponders: it does so in a thread, and its journal is taken up without computing anything."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from swarm import Choice, Integer, Job, Real, SurrogatePSO
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Asked, Event
from swarm.trial import Evaluation, canonical

SPACE = {"x": Real(-5, 5), "n": Integer(1, 9), "act": Choice("a", "b"), "rate": Real(1e-4, 1, log=True, digits=2)}
OpenStore = Callable[..., Store]


def train(params: Any, ctx: Any = None) -> float | None:
    """Best, 0, at x = 1, n = 4; it fails now and then."""
    if params["act"] == "b" and params["x"] > 3:
        return None
    return (params["x"] - 1) ** 2 + abs(params["n"] - 4) + abs(math.log10(params["rate"]) + 2)


def make_job(**changes: Any) -> Job:
    fields: dict[str, Any] = {"name": "job", "problem": train, "space": SPACE, "direction": "minimize", "seed": 3}
    return Job(**{**fields, "optimizer": SurrogatePSO(trials=24, particles=4), **changes})


def make_pool(slots: int, trained: list[str], seed: int = 0) -> VirtualPool:
    rng = random.Random(seed)

    def noted(evaluation: Evaluation) -> float | None:
        trained.append(evaluation.key)
        return train(evaluation.params)

    return VirtualPool(slots, noted, lambda _: rng.lognormvariate(0.7, 0.6))


def search(job: Job, store: Store, slots: int, seed: int = 0, **options: Any) -> tuple[Search, list[str]]:
    """Search to the end, and the keys of what was trained."""
    enroll(job, store)
    found, trained = Search(job, store), []
    asyncio.run(found.run(make_pool(slots, trained, seed), **options))
    return found, trained


def trials(events: list[Event]) -> list[Any]:
    return [event.trial for event in events if isinstance(event, Asked)]


@pytest.mark.parametrize("cut", [0, 1, 8, 21, 30, 41])
def test_a_run_cut_at_any_event_goes_on_identically(cut: int, open_store: OpenStore) -> None:
    whole, store, job = open_store("whole"), open_store("cut"), make_job()
    expected, _ = search(job, whole, slots=1)
    events = list(whole.events("job"))
    enroll(job, store)
    store.append("job", 0, events[:cut])
    found, _ = search(job, store, slots=1)
    assert trials(list(store.events("job"))) == trials(events)
    assert (found.state.best, found.state.counts) == (expected.state.best, expected.state.counts)


@pytest.mark.parametrize("options", [{}, {"folds": 2}], ids=["alone", "a swarm for each fold"])
def test_a_run_cut_amid_trainings_trains_none_twice_and_none_too_few(
    options: dict[str, Any], open_store: OpenStore
) -> None:
    whole, store, job = open_store("whole"), open_store("cut"), make_job(**options)
    search(job, whole, slots=4)
    events = list(whole.events("job"))
    cut = len(events) // 2
    enroll(job, store)
    store.append("job", 0, events[:cut])
    _, trained = search(job, store, slots=4, seed=1)
    done = {event.data["key"] for event in events[:cut] if event.kind == "result"}
    assert not done & set(trained) and len(trained) == len(set(trained))
    asked = trials(list(store.events("job")))
    assert asked[: len(trials(events[:cut]))] == trials(events[:cut])
    assert len({(canonical(trial.params), trial.fold) for trial in asked}) == len(asked) == 24 * options.get("folds", 1)


def test_looking_at_a_journal_computes_nothing(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store, job = open_store(), make_job(folds=2)
    found, _ = search(job, store, slots=4)
    monkeypatch.delattr(SurrogatePSO, "_plan")
    again = Search(job, store)
    assert (again.state.best, again.state.told) == (found.state.best, found.state.told)


@pytest.mark.parametrize("options", [{}, {"folds": 2}], ids=["alone", "a swarm for each fold"])
def test_it_ponders_in_a_thread_and_asks_for_the_same_as_in_the_loop(
    options: dict[str, Any], open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, job = open_store("here"), open_store("there"), make_job(**options)
    search(job, here, slots=4)
    threads, plan = set(), SurrogatePSO._plan

    def noted(self: SurrogatePSO) -> Any:
        threads.add(threading.current_thread().name.rstrip("_0123456789"))
        return plan(self)

    monkeypatch.setattr(SurrogatePSO, "_plan", noted)
    with ThreadPoolExecutor(2, "asks") as asking:
        search(job, there, slots=4, asking=asking)
    assert threads == {"asks"}
    assert trials(list(there.events("job"))) == trials(list(here.events("job")))


def test_the_journal_has_what_the_model_expected(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(), store, slots=2)
    notes = [trial.note for trial in trials(list(store.events("job"))) if trial.note]
    assert 10 < len(notes) < 24
    assert all({"move", "expected", "spread"} <= note.keys() for note in notes)
