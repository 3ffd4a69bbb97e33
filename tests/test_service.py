"""The service as its users and operators meet it: real processes, really killed."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from distributed import Scheduler
from services import Service, logging_training, trainings, wait_until

from swarm import PSO, Grid, Integer, Job
from swarm.client import Client
from swarm.errors import InvalidInput, JobConflict, JobNotFound, NoMaster, NoService, NotAllowed
from swarm.runner import run

pytestmark = pytest.mark.slow


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One with two slots, for the tests that end none of its processes."""
    with Service(tmp_path_factory.mktemp("lasting")) as service:
        yield service.started(slots=2)


def job_of(folder: Path, name: str = "job", seconds: float = 0.2, **changes: object) -> Job:
    defaults = {
        "space": {"x": Integer(0, 63), "y": Integer(0, 63)},
        "optimizer": PSO(particles=4, generations=4),
    }
    return Job(**{"name": name, "problem": logging_training(folder, seconds), **defaults, **changes})


def test_a_job_is_submitted_left_and_found_again_by_another_client(lasting: Service, tmp_path: Path) -> None:
    handle = lasting.client.submit(job_of(tmp_path), priority=2.0)
    assert handle.status == "active"
    with pytest.raises(TimeoutError, match="it goes on"):
        handle.wait(timeout=0.1)
    again = Client(lasting.address).attach("job")
    state = again.wait(timeout=60)
    assert (state.state, state.told, state.priority) == ("finished", 20, 2.0)
    assert again.best["fitness"] == state.best["fitness"]
    assert len(again.history) == 20
    assert again.search().best.fitness == state.best["fitness"]
    expected = run(job_of(tmp_path, "alone"), slots=2, store=str(tmp_path / "alone.db"), progress=False)
    assert expected.best is not None
    assert state.best["params"] == expected.best.params


def test_what_cannot_be_done_is_said_in_one_line(service: Service, tmp_path: Path) -> None:
    service.started(slots=1)
    client = service.client
    with pytest.raises(JobNotFound, match="no job 'nobody'"):
        client.attach("nobody")
    client.submit(job_of(tmp_path, seconds=5))
    with pytest.raises(JobConflict, match="optimizer.particles is 5, was 4"):
        client.submit(job_of(tmp_path, seconds=5, optimizer=PSO(particles=5, generations=4)))
    with pytest.raises(NotAllowed, match="belongs to"):
        Client(service.address, user="somebody-else").attach("job").cancel()
    with pytest.raises(InvalidInput, match="greater than 0"):
        client.submit(job_of(tmp_path, "other"), priority=-1)
    needs = job_of(tmp_path, "needs", requirements=["numpy<1", "no-such-package>=2"])
    state = client.submit(needs).wait(timeout=30)
    assert state.state == "failed"
    assert "numpy is" in state.reason
    assert "numpy<1 is needed" in state.reason
    service.kill("master")
    with pytest.raises(NoMaster, match="start one: swarm master"):
        wait_until(lambda: not client.hello()["master"])
        Client(service.address, patience=0).submit(job_of(tmp_path, "late"))
    assert client.attach("job").status == "active"  # as it was last known


async def test_a_scheduler_without_the_service_is_refused() -> None:
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as plain:
        with pytest.raises(NoService, match="start it with: swarm scheduler"):
            await Client(plain.address, asynchronous=True).jobs()


def test_a_job_is_cancelled_paused_and_goes_on(lasting: Service, tmp_path: Path) -> None:
    endless = lasting.client.submit(job_of(tmp_path, "endless", seconds=600))
    wait_until(lambda: endless.state().running == 2)
    assert endless.cancel().state == "cancelled"
    quick = lasting.client.submit(job_of(tmp_path / ".", "quick"))  # on the slots that the cancelled ones have left
    wait_until(lambda: quick.state().told >= 2)
    quick.pause()
    wait_until(lambda: quick.state().running == 0)
    told = quick.state().told
    assert told < 20
    assert quick.status == "paused"
    quick.resume()
    assert quick.wait(timeout=60).told == 20
    with pytest.raises(InvalidInput, match="is finished already"):
        quick.cancel()


def test_the_next_master_joins_the_trainings_that_run_on(service: Service, tmp_path: Path) -> None:
    service.started(slots=4)
    train = logging_training(tmp_path, 0, gate="open")
    handle = service.client.submit(job_of(tmp_path, problem=train, optimizer=PSO(particles=4, generations=1)))
    wait_until(lambda: sum(trainings(tmp_path, "begun").values()) == 4)
    service.kill("master")
    service.master()
    wait_until(lambda: service.log("master").count("serving") == 2 and handle.state().running == 4)
    (tmp_path / "open").touch()
    assert handle.wait(timeout=60).counts["trained"] == 8
    assert set(trainings(tmp_path, "begun").values()) == {1}


