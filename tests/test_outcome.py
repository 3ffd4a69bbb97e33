"""What became of a trial: one definition of its status, its fitness, its metrics and its error."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from swarm import Integer, Job, Random
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.runs.history import trials
from swarm.search import Search
from swarm.store import Store
from swarm.store.outcome import RUNNING, outcome
from swarm.store.records import Source
from swarm.trial import Evaluation, Result, Status, mean

OK = Result(key="a", status=Status.OK, fitness=1.7, metrics={"loss": 0.1, "size": 3.0})
ALSO = Result(key="b", status=Status.OK, fitness=1.8, metrics={"size": 4.0, "loss": 0.2})
PRUNED = Result(key="c", status=Status.PRUNED, fitness=1.9, metrics={"loss": 0.3}, error="ended early\n")
FAILED = Result(key="d", status=Status.FAILED, error="ValueError: too large\nTraceback")


def test_a_trial_is_as_good_as_the_mean_of_all_its_trainings_and_fails_with_any_of_them() -> None:
    found = outcome([Source.TRAINED] * 2, [OK, ALSO])
    assert (found.status, found.fitness, found.error) == ("ok", 1.75, None)
    assert list(found.metrics.items()) == [("loss", mean([0.1, 0.2])), ("size", 3.5)]
    found = outcome([Source.TRAINED] * 3, [OK, ALSO, PRUNED])
    assert (found.status, found.fitness, found.metrics) == ("pruned", 1.8, {"loss": mean([0.1, 0.2, 0.3])})
    found = outcome([Source.TRAINED] * 3, [PRUNED, OK, FAILED])
    assert (found.status, found.fitness, found.metrics) == ("failed", None, {})
    assert found.error == "ValueError: too large"
    found = outcome([Source.TRAINED] * 2, [OK, None])
    assert (found.status, found.fitness, found.metrics) == (RUNNING, None, {})


def test_what_a_journal_wrote_before_there_were_metrics_is_read() -> None:
    old = {name: value for name, value in OK.to_dict().items() if name != "metrics"}
    assert outcome([Source.ARCHIVE], [Result.from_dict(old)]).metrics == {}


@pytest.mark.parametrize("values", list(itertools.permutations([1.0, 1.1, 1.2])))
def test_the_mean_is_the_float_nearest_to_it_in_any_order(values: tuple[float, ...]) -> None:
    assert mean(values) == 1.1  # math.fsum(values) / 3 is 1.0999999999999999


def test_the_search_and_its_history_count_the_same_trials_as_failed_and_for_the_same_reason(
    open_store: Callable[..., Store],
) -> None:
    def train(evaluation: Evaluation) -> Any:
        return Status.CRASHED if evaluation.params["x"] % 3 == evaluation.repeat else float(evaluation.params["x"])

    job = Job(name="job", problem=lambda p, c: 0.0, space={"x": Integer(0, 11)}, optimizer=Random(trials=12), repeats=2)
    store = open_store()
    enroll(job, store)
    search = Search(job, store)
    asyncio.run(search.run(VirtualPool(3, train)))
    table = trials(store.events("job"))
    failed = table[table["status"] == "failed"]
    assert len(failed) == search.state.counts["failed"] == 8
    assert dict(failed["error"].value_counts()) == dict(search.state.errors)
