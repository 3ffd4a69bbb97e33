"""The loop, on a virtual clock: what it asks, answers, journals, repeats and resumes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from swarm import PSO, Choice, Grid, Hyperband, Integer, Job, Random, Real
from swarm.errors import JournalMismatch
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Asked
from swarm.trial import Evaluation, Result, Status

SPACE = {"x": Integer(0, 20), "y": Integer(0, 20)}
OpenStore = Callable[..., Store]


def bowl(params: Any, ctx: Any = None) -> float:
    """Best, 0, at x = 7, y = 12."""
    return -((params["x"] - 7) ** 2) - (params["y"] - 12) ** 2


def make_job(**changes: Any) -> Job:
    return Job(
        **{"name": "job", "problem": bowl, "space": SPACE, "optimizer": PSO(generations=12), "seed": 3} | changes
    )


def make_pool(slots: int = 6, seed: int = 0, train: Any = None, **options: Any) -> VirtualPool:
    """Slots whose trainings take random virtual seconds, so that they end in another order for each seed."""
    rng = random.Random(seed)
    return VirtualPool(slots, train or (lambda e: bowl(e.params)), lambda _: rng.lognormvariate(0.7, 0.6), **options)


def search(job: Job, store: Store, pool: VirtualPool | None = None) -> Search:
    enroll(job, store)
    found = Search(job, store)
    asyncio.run(found.run(pool or make_pool()))
    return found


def trajectory(store: Store, name: str = "job") -> list[tuple[Any, ...]]:
    """What the optimizer asked and how each evaluation was answered, in the order of trials."""
    rows = []
    for event in store.events(name):
        if event.kind == "asked":
            entries = [(e["key"], e["source"]) for e in event.data["evaluations"]]
            rows.append(
                (
                    event.data["id"],
                    event.data["generation"],
                    event.data["member"],
                    event.data["params"],
                    entries,
                )
            )
    return rows


def test_one_slot_and_many_slots_give_the_same_run(open_store: OpenStore) -> None:
    runs = []
    for slots in (1, 2, 6, 40):
        store = open_store(f"slots-{slots}")
        found = search(make_job(), store, make_pool(slots, seed=slots))
        runs.append((trajectory(store), found.state.counts, found.state.best))
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert runs[0][1]["trained"] + runs[0][1]["archive"] + runs[0][1]["in_flight"] == 6 * 13


def test_more_slots_take_less_time(open_store: OpenStore) -> None:
    pools = {slots: make_pool(slots) for slots in (1, 6)}
    for slots, pool in pools.items():
        search(make_job(), open_store(f"slots-{slots}"), pool)
    assert pools[6].now < 0.5 * pools[1].now


def test_no_position_is_trained_twice(open_store: OpenStore) -> None:
    trained: list[str] = []

    def train(evaluation: Evaluation) -> float:
        trained.append(evaluation.key)
        return bowl(evaluation.params)

    found = search(make_job(optimizer=PSO.paper(generations=60)), open_store(), make_pool(train=train))
    assert len(trained) == len(set(trained)) == found.state.counts["trained"]
    assert found.state.counts["archive"] > found.state.counts["trained"]


def test_particles_at_one_position_train_once_and_the_second_joins_in_flight(open_store: OpenStore) -> None:
    method = PSO(particles=6, generations=5, known="answer")
    job = make_job(space={"x": Integer(0, 1)}, problem=lambda params, ctx: float(params["x"]), optimizer=method)
    found = search(job, open_store(), make_pool(train=lambda e: float(e.params["x"])))
    assert found.state.counts["trained"] == 2
    assert found.state.counts["in_flight"] == 4  # six particles ask for two positions before any training has ended


def test_another_job_of_the_same_problem_is_answered_by_the_archive(open_store: OpenStore) -> None:
    store = open_store()
    first = search(make_job(), store)
    pool = make_pool(slots=1)
    second = search(make_job(name="again"), store, pool)
    assert pool.submitted == 0
    assert second.state.counts["trained"] == 0
    assert second.state.best == first.state.best


def test_without_the_archive_everything_is_trained(open_store: OpenStore) -> None:
    found = search(make_job(archive=False), open_store())
    assert found.state.counts == {"trained": 78, "archive": 0, "in_flight": 0, "failed": 0}


def test_another_problem_is_not_answered_by_the_archive(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(), store)
    pool = make_pool()
    search(make_job(name="other", problem=lambda params, ctx: bowl(params) + 1.0), store, pool)
    assert pool.submitted > 0


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_run_cut_at_any_event_goes_on_identically(cut: int, open_store: OpenStore) -> None:
    whole = open_store("whole")
    expected = search(make_job(optimizer=PSO(generations=6)), whole)
    events = list(whole.events("job"))
    job = make_job(optimizer=PSO(generations=6))
    store = open_store("cut")
    enroll(job, store)
    store.append("job", 0, events[:cut])
    done = {event.data["key"] for event in events[:cut] if event.kind == "result"}
    trained: list[str] = []

    def train(evaluation: Evaluation) -> float:
        trained.append(evaluation.key)
        return bowl(evaluation.params)

    found = search(job, store, make_pool(slots=3, seed=cut, train=train))
    assert [row[:4] for row in trajectory(store)] == [row[:4] for row in trajectory(whole)]
    assert (found.state.best, found.state.counts) == (expected.state.best, expected.state.counts)
    assert not done & set(trained)


def test_a_journal_that_does_not_follow_from_the_job_is_refused(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(), store)
    events = list(store.events("job"))
    forged = [
        replace(e, trial=replace(e.trial, params={"x": 0, "y": 0})) if isinstance(e, Asked) else e for e in events
    ]
    other = open_store("forged")
    enroll(make_job(), other)
    other.append("job", 0, forged)
    with pytest.raises(JournalMismatch, match=r"trial 0.*resume with the version"):
        Search(make_job(), other)


def test_failed_trainings_are_told_archived_and_never_the_best(open_store: OpenStore) -> None:
    store = open_store()
    odd = {"train": lambda e: None if e.params["x"] % 2 else bowl(e.params)}
    found = search(make_job(), store, make_pool(**odd))
    assert found.state.counts["failed"] > 0
    assert found.state.best is not None
    assert found.state.best.params["x"] % 2 == 0
    again = search(make_job(name="again"), store, VirtualPool(1, train=lambda e: pytest.fail("trained again")))
    assert again.state.counts["failed"] == found.state.counts["failed"]


def test_a_search_whose_every_training_fails_ends_without_a_best(open_store: OpenStore) -> None:
    found = search(make_job(), open_store(), make_pool(train=lambda e: None))
    assert found.state.finished()
    assert found.state.best is None


def test_a_training_that_crashes_once_is_repeated_and_counted_once(open_store: OpenStore) -> None:
    runs: Counter[str] = Counter()

    def train(evaluation: Evaluation) -> float | Status:
        runs[evaluation.key] += 1
        return Status.CRASHED if runs[evaluation.key] == 1 else bowl(evaluation.params)

    found = search(make_job(), open_store(), make_pool(train=train))
    assert set(runs.values()) == {2}
    assert found.state.counts["failed"] == 0
    assert found.state.counts["trained"] == len(runs)


def test_a_training_that_always_crashes_fails_after_two_runs_and_the_swarm_goes_on(
    open_store: OpenStore,
) -> None:
    runs: Counter[str] = Counter()

    def train(evaluation: Evaluation) -> float | Status:
        runs[evaluation.key] += 1
        return Status.CRASHED if evaluation.params["x"] > 7 else bowl(evaluation.params)

    found = search(make_job(), open_store(), make_pool(train=train))
    assert max(runs.values()) == 2
    assert found.state.counts["failed"] > 0
    assert found.state.best is not None
    assert found.state.best.params["x"] <= 7


def test_evaluations_of_slots_that_leave_run_again_and_nothing_is_counted_twice(
    open_store: OpenStore,
) -> None:
    expected = search(make_job(), open_store("calm"))
    changes = [(1.0, -3), (2.0, -3), (3.0, +2), (5.0, -1), (6.0, +4), (7.0, -2)]
    pool = make_pool(changes=changes)
    found = search(make_job(), open_store("stormy"), pool)
    assert (found.state.best, found.state.counts) == (expected.state.best, expected.state.counts)
    assert pool.submitted > found.state.counts["trained"]  # some did run twice


def test_a_crash_before_a_resume_still_counts_after_it(open_store: OpenStore) -> None:
    store = open_store()
    found = search(make_job(), store, make_pool(train=lambda e: Status.CRASHED))
    events = list(store.events("job"))
    cut = next(i for i, event in enumerate(events) if event.kind == "again") + 1
    blamed = events[cut - 1].data["key"]
    other = open_store("other")
    enroll(make_job(), other)
    other.append("job", 0, events[:cut])
    runs: Counter[str] = Counter()

    def train(evaluation: Evaluation) -> Status:
        runs[evaluation.key] += 1
        return Status.CRASHED

    again = search(make_job(), other, make_pool(train=train))
    assert runs[blamed] == 1
    assert again.state.counts == found.state.counts


def test_repeats_take_the_mean_over_seeds(open_store: OpenStore) -> None:
    store = open_store()
    job = make_job(repeats=3, optimizer=Random(trials=4))
    found = search(job, store, make_pool(train=lambda e: float(e.repeat)))
    assert found.state.counts["trained"] == 12
    assert found.state.best is not None
    assert found.state.best.fitness == 1.0
    seeds = {evaluation.seed for event in [found.state.best.trial] for evaluation in job.evaluations(event)}
    assert len(seeds) == 3


def test_the_mean_over_folds_is_one_swarm_and_every_fold_is_trained(open_store: OpenStore) -> None:
    job = make_job(folds=10, fold_mode="mean", optimizer=Random(trials=3))
    found = search(job, open_store(), make_pool(slots=4, train=lambda e: float(e.fold)))
    assert found.state.counts["trained"] == 30
    assert found.state.best is not None
    assert found.state.best.fitness == 4.5


def test_a_swarm_per_fold_is_independent_of_the_others_and_of_the_slots(open_store: OpenStore) -> None:
    runs = []
    for slots in (1, 9):
        store = open_store(f"slots-{slots}")
        job = make_job(folds=3, optimizer=PSO(generations=4))
        search(job, store, make_pool(slots, seed=slots, train=lambda e: bowl(e.params) + e.fold))
        runs.append({row[0]: row[1:4] for row in trajectory(store)})
    assert runs[0] == runs[1]
    assert len(runs[0]) == 3 * 6 * 5


def test_one_failed_fold_fails_the_trial(open_store: OpenStore) -> None:
    job = make_job(folds=4, fold_mode="mean", optimizer=Random(trials=2))
    found = search(job, open_store(), make_pool(train=lambda e: None if e.fold == 2 else 1.0))
    assert found.state.counts["failed"] == 2
    assert found.state.best is None


@pytest.mark.parametrize("slots", [1, 4, 12])
def test_a_target_ends_the_swarm_with_its_generation_whatever_the_slots(slots: int, open_store: OpenStore) -> None:
    found = search(make_job(stop={"target": -40.0}), open_store(), make_pool(slots))
    assert found.state.end_reason == "target reached"
    assert found.state.told == found.state.asked == 6 * len(found.state.generations)
    assert found.state.told < 6 * 13
    reached = [n for n, row in found.state.generations.items() if row.high >= -40.0]
    assert reached == [max(found.state.generations)]


def test_a_minimised_fitness_is_reported_in_its_own_direction(open_store: OpenStore) -> None:
    job = make_job(direction="minimize", stop={"target": 0.0}, optimizer=PSO(generations=100))
    found = search(job, open_store(), make_pool(train=lambda e: -bowl(e.params)))
    assert found.state.best is not None
    assert (found.state.best.fitness, found.state.best.params) == (0.0, {"x": 7, "y": 12})


def test_an_evaluation_budget_stops_a_random_search_exactly(open_store: OpenStore) -> None:
    job = make_job(optimizer=Random(trials=100), stop={"evaluations": 17})
    found = search(job, open_store())
    assert (found.state.told, found.state.end_reason) == (17, "evaluations used up")


def test_a_time_budget_stops_asking(open_store: OpenStore) -> None:
    pool = VirtualPool(2, train=lambda e: bowl(e.params), seconds=lambda _: 10.0)
    found = search(make_job(optimizer=Random(trials=100), stop={"seconds": 35.0}), open_store(), pool)
    assert (found.state.told, found.state.end_reason) == (8, "time used up")


def test_generations_without_a_training_stop_a_converged_swarm(open_store: OpenStore) -> None:
    job = make_job(optimizer=PSO.paper(generations=500), stop={"idle_generations": 5})
    found = search(job, open_store())
    assert found.state.end_reason == "no training in 5 generations"
    assert all(found.state.generations[n].sources["trained"] == 0 for n in sorted(found.state.generations)[-5:])


def test_mixed_spaces_travel_through_the_journal(open_store: OpenStore) -> None:
    space = {
        "n": Integer(1, 48),
        "lr": Real(1e-4, 1e-1, log=True),
        "act": Choice("relu", "tanh"),
        "batch": 128,
    }
    job = make_job(space=space, optimizer=PSO(generations=3))
    store = open_store()
    found = search(job, store, make_pool(train=lambda e: e.params["lr"]))
    replayed = Search(job, store)
    assert replayed.state.best == found.state.best
    assert replayed.state.best is not None
    assert set(replayed.state.best.params) == set(space)


def test_looking_at_a_run_changes_nothing(open_store: OpenStore) -> None:
    store = open_store()
    enroll(make_job(), store)
    Search(make_job(), store)
    assert list(store.events("job")) == []
    assert store.job("job").status == "new"


def test_promoted_trials_continue_their_parents_and_old_checkpoints_are_let_go(open_store: OpenStore) -> None:
    job = make_job(optimizer=Hyperband(min_budget=1, max_budget=9, iterations=12), checkpoints=True)
    store = open_store()
    enroll(job, store)
    saved: dict[str, Evaluation] = {}
    forgotten: set[str] = set()

    def train(evaluation: Evaluation) -> float:
        if evaluation.parent is not None:
            parent = saved[evaluation.parent]  # it was trained before …
            assert evaluation.parent not in forgotten  # … and is still there
            assert parent.params == evaluation.params
            assert (parent.budget or 0) < (evaluation.budget or 0)
        saved[evaluation.key] = evaluation
        return bowl(evaluation.params)

    found = Search(job, store)
    asyncio.run(found.run(make_pool(5, train=train), forget=forgotten.update))
    continued = [evaluation for evaluation in saved.values() if evaluation.parent]
    assert len(continued) > 10
    assert len(saved) - len(forgotten) < 2 * 16 + 10  # what is kept does not grow with the search
    assert found.state.best is not None
    best = job.evaluations(found.state.best.trial)
    assert not {evaluation.key for evaluation in best} & forgotten


def test_without_checkpoints_a_promoted_configuration_is_one_evaluation_whatever_came_before(
    open_store: OpenStore,
) -> None:
    job = make_job(optimizer=Hyperband(min_budget=1, max_budget=9, iterations=6))
    parents: list[str | None] = []

    def train(evaluation: Evaluation) -> float:
        parents.append(evaluation.parent)
        return bowl(evaluation.params)

    search(job, open_store(), make_pool(train=train))
    assert set(parents) == {None}


def test_a_search_in_slices_cut_in_the_middle_goes_on_with_the_same_lineage(open_store: OpenStore) -> None:
    job = make_job(optimizer=Hyperband(min_budget=1, max_budget=9, iterations=6), checkpoints=True)
    whole = open_store("whole")
    expected = search(job, whole, make_pool(1))
    events = list(whole.events("job"))
    for cut in range(5, len(events), 11):
        store = open_store(f"cut-{cut}")
        enroll(job, store)
        store.append("job", 0, events[:cut])
        found = search(job, store, make_pool(1))
        assert trajectory(store) == trajectory(whole)
        assert found.state.best == expected.state.best


def test_a_job_ends_though_no_slot_is_free_any_more(open_store: OpenStore) -> None:
    class OneForAWhile(VirtualPool):
        def free(self) -> int:
            return 0 if self.submitted else super().free()

    found = search(make_job(optimizer=Random(trials=1)), open_store(), OneForAWhile(1, lambda _: 1.0))
    assert found.state.finished()
    assert found.state.told == 1


def test_what_another_search_has_trained_while_it_waited_is_not_trained_again(open_store: OpenStore) -> None:
    store = open_store()
    job, other = (make_job(name=name, space={"x": Integer(0, 5)}, optimizer=Grid()) for name in ("job", "other"))

    class Meanwhile(VirtualPool):
        async def next(self) -> list[Result]:
            if not Search(other, store).state.finished():
                await Search(other, store).run(VirtualPool(6, lambda e: float(e.params["x"])))
            return await super().next()

    enroll(other, store)
    pool = Meanwhile(1, lambda e: float(e.params["x"]))
    found = search(job, store, pool)
    assert pool.submitted == 1
    assert found.state.told == 6
    assert found.state.best is not None and found.state.best.params == {"x": 5}
    again = Search(job, store)
    assert (again.state.finished(), again.state.told, again.state.best) == (True, 6, found.state.best)


def test_a_failure_by_the_circumstances_is_no_answer_for_another_job(open_store: OpenStore) -> None:
    store = open_store()
    space = {"x": Integer(0, 5)}
    away = make_job(space=space, optimizer=Grid(), max_failures=0)
    assert search(away, store, VirtualPool(2, lambda _: Status.FAILED)).state.counts["failed"] == 6
    pool = VirtualPool(2, lambda e: float(e.params["x"]))
    longer = search(make_job(name="longer", space=space, optimizer=Grid()), store, pool)
    assert (pool.submitted, longer.state.counts["failed"]) == (6, 0)
