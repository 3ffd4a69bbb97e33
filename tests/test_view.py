"""A view is the picture of a search that the journal tells, of bounded size, whatever the order and the pieces."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

import swarm.service.published.snapshot
from swarm import PBT, PSO, Hyperband, Integer, Job, Random, Real
from swarm.dashboard.searches import _bands
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.runs.history import trials
from swarm.search import Search
from swarm.service.published.publisher import Publisher
from swarm.service.published.snapshot import Lead, View
from swarm.store import Event, Store
from swarm.store.events import Again, Answered, read_event
from swarm.trial import Evaluation, Status

SPACE = {"x": Integer(0, 9), "y": Integer(0, 9)}
OpenStore = Callable[..., Store]


def bowl(params: Any, ctx: Any = None) -> float:
    return float(-((params["x"] - 7) ** 2) - (params["y"] - 2) ** 2)


def fitness(evaluation: Evaluation) -> float | None:
    """Where x is 5, a training fails."""
    return None if evaluation.params["x"] == 5 else bowl(evaluation.params)


def make_search(store: Store, on_event: Callable[[Event], None], **changes: Any) -> Search:
    job = Job(**{"name": "job", "problem": bowl, "space": SPACE, "optimizer": PSO.paper(generations=15)} | changes)
    enroll(job, store)
    found = Search(job, store, on_event)
    times = random.Random(1)
    asyncio.run(found.run(VirtualPool(4, fitness, lambda _: times.uniform(1, 5))))
    return found


def test_a_view_shows_what_the_search_knows(open_store: OpenStore) -> None:
    view, store = View("maximize"), open_store("store")
    found = make_search(store, view.apply)
    assert view.all.told == found.state.told == len(view.points) == 96
    assert found.state.best is not None
    assert view.points[-1].best == found.state.best.fitness
    assert view.reason == found.state.end_reason
    assert found.state.counts["archive"] and found.state.counts["failed"] and view.all.saved > 0
    for number, row in view.rows.items():
        known = found.state.generations[number]
        assert row.sources == known.sources
        assert (row.told, row.failed, row.start, row.end) == (known.told, known.failed, known.start, known.end)
        assert (row.low, row.high, row.mean) == pytest.approx((known.low, known.high, known.mean))
    table = trials(store.events("job")).set_index("trial")
    for point in view.points:
        expected = table.loc[point.trial]
        assert (point.source, point.slot, point.seconds) == (expected["source"], expected["slot"], expected["seconds"])
        assert point.params == {"x": expected["x"], "y": expected["y"]}


def test_a_view_that_was_sent_in_the_middle_goes_on_as_the_one_that_stayed(open_store: OpenStore) -> None:
    events: list[Event] = []
    make_search(open_store("store"), events.append)
    for middle in (0, 1, 17, len(events) // 2, len(events)):
        stayed = View("maximize")
        for event in events[:middle]:
            stayed.apply(event)
        sent = View.from_dict(json.loads(json.dumps(stayed.to_dict())))
        for event in events[middle:]:
            stayed.apply(event)
            sent.apply(event)
        assert sent.to_dict() == stayed.to_dict()


def test_a_long_search_is_thinned_out_evenly_and_keeps_its_best(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm.service.published.snapshot, "POINTS", 50)
    monkeypatch.setattr(swarm.service.published.snapshot, "GENERATIONS", 8)
    view = View("maximize")
    found = make_search(
        open_store("store"), view.apply, optimizer=PSO.paper(generations=60), space={"x": Real(6, 9)} | {"y": 2}
    )
    assert view.all.told == found.state.told == 366
    assert len(view.points) <= 51 and len(view.rows) <= 9
    assert view.all.sources["trained"] == found.state.counts["trained"]
    assert view.thinned >= 3
    assert found.state.best is not None
    assert found.state.best.fitness in [point.fitness for point in view.points]
    assert max(b.index - a.index for a, b in itertools.pairwise(view.points)) <= 2**view.thinned


@pytest.mark.parametrize("folds", [1, 3])
@pytest.mark.parametrize(
    "method", [PSO(particles=3, generations=60), Random(trials=150), Hyperband(min_budget=1, max_budget=9)], ids=str
)
def test_the_line_of_the_best_ends_at_the_best_however_much_was_dropped(
    method: Any, folds: int, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm.service.published.snapshot, "POINTS", 20)
    monkeypatch.setattr(swarm.service.published.snapshot, "GENERATIONS", 6)
    view = View("maximize")
    found = make_search(open_store("store"), view.apply, optimizer=method, folds=folds)
    assert found.state.best is not None and view.thinned
    assert view.lead == Lead(found.state.best.trial.id, found.state.best.fitness, found.state.best.trial.budget)
    sent = View.from_dict(json.loads(json.dumps(view.to_dict())))
    for each in (view, sent):
        line = _bands(each)["best"]
        assert line[-1] == found.state.best.fitness
        assert each.ordered()[0].trial == found.state.best.trial.id
    if found.state.best.trial.budget is None:
        assert line == sorted(line)


def test_of_equal_trials_the_lowest_number_is_the_best_whichever_was_answered_first(open_store: OpenStore) -> None:
    view, store = View("maximize"), open_store("store")
    job = Job(name="job", problem=bowl, space=SPACE, optimizer=Random(trials=9))
    enroll(job, store)
    found, seconds = Search(job, store, view.apply), iter(range(9, 0, -1))
    asyncio.run(found.run(VirtualPool(9, lambda _: 1.0, lambda _: next(seconds))))
    assert view.points[0].trial != 0
    assert found.state.best is not None and view.lead is not None
    assert found.state.best.trial.id == view.lead.trial == 0


def test_a_winner_has_a_line_of_ancestors(open_store: OpenStore) -> None:
    view = View("maximize")
    job = {"problem": heritable, "optimizer": PBT(population=4, max_budget=5), "checkpoints": True}
    found = make_search(open_store("store"), view.apply, **job)
    line = view.lineage()
    assert [point.generation for point in line] == [0, 1, 2, 3, 4]
    assert all(child.parent == parent.trial for parent, child in itertools.pairwise(line))
    assert found.state.best is not None
    assert line[-1].trial == found.state.best.trial.id


def heritable(params: Any, ctx: Any = None) -> float:
    return bowl(params)


heritable.resumable = True  # type: ignore[attr-defined]


def test_an_outlet_tells_all_at_first_and_then_what_is_new(open_store: OpenStore) -> None:
    job = Job(name="job", problem=bowl, space=SPACE, optimizer=Random(trials=30))
    outlet, store, messages = Publisher(job), open_store("store"), []
    enroll(job, store)

    def note(event: Event) -> None:
        if isinstance(event, Answered):
            event = replace(event, result=replace(event.result, curve=({"loss": 1.0},)))
        outlet.note(event)
        if len(messages) < 2 or random.random() < 0.2:
            messages.append(outlet.message())

    search = Search(job, store, note)
    asyncio.run(search.run(VirtualPool(4, fitness)))
    messages.append(outlet.message())
    assert outlet.message() is None
    whole, *news = (json.loads(message) for message in messages if message is not None)
    view = View.from_dict(whole["view"])
    for message in news:
        for kind, data, when in message["events"]:
            assert not data.get("curve")
            view.apply(read_event(kind, data, when))
    assert whole["job"]["space"] == {name: domain.to_dict() for name, domain in SPACE.items()}
    assert [asdict(point)["trial"] for point in view.points] != []
    assert view.all.told == search.state.told and view.reason == search.state.end_reason


def test_an_outlet_that_was_not_asked_for_long_tells_all_again(open_store: OpenStore) -> None:
    job = Job(name="job", problem=bowl, space=SPACE, optimizer=Random(trials=30))
    outlet = Publisher(job)
    assert "view" in json.loads(outlet.message() or "")
    for _ in range(2000):
        outlet.note(Again(key="k", status=Status.LOST))
    assert "view" in json.loads(outlet.message() or "")


def test_an_outlet_tells_a_scheduler_that_was_restarted_all_again() -> None:
    outlet = Publisher(Job(name="job", problem=bowl, space=SPACE, optimizer=Random(trials=30)))
    assert "view" in json.loads(outlet.message() or "")
    outlet.note(Again(key="k", status=Status.LOST))
    assert "events" in json.loads(outlet.message() or "")
    outlet.begin_again()
    assert "view" in json.loads(outlet.message() or "")
