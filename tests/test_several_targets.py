"""A job whose fitness is several targets: what it says, what it refuses, and what a search makes of it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarm import Job
from swarm.errors import InvalidJob
from swarm.optimizers.mu_plus_lambda import MuPlusLambda
from swarm.optimizers.targets import compared
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.space import Integer
from swarm.store import Store
from swarm.trial import Evaluation, Result, Trial
from swarm.workers.problem import attempt, load

EXAMPLE = Path(__file__).parent.parent / "examples" / "sine-targets.yaml"
TARGETS = {"error": "minimize", "size": "minimize", "speed": "maximize"}


def measured(params: Any, ctx: Any) -> dict[str, float]:
    """The error falls with x and the size grows; the speed depends on y alone, the best of which is 3."""
    return {"error": 10 - params["x"], "size": params["x"] ** 2, "speed": -abs(params["y"] - 3), "seed": ctx.seed}


def make_job(**changes: Any) -> Job:
    method = MuPlusLambda(population=4, children=4, evaluations=40, restarts=0, migrants=0, gene_rate=0.5)
    space = {"x": Integer(0, 9), "y": Integer(0, 9)}
    return Job(**{"name": "j", "problem": measured, "space": space, "optimizer": method, "fitness": TARGETS, **changes})


class Trains(VirtualPool):
    """A virtual pool on which the job's problem is really called; it breaks down after so many results."""

    def __init__(self, job: Job, slots: int, results: int = 1000) -> None:
        super().__init__(slots, train=lambda _: 0.0)
        self._problem, self._left = load(job.code.pickle), results
        self._evaluations: dict[str, Evaluation] = {}

    def submit(self, evaluations: Any) -> None:
        super().submit(evaluations)
        self._evaluations |= {each.key: each for each in evaluations}

    async def next(self) -> list[Result]:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("gone")
        ended = await super().next()
        times = {name: getattr(ended[0], name) for name in ("start", "end", "seconds")}
        return [replace(attempt(self._problem, self._evaluations[each.key], print), **times) for each in ended]


def searched(job: Job, store: Store, slots: int = 4) -> Search:
    enroll(job, store)
    search = Search(job, store)
    asyncio.run(search.run(Trains(job, slots)))
    return search


def test_the_first_target_is_the_fitness_and_the_job_is_read_back() -> None:
    job = make_job()
    assert (job.direction, job.targets) == ("minimize", TARGETS)
    again = Job.from_dict(json.loads(json.dumps(job.to_dict())), job.code.pickle)
    assert again.targets == TARGETS and list(again.targets) == list(TARGETS)
    assert again.differences(job.to_dict()) == []
    evaluation = job.evaluations(Trial(id=0, params={"x": 3, "y": 0}))[0]
    assert evaluation.merit == {"error": 1.0, "size": 0.0, "speed": 0.0}
    result = attempt(measured, evaluation, print)
    assert result.fitness == 7
    assert job.losses(result) == [7, 9, 3]


def test_the_trainings_own_fitness_is_shown_if_it_is_among_the_targets() -> None:
    job = make_job(fitness={"size": "minimize", "fitness": "maximize"})
    assert (list(job.targets), job.direction) == (["fitness", "size"], "maximize")
    evaluation = job.evaluations(Trial(id=0, params={"x": 3, "y": 0}))[0]
    assert job.losses(attempt(lambda params, ctx: {"fitness": 0.5, "size": 7}, evaluation, print)) == [-0.5, 7]


def test_a_target_that_the_training_does_not_return_fails_it() -> None:
    evaluation = make_job(fitness={**TARGETS, "seconds": "minimize", "depth": "minimize"}).evaluations(
        Trial(id=0, params={"x": 3, "y": 0})
    )[0]
    assert "the fitness is made of depth, but the training returned seconds, error" in str(
        attempt(measured, evaluation, print).error
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fitness": {"error": "minimize"}}, "or there are two or more"),
        ({"fitness": {"error": "minimize", "size": 1e-3}}, "either every metric has a weight"),
        ({"direction": "maximize"}, "error is to minimize, the job says maximize: leave direction out"),
        ({"folds": 3}, "Folds does not"),
        ({"prune": {"metric": "error"}}, "leave prune out"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_refused_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidJob, match=says) as caught:
        make_job(**changes)
    assert "\n" not in str(caught.value)


def test_the_run_and_its_best_depend_on_no_number_of_slots(open_store: Callable[..., Store]) -> None:
    few, many = (searched(make_job(), open_store(str(slots)), slots) for slots in (1, 64))
    assert few.state.best == many.state.best and few.state.told == many.state.told == 40
    assert few.state.best is not None and few.state.best.params["y"] == 3  # where x is a compromise, y is not
    assert few.state.best.fitness == 10 - few.state.best.params["x"]


def test_a_search_that_broke_down_goes_on_as_if_it_had_not(open_store: Callable[..., Store]) -> None:
    job, store = make_job(), open_store()
    enroll(job, store)
    with pytest.raises(ConnectionError):
        asyncio.run(Search(job, store).run(Trains(job, 3, results=17)))
    resumed = searched(job, store, slots=3)
    whole = searched(make_job(), open_store("whole"), slots=3)
    assert 0 < resumed.state.replayed < resumed.state.told == whole.state.told
    assert resumed.state.best == whole.state.best
    assert Search(job, store).state.best == whole.state.best


def test_targets_are_means_over_repeats(open_store: Callable[..., Store]) -> None:
    told: list[Any] = []

    class Recording(MuPlusLambda):
        def tell(self, trial: Trial, loss: Any) -> None:
            told.append(loss)
            super().tell(trial, loss)

    def noisy(params: Any, ctx: Any) -> dict[str, float]:
        return {"error": params["x"], "noise": ctx.seed}

    fields = {"problem": noisy, "repeats": 3, "fitness": {"error": "minimize", "noise": "maximize"}}
    job, store = make_job(optimizer=Recording(evaluations=3, restarts=0), **fields), open_store()
    searched(job, store)
    noise = [event.data["metrics"]["noise"] for event in store.events("j") if event.kind == "result"]
    assert sorted(losses[1] for losses in told) == pytest.approx(sorted(-sum(noise[i : i + 3]) / 3 for i in (0, 3, 6)))


def test_the_example_finds_a_network_that_no_other_beats(open_store: Callable[..., Store]) -> None:
    job, store = Job.from_file(EXAMPLE), open_store()
    search = searched(job, store)
    assert search.state.best is not None
    results = [Result.from_dict(event.data) for event in store.events(job.name) if event.kind == "result"]
    best = job.evaluations(search.state.best.trial)[0].key
    losses = {result.key: tuple(job.losses(result)) for result in results}
    assert len(losses) > 20
    assert not [key for key, each in losses.items() if compared(each, losses[best]) > 0]
