from __future__ import annotations

from dataclasses import replace

import cloudpickle
import numpy as np
import pytest
from shared import SHARED, evaluation

from swarm.errors import InvalidProblem
from swarm.trial import Evaluation, Status
from swarm.workers.evaluate import evaluate
from swarm.workers.keras.time_to_accuracy import Goal, TimeToAccuracy, scored
from swarm.workers.models import digits_cnn, lenet_ga, lenet_time, p3b1

pytestmark = pytest.mark.usefixtures("one_import")
GOOD = {"filters": 8, "size": 3, "pool": 2, "units": 32, "learning_rate": 1e-2}
DIGITS = digits_cnn.problem(train=500, batch_size=50)
PROBLEM = TimeToAccuracy(
    network=DIGITS, thresholds={"val_accuracy": 0.7}, measure="iterations", every=5, warm_up=5, max_iterations=300
)


def run(problem, params, seed=7, **options):
    return evaluate(SHARED, evaluation(problem, params, seed=seed, **options))


def train(budget=None, **options):
    return run(replace(PROBLEM, **options), GOOD, budget=budget)


def fires(thresholds, *scores):
    """The number of the validation at which the goal is reached, from 1."""
    goal = Goal(thresholds)
    return next((number for number, score in enumerate(scores, 1) if goal.reached(score)), None)


# --- the goal


def test_the_goal_is_reached_at_the_second_success_in_a_row():
    sequence = [{"accuracy": value} for value in (0.98, 0.99, 0.985, 0.99, 0.99)]
    assert fires({"accuracy": 0.986}, *sequence) == 5
    assert fires({"accuracy": 0.986}, *sequence[:4]) is None, "a single hit is not enough"
    assert fires({"accuracy": 0.98}, *sequence) == 2, "what equals the threshold meets it"


def test_all_thresholds_have_to_be_met_by_the_same_two_validations():
    pairs = [(0.3, 0.4), (0.2, 0.6), (0.3, 0.6), (0.2, 0.6), (0.3, 0.51), (0.28, 0.506)]
    scores = [{"macro": macro, "micro": micro, "other": 0.0} for macro, micro in pairs]
    assert fires({"macro": 0.275, "micro": 0.506}, *scores) == 6


def test_a_threshold_for_no_score_is_refused():
    with pytest.raises(InvalidProblem, match="no score 'acuracy' to reach; there are accuracy, loss"):
        Goal({"acuracy": 0.9}).reached({"accuracy": 1.0, "loss": 0.0})


# --- the scores


