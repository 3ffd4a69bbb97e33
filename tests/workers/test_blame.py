"""Whose fault a failure is: the configuration's, wherever and whenever it is trained, or one job's alone."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import swarm
from swarm.trial import Criterion, Evaluation, Status
from swarm.workers.evaluate import evaluate


class TooDeep(swarm.Infeasible):
    """A reason of the user's own."""


def refuse(depth=0):
    raise TooDeep("no room for another layer")


async def refused_together():
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(asyncio.to_thread(refuse))


def infeasible(params, ctx):
    match params["how"]:
        case "here":
            raise swarm.Infeasible("no room")
        case "without a text":
            raise swarm.Infeasible
        case "by a class of mine":
            refuse()
        case "in a thread":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(refuse).result()
        case "in a process":
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(refuse).result()
        case "in a group":
            asyncio.run(refused_together())
        case "after the package was imported anew":
            for name in [name for name in sys.modules if name.split(".")[0] == "swarm"]:
                del sys.modules[name]
            from swarm.errors import Infeasible

            raise Infeasible("no room")
    return 1.0


class NoTruth:
    def __float__(self):
        raise ValueError("not one number")

    def __repr__(self):
        raise RuntimeError("no text either")


NOT_FINITE = {
    "nan": math.nan,
    "inf": math.inf,
    "numpy": np.float32("-inf"),
    "array": np.array(math.nan),
    "large": 10**400,
    "mapping": {"fitness": math.nan, "loss": 1.0},
}
NO_NUMBER = {"none": None, "text": "0.5", "arrays": np.zeros(2), "odd": NoTruth(), "missing": {"loss": 1.0}}
RETURNED = NOT_FINITE | NO_NUMBER


def returns(params, ctx):
    return RETURNED[params["what"]]


def stumbles(params, ctx):
    match params["how"]:
        case "file":
            Path("/no/such/place").read_text()
        case "package":
            import no_such_package  # noqa: F401
        case "memory":
            raise MemoryError("taken by a neighbour")
        case "half infeasible":
            raise ExceptionGroup("both", [swarm.Infeasible("no room"), OSError("unreachable")])
        case "system exit":
            sys.exit(3)
        case "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "thread":
            failed = []
            thread = threading.Thread(target=lambda: failed.append(1))
            thread.start()
            thread.join()
            raise OSError("unreachable")


def run(problem, params, **options):
    return evaluate(cloudpickle.dumps(problem), Evaluation.of("p", params, **options))


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize(
    "how", ["here", "without a text", "by a class of mine", "in a thread", "in a process", "in a group"]
)
def test_what_is_infeasible_is_the_configurations_fault_wherever_it_was_raised(how, isolation):
    result = run(infeasible, {"how": how}, isolation=isolation)
    assert (result.status, result.blamed, result.answers_others) == (Status.FAILED, True, True)


def test_a_package_that_was_imported_anew_says_the_same():
    assert run(infeasible, {"how": "after the package was imported anew"}).blamed


@pytest.mark.parametrize("what", NOT_FINITE)
def test_a_fitness_that_is_no_finite_number_is_the_configurations_fault(what):
    result = run(returns, {"what": what}, isolation="thread")
    assert (result.status, result.blamed) == (Status.FAILED, True)
    assert "no finite number" in result.error


@pytest.mark.parametrize("what", NO_NUMBER)
def test_a_fitness_that_is_missing_or_no_number_is_the_codes_fault(what):
    result = run(returns, {"what": what}, isolation="thread")
    assert (result.status, result.blamed) == (Status.FAILED, False)


@pytest.mark.parametrize(
    ("values", "merit", "blamed"),
    [
        ({"loss": math.nan}, {"loss": 1.0}, True),
        ({"loss": 1e308, "size": 1e308}, {"loss": 1e308, "size": 1.0}, True),
        ({"loss": 1e308, "size": 1e308}, {"loss": 1e308, "size": -1e308}, True),
        ({"size": 1.0}, {"loss": 1.0}, False),
        ({"size": 1.0}, (Criterion(metric="loss", direction="minimize"),), False),
    ],
)
def test_so_is_a_sum_of_metrics_without_a_finite_value_but_not_a_metric_that_is_missing(values, merit, blamed):
    result = run(lambda params, ctx: values, {}, isolation="thread", merit=merit)
    assert (result.status, result.blamed) == (Status.FAILED, blamed)


@pytest.mark.parametrize("how", ["file", "package", "memory", "half infeasible", "thread"])
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_any_other_exception_is_not(how, isolation):
    result = run(stumbles, {"how": how}, isolation=isolation)
    assert (result.status, result.blamed, result.answers_others) == (Status.FAILED, False, False)


@pytest.mark.parametrize(("how", "blamed"), [("system exit", True), ("segfault", True), ("terminated", False)])
def test_a_process_that_died_by_itself_blames_its_configuration_and_one_that_was_ended_does_not(how, blamed):
    result = run(stumbles, {"how": how})
    assert (result.status, result.blamed) == (Status.CRASHED, blamed)
    assert not result.answers_others, "once is not enough"


def test_neither_its_time_limit_nor_a_problem_that_cannot_be_loaded_is_the_configurations_fault():
    assert not run(returns, {"what": "nan"}, isolation="thread", time_limit=1e-9).blamed
    assert not evaluate(b"no pickle", Evaluation.of("p", {}, isolation="thread")).blamed
