"""TPE: the densities of both models against their formulas, what they propose, and what they cost."""

import math
import tracemalloc

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.density import Density, Observations, truncated_normal
from swarm.optimizers.parzen import Axes, Mixture, Told, gaps, recency
from swarm.optimizers.random import Random
from swarm.optimizers.tpe import TPE, Model
from swarm.space import Choice, Integer, Real, Space
from swarm.trial import Trial

MODELS = ["optuna", "hpbandster"]
MIXED = Space({"x": Real(0, 1), "n": Integer(1, 9), "act": Choice("relu", "tanh", "elu", "selu"), "batch": 32})


def cube(d):
    return Space({f"x{i}": Real(0, 1) for i in range(d)})


def sphere(params):
    return sum((x - 0.3) ** 2 for x in params.values())


def run(optimizer, loss):
    """Run to the end, one trial at a time: the results (params, loss)."""
    results = []
    while not optimizer.done:
        trial = optimizer.ask()
        results.append((trial.params, loss(trial.params)))
        optimizer.tell(trial, results[-1][1])
    return results


def late(optimizer, d, seed, loss=sphere):
    """Mean loss of the last 30 proposals."""
    return np.mean([value for _, value in run(optimizer.start(cube(d), seed=seed), loss)[-30:]])


# --- the densities


def test_bandwidths_follow_the_normal_reference_rule_with_a_floor():
    points = np.array([[0.1, 0.5], [0.3, 0.5], [0.8, 0.5]])
    density = Density.fit(points, np.zeros(2, dtype=int), least=1e-3)
    assert density.bandwidths == pytest.approx([1.06 * np.std([0.1, 0.3, 0.8]) * 3 ** (-1 / 6), 1e-3])


def test_the_density_of_numbers_is_a_mean_of_normal_kernels():
    points, h = np.array([[0.2, 0.7], [0.6, 0.1]]), np.array([0.1, 0.3])
    x = np.array([[0.25, 0.5], [0.9, 0.9]])
    kernels = np.exp(-0.5 * ((x[:, None] - points) / h) ** 2) / (h * math.sqrt(2 * math.pi))
    assert np.exp(Density(points, h, np.zeros(2, dtype=int)).log(x)) == pytest.approx(kernels.prod(axis=2).mean(axis=1))


def test_the_density_of_a_choice_sums_to_one_and_is_flat_at_most():
    options = np.array([4])
    every = np.arange(4.0)[:, None]
    for points in ([[0], [0], [1]], [[0], [3], [0], [3], [3]], [[2], [2]]):
        density = np.exp(Density.fit(np.array(points, dtype=float), options, least=1e-3).log(every))
        assert density.sum() == pytest.approx(1)
        assert density[int(points[0][0])] >= density.min() > 0


def test_the_logarithm_of_a_density_stays_finite_where_the_density_does_not():
    density = Density(np.full((2, 200), 0.5), np.full(200, 1e-3), np.zeros(200, dtype=int))
    logs = density.log(np.array([np.full(200, 0.5), np.ones(200)]))
    assert logs[0] > 1000 and -np.inf < logs[1] < -1e7


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("sd", [1e-3, 0.1, 1.5, 10])
def test_a_truncated_normal_has_its_mean_and_stays_inside(mean, sd):
    x = truncated_normal(np.random.default_rng(1), np.full(20_000, mean), sd)
    assert ((x >= 0) & (x <= 1)).all()
    grid = (np.arange(100_000) + 0.5) / 100_000
    weights = np.exp(-0.5 * ((grid - mean) / sd) ** 2)
    assert x.mean() == pytest.approx((grid * weights).sum() / weights.sum(), abs=5 * x.std() / math.sqrt(x.size))


def test_candidates_keep_an_option_but_for_their_bandwidth_and_widen_numbers():
    density = Density(np.array([[0.5, 1.0]]), np.array([0.01, 0.4]), np.array([0, 5]))
    x = density.draw(np.random.default_rng(2), 20_000, widen=3)
    assert x[:, 0].std() == pytest.approx(0.03, rel=0.05)
    assert np.bincount(x[:, 1].astype(int)) / len(x) == pytest.approx([0.08, 0.68, 0.08, 0.08, 0.08], abs=0.015)


# --- the densities of Optuna's model: known answers of an independent calculation

LOG_ROOT = 0.5 * math.log(2 * math.pi)  # which the answers leave out, since it is the same in l and in g


