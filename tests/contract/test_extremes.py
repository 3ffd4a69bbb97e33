"""What every method promises at the ends of what numbers can be: huge losses, huge plans, numbers of NumPy.

A method listed in ``OPTIMIZERS`` is tested by being listed. Warnings are errors, so an overflow fails.
"""

import dataclasses
import json
import math
import sys
import tracemalloc

import numpy as np
import pytest
from test_optimizers import DEMES, OPTIONS, SPACES, VARIANTS, asked, bowl, drive, told

from swarm import Job
from swarm.optimizers import OPTIMIZERS, Demes, MuPlusLambda, Rescored
from swarm.optimizers.base import rank
from swarm.optimizers.folds import Folds
from swarm.optimizers.replay import Replay
from swarm.space import Integer, Space

HUGE = sys.float_info.max
METHODS = {
    **{name: OPTIMIZERS[kind](**options) for name, (kind, options) in VARIANTS.items()},
    **{f"GA, {scale}": OPTIMIZERS["GA"](**OPTIONS["GA"], scale=scale) for scale in ("rank", "log")},
    **{f"Demes of {name}": Demes(of=OPTIMIZERS[name](**OPTIONS[name]), **DEMES[name]) for name in DEMES},
    "Rescored of TPE": Rescored(of=OPTIMIZERS["TPE"](trials=20), top=4, budget=81),
    "Folds of GA": Folds(OPTIMIZERS["GA"](**OPTIONS["GA"]), 2),
}
LOSSES = {
    "of both signs": [-1e308, 1e308, 3.0, -1e308],
    "the largest there are": [HUGE, -HUGE, HUGE],
    "all the same": [1e308],
    "with failures": [1e308, None, -1e308, math.nan],
    "large and tiny": [1e308, 1e-308, 5e-324, -0.0, -1e-308],
}


@pytest.mark.parametrize("pattern", LOSSES)
@pytest.mark.parametrize("method", METHODS)
def test_losses_at_the_end_of_the_floats_neither_overflow_nor_stall(method, pattern):
    values, space = LOSSES[pattern], SPACES["mixed"]
    optimizer = METHODS[method].start(space, seed=3)
    draws = np.random.default_rng(5)
    calls = drive(optimizer, lambda trial: values[int(draws.integers(len(values)))], order=np.random.default_rng(1))
    for trial in asked(calls):
        space.check(trial.params)
    finite = [(trial, loss) for trial, loss in told(calls) if loss is not None and math.isfinite(loss)]
    if not isinstance(METHODS[method], Folds):
        assert optimizer.best == min(finite, key=lambda result: rank(*result))


@pytest.mark.parametrize("adapt", [False, True])
def test_several_huge_losses_of_a_trial_are_compared_as_small_ones_are(adapt):
    options = MuPlusLambda(evaluations=40, restarts=1, adapt=adapt, gene_rate=0.5)
    runs = []
    for scale in (2.0**-1000, 1.0, 2.0**1020):  # of losses below 4
        optimizer, losses = options.start(SPACES["mixed"], seed=3), np.random.default_rng(7)
        calls = drive(optimizer, lambda trial: tuple(scale * losses.uniform(-8, 8, size=2)))  # noqa: B023
        runs.append([trial.params for trial in asked(calls)])
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("method", [name for name in METHODS if "log" not in name])
def test_what_a_method_asks_does_not_depend_on_the_scale_of_the_losses(method):
    runs = []
    for scale in (2.0**-900, 1.0, 2.0**1000):  # exact factors
        if method.startswith("Staged") and scale != 1.0:
            continue  # whose tolerance is in units of the loss
        loss = bowl(SPACES["mixed"])
        calls = drive(METHODS[method].start(SPACES["mixed"], seed=2), lambda trial: scale * loss(trial))  # noqa: B023
        runs.append([trial.params for trial in asked(calls)])
    assert all(run == runs[0] for run in runs)


def test_a_step_that_grows_for_ever_stays_a_step():
    options = MuPlusLambda(evaluations=3000, restarts=0, gene_rate=1.0, mutation="step", adapt=True, literal=True)
    numbers = {f"n_{k}": Integer(1, 9) for k in (1, 2)}
    space = Space({"look": Integer(1, 9), "n": Integer(1, 2)} | numbers, when={"n_1": {"n": [1, 2]}, "n_2": {"n": [2]}})
    optimizer = options.start(space)
    drive(optimizer, lambda trial: 1.0, limit=10**5)  # to the library, a mean that stays is one that improves
    assert optimizer.best is not None


# --- plans

