"""Slices of trainings that follow each other in one process, and in one network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import child, process
from swarm.workers.keras.layers import classifier, dropout
from swarm.workers.keras.network import Network
from swarm.workers.models import digits_cnn

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
PATIENCE = 20  # seconds until a process that was ended must be gone


@pytest.fixture
def nothing_waits():
    """No process waits from another test."""
    process.close()


def trains(params, ctx):
    """Tells which process it runs in, and whether that of params["other"] is still there."""
    ctx.restore()
    ctx.save({"state": np.zeros(1)})
    other = psutil.pid_exists(params.get("other", 0) or -1)
    ctx.report(pid=os.getpid())
    match params.get("ends"):
        case "fails":
            raise ValueError("no such layer")
        case "exits":
            sys.exit(3)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "takes too long":
            time.sleep(600)
        case "leaves a process":
            return {"fitness": 1.0, "pid": os.getpid(), "left": subprocess.Popen(SLEEP).pid}
        case "waits":
            Path(params["fifo"]).write_text("here")
            time.sleep(600)
    return {"fitness": 1.0, "pid": os.getpid(), "other": other}


def trains_another(params, ctx):
    return trains(params, ctx)


@pytest.fixture
def asked():
    """Keys of the evaluations so far."""
    return []


@pytest.fixture
def run(tmp_path, asked, nothing_waits):
    def run_one(problem=trains, *, slice=True, time_limit=None, **params):
        params["number"] = len(asked)  # each is another evaluation
        evaluation = Evaluation.of("p", params, budget=1, slice=slice, time_limit=time_limit)
        asked.append(evaluation.key)
        return evaluate(cloudpickle.dumps(problem), evaluation, checkpoints=str(tmp_path / "checkpoints"))

    return run_one


def pid_of(result):
    assert result.status is Status.OK, result.error
    return int(result.metrics["pid"])


def wait_until_gone(pid):
    try:
        psutil.Process(pid).wait(PATIENCE)
    except psutil.NoSuchProcess:
        return


def test_slices_follow_each_other_in_one_process_and_trainings_do_not(run):
    assert len({pid_of(run()) for _ in range(3)}) == 1
    assert len({pid_of(run(slice=False)) for _ in range(3)}) == 3


@pytest.mark.parametrize("options", [{"slice": False}, {"problem": trains_another}])
def test_a_waiting_process_is_gone_before_another_training_begins(run, options):
    waiting = pid_of(run())
    assert psutil.pid_exists(waiting)
    assert run(other=waiting, **options).metrics["other"] == 0
    assert pid_of(run()) != waiting


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ("fails", Status.FAILED),
        ("exits", Status.CRASHED),
        ("is killed", Status.CRASHED),
        ("takes too long", Status.FAILED),
        ("leaves a process", Status.OK),
    ],
)
def test_a_process_does_not_wait_after_a_slice_that(ends, status, run):
    warm = pid_of(run())
    ended = run(ends=ends, time_limit=0.5 if ends == "takes too long" else None)
    assert ended.status is status
    assert ended.curve[0]["pid"] == warm, "it ran in the process that waited"
    assert not psutil.pid_exists(warm)
    if ends == "leaves a process":
        wait_until_gone(int(ended.metrics["left"]))
    assert pid_of(run()) != warm


@pytest.mark.parametrize(("how", "status"), [("cancelled", Status.CANCELLED), ("pruned", Status.PRUNED)])
def test_a_slice_that_follows_another_can_be_ended(how, status, run, asked, tmp_path):
    warm = pid_of(run())
    assert process.cancel() == 0, "what waits is no training"
    os.mkfifo(tmp_path / "fifo")
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(run, ends="waits", fifo=str(tmp_path / "fifo"))
        assert (tmp_path / "fifo").read_text() == "here"
        if how == "cancelled":
            assert process.cancel() == 1
        else:
            process.prune(asked[-1], "pid")
        ended = future.result()
    assert (ended.status, ended.curve[0]["pid"]) == (status, warm)
    assert not psutil.pid_exists(warm)
    assert pid_of(run()) != warm


def test_a_slice_that_is_pruned_before_it_begins_goes_on_and_its_process_waits(tmp_path, nothing_waits):
    evaluation = Evaluation.of("p", {}, budget=1, slice=True, time_limit=10)

    @contextmanager
    def pruned_meanwhile():
        process.prune(evaluation.key, "pid")
        yield None

    arguments = cloudpickle.dumps(trains), evaluation, lambda _: None, str(tmp_path), pruned_meanwhile()
    assert psutil.pid_exists(pid_of(process.run(*arguments)))


def test_a_process_that_dies_while_it_waits_is_replaced(run):
    waiting = pid_of(run())
    os.kill(waiting, signal.SIGKILL)
    wait_until_gone(waiting)
    assert pid_of(run()) != waiting


def test_a_process_waits_for_a_while_only(run, monkeypatch):
    monkeypatch.setattr(child, "IDLE_SECONDS", 0.2)
    wait_until_gone(pid_of(run()))
    assert run().status is Status.OK


def test_no_process_waits_if_told_so(run, monkeypatch):
    monkeypatch.setattr(child, "IDLE_SECONDS", 0.0)
    assert not psutil.pid_exists(pid_of(run()))


def test_a_process_runs_so_many_slices(run, monkeypatch):
    monkeypatch.setattr(child, "SLICES", 2)
    pids = [pid_of(run()) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_closing_ends_what_waits(run):
    waiting = pid_of(run())
    process.close()
    assert not psutil.pid_exists(waiting)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]


def test_what_a_slice_prints_is_not_kept_back(tmp_path):
    code = f"""