def test_the_widths_are_the_larger_gaps_and_the_density_that_of_truncated_kernels():
    axes = Axes.of(Space({"x": Real(0, 1)}))
    mixture = Mixture.fit(np.array([[0.5], [0.2], [0.9]]), axes)
    assert mixture.widths[:, 0] == pytest.approx([0.4, 0.3, 0.4, 1.0])
    assert mixture.weights == pytest.approx(np.full(4, 0.25))
    logs = mixture.log(np.array([[0.2], [0.5], [1.0]]))
    assert logs + LOG_ROOT == pytest.approx([0.945203, 1.019328, 0.695076], abs=1e-6)


def test_the_gap_to_an_end_of_the_range_counts_for_a_single_point_alone():
    assert gaps(np.array([0.3]), 0.0) == pytest.approx([0.7, 1.0])
    assert gaps(np.array([0.02, 0.1, 0.04, 0.01]), 0.0) == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 6, 1.0])
    assert gaps(np.array([0.9, 0.1, 0.6]), 0.0) == pytest.approx([0.3, 0.5, 0.5, 1.0])
    assert gaps(np.array([1.0, 0.6]), 0.1) == pytest.approx([0.4, 0.4, 1.2])


REALS = Space({"x": Real(-2, 3), "rate": Real(1e-4, 1, log=True), "act": Choice("a", "b", "c")})
SEEN = {  # configurations, and the logarithm of Optuna 5.0.0's density there, per x and per log rate
    (-1.5, 0.5, "a"): -3.0530977320,
    (-1.2, 0.001, "b"): -3.8198091916,
    (0.1, 0.01, "b"): -4.5441483858,
    (0.15, 0.3, "a"): -4.6099800714,
    (2.9, 0.002, "c"): -4.4663527369,
}


def points(space, rows):
    """Rows of values as the model takes them."""
    axes = Axes.of(space)
    rows = [space.encode(dict(zip(space.names, row, strict=True))) for row in rows]
    places = np.array(rows).reshape(-1, space.dimensions)
    return np.where(axes.options > 0, np.floor(places * axes.options), places)


def test_the_density_is_optunas_on_the_same_observations():
    mixture = Mixture.fit(points(REALS, SEEN), Axes.of(REALS))
    logs = mixture.log(points(REALS, SEEN)) - math.log(5 * math.log(1e4))  # per unit of the cube → of the parameters
    assert logs == pytest.approx(list(SEEN.values()), abs=1e-9)


@pytest.mark.parametrize("number", [0, 1, 2, 24, 25, 26, 80])
def test_the_density_is_that_of_the_optuna_that_is_installed(number):
    estimator = pytest.importorskip("optuna.samplers._tpe.parzen_estimator")
    sampler = pytest.importorskip("optuna.samplers._tpe.sampler")
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    there = {
        "x": FloatDistribution(-2, 3),
        "rate": FloatDistribution(1e-4, 1, log=True),
        "act": CategoricalDistribution(("a", "b", "c")),
    }
    rng = np.random.default_rng(number)
    seen, asked = ([REALS.sample(rng) for _ in range(n)] for n in (number, 50))

    def columns(rows):
        return {k: np.array([d.to_internal_repr(row[k]) for row in rows], float) for k, d in there.items()}

    options = estimator._ParzenEstimatorParameters(1.0, True, False, sampler.default_weights, True)
    expected = estimator._ParzenEstimator(columns(seen), there, options).log_pdf(columns(asked))
    mixture = Mixture.fit(points(REALS, [row.values() for row in seen]), Axes.of(REALS))
    logs = mixture.log(points(REALS, [row.values() for row in asked])) - math.log(5 * math.log(1e4))
    assert logs == pytest.approx(expected, abs=1e-9)


def test_integers_have_the_mass_of_half_a_step_to_either_side():
    axes = Axes.of(Space({"n": Integer(1, 5)}))
    mixture = Mixture.fit(np.array([[0.0], [0.5]]), axes)
    assert mixture.widths[:, 0] == pytest.approx([0.5, 0.5, 1.25])
    assert np.exp(mixture.log(np.arange(5)[:, None] / 4)).sum() == pytest.approx(1, abs=1e-12)


def test_an_option_that_was_seen_is_more_likely():
    mixture = Mixture.fit(np.array([[0.0], [1.0]]), Axes.of(Space({"act": Choice("a", "b", "c")})))
    assert np.exp(mixture.log(np.arange(3.0)[:, None])) == pytest.approx([0.388889, 0.388889, 0.222222], abs=1e-6)


def test_many_points_in_one_place_have_kernels_of_a_hundredth_at_least():
    assert gaps(np.full(200, 0.5), 0.0)[1:-1] == pytest.approx(np.full(199, 0.01)[:199], abs=0.5)
    assert gaps(np.full(200, 0.5), 0.0)[50] == pytest.approx(0.01)


