"""Upkeep of a store: what the archive holds, what of it to forget, and runs that are to go."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import run_swarm
from test_search import make_pool, search

from swarm import Grid, Integer, Job, Random
from swarm.errors import InvalidInput, JobConflict, JobNotFound
from swarm.runs.upkeep import deletion, forgetting, holdings
from swarm.search.deletion import expired
from swarm.store import Store, Submission
from swarm.store.run_lock import alone
from swarm.trial import Evaluation, place_in

BIN = Path(sys.executable).parent


def train(params: Any, ctx: Any) -> float:
    return float(params["x"])


def other_train(params: Any, ctx: Any) -> float:
    return float(params["x"]) + 1


class Kept:
    """A training that leaves a checkpoint."""

    resumable = True

    def __call__(self, params: Any, ctx: Any) -> float:
        return 0.0


def job_of(name: str, **changes: Any) -> Job:
    fields = {"problem": train, "space": {"x": Integer(0, 9)}, "optimizer": Grid(), "test": False}
    return Job(**{"name": name, **fields, **changes})


def half(evaluation: Evaluation) -> float | None:
    return None if evaluation.params["x"] % 2 else 1.0


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with two runs of one problem, one of another; on SQLite and on PostgreSQL."""
    opened = Store(store_url)
    for job in (job_of("first"), job_of("second", space={"x": Integer(0, 12)}), job_of("third", problem=other_train)):
        search(job, opened, make_pool(train=half))
    yield opened
    opened.close()


def fingerprint(store: Store, name: str) -> str:
    return str(store.specs()[name]["problem"]["fingerprint"])


def test_the_archive_is_listed_by_problem(store: Store) -> None:
    found = {each.problem: each for each in holdings(store)}
    first, third = found[fingerprint(store, "first")], found[fingerprint(store, "third")]
    assert (first.names, first.trainings, first.failures) == (("train",), 13, 6)
    assert (third.names, third.trainings, third.failures) == (("other_train",), 10, 5)
    assert first.bytes > third.bytes > 1000
    assert [each.bytes for each in holdings(store)] == sorted((first.bytes, third.bytes), reverse=True)


@pytest.mark.matrix  # each choice, and each kind of store
@pytest.mark.parametrize(
    ("choice", "left"),
    [
        ({"run": "second"}, {"train": (10, 5), "other_train": (10, 5)}),
        ({"problem": "train"}, {"other_train": (10, 5)}),
        ({"failures": True}, {"train": (7, 0), "other_train": (5, 0)}),
        ({"failures": True, "run": "first"}, {"train": (8, 1), "other_train": (10, 5)}),
        ({"failures": True, "problem": "other_train"}, {"train": (13, 6), "other_train": (5, 0)}),
        ({"run": "first", "problem": "other_train"}, {"train": (13, 6), "other_train": (10, 5)}),
    ],
)
def test_what_is_chosen_is_forgotten_and_nothing_else(
    choice: dict[str, Any], left: dict[str, tuple[int, int]], store: Store
) -> None:
    before = sum(each.trainings for each in holdings(store))
    chosen = forgetting(store, **choice)
    assert sum(each.trainings for each in holdings(store)) == before, "looking changes nothing"
    chosen.do()
    assert {each.names[0]: (each.trainings, each.failures) for each in holdings(store)} == left
    assert before - len(chosen.keys) == sum(count for count, _ in left.values())


def test_a_problem_is_chosen_by_the_beginning_of_its_fingerprint(store: Store) -> None:
    assert len(forgetting(store, problem=fingerprint(store, "third")[:8]).keys) == 10
    with pytest.raises(InvalidInput, match=r"no problem 'trian'.*train \("):
        forgetting(store, problem="trian")
    with pytest.raises(InvalidInput, match="say what to forget"):
        forgetting(store)
    with pytest.raises(JobNotFound, match="nobody"):
        forgetting(store, run="nobody")


