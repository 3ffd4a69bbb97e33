"""Networks of Keras made of what their trainings have saved."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest

from swarm.errors import InvalidProblem
from swarm.trial import Evaluation
from swarm.workers.checkpoints.checkpoint import Checkpoint
from swarm.workers.command import CommandProblem
from swarm.workers.context import Context
from swarm.workers.data import load
from swarm.workers.ensemble import Ensemble
from swarm.workers.keras import KerasProblem
from swarm.workers.keras.layers import classifier, dropout
from swarm.workers.models import digits_cnn
from swarm.workers.winner import Winner, rebuilt, save

PARAMS = {"filters": 4, "size": 3, "pool": 2, "units": 8, "learning_rate": 1e-2}
DIGITS = digits_cnn.problem(train=200, epochs=1)

# Keras' variables as NumPy arrays, in this process, where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def forgetful(params, input_shape, classes):
    import keras

    inputs = keras.Input(input_shape)
    return classifier(inputs, dropout(keras.layers.Flatten()(inputs), params), classes)


@pytest.mark.slow
def test_a_winner_is_trained_again_further_scored_and_saved_as_keras_reads_it(tmp_path):
    import keras

    evaluation = Evaluation.of("p", PARAMS)
    curve = []
    winner = Winner(
        problem=cloudpickle.dumps(DIGITS),
        evaluation=evaluation,
        checkpoints=str(tmp_path),
        more=1,
        test=True,
        file=str(tmp_path / "winner.keras"),
    )
    scores = winner(PARAMS, Context(_send=curve.append))
    assert [point["epoch"] for point in curve] == [1, 2]
    assert scores["trained"] == curve[0]["val_accuracy"]
    assert scores["further"] == curve[1]["val_accuracy"]
    network, digits = keras.models.load_model(tmp_path / "winner.keras"), load("digits", 200)
    predicted = network.predict(digits.scaled(digits.x_test), verbose=0).argmax(axis=-1)
    assert scores["fitness"] == scores["tested"] == pytest.approx((predicted == digits.y_test).mean(), abs=1e-6)
    assert winner.preload == KerasProblem.preload


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 2])
def test_dropout_and_ensembles_are_saved_in_layers_of_keras_itself(tmp_path, members):
    import keras

    one = KerasProblem(build=forgetful, name="forgetful", train=200)
    params, images = {"dropout": 0.5}, np.random.default_rng(3).random((5, 8, 8, 1), dtype=np.float32)
    models = [one._compiled(params, seed) for seed in range(members)]
    weights = [{f"weight-{i}": np.array(weight) for i, weight in enumerate(model.weights)} for model in models]
    problem, checkpoint = one, Checkpoint(weights[0], {"epoch": 1})
    if members > 1:
        arrays = {f"{i}/{name}": array for i, each in enumerate(weights) for name, array in each.items()}
        metas = {str(i): {"epoch": 1} for i in range(members)}
        problem, checkpoint = Ensemble(network=one, members=members), Checkpoint(arrays, {"members": metas})
    save(problem, params, checkpoint, tmp_path / "it.keras")
    expected = np.mean([model.predict(images, verbose=0) for model in models], axis=0)
    found = keras.models.load_model(tmp_path / "it.keras")  # which knows nothing of ours
    np.testing.assert_allclose(found.predict(images, verbose=0), expected, rtol=1e-6)


def test_the_files_that_a_command_has_left_are_saved_as_they_were(tmp_path):
    checkpoint = Checkpoint({"weights/layer.bin": np.frombuffer(b"\0\1\2", np.uint8)}, {})
    save(CommandProblem(command="true @checkpoint"), {}, checkpoint, tmp_path / "it")
    assert (tmp_path / "it" / "weights" / "layer.bin").read_bytes() == b"\0\1\2"


def test_a_file_of_keras_is_made_of_networks_of_keras_alone():
    with pytest.raises(InvalidProblem, match="<lambda> is no KerasProblem"):
        rebuilt(lambda params, ctx: 1.0, {}, Checkpoint({}, {}))