def test_the_latest_25_count_in_full_and_the_oldest_one_in_n():
    assert recency(25).tolist() == [1.0] * 25
    assert recency(45)[:3] == pytest.approx([1 / 45, 1 / 45 + (44 / 45) / 19, 1 / 45 + 2 * (44 / 45) / 19])
    assert recency(45)[19:].tolist() == [1.0] * 26


def test_what_is_drawn_has_the_density_that_is_said():
    space = Space({"x": Real(0, 1), "n": Integer(1, 5), "act": Choice("a", "b", "c")})
    mixture = Mixture.fit(np.array([[0.1, 0.25, 2.0], [0.6, 1.0, 0.0], [0.7, 1.0, 0.0]]), Axes.of(space))
    x = mixture.draw(np.random.default_rng(3), 40_000)
    assert ((x[:, 0] >= 0) & (x[:, 0] <= 1)).all()
    places = np.stack(np.meshgrid((np.arange(50) + 0.5) / 50, np.arange(5) / 4, np.arange(3.0), indexing="ij"), -1)
    expected = np.exp(mixture.log(places.reshape(-1, 3))).reshape(50, 5, 3) / 50
    assert expected.sum() == pytest.approx(1, abs=1e-3)
    counts = np.histogram(x[:, 0], 10, (0, 1))[0] / len(x)
    assert counts == pytest.approx(expected.sum(axis=(1, 2)).reshape(10, 5).sum(axis=1), abs=0.01)
    joint = np.zeros((5, 3))
    np.add.at(joint, (np.rint(x[:, 1] * 4).astype(int), x[:, 2].astype(int)), 1 / len(x))
    assert joint == pytest.approx(expected.sum(axis=0), abs=0.01)


def test_the_good_are_a_tenth_and_25_at_most_and_what_is_under_way_is_bad():
    told = Told(1, 0.1)
    for i in range(300):
        told.add(np.array([i / 1000]), float((i * 7) % 300))
        good, bad = told.split()
        assert len(good) == min(math.ceil((i + 1) / 10), 25) and len(bad) == i + 1 - len(good)
    told.open[7] = np.array([0.9])
    assert told.split()[1][-1].tolist() == [0.9]
    failed = Told(1, 0.1)
    failed.add(np.array([0.5]), math.inf)
    assert [len(part) for part in failed.split()] == [0, 1]


# --- what counts as good


def split(losses, **options):
    observations = Observations(1, **{"good": 0.15, "least": 2, "limit": 100, **options})
    for i, loss in enumerate(losses):
        observations.add(np.array([i / 1000]), loss)
    found = observations.split()
    return found and tuple(sorted(np.rint(points[:, 0] * 1000).astype(int).tolist()) for points in found)


def test_the_lowest_losses_are_good_and_at_least_so_many_are_needed():
    assert split([3, 1, 2]) is None
    assert split([3, 1, 2, 4]) == ([1, 2], [0, 3])
    assert split(range(40)) == ([*range(6)], [*range(6, 40)])


def test_a_failure_is_bad_even_if_there_are_too_few_good_ones():
    assert split([math.inf] * 10) is None
    assert split([math.inf, 1, *[math.inf] * 8]) is None
    assert split([math.inf, 1, 2, *[math.inf] * 97]) == ([1, 2], [0, *range(3, 100)])


def test_the_best_ever_and_the_latest_are_kept():
    good, bad = split([5, 1, 2, 9, 8, 7, 6, 3, 10, 11], good=0.3, limit=6)
    assert good == [1, 2]
    assert bad == [6, 7, 8, 9]


# --- what it proposes


@pytest.mark.parametrize(
    ("model", "d", "mean", "random_mean"),
    [
        ("hpbandster", 2, 0.031, 0.2467),
        ("hpbandster", 4, 0.055, 0.4933),
        ("optuna", 2, 0.051, 0.2467),
        ("optuna", 4, 0.037, 0.4933),
    ],
)
def test_proposals_on_a_sphere_draw_near_its_centre(model, d, mean, random_mean):
    found = [late(TPE(trials=60, random_fraction=0, model=model), d, seed) for seed in range(20)]
    random = [late(Random(trials=60), d, seed) for seed in range(20)]
    assert np.mean(random) == pytest.approx(random_mean, rel=0.1)  # d · (1/12 + 0.2²)
    assert np.mean(found) == pytest.approx(mean, rel=0.4)  # of 100 seeds
    assert max(found[:10]) < min(random[:10])
    assert np.mean(np.array(found) < np.min(random)) >= 0.9


