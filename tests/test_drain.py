"""Workers that are told to end: what saved goes on elsewhere, what did not is repeated, and nobody is blamed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from services import Service, wait_until

from swarm import Ending, Grid, Integer, Job, Random
from swarm.client import JobHandle
from swarm.config import seconds_of
from swarm.errors import InvalidInput
from swarm.search.progress.attempts import LOSSES_ALLOWED, Attempts
from swarm.search.state import SearchState
from swarm.service.published.job_state import state_of
from swarm.store import Submission
from swarm.store.events import Again, Answered
from swarm.trial import STARTS_OVER, Evaluation, Result, Status
from swarm.workers.context import Context
from swarm.workers.isolation import process
from swarm.workers.node import ending
from swarm.workers.problem import attempt

STEPS, GATE, LAST_SAVE = 25, 12, 5


def asks(folder: Path) -> Any:
    """A training of steps that saves and leaves when its worker ends; amid them it waits for a gate to open."""

    def train(params: Any, ctx: Any) -> float:
        import time
        from pathlib import Path

        import numpy as np

        from swarm import Ending

        saved = ctx.restore()
        total, first = (float(saved.arrays["total"]), saved.meta["step"]) if saved else (0.0, 0)
        for step in range(first, STEPS):
            while step == GATE and ctx.ending is None and not Path(folder, "open").exists():
                time.sleep(0.02)
            total += params["x"] * 0.1 + step
            with Path(folder, "steps").open("a") as log:
                log.write(f"{params['x']}-{step}\n")
            if ctx.ending is not None:
                ctx.save({"total": np.array(total)}, step=step + 1)
                raise Ending
        return total

    train.resumable = True  # type: ignore[attr-defined]
    return train


def deaf(folder: Path, *, resumable: bool) -> Any:
    """A training that asks nothing, saves once, and then waits for a gate to open."""

    def train(params: Any, ctx: Any) -> float:
        import time
        from pathlib import Path

        import numpy as np

        saved = ctx.restore()
        for step in range(saved.meta["step"] if saved else 0, LAST_SAVE + 1):
            with Path(folder, "steps").open("a") as log:
                log.write(f"{params['x']}-{step}\n")
            if step + 1 == LAST_SAVE:
                ctx.save({"total": np.zeros(1)}, step=step + 1)
        while not Path(folder, "open").exists():
            time.sleep(0.05)
        return float(params["x"])

    train.resumable = resumable  # type: ignore[attr-defined]
    return train


def job_of(name: str, problem: Any, trials: int, seed: int = 3) -> Job:
    return Job(name=name, space={"x": Integer(0, 63)}, optimizer=Random(trials=trials), problem=problem, seed=seed)


def steps(folder: Path) -> Counter[str]:
    """How often each step of each training was done."""
    path = folder / "steps"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def again(handle: JobHandle) -> list[tuple[str, bool, bool]]:
    """How each training ended that ran again, whether it was drained, and whether it was blamed."""
    return [
        (event.data["status"], event.data.get("drained", False), event.data["blamed"])
        for event in handle.events()
        if event.kind == "again"
    ]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service")) as service:
        service.scheduler()
        service.master()
        start(service, "workers-0")
        start(service, "workers-brief", "--grace", "0.5s")
        wait_until(lambda: service.client.hello()["master"] and len(service.client.slots()) == 4)
        yield service


def start(service: Service, name: str, *options: str) -> None:
    service.start(name, "worker", service.address, "--slots", "2", *options)


def exit_code(service: Service, name: str) -> int:
    return service.processes.pop(name).wait(60)


@pytest.mark.slow
def test_what_saves_when_its_worker_is_told_to_end_goes_on_elsewhere_and_no_step_is_done_twice(
    service: Service, tmp_path: Path
) -> None:
    handle = service.client.submit(job_of("asks", asks(tmp_path), 4))
    wait_until(lambda: sum(steps(tmp_path).values()) == 4 * GATE)
    service.kill("workers-0", signal.SIGTERM)
    assert exit_code(service, "workers-0") == 0
    said = service.log("workers-0")
    assert "told to end by SIGTERM: 2 trainings have 60 s to save and end" in said
    assert said.count("it goes on elsewhere from what it saved") == 2
    (tmp_path / "open").touch()
    state = handle.wait(timeout=60)
    assert (state.counts["failed"], state.counts["trained"]) == (0, 4)
    assert steps(tmp_path) == Counter(f"{x}-{step}" for x in handle.history["x"] for step in range(STEPS))
    assert [sum_of(x) for x in handle.history["x"]] == list(handle.history["fitness"])
    assert again(handle) == [("lost", True, False)] * 2


@pytest.mark.slow
def test_a_worker_of_dasks_own_drains_before_its_lifetime_is_over(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        service.scheduler()
        service.master()
        wait_until(lambda: service.client.hello()["master"])
        handle = service.client.submit(job_of("asks", asks(tmp_path), 2))
        worker = ["-m", "distributed.cli.dask_worker", service.address, "--nthreads", "2", "--resources", "GPU=2"]
        worker += ["--memory-limit", "0", "--no-dashboard", "--lifetime", "90s"]  # ends half a minute after its start
        worker += ["--preload", "swarm.workers.node.supervisor", "--preload-nanny", "swarm.workers.node.gate"]
        service.python("workers-dask", *worker)
        wait_until(lambda: sum(steps(tmp_path).values()) == 2 * GATE)
        assert exit_code(service, "workers-dask") == 0
        (tmp_path / "open").touch()
        start(service, "workers-next")
        state = handle.wait(timeout=60)
        assert (state.counts["failed"], state.counts["trained"]) == (0, 2)
        assert steps(tmp_path) == Counter(f"{x}-{step}" for x in handle.history["x"] for step in range(STEPS))
        assert again(handle) == [("lost", True, False)] * 2


def sum_of(x: int) -> float:
    """What an undisturbed training returns, to the last bit."""
    total = 0.0
    for step in range(STEPS):
        total += x * 0.1 + step
    return total


@pytest.mark.slow
def test_what_does_not_end_in_time_runs_again_and_a_second_signal_ends_at_once(
    service: Service, tmp_path: Path
) -> None:
    if "workers-0" in service.processes:
        service.kill("workers-0")
    for name in ("saved", "kept-nothing"):
        (tmp_path / name).mkdir()
    handles = {
        name: service.client.submit(job_of(name, deaf(tmp_path / name, resumable=name == "saved"), 1))
        for name in ("saved", "kept-nothing")
    }

    def all_wait(attempts: dict[str, int]) -> bool:
        return all(steps(tmp_path / name)[last_step(tmp_path / name)] == count for name, count in attempts.items())

    wait_until(lambda: all_wait({"saved": 1, "kept-nothing": 1}))
    service.kill("workers-brief", signal.SIGUSR1)
    start(service, "workers-1")
    assert exit_code(service, "workers-brief") == 0
    said = service.log("workers-brief")
    assert "told to end by SIGUSR1: 2 trainings have 0.5 s" in said
    assert said.count("it goes on elsewhere from what it saved") == 1
    assert said.count("it starts over elsewhere, since no checkpoints are kept of it") == 1

    wait_until(lambda: all_wait({"saved": 2, "kept-nothing": 2}))
    service.kill("workers-1", signal.SIGTERM)
    wait_until(lambda: "SIGTERM once more ends at once" in service.log("workers-1"))
    service.kill("workers-1", signal.SIGTERM)
    assert exit_code(service, "workers-1") == -signal.SIGTERM

    for name in handles:
        (tmp_path / name / "open").touch()
    start(service, "workers-2", "--lifetime", "1h", "--lifetime-stagger", "10 minutes")
    for name, handle in handles.items():
        assert handle.wait(timeout=60).counts["failed"] == 0
        assert again(handle) == [("lost", True, False), ("lost", False, False)]
        done = [steps(tmp_path / name)[f"{handle.history['x'][0]}-{step}"] for step in range(LAST_SAVE + 1)]
        assert done == ([1] * LAST_SAVE + [3] if name == "saved" else [3] * (LAST_SAVE + 1))


def last_step(folder: Path) -> str:
    return next((step for step in steps(folder) if step.endswith(f"-{LAST_SAVE}")), "")


@pytest.mark.slow
def test_a_worker_ends_by_itself_when_its_lifetime_is_over(service: Service) -> None:
    service.start("workers-3", "worker", "tcp://127.0.0.1:9", "--slots", "1", "--lifetime", "0.5s")
    assert exit_code(service, "workers-3") == 0
    assert "its lifetime of 0.5 s is over: no training is here" in service.log("workers-3")


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1e400"])
def test_a_grace_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--grace is a time such as 90s, 10m"):
        seconds_of("grace", text)


def test_a_time_is_what_dask_takes_for_one() -> None:
    assert [seconds_of("grace", text) for text in ("90", "1.5 minutes", "2h", "0s")] == [90.0, 90.0, 7200.0, 0.0]


# --- the journal


def test_however_often_its_worker_is_told_to_end_a_training_runs_again() -> None:
    evaluation, attempts = Evaluation.of("a problem", {"x": 1}), Attempts()
    drained = Result(key=evaluation.key, status=Status.LOST, error="its worker was told to end", drained=True)
    for _ in range(2 * LOSSES_ALLOWED):
        event = attempts.judge(evaluation, drained, 0.0)
        assert isinstance(event, Again)
        attempts.note(event)
    lost = Result(key=evaluation.key, status=Status.LOST)
    for _ in range(LOSSES_ALLOWED):
        event = attempts.judge(evaluation, lost, 0.0)
        assert isinstance(event, Again)
        attempts.note(event)
    assert isinstance(attempts.judge(evaluation, lost, 0.0), Answered)


def test_trainings_that_start_over_again_and_again_are_said_with_a_remedy_until_they_end() -> None:
    attempts = Attempts()
    ends = {
        "saves": "its worker was told to end; it goes on elsewhere from what it saved",
        "never saves": f"its worker was told to end; {STARTS_OVER}: it had saved nothing",
    }
    for times in (1, 2, 3):
        for key, error in ends.items():
            attempts.note(Again(key=key, status=Status.LOST, error=error, drained=True, time=0.0))
        assert (attempts.in_vain is not None) == (times == 3)
    assert "a training has started over 3 times" in str(attempts.in_vain)
    assert "ctx.save" in str(attempts.in_vain) and "--lifetime" in str(attempts.in_vain)
    attempts.forgive("never saves")
    assert attempts.in_vain is None


def test_the_state_of_a_job_has_what_to_do_about_trainings_that_start_over() -> None:
    known = SearchState(Job(name="job", problem=asks(Path()), space={"x": Integer(0, 9)}, optimizer=Grid()))
    over = Again(key="0f", status=Status.LOST, error=STARTS_OVER, drained=True, time=0.0)
    for _ in range(2):
        known.apply(over)
    assert state_of(known, Submission("job", "me"))["trouble"] is None
    known.apply(over)
    assert "started over 3 times" in state_of(known, Submission("job", "me"))["trouble"]


def test_a_journal_says_that_an_attempt_was_drained_and_earlier_journals_say_what_they_said() -> None:
    drained = Again(key="0f", status=Status.LOST, drained=True, time=1.0)
    lost = Again(key="0f", status=Status.LOST, time=1.0)
    assert lost.data == {"key": "0f", "status": "lost", "error": None, "blamed": False}
    for event in (drained, lost):
        assert Again.read(event.data, 1.0) == event
    result = Result(key="0f", status=Status.LOST, drained=True)
    assert Result.from_dict(result.to_dict()) == result
    assert "drained" not in Result(key="0f", status=Status.LOST).to_dict()


# --- what a training is told


def test_a_training_is_told_how_long_it_has() -> None:
    assert Context().ending is None
    worker = ending.Ending()
    assert (worker.begun, worker.left()) == (False, None)
    heard: list[float] = []
    worker.listen(heard.append, lambda: None)
    assert worker.begin(60.0) == 0
    left = Context.of(Evaluation.of("a problem", {}), left=worker.left).ending
    assert left is not None
    assert 50 < left <= 60
    assert len(heard) == 1


def test_trainings_that_do_not_end_are_ended_and_those_that_cannot_be_are_given_up() -> None:
    worker, cut, given_up = ending.Ending(), threading.Event(), threading.Event()
    worker.listen(lambda _: None, cut.set)
    with worker.awaited(given_up.set):
        assert worker.begin(0.0) == 1
        assert worker.wait() == []
    assert cut.is_set()
    assert given_up.is_set()


def struck(params: Any, ctx: Any) -> float:
    ctx.report(step=1)
    while ctx.ending is None:
        time.sleep(0.01)
    os.kill(os.getpid(), params["signal"])
    return threading.Event().wait(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_reaches_the_trainings_as_well_blames_none(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending.own, "_deadline", None)  # and again at the end of the test
    evaluation = Evaluation.of("a problem", {"signal": int(number)})
    found = process.run(cloudpickle.dumps(struck), evaluation, lambda _: ending.own.begin(60.0) and None)
    assert (found.status, found.drained, found.blamed) == (Status.LOST, True, False)
    late = process.run(cloudpickle.dumps(struck), evaluation, lambda _: None)
    assert (late.status, late.drained, late.start) == (Status.LOST, True, late.end), "nothing new is begun"
    process.close()


def leaves(params: Any, ctx: Any) -> float:
    raise Ending


@pytest.mark.parametrize(("left", "status", "drained"), [(5.0, Status.LOST, True), (None, Status.FAILED, False)])
def test_leaving_is_for_trainings_whose_worker_ends(left: float | None, status: Status, drained: bool) -> None:
    result = attempt(leaves, Evaluation.of("a problem", {}), lambda _: None, left=lambda: left)
    assert (result.status, result.drained, result.blamed) == (status, drained, False)
    assert drained or "raise it only where ctx.ending is not None" in (result.error or "")
