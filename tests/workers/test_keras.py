from __future__ import annotations

import importlib
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from shared import SHARED, evaluation

from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import process
from swarm.workers.models import PROBLEMS, digits_cnn, lenet4
from swarm.workers.node import ending

GOOD = {"filters": 8, "size": 3, "pool": 2, "units": 32, "learning_rate": 1e-2}
PROBLEM = digits_cnn.problem(train=500, epochs=3)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_import")]


def run(params, problem=PROBLEM, checkpoints=None, seed=None, **options):
    return evaluate(SHARED, evaluation(problem, params, seed=seed, **options), checkpoints=checkpoints)


@pytest.fixture(scope="module")
def good():
    """The training of the problem itself; all others share a process that imports Keras once."""
    result = evaluate(cloudpickle.dumps(PROBLEM), Evaluation.of("p", GOOD))
    assert result.status is Status.OK, result.error
    return result


def test_a_training_learns_and_says_how(good):
    assert good.fitness > 0.6
    assert good.metrics["epochs"] == 3
    assert good.metrics["parameters"] == (3 * 3 * 8 + 8) + (4 * 4 * 8 * 32 + 32) + (32 * 10 + 10)
    assert [point["epoch"] for point in good.curve] == [1, 2, 3]
    assert good.curve[-1]["val_accuracy"] == good.fitness
    assert set(good.curve[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_the_same_seed_gives_the_same_fitness_to_the_last_bit(good):
    again = run(GOOD)
    assert (again.fitness, again.curve) == (good.fitness, good.curve)
    assert {**again.metrics, "seconds": 0} == {**good.metrics, "seconds": 0}


def test_another_repeat_is_another_training(good):
    assert run(GOOD, repeat=1).metrics["val_loss"] != good.metrics["val_loss"]


def test_the_learning_rate_matters(good):
    assert run({**GOOD, "learning_rate": 1e-4}).fitness < good.fitness - 0.2


def test_the_budget_overrides_the_epochs():
    assert run(GOOD, budget=2.9).metrics["epochs"] == 2


def test_the_test_set_is_scored_after_the_same_training(good):
    tested = run(GOOD, purpose="test")
    assert tested.status is Status.OK, tested.error
    assert set(tested.metrics) == {"val_accuracy", "val_loss", "test_loss", "epochs", "parameters"}
    assert abs(tested.fitness - tested.metrics["val_accuracy"]) < 0.3


def test_a_training_stops_when_the_loss_rises_and_keeps_the_best_weights():
    stopped = run({**GOOD, "learning_rate": 0.05, "batch_size": 16}, replace(PROBLEM, epochs=60, patience=2), budget=60)
    losses = [point["val_loss"] for point in stopped.curve]
    assert stopped.metrics["epochs"] == len(losses) < 60
    assert stopped.metrics["val_loss"] == pytest.approx(min(losses), rel=1e-5)


def test_the_fitness_may_be_the_perplexity(good):
    scored = run(GOOD, replace(PROBLEM, score="perplexity"))
    assert scored.fitness == pytest.approx(math.exp(good.metrics["val_loss"]))


def test_a_score_that_there_is_not_is_refused():
    with pytest.raises(InvalidProblem, match="accuracy, loss, perplexity"):
        replace(PROBLEM, score="f1")


def test_a_hyper_parameter_chooses_the_optimizer():
    losses = [run({**GOOD, "optimizer": name}, budget=1, seed=7).metrics["val_loss"] for name in ("adam", "Nadam")]
    assert losses[0] != losses[1]
    assert losses[0] == run(GOOD, budget=1, seed=7).metrics["val_loss"]


def test_an_optimizer_that_keras_does_not_have_fails_by_name():
    failed = run({**GOOD, "optimizer": "sdg"})
    assert failed.status is Status.FAILED and "sdg" in failed.error


def noisy(params, shape, classes):
    """The digits' network with a dropout, whose state must not be lost either."""
    import keras

    model = digits_cnn.build(params, shape, classes)
    outputs = keras.layers.Dropout(0.2)(model.layers[-2].output)
    return keras.Model(model.inputs, keras.layers.Dense(classes, activation="softmax")(outputs))


NOISY = replace(PROBLEM, build=noisy, batch_size=50)
RISING = {**GOOD, "learning_rate": 0.05, "batch_size": 16}  # its best epoch is not its last


def state(url, key):
    return CheckpointStore(url).load(key)


def assert_same(one, other):
    assert one.meta == other.meta
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)


def test_two_and_three_epochs_are_five_epochs_to_the_last_bit(tmp_path):
    url = str(tmp_path)
    two = run(GOOD, NOISY, url, budget=2)
    three = run(GOOD, NOISY, url, budget=5, parent=two.key)
    five = run(GOOD, NOISY, url, budget=5, seed=state(url, two.key).meta["seed"])
    assert_same(state(url, three.key), state(url, five.key))
    assert (three.fitness, three.metrics["val_loss"]) == (five.fitness, five.metrics["val_loss"])
    assert three.metrics["epochs"] == 5
    assert two.curve + three.curve == five.curve


@pytest.mark.parametrize("optimizer", ["Nadam", pytest.param("sgd", marks=pytest.mark.deep)])
def test_the_state_of_any_optimizer_goes_on_to_the_last_bit(optimizer, tmp_path):
    url, params = str(tmp_path), {**GOOD, "optimizer": optimizer, "weight_decay": 0.1}
    one = run(params, NOISY, url, budget=1)
    two = run(params, NOISY, url, budget=2, parent=one.key)
    whole = run(params, NOISY, url, budget=2, seed=state(url, one.key).meta["seed"])
    assert_same(state(url, two.key), state(url, whole.key))


def test_children_of_one_parent_have_orders_of_their_own_unless_they_change_nothing(tmp_path):
    url = str(tmp_path)
    parent = run(GOOD, NOISY, url, budget=1)
    rates = (1e-2, 1.01e-2, 1.02e-2)
    children = [run({**GOOD, "learning_rate": rate}, NOISY, url, budget=2, parent=parent.key) for rate in rates]
    seeds = [state(url, each.key).meta["seed"] for each in (parent, *children)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


def test_a_slice_does_not_stop_early(tmp_path):
    url, problem = str(tmp_path), replace(PROBLEM, patience=2)
    stopped = run(RISING, problem, budget=60, seed=7)
    on = run(RISING, problem, url, budget=len(stopped.curve) + 1, seed=7, slice=True)
    assert on.curve[:-1] == stopped.curve
    assert state(url, on.key).meta["epoch"] == len(on.curve)


def test_stopping_early_is_the_same_with_an_interruption(tmp_path):
    url, problem = str(tmp_path), replace(PROBLEM, patience=2)
    whole = run(RISING, problem, url, budget=60)
    seed, stopped = state(url, whole.key).meta["seed"], whole.metrics["epochs"]
    assert state(url, whole.key).meta["epoch"] == stopped - 2, "what is saved is the best epoch"
    half = run(RISING, problem, url, budget=stopped - 1, seed=seed)
    rest = run(RISING, problem, url, budget=60, parent=half.key)
    assert_same(state(url, rest.key), state(url, whole.key))
    assert rest.fitness == whole.fitness
    assert rest.metrics["epochs"] == stopped
    assert [point["epoch"] for point in rest.curve] == [stopped - 1, stopped]


def drained(what, url):
    """What the attempts of a training report whose worker is told to end after the third epoch, and the result."""
    reports, begun = [], time.monotonic()

    def report(metrics):
        reports.append(metrics["epoch"])
        if metrics["epoch"] == 3 and not ending.own.begun:
            ending.own.begin(60.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ending.own, "_deadline", None)  # and again when this ends
        first = process.run(SHARED, what, report, url)
    assert (first.status, first.drained, first.blamed) == (Status.LOST, True, False), first.error
    assert time.monotonic() - begun < 60, "it has not waited for the end"
    attempts = [list(reports)]
    reports.clear()
    result = process.run(SHARED, what, report, url)
    return [*attempts, list(reports)], result


@pytest.mark.parametrize("patience", [2, pytest.param(None, marks=pytest.mark.deep)])
def test_a_training_whose_worker_ends_goes_on_from_its_last_epoch_to_the_same_end(patience, tmp_path):
    problem = replace(PROBLEM, build=noisy, epochs=7, patience=patience)
    what = evaluation(problem, RISING)
    whole = process.run(SHARED, what, lambda _: None, str(tmp_path / "whole"))
    attempts, rest = drained(what, str(tmp_path / "drained"))
    assert attempts[1], "it was told in time"
    assert attempts[0] + attempts[1] == list(range(1, int(whole.metrics["epochs"]) + 1))
    assert (rest.status, rest.fitness) == (Status.OK, whole.fitness)
    assert_same(state(str(tmp_path / "drained"), what.key), state(str(tmp_path / "whole"), what.key))


def test_a_child_whose_worker_ends_goes_on_in_its_own_order(tmp_path):
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    problem = replace(PROBLEM, build=noisy)
    parent, _ = (run(GOOD, problem, url, budget=1) for url in (whole, cut))
    what = evaluation(problem, {**GOOD, "learning_rate": 5e-3}, budget=7, parent=parent.key)
    expected = process.run(SHARED, what, lambda _: None, whole)
    attempts, rest = drained(what, cut)
    assert attempts[1], "it was told in time"
    assert rest.fitness == expected.fitness
    assert_same(state(cut, what.key), state(whole, what.key))


def fits(params, ctx):
    """A function of the user's that calls ``fit``; whole batches, so the order of the examples counts for nothing."""
    import keras

    from swarm.keras import Report, Save

    keras.utils.set_random_seed(ctx.seed)
    x = np.linspace(-1, 1, 64, dtype="float32").reshape(-1, 1)
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(params["rate"]), "mse")
    pace = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: time.sleep(0.1))
    model.fit(x, x**2, batch_size=64, epochs=8, shuffle=False, callbacks=[pace, Report(ctx), Save(ctx)], verbose=0)
    return -model.evaluate(x, x**2, verbose=0)