def test_what_is_forgotten_is_trained_again_though_its_result_was_committed(store: Store, tmp_path: Path) -> None:
    results = tmp_path / "results"
    keys = [key for key, *_ in store.archived(job="first")]
    for key in [*keys, "ffff"]:
        path = Path(place_in(str(results), key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    forgetting(store, run="first", results=str(results)).do()
    assert [path.stem for path in results.rglob("*.json")] == ["ffff"]
    assert search(job_of("again"), store, make_pool(train=half)).state.counts["trained"] == 10


def test_what_a_running_run_has_trained_is_not_taken_away(store: Store) -> None:
    store.set_status("second", "running")  # as that of a process that was killed stays
    deletion(store, "second")
    with alone(store, "second"):
        for call in (
            lambda: forgetting(store, run="second"),
            lambda: forgetting(store, failures=True),
            lambda: deletion(store, "second"),
        ):
            with pytest.raises(JobConflict, match="run 'second' is being run by .*; stop it first"):
                call()
    store.set_submission(Submission("first", "ann", state="paused"))
    with pytest.raises(JobConflict, match="swarm cancel first"):
        deletion(store, "first")
    forgetting(store, run="third").do()


def test_a_deleted_run_is_gone_and_its_results_answer_others(store: Store) -> None:
    store.set_submission(Submission("first", "ann", state="finished"))
    found = deletion(store, "first")
    assert (found.trainings, found.events) == ((), len(list(store.events("first"))))
    found.do()
    assert list(store.specs()) == ["second", "third"]
    assert (list(store.events("first")), store.submissions()) == ([], [])
    assert search(job_of("first"), store, make_pool(train=half)).state.counts["trained"] == 0, "its name is free"
    with pytest.raises(JobNotFound, match="nobody"):
        deletion(store, "nobody")


def test_jobs_that_ended_long_ago_go_the_oldest_first_and_their_results_stay(store: Store) -> None:
    for name, ended in (("first", 30.0), ("second", 10.0), ("third", 20.0)):
        store.set_submission(Submission(name, "ann", state="finished", ended=ended))
    before = len(store.archived())
    assert [each.name for each in expired(store, 25.0)] == ["second", "third"]
    assert [each.name for each in expired(store, 99.0, limit=2)] == ["second", "third"]
    with alone(store, "second"):  # somebody runs it again
        assert [each.name for each in expired(store, 25.0)] == ["third"]
    for gone in expired(store, 25.0):
        gone.do()
    assert list(store.specs()) == ["first"] and len(store.archived()) == before
    assert (store.length("third"), expired(store, 25.0)) == (0, [])


def test_on_request_its_results_go_with_it(store: Store) -> None:
    found = deletion(store, "second", archive=True)
    assert len(found.trainings) == 3, "the other ten are those of the first run"
    found.do()
    assert sum(each.trainings for each in holdings(store)) == 20


def test_results_that_nobody_else_can_ask_for_go_with_a_run(store: Store) -> None:
    search(job_of("alone", archive=False), store, make_pool(train=half))
    assert sum(each.trainings for each in holdings(store)) == 33
    deletion(store, "alone").do()
    assert sum(each.trainings for each in holdings(store)) == 23


def test_checkpoints_go_with_a_run_unless_another_refers_to_them(store: Store) -> None:
    one = job_of("one", problem=Kept(), optimizer=Random(trials=9), checkpoints=True)
    search(one, store, make_pool(train=half))
    search(job_of("two", problem=Kept(), space={"x": Integer(0, 3)}, checkpoints=True), store, make_pool(train=half))
    deleted: list[str] = []
    found = deletion(store, "one")
    found.do(deleted.extend)
    shared = {Evaluation.of(one.code.fingerprint, {"x": x}).key for x in range(4)}
    assert deleted == sorted(set(deleted)) and deleted
    assert not shared & set(deleted)
    assert deletion(store, "first").checkpoints == ()


# --- on the command line


def swarm(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = run_swarm(folder, *words, COLUMNS="200")
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path, open_store: Callable[..., Store]) -> Path:
    """A folder with a store of one run, as ``swarm run`` leaves it."""
    store = open_store()
    search(job_of("job"), store, make_pool(train=half))
    for key, *_ in store.archived():
        path = tmp_path / "swarm.db.artifacts" / place_in("results", key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return tmp_path


def test_each_command_says_what_it_would_do_and_does_nothing_without_a_word(folder: Path) -> None:
    listed = swarm(folder, "archive")
    assert listed.returncode == 0
    assert [word for word in listed.stdout.split() if word.isdigit()] == ["10", "5"]
    for words in (["archive", "forget", "--failures"], ["delete", "job"]):
        refused = swarm(folder, *words)
        assert refused.returncode == 2 and "give --yes" in refused.stderr
        assert "this would" in refused.stdout
    assert swarm(folder, "archive").stdout == listed.stdout

    forgot = swarm(folder, "archive", "forget", "--failures", "--yes")
    assert forgot.returncode == 0 and "forgot 5 trainings, 5 of them failures" in forgot.stdout
    assert len(list((folder / "swarm.db.artifacts").rglob("*.json"))) == 5
    assert swarm(folder, "delete", "job", "--archive", "--yes").returncode == 0
    assert not list((folder / "swarm.db.artifacts").rglob("*.json"))
    assert "10" not in swarm(folder, "archive").stdout.split()
    gone = swarm(folder, "delete", "job", "--yes")
    assert gone.returncode == 2 and "no run 'job'" in gone.stderr


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("y", False)])
def test_in_a_terminal_it_asks(answer: str, left: bool, folder: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [str(BIN / "swarm"), "delete", "job"], cwd=folder, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as asked:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        said = asked.stdout.read() if asked.stdout else b""
    os.close(ours)
    assert b"this would delete run job" in said
    assert ("job" in swarm(folder, "show").stdout.split()) == left
