"""MAE random sampling: the paper's listing to its last digit, and what is sampled."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from swarm import Job
from swarm.errors import Infeasible, InvalidProblem
from swarm.job.problem import Problem
from swarm.optimizers import MuPlusLambda, Rescored
from swarm.workers.context import Context
from swarm.workers.recurrent.sampling import MaeSampling, Sampling, probability, problem

LISTING_2 = {"look_back": 2, "layers": 2, "units_1": 2, "units_2": 2}  # the paper's [1, 2, 2, 1]


def test_p_and_log_p_are_those_of_the_papers_listing():
    """Listing 2 of DLOPT, to the last printed digit."""
    p, log_p = probability(0.81072833698353519, 0.1104613706995357, 0.01, 0.0, 2.0)
    assert p == 1.0279848149134584e-13
    assert log_p == -29.906005813483684


def test_a_probability_of_0_has_the_logarithm_of_1e_300():
    assert probability(0.8, 0.01, 0.01, 0, 2) == (0.0, -690.7755278982137)
    assert probability(50.0, 0.01, 0.01, 0, 2) == (0.0, -690.7755278982137)  # nothing is left within the bounds


@pytest.mark.parametrize(("mean", "p"), [(0.01, 1.0), (0.02, 0.0)])
def test_without_variation_the_error_is_good_or_it_is_not(mean, p):
    assert probability(mean, 0.0, 0.01, 0, 2)[0] == p


def test_a_sampling_has_the_deviation_of_all_samples_not_of_a_larger_population():
    found = Sampling.of([0.2, 0.4, 0.6, 0.8], 0.01, 0, 2)
    assert (found.mean, found.std) == pytest.approx((0.5, 0.05**0.5))
    assert found.samples == (0.2, 0.4, 0.6, 0.8)


def test_sampling_the_listing_gives_its_figures_up_to_their_noise():
    """Over 20 seeds mean 0.771 … 0.818, deviation 0.090 … 0.127, log p -39.6 … -22.5."""
    sampler = MaeSampling(data={"name": "sine", "points": 100}, samples=30)
    reports = [sampler.report(LISTING_2, seed=seed) for seed in range(20)]
    assert all((each["look_back"], each["architecture"]) == (2, [1, 2, 2, 1]) for each in reports)
    assert all(len(each["metrics"]["samples"]) == 30 for each in reports)
    means, stds, logs = ([each["metrics"][name] for each in reports] for name in ("mean", "std", "log_p"))
    assert 0.77 < statistics.mean(means) < 0.82
    assert 0.09 < statistics.mean(stds) < 0.127
    assert -36 < statistics.mean(logs) < -26 and statistics.stdev(logs) > 2  # one of them says little


def test_a_budget_is_a_number_of_samples_and_the_seed_is_the_evaluations():
    sampler = problem(layers=[2, 2], units=[2, 2], look_back=[2, 3])
    few, many, again, other = (
        sampler(LISTING_2, Context(budget=n, seed=seed)) for n, seed in ((None, 1), (100, 1), (100, 1), (100, 2))
    )
    assert (few["samples"], many["samples"]) == (30, 100)
    assert many == again != other
    thirty, hundred = (sampler.sample(sampler.architecture(LISTING_2), seed=1, samples=n) for n in (30, 100))
    assert hundred.samples[:30] == pytest.approx(thirty.samples, rel=1e-6)
    assert few["fitness"] == thirty.log_p and few["weights"] == 75


def test_the_distribution_and_the_part_that_are_asked_for_are_used():
    architecture = MaeSampling().architecture(LISTING_2)
    still = MaeSampling(weights={"name": "normal", "scale": 0.0}).sample(architecture)
    sine = np.abs(np.sin(2 * np.pi * 0.1 * np.arange(10))).mean()  # the error of a network that always says 0
    assert still.mean == pytest.approx(sine, abs=0.01) and still.std == pytest.approx(0, abs=1e-7)
    data = {"name": "fourier", "amplitudes": [1, 0.5, 0.2], "frequency": 0.013}
    parts = {part: MaeSampling(data=data, part=part).sample(architecture).mean for part in ("train", "valid", "test")}
    assert len(set(parts.values())) == 3


def test_the_windows_of_one_period_say_what_all_of_a_periodic_series_do():
    whole, one, half = (problem(data={"name": "sine", "points": 200}, windows=windows) for windows in (None, 10, 5))
    params = {"look_back": 10, "layers": 1, "units_1": 3}
    every, some, few = (
        each.sample(each.architecture(params), seed=3, samples=20).samples for each in (whole, one, half)
    )  # of eleven periods, of one, of half of one
    assert some == pytest.approx(every, rel=1e-5)
    assert few != pytest.approx(every, rel=1e-2)


def test_what_errors_are_possible_follows_from_the_series():
    sampler = MaeSampling()
    found = sampler.sample(sampler.architecture(LISTING_2), seed=4)
    assert found.log_p == Sampling.of(found.samples, 0.01, 0, 2).log_p
    narrow = MaeSampling(high=1.0).sample(sampler.architecture(LISTING_2), seed=4)
    assert narrow.samples == found.samples and narrow.log_p > found.log_p


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"samples": 1}, "take 30"),
        ({"windows": 0}, "one or more"),
        ({"backend": "torch"}, "numpy, tensorflow"),
        ({"layers": [0, 1]}, "at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, text):
    with pytest.raises(InvalidProblem, match=text):
        problem(**options)


def test_a_series_has_no_folds_and_no_networks_without_layers():
    with pytest.raises(InvalidProblem, match="one split"):
        MaeSampling()(LISTING_2, Context(fold=1))
    with pytest.raises(Infeasible, match="no network"):
        MaeSampling()({**LISTING_2, "units_2": 0}, Context())


def test_the_problem_is_a_job_of_its_own():
    optimizer = {"name": "Rescored", "of": {"name": "MuPlusLambda", "evaluations": 8}, "top": 3, "budget": 100}
    job = Job(name="sine", problem="mae-sampling", options={"layers": [1, 6]}, optimizer=optimizer)
    assert job.direction == "maximize" and job.test
    assert job.optimizer == Rescored(of=MuPlusLambda(evaluations=8), top=3, budget=100)
    assert job.space.names == ("look_back", "layers", *(f"units_{k}" for k in range(1, 7)))
    assert Job.from_dict(job.to_dict(), job.code.pickle).to_dict() == job.to_dict()


def test_bounds_of_the_search_do_not_change_what_an_evaluation_is():
    prints = [
        Problem.find("mae-sampling", options).fingerprint
        for options in ({}, {"units": [1, 50]}, {"samples": 40}, {"data": "fourier"})
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 3
    assert {Problem.find("mae-sampling", {}).fingerprint for _ in range(20)} == {prints[0]}  # whatever memory holds
