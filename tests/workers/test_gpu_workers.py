"""Real ``swarm worker`` processes on GPUs without a GPU (:mod:`gpus`): pinning, sharing, waiting, drivers that hang."""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from gpus import SETTINGS, Gpus, card, part, uuid
from services import Service, wait_until

from swarm import Grid, Job
from swarm.workers.cards.driver import ANSWER

pytestmark = pytest.mark.slow


def train(params: dict[str, Any], ctx: Any) -> dict[str, float]:
    """Takes memory of each GPU that CUDA shows, alone or with as many as share it; begins when the others have."""
    cuda = ctypes.CDLL("libcuda.so.1")
    number, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(number)) == 0
    folder, seen = Path(params["folder"]), []
    with ExitStack() as stack:
        for device in range(number.value):
            assert cuda.swarmDeviceText(device, name, len(name)) == 0
            seen.append(name.value.decode())
            hold(stack, folder / f"lock-{seen[-1]}", params["sharing"])
            assert cuda.swarmTake(device, ctypes.c_ulonglong(params["mib"])) == 0
        with (folder / "seen").open("a") as file:
            file.write(f"{','.join(seen)}\n")
        deadline = time.monotonic() + 120
        while len((folder / "seen").read_text().splitlines()) < params["together"] and time.monotonic() < deadline:
            time.sleep(0.02)
    return {"fitness": 1.0, "devices": number.value, "threads": float(os.environ["OMP_NUM_THREADS"])}


def hold(stack: ExitStack, lock: Path, sharing: int) -> None:
    """One of the places on a GPU, until the end of the context; it is an error if there is none."""
    for place in range(sharing):
        descriptor = os.open(f"{lock}-{place}", os.O_CREAT | os.O_RDWR)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            continue
    raise RuntimeError(f"{lock.name} is taken")


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Gpus:
    return Gpus(tmp_path_factory.mktemp("gpus"))


