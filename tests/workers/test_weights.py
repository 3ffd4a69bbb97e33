"""Weights that evolve: each method by its rules, the problem from checkpoint to checkpoint."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from swarm import Job
from swarm.errors import Infeasible, InvalidProblem
from swarm.trial import Evaluation, Status
from swarm.workers.context import Context
from swarm.workers.problem import attempt
from swarm.workers.recurrent.evolution import METHODS, Settings
from swarm.workers.recurrent.weights import WeightEvolution

SINE = {"name": "sine", "points": 200}


def normal(number, rng, n=4):
    return rng.standard_normal((number, n), dtype=np.float32)


def sphere(vectors):
    return ((vectors - 1) ** 2).sum(axis=1, dtype=float)


def evolve(population, generations, loss=sphere):
    """Losses of the best after each generation."""
    losses = []
    for generation in range(generations):
        vectors = population.ask(np.random.default_rng((7, generation)))
        population.tell(vectors, loss(vectors))
        losses.append(population.loss)
    return losses


@pytest.mark.parametrize("method", METHODS)
def test_the_best_only_becomes_better(method):
    population = METHODS[method](Settings(population=20, parents=5), normal)
    losses = evolve(population, 60)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert population.best.shape == (4,) and sphere(population.best[np.newaxis])[0] == population.loss
    assert losses[-1] < (1e-2 if method != "random" else losses[0])


@pytest.mark.parametrize("method", METHODS)
def test_losses_that_are_no_numbers_never_win(method):
    population = METHODS[method](Settings(population=20, parents=5), normal)

    def broken(vectors):
        return np.where(np.arange(len(vectors)) % 3 == 0, np.nan, sphere(vectors))

    assert np.isfinite(evolve(population, 10, broken)).all()


def test_the_strategy_keeps_the_best_of_parents_and_children_and_adapts_its_steps():
    population = METHODS["es"](Settings(population=20, parents=5, step=1.0), normal)
    seen = []
    for generation in range(80):
        vectors = population.ask(np.random.default_rng(generation))
        seen += sphere(vectors).tolist()
        population.tell(vectors, sphere(vectors))
        assert population.arrays["losses"].tolist() == sorted(seen)[:5]
    assert population.arrays["sigmas"].max() < 0.2  # near the optimum large steps do not survive


def test_a_child_of_the_strategy_is_as_far_from_its_parent_as_its_step():
    """σ' = σ exp(τ N), θ' = θ + σ' N, τ = 1/√(2n)."""
    n = 20_000
    population = METHODS["es"](Settings(population=200, parents=1, step=0.3), lambda k, rng: normal(k, rng, n=n))
    first = population.ask(np.random.default_rng(0))
    population.tell(first, sphere(first))
    children = population.ask(np.random.default_rng(1))
    distances = np.sqrt(((children - population.arrays["parents"][0]) ** 2).mean(axis=1))
    assert distances == pytest.approx(0.3 * population.arrays["children_sigmas"], rel=0.03)
    assert np.log(population.arrays["children_sigmas"]).std() == pytest.approx(1 / np.sqrt(2 * n), rel=0.2)


def test_a_particle_moves_by_the_equations():
    population = METHODS["pso"](Settings(population=2, inertia=0.5, cognitive=2, social=1), normal, None)
    positions = np.array([[0, 0], [4, 4]], np.float32)
    population.tell(positions, np.array([1.0, 3.0]))  # the swarm's best is the first
    moved = np.array([[2, 0], [4, 6]], np.float32)
    population.tell(moved, np.array([2.0, 1.5]))  # the second has a best of its own, the first stays the swarm's
    rng = np.random.default_rng(5)
    r1, r2 = np.random.default_rng(5).random((2, 2, 2), dtype=np.float32)
    expected = moved + 2 * r1 * (np.array([[0, 0], [4, 6]]) - moved) + r2 * (np.array([0, 0]) - moved)
    assert population.ask(rng) == pytest.approx(expected, abs=1e-6)  # so far at rest
    velocities = population.arrays["velocities"].copy()
    population.tell(moved, np.array([2.0, 1.5]))
    assert population.ask(rng).shape == (2, 2) and not np.array_equal(population.arrays["velocities"], velocities)


def test_a_child_of_the_genetic_algorithm_has_its_parents_genes_but_for_mutations():
    population = METHODS["ga"](Settings(population=100, mutation=0.0, crossover=1.0), normal)
    first = population.ask(np.random.default_rng(0))
    population.tell(first, sphere(first))
    children = population.ask(np.random.default_rng(1))
    for locus in range(4):
        assert set(children[:, locus].tolist()) <= set(first[:, locus].tolist())
    mixed = [child for child in children.tolist() if child not in first.tolist()]
    assert len(mixed) > 50
    mutants = METHODS["ga"](Settings(population=100, mutation=0.1, crossover=0.0), normal, population.arrays)
    changed = [not np.isclose(child, first).all(axis=1).any() for child in mutants.ask(np.random.default_rng(2))]
    assert 0.2 < np.mean(changed) < 0.5  # 1 - 0.9⁴ = 0.34


