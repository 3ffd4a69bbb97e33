from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from swarm.cluster.connect import embedded, slots_of
from swarm.errors import Infeasible
from swarm.pool.dask_pool import DaskPool
from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.checkpoints.results import path_of
from swarm.workers.evaluate import evaluate
from swarm.workers.node.supervisor import make_slots

ISOLATIONS = pytest.mark.parametrize("isolation", ["thread", "process"])


def sphere(params, ctx):
    rng = np.random.default_rng(ctx.seed)
    for epoch in range(3):
        ctx.report(epoch=epoch, loss=rng.random())
    return {"fitness": params["x"] ** 2 + rng.random(), "fold": ctx.fold, "pid": os.getpid()}


def ends_badly(params, ctx):
    match params["how"]:
        case "raise":
            raise ValueError("no such layer")
        case "infeasible":
            raise Infeasible("the pool is too large")
        case "interrupt":
            raise KeyboardInterrupt
        case "exit":
            sys.exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(60)
    return float("nan")


def counted(params, ctx):
    with Path(params["log"]).open("a") as log:
        log.write("trained\n")
    return 1.0


def adds_up(params, ctx):
    """Adds params["x"] once per epoch to what it continues from, and dies in the epoch params["dies"]."""
    restored = ctx.restore()
    epoch, total = (restored.meta["epoch"], restored.arrays["total"]) if restored else (0, np.zeros(1))
    first = epoch
    while epoch < ctx.budget:
        epoch, total = epoch + 1, total + params["x"]
        ctx.save({"total": total}, epoch=epoch)
        if epoch == params.get("dies") and first == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    if params.get("raises"):
        raise ValueError("no such layer")
    return {"fitness": total[0], "first": first, "wanted": ctx.wants_checkpoint}


class Scored:
    def __call__(self, params, ctx):
        return 1.0

    def test(self, params, ctx):
        return {"fitness": 2.0, "val_accuracy": 1.0}


class BadData:
    def __call__(self, params, ctx):
        return 1.0

    def prepare(self):
        raise FileNotFoundError("no mnist.npz")


def run(problem, params, results=None, checkpoints=None, **options):
    evaluation = Evaluation.of("p", params, **options)
    return evaluate(cloudpickle.dumps(problem), evaluation, results, checkpoints=checkpoints)


@ISOLATIONS
def test_a_training_gives_its_fitness_metrics_and_curve(isolation):
    result = run(sphere, {"x": 2}, fold=3, isolation=isolation)
    assert result.status is Status.OK
    assert 4 <= result.fitness < 5
    assert result.metrics["fold"] == 3
    assert [point["epoch"] for point in result.curve] == [0, 1, 2]
    assert result.start <= result.end
    assert 0 < result.seconds < 10
    assert result.slot == socket.gethostname()
    assert result.error is None


def test_a_training_gives_the_same_in_a_thread_and_in_a_process():
    threaded = run(sphere, {"x": 3}, isolation="thread")
    forked = run(sphere, {"x": 3}, isolation="process")
    assert threaded.fitness == forked.fitness
    assert threaded.curve == forked.curve
    assert threaded.metrics["pid"] == os.getpid() != forked.metrics["pid"]


@ISOLATIONS
def test_an_exception_fails_with_its_traceback(isolation):
    result = run(ends_badly, {"how": "raise"}, isolation=isolation)
    assert result.status is Status.FAILED
    reason, below = result.error.split("\n", 1)
    assert reason == "ValueError: no such layer"
    assert "in ends_badly" in below
    assert "problem.py" not in below, "our own frames are of no use to the user"


@ISOLATIONS
def test_nan_fails_with_one_line(isolation):
    result = run(ends_badly, {"how": "nan"}, isolation=isolation)
    assert result.status is Status.FAILED
    assert "fitness of nan" in result.error
    assert "\n" not in result.error


@ISOLATIONS
def test_an_infeasible_configuration_fails_with_one_line(isolation):
    result = run(ends_badly, {"how": "infeasible"}, isolation=isolation)
    assert result.status is Status.FAILED
    assert result.error == "Infeasible: the pool is too large"


@ISOLATIONS
def test_a_keyboard_interrupt_of_the_training_fails_it(isolation):
    result = run(ends_badly, {"how": "interrupt"}, isolation=isolation)
    assert result.status is Status.FAILED
    assert result.error.startswith("KeyboardInterrupt")


def test_sys_exit_in_a_thread_fails():
    result = run(ends_badly, {"how": "exit"}, isolation="thread")
    assert result.status is Status.FAILED
    assert result.error.startswith("SystemExit: 3\n")


def test_sys_exit_in_a_process_crashes():
    result = run(ends_badly, {"how": "exit"})
    assert result.status is Status.CRASHED
    assert result.error == "training's process exited with code 3"


def test_a_killed_process_crashes_with_the_signal():
    result = run(ends_badly, {"how": "kill"})
    assert result.status is Status.CRASHED
    assert result.error == "training's process was killed by signal 9 (SIGKILL)"


