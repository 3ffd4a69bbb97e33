"""What the service makes of machines that hang, are cut off or full, of deadly trainings, and of a lost master."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from services import Service, logging_training, trainings, wait_until

from swarm import PSO, Grid, Integer, Job, Random
from swarm.client import JobHandle
from swarm.errors import StoreUnavailable
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store

pytestmark = pytest.mark.slow


def job_of(folder: Path, name: str = "job", seconds: float = 0.2, gate: str | None = None, **changes: Any) -> Job:
    defaults = {
        "space": {"x": Integer(0, 63), "y": Integer(0, 63)},
        "optimizer": PSO(particles=4, generations=4),
        "problem": logging_training(folder, seconds, gate),
    }
    return Job(**{"name": name, **defaults, **changes})


def count(folder: Path, name: str) -> int:
    return sum(trainings(folder, name).values())


def use_all(service: Service, folder: Path, slots: int) -> None:
    """Wait until so many trainings run at once, and end them well."""
    folder.mkdir()
    handle = service.client.submit(job_of(folder, folder.name, 0, gate="open", optimizer=Random(trials=slots)))
    wait_until(lambda: handle.state().running == slots and count(folder, "begun") >= slots)
    (folder / "open").touch()
    assert handle.wait(timeout=60).counts["failed"] == 0


def results(handle: JobHandle) -> Counter[str]:
    """How many results the journal holds of each evaluation."""
    return Counter(event.data["key"] for event in handle.events() if event.kind == "result")


def test_what_hangs_is_trained_elsewhere_and_counted_once_even_if_it_wakes_up(tmp_path: Path) -> None:
    with Service(tmp_path, env={"DASK_SWARM__WORKER_TTL_SECONDS": "1"}) as service:
        service.started(slots=2)
        plain = [sys.executable, "-m", "dask", "worker", service.address, "--nthreads", "1", "--resources", "GPU=1"]
        unattended = subprocess.Popen([*plain, "--no-nanny", "--no-dashboard"], stderr=subprocess.DEVNULL)
        service.processes["workers-plain"] = unattended
        handle = service.client.submit(job_of(tmp_path, seconds=0, gate="open", optimizer=Random(trials=3)))
        wait_until(lambda: count(tmp_path, "begun") == 3)
        attended = service.worker_processes()[0]
        machine = psutil.Process(unattended.pid)
        sleepers = [machine, *machine.children(recursive=True)]
        for process in [attended, *sleepers]:
            process.suspend()
        wait_until(lambda: count(tmp_path, "begun") == 5)  # on the worker that took the place of the attended one
        (tmp_path / "open").touch()
        state = handle.wait(timeout=60)
        assert not attended.is_running()
        assert (count(tmp_path, "begun"), count(tmp_path, "ended")) == (6, 3)
        for process in sleepers:
            process.resume()
        unattended.wait(60)
        assert count(tmp_path, "ended") == 4  # too late
        use_all(service, tmp_path / "after", slots=2)
        assert (state.told, state.counts["trained"], state.counts["failed"]) == (3, 3, 0)
        assert sorted(results(handle).values()) == [1, 1, 1]


def test_a_training_that_kills_its_process_is_tried_twice_and_harms_no_other(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        import os
        import signal

        with Path(tmp_path, "begun").open("a") as log:
            log.write(f"{params['x']}\n")
        if params["x"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(params["x"])

    with Service(tmp_path) as service:
        service.started(slots=2)
        (tmp_path / "healthy").mkdir()
        options = {"space": {"x": Integer(0, 9)}, "optimizer": Grid()}
        healthy = service.client.submit(job_of(tmp_path / "healthy", "healthy", **options))
        deadly = service.client.submit(job_of(tmp_path, "deadly", problem=train, **options))
        wait_until(lambda: deadly.state().running)
        workers = service.worker_processes()
        state = deadly.wait(timeout=60)
        assert healthy.wait(timeout=60).counts["failed"] == 0
        assert service.worker_processes() == workers
    assert (state.state, state.told, state.counts["failed"]) == ("finished", 10, 1)
    assert list(state.errors) == ["training's process was killed by signal 9 (SIGKILL) (2 times)"]
    assert trainings(tmp_path, "begun") == Counter([str(x) for x in range(10)] + ["3"])
    assert trainings(tmp_path / "healthy", "begun") == Counter(str(x) for x in range(10))


# --- full disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for sixteen megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"may not mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(2**16))


def test_a_full_disk_is_waited_for_and_costs_nothing(disk: Path, tmp_path: Path) -> None:
    with Service(tmp_path, store=f"sqlite:///{disk}/swarm.db") as service:  # beside it, the workers commit results
        service.started(slots=2)
        handle = service.client.submit(job_of(tmp_path))
        wait_until(lambda: handle.state().told >= 4)
        fill(disk / "filler")
        state = wait_until(lambda: (state := handle.state()).trouble and state)
        assert "disk is full; make room on its disk" in state.trouble
        with pytest.raises(StoreUnavailable, match="make room"):
            service.client.submit(job_of(tmp_path, "other"))
        (disk / "filler").unlink()
        state = handle.wait(timeout=60)
        assert (state.told, state.counts["failed"], state.trouble) == (20, 0, None)
        assert service.client.submit(job_of(tmp_path, "other")).wait(timeout=60).counts["archive"] == 20
    assert set(trainings(tmp_path, "begun").values()) == {1}


# --- cut networks


class Cable:
    """Another machine, a network namespace, that hangs by a cable on a switch of this one."""

    def __init__(self) -> None:
        tag, net = uuid.uuid4().hex[:6], f"198.18.{random.randrange(256)}"  # a range that is for tests
        self.machine, self._switch, self._port, end = f"swarm-{tag}", f"switch-{tag}", f"port-{tag}", f"end-{tag}"
        self.here = f"{net}.1"
        for command in (
            f"netns add {self.machine}",
            f"link add {self._switch} type bridge",
            f"address add {self.here}/24 dev {self._switch}",
            f"link set {self._switch} up",
            f"link add {self._port} type veth peer name {end} netns {self.machine}",
            f"link set {self._port} master {self._switch} up",
            f"-netns {self.machine} link set lo up",
            f"-netns {self.machine} address add {net}.2/24 dev {end}",
            f"-netns {self.machine} link set {end} up",
        ):
            self._ip(command)

    def unplug(self) -> None:
        self._ip(f"link set {self._port} down")

    def plug(self) -> None:
        self._ip(f"link set {self._port} up")

    def remove(self) -> None:
        for command in (f"link delete {self._switch}", f"link delete {self._port}", f"netns delete {self.machine}"):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ip(command)

    def _ip(self, command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if shutil.which("ip") is None:
        pytest.skip("there is no ip (iproute2)")
    try:
        found = Cable()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"may not make a network: {error.stderr.strip()}")
    yield found
    found.remove()


def test_the_training_of_a_worker_that_is_cut_off_runs_elsewhere_and_the_worker_comes_back(
    cable: Cable, tmp_path: Path
) -> None:
    env = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s", "DASK_SWARM__INSECURE": "true"}
    with Service(tmp_path, env=env) as service:
        service.address = f"tcp://{cable.here}:{service.port}"
        options = ["--host", cable.here, "--port", str(service.port), "--dashboard", "127.0.0.1:0"]
        service.start("scheduler", "scheduler", *options)
        netns = ["ip", "netns", "exec", cable.machine]
        service.start("workers-2", "worker", service.address, "--slots", "1", inside=netns)
        service.master()
        wait_until(lambda: service.client.hello()["master"])
        handle = service.client.submit(job_of(tmp_path, seconds=0, gate="open", optimizer=Random(trials=1)))
        wait_until(lambda: count(tmp_path, "begun") == 1)
        service.workers(1)
        cable.unplug()
        wait_until(lambda: count(tmp_path, "begun") == 2)  # on the worker that is left
        (tmp_path / "open").touch()
        state = handle.wait(timeout=60)
        cable.plug()
        use_all(service, tmp_path / "after", slots=2)
        assert (state.told, state.counts["trained"], state.counts["failed"]) == (1, 1, 0)
        assert list(results(handle).values()) == [1]


# --- PostgreSQL


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
def test_a_standby_on_postgresql_finds_what_an_undisturbed_search_finds(store_url: str, tmp_path: Path) -> None:
    job = job_of(tmp_path, seconds=0.3)
    with Service(tmp_path, store=store_url) as service:
        service.started(slots=2)
        service.master("standby")
        wait_until(lambda: "standing by" in service.log("standby"))
        handle = service.client.submit(job)
        wait_until(lambda: handle.state().told >= 4)
        service.kill("master")
        state = handle.wait(timeout=60)
        assert "serving" in service.log("standby")
    assert (state.state, state.told) == ("finished", 20)
    assert set(trainings(tmp_path, "begun").values()) == {1}
    expected = undisturbed(job, tmp_path).state.best
    assert expected is not None
    found = {"trial": expected.trial.id, "params": expected.params, "fitness": expected.fitness, "metrics": {}}
    assert state.best == found


def undisturbed(job: Job, folder: Path) -> Search:
    """The search on the virtual clock, where nothing dies."""
    with closing(Store(f"{folder}/undisturbed.db")) as store:
        enroll(job, store)
        search = Search(job, store)
        pool = VirtualPool(2, lambda evaluation: -sum((float(x) - 30.0) ** 2 for x in evaluation.params.values()))
        asyncio.run(search.run(pool))
    return search
