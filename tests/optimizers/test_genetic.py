"""The genetic algorithm: fitness, selection, crossover, mutation and what a generation inherits."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.genetic import GA
from swarm.optimizers.population import Individual
from swarm.optimizers.recombination import Mating, crossed, mutated, mutation, relative_fitness
from swarm.space import Choice, Integer, Real, Space
from swarm.trial import Trial

SPACE = Space({"n": Integer(1, 1000, default=100), "lr": Real(1e-4, 1, log=True, default=0.01), "batch": 32})
X = 2 * np.pi * np.arange(100) / 100 - np.pi
POWERS = np.vander(X, 7, increasing=True)


def drive(optimizer, loss):
    trials = []
    while not optimizer.done:
        trial = optimizer.ask()
        trials.append((trial, loss(trial)))
        optimizer.tell(*trials[-1])
    return trials


def individual(number, loss):
    return Individual(Trial(id=number, params={}), loss, ({},))


@pytest.mark.parametrize(
    ("losses", "fitness"),
    [
        ([3, 1, 2], [0, 1, 0.5]),
        ([2, 2, 2], [1, 1, 1]),
        ([3, math.nan, 1, math.inf], [0, 0, 1, 0]),
        ([math.nan, math.inf], [0, 0]),
        ([5], [1]),
    ],
)
def test_fitness_is_relative_to_the_generation(losses, fitness):
    assert relative_fitness(losses).tolist() == fitness


def test_a_huge_loss_flattens_the_linear_scale_but_not_the_others():
    losses = [1.0, 2.0, 3.0, 1e9]
    assert relative_fitness(losses)[:3].min() > 0.999
    assert relative_fitness(losses, "rank").tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert np.diff(relative_fitness(losses, "log"))[:2].max() < -0.01
    assert relative_fitness([1, 1, 3], "rank").tolist() == [1, 1, 0]


def test_mates_are_viable_by_their_fitness_and_then_chosen_by_it():
    adults = [individual(i, loss) for i, loss in enumerate([0.0, 5.0, 10.0, math.inf])]
    rng = np.random.default_rng(1)
    seen = Counter()
    for _ in range(4000):
        mating = Mating(adults, relative_fitness([adult.loss for adult in adults]), rng)
        seen[mating.mate(rng)] += 1
    # The second is viable in half of the generations, and then taken in one draw of three.
    assert seen[2] == seen[3] == 0
    assert seen[1] / 4000 == pytest.approx(1 / 6, abs=0.03)


def test_the_two_parents_differ_if_there_are_two():
    rng = np.random.default_rng(2)
    adults = [individual(i, loss) for i, loss in enumerate([0.0, 0.1, 9.0])]
    mating = Mating(adults, np.array([1.0, 0.9, 0.0]), rng, viability=False)
    assert all(one is not other for one, other in (mating.pair(rng) for _ in range(100)))
    alone = Mating(adults, np.array([1.0, 0.0, 0.0]), rng)
    assert alone.pair(rng) == (adults[0], adults[0])


def test_crossover_exchanges_single_loci_or_runs_of_them():
    loci = [f"x{i}" for i in range(60)]
    one, other = dict.fromkeys(loci, 0), dict.fromkeys(loci, 1)
    counts, changes = [], []
    for seed in range(200):
        first, second = crossed(one, other, loci, 0.33, np.random.default_rng(seed))
        assert all(first[locus] + second[locus] == 1 for locus in loci)
        counts.append(sum(first.values()))
        runs, _ = crossed(one, other, loci, 0.05, np.random.default_rng(seed), run_length=True)
        changes.append(sum(runs[a] != runs[b] for a, b in itertools.pairwise(loci)))
    assert np.mean(counts) == pytest.approx(60 * 0.33, abs=1)  # Binomial(60, 0.33)
    assert np.std(counts) == pytest.approx(math.sqrt(60 * 0.33 * 0.67), rel=0.2)
    assert np.mean(changes) == pytest.approx(59 * 0.05, abs=0.5)


@pytest.mark.parametrize(("kind", "low", "high"), [(0, 0.99, 1), (1, 1, 1.01), (2, 1.1, 1.2), (3, 0.8, 0.9)])
def test_a_mutation_multiplies_within_its_band(kind, low, high):
    domain = Real(0, 100)
    factors = [mutation(domain, 10.0, kind, u) / 10 for u in np.linspace(0, 0.999, 50)]
    assert low - 1e-12 <= min(factors) < max(factors) <= high + 1e-12
    assert max(factors) - min(factors) > 0.9 * (high - low)


@pytest.mark.parametrize(
    ("value", "share"), [(0, 0), (1, 0), (2, 0), (3, 0.168), (4, 0.375), (5, 0.5), (64, 0.61), (1024, 0.975)]
)
def test_the_papers_mutation_leaves_small_integers_alone(value, share):
    domain, rng = Integer(0, 5000), np.random.default_rng(0)
    draws = [(int(rng.integers(4)), rng.random()) for _ in range(4000)]
    paper = [mutation(domain, value, *draw, integer_step=False, zero_kick=False) != value for draw in draws]
    assert np.mean(paper) == pytest.approx(share, abs=0.025)
    remedied = [mutation(domain, value, *draw) != value for draw in draws]
    assert np.mean(remedied) >= 0.23 if value == 0 else np.mean(remedied) >= 0.48


def test_zero_gets_a_kick_of_a_share_of_the_range():
    domain = Real(0.0, 9.0)
    assert mutation(domain, 0.0, 2, 0.5, zero_kick=False) == 0
    assert mutation(domain, 0.0, 2, 0.5) == mutation(domain, 0.0, 3, 0.5) == pytest.approx(0.15 * 9)


def test_options_become_another_one_and_all_stay_in_their_domain():
    rng = np.random.default_rng(3)
    assert {mutation(Choice("a", "b", "c"), "b", 0, u) for u in (0, 0.4, 0.6, 0.99)} == {"a", "c"}
    space = Space({"n": Integer(1, 9), "x": Real(0.5, 1.5, digits=2), "flag": Choice(False, True)})
    for _ in range(300):
        space.check(mutated(space, space.sample(rng), 1.0, rng))


def test_the_mutation_rate_is_observed():
    space = Space({f"x{i}": Real(0, 1) for i in range(20)})
    rng = np.random.default_rng(4)
    params = dict.fromkeys(space.names, 0.5)
    changed = [mutated(space, params, 0.05, rng)[name] != 0.5 for _ in range(500) for name in space.names]
    assert np.mean(changed) == pytest.approx(0.05, abs=0.006)


def test_generation_0_is_the_defaults_and_mutants_of_them():
    optimizer = GA(population=50, generations=0).start(SPACE)
    first, *others = (trial.params for trial, _ in drive(optimizer, lambda trial: 1.0))
    assert first == {"n": 100, "lr": 0.01, "batch": 32}
    assert 0.4 < np.mean([params["n"] != 100 for params in others]) < 0.8 or len({str(p) for p in others}) > 20
    assert all(80 <= params["n"] <= 120 and 0.008 <= params["lr"] <= 0.012 for params in others)
    uniform = GA(population=50, generations=0, initial="uniform").start(SPACE)
    assert np.ptp([trial.params["n"] for trial, _ in drive(uniform, lambda trial: 1.0)]) > 800


def test_a_population_may_begin_with_given_configurations():
    known = [{"n": 7, "lr": 0.5}, {"n": 900, "lr": 1e-3}]
    trials = drive(GA(population=4, generations=0, initial=known).start(SPACE), lambda trial: 1.0)
    assert [trial.params["n"] for trial, _ in trials][:2] == [7, 900]
    with pytest.raises(InvalidOptimizer, match="initial: n: 0 is outside"):
        GA(initial=[{"n": 0, "lr": 0.5}]).start(SPACE)


def test_defaults_are_needed_where_they_are_asked_for():
    space = Space({"n": Integer(1, 9)})
    with pytest.raises(InvalidOptimizer, match="initial is default, but not every parameter has one"):
        GA(initial="default").start(space)
    assert drive(GA(population=4, generations=1).start(space), lambda trial: 1.0)


def test_all_of_a_generation_failing_draws_it_anew():
    optimizer = GA(population=4, generations=2).start(SPACE, seed=1)
    trials = drive(optimizer, lambda trial: None if trial.generation == 0 else trial.params["lr"])
    assert len(trials) == 12 and optimizer.best[0].generation > 0


def test_both_children_complement_each_other():
    options = {"population": 8, "generations": 1, "mutation": 0.0, "initial": "uniform", "children": "both"}
    options["known"] = "answer"
    optimizer = GA(**options).start(SPACE, seed=2)
    trials = drive(optimizer, lambda trial: trial.params["lr"])
    parents = {trial.params["lr"] for trial, _ in trials[:8]} | {trial.params["n"] for trial, _ in trials[:8]}
    for (one, _), (other, _) in zip(trials[8::2], trials[9::2], strict=True):
        assert {one.params["lr"], other.params["lr"], one.params["n"], other.params["n"]} <= parents
        assert one.params["lr"] != other.params["lr"] and one.params["n"] != other.params["n"]


def test_overproduction_trains_twice_as_many_children():
    optimizer = GA(population=6, generations=2, children="overproduce", known="answer").start(SPACE)
    trials = drive(optimizer, lambda trial: trial.params["lr"])
    assert Counter(trial.generation for trial, _ in trials) == {0: 6, 1: 12, 2: 12}
    assert len(trials) == optimizer.planned and len(optimizer.members()) <= 6


def test_the_elite_lives_on_without_being_trained_again():
    options = {"population": 6, "generations": 20, "mutation": 0.9, "elite": 1}
    optimizer = GA(**options).start(SPACE, seed=5)
    trials = drive(optimizer, lambda trial: abs(math.log(trial.params["lr"] / 0.3)))
    assert len(trials) == optimizer.planned == 6 + 20 * 5
    best_of = [min(loss for trial, loss in trials if trial.generation <= g) for g in range(21)]
    assert best_of[-1] < 0.6 * best_of[0]
    assert min(member.loss for member in optimizer.members()) == best_of[-1]


def test_diploid_individuals_train_the_mean_of_two_alleles():
    options = {"population": 10, "generations": 3, "ploidy": 2, "initial": "uniform", "mutation": 0.0}
    optimizer = GA(**options).start(SPACE, seed=6)
    drive(optimizer, lambda trial: trial.params["lr"])
    for member in optimizer.members():
        one, other = (chromosome["lr"] for chromosome in member.genome)
        assert member.trial.params["lr"] == pytest.approx((one + other) / 2)


def test_the_sine_polynomial_gets_several_times_better_than_its_defaults():
    """GA with population 10, 13 generations and a mutation rate of 0.9, as in the authors' tutorial."""
    default = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]
    space = Space({f"c{i}": Real(-1, 1, default=value) for i, value in enumerate(default)})

    def error(trial):
        return float(((np.sin(X) - POWERS @ np.array(list(trial.params.values()))) ** 2).sum())

    assert error(Trial(id=0, params=dict(enumerate(default)))) == pytest.approx(11078370.845, rel=1e-8)
    assert error(Trial(id=0, params=dict(enumerate([0.0] * 7)))) == pytest.approx(50)
    assert np.linalg.lstsq(POWERS, np.sin(X), rcond=None)[1][0] == pytest.approx(0.001824, abs=1e-6)
    gains = []
    for seed in range(10):
        optimizer = GA.paper(population=10, generations=13, mutation=0.9).start(space, seed=seed)
        drive(optimizer, error)
        gains.append(11078370.845 / optimizer.best[1])
    assert min(gains) > 2 and 4 < np.median(gains) < 30


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"population": 1}, "population must be an integer of at least 2"),
        ({"crossover": 1.5}, "crossover must be a number from 0 up to 1"),
        ({"ploidy": 3}, "ploidy must be 1 or 2"),
        ({"initial": []}, "initial must be default, uniform or a list"),
        ({"initial": "best"}, "initial must be one of"),
        ({"population": 4, "elite": 4}, "elite 4 leaves no room"),
        ({"children": "two"}, "children must be one of"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options, complaint):
    with pytest.raises(InvalidOptimizer, match=complaint):
        GA(**options)
