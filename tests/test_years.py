"""A service that is kept for years: what it does for a look or a submission does not grow with the jobs that ended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

sys.path.append(str(Path(__file__).parent.parent))

from services import Service

from benchmarks.cost import year
from swarm.runs.history import trials
from swarm.service import ended_jobs
from swarm.service.requests import Jobs
from swarm.store import State, Store, Submission

FEW, MANY = 40, 400


def asked(**what: Any) -> Callable[[Store], Any]:
    return lambda store: ended_jobs.page(store, Jobs(method="jobs", **what))


def submitted(store: Store) -> None:
    """What a master asks its store for when a job comes."""
    job = year.job_of(10**6)
    assert store.submission(job.name) is None
    store.submit(Submission(job.name, "ann"), job.to_dict(), job.code.pickle)
    store.job(job.name)
    store.durations(job.code.fingerprint, 500)
    store.delete_job(job.name)


QUESTIONS: dict[str, Callable[[Store], Any]] = {
    "a job that ended long ago": asked(name="job-1"),
    "a page but the first": asked(limit=20, when=2.0**40, last="z"),
    "those that have failed": lambda store: store.ended(20, states=[State.FAILED]),
    "those that go on": lambda store: store.submissions(active=True),
    "those to be deleted": lambda store: store.expired(0.0, 100),
    "a submission": submitted,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Stores of few and of many jobs that have ended."""
    folder = tmp_path_factory.mktemp("years")
    found = {jobs: folder / f"{jobs}.db" for jobs in (FEW, MANY)}
    for jobs, file in found.items():
        year.written(file, jobs)
    return found


def steps(file: Path, ask: Callable[[Store], Any]) -> int:
    """How many steps SQLite's machine takes for a question."""
    taken = Counter[str]()

    def count() -> int:
        taken["steps"] += 1
        return 0

    def watched(connection: Any, *_: Any) -> None:
        connection.connection.driver_connection.set_progress_handler(count, 1)

    with closing(Store(file)) as store:
        ask(store)  # what is asked first reads the schema
        sa.event.listen(store._engine, "before_cursor_execute", watched)
        ask(store)
    return taken["steps"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_takes_as_many_steps_after_many_jobs_as_after_few(files: dict[int, Path], question: str) -> None:
    few, many = (steps(files[jobs], QUESTIONS[question]) for jobs in (FEW, MANY))
    assert 0 < many <= few * 1.2 + 10


def test_jobs_are_counted_by_an_index_with_a_few_steps_for_each(files: dict[int, Path]) -> None:
    few, many = (steps(files[jobs], Store.counts) for jobs in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < 10
    with closing(Store(files[MANY])) as store, store._engine.connect() as connection:
        plan = "EXPLAIN QUERY PLAN SELECT state, count(*) FROM swarm_submissions GROUP BY state"
        assert "COVERING INDEX swarm_submissions_states" in str(connection.exec_driver_sql(plan).all())


def test_the_next_master_makes_an_index_that_the_store_of_an_earlier_version_lacks(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "swarm.db")) as store:
        with store._engine.begin() as connection:
            connection.exec_driver_sql("DROP INDEX swarm_submissions_states")
        assert store.lease("here", 10)
        names = {index["name"] for index in sa.inspect(store._engine).get_indexes("swarm_submissions")}
        assert "swarm_submissions_states" in names


def test_a_store_that_is_written_for_the_benchmark_is_as_if_its_jobs_had_run(files: dict[int, Path]) -> None:
    with closing(Store(files[FEW], create=False)) as store:
        assert store.counts() == {State.FINISHED: FEW}
        for job, submission in store.ended(FEW):
            assert submission.summary is not None and submission.summary["told"] == 4
            assert len(trials(store.events(job.name))) == 4
        assert store.check().findings == []


@pytest.mark.deep
def test_a_year_in_short_ends_with_all_jobs_finished_and_looks_on_the_way(tmp_path: Path) -> None:
    year.written(tmp_path / "swarm.db", 50)
    with Service(tmp_path) as service:
        service.started()
        looks, _ = year.year(service, 70, None, before=50)
    assert looks[0]["ended"] == 51 and looks[-1]["ended"] == 70
    for look in looks:
        assert set(look["memory_mib"]) == {"master", "scheduler"}
        assert all(look[question]["median"] > 0 for question in ("jobs", "status", "submit"))
