"""What every search method promises. A method listed in ``OPTIMIZERS`` is tested by being listed.

Give it small options in ``OPTIONS`` if its defaults ask for many trials.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from swarm.errors import InvalidOptimizer, InvalidSpace
from swarm.optimizers import OPTIMIZERS
from swarm.optimizers.base import rank
from swarm.space import Choice, Integer, Real, Space

GA = {"population": 5, "generations": 5, "mutation": 0.2}
PBT = {"population": 4, "max_budget": 5, "mutation": 0.2}
OPTIONS = {
    "AsyncPSO": {"particles": 4, "generations": 6},
    "BOHB": {"min_budget": 1, "max_budget": 9, "iterations": 5},
    "GA": GA,
    "Grid": {"points": 3, "shuffle": True},
    "PBT": PBT,
    "MuPlusLambda": {"evaluations": 14, "gene_rate": 0.4, "length_rate": 0.4, "adapt": True},
    "Hyperband": {"min_budget": 1, "max_budget": 9, "iterations": 5},
    "PSO": {"particles": 4, "generations": 6},
    "Random": {"trials": 30},
    "SurrogatePSO": {"trials": 24, "particles": 5, "moves": 6, "near": 12, "anywhere": 8, "refine": 1, "limit": 20},
    "Staged": {"stages": [[1, 15], [3, 10], [9, 5]], "patience": 6},
    "TPE": {"trials": 40},
}
pytestmark = pytest.mark.matrix(times=2)  # of the six spaces each variant of a method meets two, all in make test-all
SPACES = {
    "mixed": Space({"n": Integer(1, 40), "lr": Real(1e-4, 1, log=True), "act": Choice("a", "b", "c"), "batch": 32}),
    "conditional": Space(
        {"act": Choice("a", "b", "c"), "slope": Real(0.01, 1, log=True), "n": Integer(1, 8)},
        when={"slope": {"act": ["a", "b"]}},
    ),
    "finite": Space({"n": Integer(1, 12), "k": Integer(2, 6), "flag": Choice(False, True)}),
    "as programs have them": Space(
        {
            "depth": Choice(None, 1, 1.0, True, "1", [1], (1,), {"a": [None]}),
            "model": {"units": Integer(64, 256, step=64), "kernel": (3, 3)},
            "learning-rate": Real(1e-4, 1, log=True),
            "lambda": Real(0, 0.5, step=0.25),
            "batch": Integer(1, 4, log=True),
            "warmup": None,
            "layers": [64, {"units": 32}],
        },
        when={"lambda": {"depth": [None, (1,)]}},
    ),
    "constrained": Space(
        {
            "net": {"units_1": Integer(1, 9), "units_2": Integer(1, 9, step=2), "act": Choice("a", None)},
            "rate": Real(0, 1),
        },
        constraint=["net.units_2 <= net.units_1", lambda params: params["net.act"] == "a" or params["rate"] > 0.2],
    ),
    "few allowed": Space(
        {"a": Integer(1, 8), "b": Integer(1, 8), "flag": Choice(False, None)}, constraint="a + b == 9 and a != 3"
    ),
}
SLOTS = 5
VARIANTS = {
    **{name: (name, OPTIONS.get(name, {})) for name in OPTIMIZERS if name not in ("Demes", "Rescored")},
    "GA, all options": ("GA", {**GA, "children": "overproduce", "elite": 2, "ploidy": 2, "recombination": "runlength"}),
    "MuPlusLambda, step": ("MuPlusLambda", {**OPTIONS["MuPlusLambda"], "mutation": "step", "migrants": 3}),
    "PBT, async": ("PBT", {**PBT, "update": "async"}),
    "PBT, truncation": ("PBT", {**PBT, "scheme": "truncation"}),
    "PBT, truncation, async": ("PBT", {**PBT, "scheme": "truncation", "update": "async"}),
}
DEMES = {
    "GA": {"interval": 2},
    "PBT": {"rate": 0.1, "torus": True, "rows": 3, "columns": 1},
    "PSO": {"interval": 1, "rows": 1, "columns": 3},
}
RESCORED = ("GA", "Hyperband", "Random")


@pytest.fixture(
    params=[*VARIANTS, *(f"Demes of {name}" for name in DEMES), *(f"Rescored of {name}" for name in RESCORED)]
)
def options(request):
    if request.param in VARIANTS:
        name, options = VARIANTS[request.param]
        return OPTIMIZERS[name](**options)
    if request.param.startswith("Rescored of "):
        name = request.param.removeprefix("Rescored of ")
        return OPTIMIZERS["Rescored"](of=OPTIMIZERS[name](**OPTIONS[name]), top=4, budget=81)
    name = request.param.removeprefix("Demes of ")
    return OPTIMIZERS["Demes"](of=OPTIMIZERS[name](**OPTIONS[name]), **DEMES[name])


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


def drive(optimizer, loss, *, order=None, slots=SLOTS, limit=5000):
    """Run to the end on a number of slots and return every call: ('ask', trial or None), ('tell', trial, loss).

    The trials that are flying land in the order of their ids, or at random with a random generator as ``order``.
    """
    calls, flying = [], []
    while not optimizer.done:
        while len(flying) < slots:
            trial = optimizer.ask()
            calls.append(("ask", trial))
            if trial is None:
                break
            flying.append(trial)
        assert flying, "the optimizer is not done, but asks for nothing although all is told"
        assert len(calls) < limit, "the optimizer does not end"
        trial = flying.pop(0 if order is None else int(order.integers(len(flying))))
        value = loss(trial)
        optimizer.tell(trial, value)
        calls.append(("tell", trial, value))
    assert not flying
    return calls


def asked(calls):
    return [call[1] for call in calls if call[0] == "ask" and call[1] is not None]


def told(calls):
    return [call[1:] for call in calls if call[0] == "tell"]


def bowl(space):
    """A smooth loss with ties, that is a function of the parameters alone."""
    return lambda trial: round(float(((space.encode(trial.params) - 0.4) ** 2).sum()), 2)


def failing_now_and_then(space):
    """Every third trial fails, in each way there is to say so."""
    ways = itertools.cycle([None, math.nan, math.inf, -math.inf])
    return lambda trial: next(ways) if trial.id % 3 == 0 else bowl(space)(trial)


def test_it_ends_and_tells_its_best_whatever_the_order_of_the_results(options, space):
    for seed in range(3):
        optimizer = options.start(space, seed=seed)
        calls = drive(optimizer, bowl(space), order=np.random.default_rng(seed))
        trials, results = asked(calls), told(calls)
        assert optimizer.done and optimizer.ask() is None
        assert sorted(trial.id for trial in trials) == list(range(len(trials)))
        assert optimizer.planned is None or len(trials) <= optimizer.planned
        assert optimizer.best == min(results, key=lambda result: rank(*result))
        assert optimizer.finalists() == [optimizer.best]


def test_every_configuration_belongs_to_the_space(options, space):
    for trial in asked(drive(options.start(space, seed=3), bowl(space))):
        space.check(trial.params)
        assert trial.generation >= 0 and trial.member >= 0 and trial.fold is None


def test_generations_do_not_depend_on_the_number_of_slots_or_the_order_of_the_results(options, space):
    if not options.generational:
        pytest.skip("only methods with generations promise this")
    runs = []
    for slots, order in ((1, None), (3, None), (64, np.random.default_rng(1)), (64, np.random.default_rng(2))):
        optimizer = options.start(space, seed=5)
        trials = asked(drive(optimizer, bowl(space), slots=slots, order=order))
        runs.append((sorted(trials, key=lambda trial: trial.id), optimizer.best))
    assert all(run == runs[0] for run in runs)


def test_the_same_seed_gives_the_same_run_and_another_seed_or_fold_another(options, space):
    first, again, other, fold = (
        asked(drive(options.start(space, **start), bowl(space)))
        for start in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"seed": 1, "fold": 3})
    )
    assert first == again
    assert [trial.params for trial in first] != [trial.params for trial in other]
    assert [trial.params for trial in first] != [trial.params for trial in fold]
    assert {trial.fold for trial in fold} == {3}


def test_the_options_stay_as_they_are_and_can_be_started_again(options, space):
    described = repr(options)
    runs = [options.start(space, seed=1) for _ in range(2)]
    first = drive(runs[0], bowl(space))
    assert runs[1].best is None and not runs[1].done
    assert drive(runs[1], bowl(space)) == first
    assert repr(options) == described == repr(runs[0])
    assert options == runs[0]
    assert drive(runs[0].start(space, seed=1), bowl(space)) == first


def test_it_goes_on_if_some_fail_and_a_failure_is_never_the_best(options, space):
    optimizer = options.start(space, seed=4)
    results = told(drive(optimizer, failing_now_and_then(space), order=np.random.default_rng(4)))
    succeeded = [(trial, loss) for trial, loss in results if loss is not None and math.isfinite(loss)]
    assert 0 < len(succeeded) < len(results)
    assert optimizer.best == min(succeeded, key=lambda result: rank(*result))


def test_it_ends_without_a_best_if_all_fail(options, space):
    optimizer = options.start(space, seed=4)
    assert told(drive(optimizer, lambda trial: None))
    assert optimizer.best is None and optimizer.finalists() == []


def test_a_replay_of_any_beginning_asks_for_the_same_trials(options, space):
    calls = drive(options.start(space, seed=6), failing_now_and_then(space), order=np.random.default_rng(6))
    for length in range(0, len(calls) + 1, max(7, len(calls) // 12)):
        optimizer = options.start(space, seed=6)
        for call in calls[:length]:
            if call[0] == "ask":
                assert optimizer.ask() == call[1]
            else:
                optimizer.tell(call[1], call[2])
        rest = calls[length:]
        upcoming = list(itertools.takewhile(lambda call: call[0] == "ask", rest))
        assert [optimizer.ask() for _ in upcoming] == [call[1] for call in upcoming]


def test_a_result_that_is_not_awaited_is_refused_and_changes_nothing(options, space):
    undisturbed = drive(options.start(space, seed=7), bowl(space))
    optimizer = options.start(space, seed=7)
    stranger = options.start(space, seed=8).ask()
    refused = 0

    def loss(trial):
        nonlocal refused
        for wrong in (stranger, *finished[-2:]):
            if wrong != trial:
                with pytest.raises(InvalidOptimizer, match="not open: tell each trial once"):
                    optimizer.tell(wrong, -1.0)
                refused += 1
        finished.append(trial)
        return bowl(space)(trial)

    finished = []
    assert drive(optimizer, loss) == undisturbed
    assert refused > len(finished)


def test_the_first_trial_told_twice_is_refused(options, space):
    optimizer = options.start(space)
    trial = optimizer.ask()
    optimizer.tell(trial, 0.5)
    with pytest.raises(InvalidOptimizer, match=f"trial {trial.id} is not open"):
        optimizer.tell(trial, 0.25)
    assert optimizer.best == (trial, 0.5)


def test_several_losses_are_taken_by_a_method_that_compares_and_refused_by_others(options, space):
    optimizer = options.start(space)
    trial = optimizer.ask()
    with pytest.raises(InvalidOptimizer, match="takes one loss of a trial, not 0"):
        optimizer.tell(trial, ())
    if not optimizer.compares:
        with pytest.raises(InvalidOptimizer, match="takes one loss of a trial, not 2"):
            optimizer.tell(trial, (0.5, 0.25))
    assert optimizer.best is None
    optimizer.tell(trial, (0.5, 0.25) if optimizer.compares else (0.5,))
    assert optimizer.best == (trial, 0.5)


def test_before_the_start_it_says_to_start_it(options):
    trial = options.start(SPACES["finite"]).ask()
    for call in (options.ask, lambda: options.tell(trial, 1.0)):
        with pytest.raises(InvalidOptimizer, match=r"call start\(space"):
            call()
    assert not options.done and options.best is None and options.planned is None


@pytest.mark.parametrize("start", [{"seed": -1}, {"seed": 1.5}, {"fold": -1}])
def test_a_seed_or_fold_that_cannot_be_is_refused(options, start):
    with pytest.raises(InvalidOptimizer, match="at least 0"):
        options.start(SPACES["finite"], **start)


def test_parents_are_trials_that_were_asked(options, space):
    optimizer = options.start(space, seed=9)
    known = set()

    def loss(trial):
        known.add(trial.id)
        assert optimizer.parents() <= known
        assert trial.parent is None or trial.parent in known
        return bowl(space)(trial)

    drive(optimizer, loss, slots=1)


RAISED = {  # a limit of each method that has one, and what it is raised to
    "AsyncPSO": {"generations": 9},
    "BOHB": {"iterations": 8},
    "GA": {"generations": 8},
    "Hyperband": {"iterations": 8},
    "MuPlusLambda": {"restarts": 4},
    "PSO": {"generations": 9},
    "Random": {"trials": 50},
    "Staged": {"stages": [[1, 15], [3, 10], [9, 5], [27, 6]]},
    "SurrogatePSO": {"trials": 34},
    "TPE": {"trials": 55},
}


def test_every_method_has_limits_that_can_be_raised_or_says_why_not():
    without = {"Grid": "all of it is tried", "PBT": "its checkpoints are gone", "Rescored": "its finalists are chosen"}
    assert {name for name, method in OPTIMIZERS.items() if method.limits} == {*RAISED, "Demes"}
    assert OPTIMIZERS.keys() - {*RAISED, "Demes"} == without.keys()


def raised(options):
    """The same options with a higher limit; None if there is none that can be raised."""
    name = type(options).__name__
    if name == "Demes" and options.of.limits:
        return dataclasses.replace(options, of=raised(options.of))
    return dataclasses.replace(options, **RAISED[name]) if name in RAISED else None


@pytest.mark.parametrize("fold", [None, 2])
def test_with_higher_limits_it_goes_on_as_if_it_had_begun_with_them(options, space, fold):
    if (higher := raised(options)) is None:
        pytest.skip("it has no limit that can be raised")
    slots = (1, 7) if options.generational else (1,)
    for each in slots:
        optimizer = options.start(space, seed=11, fold=fold)
        calls = drive(optimizer, failing_now_and_then(space), slots=each)
        optimizer.take_limits(higher)
        calls += drive(optimizer, failing_now_and_then(space), slots=each)
        expected = higher.start(space, seed=11, fold=fold)
        wanted = drive(expected, failing_now_and_then(space), slots=each)
        assert sorted(asked(calls), key=lambda each: each.id) == sorted(asked(wanted), key=lambda each: each.id)
        assert optimizer.best == expected.best
        assert (optimizer.planned, optimizer.done) == (expected.planned, True)


def test_limits_that_are_lowered_before_the_first_trial_are_those_of_the_run(options, space):
    if (higher := raised(options)) is None:
        pytest.skip("it has no limit that can be raised")
    optimizer = higher.start(space, seed=11)
    optimizer.take_limits(options)
    assert drive(optimizer, bowl(space)) == drive(options.start(space, seed=11), bowl(space))
    assert optimizer == options


def test_only_a_limit_that_is_higher_is_raised(options):
    if (higher := raised(options)) is None:
        assert not any(options.raises(option, 0) for option in vars(options) if not option.startswith("_"))
        return
    while type(higher).__name__ == "Demes":
        assert type(higher).limits == ("of",)
        higher, options = higher.of, options.of
    [option] = RAISED[type(higher).__name__]
    assert higher.raises(option, getattr(options, option))
    assert not options.raises(option, getattr(higher, option))
    assert not higher.raises("seed", 1)


GIVEN = {  # whole, in part, and with a condition
    "mixed": [{"n": 7, "lr": 0.25, "act": "b", "batch": 32}, {"n": 40, "act": "a"}, {}],
    "conditional": [{"act": "c", "n": 8}, {"slope": 0.5, "n": 1}, {"slope": 0.01}],
    "finite": [{"n": 12, "k": 2, "flag": True}, {"flag": False}, {"n": 1, "k": 6}],
    "as programs have them": [{"depth": (1,), "lambda": 0.25}, {"model.units": 128, "learning-rate": 0.5}, {}],
    "constrained": [{"net.units_1": 4, "net.units_2": 3, "net.act": "a", "rate": 0.0}, {"net.units_2": 7}, {}],
    "few allowed": [{"a": 1, "b": 8, "flag": None}, {"b": 5}, {"flag": False}],
}


def given_to(space):
    return GIVEN[next(name for name, each in SPACES.items() if each is space)]


def test_what_it_is_given_it_asks_for_before_anything_else_and_learns_from(options, space):
    given = given_to(space)
    optimizer = options.start(space, seed=13)
    optimizer.give(given)
    calls = drive(optimizer, failing_now_and_then(space), slots=1)
    trials = asked(calls)
    for part, trial in zip(given, trials, strict=False):
        space.check(trial.params)
        assert part.items() <= trial.params.items()
    assert optimizer.best == min(
        (each for each in told(calls) if each[1] and math.isfinite(each[1])), key=lambda each: rank(*each)
    )
    assert optimizer.planned is None or len(trials) <= optimizer.planned
    again = options.start(space, seed=13)
    again.give(given)
    assert drive(again, failing_now_and_then(space), slots=1) == calls


def test_what_it_is_given_amid_a_search_comes_next_and_a_replay_is_exact(options, space):
    if type(options).__name__ == "PBT" or type(getattr(options, "of", None)).__name__ == "PBT":
        pytest.skip("its networks have begun")
    given = given_to(space)[:2]
    optimizer, calls = options.start(space, seed=14), []
    loss = bowl(space)
    while not optimizer.done:
        if len(calls) in (9, 22):
            optimizer.give(given)
            calls.append(("give", given))
        trial = optimizer.ask()
        calls.append(("ask", trial))
        if trial is not None:
            optimizer.tell(trial, loss(trial))
            calls.append(("tell", trial))
    tried = [call[1].params for call in calls if call[0] == "ask" and call[1] is not None]
    for part in given:
        assert any(part.items() <= params.items() for params in tried)
    again = options.start(space, seed=14)
    for call in calls:
        if call[0] == "give":
            again.give(call[1])
        elif call[0] == "tell":
            again.tell(call[1], loss(call[1]))
        elif call[1] is not None:
            again.asked(call[1])
    assert (again.best, again.done) == (optimizer.best, True)


@pytest.mark.parametrize("wrong", [{"nn": 3}, {"n": 99}, {"n": "3"}], ids=str)
def test_what_does_not_belong_to_the_space_is_not_taken(options, space, wrong):
    optimizer = options.start(space, seed=15)
    with pytest.raises(InvalidSpace, match="there is no such parameter|outside of the space"):
        optimizer.give([{"n": 3}, wrong])
    assert drive(optimizer, bowl(space)) == drive(options.start(space, seed=15), bowl(space))
