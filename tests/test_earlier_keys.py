"""A journal whose keys another version calculated is gone on with, under those keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from swarm import GA, Integer, Job, Real
from swarm.plain import canonical
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Asked, Began, Lookup
from swarm.store.records import Source
from swarm.trial import Evaluation, Trial

OLD = "0123456789abcdef0123456789abcdef01234567"


def train(params: Any, ctx: Any) -> float:
    return 0.0


def test_what_was_asked_under_an_earlier_key_is_trained_under_it(open_store: Callable[..., Store]) -> None:
    method = GA(population=4, generations=1, initial=[{"x": 2, "n": 3}])
    job = Job(name="job", problem=train, space={"x": Real(0, 9), "n": Integer(1, 9)}, optimizer=method)
    store, asked = open_store(), []
    enroll(job, store)
    optimizer = job.start()
    for number in range(4):
        trial = optimizer.ask()
        assert trial is not None
        params = {"x": 2, "n": 3} if number == 0 else dict(trial.params)  # as the user had written it
        key = OLD if number == 0 else job.evaluations(trial)[0].key
        known = Trial(id=number, params=params, member=trial.member)
        asked.append(Asked(trial=known, evaluations=(Lookup(key, Source.TRAINED),)))
    store.append("job", 0, [Began(version="0"), *asked])
    trained: list[Evaluation] = []

    def pool() -> VirtualPool:
        return VirtualPool(1, lambda evaluation: trained.append(evaluation) or float(len(trained)))

    found = Search(job, store)
    asyncio.run(found.run(pool()))
    assert found.state.end_reason == "done" and found.state.told == 8
    [old] = [evaluation for evaluation in trained if evaluation.key == OLD]
    assert old.seed == int(OLD[:8], 16) & 0x7FFFFFFF and canonical(old.params) == '{"n":3,"x":2.0}'
    assert Search(job, store).state.best == found.state.best
    assert store.result(OLD) is not None