def test_the_next_master_takes_over_what_has_ended_without_one(service: Service, tmp_path: Path) -> None:
    service.started(slots=4)
    handle = service.client.submit(job_of(tmp_path, seconds=2, optimizer=PSO(particles=4, generations=2)))
    wait_until(lambda: sum(trainings(tmp_path, "begun").values()) >= 8)
    service.kill("master")
    wait_until(lambda: sum(trainings(tmp_path, "ended").values()) >= 8)  # nobody listens
    service.master()
    state = handle.wait(timeout=120)
    assert state.state == "finished"
    assert set(trainings(tmp_path, "begun").values()) == {1}
    assert trainings(tmp_path, "begun") == trainings(tmp_path, "ended")
    assert state.counts["trained"] == len(trainings(tmp_path, "ended"))


def test_a_standby_takes_over_and_the_old_master_can_no_longer_write(service: Service, tmp_path: Path) -> None:
    service.started(slots=2)
    service.master("standby")
    wait_until(lambda: "standing by" in service.log("standby"))
    handle = service.client.submit(job_of(tmp_path, seconds=0.5))
    wait_until(lambda: handle.state().told >= 4)
    service.kill("master", signal.SIGSTOP)
    wait_until(lambda: "serving" in service.log("standby"), seconds=20)
    service.kill("master", signal.SIGCONT)
    wait_until(lambda: "standing by" in service.log("master"))
    assert handle.wait(timeout=60).told == 20
    assert set(trainings(tmp_path, "begun").values()) == {1}


def test_a_killed_scheduler_costs_only_what_was_running(service: Service, tmp_path: Path) -> None:
    service.started(slots=2)
    handle = service.client.submit(job_of(tmp_path))
    wait_until(lambda: handle.state().told >= 6)
    ended = trainings(tmp_path, "ended")
    service.kill("scheduler")
    service.scheduler()
    state = handle.wait(timeout=120)
    assert (state.state, state.told) == ("finished", 20)
    begun = trainings(tmp_path, "begun")
    assert all(begun[position] == 1 for position in ended)
    assert sum(begun.values()) <= state.counts["trained"] + 2


def test_a_killed_worker_machine_loses_nothing(service: Service, tmp_path: Path) -> None:
    service.started(slots=1)
    service.workers(1, "workers-2")
    handle = service.client.submit(job_of(tmp_path, seconds=0.5))
    wait_until(lambda: handle.state().running == 2)
    service.kill("workers-2")
    service.workers(1, "workers-3")
    state = handle.wait(timeout=120)
    assert (state.state, state.told) == ("finished", 20)
    assert sum(trainings(tmp_path, "begun").values()) <= state.counts["trained"] + 1


def test_a_store_that_is_away_is_waited_for(lasting: Service, tmp_path: Path) -> None:
    handle = lasting.client.submit(job_of(tmp_path, "away"))
    wait_until(lambda: handle.state().told >= 4)
    with closing(sqlite3.connect(lasting.folder / "swarm.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # as a backup would, for longer than SQLite waits
        wait_until(lambda: "locked" in lasting.log("master"))
        other.execute("ROLLBACK")
    assert handle.wait(timeout=60).told == 20
    assert set(trainings(tmp_path, "begun").values()) == {1}


def test_jobs_share_the_slots_by_priority(service: Service, tmp_path: Path) -> None:
    service.started(slots=4)
    handles = []
    for name, priority in (("one", 1.0), ("three", 3.0)):
        (tmp_path / name).mkdir()
        job = job_of(tmp_path / name, name, seconds=0.3, optimizer=Grid(), space={"x": Integer(0, 999)})
        handles.append(service.client.submit(job, priority=priority))
    wait_until(lambda: sum(handle.state().running for handle in handles) == 4)
    # Until then the first had slots for itself, and each slot begins a job by starting its training server.
    wait_until(lambda: handles[0].state().told >= 15 and handles[1].state().told >= 30)
    before, told = [handle.state().trained_seconds for handle in handles], handles[1].state().told
    wait_until(lambda: handles[1].state().told >= told + 90)
    seconds = [handle.state().trained_seconds - past for handle, past in zip(handles, before, strict=True)]
    assert seconds[1] / seconds[0] == pytest.approx(3, rel=0.3)
    handles[1].cancel()
    wait_until(lambda: handles[0].state().running == 4)
    handles[0].cancel()