def test_a_process_is_stopped_at_its_time_limit():
    result = run(ends_badly, {"how": "sleep"}, time_limit=0.5)
    assert result.status is Status.FAILED
    assert result.error == "exceeded its time limit of 0.5 s"
    assert not result.blamed and not result.answers_others
    assert 0.5 <= result.seconds < 10


def test_a_thread_that_took_longer_than_its_time_limit_fails():
    result = run(sphere, {"x": 1}, isolation="thread", time_limit=1e-9)
    assert result.status is Status.FAILED
    assert result.error == "exceeded its time limit of 1e-09 s"
    assert not result.blamed and not result.answers_others


@ISOLATIONS
def test_a_problem_that_cannot_be_prepared_fails_with_its_traceback(isolation):
    result = run(BadData(), {}, isolation=isolation)
    assert result.status is Status.FAILED
    assert result.error.startswith("FileNotFoundError: no mnist.npz\n")
    assert "in prepare" in result.error
    assert not result.blamed and not result.answers_others


@ISOLATIONS
def test_what_is_no_pickle_fails(isolation):
    result = evaluate(b"no pickle", Evaluation.of("p", {}, isolation=isolation))
    assert result.status is Status.FAILED
    assert result.error.startswith("UnpicklingError")


@ISOLATIONS
def test_the_purpose_test_calls_the_test_method(isolation):
    result = run(Scored(), {}, purpose="test", isolation=isolation)
    assert (result.fitness, result.metrics) == (2.0, {"val_accuracy": 1.0})


@ISOLATIONS
def test_a_problem_without_a_test_method_fails_the_purpose_test(isolation):
    result = run(sphere, {"x": 1}, purpose="test", isolation=isolation)
    assert result.status is Status.FAILED
    assert "no method test" in result.error


def test_a_committed_result_is_returned_without_training_again(tmp_path):
    log, results = tmp_path / "log", str(tmp_path / "results")
    first = run(counted, {"log": str(log)}, results)
    again = run(counted, {"log": str(log)}, results)
    assert first == again
    assert log.read_text() == "trained\n"


def test_only_a_failure_of_the_configuration_itself_is_committed(tmp_path):
    results = str(tmp_path)
    for how in ("infeasible", "nan"):
        failed = run(ends_badly, {"how": how}, results)
        assert failed.blamed
        assert json.loads(path_of(results, failed.key).read_text())["error"] == failed.error
    for how in ("raise", "exit", "interrupt"):
        assert not path_of(results, run(ends_badly, {"how": how}, results).key).exists()


def test_a_committed_failure_of_an_earlier_version_answers_only_if_it_is_recognisably_the_configurations(tmp_path):
    log, results = tmp_path / "log", str(tmp_path / "results")
    first = run(counted, {"log": str(log)}, results)
    path = path_of(results, first.key)
    written = {"key": first.key, "status": "failed", "fitness": None, "metrics": {}, "curve": [], "passing": False}
    path.write_text(json.dumps({**written, "error": "FileNotFoundError: no data\nTraceback …"}))
    assert run(counted, {"log": str(log)}, results).status is Status.OK
    assert json.loads(path.read_text())["status"] == "ok"
    for error in ("Infeasible: too large", "training's process was killed by signal 11 (SIGSEGV) (2 times)"):
        path.write_text(json.dumps({**written, "error": error}))
        assert run(counted, {"log": str(log)}, results).error == error
    assert log.read_text() == "trained\n" * 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": "other", "status": "ok", "fitness": 1.0}'])
def test_a_corrupt_commit_is_ignored_and_overwritten(tmp_path, content):
    log, results = tmp_path / "log", str(tmp_path / "results")
    first = run(counted, {"log": str(log)}, results)
    path = path_of(results, first.key)
    path.write_text(content)
    assert run(counted, {"log": str(log)}, results).status is Status.OK
    assert log.read_text() == "trained\n" * 2
    assert json.loads(path.read_text())["key"] == first.key
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_a_directory_that_cannot_be_written_loses_no_result(tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, "swarm.workers"):
        result = run(sphere, {"x": 1}, str(tmp_path / "file"))
    assert result.status is Status.OK
    assert "not committed" in caplog.text


@ISOLATIONS
def test_a_training_continues_from_its_parent_and_leaves_a_checkpoint_itself(tmp_path, isolation):
    url = str(tmp_path / "checkpoints")
    parent = run(adds_up, {"x": 1}, budget=2, checkpoints=url, isolation=isolation)
    child = run(adds_up, {"x": 10}, budget=5, parent=parent.key, checkpoints=url, isolation=isolation)
    assert (parent.fitness, child.fitness, child.metrics["first"]) == (2, 32, 2)
    assert CheckpointStore(url).keys() == {parent.key, child.key}
    assert CheckpointStore(url).load(child.key).meta == {"epoch": 5}
    assert child.metrics["checkpoint_bytes"] > 0
    assert 0 < child.metrics["checkpoint_seconds"] < child.seconds


