"""Slots on GPUs without a GPU: who serves one, what a training needs of its memory, who has it, and who waits for it.

The driver is a fake one (:mod:`gpus`) that says what a text file says, and leaves out processes that have ended, as
the real one does. The real one, CUDA and frameworks on a GPU are not run here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from gpus import Gpus, card, gpus_here, uuid

from swarm.cluster.connect import embedded, pool_on
from swarm.errors import InvalidInput
from swarm.job import Job
from swarm.pool.dask_pool import DaskPool
from swarm.trial import Evaluation, Isolation, Result, Status, Trial
from swarm.workers.cards import driver as nvidia
from swarm.workers.isolation.server import environment
from swarm.workers.node import gpu
from swarm.workers.node.gpu import claimed, slot_env
from swarm.workers.node.memory import NeverFreeError, granted, obstacle
from swarm.workers.node.supervisor import make_slots

A, B = uuid(0), uuid(1)
GIB = 1 << 30


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    with gpus_here(tmp_path, monkeypatch) as found:
        yield found


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
HALF, OTHER_HALF = (slot_env(f"host:a/{number}", [A], 0.5) for number in range(2))


def test_a_free_gpu_is_no_obstacle_and_neither_is_none(driver: Gpus) -> None:
    assert obstacle(WHOLE, patience=0) is None
    assert obstacle(slot_env("host:ab", [A, B], 2), patience=0) is None
    with driver.trouble("fail"):
        assert obstacle({"CUDA_VISIBLE_DEVICES": "-1"}, patience=0) is None


def test_who_holds_the_memory_is_named_with_the_remedy(driver: Gpus) -> None:
    with running() as pid:
        driver.runs(f"{A} {pid} 70000 C")
        reason = obstacle(WHOLE, patience=0)
    assert reason is not None
    assert reason.startswith(f"{A} has 11.6 of 80.0 GiB free, not the 72.0 GiB that a training may count on")
    assert f"process {pid} (sleep, 68.4 GiB)" in reason
    assert f"kill {pid}" in reason and "gpu_memory in the job" in reason
    assert "\n" not in reason
    assert obstacle(slot_env("host:b", [B], 1), patience=0) is None


def test_a_training_starts_where_there_is_as_much_as_its_job_asks_for(driver: Gpus) -> None:
    with running() as pid:
        driver.runs(f"{A} {pid} 70000 C")
        assert obstacle(WHOLE, patience=0, memory=11 * GIB) is None
        reason = str(obstacle(WHOLE, patience=0, memory=12 * GIB))
    assert f"{A} has 11.6 of 80.0 GiB free, not the 12.0 GiB that the job asks for (gpu_memory)" in reason


def test_what_no_gpu_can_ever_give_is_no_matter_of_waiting(driver: Gpus) -> None:
    driver.has(card(0, total=24576, name="NVIDIA L4"))
    with pytest.raises(NeverFreeError, match=rf"asks for 30.0 GiB .*{A} \(NVIDIA L4\) has 24.0 GiB: ask for less"):
        obstacle(WHOLE, patience=0, memory=30 * GIB)
    assert obstacle(WHOLE, patience=0, memory=24 * GIB) is None


def test_a_screen_holds_up_no_training(driver: Gpus) -> None:
    with running() as screen, running() as stranger:
        driver.has(card(0, total=8192))
        driver.runs(f"{A} {screen} 1500 G")
        assert obstacle(WHOLE, patience=0) is None
        driver.runs(f"{A} {screen} 1500 G", f"{A} {stranger} 1500 C")
        reason = str(obstacle(WHOLE, patience=0))
    assert f"process {stranger} " in reason and f"end it (kill {stranger})," in reason


def test_memory_that_nobody_is_known_to_hold_is_an_obstacle_unless_it_is_little(driver: Gpus) -> None:
    driver.has(card(0, used=70000))
    assert "does not name" in str(obstacle(WHOLE, patience=0))
    assert obstacle(WHOLE, patience=0, memory=GIB) is None
    driver.has(card(0, total=8192, used=1000))  # of a screen that is in another container, say
    assert obstacle(WHOLE, patience=0) is None


def test_memory_that_is_not_counted_is_no_obstacle(driver: Gpus) -> None:
    with running() as pid:
        driver.has(card(0, total=0))
        driver.runs(f"{A} {pid} 0 C")
        assert obstacle(WHOLE, patience=0) is None


def test_an_orphan_of_the_slot_is_an_obstacle_however_little_it_holds(driver: Gpus) -> None:
    with running("host:a") as mine, running("host:b") as other:
        driver.runs(f"{A} {mine} 100 C", f"{A} {other} 100 C")
        reason = str(obstacle(WHOLE, patience=0, memory=GIB))
    assert f"process {mine} " in reason
    assert other not in reason


# --- shared GPUs


def test_on_a_shared_gpu_neighbours_are_no_strangers(driver: Gpus) -> None:
    with running("host:a/1") as neighbour:
        driver.runs(f"{A} {neighbour} 69990 C")
        assert obstacle(HALF, patience=0) is None
        with running("host:a/0") as mine:
            driver.runs(f"{A} {neighbour} 60000 C", f"{A} {mine} 9990 C")
            assert f"process {mine} " in str(obstacle(HALF, patience=0))


def test_a_stranger_on_a_shared_gpu_leaves_room_for_fewer(driver: Gpus) -> None:
    with running() as stranger:
        driver.runs(f"{A} {stranger} 30000 C")
        with granted(HALF, patience=0) as first, granted(OTHER_HALF, patience=0) as second:
            assert first is None
            assert second is not None and f"process {stranger} " in second
        driver.runs(f"{A} {stranger} 60000 C")
        assert f"process {stranger} " in str(obstacle(HALF, patience=0))


@pytest.mark.parametrize("share", [0.5, 1 / 3, 0.25, 0.1])
def test_as_many_as_share_a_free_gpu_have_room(driver: Gpus, share: float) -> None:
    driver.has(card(0, used=600))
    with ExitStack() as stack:
        for number in range(round(1 / share)):
            env = slot_env(f"host:a/{number}", [A], share)
            assert stack.enter_context(granted(env, patience=0)) is None


def test_what_a_neighbour_was_promised_is_kept_for_it_until_its_training_ends(driver: Gpus) -> None:
    with granted(HALF, 50 * GIB, patience=0) as first:
        assert first is None
        assert "beside what its neighbours were promised" in str(obstacle(OTHER_HALF, patience=0, memory=40 * GIB))
        assert obstacle(OTHER_HALF, patience=0, memory=30 * GIB) is None
        with running("host:a/0") as mine:  # which has taken more than it was promised
            driver.runs(f"{A} {mine} 61440 C")
            assert obstacle(OTHER_HALF, patience=0, memory=30 * GIB) is not None
    assert obstacle(OTHER_HALF, patience=0, memory=40 * GIB) is None


# --- waiting


def test_why_a_slot_waits_is_told_at_once_and_so_is_that_it_does_no_more(
    driver: Gpus, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str | None] = []
    heard = threading.Event()

    def say(reason: str | None) -> None:
        told.append(reason)
        heard.set()

    with running() as pid:
        driver.runs(f"{A} {pid} 70000 C")
        results: list[str | None] = []
        waiting = threading.Thread(target=lambda: results.append(obstacle(WHOLE, patience=120, say=say)))
        waiting.start()
        assert heard.wait(30)
    waiting.join(60)
    assert results == [None]
    assert [reason is None for reason in told] == [False, True]
    assert f"process {pid} " in str(told[0])
    assert f"slot host:a waits for its GPU: {told[0]}" in caplog.text


def test_nobody_waits_longer_than_he_is_patient(driver: Gpus) -> None:
    driver.has(card(0, used=70000))
    start = time.monotonic()
    assert obstacle(WHOLE, patience=1) is not None
    assert time.monotonic() - start < 30


def test_a_gpu_that_is_gone_or_lost_and_a_driver_that_fails_or_hangs_are_obstacles(
    driver: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.has(card(1))
    assert f"no longer lists {A}" in str(obstacle(WHOLE, patience=0))
    driver.has(card(0), "lost", card(1))
    assert f"no longer lists {A}" in str(obstacle(WHOLE, patience=0))
    with driver.trouble("fail"):
        nvidia.close()
        assert "Driver Not Loaded" in str(obstacle(WHOLE, patience=0))
    monkeypatch.setenv(nvidia.ANSWER, "0.3")
    with driver.trouble("hang"):
        assert "has not answered" in str(obstacle(WHOLE, patience=0))


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


def test_a_gpu_is_served_by_one_process_of_the_machine_and_free_when_that_is_killed(driver: Gpus) -> None:
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


def test_a_second_swarm_worker_is_refused_the_same_gpu_whatever_its_slots(driver: Gpus) -> None:
    command = [str(Path(sys.executable).with_name("swarm")), "worker", "tcp://127.0.0.1:9", "--gpus"]
    with claimed([B]):
        for arguments in (["all"], ["1"], ["all", "--gpus-per-training", "2"], ["1", "--gpus-per-training", "0.5"]):
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 2
            assert done.stderr == f"swarm: {B} is already served by process {os.getpid()}\n"
            assert not done.stdout


def train(params: dict[str, int], ctx: object) -> dict[str, float]:
    return {"fitness": params["x"], "visible": float(os.environ["CUDA_VISIBLE_DEVICES"] == A)}


def job_of(problem: object = train, **fields: object) -> Job:
    return Job(
        **{
            "name": "a",
            "problem": problem,
            "space": {"x": {"integer": [0, 9]}},
            "optimizer": {"name": "Random", "trials": 2},
            **fields,
        }
    )


async def test_the_only_slot_of_a_worker_is_set_aside_while_its_gpu_is_held(
    driver: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu.PATIENCE, "0")
    job = job_of()
    first, second = (job.evaluations(Trial(id=x, params={"x": x}))[0] for x in (1, 2))
    (slot,) = make_slots("0")
    async with embedded([slot]) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        (before,) = (await client.run(os.getpid)).values()
        with running() as pid:
            driver.runs(f"{A} {pid} 69990 C")
            (lost,) = await results_of(pool, first)
            async with asyncio.timeout(60):
                while pool.slots:
                    await pool.next()
        async with asyncio.timeout(60):
            while not pool.slots:
                await pool.next()
        (trained,) = await results_of(pool, second)
        (after,) = (await client.run(os.getpid)).values()
    assert lost.status is Status.LOST
    assert f"process {pid} (sleep, 68.3 GiB)" in str(lost.error)
    assert lost.slot == trained.slot == slot.name
    assert (trained.fitness, trained.metrics["visible"]) == (2, 1)
    assert before == after


async def test_a_job_that_asks_for_more_than_a_gpu_has_fails_and_keeps_no_slot(driver: Gpus) -> None:
    job = job_of(gpu_memory="500GB")
    async with embedded(make_slots("0")) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        (result,) = await results_of(pool, *job.evaluations(Trial(id=1, params={"x": 1})))
        assert pool.slots == 1
    assert (result.status, result.blamed) == (Status.FAILED, False)
    assert "the job asks for 465.7 GiB of a GPU (gpu_memory)" in str(result.error)


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
    driver: Gpus, tmp_path: Path, isolation: Isolation, share: float
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
    driver: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu.PATIENCE, "0")
    job = job_of()
    evaluations = [job.evaluations(Trial(id=x, params={"x": x}))[0] for x in range(4)]
    async with embedded(make_slots("all")) as client, pool_on(client, job, None) as pool:
        await pool.wait_for_slots(60)
        (before,) = (await client.run(os.getpid)).values()
        with running() as pid:
            driver.runs(f"{A} {pid} 69990 C")
            first = await results_of(pool, *evaluations[:2])
            assert sorted(result.status for result in first) == [Status.LOST, Status.OK]
            while pool.slots > 1:
                await pool.next()
            (alone,) = await results_of(pool, evaluations[2])
        async with asyncio.timeout(30):
            while pool.slots < 2:
                await pool.next()
        (after,) = (await client.run(os.getpid)).values()
        assert {result.status for result in await results_of(pool, evaluations[3])} == {Status.OK}
    assert (alone.status, alone.slot.partition(":")[2]) == (Status.OK, B)
    assert before == after
