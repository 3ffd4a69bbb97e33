"""A search whose first trainings all fail ends, and says why, where and what to do; what has failed can be retried."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from scripts import run_swarm
from test_search import bowl, make_job, make_pool, search

from swarm import PSO, Grid, Integer, Job, Random, run
from swarm.errors import AllFailed
from swarm.pool.virtual import VirtualPool
from swarm.runner import Run, enroll, resume
from swarm.search import Search
from swarm.service.published.snapshot import View
from swarm.store import Store
from swarm.trial import Evaluation, Result, Status

OpenStore = Callable[..., Store]
BIN = Path(sys.executable).parent
SPACE = {"x": Integer(0, 9)}


class Saying(VirtualPool):
    """Slots whose failures say what this makes of their evaluation's number."""

    def __init__(self, error: Callable[[int], str], slots: int = 1) -> None:
        super().__init__(slots, lambda _: Status.FAILED)
        self.error, self.number = error, 0

    def _result(self, evaluation: Evaluation, slot: int, start: float) -> Result:
        self.number += 1
        return Result(key=evaluation.key, status=Status.FAILED, error=self.error(self.number))


def given_up(job: Job, store: Store, pool: VirtualPool) -> Search:
    enroll(job, store)
    with pytest.raises(AllFailed):
        search(job, store, pool)
    return Search(job, store)


@pytest.mark.parametrize(
    ("job", "trained"),
    [
        (make_job(optimizer=Random(trials=40)), 5),
        (make_job(optimizer=PSO(particles=6, generations=9)), 5),
        (make_job(optimizer=PSO(particles=3, generations=9)), 3),
        (make_job(optimizer=Random(trials=40), max_failures=8), 8),
        (make_job(optimizer=PSO(particles=3, generations=9), max_failures=7), 7),
        (make_job(optimizer=Random(trials=3)), 3),
    ],
)
def test_a_search_ends_when_its_first_trainings_have_all_failed(job: Job, trained: int, open_store: OpenStore) -> None:
    store, pool = open_store(), make_pool(1, train=lambda _: Status.FAILED)
    found = given_up(job, store, pool)
    assert (found.state.failed, found.state.finished(), found.state.counts["failed"]) == (True, True, trained)
    assert found.state.end_reason is not None and "simulated: failed" in found.state.end_reason
    assert store.job("job").status == "failed"
    with pytest.raises(AllFailed, match="have"):
        search(job, store, VirtualPool(1, lambda e: pytest.fail("it went on")))


def test_it_goes_on_where_that_is_wanted(open_store: OpenStore) -> None:
    job = make_job(optimizer=Random(trials=40), max_failures=0)
    assert search(job, open_store(), make_pool(train=lambda _: Status.FAILED)).state.counts["failed"] == 40


def test_what_the_configuration_is_to_blame_for_does_not_count(open_store: OpenStore) -> None:
    job = make_job(optimizer=Random(trials=40))
    assert search(job, open_store("none"), make_pool(train=lambda _: None)).state.counts["failed"] == 40
    crashed = search(job, open_store("crashed"), make_pool(train=lambda _: Status.CRASHED))
    assert crashed.state.counts["failed"] == 40
    mixed = search(make_job(optimizer=PSO(particles=3)), open_store("mixed"), MostlyInfeasible())
    assert mixed.state.best is not None, "two infeasible and one that failed are not all for one reason"


class MostlyInfeasible(VirtualPool):
    def __init__(self) -> None:
        super().__init__(1, self.third)
        self.number = 0

    def third(self, evaluation: Evaluation) -> float | Status | None:
        self.number += 1
        return None if self.number < 3 else Status.FAILED if self.number == 3 else bowl(evaluation.params)