@pytest.fixture(scope="module")
def service(gpus: Gpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A scheduler and a master, whose workers come and go with the tests."""
    folder = tmp_path_factory.mktemp("service")
    env = {**gpus.env, "TMPDIR": str(folder), "SWARM_GPU_PATIENCE": "1", ANSWER: "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        with Service(folder, env=env) as found:
            found.scheduler()
            found.master()
            wait_until(lambda: found.client.hello()["master"])
            yield found


@contextmanager
def worker(service: Service, slots: int, *options: str) -> Iterator[None]:
    service.start("workers", "worker", "--scheduler", service.address, *options)
    wait_until(lambda: len(service.client.slots()) == slots, of="the worker")
    try:
        yield
    finally:
        service.kill("workers")
        wait_until(lambda: not service.client.slots(), of="the worker's end")


def job_of(folder: Path, trainings: int, **fields: Any) -> Job:
    """A job of so many trainings; ``together`` of them begin before one ends."""
    fixed = {"folder": str(folder), "mib": 1000, "sharing": 1, "together": 1}
    given = {name: fields.pop(name) for name in list(fields) if name in fixed}
    space = {"x": {"integer": [0, trainings - 1]}, **fixed, **given}
    return Job(name=folder.name, problem=train, space=space, optimizer=Grid(points=trainings), archive=False, **fields)


def seen(folder: Path) -> Counter[str]:
    """How many trainings each GPU, or group of them, has had."""
    return Counter((folder / "seen").read_text().split())


def ended_well(handle: Any, trainings: int) -> None:
    state = handle.wait(timeout=120)
    assert (state.state, state.told) == ("finished", trainings), state
    assert not handle.search().errors


def cards_told(dask: Client) -> list[dict[str, Any]]:
    """What the scheduler knows of the cards of its worker."""
    workers = dask.scheduler_info(n_workers=-1)["workers"].values()
    return [card for worker in workers for card in worker["metrics"]["swarm_cards"]]


@contextmanager
def stranger() -> Iterator[int]:
    """A process that is none of ours."""
    with subprocess.Popen(["sleep", "300"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("count", [1, 4, 8])
def test_each_gpu_trains_one_at_a_time(gpus: Gpus, service: Service, tmp_path: Path, count: int) -> None:
    gpus.has(*map(card, range(count)))
    with worker(service, count, "--gpus", "all", "--threads", "3"):
        handle = service.client.submit(job_of(tmp_path, 2 * count, together=count, mib=60000))
        ended_well(handle, 2 * count)
        assert set(seen(tmp_path)) == {uuid(number) for number in range(count)}
        assert {trial["threads"] for _, trial in handle.history.iterrows()} == {3}
        with Client(service.address) as dask:
            told = wait_until(lambda: cards_told(dask), of="what the cards have")
        assert [(each["uuid"], each["total"]) for each in told] == [(uuid(n), 81920 << 20) for n in range(count)]


def test_a_part_of_a_gpu_for_each_of_several_trainings(gpus: Gpus, service: Service, tmp_path: Path) -> None:
    gpus.has(*map(card, range(2)))
    with worker(service, 4, "--gpus", "0-1", "--gpus-per-training", "0.5"):
        job = job_of(tmp_path, 8, together=4, sharing=2, mib=30000, gpus_per_training=0.5)
        ended_well(service.client.submit(job), 8)
    assert set(seen(tmp_path)) == {uuid(0), uuid(1)}


def test_two_gpus_for_each_training(gpus: Gpus, service: Service, tmp_path: Path) -> None:
    gpus.has(*map(card, range(4)))
    with worker(service, 2, "--gpus", "all", "--gpus-per-training", "2"):
        ended_well(service.client.submit(job_of(tmp_path, 4, together=2, gpus_per_training=2)), 4)
    assert set(seen(tmp_path)) == {f"{uuid(0)},{uuid(1)}", f"{uuid(2)},{uuid(3)}"}


def test_each_part_of_a_divided_gpu_trains_one_at_a_time(gpus: Gpus, service: Service, tmp_path: Path) -> None:
    gpus.has(card(0), *(f"mig {part(number)} 9984 13 {number + 7} 0" for number in range(3)))
    with worker(service, 3, "--gpus", "all"):
        ended_well(service.client.submit(job_of(tmp_path, 6, together=3, mib=5000)), 6)
    assert set(seen(tmp_path)) == {part(number) for number in range(3)}


def test_a_slot_waits_for_a_strangers_memory_says_so_and_goes_on_when_that_is_given_back(
    gpus: Gpus, service: Service, tmp_path: Path
) -> None:
    gpus.has(*map(card, range(2)))
    with worker(service, 2, "--gpus", "all"):
        with stranger() as pid:
            gpus.runs(f"{uuid(0)} {pid} 50000 C")
            first = service.client.submit(job_of(tmp_path / "first", 2))
            (tmp_path / "first").mkdir()

            def waits() -> dict[str, str]:
                return {slot["slot"]: slot["waits"] for slot in service.client.slots() if slot["waits"]}

            told = wait_until(waits, of="the news of the slot")
            ((slot, reason),) = told.items()
            assert slot.endswith(uuid(0))
            assert f"{uuid(0)} has 31.2 of 80.0 GiB free" in reason and f"kill {pid}" in reason
            assert f"slot {slot} waits for its GPU: {reason}" in service.log("workers")
            ended_well(first, 2)  # on the other
            modest = service.client.submit(job_of(tmp_path / "modest", 2, gpu_memory="20 GiB"))
            (tmp_path / "modest").mkdir()
            ended_well(modest, 2)
        gpus.runs()
        wait_until(lambda: not waits(), of="the end of the wait")
        (tmp_path / "last").mkdir()
        ended_well(service.client.submit(job_of(tmp_path / "last", 4, together=2)), 4)
    assert set(seen(tmp_path / "last")) == {uuid(0), uuid(1)}


def test_a_driver_that_hangs_does_not_hang_its_worker(gpus: Gpus, service: Service, tmp_path: Path) -> None:
    gpus.has(card(0))
    with worker(service, 1, "--gpus", "all"):
        with gpus.trouble("hang"):
            handle = service.client.submit(job_of(tmp_path, 2))
            (slot,) = wait_until(
                lambda: [slot for slot in service.client.slots() if slot["waits"]], of="the news of the slot"
            )
            assert "NVIDIA's driver has not answered" in slot["waits"]
            assert handle.state().told == 0
        ended_well(handle, 2)