@ISOLATIONS
def test_without_a_url_nothing_is_saved_and_all_starts_from_scratch(isolation):
    result = run(adds_up, {"x": 1}, budget=2, parent="ab", isolation=isolation)
    assert (result.fitness, result.metrics) == (2, {"first": 0, "wanted": 0})


@ISOLATIONS
def test_without_its_parents_checkpoint_a_training_starts_from_scratch(tmp_path, isolation):
    result = run(adds_up, {"x": 1}, budget=3, parent="ab", checkpoints=str(tmp_path), isolation=isolation)
    assert (result.fitness, result.metrics["first"]) == (3, 0)


@ISOLATIONS
def test_a_damaged_checkpoint_of_its_parent_fails_a_training_with_one_line(tmp_path, isolation):
    (tmp_path / "ab.npz").write_bytes(b"damaged")
    result = run(adds_up, {"x": 1}, budget=3, parent="ab", checkpoints=str(tmp_path), isolation=isolation)
    assert result.status is Status.FAILED
    assert result.error.startswith("CheckpointCorrupt: checkpoint ")
    assert "\n" not in result.error


def test_a_training_that_was_killed_goes_on_from_its_own_save(tmp_path):
    options = {"budget": 5, "checkpoints": str(tmp_path)}
    crashed = run(adds_up, {"x": 1, "dies": 3}, **options)
    assert crashed.status is Status.CRASHED
    assert CheckpointStore(str(tmp_path)).keys() == set()
    resumed = run(adds_up, {"x": 1, "dies": 3}, **options)
    assert (resumed.fitness, resumed.metrics["first"]) == (5, 3)
    assert CheckpointStore(str(tmp_path)).load(resumed.key).meta == {"epoch": 5}


@ISOLATIONS
def test_a_training_that_fails_leaves_no_checkpoint(tmp_path, isolation):
    result = run(adds_up, {"x": 1, "raises": True}, budget=1, checkpoints=str(tmp_path), isolation=isolation)
    assert result.status is Status.FAILED
    assert CheckpointStore(str(tmp_path)).keys() == set()


@ISOLATIONS
def test_a_url_of_no_known_protocol_fails_with_the_reason(isolation):
    result = run(sphere, {"x": 1}, checkpoints="nowhere://folder", isolation=isolation)
    assert result.status is Status.FAILED
    assert "nowhere" in result.error


def test_a_committed_result_whose_checkpoint_is_gone_is_trained_again(tmp_path):
    results, url = str(tmp_path / "results"), str(tmp_path / "checkpoints")
    first = run(adds_up, {"x": 1}, results, budget=2, checkpoints=url)
    assert run(adds_up, {"x": 1}, results, budget=2, checkpoints=url) == first
    CheckpointStore(url).delete([first.key])
    assert run(adds_up, {"x": 1}, results, budget=2) == first, "who keeps no checkpoints needs none"
    again = run(adds_up, {"x": 1}, results, budget=2, checkpoints=url)
    assert again.start > first.end
    assert CheckpointStore(url).keys() == {first.key}


def names_a_file_that_is_not_utf_8(params, ctx):
    name = os.fsdecode(b"caf\xe9")
    ctx.report(**{name: 1.0})
    if params["fails"]:
        raise ValueError(name)
    return {"fitness": 1.0, name: 2.0}


@pytest.mark.slow
@ISOLATIONS
async def test_what_is_not_utf_8_comes_to_the_master_with_its_bytes_escaped(isolation):
    problem = cloudpickle.dumps(names_a_file_that_is_not_utf_8)
    evaluations = [Evaluation.of("p", {"fails": fails}, isolation=isolation) for fails in (True, False)]
    results = {}
    async with embedded(make_slots(slots=1)) as client, slots_of(client) as slots, DaskPool(slots, problem) as pool:
        await pool.wait_for_slots(60)
        for evaluation in evaluations:
            pool.submit([evaluation])
            while evaluation.key not in results:
                results |= {result.key: result for result in await pool.next()}
    failed, trained = (results[evaluation.key] for evaluation in evaluations)
    assert (failed.status, trained.status) == (Status.FAILED, Status.OK), failed.error
    assert failed.error.startswith("ValueError: caf\\udce9\n")
    assert trained.metrics == {"caf\\udce9": 2.0}
    assert failed.curve == trained.curve == ({"caf\\udce9": 1.0},)


@pytest.mark.slow
def test_the_slot_is_the_name_of_the_dask_worker():
    from distributed import Client, Nanny, Scheduler, SpecCluster

    host = {"host": "127.0.0.1"}
    spec = {"gpu7": {"cls": Nanny, "options": {"name": "gpu7", "nthreads": 1, "dashboard": False, **host}}}
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "dashboard_address": ":0", **host}}
    with SpecCluster(workers=spec, scheduler=scheduler) as cluster, Client(cluster) as client:
        evaluation = Evaluation.of("p", {"x": 1})
        result = client.submit(evaluate, cloudpickle.dumps(sphere), evaluation).result()
    assert result.status is Status.OK
    assert result.slot == "gpu7"