def test_the_callback_saves_when_the_worker_ends_and_fit_goes_on_from_there(tmp_path):
    what = evaluation(fits, {"rate": 0.01})
    whole = process.run(SHARED, what, lambda _: None)
    attempts, rest = drained(what, str(tmp_path))
    assert attempts[1], "it was told in time"
    assert attempts[0] + attempts[1] == list(range(1, 9))
    assert (rest.status, rest.fitness) == (Status.OK, whole.fitness), rest.error


def test_keeping_checkpoints_does_not_change_the_training(good, tmp_path):
    kept = run(GOOD, checkpoints=str(tmp_path))
    assert (kept.fitness, kept.curve) == (good.fitness, good.curve)
    assert kept.metrics["checkpoint_bytes"] > 3 * 4 * kept.metrics["parameters"], "weights and two moments each"


def test_a_budget_that_the_parent_has_reached_trains_no_more(good, tmp_path):
    parent = run(GOOD, checkpoints=str(tmp_path))
    child = run(GOOD, checkpoints=str(tmp_path), budget=2, parent=parent.key)
    assert (child.fitness, child.metrics["epochs"], child.curve) == (good.fitness, 3, ())


def test_the_learning_rate_is_the_childs_own(tmp_path):
    url = str(tmp_path)
    parent = run(GOOD, checkpoints=url, budget=1)
    frozen = run({**GOOD, "learning_rate": 1e-30}, checkpoints=url, budget=2, parent=parent.key)
    before, after = state(url, parent.key).arrays, state(url, frozen.key).arrays
    weights = [name for name in before if name.startswith("weight")]
    assert weights
    for name in weights:
        np.testing.assert_array_equal(before[name], after[name])
    assert any((before[name] != after[name]).any() for name in before if name not in weights)


