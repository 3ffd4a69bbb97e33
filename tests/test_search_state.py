"""The state of a search as data: events in, decisions out, without a store, a pool or a clock."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from swarm import PSO, Job, Random, Real, SurrogatePSO
from swarm.errors import JournalMismatch
from swarm.search import CRASHES_ALLOWED, LOSSES_ALLOWED, SearchState, replay
from swarm.search.state import Request
from swarm.store.events import Again, Answered, Asked, Began, Ended, Event
from swarm.store.records import Source
from swarm.trial import Evaluation, Result, Status

SPACE = {"x": Real(-1, 1), "y": Real(-1, 1)}


def bowl(params, ctx):
    return params["x"] ** 2 + params["y"] ** 2


def make(**options: object) -> Job:
    return Job(**{"name": "job", "problem": bowl, "space": SPACE, "direction": "minimize", "seed": 5, **options})


def loss_of(evaluation: Evaluation) -> float:
    return float(evaluation.params["x"]) ** 2 + float(evaluation.params["y"]) ** 2


def run(state: SearchState, until: Callable[[SearchState], bool] = lambda _: False) -> list[Event]:
    """Apply what the state decides, and answer each training, the last first; the events."""
    events: list[Event] = [] if state.events else [Began(version="1")]
    for event in events:
        state.apply(event)
    while not state.finished() and not until(state):
        now = float(state.events)
        decided = state.next(now)
        if isinstance(decided, Request):
            decided = state.ask(decided, {}, now)
        if decided is None:
            evaluation = last(state)
            result = Result(key=evaluation.key, status=Status.OK, fitness=loss_of(evaluation), seconds=1.0)
            decided = state.judge(evaluation, result, now)
        state.apply(decided)
        events.append(decided)
    return events


def last(state: SearchState) -> Evaluation:
    """What is to be trained, and was asked for last."""
    *_, asked = state.unanswered.values()
    *_, evaluation = state.to_train(asked).values()
    return evaluation


def known(state: SearchState) -> tuple[object, ...]:
    return state.best, state.counts, state.generations, state.told, state.end_reason, set(state.unanswered)


METHODS = {
    "pso": PSO(particles=3, generations=4),
    "random": Random(trials=9),
    "guided": SurrogatePSO(trials=14, particles=4),
}


@pytest.mark.parametrize("optimizer", METHODS.values(), ids=METHODS)
def test_the_same_events_make_the_same_state_and_the_same_decisions(optimizer) -> None:
    job = make(optimizer=optimizer)
    whole = SearchState(job)
    events = run(whole)
    assert isinstance(events[-1], Ended) and events[-1].reason == "done"
    for cut in range(len(events)):
        state = replay(job, events[:cut])
        assert run(state) == events[cut:]
        assert known(state) == known(whole)


def test_a_copy_of_a_state_goes_on_as_the_state_itself() -> None:
    job = make(optimizer=PSO(particles=3, generations=4))
    state = SearchState(job)
    run(state, until=lambda state: state.told == 7)
    assert run(copy.deepcopy(state)) == run(state)


def test_what_is_being_trained_is_waited_for_and_what_was_trained_is_known() -> None:
    job = make(optimizer=Random(trials=3), repeats=1)
    state = SearchState(job)
    state.apply(Began(version="1"))
    first = state.next(0.0)
    assert isinstance(first, Request)
    asked = state.ask(first, {}, 0.0)
    state.apply(asked)
    [lookup] = asked.evaluations
    assert lookup.source is Source.TRAINED and set(state.unanswered) == {lookup.key}
    assert state.ask(first, {}, 1.0).evaluations[0].source is Source.IN_FLIGHT
    state.apply(Answered(result=Result(key=lookup.key, status=Status.OK, fitness=1.0), time=2.0))
    assert not state.unanswered
    again = state.ask(first, {}, 3.0)  # the store is not asked for what is at hand
    assert again.evaluations[0].source is Source.ARCHIVE and again.evaluations[0].result is not None


def test_what_the_store_knows_is_not_trained() -> None:
    state = SearchState(make(optimizer=Random(trials=3)))
    state.apply(Began(version="1"))
    request = state.next(0.0)
    assert isinstance(request, Request)
    [key] = request.unknown
    state.apply(state.ask(request, {key: Result(key=key, status=Status.OK, fitness=0.5)}, 0.0))
    assert state.told == 1 and state.counts["archive"] == 1 and not state.unanswered
    assert state.best is not None and state.best.fitness == 0.5


@pytest.mark.parametrize(
    ("status", "allowed"),
    [(Status.CRASHED, CRASHES_ALLOWED), (Status.LOST, LOSSES_ALLOWED), (Status.CANCELLED, LOSSES_ALLOWED)],
)
def test_a_training_that_ends_in_vain_runs_again_so_many_times(status: Status, allowed: int) -> None:
    state = SearchState(make(optimizer=Random(trials=1)))
    run(state, until=lambda state: bool(state.unanswered))
    evaluation = last(state)
    ended = Result(key=evaluation.key, status=status, error="it is gone", blamed=status is Status.CRASHED)
    for _ in range(allowed):
        event = state.judge(evaluation, ended, 1.0)
        assert isinstance(event, Again)
        state.apply(event)
        assert set(state.unanswered) == {evaluation.key}
    event = state.judge(evaluation, ended, 1.0)
    assert isinstance(event, Answered)
    assert event.result.status is Status.FAILED and f"({allowed + 1} times)" in (event.result.error or "")
    assert event.result.blamed is (status is Status.CRASHED)


def test_a_journal_of_another_search_is_refused() -> None:
    events = run(SearchState(make(optimizer=Random(trials=3))))
    with pytest.raises(JournalMismatch, match="event 1 holds trial 0"):
        replay(make(optimizer=Random(trials=3), seed=6), events)


def test_time_is_what_the_events_say() -> None:
    state = SearchState(make(optimizer=Random(trials=100), stop={"seconds": 30.0}))
    state.apply(Began(version="1", time=1000.0))
    assert isinstance(state.next(1029.0), Request)
    request = state.next(1029.0)
    assert isinstance(request, Request)
    answers = {key: Result(key=key, status=Status.OK, fitness=0.5) for key in request.unknown}
    state.apply(state.ask(request, answers, 1029.0))
    ended = state.next(1030.0)
    assert isinstance(ended, Ended) and ended.reason == "time used up" and ended.time == 1030.0


def test_asking_for_a_trial_twice_without_journalling_it_gives_the_same_trial() -> None:
    """The store may be away between the optimizer's question and the look into the archive."""
    state = SearchState(make(optimizer=Random(trials=3)))
    state.apply(Began(version="1"))
    assert state.next(0.0) == state.next(1.0)
    request = state.next(2.0)
    assert isinstance(request, Request)
    assert isinstance(state.ask(request, {}, 3.0), Asked)
