"""The benchmarks that repeat searches compare what they say: equal epochs, the best so far, the mean's interval."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent))  # where benchmarks is a package

from benchmarks.papers import hpo_report, recombination
from benchmarks.shared.numbers import interval
from swarm import Job
from swarm.pool.virtual import VirtualPool
from swarm.runner import Run, enroll
from swarm.search import Search
from swarm.store import JobStatus, Store

SCALE = hpo_report.SCALES["cores"]
METHODS = list(hpo_report.methods(SCALE))


@pytest.fixture(scope="module")
def jobs():
    """One of each method."""
    return hpo_report.jobs(SCALE, seeds=1)


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_of_the_hpo_report_spends_as_many_epochs(jobs, method, tmp_path):
    assert jobs.keys() == set(METHODS)
    (job,) = jobs[method]
    with closing(Store(str(tmp_path / "swarm.db"))) as store:
        enroll(job, store)
        await (search := Search(job, store)).run(VirtualPool(2, lambda evaluation: accuracy(evaluation.params)))
    found = hpo_report.outcome(Run(search.state, str(tmp_path / "swarm.db"), JobStatus.FINISHED), SCALE.epochs)
    searches = 1 if method == hpo_report.ORIGINAL else SCALE.evaluations
    assert found["spent"][-1] == searches * SCALE.epochs
    assert found["best"] == sorted(found["best"])
    assert found["validation"] == accuracy(found["params"]) == found["test"]


def accuracy(params):
    return params["c1_filters"] / 32


def test_a_curve_has_the_best_of_the_trainings_that_have_ended():
    rows = [{"spent": [2, 4], "best": [0.1, 0.3]}, {"spent": [1, 4], "best": [0.2, 0.2]}]
    nan = np.nan
    expected = [[nan, nan, 0.1, 0.1, 0.3], [nan, 0.2, 0.2, 0.2, 0.2]]
    np.testing.assert_array_equal(hpo_report.curves(rows, range(5)), expected)


def test_an_interval_is_students():
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.4841), abs=1e-4)  # 4.3027 / √3
    assert interval([1.0, np.nan, 3.0]) == pytest.approx((np.nan, np.nan), nan_ok=True)


def test_fixed_hyper_parameters_are_trained_as_long_as_those_that_evolve():
    part = recombination.parts(recombination.CORES)["resnet"]
    space = {**part.problem.space, **part.fixed}
    job = Job(name="pbt", problem=part.problem, space=space, optimizer=part.optimizer)
    steps = recombination.followed(job).steps
    assert [step["budget"] for step in steps] == [*range(1, 11)]
    assert steps[-1]["budget"] == part.optimizer.max_budget
    assert all(step["params"] == {"learning_rate": 1e-3, "weight_decay": 1e-2, "blocks": 1} for step in steps)


def test_a_hyper_parameter_goes_to_a_multiple_of_the_known_one_by_equal_ratios():
    part = recombination.parts(recombination.QUICK)["seq2seq"]
    job = Job(name="pbt", problem=part.problem, space=part.problem.space, optimizer=part.optimizer)
    steps = recombination.followed(job, "dropout", 1 / 4).steps
    assert [step["params"]["dropout"] for step in steps] == pytest.approx([0.2, 0.1, 0.05])
    assert {step["params"]["learning_rate"] for step in steps} == {3e-3}
