"""A Keras network that replicas, or several devices of a process, train together: what one trains on whole batches."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import cloudpickle
import numpy as np
import pytest

from swarm.trial import Evaluation, Result, Status
from swarm.workers.isolation import process
from swarm.workers.keras import KerasProblem
from swarm.workers.models import digits_cnn, nhop
from swarm.workers.replicas.rendezvous import Seat

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_import")]
REGRESSOR = {
    "layers": 2,
    "nodes": 24,
    "activation": "tanh",
    "optimizer": "adam",
    "learning_rate": 0.01,
    "batch_size": 150,
}


def normalised(params: Any, input_shape: tuple[int, ...], classes: int) -> Any:
    """A small network with moving averages."""
    import keras

    x = inputs = keras.Input(input_shape)
    x = keras.layers.BatchNormalization()(keras.layers.Dense(16)(keras.layers.Flatten()(x)))
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))


def linear(params: Any, input_shape: tuple[int, ...], outputs: int) -> Any:
    """A builder of one's own."""
    import keras

    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(outputs)(inputs))


class Networks:
    """Networks of the digits, with a few sums of their weights, and those of NHOP: one import of TensorFlow for all."""

    preload = KerasProblem.preload

    def __init__(self) -> None:
        options = {"data": "digits", "train": 203, "epochs": 2, "batch_size": 33, "patience": None}
        self.plain = digits_cnn.problem(**options)
        self.averaging = KerasProblem(build=normalised, name="normalised", **options)
        self.regressions = {
            "regressor": nhop.problem(examples=610),
            "linear": nhop.Regression(build=linear, train_tolerance=1e-3),
            "rnn": nhop.problem("rnn", examples=300),
        }

    def prepare(self) -> None:
        """Loads the data once for all."""
        self.plain.prepare()

    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        import dataclasses

        import tensorflow as tf

        if params["network"] in self.regressions:
            return self.regressions[params["network"]]({**REGRESSOR, **params}, ctx)
        problem = getattr(self, params["network"])
        if params.get("devices", 1) > 1:
            parts = [tf.config.LogicalDeviceConfiguration()] * params["devices"]
            tf.config.threading.set_inter_op_parallelism_threads(2)
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
            problem = dataclasses.replace(problem, devices=tuple(f"CPU:{i}" for i in range(params["devices"])))
        shape = {"filters": 4, "size": 3, "pool": 2, "units": 16}
        model, scores = problem._train({**shape, "learning_rate": 0.05, "optimizer": "sgd"}, ctx)
        flat = np.concatenate([np.asarray(weight).ravel() for weight in model.weights])
        return {**scores, **{f"sum-{i}": float(flat[i::7].sum()) for i in range(7)}}


@pytest.fixture(scope="module")
def problem() -> bytes:
    return bytes(cloudpickle.dumps(Networks()))


def trained(
    problem: bytes, network: str, size: int = 1, *, sync: bool = True, budget: float | None = None, **params: Any
) -> list[Result]:
    """The results of all replicas; an asynchronous training of one goes through its server as well."""
    params = {"network": network, **params}
    evaluation = replace(Evaluation.of("networks", params, budget=budget, replicas=size, sync=sync), seed=7)
    lines = [socket.socketpair() for _ in range(1, size)]
    seats = [Seat(0, size, sync, tuple(line for line, _ in lines))]
    seats += [Seat(rank, size, sync, (line,)) for rank, (_, line) in enumerate(lines, 1)]
    given = [nullcontext(seat) for seat in ([None] if size == 1 and sync else seats)]
    with ThreadPoolExecutor(size) as pool:
        runs = [pool.submit(process.run, problem, evaluation, lambda _: None, None, seating) for seating in given]
        return [run.result() for run in runs]


def agree(found: Result, wanted: Result, tolerance: float = 1e-6) -> None:
    assert found.status is wanted.status is Status.OK, found.error
    assert found.metrics["epochs"] == wanted.metrics["epochs"] == 2
    for name in ("val_loss", "val_accuracy", *(f"sum-{i}" for i in range(7))):
        assert found.metrics[name] == pytest.approx(wanted.metrics[name], abs=tolerance, rel=tolerance), name


@pytest.fixture(scope="module")
def alone(problem: bytes) -> Result:
    """What one training makes of whole batches, the last of them an odd one."""
    return trained(problem, "plain")[0]


def test_synchronous_replicas_train_the_network_that_one_trains_on_whole_batches(problem: bytes, alone: Result) -> None:
    first, second = trained(problem, "plain", 2)
    agree(first, alone)
    assert second.metrics == first.metrics


def test_an_asynchronous_replica_alone_trains_what_a_synchronous_one_does(problem: bytes, alone: Result) -> None:
    (free,) = trained(problem, "plain", sync=False)
    agree(free, alone)
    assert free.metrics["staleness"] == 0


def test_several_devices_of_one_process_share_every_batch(problem: bytes, alone: Result) -> None:
    (both,) = trained(problem, "plain", devices=2)
    agree(both, alone)


@pytest.mark.parametrize("sync", [True, False])
def test_every_epoch_ends_with_one_network_moving_averages_included(problem: bytes, sync: bool) -> None:
    first, second = trained(problem, "averaging", 2, sync=sync)
    agree(second, first)
    assert "staleness" not in first.metrics if sync else first.metrics["staleness"] >= 0


# --- the networks of NHOP


def test_a_longer_training_learns_more(problem: bytes) -> None:
    short, long = (trained(problem, "regressor", budget=epochs)[0] for epochs in (3, 120))
    assert (short.metrics["epochs"], long.metrics["epochs"]) == (3, 120)
    assert long.fitness < 0.5 * short.fitness
    assert long.metrics["loss"] == pytest.approx(long.fitness, rel=0.8)
    assert len(long.curve) == 0 and long.metrics["parameters"] == 4 * 24 + 24 + 24 * 24 + 24 + 24 + 1


def test_replicas_of_a_regressor_are_one_training_on_whole_batches(problem: bytes) -> None:
    (single,) = trained(problem, "regressor", budget=30, optimizer="sgd")
    (free,) = trained(problem, "regressor", budget=30, optimizer="sgd", sync=False)
    for found in (*trained(problem, "regressor", 2, budget=30, optimizer="sgd"), free):
        assert found.status is Status.OK, found.error
        assert found.fitness == pytest.approx(single.fitness, abs=1e-6)
        assert found.metrics["loss"] == pytest.approx(single.metrics["loss"], abs=1e-6)
    first, second = trained(problem, "regressor", 2, sync=False, budget=30)
    assert first.fitness == second.fitness < 1


def test_a_training_whose_loss_stands_still_ends(problem: bytes) -> None:
    (found,) = trained(problem, "linear", budget=2000)
    assert 10 < found.metrics["epochs"] < 500
    assert found.metrics["parameters"] == 5


def test_recurrent_layers_predict_a_series(problem: bytes) -> None:
    (found,) = trained(problem, "rnn", layers=2, units=8, budget=12)
    assert found.status is Status.OK, found.error
    assert found.fitness < 0.5  # the variance of the series is 0.6
