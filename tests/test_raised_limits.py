"""A search that has ended goes on under its name when only its limits were raised; nothing is trained again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_master import job_of, mastered, scheduler, worker
from test_search import bowl, make_job, make_pool, search, trajectory

from swarm import (
    BOHB,
    GA,
    PSO,
    TPE,
    AsyncPSO,
    Client,
    Demes,
    Grid,
    Hyperband,
    Integer,
    Job,
    MuPlusLambda,
    Random,
    Real,
    Rescored,
    Staged,
    SurrogatePSO,
    run,
)
from swarm.errors import JobConflict, NotAllowed
from swarm.optimizers.base import Optimizer
from swarm.search import Search
from swarm.search.retry import retry
from swarm.store import Store
from swarm.store.events import Began, Ended, Extended
from swarm.trial import Evaluation, Status

OpenStore = Callable[..., Store]

METHODS: list[tuple[Optimizer, dict[str, Any]]] = [
    (PSO(particles=4, generations=3), {"generations": 6}),
    (AsyncPSO(particles=4, generations=3), {"generations": 6}),
    (GA(population=4, generations=3), {"generations": 6}),
    (Random(trials=10), {"trials": 25}),
    (Random(proportion=0.02), {"proportion": 0.05}),
    (TPE(trials=14), {"trials": 20}),
    (SurrogatePSO(trials=12, particles=5), {"trials": 18}),
    (Hyperband(min_budget=1, max_budget=9, iterations=2), {"iterations": 5}),
    (BOHB(min_budget=1, max_budget=9, iterations=2), {"iterations": 5}),
    (Staged(stages=[[1, 8], [3, 4]]), {"stages": [[1, 8], [3, 4], [9, 5]]}),
    (MuPlusLambda(evaluations=8, restarts=1), {"restarts": 3}),
    (MuPlusLambda(evaluations=8, restarts=0), {"evaluations": 19}),
    (
        Demes(of=PSO(particles=3, generations=4), interval=2),
        {"of": PSO(particles=3, generations=8)},
    ),
]


def named(case: Any) -> str:
    return type(case).__name__ if isinstance(case, Optimizer) else ",".join(case)


class Trainings:
    """Counts what is trained."""

    def __init__(self) -> None:
        self.trained: Counter[str] = Counter()

    def __call__(self, evaluation: Evaluation) -> float:
        self.trained[evaluation.key] += 1
        return bowl(evaluation.params)


@pytest.mark.matrix
@pytest.mark.parametrize(("method", "limits"), METHODS, ids=named)
@pytest.mark.parametrize("folds", [1, 3])
def test_a_search_goes_on_as_one_that_had_the_higher_limits_from_its_beginning(
    method: Optimizer, limits: dict[str, Any], folds: int, open_store: OpenStore
) -> None:
    trainings, store = Trainings(), open_store()
    slots = 5 if method.generational else 1
    first = search(make_job(optimizer=method, folds=folds), store, make_pool(slots, train=trainings))
    higher = make_job(optimizer=dataclasses.replace(method, **limits), folds=folds)
    again = search(higher, store, make_pool(slots, train=trainings))
    assert first.state.finished() and again.state.told > first.state.told
    assert set(trainings.trained.values()) == {1}
    expected = search(higher, open_store("undisturbed"), make_pool(slots))
    assert sorted(row[:4] for row in map(plain, trajectory(store))) == sorted(
        row[:4] for row in map(plain, trajectory(open_store("undisturbed")))
    )
    assert again.state.best == expected.state.best
    assert again.state.counts["trained"] == expected.state.counts["trained"]  # who joins in flight depends on the order
    looked = Search(higher, store).state
    assert (looked.best, looked.counts, looked.end_reason) == (again.state.best, again.state.counts, "done")
    assert search(higher, store, make_pool(1, train=trainings)).state.told == again.state.told, "it stays as it is"


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:3], sorted(row[3].items()), *row[4:])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ({"evaluations": 12}, {"evaluations": 30}),
        ({"evaluations": 12}, {}),
        ({"target": -50}, {"target": -1}),
        ({"target": -50, "evaluations": 40}, {"evaluations": 60}),
        ({"seconds": 5}, {"seconds": 50}),
        ({"gpu_hours": 0.002}, {"gpu_hours": 1}),
    ],
    ids=str,
)
def test_a_rule_of_stop_that_was_raised_lets_it_go_on(
    low: dict[str, float], high: dict[str, float], open_store: OpenStore
) -> None:
    trainings, store = Trainings(), open_store()
    first = search(make_job(stop=low), store, make_pool(train=trainings))
    again = search(make_job(stop=high), store, make_pool(train=trainings))
    assert first.state.end_reason != "done" and again.state.told > first.state.told
    assert set(trainings.trained.values()) == {1}
    if "seconds" not in low:
        expected = search(make_job(stop=high), open_store("undisturbed"))
        assert (again.state.best, again.state.counts) == (expected.state.best, expected.state.counts)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"optimizer": PSO(generations=2)}, "optimizer.generations is 2, was 12"),
        ({"optimizer": PSO(particles=7, generations=20)}, "optimizer.particles is 7, was 6"),
        ({"stop": {"evaluations": 5}}, "stop.evaluations is 5, was 30"),
        ({"stop": {"evaluations": 40, "seconds": 1}}, "stop.seconds is 1.0, was None"),
        ({"stop": {"evaluations": 40}, "seed": 4}, "seed is 4, was 3"),
    ],
    ids=str,
)
def test_whatever_else_differs_is_refused_and_what_may_be_raised_is_said(
    changes: dict[str, Any], complaint: str, open_store: OpenStore
) -> None:
    store = open_store()
    search(make_job(stop={"evaluations": 30}), store)
    before = list(store.events("job"))
    with pytest.raises(JobConflict, match=f"{complaint}.*another name.*only limits may differ, and be raised") as told:
        search(make_job(**{"stop": {"evaluations": 30}} | changes), store)
    assert "stop.evaluations is 40" not in str(told.value)
    assert list(store.events("job")) == before


@pytest.mark.parametrize("method", [Grid(), Rescored(of=Random(trials=9), top=2)], ids=named)
def test_a_method_without_limits_goes_on_by_the_rules_of_stop(method: Optimizer, open_store: OpenStore) -> None:
    trainings, store = Trainings(), open_store()
    search(make_job(optimizer=method, stop={"evaluations": 7}), store, make_pool(1, train=trainings))
    found = search(make_job(optimizer=method), store, make_pool(1, train=trainings))
    expected = search(make_job(optimizer=method), open_store("undisturbed"), make_pool(1))
    assert found.state.told == expected.state.told and set(trainings.trained.values()) == {1}
    assert found.state.best == expected.state.best


def test_a_search_that_was_stopped_half_way_takes_the_higher_limits_too(open_store: OpenStore) -> None:
    whole, folds = open_store("whole"), {"folds": 2}
    search(make_job(optimizer=PSO(generations=3), **folds), whole, make_pool(3))
    events = [event for event in whole.events("job") if not isinstance(event, Ended)]
    higher = make_job(optimizer=PSO(generations=5), **folds)
    for cut in range(1, len(events), 9):
        with closing(open_store(f"cut-{cut}")) as store:
            search(make_job(name="other"), store)  # nothing of it is in the way
            store.add_job("job", make_job(optimizer=PSO(generations=3), **folds).to_dict(), b"")
            store.append("job", 0, events[:cut])
            found = search(higher, store, make_pool(3))
            assert [type(each) for each in store.events("job")].count(Extended) == 1
            assert found.state.told == 2 * 6 * 6 and Search(higher, store).state.best == found.state.best


def test_limits_are_raised_again_and_again(open_store: OpenStore) -> None:
    trainings, store = Trainings(), open_store()
    for generations in (1, 2, 5, 9):
        found = search(make_job(optimizer=PSO(generations=generations)), store, make_pool(train=trainings))
    assert found.state.told == 60 and set(trainings.trained.values()) == {1}
    raised = [event.limits for event in store.events("job") if isinstance(event, Extended)]
    assert raised == [{"optimizer.generations": generations} for generations in (2, 5, 9)]


def test_what_had_failed_is_trained_again_after_limits_were_raised(open_store: OpenStore) -> None:
    """The failure stands before the place where the limits were raised, and that stays in the journal."""
    store, bad = open_store(), {"bad": True}

    def train(evaluation: Evaluation) -> float | Status:
        return Status.FAILED if bad["bad"] and evaluation.params["x"] % 5 == 0 else bowl(evaluation.params)

    job, higher = (make_job(optimizer=PSO(generations=n), folds=2, max_failures=0) for n in (3, 6))
    search(job, store, make_pool(train=train))
    search(higher, store, make_pool(train=train))
    bad["bad"] = False
    assert retry(store, higher)
    found = search(higher, store, make_pool(train=train))
    assert (found.state.told, found.state.counts["failed"]) == (2 * 6 * 7, 0)
    assert Search(higher, store).state.best == found.state.best


def test_a_journal_that_does_not_say_what_its_job_was_goes_on_as_well(open_store: OpenStore) -> None:
    """Earlier versions wrote none."""
    store = open_store()
    search(make_job(optimizer=PSO(generations=3)), store)
    events = list(store.events("job"))
    old = open_store("old")
    old.add_job("job", make_job(optimizer=PSO(generations=3)).to_dict(), b"")
    old.append("job", 0, [dataclasses.replace(e, job=None) if isinstance(e, Began) else e for e in events])
    found = search(make_job(optimizer=PSO(generations=6)), old)
    expected = search(make_job(optimizer=PSO(generations=6)), open_store("undisturbed"))
    assert found.state.best == expected.state.best


def test_a_second_search_goes_on_and_the_first_that_it_follows_does_not(open_store: OpenStore, tmp_path: Path) -> None:
    def job(first: int, second: int) -> Job:
        then = {"optimizer": Random(trials=second), "search": ["y"]}
        return Job(
            name="two",
            problem=flat,
            space={"x": Real(0, 1), "y": Real(0, 1)},
            optimizer=Random(trials=first),
            then=then,
            isolation="thread",
        )

    store = str(tmp_path / "swarm.db")
    assert len(run(job(3, 4), slots=1, store=store, progress=False).history) == 4
    found = run(job(3, 7), slots=1, store=store, progress=False)
    assert (len(found.history), found.counts["trained"]) == (7, 7)
    with pytest.raises(JobConflict, match=r"optimizer.trials is 5, was 3.*those of then can"):
        run(job(5, 7), slots=1, store=store, progress=False)


def flat(params: Any, ctx: Any) -> float:
    return float(params["x"] + params["y"])


async def test_a_job_of_the_service_goes_on_when_it_is_submitted_with_higher_limits(tmp_path: Path) -> None:
    trained = tmp_path / "trained"

    def train(params: Any, ctx: Any) -> float:
        with trained.open("a") as log:
            log.write(f"{params['x']}\n")
        return float(params["x"])

    def job(trials: int) -> Job:
        return job_of(
            problem=train, space={"x": Integer(0, 10**6)}, optimizer=Random(trials=trials), isolation="thread"
        )

    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        ann, bob = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "bob"))
        await (await ann.submit(job(5))).wait(timeout=60)
        with pytest.raises(NotAllowed):
            await bob.submit(job(9))
        state = await (await ann.submit(job(9))).wait(timeout=60)
        assert (state.state, state.told, state.counts["trained"], state.end_reason) == ("finished", 9, 9, "done")
        assert len(trained.read_text().split()) == 9
        with pytest.raises(JobConflict, match="optimizer.trials is 7, was 9.*only limits may differ"):
            await ann.submit(job(7))


async def test_a_job_that_goes_on_takes_higher_limits_while_its_trainings_run(tmp_path: Path) -> None:
    gate, trained = tmp_path / "gate", tmp_path / "trained"

    def train(params: Any, ctx: Any) -> float:
        import time

        with trained.open("a") as log:
            log.write(f"{params['x']}\n")
        while not gate.exists():  # a training that takes as long as the test wants
            time.sleep(0.02)
        return float(params["x"])

    def job(trials: int) -> Job:
        return job_of(
            problem=train, space={"x": Integer(0, 10**6)}, optimizer=Random(trials=trials), isolation="thread"
        )

    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        handle = await client.submit(job(3))
        while not trained.exists():
            await asyncio.sleep(0.05)
        assert await (await client.submit(job(6))).status == "active"
        gate.touch()
        state = await handle.wait(timeout=60)
        assert (state.state, state.told, state.planned) == ("finished", 6, 6)
        assert len(trained.read_text().split()) == 6
