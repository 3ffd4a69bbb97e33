"""The particle swarm against known answers, its variants, and what the papers report of it."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer
from swarm.optimizers.async_pso import AsyncPSO
from swarm.optimizers.pso import PSO, confine, move, spectral_radii
from swarm.plain import canonical
from swarm.space import Choice, Integer, Real, Space

PAPER = (0.5, 0.5, 0.5)  # inertia, cognitive, social
REPORT = (0.5, 2.0, 2.0)
CLERC = (0.7298, 1.49618, 1.49618)

SQUARE = Space({"a": Real(-5.12, 5.12), "b": Real(-5.12, 5.12)})
UNIT = Space({"a": Real(0, 1), "b": Real(0, 1), "c": Real(0, 1)})
SIMPLENET = Space({"n": Integer(1, 48), "sF": Integer(2, 10), "sP": Integer(2, 4), "l": Integer(2, 4)})


def sphere(params):
    return sum(value**2 for value in params.values())


def off_centre(params):
    return sum((value - 0.3) ** 2 for value in params.values())


def run(optimizer, loss):
    """Run to the end and return the trials, in the order in which they were asked."""
    trials = []
    while not optimizer.done:
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))
        trials.append(trial)
    return trials


def positions(trials, space=UNIT):
    """Array (generations, particles, d) of the positions in the cube."""
    generations = trials[-1].generation + 1
    return np.array([space.encode(trial.params) for trial in trials]).reshape(generations, -1, space.dimensions)


# --- the equations


@pytest.mark.parametrize(
    ("r", "p", "s", "x", "v", "expected_x", "expected_v"),
    [
        (
            *(1.0, 0.0, 0.0, 0.0, 1.0),
            [0.5, 0.25, -0.125, -0.1875, -0.03125, 0.078125, 0.0546875, -0.01171875],
            [0.5, -0.25, -0.375, -0.0625, 0.15625, 0.109375, -0.0234375, -0.06640625],
        ),
        (
            *(0.5, 4.0, 2.0, 10.0, 0.0),
            [6.5, 3, 1.25, 1.25, 2.125, 3],
            [-3.5, -3.5, -1.75, 0, 0.875, 0.875],
        ),
    ],
)
def test_a_particle_follows_the_recurrence_to_the_last_digit(r, p, s, x, v, expected_x, expected_v):
    x, v, r = np.array([x]), np.array([v]), np.array([r])
    path = []
    for _ in expected_x:
        x, v = move(x, v, np.array([p]), np.array([s]), r, r, *PAPER)
        path.append((x[0], v[0]))
    assert path == list(zip(expected_x, expected_v, strict=True))


def test_the_largest_velocity_limits_the_step():
    x, v = move(np.zeros(2), np.array([4.0, -4.0]), *np.zeros((4, 2)), *PAPER, limit=0.25)
    assert v.tolist() == x.tolist() == [0.25, -0.25]


@pytest.mark.parametrize(
    ("weights", "order_1", "order_2"),
    [(PAPER, 0.7071, 0.5433), (REPORT, 0.7071, 1.0), (CLERC, 0.8543, 0.9442)],
)
def test_the_spectral_radii_are_those_of_the_literature(weights, order_1, order_2):
    assert spectral_radii(*weights) == (pytest.approx(order_1, abs=5e-5), pytest.approx(order_2, abs=5e-5))


@pytest.mark.parametrize("w", [0.0, 0.3, 0.5, 0.7298, 0.9])
def test_the_second_moments_stop_shrinking_at_polis_limit(w):
    limit = 24 * (1 - w**2) / (7 - 5 * w)
    assert spectral_radii(w, limit / 2, limit / 2)[1] == pytest.approx(1.0)
    assert (
        spectral_radii(w, 0.99 * limit / 2, 0.99 * limit / 2)[1]
        < 1.0
        < spectral_radii(w, 0.51 * limit, 0.51 * limit)[1]
    )


@pytest.mark.parametrize(
    ("bounds", "x", "v"),
    [
        ("clip", [0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.3, -0.2]),
        ("reflect", [0.25, 0.75, 0.5, 0.0], [0.5, -0.5, 0.3, -0.2]),
        ("unbounded", [-0.25, 1.25, 0.5, 0.0], [-0.5, 0.5, 0.3, -0.2]),
    ],
)
def test_the_walls_clip_reflect_or_let_through(bounds, x, v):
    found = confine(np.array([-0.25, 1.25, 0.5, 0.0]), np.array([-0.5, 0.5, 0.3, -0.2]), bounds)
    assert [array.tolist() for array in found] == [x, v]


# --- how well it searches


def test_the_sphere_is_solved_by_30_particles_from_every_start():
    losses = [run_best(PSO.paper(particles=30, generations=50), SQUARE, sphere, seed) for seed in range(30)]
    assert max(losses) < 1e-6


@pytest.mark.parametrize(("weights", "generations", "seeds", "goal"), [(PAPER, 50, 100, 1e-3), (CLERC, 100, 30, 1e-6)])
def test_the_sphere_is_solved_by_6_particles_from_nine_starts_in_ten(weights, generations, seeds, goal):
    w, cp, cg = weights
    optimizer = PSO(particles=6, generations=generations, inertia=w, cognitive=cp, social=cg)
    losses = [run_best(optimizer, SQUARE, sphere, seed) for seed in range(seeds)]
    assert np.mean([loss < goal for loss in losses]) >= 0.9


def run_best(optimizer, space, loss, seed):
    started = optimizer.start(space, seed=seed)
    run(started, loss)
    return started.best[1]


@pytest.mark.parametrize(("weights", "least", "most"), [(PAPER, 0.6, 0.85), (CLERC, 0.95, 1.0), (REPORT, 0.95, 1.0)])
def test_the_papers_constants_converge_too_early_on_rastrigins_function(weights, least, most):
    swarms, particles, d = 300, 30, 2

    def rastrigin(x):
        y = (x - 0.5) * 10.24
        return 10 * d + (y**2 - 10 * np.cos(2 * np.pi * y)).sum(-1)

    rng = np.random.default_rng(0)
    x, v = rng.random((swarms, particles, d)), rng.uniform(-1, 1, (swarms, particles, d))
    p, p_loss = x, rastrigin(x)
    for _ in range(200):
        s = np.take_along_axis(p, p_loss.argmin(1)[:, None, None], axis=1)
        x, v = move(x, v, p, s, rng.random(x.shape), rng.random(x.shape), *weights)
        x, v = confine(x, v, "clip")
        loss = rastrigin(x)
        p = np.where((loss < p_loss)[..., None], x, p)
        p_loss = np.minimum(loss, p_loss)
    assert least <= (p_loss.min(1) < 1e-6).mean() <= most


@pytest.fixture(scope="module")
def archive_use():
    """Hits and trainings of 20 runs on a smooth and on a constant objective, with a dictionary for an archive."""
    target = np.array([0.6, 0.4, 0.5, 0.3])
    objectives = {
        "smooth": lambda params: float(((SIMPLENET.encode(params) - target) ** 2).sum()),
        "constant": lambda params: 1.0,
    }
    return {
        name: np.array([hits_and_trainings(PSO.paper().start(SIMPLENET, seed=seed), loss) for seed in range(20)])
        for name, loss in objectives.items()
    }


def hits_and_trainings(optimizer, loss):
    archive = {}
    trials = run(optimizer, lambda params: archive.setdefault(canonical(params), loss(params)))
    return len(trials) - len(archive), len(archive)


def test_the_archive_answers_more_than_four_fifths_in_the_papers_small_space(archive_use):
    hits, trainings = archive_use["smooth"].T
    assert (hits + trainings == 606).all()  # 6 particles, 1 + 100 generations
    assert (hits / 606).mean() >= 0.80
    assert (hits / 606).min() >= 0.80
    assert trainings.mean() < 80


def test_on_a_plateau_the_swarm_keeps_moving_and_trains_more(archive_use):
    hits, trainings = archive_use["constant"].T
    assert (hits + trainings == 606).all()
    assert (trainings / 606).min() > 0.10 and (trainings / 606).max() < 0.40


def test_a_particle_at_rest_on_the_best_position_trains_once():
    assert hits_and_trainings(PSO.paper(particles=1, velocity="zero").start(SIMPLENET), sphere) == (100, 1)


# --- generations


@pytest.mark.parametrize("options", [{}, {"local": "iteration"}, {"bounds": "reflect", "max_velocity": 0.2}])
def test_any_number_of_workers_and_any_order_of_results_give_the_same_trajectories(options):
    one_worker = positions(run(PSO(particles=5, generations=30, **options).start(UNIT, seed=11), off_centre))
    for shuffle in range(5):
        rng = np.random.default_rng(shuffle)
        optimizer = PSO(particles=5, generations=30, **options).start(UNIT, seed=11)
        trials, flying = [], []
        while not optimizer.done:
            while rng.random() < 0.7 and (trial := optimizer.ask()):
                flying.append(trial)
                trials.append(trial)
            if flying:
                trial = flying.pop(int(rng.integers(len(flying))))
                optimizer.tell(trial, off_centre(trial.params))
        assert (positions(trials) == one_worker).all()


def test_a_generation_is_asked_only_when_the_one_before_is_told():
    optimizer = PSO(particles=3, generations=1).start(UNIT)
    first = [optimizer.ask() for _ in range(3)]
    assert optimizer.ask() is None and not optimizer.done
    for trial in first:
        assert optimizer.ask() is None
        optimizer.tell(trial, 1.0)
    second = [optimizer.ask() for _ in range(3)]
    assert [(trial.generation, trial.member) for trial in first + second] == [(g, i) for g in (0, 1) for i in range(3)]
    assert optimizer.ask() is None and not optimizer.done
    for trial in second:
        optimizer.tell(trial, 1.0)
    assert optimizer.done


def test_updating_in_place_asks_one_trial_at_a_time_and_lets_the_next_see_it():
    optimizer = PSO(particles=4, generations=5, update="in_place").start(UNIT, seed=2)
    while not optimizer.done:
        trial = optimizer.ask()
        assert optimizer.ask() is None
        optimizer.tell(trial, off_centre(trial.params))
    in_place, sync = (
        positions(run(PSO(particles=4, generations=5, update=update).start(UNIT, seed=2), off_centre))
        for update in ("in_place", "sync")
    )
    assert (in_place[0] == sync[0]).all()
    assert not (in_place[1:] == sync[1:]).all()


def test_an_equal_loss_does_not_move_the_swarms_best():
    # At rest and on its own best, only the particle that holds the swarm's best stays where it is.
    trials = run(
        PSO.paper(particles=4, generations=3, velocity="zero", social=1.0).start(UNIT, seed=5), lambda params: 1.0
    )
    path = positions(trials)
    assert (path[:, 0] == path[0, 0]).all()  # of equal losses the lowest index
    assert (path[1, 1:] != path[0, 1:]).all()


def test_one_trial_is_the_best_of_equals_with_the_lowest_id_whatever_comes_first():
    optimizer = PSO(particles=4, generations=0).start(UNIT)
    trials = [optimizer.ask() for _ in range(4)]
    for trial in reversed(trials):
        optimizer.tell(trial, 2.0)
    assert optimizer.best == (trials[0], 2.0)


# --- failures


def test_failed_particles_are_drawn_to_the_best_that_succeeded():
    failed = {0, 2}
    optimizer = PSO.paper(particles=3, generations=40, velocity="zero").start(UNIT, seed=1)
    path, target = [], None
    while not optimizer.done:
        trial = optimizer.ask()
        if trial.member not in failed and target is None:
            target = UNIT.encode(trial.params)
        optimizer.tell(trial, None if trial.member in failed else 1.0)
        path.append(trial)
    final = positions(path)[-1]
    assert np.abs(final - target).max() < 1e-3
    assert optimizer.best[0].member == 1


def test_while_all_fail_the_particles_are_placed_anew_until_one_succeeds():
    optimizer = PSO.paper(particles=3, generations=10, velocity="zero").start(UNIT, seed=1)
    path = positions(run(optimizer, lambda params: math.nan))
    assert len(np.unique(path.reshape(-1, 3), axis=0)) == 33
    assert optimizer.best is None


# --- options


def test_the_initial_velocity_is_uniform_literal_or_zero():
    space = Space({"n": Integer(10, 20), "lr": Real(1e-4, 1e-2, log=True), "act": Choice("a", "b")})
    cubes = {"uniform": ([-1, -1, -1], [1, 1, 1]), "literal": ([1, -2, 0], [2, -1, 1]), "zero": ([0] * 3, [0] * 3)}
    wide = Space({"n": Real(10, 20), "lr": Real(1e-4, 1e-2, log=True), "act": Choice("a", "b")})
    assert (space.ends == wide.ends).all()
    for velocity, (low, high) in cubes.items():
        # Alone, in its first step, a particle moves by w·v: inertia 1 shows the velocity where no wall is met.
        optimizer = PSO.paper(particles=400, generations=1, inertia=1.0, cognitive=0, social=0, velocity=velocity)
        path = positions(run(optimizer.start(wide, seed=3), lambda params: 0.0), wide)
        for dimension in (0, 1):
            before, after = path[0, :, dimension], path[1, :, dimension]
            steps = (after - before)[(after > 0) & (after < 1)]
            if velocity == "literal" and dimension == 0:
                assert (after == 1).all()  # at least one whole range upwards
            elif velocity == "literal":
                assert (after == 0).all()
            else:
                assert steps.size and (steps >= low[dimension] - 1e-9).all() and (steps <= high[dimension] + 1e-9).all()
                assert velocity == "zero" or np.ptp(steps) > 1.5


def test_a_first_move_leads_halfway_to_a_random_position_and_so_to_no_wall():
    optimizer = PSO(particles=400, generations=1, inertia=1.0, cognitive=0, social=0)
    before, after = positions(run(optimizer.start(UNIT, seed=3), lambda params: 0.0))
    assert ((after > 0) & (after < 1)).all()
    targets = before + 2 * (after - before)
    assert (targets > 0).all() and (targets < 1).all()
    assert targets.mean(axis=0) == pytest.approx(0.5, abs=0.05) and targets.std(axis=0) == pytest.approx(
        12**-0.5, abs=0.02
    )
    assert np.abs(np.corrcoef(before[:, 0], targets[:, 0])[0, 1]) < 0.15


def test_clipped_and_reflected_particles_stay_in_the_cube_and_unbounded_ones_are_clipped_when_trained():
    for bounds in ("clip", "reflect", "unbounded"):
        optimizer = PSO(particles=6, generations=30, inertia=0.9, cognitive=0.8, social=0.8, bounds=bounds)
        path = positions(run(optimizer.start(UNIT, seed=1), sphere))
        assert path.min() >= 0 and path.max() <= 1
        on_the_wall = ((path == 0) | (path == 1)).any()
        assert on_the_wall == (bounds != "reflect")


def test_no_particle_moves_faster_than_the_largest_velocity():
    path = positions(run(PSO(max_velocity=0.05, generations=20).start(UNIT, seed=1), off_centre))
    assert 0.049 < np.abs(np.diff(path[1:], axis=0)).max() <= 0.05 + 1e-12


def test_the_local_term_can_pull_to_the_best_of_the_last_iteration():
    # Without the social term all particles go to the last generation's best, wherever their own best was.
    options = {"particles": 5, "generations": 4, "inertia": 0.0, "cognitive": 1.0, "social": 0.0}
    path = positions(run(PSO.paper(local="iteration", **options).start(UNIT, seed=3), off_centre))
    for before, after in pairwise(path):
        best = before[((before - 0.3) ** 2).sum(-1).argmin()]
        assert ((after - before) * (best - before) >= 0).all()
        assert (np.abs(after - before) <= np.abs(best - before) + 1e-12).all()


def test_it_stops_when_the_swarm_has_come_to_rest():
    optimizer = PSO.paper(generations=500, stop_velocity=1e-3).start(UNIT, seed=1)
    trials = run(optimizer, off_centre)
    path = positions(trials)
    assert optimizer.done and len(trials) < optimizer.planned / 5
    steps = np.linalg.norm(np.diff(path, axis=0), axis=-1).max(-1)
    assert steps[-1] < 1e-3 <= steps[:-1].min()


def test_a_swarm_that_starts_at_rest_is_not_taken_for_one_that_has_come_to_rest():
    assert len(run(PSO(velocity="zero", stop_velocity=1e-3).start(UNIT, seed=1), off_centre)) > 60


def test_the_reports_variant_evaluates_its_swarm_of_5_twenty_times():
    optimizer = PSO.report().start(SIMPLENET, seed=1)
    assert optimizer.planned == 100
    assert len(run(optimizer, sphere)) == 100
    assert spectral_radii(*REPORT) == spectral_radii(optimizer.inertia, optimizer.cognitive, optimizer.social)


def test_memory_does_not_grow_with_the_trials():
    optimizer = PSO(generations=10**6).start(UNIT, seed=1)

    def generations(number):
        for _ in range(6 * number):
            optimizer.tell(trial := optimizer.ask(), off_centre(trial.params))

    generations(20)
    tracemalloc.start()
    try:
        generations(200)
        assert tracemalloc.get_traced_memory()[0] < 20_000  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"particles": 0}, "particles must be an integer of at least 1, not 0"),
        ({"particles": 6.0}, "particles must be an integer of at least 1, not 6.0"),
        ({"generations": -1}, "generations must be an integer of at least 0, not -1"),
        ({"inertia": 1.5}, "inertia must be a number from 0 up to 1, not 1.5"),
        ({"inertia": "0.5"}, "inertia must be a number from 0 up to 1, not '0.5'"),
        ({"cognitive": -0.1}, "cognitive must be a number from 0, not -0.1"),
        ({"social": math.inf}, "social must be a number from 0, not inf"),
        ({"velocity": "random"}, "velocity must be one of halfway, uniform, literal, zero, not 'random'"),
        ({"bounds": "wrap"}, "bounds must be one of clip, reflect, unbounded, not 'wrap'"),
        ({"local": "best"}, "local must be one of personal, iteration, not 'best'"),
        ({"update": "async"}, "update must be one of sync, in_place, not 'async'"),
        ({"max_velocity": 0}, "max_velocity must be a number above 0, not 0"),
        ({"stop_velocity": -1.0}, "stop_velocity must be a number above 0, not -1.0"),
        (
            {"stop_velocity": 1e-3, "inertia": 0.5, "cognitive": 2.0, "social": 2.0},
            r"stop_velocity \(spectral radius 1.0000\)",
        ),
        ({"bounds": "unbounded", "cognitive": 3.0, "social": 3.0}, "fly away .* take bounds clip or reflect"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InvalidOptimizer, match=f"^PSO: .*{text}"):
        PSO(**options)


@pytest.mark.parametrize("kind", [PSO, AsyncPSO])
def test_the_first_particle_starts_at_the_defaults_if_it_is_asked_to(kind):
    space = Space({"x": Integer(1, 9, default=4), "y": Real(1e-4, 1.0, log=True, default=1e-2)})
    plain, known = (kind(particles=3, defaults=defaults).start(space, seed=1) for defaults in (False, True))
    first, *others = [(plain.ask(), known.ask()) for _ in range(3)]
    assert first[1].params["x"] == 4
    assert first[1].params["y"] == pytest.approx(1e-2)
    assert first[0].params != first[1].params
    assert all(one == other for one, other in others)  # the other particles are where they were


def test_defaults_that_are_not_there_are_refused():
    with pytest.raises(InvalidOptimizer, match="default of every parameter"):
        PSO(defaults=True).start(Space({"x": Integer(1, 9)}), seed=1)
