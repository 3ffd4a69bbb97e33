from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import psutil
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import process

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
PATIENCE = 20  # seconds until a process that was killed must be gone


class Prepared:
    """Counts in a file how often it is prepared, and can be made unsafe to fork."""

    def __init__(self, log, unsafe=False):
        self.log = log
        self.unsafe = unsafe

    def prepare(self):
        with Path(self.log).open("a") as log:
            log.write(f"{os.getpid()}\n")
        if self.unsafe:
            threading.Thread(target=threading.Event().wait, daemon=True).start()

    def __call__(self, params, ctx):
        return {"fitness": params["x"], "prepared_here": f"{os.getpid()}\n" in Path(self.log).read_text()}


class LoadsUntilTold:
    """Says in one pipe that it is being prepared, and is once somebody writes into the other."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("loading", "go on"):
            os.mkfifo(Path(folder, name))

    def prepare(self):
        Path(self.folder, "loading").write_text("here")
        Path(self.folder, "go on").read_text()

    def __call__(self, params, ctx):
        Path(self.folder, "trained").touch()
        return 1.0


def sleeps_with_a_child(params, ctx):
    ctx.report(training=os.getpid(), child=subprocess.Popen(SLEEP).pid)
    time.sleep(600)


def leaves_a_child(params, ctx):
    return {"fitness": 1.0, "child": subprocess.Popen(SLEEP).pid}


def sleeps_after_telling(params, ctx):
    Path(params["fifo"]).write_text("here")
    time.sleep(600)


def kills_its_server(params, ctx):
    if params["kill"]:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return 1.0


def allocates(params, ctx):
    memory = bytearray(b"x" * (30 << 20))
    return float(len(memory))


def imports_scipy(params, ctx):
    known = "scipy" in sys.modules
    import scipy

    return {"fitness": bool(scipy.__version__), "known": known}


def sets_keras_up_and_imports_scipy(params, ctx):
    os.environ["KERAS_BACKEND"] = "numpy"
    return imports_scipy(params, ctx)


def threads_of_tensorflow(params, ctx):
    return float(os.environ.get("TF_NUM_INTRAOP_THREADS", "0"))


def returns_much(params, ctx):
    return {"fitness": len(params["text"]), **{f"metric {i}": i for i in range(20_000)}}


def run(problem, params=None, **options):
    return evaluate(cloudpickle.dumps(problem), Evaluation.of("p", params or {}, **options))


def assert_gone(*pids):
    for pid in pids:
        try:
            psutil.Process(int(pid)).wait(PATIENCE)
        except psutil.NoSuchProcess:
            continue


def servers():
    return [child for child in psutil.Process().children() if "swarm.workers.isolation.forkserver" in child.cmdline()]


def test_data_is_loaded_once_per_worker_not_once_per_training(tmp_path):
    problem = Prepared(str(tmp_path / "log"))
    results = [run(problem, {"x": x}) for x in range(4)]
    assert [result.fitness for result in results] == [0, 1, 2, 3]
    assert len((tmp_path / "log").read_text().split()) == 1
    assert not any(result.metrics["prepared_here"] for result in results)


def test_a_problem_that_cannot_be_forked_prepares_itself_in_each_training(tmp_path, caplog):
    problem = Prepared(str(tmp_path / "log"), unsafe=True)
    with caplog.at_level(logging.WARNING, "swarm.workers"):
        results = [run(problem, {"x": x}) for x in range(3)]
    assert [result.fitness for result in results] == [0, 1, 2]
    assert all(result.metrics["prepared_here"] for result in results)
    assert len(caplog.records) == 1, "it is said once"
    assert "left 2 threads" in caplog.text


def test_a_module_that_starts_a_thread_at_import_is_imported_in_each_training(tmp_path, monkeypatch, caplog):
    (tmp_path / "threaded.py").write_text(
        textwrap.dedent("""
            import threading
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            class Problem:
                preload = ("threaded",)
                def __call__(self, params, ctx):
                    return threading.active_count()
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    blob = b"cthreaded\nProblem\n)R."  # a pickle by reference, so that the thread is not started here
    results = [evaluate(blob, Evaluation.of("p", {"x": x})) for x in range(2)]
    assert [result.fitness for result in results] == [2, 2]
    assert len(caplog.records) == 2, "once for the problem, once for its modules"


def test_nothing_is_left_of_a_training_that_exceeds_its_time_limit():
    result = run(sleeps_with_a_child, time_limit=1)
    assert result.error == "exceeded its time limit of 1 s"
    assert_gone(*result.curve[0].values())


def test_nothing_is_left_of_a_training_that_leaves_a_child():
    result = run(leaves_a_child)
    assert result.status is Status.OK
    assert_gone(result.metrics["child"])


