"""Ensembles: what their members share, what their fitness is, and that their trainings can be handed on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from shared import SHARED, evaluation

from swarm import PBT, Job
from swarm import run as search
from swarm.errors import InvalidProblem
from swarm.store import Store
from swarm.trial import Evaluation, Status
from swarm.workers.checkpoints.checkpoint import Checkpoint, CheckpointStore
from swarm.workers.ensemble import Ensemble, problem, recombined
from swarm.workers.evaluate import evaluate
from swarm.workers.models import digits_cnn

GOOD = {"filters": 8, "size": 3, "pool": 2, "units": 32, "learning_rate": 1e-2}
NETWORK = digits_cnn.problem(train=500, epochs=2)
THREE = Ensemble(network=NETWORK, members=3)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_import")]


def run(params, trained=THREE, checkpoints=None, seed=7, **options):
    result = evaluate(SHARED, evaluation(trained, params, seed=seed, **options), checkpoints=checkpoints)
    assert result.status is not Status.FAILED, result.error
    return result


def members(result):
    """The learning curve of each member."""
    return [[point for point in result.curve if point["member"] == member] for member in range(3)]


def state(url, key):
    return CheckpointStore(url).load(key)


def assert_same(one, other):
    assert one.meta == other.meta
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)


@pytest.fixture(scope="module")
def network():
    """The training of one network, at the seed of the first member."""
    return run(GOOD, NETWORK)


@pytest.fixture(scope="module")
def good():
    """The training of the problem itself; the others share a process that imports Keras once."""
    return evaluate(cloudpickle.dumps(THREE), replace(Evaluation.of("p", GOOD), seed=7))


@pytest.mark.deep
def test_an_ensemble_of_one_is_the_network_itself(network):
    one = run(GOOD, replace(THREE, members=1))
    assert one.fitness == pytest.approx(network.fitness) and one.metrics["member_accuracy"] == network.fitness
    assert one.metrics["val_loss"] == pytest.approx(network.metrics["val_loss"], rel=1e-4)


@pytest.mark.deep
def test_the_members_are_networks_of_one_configuration_at_seeds_of_their_own(good, network):
    curves = members(good)
    assert [{k: v for k, v in point.items() if k != "member"} for point in curves[0]] == list(network.curve)
    assert len({curve[-1]["val_loss"] for curve in curves}) == 3
    assert good.metrics["parameters"] == 3 * network.metrics["parameters"] and good.metrics["epochs"] == 2


def test_the_fitness_is_that_of_the_mean_of_the_probabilities(good):
    last = [curve[-1] for curve in members(good)]
    assert good.fitness == good.metrics["val_accuracy"] > 0.6
    assert good.metrics["member_accuracy"] == pytest.approx(np.mean([point["val_accuracy"] for point in last]))
    assert good.metrics["val_loss"] < np.mean([point["val_loss"] for point in last]), "since -log is convex"
    by_loss = run(GOOD, replace(THREE, network=replace(NETWORK, score="loss")))
    assert by_loss.fitness == by_loss.metrics["val_loss"] == good.metrics["val_loss"]


def test_the_test_set_is_scored_by_the_ensemble_after_the_same_training(good):
    tested = run(GOOD, purpose="test")
    assert set(tested.metrics) == {"member_accuracy", "epochs", "parameters", "test_loss"}
    assert tested.metrics["member_accuracy"] == good.metrics["member_accuracy"]
    assert 0.6 < tested.fitness <= 1


def test_one_and_two_epochs_are_three_epochs_to_the_last_bit(tmp_path):
    url = str(tmp_path)
    one = run(GOOD, checkpoints=url, budget=1, slice=True)
    two = run(GOOD, checkpoints=url, budget=3, parent=one.key, slice=True, seed=8)
    three = run(GOOD, checkpoints=url, budget=3, slice=True)
    assert_same(state(url, two.key), state(url, three.key))
    assert (two.fitness, two.metrics["val_loss"]) == (three.fitness, three.metrics["val_loss"])


def dies_once(params, ctx):
    """Saves after each epoch, and dies when its second member is in its second."""
    from swarm.workers import ensemble
    from swarm.workers.keras import problem as keras

    keras.SAVE_SECONDS = ensemble.SAVE_SECONDS = 0.0

    def report(metrics):
        with Path(params["log"]).open("a") as log:
            log.write(f"{metrics['member']:g}-{metrics['epoch']:g} ")
        if Path(params["log"]).read_text() == "0-1 0-2 1-1 1-2 ":
            os.kill(os.getpid(), signal.SIGKILL)

    return THREE(GOOD, replace(ctx, _send=report))


dies_once.preload = Ensemble.preload


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    url, log, other = str(tmp_path / "checkpoints"), tmp_path / "log", tmp_path / "other"
    crashed = run({"log": str(log)}, dies_once, checkpoints=url)
    assert crashed.status is Status.CRASHED
    resumed = run({"log": str(log)}, dies_once, checkpoints=url)
    assert log.read_text() == "0-1 0-2 1-1 1-2 1-2 2-1 2-2 ", "it died before the second epoch was saved"
    other.write_text("never dies ")
    whole = run({"log": str(other)}, dies_once, checkpoints=url)
    assert_same(state(url, resumed.key), state(url, whole.key))
    assert resumed.fitness == whole.fitness


def saved(origin, epoch):
    return Checkpoint({"weight": np.array([origin, epoch])}, {"seed": origin})


def test_a_child_takes_its_members_from_its_parents_in_turn_and_no_two_of_one_origin():
    one, other = [saved(origin, 1) for origin in (1, 2, 3)], [saved(origin, 2) for origin in (3, 4, 1)]
    children = [recombined([one, other], 3, seed) for seed in range(50)]
    assert {tuple(int(member.arrays["weight"][1]) for member in child) for child in children} == {(1, 2, 1)}
    origins = [tuple(member.meta["seed"] for member in child) for child in children]
    assert all(len(set(child)) == 3 for child in origins) and len(set(origins)) == 10, "all that there are"
    assert recombined([one, other], 3, 7) == recombined([one, other], 3, 7)
    assert recombined([one], 3, 7) == one and recombined([], 3, 7) == [None] * 3
    copies = [saved(1, 1)] * 3
    assert recombined([copies, copies], 3, 7) == copies, "where there is no other origin"


@pytest.mark.deep
def test_population_based_training_hands_members_of_several_parents_on(tmp_path):
    job = Job(
        name="ensembles",
        problem=replace(THREE, members=2),
        space={**GOOD, "learning_rate": {"real": [1e-4, 0.1], "log": True, "default": 1e-3}},
        optimizer=PBT(population=3, max_budget=3, mutation=0.5, weight_parents=2, viability=False, sexual=False),
    )
    found = search(job, slots=1, store=f"{tmp_path}/swarm.db", progress=False)
    assert found.counts["failed"] == 0, found.search.errors
    assert found.best is not None and found.best.trial.parent is not None
    store = Store(f"{tmp_path}/swarm.db")
    asked = {event.data["id"]: event.data for event in store.events("ensembles") if event.kind == "asked"}
    results = {event.data["key"]: event.data for event in store.events("ensembles") if event.kind == "result"}
    store.close()
    trained = results[asked[found.best.trial.id]["evaluations"][0]["key"]]
    accuracy = found.tests[0].metrics["member_accuracy"]
    assert accuracy == trained["metrics"]["member_accuracy"], "what is tested is what was trained"
    assert any(trial["donors"] for trial in asked.values())


def test_a_client_makes_and_pickles_an_ensemble_without_tensorflow():
    code = """
import sys, cloudpickle
from swarm.workers.ensemble import problem
made = problem(of="digits-cnn", members=4, epochs=1)
assert (made.members, made.network.epochs) == (4, 1) and made.space == made.network.space
cloudpickle.dumps(made)
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_ensemble_that_cannot_be_made_is_refused():
    with pytest.raises(InvalidProblem, match="no built-in problem 'digits'"):
        problem(of="digits")
    with pytest.raises(InvalidProblem, match="of a KerasProblem, not of a TimeToAccuracy"):
        problem(of="lenet-time")
    with pytest.raises(InvalidProblem, match="1 or more members, not 0"):
        problem(of="digits-cnn", members=0)
