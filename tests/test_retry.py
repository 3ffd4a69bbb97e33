"""Failed trainings are trained again under the same name, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_search import bowl, make_job, make_pool, search, trajectory

from swarm import PBT, PSO, AsyncPSO, Grid, Hyperband, Integer, Job, Random
from swarm.errors import AllFailed, InvalidInput, JobConflict
from swarm.optimizers.base import Optimizer
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.search.retry import retry
from swarm.store import Store
from swarm.store.events import Answered, Resumed
from swarm.trial import Evaluation, Result, Status, place_in

OpenStore = Callable[..., Store]


class Mount:
    """Trainings that read from a disk which is away for a part of the keys, until it is mended."""

    def __init__(self, away: Callable[[Evaluation], bool], end: Status | None = Status.FAILED) -> None:
        self.away, self.end = away, end
        self.mended = False
        self.trained: Counter[str] = Counter()

    def __call__(self, evaluation: Evaluation) -> float | Status | None:
        self.trained[evaluation.key] += 1
        return self.end if not self.mended and self.away(evaluation) else bowl(evaluation.params)


def odd(evaluation: Evaluation) -> bool:
    return bool(evaluation.params["x"] % 2)


METHODS: list[Optimizer] = [
    PSO(generations=6),
    AsyncPSO(particles=6, generations=6),
    Random(trials=30),
    Grid(),
    Hyperband(min_budget=1, max_budget=9),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("end", [Status.FAILED, None, Status.CRASHED], ids=["exception", "infeasible", "crash"])
def test_a_retried_run_ends_as_if_nothing_had_failed_and_trains_only_what_failed(
    method: Optimizer, end: Status | None, open_store: OpenStore
) -> None:
    job = make_job(optimizer=method, space={"x": Integer(0, 9), "y": Integer(0, 3)}, max_failures=0)
    store, mount = open_store(), Mount(odd, end)
    first = search(job, store, make_pool(1, train=mount))
    assert first.state.counts["failed"] > 0
    before = Counter(mount.trained)
    good = {key for key in before if (result := store.result(key)) and result.status is Status.OK}
    mount.mended = True
    failed = retry(store, job)
    assert failed == before.keys() - good
    again = search(job, store, make_pool(1, train=mount))
    assert (again.state.finished(), again.state.counts["failed"], again.state.end_reason) == (True, 0, "done")
    assert all(mount.trained[key] == before[key] for key in good), "nothing good is trained twice"
    undisturbed = search(job, open_store("undisturbed"), make_pool(1))
    assert again.state.best == undisturbed.state.best
    assert [row[:4] for row in trajectory(store)] == [row[:4] for row in trajectory(open_store("undisturbed"))]
    looked = Search(job, store)
    known, found = looked.state, again.state
    assert (known.best, known.counts, known.told) == (found.best, found.counts, found.told), "its journal is true"


def test_a_run_without_failures_stays_as_it_is(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(), store)
    events = list(store.events("job"))
    assert retry(store, make_job()) == set()
    assert list(store.events("job")) == events


def test_a_run_that_was_stopped_is_retried_with_what_had_come_in_by_then(open_store: OpenStore) -> None:
    whole, store, job = open_store("whole"), open_store(), make_job(max_failures=0)
    search(job, whole, make_pool(2, train=Mount(odd)))
    events = list(whole.events("job"))
    number = [isinstance(e, Answered) and e.result.status is Status.FAILED for e in events].index(True)
    store.add_job("job", job.to_dict(), b"")
    store.append("job", 0, events[: number + 4])
    failed = retry(store, job)
    assert events[number].data["key"] in failed
    kept = list(store.events("job"))
    assert kept[:number] == events[:number]
    came = [event for event in events[number : number + 4] if event.data.get("status") == "ok"]
    assert kept[number:] == [*came, kept[-1]]
    assert kept[-1].kind == "retried"
    assert search(job, store).state.counts["failed"] == 0


def test_a_failed_score_on_the_test_set_is_retried_alone(open_store: OpenStore) -> None:
    class Scored:
        def __call__(self, params: Any, ctx: Any) -> float:
            return 0.0

        def test(self, params: Any, ctx: Any) -> float:
            return 0.0

    job, store, mount = make_job(problem=Scored()), open_store(), Mount(lambda e: e.purpose == "test")
    assert search(job, store, make_pool(train=mount)).state.tests[0].status is Status.FAILED
    mount.mended, before = True, mount.trained.total()
    retry(store, job)
    assert search(job, store, make_pool(train=mount)).state.tests[0].status is Status.OK
    assert mount.trained.total() == before + 1


def test_a_failure_of_another_jobs_that_answered_is_retried_too(open_store: OpenStore) -> None:
    store, mount = open_store(), Mount(odd, None)
    search(make_job(name="other"), store, make_pool(train=mount))
    job = make_job()
    assert search(job, store, make_pool(train=mount)).state.counts["failed"] > 0
    mount.mended = True
    retry(store, job)
    assert search(job, store, make_pool(train=mount)).state.counts["failed"] == 0


def test_a_committed_failure_is_deleted_and_a_committed_success_is_not(tmp_path: Path, open_store: OpenStore) -> None:
    job, store, mount = make_job(), open_store(), Mount(odd, None)
    search(job, store, make_pool(train=mount))
    for key in mount.trained:
        path = Path(place_in(str(tmp_path / "results"), key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    failed = retry(store, job, str(tmp_path / "results"))
    left = {path.stem for path in (tmp_path / "results").rglob("*.json")}
    assert left == mount.trained.keys() - failed


def test_a_retried_training_may_crash_once_again(open_store: OpenStore) -> None:
    job, store = make_job(space={"x": Integer(0, 1)}, optimizer=Grid()), open_store()
    search(job, store, make_pool(1, train=lambda _: Status.CRASHED))
    retry(store, job)
    ends = Counter[str]()

    def once(evaluation: Evaluation) -> float | Status:
        ends[evaluation.key] += 1
        return Status.CRASHED if ends[evaluation.key] == 1 else 1.0

    assert search(job, store, make_pool(1, train=once)).state.counts["failed"] == 0


def test_a_process_whose_journal_was_cut_meanwhile_writes_nothing_any_more(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(max_failures=0), store, make_pool(train=Mount(odd)))
    events = len(list(store.events("job")))
    retry(store, make_job(max_failures=0))
    with pytest.raises(JobConflict, match="another process"):
        store.append("job", events, [Resumed(version="x", joined=False)])


def test_a_success_that_another_job_had_since_is_not_forgotten(open_store: OpenStore) -> None:
    job, store, mount = make_job(max_failures=0), open_store(), Mount(odd)
    search(job, store, make_pool(train=mount))
    mount.mended = True
    search(make_job(name="other"), store, make_pool(train=mount))
    before = mount.trained.total()
    retry(store, job)
    assert search(job, store, make_pool(train=mount)).state.counts["failed"] == 0
    assert mount.trained.total() == before


# --- methods that hand trainings on


class Handed:
    """A training that leaves something to continue from."""

    resumable = True

    def __call__(self, params: Any, ctx: Any) -> float:
        return 0.0


def population(**changes: Any) -> Job:
    method = PBT(population=4, max_budget=5)
    return make_job(**{"problem": Handed(), "optimizer": method, "test": False, "max_failures": 0, **changes})


def test_a_population_whose_checkpoints_are_gone_is_not_retried(open_store: OpenStore) -> None:
    job, store = population(), open_store()
    first = search(
        job, store, make_pool(train=Mount(lambda e: e.budget is not None and e.parent is not None and odd(e)))
    )
    assert first.state.counts["failed"] > 0
    events = list(store.events("job"))
    with pytest.raises(InvalidInput, match=r"checkpoints .* are deleted.*--again"):
        retry(store, job, kept=lambda _: False)
    assert list(store.events("job")) == events
    assert retry(store, job, kept=lambda _: True)
    assert search(job, store).state.counts["failed"] == 0


def test_a_population_that_never_began_is_retried(open_store: OpenStore) -> None:
    job, store = population(max_failures=3), open_store()
    with pytest.raises(AllFailed):
        search(job, store, make_pool(train=lambda _: Status.FAILED))
    retry(store, job)
    assert search(job, store).state.counts["failed"] == 0


# --- old stores


def old(key: str, error: str) -> dict[str, Any]:
    """A failure as the version before this one has written it."""
    return {
        "key": key,
        "status": "failed",
        "fitness": None,
        "metrics": {},
        "curve": [],
        "seconds": 1.0,
        "start": 0.0,
        "end": 1.0,
        "slot": "a",
        "error": error,
        "passing": False,
    }


def test_an_archived_failure_of_an_earlier_version_answers_only_if_the_configuration_was_to_blame(
    open_store: OpenStore, tmp_path: Path
) -> None:
    import sqlite3

    job, store = make_job(space={"x": Integer(0, 3)}, optimizer=Grid()), open_store()
    evaluations = [Evaluation.of(job.code.fingerprint, {"x": x}) for x in range(4)]
    store.append(
        "earlier", 0, [], [(each, Result(key=each.key, status=Status.OK, fitness=0.0)) for each in evaluations]
    )
    errors = [
        "FileNotFoundError: no data\nTraceback …",
        "Infeasible: too large",
        "InvalidProblem: the training returned a fitness of nan, which is no finite number",
        "training's process exited with code 3 (2 times)",
    ]
    with sqlite3.connect(tmp_path / "swarm.db") as connection:
        for each, error in zip(evaluations, errors, strict=True):
            row = (json.dumps(old(each.key, error)), each.key)
            connection.execute("UPDATE swarm_archive SET result = ?, crc = NULL WHERE key = ?", row)
    pool = VirtualPool(1, lambda e: float(e.params["x"]))
    found = search(job, store, pool)
    assert (pool.submitted, found.state.counts["failed"], found.state.counts["archive"]) == (1, 3, 0)
    better = store.answer(evaluations[0].key)
    assert better is not None and better.fitness == 0.0, "what was trained since takes the failure's place"