@pytest.mark.parametrize("method", ["es", "pso", "ga"])
def test_evolution_of_the_sine_network_beats_random_training_at_equal_evaluations(method):
    scores = {
        name: np.median([WeightEvolution(data=SINE, method=name, generations=40)({}, Context(seed=seed))["fitness"]
                         for seed in range(3)])
        for name in (method, "random")
    }  # fmt: skip
    assert scores[method] < 0.8 * scores["random"]


def test_what_a_training_returns_and_reports():
    reports = []
    problem = WeightEvolution(data=SINE, generations=30, settings={"population": 20}, layers=[3, 2])
    evaluation = Evaluation.of("weights", {"step": 0.2})
    result = attempt(problem, evaluation, reports.append)
    assert result.status is Status.OK and result.error is None
    assert result.metrics["evaluations"] == 600 and result.metrics["weights"] == 4 * 3 * 5 + 4 * 2 * 6 + 3
    assert [each["generation"] for each in reports] == list(range(1, 31))
    assert reports[-1]["train_error"] == result.metrics["train_error"]
    tested = attempt(problem, Evaluation.of("weights", {"step": 0.2}, purpose="test"), reports.append)
    assert tested.status is Status.OK


def test_a_training_in_two_parts_is_the_same_as_one(tmp_path):
    for method in METHODS:
        problem = WeightEvolution(data=SINE, method=method, settings={"population": 10})
        params = {"step": 0.2}
        half = Evaluation.of(method, params, budget=5)
        attempt(problem, half, lambda _: None, str(tmp_path))
        later = attempt(
            problem, Evaluation.of(method, params, budget=10, parent=half.key), lambda _: None, str(tmp_path)
        )
        whole = problem(params, Context(budget=10, seed=half.seed))
        assert (later.fitness, later.metrics["train_error"]) == (whole["fitness"], whole["train_error"])
        assert later.metrics["generations"] == 10


def test_children_of_one_slice_go_different_ways_and_keep_what_it_has_found(tmp_path):
    problem = WeightEvolution(data=SINE, settings={"population": 10})
    parent = Evaluation.of("w", {"step": 0.2}, budget=20, slice=True)
    first = attempt(problem, parent, lambda _: None, str(tmp_path))
    children = [
        attempt(problem, Evaluation.of("w", {"step": step}, budget=40, parent=parent.key, slice=True), lambda _: None,
                str(tmp_path))
        for step in (0.1, 0.3)
    ]  # fmt: skip
    errors = [child.metrics["train_error"] for child in children]
    assert errors[0] != errors[1] and max(errors) <= first.metrics["train_error"]


@pytest.mark.parametrize("change", [{"layers": (5,)}, {"method": "ga"}, {"settings": {"population": 12}}])
def test_a_checkpoint_of_another_population_is_refused(tmp_path, change):
    base = {"data": SINE, "method": "pso", "settings": {"population": 10}}
    before = Evaluation.of("w", {"step": 0.2}, budget=2)
    attempt(WeightEvolution(**base), before, lambda _: None, str(tmp_path))
    after = Evaluation.of("w", {"step": 0.2}, budget=4, parent=before.key)
    result = attempt(WeightEvolution(**{**base, **change}), after, lambda _: None, str(tmp_path))
    assert result.status is Status.FAILED and Infeasible.__name__ in result.error and "checkpoint" in result.error


def test_a_hundred_thousand_weights_stay_on_the_worker(tmp_path):
    problem = WeightEvolution(
        data={"name": "sine", "points": 40}, layers=(160,), settings={"population": 6, "parents": 2}
    )
    evaluation = Evaluation.of("w", {"step": 0.05}, budget=3)
    result = attempt(problem, evaluation, lambda _: None, str(tmp_path))
    assert result.metrics["weights"] > 100_000 and result.metrics["checkpoint_bytes"] > 4 * 2 * 100_000
    assert len(pickle.dumps((problem, evaluation, result))) < 3000


def test_populations_exchange_their_best_as_a_job_of_pbt():
    optimizer = {"name": "PBT", "population": 2, "max_budget": 20, "step": 10}
    job = Job(name="islands", problem="weights", optimizer={k: v for k, v in optimizer.items() if k != "step"})
    assert job.checkpoints is True and job.direction == "minimize"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "adam"}, "method is one of es, pso, ga"),
        ({"settings": {"sigma": 1}}, "no 'sigma'; there are population"),
    ],
)
def test_options_that_cannot_be_are_refused(options, text):
    with pytest.raises(InvalidProblem, match=text):
        WeightEvolution(**options)
