"""GPUs without a GPU: an executable named nvidia-smi, first on PATH, answers as the driver's does.

What it says is in two tables that the tests write. It leaves out processes that have ended, as the driver does. The
real nvidia-smi, CUDA and TensorFlow on a GPU are not run here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.cluster.connect import embedded, pool_on
from swarm.errors import InvalidInput
from swarm.job import Job
from swarm.pool.dask_pool import DaskPool
from swarm.trial import Evaluation, Isolation, Result, Status, Trial
from swarm.workers.isolation.server import environment
from swarm.workers.node import gpu
from swarm.workers.node.gpu import claimed, gpus, obstacle, slot_env
from swarm.workers.node.supervisor import make_slots

A, B = "GPU-0a1b2c3d-aaaa", "GPU-4e5f6071-bbbb"

NVIDIA_SMI = """#!/bin/sh
cd "$(dirname "$0")"
[ -e broken ] && cat broken && exit 255
case "$1" in
    --query-gpu=uuid) cut -d, -f1 gpus ;;
    --query-gpu=*) cat gpus ;;
    --query-compute-apps=*)
        while IFS=", " read -r gpu pid rest; do
            [ -e "/proc/$pid/exe" ] && echo "$gpu, $pid, $rest"
            if [ -e last ]; then kill -9 "$pid"; fi
        done < apps ;;
esac
exit 0
"""


class Driver:
    """What nvidia-smi says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.has(f"{A}, 4, 81559", f"{B}, 4, 81559")
        self.runs()
        script = folder / "nvidia-smi"
        script.write_text(NVIDIA_SMI)
        script.chmod(0o755)

    def has(self, *rows: str) -> None:
        (self._folder / "gpus").write_text("".join(f"{row}\n" for row in rows))

    def runs(self, *rows: str) -> None:
        (self._folder / "apps").write_text("".join(f"{row}\n" for row in rows))

    def fails(self, message: str) -> None:
        (self._folder / "broken").write_text(message)

    def ends_what_it_has_shown(self) -> None:
        (self._folder / "last").touch()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where locks are
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Driver(folder)


@contextmanager
def running(slot: str | None = None) -> Iterator[str]:
    """A process that has a slot's environment, or not; its number."""
    env = {**os.environ, **({} if slot is None else {gpu.SLOT: slot})}
    with subprocess.Popen(["sleep", "300"], env=env) as process:
        try:
            yield str(process.pid)
        finally:
            process.kill()


WHOLE = slot_env("host:a", [A], 1)
HALF = slot_env("host:a/0", [A], 0.5)


