"""The networks of "Recombination of Artificial Neural Networks": known answers, and trainings that go on changed."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

import cloudpickle
import numpy as np
import pytest

from swarm.space import Space
from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import CheckpointStore
from swarm.workers.evaluate import evaluate
from swarm.workers.models import capsnet, lenet_ga, p3b1, resnet20, rpv, seq2seq

pytestmark = pytest.mark.usefixtures("one_import")
FROZEN = 1e-30  # a learning rate that moves no weight

NETWORKS = MappingProxyType(
    {
        "capsnet": (capsnet, {"data": "digits"}, {"filters": 4, "dimension": 4}),
        "lenet": (lenet_ga, {"data": "digits"}, {"filters1": 8, "filters2": 16, "dense": 64}),
        "p3b1": (p3b1, {}, dict.fromkeys(("dense_shared", "dense_a", "dense_b", "dense_c"), 32)),
        "resnet20": (resnet20, {"data": "digits"}, {"blocks": 1}),
        "rpv": (rpv, {}, {}),
        "seq2seq": (seq2seq, {}, {"units": 8}),
    }
)
NAMES = sorted(NETWORKS)


def small(name, **changes):
    """The problem on 400 examples, and a point of its space with a network that is traced quickly."""
    module, options, params = NETWORKS[name]
    defaults = {parameter: domain["default"] for parameter, domain in module.SPACE.items()}
    return module.problem(**{"train": 400, **options}), {**defaults, **params, **changes}


def ask(params, ctx):
    """One problem for all, so that one process imports Keras for all: a network to train, or a known answer."""
    name = params["name"]
    return {"fitness": 0.0, **ANSWERS[name]()} if name in ANSWERS else small(name)[0](params, ctx)


ask.preload = capsnet.problem().preload


def run(name, params=MappingProxyType({}), checkpoints=None, seed=None, **options):
    evaluation = Evaluation.of("p", {**params, "name": name}, **options)
    evaluation = evaluation if seed is None else replace(evaluation, seed=seed)
    result = evaluate(cloudpickle.dumps(ask), evaluation, checkpoints=checkpoints)
    assert result.status is Status.OK, result.error
    return result


# --- the spaces


@pytest.mark.parametrize("name", NAMES)
def test_the_space_is_valid_and_has_a_known_network_as_its_default(name):
    problem, params = small(name)
    space = Space.parse(problem.space)
    assert problem.name == name
    assert space.contains({parameter: domain["default"] for parameter, domain in problem.space.items()})
    assert set(space.names) <= set(params)


@pytest.mark.parametrize("name", ["capsnet", "resnet20", "seq2seq"])
def test_what_the_paper_changes_during_a_training_may_be_changed(name):
    problem, _ = small(name)
    assert set(problem.space) <= set(problem.changeable)


@pytest.mark.parametrize("name", ["lenet", "p3b1", "rpv"])
def test_what_shapes_a_network_may_not_be_changed_during_a_training(name):
    problem, _ = small(name)
    assert set(problem.changeable) & set(problem.space) == {"learning_rate", "dropout"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lenet", {"kernel1": 4, "kernel2": 4, "filters1": 8, "filters2": 18, "dense": 1024, "dropout": 1 - 0.83}),
        ("p3b1", {"dense_a": 324, "dense_b": 279, "dense_c": 359, "dense_shared": 459, "dropout": 0.088}),
        ("rpv", {"kernel1": 4, "kernel2": 4, "kernel3": 4, "filters2": 15, "filters3": 28, "dense": 59}),
    ],
)
def test_what_the_paper_found_is_in_the_space(name, found):
    problem, _ = small(name)
    default = {parameter: domain["default"] for parameter, domain in problem.space.items()}
    assert Space.parse(problem.space).contains({**default, **found})


# --- known answers


def sizes():
    shapes = {lenet_ga: (28, 28, 1), resnet20: (32, 32, 3), p3b1: (400,), rpv: (64, 64, 3)}
    classes = {p3b1: 13, rpv: 2}
    counts = {}
    for module, shape in shapes.items():
        default = {name: domain["default"] for name, domain in module.SPACE.items()}
        model = module.build(default, shape, classes.get(module, 10))
        counts[module.__name__.rpartition(".")[2]] = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return counts


@pytest.mark.slow
def test_the_networks_have_the_known_numbers_of_weights():
    counts = run("sizes").metrics
    assert counts["lenet_ga"] == 832 + 51_264 + 3_212_288 + 10_250 == 3_274_634
    assert counts["resnet20"] == 269_722, "0.27 million in table 6 of the paper on ResNet"
    assert counts["p3b1"] == 481_200 + 6 * 1_441_200 + (15_613 + 2_402 + 4_804), "as CANDLE prints them"
    assert counts["rpv"] == 224 + 1_168 + 4_640 + 131_136 + 130


def squashes():
    def length(s, k):
        return float(np.linalg.norm(capsnet.squash(np.array([s], np.float32), k)))

    return {
        "unit": length([0.6, 0.8], 1.0),
        "half": length([0.3, 0.4], 0.5),
        "long": length([30.0, 40.0], 1.0),
        "zero": length([0.0, 0.0], 1.0),
    }


@pytest.mark.slow
def test_a_capsule_is_squashed_as_k_says():
    lengths = run("squashes").metrics
    assert lengths["unit"] == pytest.approx(0.5, abs=1e-6)
    assert lengths["half"] == pytest.approx(1 / 3, abs=1e-6)
    assert lengths["long"] == pytest.approx(2500 / 2501, abs=1e-6)
    assert lengths["zero"] == 0.0


def routings():
    votes = np.array([[[1, 0], [1, 0]], [[1, 0], [-1, 0]], [[1, 0], [0, 1]]], np.float32)  # (input, capsule, 2)
    once, thrice = (np.linalg.norm(capsnet.routed(votes[None], times, 1.0)[0], axis=-1) for times in (1, 3))
    mean = np.linalg.norm(capsnet.squash(votes.sum(axis=0) / 2, 1.0), axis=-1)
    return {
        "off_mean": float(np.abs(once - mean).max()),
        "agreed": float(thrice[0] - once[0]),
        "disputed": float(thrice[1] - once[1]),
    }


@pytest.mark.slow
def test_routing_strengthens_the_capsule_that_the_votes_agree_on():
    lengths = run("routings").metrics
    assert lengths["off_mean"] < 1e-6, "routed once, an input's votes count alike for every capsule"
    assert lengths["agreed"] > 0.05 and lengths["disputed"] < -0.05


def margins():
    lengths = np.array([[0.9, 0.1], [0.95, 0.0], [0.5, 0.6], [0.6, 0.5]], np.float32)
    losses = np.array(capsnet.margin_loss(np.array([0, 0, 0, 1], np.float32), lengths))
    return {**{str(i): loss for i, loss in enumerate(losses)}}


@pytest.mark.slow
def test_the_margin_loss_wants_the_capsule_of_the_class_long_and_the_others_short():
    losses = run("margins").metrics
    assert losses["0"] == pytest.approx(0, abs=1e-12)
    assert losses["1"] == 0
    assert losses["2"] == pytest.approx(0.4**2 + 0.5 * 0.5**2)
    assert losses["3"] == pytest.approx(0.4**2 + 0.5 * 0.5**2)


ANSWERS = MappingProxyType({"sizes": sizes, "squashes": squashes, "routings": routings, "margins": margins})


# --- trainings


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.deep] * (name != "lenet")) for name in NAMES])
def test_a_training_goes_on_with_other_hyper_parameters(name, tmp_path):
    problem, params = small(name)
    parent = run(name, params, str(tmp_path), budget=1, slice=True)
    changed = {"learning_rate": 2e-3, "weight_decay": 0.1, "batch_size": 50, "dropout": 0.3, "k": 1.0, "routings": 2}
    assert set(changed) >= set(problem.changeable)
    child = run(name, {**params, **changed}, str(tmp_path), budget=2, parent=parent.key, slice=True)
    assert (parent.metrics["epochs"], child.metrics["epochs"]) == (1, 2)
    assert parent.metrics["parameters"] == child.metrics["parameters"]
    assert [point["epoch"] for point in child.curve] == [2]
    assert child.metrics["val_loss"] != parent.metrics["val_loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"), [("capsnet", [{"k": 2.0}, {"routings": 1}]), ("lenet", [{"dropout": 0.8}])]
)
def test_what_is_changed_takes_effect_on_the_same_weights(name, changes, tmp_path):
    url = str(tmp_path)
    _, params = small(name, weight_decay=0.0)
    parent = run(name, params, url, budget=1)
    frozen = {**params, "learning_rate": FROZEN}
    same = run(name, frozen, url, budget=2, parent=parent.key)
    others = [run(name, {**frozen, **change}, url, budget=2, parent=parent.key) for change in changes]
    keys = [result.key for result in (parent, same, *others)]
    before, *after = (CheckpointStore(url).load(key).arrays for key in keys)
    for weight in (array for array in before if array.startswith("weight")):
        assert all((arrays[weight] == before[weight]).all() for arrays in after)
    assert same.metrics["val_loss"] == parent.metrics["val_loss"]
    assert all(other.curve[-1]["loss"] != same.curve[-1]["loss"] for other in others)


@pytest.mark.slow
def test_two_slices_of_resnet_are_one_training_to_the_last_bit(tmp_path):
    url = str(tmp_path)
    _, params = small("resnet20", weight_decay=0.1)
    one = run("resnet20", params, url, budget=1)
    two = run("resnet20", params, url, budget=2, parent=one.key)
    whole = run("resnet20", params, budget=2, seed=int(CheckpointStore(url).load(one.key).meta["seed"]))
    assert (two.fitness, two.metrics["val_loss"]) == (whole.fitness, whole.metrics["val_loss"])
    assert one.curve + two.curve == whole.curve
