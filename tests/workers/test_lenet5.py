from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from shared import SHARED, evaluation

from swarm.errors import Infeasible
from swarm.job import Job
from swarm.space import Space
from swarm.trial import Status
from swarm.workers.data import load
from swarm.workers.evaluate import evaluate
from swarm.workers.models import lenet5

pytestmark = pytest.mark.usefixtures("one_import")
EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").glob("lenet5-*.yaml"))
DATA = Path(os.environ.get("SWARM_DATA", ""))
DEFAULTS = {name: domain["default"] for name, domain in lenet5.SPACE.items()}

needs_cifar10 = pytest.mark.skipif(
    not (DATA / "cifar10-12k.npz").is_file(), reason="no cifar10-12k.npz in the folder that SWARM_DATA names"
)


def run(params, problem):
    result = evaluate(SHARED, evaluation(problem, params))
    assert result.status is Status.OK, result.error
    return result


def bounds():
    return [domain["integer"] for domain in lenet5.SPACE.values()]


# --- the space


def test_the_space_has_the_reports_bounds_and_one_size_more_than_its_count():
    assert Space.parse(lenet5.SPACE).size == 18_729_984
    assert bounds() == [[1, 32], [1, 32], [40, 130], [125, 325]]
    c1, c3, c5, f6 = (high - low + 1 for low, high in bounds())
    assert c1 * c3 * (c5 - 1) * (f6 - 1) == 18_432_000


@pytest.mark.parametrize("found", [(26, 19, 40, 324), (30, 15, 44, 318), (27, 30, 40, 224)])
def test_what_the_report_found_is_in_the_space(found):
    assert Space.parse(lenet5.SPACE).contains(dict(zip(lenet5.SPACE, found, strict=True)))


# --- the network


def network(params, ctx):
    """Builds LeNet-5 for images of a size and says how large it is."""
    shape = (params["pixels"], params["pixels"], 3)
    model = lenet5.build(params, shape, 10)
    sides = [layer.output.shape[1] for layer in model.layers if len(layer.output.shape) == 4]
    assert model.output_shape == (None, 10)
    return {"fitness": model.count_params(), **{f"side{i}": side for i, side in enumerate(sides)}}


def corners(params, ctx):
    """Builds LeNet-5 at each corner of its space: how many could be, and how many are infeasible."""
    import keras

    built = infeasible = 0
    for point in itertools.product(*bounds()):
        try:
            lenet5.build(dict(zip(lenet5.SPACE, point, strict=True)), (params["pixels"], params["pixels"], 3), 10)
            built += 1
        except Infeasible:
            infeasible += 1
        keras.backend.clear_session()
    return {"fitness": built, "infeasible": infeasible}


@pytest.mark.slow
def test_the_original_has_the_known_number_of_parameters():
    convolutions = (5 * 5 * 3 * 6 + 6) + (5 * 5 * 6 * 16 + 16) + (5 * 5 * 16 * 120 + 120)
    dense = (120 * 84 + 84) + (84 * 10 + 10)
    assert convolutions + dense == 62_006
    assert run({**DEFAULTS, "f6_units": 84, "pixels": 32}, network).fitness == 62_006


@pytest.mark.slow
def test_an_image_of_32_pixels_is_one_pixel_in_c5():
    metrics = run({**DEFAULTS, "pixels": 32}, network).metrics
    assert [metrics[f"side{i}"] for i in range(6)] == [32, 28, 14, 10, 5, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("pixels", "built"), [(32, 16), (64, 16), (31, 0)])
def test_every_corner_of_the_space_is_built_unless_the_image_is_too_small(pixels, built):
    result = run({"pixels": pixels}, corners)
    assert (result.fitness, result.metrics["infeasible"]) == (built, 16 - built)


def test_the_problem_trains_as_the_report_does():
    problem = lenet5.problem()
    assert (problem.data, problem.epochs, problem.batch_size, problem.patience) == ("cifar10", 40, 64, None)
    assert lenet5.problem(epochs=4, train=2000).train == 2000


@needs_cifar10
@pytest.mark.slow
def test_it_learns_cifar10():
    assert run(DEFAULTS, lenet5.problem(train=2000, epochs=3)).fitness > 0.2  # by chance 0.1


# --- the data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SWARM_DATA", str(tmp_path))
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def written(path, images):
    x, y = np.zeros((images, 32, 32, 3), np.uint8), np.arange(images, dtype=np.uint8).reshape(-1, 1) % 10
    np.savez(path, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])


def test_a_complete_file_serves_and_labels_in_a_column_become_a_row(folder):
    written(folder / "cifar10.npz", 30)
    cifar10 = load("cifar10")
    assert (cifar10.x_train.shape, cifar10.x_test.shape) == ((30, 32, 32, 3), (10, 32, 32, 3))
    assert (cifar10.y_train.shape, cifar10.y_train.dtype, cifar10.classes) == ((30,), np.int64, 10)


def test_a_part_is_taken_where_there_is_one(folder):
    written(folder / "cifar10.npz", 30)
    written(folder / "cifar10-12k.npz", 20)
    assert len(load("cifar10").y_train) == 20


@needs_cifar10
def test_the_part_of_cifar10_has_all_classes_alike():
    load.cache_clear()
    cifar10 = load("cifar10")
    assert (cifar10.x_train.shape, cifar10.x_test.shape) == ((10_000, 32, 32, 3), (2000, 32, 32, 3))
    assert np.bincount(cifar10.y_train).tolist() == [1000] * 10
    assert np.bincount(cifar10.y_test).tolist() == [200] * 10
    assert cifar10.scaled(cifar10.x_train[:100]).max() == 1.0


# --- the examples


def epochs(path):
    """What a job costs: the epochs of all its trials."""
    job, options = Job.from_file(path), yaml.safe_load(path.read_text(encoding="utf-8"))["options"]
    optimizer, spent = job.start(), 0.0
    for _ in range(job.stop.evaluations or 1000):
        if optimizer.done:
            break
        trial = optimizer.ask()
        spent += math.floor(trial.budget or options["epochs"])
        optimizer.tell(trial, trial.params["c1_filters"])
    return spent


def test_the_examples_compare_five_methods_at_the_same_cost():
    assert {path.stem: epochs(path) for path in EXAMPLES} == {
        f"lenet5-{method}": 80 for method in ("async-pso", "bohb", "grid", "pso", "random")
    }