import cloudpickle, os, sys
from swarm.trial import Evaluation
from swarm.workers.evaluate import evaluate

def prints(params, ctx):
    ctx.save({{}})
    print("trained")
    return 1.0

evaluate(cloudpickle.dumps(prints), Evaluation.of("p", {{}}, slice=True), checkpoints={str(tmp_path)!r})
print("answered", flush=True)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["trained", "answered"]


WORKER = """
import os, sys
import cloudpickle
from swarm.trial import Evaluation
from swarm.workers.evaluate import evaluate

def tells(params, ctx):
    ctx.save({})
    return {"fitness": 1.0, "server": os.getppid(), "pid": os.getpid()}

evaluation = Evaluation.of("p", {}, slice=True)
metrics = evaluate(cloudpickle.dumps(tells), evaluation, checkpoints=sys.argv[1]).metrics
print(metrics["server"], metrics["pid"], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["killed", "ends"])
def test_what_waits_does_not_outlive_its_worker(end, tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], **pipes) as worker:
        pids = [int(float(pid)) for pid in worker.stdout.readline().split()]
        assert psutil.pid_exists(pids[1])
        if end == "killed":
            worker.kill()
        worker.stdin.close()
        assert worker.stdout.read() == "", "the end of the output: all that could write to it are gone"
    for pid in pids:
        wait_until_gone(pid)


# --- networks

CALLS = [0]  # of a layer, by Python: when the network is built, and when it is traced


def build(params, shape, classes):
    """The digits' network with a dropout, a noise that is a plain number, and a layer that counts."""
    import keras

    class Counts(keras.layers.Layer):
        def call(self, x):
            CALLS[0] += 1
            return x

    base = digits_cnn.build(params, shape, classes)
    x = dropout(Counts()(base.layers[-2].output), params)
    return classifier(base.inputs, keras.layers.GaussianNoise(float(params["noise"]))(x), classes)


NETWORK = digits_cnn.problem(build=build, train=400)
PARAMS = {
    "filters": 4,
    "size": 3,
    "pool": 2,
    "units": 16,
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "weight_decay": 0.1,
    "dropout": 0.2,
    "batch_size": 64,
    "noise": 0.1,
}
OTHER = {"learning_rate": 3e-3, "weight_decay": 0.3, "dropout": 0.0, "batch_size": 50}


def counted(params, ctx):
    """Trains, or gives one of the known answers: one problem, so that one process imports Keras for all."""
    if "answer" in params:
        return {"fitness": 0.0, **ANSWERS[params["answer"]]()}
    calls = CALLS[0]
    scores = NETWORK(params, ctx)
    return {**scores, "calls": CALLS[0] - calls}


counted.preload = NETWORK.preload


def sliced(url, params, parent=None, *, problem=counted, slice=True, budget=None, seed=None):
    key, budget = (None, 1) if parent is None else (parent.key, budget or parent.metrics["epochs"] + 1)
    evaluation = Evaluation.of("p", params, budget=budget, parent=key, slice=slice)
    evaluation = evaluation if seed is None else replace(evaluation, seed=seed)
    result = evaluate(cloudpickle.dumps(problem), evaluation, checkpoints=url)
    assert result.status is Status.OK, result.error
    return result


def family(url):
    """Slices by name: two of the first generation, and descendants."""
    first = sliced(url, PARAMS)
    second = sliced(url, {**PARAMS, "learning_rate": 2e-2, "weight_decay": 0.0, "dropout": 0.5})
    child = sliced(url, {**PARAMS, **OTHER}, first)
    noisy = sliced(url, {**PARAMS, **OTHER, "noise": 0.5}, child)
    calm = sliced(url, {**PARAMS, "dropout": 1.0}, second)
    return {"first": first, "second": second, "child": child, "noisy": noisy, "calm": calm}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("warm"))
    return url, family(url)


