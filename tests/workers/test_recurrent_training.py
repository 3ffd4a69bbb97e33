"""Recurrent networks in Keras: the same as ours on NumPy, and trained."""

from __future__ import annotations

import json

import numpy as np
import pytest

from swarm.errors import InvalidProblem
from swarm.workers.context import Context
from swarm.workers.recurrent import Architecture, drawn, keras_network, predictions
from swarm.workers.recurrent.keras_network import RecurrentTraining
from swarm.workers.recurrent.sampling import MaeSampling
from swarm.workers.recurrent.series import load
from swarm.workers.recurrent.weights import WeightEvolution

pytestmark = pytest.mark.slow
PARAMS = {"look_back": 3, "layers": 2, "units_1": 4, "units_2": 5}
DATA = {"name": "sine", "points": 120}
TRAINING = {"epochs": 15, "learning_rate": 0.03, "dropout": 0.1, "batch_size": 8}


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "linear"])
def test_networks_on_numpy_predict_what_keras_predicts_with_the_same_weights(activation):
    import keras

    architecture = Architecture(2, (3, 4), 2, 5, activation)
    rng = np.random.default_rng(0)
    weights, windows = drawn({}, (3, architecture.size), rng), drawn({}, (7, 5, 2), rng)
    ours = predictions(architecture, weights, windows)
    model = keras_network.build(architecture)
    assert [tuple(each.shape) for each in model.weights] == architecture.shapes
    for network in range(3):
        model.set_weights([each[network] for each in architecture.tensors(weights)])
        assert ours[network] == pytest.approx(np.asarray(model(windows)), abs=1e-6)
    on_keras = predictions(architecture, keras.ops.convert_to_tensor(weights), windows, keras_network.functions())
    assert np.asarray(on_keras) == pytest.approx(ours, abs=1e-6)


def test_sampling_gives_the_same_on_both_backends():
    found = [MaeSampling(data=DATA, backend=backend)(PARAMS, Context(seed=3)) for backend in ("numpy", "tensorflow")]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_what_a_search_by_samples_has_found_is_trained_for_its_test_score():
    reports = []
    tested = MaeSampling(data=DATA, training=TRAINING).test(PARAMS, Context(seed=5, _send=reports.append))
    best = min(each["val_loss"] for each in reports)
    silent = np.abs(load(DATA).valid).mean()  # the error of a network that always says 0
    assert best < silent / 2
    assert tested["fitness"] == tested["mae"] == pytest.approx(best, rel=0.3)  # a sine has no other future
    assert [each["epoch"] for each in reports] == list(range(1, int(tested["epochs"]) + 1))
    assert tested["weights"] == Architecture.of(PARAMS, 1, 1).size


def test_a_network_is_shown_as_the_papers_listing_shows_it():
    model = keras_network.build(Architecture.of(PARAMS, 1, 1), dropout=0.5)
    shown = json.loads(json.dumps(keras_network.report(model, {"log_p": -12.2})))
    assert list(shown) == ["fitness", "layers", "look_back", "config"]
    assert (shown["layers"], shown["look_back"]) == ([1, 4, 5, 1], 3)
    kinds = [(layer["class_name"], layer["config"].get("units")) for layer in shown["config"]]
    assert kinds == [("LSTM", 4), ("LSTM", 5), ("Dropout", None), ("Dense", 1)]
    assert shown["config"][0]["config"]["activation"] == "tanh"


def test_evolved_weights_make_the_same_network_in_keras():
    problem = WeightEvolution(data=DATA, generations=5, settings={"population": 10})
    model = problem.trained({}, Context(seed=2))
    mae, _ = keras_network.scores(model, load(DATA), "valid")
    assert mae == pytest.approx(problem({}, Context(seed=2))["fitness"], rel=1e-5)


def test_an_error_that_there_is_not_is_refused():
    with pytest.raises(InvalidProblem, match="metric is mae or mse"):
        RecurrentTraining(metric="rmse")