@pytest.mark.parametrize("before", [0.0, 0.5])
def test_the_weight_decay_is_the_childs_own_and_takes_its_share_of_each_weight(before, tmp_path):
    url, steps = str(tmp_path), 4  # of 128 of the 450 images
    parent = run({**GOOD, "weight_decay": before}, checkpoints=url, budget=1)
    changes = {"learning_rate": 1e-30, "weight_decay": 1e28, "batch_size": 128}
    child = run({**GOOD, **changes}, checkpoints=url, budget=2, parent=parent.key)
    old, new = state(url, parent.key).arrays, state(url, child.key).arrays
    for name in (array for array in old if array.startswith("weight")):
        np.testing.assert_allclose(new[name], old[name] * 0.99**steps, rtol=1e-5, atol=1e-12)


def test_a_child_of_another_shape_is_infeasible(tmp_path):
    parent = run(GOOD, checkpoints=str(tmp_path), budget=1)
    child = run({**GOOD, "units": 16}, checkpoints=str(tmp_path), budget=2, parent=parent.key)
    assert child.status is Status.FAILED
    assert child.error == (
        "Infeasible: the checkpoint is of another network: weight-2 is (128, 32) there and (128, 16) here; "
        "search only what keeps the network's shape"
    )


def dies_once(params, ctx):
    """Saves after each epoch, and dies after the second."""
    from swarm.workers.keras import problem as keras

    keras.SAVE_SECONDS = 0.0

    def report(metrics):
        with Path(params["log"]).open("a") as log:
            log.write(f"{metrics['epoch']:g} ")
        if Path(params["log"]).read_text() == "1 2 3 ":
            os.kill(os.getpid(), signal.SIGKILL)

    return NOISY(GOOD, replace(ctx, _send=report))