def test_f1_scores_are_the_known_ones():
    scores = scored(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2]))
    assert scores["val_accuracy"] == scores["val_f1_micro"] == pytest.approx(4 / 6)
    assert scores["val_f1_macro"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_a_class_that_is_never_predicted_has_no_f1():
    assert scored(np.array([0, 0, 1]), np.array([0, 0, 0]))["val_f1_macro"] == pytest.approx((4 / 5 + 0) / 2)


def test_each_task_has_its_own_scores():
    labels = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    predicted = np.array([[0, 1], [1, 0], [0, 0], [1, 1]])
    scores = scored(labels, predicted)
    assert (scores["val_accuracy_0"], scores["val_accuracy_1"]) == (1.0, 0.5)
    assert set(scores) == {f"val_{name}_{task}" for name in ("accuracy", "f1_macro", "f1_micro") for task in (0, 1)}


# --- trainings


@pytest.fixture(scope="module")
def reached():
    """The training of the problem itself; the others share a process that imports Keras once."""
    result = evaluate(cloudpickle.dumps(PROBLEM), replace(Evaluation.of("p", GOOD), seed=7))
    assert result.status is Status.OK, result.error
    return result


@pytest.mark.slow
def test_a_training_ends_when_it_is_good_enough_twice_in_a_row(reached):
    accuracies = [point["val_accuracy"] for point in reached.curve]
    assert [accuracy >= 0.7 for accuracy in accuracies[-3:]] == [False, True, True]
    assert reached.fitness == reached.metrics["iterations"] == 5 * (len(accuracies) - 1)
    assert reached.metrics["val_accuracy"] == accuracies[-1]
    assert reached.metrics["parameters"] == (3 * 3 * 8 + 8) + (4 * 4 * 8 * 32 + 32) + (32 * 10 + 10)


@pytest.mark.slow
def test_iterations_depend_on_the_seed_alone(reached):
    again = train()
    assert again.fitness == reached.fitness
    assert [point["val_accuracy"] for point in again.curve] == [point["val_accuracy"] for point in reached.curve]


@pytest.mark.slow
def test_seconds_are_those_after_the_warm_up_without_validations(reached):
    seconds = [point["seconds"] for point in reached.curve]
    assert seconds[:2] == [0, 0]
    assert 0 < seconds[2] < seconds[-1] == reached.metrics["seconds"] < reached.seconds
    cold = train(measure="seconds", warm_up=7)
    assert cold.fitness == cold.metrics["seconds"] > 0
    unmeasured = train(warm_up=1000).metrics
    assert unmeasured["seconds"] == unmeasured["cpu_seconds"] == 0


@pytest.mark.slow
def test_it_can_go_by_cpu_time_where_others_use_the_cores():
    result = train(measure="cpu_seconds", warm_up=7)
    assert result.fitness == result.metrics["cpu_seconds"] > 0


@pytest.mark.slow
def test_the_warm_up_contains_the_compilation():
    cold = train(warm_up=0)
    assert cold.curve[1]["seconds"] > 3 * (cold.curve[2]["seconds"] - cold.curve[1]["seconds"])


@pytest.mark.slow
def test_a_training_that_never_gets_there_fails():
    result = train(thresholds={"val_accuracy": 1.5}, max_iterations=12)
    assert result.status is Status.FAILED
    assert result.error.startswith("NeverReached: after 10 mini-batches: val_accuracy 0.")
    assert result.error.endswith(" < 1.5; raise max_iterations or ask for less")


@pytest.mark.slow
def test_the_budget_is_the_most_iterations(reached):
    assert train(budget=reached.fitness).status is Status.OK
    short = train(budget=reached.fitness - 1)
    assert "good enough at the last validation alone" in short.error


@pytest.mark.slow
def test_a_mistyped_threshold_fails_at_once():
    result = train(thresholds={"val_acuracy": 0.5})
    assert "no score 'val_acuracy' to reach" in result.error


@pytest.mark.slow
def test_the_test_set_is_scored_after_the_same_training():
    tested = run(PROBLEM, GOOD, purpose="test")
    assert tested.status is Status.OK, tested.error
    assert 0.4 < tested.fitness <= 1
    assert tested.metrics["val_accuracy"] >= 0.7


@pytest.mark.slow
def test_several_tasks_are_waited_for_together():
    network = p3b1.problem()
    params = {name: domain["default"] for name, domain in p3b1.SPACE.items()}
    params |= dict.fromkeys(("dense_shared", "dense_a", "dense_b", "dense_c"), 64) | {"learning_rate": 0.05}
    thresholds = {"val_f1_macro_0": 0.1, "val_f1_micro_1": 0.6, "val_f1_micro_2": 0.4}
    result = run(TimeToAccuracy(network=network, thresholds=thresholds, max_iterations=2000), params)
    assert result.status is Status.OK, result.error
    assert all(result.metrics[name] >= least for name, least in thresholds.items())


# --- what is refused, and the built-in problem


@pytest.mark.parametrize("wrong", [{"thresholds": {}}, {"measure": "minutes"}, {"every": 0}, {"warm_up": -1}])
def test_an_option_out_of_its_range_is_refused(wrong):
    with pytest.raises(InvalidProblem):
        replace(PROBLEM, **wrong)


def test_the_built_in_problem_is_the_papers():
    problem = lenet_time.problem()
    assert (problem.network, problem.space) == (lenet_ga.problem(), lenet_ga.SPACE)
    assert (dict(problem.thresholds), problem.every, problem.warm_up) == ({"val_accuracy": 0.986}, 100, 100)


def test_its_options_are_its_own_and_the_networks():
    problem = lenet_time.problem(thresholds={"val_accuracy": 0.95}, measure="iterations", train=5000)
    assert (problem.measure, problem.network.train) == ("iterations", 5000)
    with pytest.raises(TypeError, match="mesure"):
        lenet_time.problem(mesure="iterations")