def test_a_cancelled_training_is_killed(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(run, sleeps_after_telling, {"fifo": str(tmp_path / "fifo")})
        assert (tmp_path / "fifo").read_text() == "here"
        assert process.cancel("another key") == 0
        assert process.cancel() == 1
        assert future.result().status is Status.CANCELLED


def test_a_training_that_is_cancelled_while_its_problem_loads_does_not_begin(tmp_path):
    problem = LoadsUntilTold(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(run, problem)
        assert (tmp_path / "loading").read_text() == "here"
        found = [process.cancel(key) for key in ("another key", Evaluation.of("p", {}).key)]
        (tmp_path / "go on").write_text("")
        assert future.result().status is Status.CANCELLED
    assert found == [0, 1]
    assert not (tmp_path / "trained").exists()
    assert process.cancel() == 0
    assert run(problem).status is Status.OK, "the problem is there for the next"


def test_a_training_that_is_cancelled_while_it_waits_for_its_seat_loads_nothing(tmp_path):
    problem, evaluation = cloudpickle.dumps(Prepared(str(tmp_path / "log"))), Evaluation.of("p", {"x": 1})

    @contextmanager
    def cancelled_meanwhile():
        assert process.cancel(evaluation.key) == 1
        yield None

    result = process.run(problem, evaluation, lambda _: None, None, cancelled_meanwhile())
    assert result.status is Status.CANCELLED
    assert not (tmp_path / "log").exists()


def test_closing_ends_what_loads_a_problem(tmp_path):
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(run, LoadsUntilTold(tmp_path))
        assert (tmp_path / "loading").read_text() == "here"
        process.close()
        assert servers() == []
        assert future.result().status is Status.CANCELLED
    assert not (tmp_path / "trained").exists()


def test_closing_cancels_and_leaves_no_process(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(run, sleeps_after_telling, {"fifo": str(tmp_path / "fifo")})
        assert (tmp_path / "fifo").read_text() == "here"
        process.close()
        assert future.result().status is Status.CANCELLED
    assert servers() == []
    assert run(allocates).status is Status.OK, "it can be used again"


def test_two_threads_train_side_by_side(tmp_path):
    for name in "ab":
        os.mkfifo(tmp_path / name)
    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(run, sleeps_after_telling, {"fifo": str(tmp_path / name)}) for name in "ab"]
        assert [(tmp_path / name).read_text() for name in "ab"] == ["here", "here"]
        assert process.cancel() == 2
        assert [future.result().status for future in futures] == [Status.CANCELLED] * 2


def test_a_server_that_was_killed_is_replaced():
    crashed = run(kills_its_server, {"kill": True})
    assert crashed.status is Status.CRASHED
    assert run(kills_its_server, {"kill": False}).status is Status.OK


def test_no_more_than_two_idle_servers_are_kept(tmp_path):
    for name in "abcd":
        assert run(Prepared(str(tmp_path / name)), {"x": 1}).status is Status.OK
    assert len(servers()) == 2


def test_a_module_that_trainings_import_is_imported_once_per_worker():
    assert [run(imports_scipy, {"x": x}).metrics["known"] for x in range(3)] == [0, 1, 1]


def test_a_module_imported_with_other_settings_is_not_shared():
    results = [run(sets_keras_up_and_imports_scipy, {"x": x}) for x in range(2)]
    assert [result.metrics["known"] for result in results] == [0, 0]


@pytest.mark.parametrize(("gpu", "own", "threads"), [("", None, 1), ("-1", None, 1), ("0", None, 0), ("", "3", 3)])
def test_a_training_has_one_thread_unless_there_is_a_gpu_or_the_worker_says_otherwise(monkeypatch, gpu, own, threads):
    process.close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if own is not None:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", own)
    assert run(threads_of_tensorflow).fitness == threads
    process.close()


def test_large_parameters_and_metrics_pass():
    result = run(returns_much, {"text": "x" * 1_000_000})
    assert result.fitness == 1_000_000
    assert len(result.metrics) == 20_000


def test_memory_does_not_grow_from_training_to_training():
    for x in range(5):
        run(allocates, {"x": x})
    held = [psutil.Process(), *servers()]
    before = [each.memory_info().rss for each in held]
    for x in range(5, 25):
        assert run(allocates, {"x": x}).status is Status.OK
    growth = [each.memory_info().rss - rss for each, rss in zip(held, before, strict=True)]
    assert max(growth) < 4 << 20, growth


WORKER = """
import os, subprocess, sys, threading, time
import cloudpickle
from swarm.trial import Evaluation
from swarm.workers.evaluate import evaluate

class Problem:
    def __init__(self, state):
        self.state = state

    def prepare(self):
        if self.state == "loading":
            print(os.getpid(), flush=True)
            time.sleep(600)

    def __call__(self, params, ctx):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(os.getppid(), os.getpid(), child.pid, flush=True)
        time.sleep(600)

evaluation = cloudpickle.dumps(Problem(sys.argv[1])), Evaluation.of("p", {})
threading.Thread(target=evaluate, args=evaluation, daemon=True).start()
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["training", "loading"])
@pytest.mark.parametrize("end", ["killed", "ends"])
def test_nothing_outlives_its_worker(state, end):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WORKER, state], **pipes) as worker:
        pids = worker.stdout.readline().split()
        if end == "killed":
            worker.kill()
        worker.stdin.close()
        assert worker.stdout.read() == "", "the end of the output: all that could write to it are gone"
    assert len(pids) == (3 if state == "training" else 1)
    assert_gone(*pids)