def test_one_success_is_enough_to_go_on(open_store: OpenStore) -> None:
    runs: list[str] = []

    def train(evaluation: Evaluation) -> float | Status:
        runs.append(evaluation.key)
        return 1.0 if len(runs) == 5 else Status.FAILED

    assert search(make_job(optimizer=Random(trials=40)), open_store(), make_pool(1, train=train)).state.told == 40


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (lambda n: "OSError: away", True),
        (lambda n: f"KeyError: {n}", False),
        (lambda n: f"KeyError: {n}\ntrain.py, line 7, in train\n  >    7 | params['y']", True),
        (lambda n: f"KeyError: {n}\ntrain.py, line {n}, in train\n  >    7 | params['y']", False),
        (lambda n: f"{'KeyError' if n % 2 else 'ValueError'}: a\ntrain.py, line 7, in train", False),
        (lambda n: f"KeyError: {n}\ntrain.py, line 7, in train\n… raised in keras: keras/a.py, line {n}, in fit", True),
    ],
)
def test_one_reason_is_one_text_or_one_type_of_error_at_one_place(
    error: Callable[[int], str], ends: bool, open_store: OpenStore
) -> None:
    job, store = make_job(optimizer=Random(trials=20)), open_store()
    if ends:
        assert given_up(job, store, Saying(error)).state.counts["failed"] == 5
    else:
        assert search(job, store, Saying(error)).state.counts["failed"] == 20


def test_failures_are_not_counted_as_saved(open_store: OpenStore) -> None:
    store, fixed = open_store(), {"x": Integer(0, 9), "y": 0}
    half = {"train": lambda e: None if e.params["x"] % 2 else bowl(e.params)}
    first = search(make_job(optimizer=Grid(), space=fixed), store, make_pool(**half))
    again = search(make_job(name="again", optimizer=Grid(), space=fixed), store)
    assert (first.state.counts["trained"], again.state.counts["trained"]) == (10, 0)
    assert (again.state.counts["archive"], again.state.counts["failed"], again.state.evaluations) == (5, 5, 10)
    looked = Search(again.job, store)
    assert (looked.state.counts, looked.state.evaluations) == (again.state.counts, 10)


def test_a_failure_that_was_joined_in_flight_saves_nothing_either(open_store: OpenStore) -> None:
    job = make_job(
        space={"x": Integer(0, 1)}, optimizer=PSO(particles=6, generations=1, known="answer"), max_failures=0
    )
    found = search(job, open_store(), make_pool(6, train=lambda _: Status.FAILED))
    assert (found.state.evaluations, found.state.counts["failed"]) == (12, 12)
    assert (found.state.counts["trained"], found.state.counts["in_flight"], found.state.counts["archive"]) == (2, 0, 0)


def test_within_a_run_what_has_failed_is_not_trained_again(open_store: OpenStore) -> None:
    runs: list[str] = []

    def train(evaluation: Evaluation) -> float | Status:
        runs.append(evaluation.key)
        return Status.FAILED if evaluation.params["x"] == 1 else 1.0

    job, store = make_job(space={"x": Integer(0, 2)}, optimizer=PSO(particles=4, generations=10)), open_store()
    search(job, store, make_pool(2, train=train))
    assert len(runs) == len(set(runs)) == 3


def test_views_know_why_trials_failed(open_store: OpenStore) -> None:
    store = open_store()
    error = "KeyError: 'y'\ntrain.py, line 7, in train"
    search(make_job(optimizer=Random(trials=4), max_failures=0), store, Saying(lambda n: error))
    view = View("maximize")
    for event in store.events("job"):
        view.apply(event)
    assert View.from_dict(view.to_dict()).errors == {"KeyError: 'y'": (4, "train.py, line 7, in train")}