def test_the_gpus_are_those_of_the_driver_that_cuda_may_use(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus() == [A, B]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpus() == [B]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(InvalidInput, match=r"no GPU '7'; this machine has 0, 1"):
        gpus()


def test_a_driver_that_fails_offers_no_gpu(driver: Driver) -> None:
    driver.fails("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    assert gpus() == []


def test_a_free_gpu_is_no_obstacle_and_neither_is_none(driver: Driver) -> None:
    assert obstacle(WHOLE, patience=0) is None
    assert obstacle(slot_env("host:ab", [A, B], 2), patience=0) is None
    driver.fails("there is no driver")
    assert obstacle({"CUDA_VISIBLE_DEVICES": "-1"}, patience=0) is None


def test_who_holds_the_memory_is_named_with_the_remedy(driver: Driver) -> None:
    with running() as pid:
        driver.has(f"{A}, 70000, 81559", f"{B}, 4, 81559")
        driver.runs(f"{A}, {pid}, 69990, /usr/bin/python, or so")
        reason = obstacle(WHOLE, patience=0)
    assert reason is not None
    assert f"70000 of 81559 MiB of {A}" in reason
    assert f"process {pid} (/usr/bin/python, or so, 69990 MiB)" in reason
    assert f"kill {pid}" in reason
    assert "\n" not in reason
    assert obstacle(slot_env("host:b", [B], 1), patience=0) is None


def test_memory_that_nobody_is_known_to_hold_is_an_obstacle_too(driver: Driver) -> None:
    driver.has(f"{A}, 70000, 81559")
    assert "does not name" in str(obstacle(WHOLE, patience=0))


def test_little_memory_and_memory_that_is_not_counted_are_no_obstacles(driver: Driver) -> None:
    with running() as pid:
        driver.has(f"{A}, 600, 24564")
        driver.runs(f"{A}, {pid}, 580, /usr/lib/xorg/Xorg")
        assert obstacle(WHOLE, patience=0) is None
        driver.has(f"{A}, [N/A], [N/A]")
        driver.runs(f"{A}, {pid}, [N/A], python")
        assert obstacle(WHOLE, patience=0) is None


def test_an_orphan_of_the_slot_is_an_obstacle_however_little_it_holds(driver: Driver) -> None:
    with running("host:a") as mine, running("host:b") as other:
        driver.runs(f"{A}, {mine}, 100, python", f"{A}, {other}, 100, python")
        reason = str(obstacle(WHOLE, patience=0))
    assert f"process {mine} " in reason
    assert other not in reason


def test_on_a_shared_gpu_only_the_slots_own_processes_count(driver: Driver) -> None:
    driver.has(f"{A}, 70000, 81559")
    with running("host:a/1") as neighbour:
        driver.runs(f"{A}, {neighbour}, 69990, python")
        assert obstacle(HALF, patience=0) is None
        with running("host:a/0") as mine:
            driver.runs(f"{A}, {neighbour}, 60000, python", f"{A}, {mine}, 9990, python")
            assert f"process {mine} " in str(obstacle(HALF, patience=0))


def test_a_training_that_is_just_ending_is_waited_for(driver: Driver) -> None:
    driver.ends_what_it_has_shown()
    with running("host:a") as pid:
        driver.runs(f"{A}, {pid}, 9990, python")
        assert obstacle(WHOLE, patience=60) is None


def test_waiting_is_told_in_the_log(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.has(f"{A}, 70000, 81559")
    assert obstacle(WHOLE, patience=3) is not None
    assert "slot host:a waits for its GPU" in caplog.text


def test_a_gpu_that_is_gone_and_a_driver_that_fails_are_obstacles(driver: Driver) -> None:
    driver.has(f"{B}, 4, 81559")
    assert f"no longer lists {A}" in str(obstacle(WHOLE, patience=0))
    driver.fails("Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.")
    assert "GPU is lost" in str(obstacle(WHOLE, patience=0))


def test_tensorflow_may_take_all_memory_of_a_gpu_unless_it_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = "TF_FORCE_GPU_ALLOW_GROWTH"
    assert growth not in WHOLE
    assert HALF[growth] == "true"
    assert environment()[growth] == "true"  # of a worker that others have started, who knows
    monkeypatch.setenv(gpu.GPUS_PER_TRAINING, WHOLE[gpu.GPUS_PER_TRAINING])
    assert growth not in environment()


HOLDER = (
    "import sys; from swarm.workers.node.gpu import claimed\n"
    "with claimed(sys.argv[1:]): print('claimed'); sys.stdin.read()"
)


def test_a_gpu_is_served_by_one_process_of_the_machine_and_free_when_that_is_killed(driver: Driver) -> None:
    command = [sys.executable, "-c", HOLDER, A]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        with ExitStack() as stack:
            stack.enter_context(claimed([B]))
            with pytest.raises(InvalidInput, match=rf"^{A} is already served by process {holder.pid}$"):
                stack.enter_context(claimed([A]))
        holder.kill()
    with claimed([B, A, A]):
        pass


def test_a_second_swarm_worker_is_refused_the_same_gpu_whatever_its_slots(driver: Driver) -> None:
    command = [str(Path(sys.executable).with_name("swarm")), "worker", "tcp://127.0.0.1:9", "--gpus"]
    with claimed([B]):
        for arguments in (["all"], ["1"], ["all", "--gpus-per-training", "2"], ["1", "--gpus-per-training", "0.5"]):
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 2
            assert done.stderr == f"swarm: {B} is already served by process {os.getpid()}\n"
            assert not done.stdout


def train(params: dict[str, int], ctx: object) -> dict[str, float]:
    return {"fitness": params["x"], "visible": float(os.environ["CUDA_VISIBLE_DEVICES"] == A)}


async def test_an_evaluation_that_finds_its_gpu_held_is_lost_and_its_worker_starts_anew(driver: Driver) -> None:
    job = Job(name="a", problem=train, space={"x": {"integer": [0, 9]}}, optimizer={"name": "Random", "trials": 2})
    first, second = (job.evaluations(Trial(id=x, params={"x": x}))[0] for x in (1, 2))
    (slot,) = make_slots("0")
    slot = replace(slot, env={**slot.env, gpu.PATIENCE: "0"})
    async with embedded([slot]) as client, pool_on(client, job, None) as pool:

        async def result_of(evaluation: object) -> Result:
            pool.submit([evaluation])
            while not (ended := await pool.next()):
                pass
            return ended[0]

        await pool.wait_for_slots(60)
        (before,) = (await client.run(os.getpid)).values()
        with running() as pid:
            driver.has(f"{A}, 70000, 81559")
            driver.runs(f"{A}, {pid}, 69990, python")
            lost = await result_of(first)
            driver.has(f"{A}, 4, 81559")
        trained = await result_of(second)
        (after,) = (await client.run(os.getpid)).values()
    assert lost.status is Status.LOST
    assert f"process {pid} (python, 69990 MiB)" in str(lost.error)
    assert lost.slot == trained.slot == slot.name
    assert (trained.fitness, trained.metrics["visible"]) == (2, 1)
    assert before != after


def looks(params: dict[str, object], ctx: object) -> dict[str, float]:
    """Waits for the other training, and tells which GPU it may see, and whether it is known for its slot's."""
    folder = Path(str(params["meeting"]))
    (folder / str(params["x"])).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    shown = Path("/proc/self/environ").read_bytes().split(b"\0")
    known = f"{gpu.SLOT}={os.environ[gpu.SLOT]}".encode() in shown
    worst = int(Path("/proc/self/oom_score_adj").read_text())
    order = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in ancestors(2)]
    return {"fitness": 1.0, "known": known, "first to die": worst > order[0] > order[1], "server": os.getppid()}


def ancestors(number: int) -> list[int]:
    import psutil

    return [parent.pid for parent in psutil.Process().parents()[:number]]


async def results_of(pool: DaskPool, *evaluations: Evaluation) -> list[Result]:
    pool.submit(evaluations)
    found: dict[str, Result] = {}
    while len(found) < len(evaluations):
        found |= {result.key: result for result in await pool.next()}
    return [found[evaluation.key] for evaluation in evaluations]


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("share", [1, 0.5])
async def test_trainings_of_one_worker_have_a_gpu_each_and_one_server(
    driver: Driver, tmp_path: Path, isolation: Isolation, share: float
) -> None:
    (tmp_path / "meeting").mkdir()
    space = {"x": {"integer": [0, 9]}, "meeting": str(tmp_path / "meeting")}
    job = Job(
        name="a",
        problem=looks,
        space=space,
        optimizer={"name": "Random", "trials": 2},
        isolation=isolation,
        gpus_per_training=share,
    )
    slots = make_slots("0,1" if share == 1 else "0", gpus_per_training=share)
    both = [job.evaluations(Trial(id=x, params={"x": x, "meeting": space["meeting"]}))[0] for x in (1, 2)]
    async with embedded(slots) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        assert (pool.slots, len(await client.run(os.getpid))) == (2, 1)
        found = await results_of(pool, *both)
    assert [result.error for result in found] == [None, None]
    assert {result.slot for result in found} == {slot.name for slot in slots}
    assert all(result.metrics["known"] and result.metrics["first to die"] for result in found)
    assert len({result.metrics["server"] for result in found}) == 1
    places = {slot.name: slot.gpus[0] for slot in slots}
    seen = [(tmp_path / "meeting" / str(x)).read_text() for x in (1, 2)]
    assert seen == [places[result.slot] for result in found]


async def test_a_slot_whose_gpu_is_held_is_set_aside_while_the_others_train_on(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu.PATIENCE, "0")
    job = Job(name="a", problem=train, space={"x": {"integer": [0, 9]}}, optimizer={"name": "Random", "trials": 2})
    evaluations = [job.evaluations(Trial(id=x, params={"x": x}))[0] for x in range(4)]
    async with embedded(make_slots("all")) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        (before,) = (await client.run(os.getpid)).values()
        with running() as pid:
            driver.has(f"{A}, 70000, 81559", f"{B}, 4, 81559")
            driver.runs(f"{A}, {pid}, 69990, python")
            first = await results_of(pool, *evaluations[:2])
            assert sorted(result.status for result in first) == [Status.LOST, Status.OK]
            while pool.slots > 1:
                await pool.next()
            (alone,) = await results_of(pool, evaluations[2])
            driver.has(f"{A}, 4, 81559", f"{B}, 4, 81559")
        async with asyncio.timeout(30):
            while pool.slots < 2:
                await pool.next()
        (after,) = (await client.run(os.getpid)).values()
        assert {result.status for result in await results_of(pool, evaluations[3])} == {Status.OK}
    assert (alone.status, alone.slot.partition(":")[2]) == (Status.OK, B)
    assert before == after