dies_once.preload = PROBLEM.preload


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    url, log = str(tmp_path / "checkpoints"), tmp_path / "log"
    options = {"budget": 5, "checkpoints": url, "seed": 7}
    crashed = run({"log": str(log)}, dies_once, **options)
    assert crashed.status is Status.CRASHED
    resumed = run({"log": str(log)}, dies_once, **options)
    assert log.read_text() == "1 2 3 3 4 5 ", "it died in the third epoch, before that was saved"
    other = tmp_path / "other"
    other.write_text("never dies ")
    whole = run({"log": str(other)}, dies_once, **options)
    assert other.read_text() == "never dies 1 2 3 4 5 "
    assert_same(state(url, resumed.key), state(url, whole.key))


@pytest.mark.skipif(
    not Path(os.environ.get("SWARM_DATA", ""), "mnist.npz").is_file(),
    reason="no mnist.npz in the folder that SWARM_DATA names",
)
def test_lenet4_learns_mnist():
    original = {name: domain["default"] for name, domain in lenet4.SPACE.items()}
    assert run(original, lenet4.problem(train=2000, epochs=1)).fitness > 0.5


def test_a_client_makes_and_pickles_problems_without_tensorflow():
    code = f"""
import importlib, sys, cloudpickle
for name in {[path for name, path in PROBLEMS.items() if name != "command"]}:
    module, function = name.split(":")
    problem = getattr(importlib.import_module(module), function)()
    assert cloudpickle.loads(cloudpickle.dumps(problem)) == problem
    assert problem.space and hash(problem)
print([name for name in ("tensorflow", "keras", "sklearn") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def network(params, ctx):
    """Builds one of our networks: as in its paper, or at each corner of its space."""
    import keras

    model = importlib.import_module(f"swarm.workers.models.{params['model']}")
    shape = (params["pixels"], params["pixels"], 1)
    if not params["corners"]:
        return model.build({name: domain["default"] for name, domain in model.SPACE.items()}, shape, 10).count_params()
    built = infeasible = 0
    for point in corners(model.SPACE):
        try:
            assert model.build(point, shape, 10).output_shape == (None, 10)
            built += 1
        except Infeasible:
            infeasible += 1
        keras.backend.clear_session()
    return {"fitness": built, "infeasible": infeasible}


network.preload = ("tensorflow", "keras")


def corners(space):
    """Both ends of each bound that shapes the image, together with the lower, then the upper ends of the others."""
    bounds = {name: domain.get("integer") or domain["real"] for name, domain in space.items()}
    shaping = [name for name in bounds if name.endswith(("size", "stride", "pool"))]
    for end, *sides in itertools.product((0, 1), repeat=len(shaping) + 1):
        shapes = {name: bounds[name][side] for name, side in zip(shaping, sides, strict=True)}
        yield {name: domain[end] for name, domain in bounds.items()} | shapes


@pytest.mark.parametrize(
    ("model", "pixels", "built", "infeasible"),
    [
        ("simplenet1", 28, 16, 0),
        ("simplenet1", 3, 8, 8),
        pytest.param("lenet4", 28, 128, 0, marks=pytest.mark.deep),
        ("lenet4", 8, 80, 48),
        ("digits_cnn", 8, 8, 0),
    ],
)
def test_every_corner_of_the_space_is_built_or_infeasible(model, pixels, built, infeasible):
    result = run({"model": model, "pixels": pixels, "corners": True}, network)
    assert result.status is Status.OK, result.error
    assert (result.fitness, result.metrics["infeasible"]) == (built, infeasible)


def test_the_original_lenet4_has_the_known_number_of_parameters():
    convolutions = (5 * 5 * 1 * 24 + 24) + (5 * 5 * 24 * 50 + 50)
    dense = (7 * 7 * 50 * 500 + 500) + (500 * 10 + 10)
    assert convolutions + dense == 1_261_184
    assert run({"model": "lenet4", "pixels": 28, "corners": False}, network).fitness == 1_261_184
