"""A store of the version before the models changed: its journals are taken up without computing, and gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from dumps import restored

from swarm import Job
from swarm.optimizers.parzen import ParzenModel
from swarm.optimizers.surrogate_pso import SurrogatePSO
from swarm.plain import canonical
from swarm.pool.virtual import VirtualPool
from swarm.search import Search
from swarm.store import Store
from swarm.store.events import Asked
from swarm.trial import Evaluation, Trial

METHODS = ("guided", "guided-folds", "tpe", "bohb")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with restored("stored_guided", tmp_path) as opened:
        yield opened


def loss(evaluation: Evaluation) -> float:
    """What the trainings of that store had returned."""
    p = evaluation.params
    return (p["n"] - 3) ** 2 + (p["rate"] - 0.2) ** 2 * 9 + p.get("width", 0) / 8 + (p["act"] == "b") / 4


def job_of(store: Store, name: str) -> Job:
    return Job.from_dict(store.job(name).spec, b"")


def asked(store: Store, name: str) -> list[Trial]:
    trials = [event.trial for event in store.events(name) if isinstance(event, Asked)]
    return sorted(trials, key=lambda trial: trial.id)


@pytest.mark.parametrize("name", METHODS)
def test_its_journal_is_taken_up_to_its_end_without_asking_a_model(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose = ParzenModel.propose

    def only_at_first(self: ParzenModel, *args: object) -> object:
        assert not self.speaks
        return propose(self, *args)  # type: ignore[arg-type]

    monkeypatch.delattr(SurrogatePSO, "_plan")
    monkeypatch.setattr(ParzenModel, "propose", only_at_first)
    whole = Search(job_of(store, name), store)
    assert whole.state.finished() and whole.state.told == len(asked(store, name)) > 30 and whole.state.best is not None


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_search_that_was_stopped_goes_on_from_its_middle(name: str, share: float, store: Store) -> None:
    cut = int(share * store.length(name))
    store.cut(name, cut, [])
    before = asked(store, name)
    half_way = Search(job_of(store, name), store)
    asyncio.run(half_way.run(VirtualPool(3, loss, lambda e: 1.0 + e.params["n"] + e.seed % 7)))
    trials = asked(store, name)
    assert trials[: len(before)] == before and len(trials) > len(before)
    assert half_way.state.finished()
    if name != "bohb":  # which trains a configuration on several budgets
        assert len({(canonical(trial.params), trial.fold) for trial in trials}) == len(trials)