@pytest.mark.parametrize("model", MODELS)
def test_in_a_mixed_space_the_best_option_and_number_are_preferred(model):
    def loss(params):
        return (params["x"] - 0.7) ** 2 + 0.01 * (params["n"] - 3) ** 2 + (params["act"] != "elu")

    shares = []
    for seed in range(10):
        tail = [
            params
            for params, _ in run(TPE(trials=80, random_fraction=0, model=model).start(MIXED, seed=seed), loss)[-30:]
        ]
        assert all(params["batch"] == 32 for params in tail)
        shares.append(np.mean([params["act"] == "elu" and abs(params["n"] - 3) <= 2 for params in tail]))
    assert np.mean(shares) > 0.6  # 0.14 of random ones


@pytest.mark.parametrize("model", MODELS)
def test_where_trials_fail_few_are_proposed(model):
    method = TPE(trials=80, model=model)
    failed = [
        np.mean([value is None for _, value in run(method.start(cube(2), seed=seed), failing_half)[-30:]])
        for seed in range(10)
    ]
    assert np.mean(failed) < 0.4  # half of random ones; the best is where failures begin


def failing_half(params):
    return None if params["x0"] > 0.5 else (params["x0"] - 0.5) ** 2 + params["x1"]


@pytest.mark.parametrize("model", MODELS)
def test_random_proposals_do_not_depend_on_what_is_told(model):
    one, other = (
        run(TPE(trials=40, random_fraction=1, model=model).start(MIXED, seed=2), loss)
        for loss in (lambda p: p["x"], lambda p: -p["x"])
    )
    assert [params for params, _ in one] == [params for params, _ in other]


def test_it_never_waits():
    optimizer = TPE(trials=50).start(MIXED)
    trials = [optimizer.ask() for _ in range(50)]
    assert [trial.member for trial in trials] == list(range(50))
    assert {(trial.generation, trial.budget, trial.parent) for trial in trials} == {(0, None, None)}
    assert optimizer.ask() is None and not optimizer.done and optimizer.planned == 50


# --- what it costs


def tell(model, number, loss):
    rng = np.random.default_rng(number)
    model.tell(Trial(id=number, params=cube(2).sample(rng)), loss)


def test_what_a_proposal_looks_at_does_not_grow_with_the_history():
    model = Model(cube(2), TPE(trials=1, random_fraction=0, model="hpbandster"))
    sizes = []
    for number in range(3000):
        tell(model, number, 1 + number % 7)
        sizes.append(len(model))
    assert sizes[:1000] == list(range(1, 1001)) and set(sizes[1000:]) == {1000}


def test_a_model_of_a_thousand_still_knows_the_first_good_ones():
    model, space = Model(cube(2), TPE(trials=1, random_fraction=0, model="hpbandster")), cube(2)
    for number in range(2000):
        params = {"x0": 0.8, "x1": 0.2} if number < 150 else space.sample(np.random.default_rng(number))
        model.tell(Trial(id=number, params=params), float(number >= 150))
    proposed = [space.encode(model.propose(np.random.default_rng(seed))) for seed in range(20)]
    assert np.abs(np.array(proposed) - [0.8, 0.2]).max() < 0.02


@pytest.mark.parametrize("model", MODELS)
def test_memory_does_not_grow_with_the_trials(model):
    optimizer = TPE(trials=10**6, random_fraction=1, model=model).start(cube(2))

    def go(trials):
        for _ in range(trials):
            trial = optimizer.ask()
            optimizer.tell(trial, sphere(trial.params))

    go(1100)
    tracemalloc.start()
    try:
        go(1000)
        assert tracemalloc.get_traced_memory()[0] < 60_000  # bytes: the arrays of 1000 observations, once
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"trials": 0}, "trials must be an integer of at least 1, not 0"),
        ({"random_fraction": 1.1}, "random_fraction must be a number from 0 up to 1, not 1.1"),
        ({"good_fraction": 1}, "good_fraction must be a number above 0 up to 0.99, not 1"),
        ({"candidates": 0}, "candidates must be an integer of at least 1, not 0"),
        ({"startup": 0}, "startup must be an integer of at least 1, not 0"),
        ({"model": "gp"}, "model must be one of optuna, hpbandster, not 'gp'"),
        ({"min_points": 4}, "min_points is an option of model hpbandster: leave it out, or take that model"),
        ({"model": "hpbandster", "startup": 4}, "startup is an option of model optuna: leave it out, or take that"),
        ({"model": "hpbandster", "min_points": 0}, "min_points must be an integer of at least 1, not 0"),
        ({"model": "hpbandster", "bandwidth_factor": 0}, "bandwidth_factor must be a number above 0 up to 10, not 0"),
        ({"model": "hpbandster", "min_bandwidth": 0}, "min_bandwidth must be a number above 0 up to 1, not 0"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"TPE: {text}"):
        TPE(**{"trials": 3, **options})