SMALL, LARGE = 3, 10**9
PLANNED = {
    "AsyncPSO": lambda n: {"generations": n},
    "BOHB": lambda n: {"min_budget": 1, "max_budget": 9, "iterations": n},
    "Demes": lambda n: {"of": OPTIMIZERS["GA"](population=4, generations=n)},
    "GA": lambda n: {"population": 4, "generations": n, "children": "overproduce", "elite": 1},
    "Grid": lambda n: {"points": n},
    "Hyperband": lambda n: {"min_budget": 1, "max_budget": 9, "iterations": n},
    "MuPlusLambda": lambda n: {"evaluations": n, "restarts": n},
    "PBT": lambda n: {"population": 4, "max_budget": n},
    "PSO": lambda n: {"generations": n},
    "Random": lambda n: {"trials": n},
    "Rescored": lambda n: {"of": OPTIMIZERS["Random"](trials=n), "top": n},
    "Staged": lambda n: {"stages": [[1, n], [3, n]]},
    "SurrogatePSO": lambda n: {"trials": n},
    "TPE": lambda n: {"trials": n},
}


def test_every_method_has_a_plan_to_enlarge():
    assert set(PLANNED) == set(OPTIMIZERS)


def cost_of_beginning(options, space, seed=1):
    """Function calls of a start and the first trials, and the most memory that they took, in bytes."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    tracemalloc.start()
    sys.setprofile(count)
    optimizer = options.start(space, seed=seed)
    for _ in range(3):
        assert optimizer.planned is None or optimizer.planned > 0
        optimizer.tell(optimizer.ask(), 1.0)
    sys.setprofile(None)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return calls, most


@pytest.mark.parametrize("method", PLANNED)
def test_the_cost_of_a_start_and_a_trial_does_not_grow_with_the_plan(method):
    small, large = (OPTIMIZERS[method](**PLANNED[method](n)) for n in (SMALL, LARGE))
    cost_of_beginning(small, SPACES["mixed"])  # what is imported and cached, once
    calls, most = cost_of_beginning(small, SPACES["mixed"])
    more_calls, more = cost_of_beginning(large, SPACES["mixed"])
    assert more_calls < 2 * calls + 100 and more < 2 * most + 10_000


@pytest.mark.parametrize("method", PLANNED)
def test_the_cost_of_a_start_and_a_trial_does_not_grow_with_the_domains(method):
    options = OPTIMIZERS[method](**PLANNED[method](SMALL))
    small, large = (Space({"n": Integer(1, high), "k": Integer(1, high), "m": Integer(0, high)}) for high in (9, 10**9))
    cost_of_beginning(options, small)
    calls, most = cost_of_beginning(options, small)
    more_calls, more = cost_of_beginning(options, large)
    assert more_calls < 3 * calls + 100 and more < 2 * most + 10_000  # a permutation of more bits takes some more turns


# --- numbers of NumPy


def of_numpy(value):
    """The same value, as NumPy has it."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value) if value % 2 else np.array(value)
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, str):
        return np.str_(value)
    if isinstance(value, dict):
        return {name: of_numpy(each) for name, each in value.items()}
    return type(value)(map(of_numpy, value)) if isinstance(value, list | tuple) else value


def of_python(value):
    """Whether there is nothing but Python's own values in it."""
    if isinstance(value, dict):
        return all(map(of_python, value.values()))
    if isinstance(value, list | tuple):
        return all(map(of_python, value))
    return value is None or type(value) in (bool, int, float, str) or dataclasses.is_dataclass(value)


@pytest.mark.parametrize("method", [*METHODS, "Replay"])
def test_options_may_be_numbers_of_numpy(method):
    options = METHODS.get(method, Replay(steps=[{"budget": 1, "params": {"n": 3}}, {"budget": 2, "params": {"n": 4}}]))
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    same = type(options)(**of_numpy(fields))
    assert same == options and repr(same) == repr(options)
    assert all(of_python(getattr(same, name)) for name in fields)
    space = SPACES["mixed"] if method != "Replay" else Space({"n": Integer(1, 9)})
    loss = bowl(space)
    first = drive(options.start(space, seed=5), loss)
    assert drive(same.start(space, seed=np.uint32(5)), loss) == first
    assert all(of_python(trial.params) for trial in asked(first))
    json.dumps([dataclasses.asdict(trial) for trial in asked(first)])


@pytest.mark.parametrize("method", sorted(OPTIMIZERS))
def test_a_job_may_have_numbers_of_numpy_in_its_options(method):
    options = {**OPTIONS.get(method, {}), "name": method}
    if method in ("Demes", "Rescored"):
        options["of"] = {"name": "GA", "population": 4, "generations": 2}
    space = {"n": {"integer": [1, 9]}, "x": {"real": [0.0, 1.0], "default": 0.5}, "act": {"choice": ["a", "b"]}, "k": 3}
    fields = {"seed": 3, "folds": 2, "time_limit": 5.0, "checkpoints": True, "stop": {"target": 0.5, "evaluations": 4}}
    data = {"name": "job", "optimizer": options, "space": space, **fields}
    one = Job(problem=lambda params, ctx: 1.0, **data)
    other = Job(problem=lambda params, ctx: 1.0, **of_numpy(data))
    assert {**other.to_dict(), "problem": None} == {**one.to_dict(), "problem": None}