def test_the_report_and_the_page_show_the_users_own_lines(open_store: OpenStore, tmp_path: Path) -> None:
    from swarm.dashboard.searches import errors_html
    from swarm.report import write

    store = open_store()
    error = "KeyError: '<y>'\ntrain.py, line 7, in train\n  >    7 |     if params['<y>'] < 3:"
    search(make_job(optimizer=Random(trials=4), max_failures=0), store, Saying(lambda n: error))
    write(Run.load("job", f"{tmp_path}/swarm.db"), tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Failed 4 times" in report and "train.py, line 7, in train" in report
    view = View("maximize")
    for event in store.events("job"):
        view.apply(event)
    shown = errors_html(view)
    assert "failed 4 times" in shown and "train.py, line 7, in train" in shown
    assert "<y>" not in report + shown, "what trainings say is escaped"


# --- as a user sees it

TRAIN = """
from pathlib import Path


def train(params, ctx):
    with Path("trained").open("a") as log:
        log.write(f"{params['x']}\\n")
    limit = float(Path("data/limit").read_text())
    return limit - params["x"]
"""
JOB = "{name: job, problem: train.py:train, space: {x: {integer: [0, 7]}}, optimizer: Grid, isolation: thread}"


def swarm(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return (
        run_swarm(folder, *words)
        if not env
        else subprocess.run(
            [str(BIN / "swarm"), *words],
            cwd=folder,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    )


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """The folder of a job whose data are away."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


def test_five_minutes_of_a_lost_mount_cost_one_run_and_no_more(lost: Path) -> None:
    first = swarm(lost, "run", "job.yaml", "--slots", "1")
    assert first.returncode == 1
    assert first.stdout.count("a trial failed: FileNotFoundError") == 1
    assert "train.py, line 8, in train" in first.stdout
    assert '  >    8 |     limit = float(Path("data/limit").read_text())' in first.stdout
    told = first.stderr
    assert "its first 5 trainings have all failed: FileNotFoundError" in told and "train.py, line 8: limit" in told
    assert "swarm resume job" in told and "--retry-failed" in told
    assert swarm(lost, "run", "job.yaml", "--slots", "1").returncode == 1, "it still has failed"
    shown = swarm(lost, "show", "job", "--errors").stdout
    assert "failed 5 times: FileNotFoundError" in shown and "  >    8 |" in shown

    (lost / "data").mkdir()
    (lost / "data" / "limit").write_text("7")
    (lost / "trained").unlink()
    again = swarm(lost, "run", "job.yaml", "--slots", "1", "--again")
    assert again.returncode == 0 and "8 trainings run, 0 saved" in again.stdout
    retried = swarm(lost, "resume", "job", "--slots", "1", "--retry-failed")
    assert retried.returncode == 0, retried.stderr
    assert "0 trials failed" in retried.stdout
    assert len((lost / "trained").read_text().split()) == 8, "the other run has trained all of them meanwhile"


def test_again_and_retry_failed_are_not_both(lost: Path) -> None:
    done = swarm(lost, "run", "job.yaml", "--again", "--retry-failed")
    assert done.returncode == 2 and "give one of them" in done.stderr


def needs_data(params: object, ctx: object) -> float:
    return float(Path(os.environ["H1_DATA"]).read_text()) - params["x"]  # type: ignore[index]


def test_in_python_the_run_raises_and_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, store = tmp_path / "data", f"{tmp_path}/swarm.db"
    monkeypatch.setenv("H1_DATA", str(data))
    job = Job(name="job", problem=needs_data, space=SPACE, optimizer=Grid(), isolation="thread")
    with pytest.raises(
        AllFailed, match=r"FileNotFoundError.*test_failed_runs\.py, line \d+: return float.*retry_failed=True"
    ):
        run(job, slots=1, store=store, progress=False)
    left = Run.load("job", store)
    assert (left.status, left.best) == ("failed", None)
    assert "needs_data" in left.history["traceback"].iloc[0]
    csv = tmp_path / "history.csv"
    left.history.to_csv(csv, index=False)
    assert "> " in pd.read_csv(csv)["traceback"].iloc[0]
    data.write_text("9")
    found = resume("job", store=store, progress=False, retry_failed=True)
    assert found.best is not None and found.best.fitness == 9
    assert found.counts["failed"] == 0
    assert found.history["traceback"].isna().all()
    assert run(job, slots=1, store=store, progress=False, retry_failed=True).best == found.best


HIDE = """
import importlib.machinery

found = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None
    if name.partition(".")[0] in {names!r}
    else found(name, path, target)
)
"""


@pytest.mark.parametrize("names", [("tensorflow",), ("tensorflow", "keras", "sklearn")])
def test_a_built_in_problem_without_tensorflow_is_refused_with_the_remedy(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(names=names))
    (tmp_path / "job.yaml").write_text("{name: job, problem: digits-cnn, optimizer: {name: Random, trials: 2}}")
    done = swarm(tmp_path, "run", "job.yaml", "--slots", "1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "tensorflow" in done.stderr and "pip install 'dask-swarm[cpu]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "swarm.db").exists(), "nothing was begun"