@pytest.mark.slow
def test_a_slice_in_a_kept_network_gives_the_same_to_the_last_bit(warm, nothing_waits, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "IDLE_SECONDS", 0.0)
    url, results = warm
    for name, fresh in family(str(tmp_path)).items():
        kept = results[name]
        assert (kept.fitness, kept.metrics["val_loss"], kept.curve) == (
            fresh.fitness,
            fresh.metrics["val_loss"],
            fresh.curve,
        ), name
        ours, theirs = CheckpointStore(url).load(kept.key), CheckpointStore(str(tmp_path)).load(fresh.key)
        assert ours.meta == theirs.meta and ours.arrays.keys() == theirs.arrays.keys()
        for array in ours.arrays:
            np.testing.assert_array_equal(ours.arrays[array], theirs.arrays[array], err_msg=f"{name}: {array}")


@pytest.mark.slow
def test_only_what_is_known_to_be_settable_is_set_without_tracing(warm):
    calls = {name: result.metrics["calls"] for name, result in warm[1].items()}
    built, traced = 1, calls["first"]
    assert traced > built
    assert calls == {"first": traced, "second": built, "child": 0, "noisy": traced, "calm": traced}


@pytest.mark.slow
def test_a_whole_training_is_the_slices_of_it_to_the_last_bit(warm, tmp_path):
    url, results = warm
    again = sliced(url, PARAMS, results["first"])
    seed = int(CheckpointStore(url).load(again.key).meta["seed"])
    evaluation = replace(Evaluation.of("p", PARAMS, budget=2), seed=seed)
    whole = evaluate(cloudpickle.dumps(counted), evaluation)
    assert (again.fitness, again.metrics["val_loss"]) == (whole.fitness, whole.metrics["val_loss"])
    assert results["first"].curve + again.curve == whole.curve


# --- known answers

OPTIMIZERS = ["sgd", "Adam", "AdamW", "Lion", "RMSprop"]


def decays():
    """By optimizer, how far a weight comes from where Keras' own weight decay takes it, which is set anew once."""
    import keras

    rng = np.random.default_rng(0)
    x, y = rng.random((64, 8, 8, 1), np.float32), rng.integers(10, size=64)
    found = dict.fromkeys(OPTIMIZERS, 0.0)
    for name in OPTIMIZERS:
        point = {**PARAMS, "dropout": 0.0, "noise": 0.0, "optimizer": name, "learning_rate": 0.1}
        ours, theirs = Network(NETWORK, point, 1), Network(NETWORK, point, 1).model
        for decay in (0.5, 0.2):
            ours.set({**point, "weight_decay": decay})
            config = {"learning_rate": 0.1, "weight_decay": decay}
            optimizer = keras.optimizers.get({"class_name": name, "config": config})
            optimizer.build(theirs.trainable_variables)
            for state, variable in zip(ours.model.optimizer.variables, optimizer.variables, strict=True):
                variable.assign(state)
            theirs.compile(optimizer, NETWORK.loss)
            for model in (ours.model, theirs):
                model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
            for weight, other in zip(ours.model.get_weights(), theirs.get_weights(), strict=True):
                found[name] = max(found[name], float(np.abs(weight - other).max()))
    return found


def drops():
    """What dropout makes of ones, by its rate, and whether it was traced once."""
    import keras
    import tensorflow as tf

    from swarm.workers.keras.network import Hyperparameters

    params = Hyperparameters({"dropout": 0.0})
    inputs = keras.Input((1000,))
    model = keras.Model(inputs, dropout(inputs, params))
    step = tf.function(lambda x: model(x, training=True))
    ones, found = np.ones((100, 1000), np.float32), {}
    for rate in (0.0, 0.2, 1.0):
        params.set({"dropout": rate})
        values = np.array(step(ones))
        found[f"zeros at {rate}"] = float((values == 0).mean())
        found[f"largest at {rate}"] = float(values.max())
    found["at rest"] = float(np.abs(np.array(model(ones)) - 1).max())
    found["traced"] = step.experimental_get_tracing_count()
    found["weights"] = len(model.weights)
    return found


ANSWERS = {"decays": decays, "drops": drops}


def answer(name):
    result = evaluate(cloudpickle.dumps(counted), Evaluation.of("p", {"answer": name}))
    assert result.status is Status.OK, result.error
    return result.metrics


@pytest.mark.deep
def test_weight_decay_that_can_be_set_is_that_of_keras():
    assert answer("decays") == dict.fromkeys(OPTIMIZERS, 0.0)


@pytest.mark.slow
def test_a_rate_that_can_be_set_drops_its_share_and_keeps_the_mean():
    found = answer("drops")
    assert (found["zeros at 0.0"], found["largest at 0.0"]) == (0, 1)
    assert found["zeros at 0.2"] == pytest.approx(0.2, abs=0.01)
    assert found["largest at 0.2"] == pytest.approx(1 / 0.8)
    assert (found["zeros at 1.0"], found["largest at 1.0"]) == (1, 0)
    assert (found["at rest"], found["traced"], found["weights"]) == (0, 1, 0)


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_beyond_0_and_1_is_refused(rate):
    result = evaluate(cloudpickle.dumps(counted), Evaluation.of("p", {**PARAMS, "dropout": rate}))
    assert result.error == f"InvalidProblem: dropout is a rate, from 0 to 1, not {rate}"
