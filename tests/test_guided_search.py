"""A search whose method ponders: it does so in a thread, and its journal is taken up without computing anything."""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swarm import PSO, Choice, Integer, Job, Real, Space, SurrogatePSO, run
from swarm.config import quiet_dask
from swarm.dashboard.search import model
from swarm.errors import InvalidOptimizer
from swarm.plain import canonical
from swarm.pool.virtual import VirtualPool
from swarm.report.foretold import foretold
from swarm.report.page import Picture, Table, Text
from swarm.report.tables import Tables
from swarm.runner import Run, enroll
from swarm.search import Search
from swarm.service.published.snapshot import View
from swarm.store import Store
from swarm.store.events import Asked, Event
from swarm.store.records import JobStatus
from swarm.trial import Evaluation

quiet_dask()

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


# --- what earlier searches have found


def known(store: Store, name: str) -> list[Any]:
    first = next(iter(store.events(name)))
    return list(first.data.get("known", []))


@pytest.mark.parametrize("options", [{}, {"repeats": 2}, {"folds": 2, "fold_mode": "mean"}, {"folds": 2}])
def test_another_search_of_the_same_problem_begins_with_what_is_known(
    options: dict[str, Any], open_store: OpenStore
) -> None:
    store = open_store()
    first, _ = search(make_job(**options), store, slots=3)
    before = trials(list(store.events("job")))
    succeeded = first.state.told - first.state.counts["failed"]
    job = make_job(name="other", seed=4, **options)
    second, trained = search(job, store, slots=3)
    assert len(known(store, "other")) == succeeded
    asked = trials(list(store.events("other")))
    again = {(canonical(trial.params), trial.fold) for trial in asked} & {(canonical(t.params), t.fold) for t in before}
    assert len(again) == (2 if options == {"folds": 2} else 1)  # the best of each search, which costs nothing
    assert second.state.counts["archive"] == (1 if not options else 2) and trained
    assert first.state.best is not None and second.state.best is not None
    assert second.state.best.fitness <= first.state.best.fitness
    replayed = Search(job, store)
    assert replayed.state.best == second.state.best and replayed.state.finished()


@pytest.mark.parametrize(
    "changes",
    [
        {"archive": False},
        {"space": {**SPACE, "act": Choice("c", "d")}},
        {"fitness": "size", "direction": "minimize"},
        {"problem": lambda params, ctx: 0.0},
        {"optimizer": "PSO"},
        {"repeats": 2},
    ],
    ids=[
        "no archive",
        "another space",
        "another fitness",
        "another problem",
        "a method that learns nothing",
        "repeats",
    ],
)
def test_what_is_no_result_of_the_same_training_is_not_begun_with(
    changes: dict[str, Any], open_store: OpenStore
) -> None:
    store = open_store()
    search(make_job(), store, slots=3)
    job = make_job(name="other", stop={"evaluations": 2}, **changes)
    search(job, store, slots=3)
    assert known(store, "other") == []


def test_results_of_a_wider_space_help_where_they_belong_to_the_narrower(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(), store, slots=3)
    narrow = {**SPACE, "x": Real(0, 5)}
    search(make_job(name="other", space=narrow), store, slots=3)
    wide = [trial for trial in trials(list(store.events("job"))) if trial.params["x"] >= 0]
    assert 0 < len(known(store, "other")) <= len(wide)


def test_a_finite_space_that_is_all_known_is_done_with_its_best(open_store: OpenStore) -> None:
    store, space = open_store(), {"x": Integer(0, 2), "n": Integer(3, 4), "act": "a", "rate": 0.01}
    search(make_job(space=space), store, slots=3)
    found, trained = search(make_job(name="other", space=space), store, slots=3)
    assert found.state.told == 1 and not trained
    assert found.state.best is not None and found.state.best.params["x"] == 1 and found.state.best.params["n"] == 4


def test_a_method_takes_earlier_results_only_if_it_learns_and_before_it_asks() -> None:
    space = Space(SPACE)
    params = space.decode([0.5] * 4)
    with pytest.raises(InvalidOptimizer, match="PSO takes no results of earlier searches"):
        PSO().start(space).learn(params, 1.0)
    optimizer = SurrogatePSO().start(space)
    optimizer.ask()
    with pytest.raises(InvalidOptimizer, match="not any more"):
        optimizer.learn(params, 1.0)


# --- what a report says


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_report_says_how_well_the_model_foretold_and_what_the_best_moves_were(
    direction: str, open_store: OpenStore
) -> None:
    store, sign = open_store(), 1 if direction == "minimize" else -1
    job = make_job(direction=direction, optimizer=SurrogatePSO(trials=40, particles=4))
    enroll(job, store)
    found = Search(job, store)
    pool = VirtualPool(3, lambda e: None if (loss := train(e.params)) is None else sign * loss)
    asyncio.run(found.run(pool))
    tables = Tables(Run(found.state, store.url, JobStatus.FINISHED))
    rows = tables.history.foretold
    assert 25 < len(rows) <= 36
    assert rows["expected"].rank().corr(rows["fitness"].rank()) > 0.3
    text, *pictures, table = foretold(tables)
    assert isinstance(text, Text) and "rank correlation" in text.text
    assert [type(each) for each in pictures] == [Picture, Picture]
    assert isinstance(table, Table) and sum(int(row[2]) for row in table.rows) == 10
    assert sum(int(row[1]) for row in table.rows) == len(rows)
    view = View(job.direction)
    for event in store.events(job.name):
        view.apply(event)
    seen = model.foretold(View.from_dict(json.loads(json.dumps(view.to_dict()))))
    said = list(rows[["trial", "expected", "fitness"]].itertuples(index=False, name=None))
    assert [(each.trial, each.expected, each.fitness) for each in seen] == said, "the live page shows what it does"


def test_a_report_of_a_method_without_a_model_says_nothing_of_one(open_store: OpenStore) -> None:
    store = open_store()
    found, _ = search(make_job(optimizer=PSO(particles=4, generations=4)), store, slots=2)
    assert not list(foretold(Tables(Run(found.state, store.url, JobStatus.FINISHED))))


def test_a_job_that_names_no_method_runs_on_this_machine_and_is_taken_up_where_it_was(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"name": "job", "problem": train, "space": SPACE, "direction": "minimize", "seed": 3}
    job = Job(**fields, isolation="thread", max_failures=0, stop={"evaluations": 14})
    store = f"sqlite:///{tmp_path}/swarm.db"
    found = run(job, slots=1, store=store, progress=False)
    assert found.counts["trained"] == 14 and found.end_reason in ("done", "evaluations used up")
    assert found.best is not None and found.best.fitness < 6
    again = run(job, slots=1, store=store, progress=False)
    assert again.best == found.best and again.counts == found.counts
