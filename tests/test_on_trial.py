"""A function of the user's is told of each trial that has ended, and may end the search; so may a lack of progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_master import job_of, mastered, scheduler, worker
from test_search import make_job, make_pool, search

from swarm import GA, PSO, Client, EndedTrial, Grid, Infeasible, Integer, Job, Random, Run, StopSearch, run
from swarm.optimizers.base import Optimizer
from swarm.runner import resume
from swarm.trial import Status


def train(params: Any, ctx: Any) -> dict[str, float]:
    if params["n"] == 3:
        raise Infeasible("three is too many")
    return {"fitness": float(params["n"]), "half": params["n"] / 2}


def counting(name: str = "job", **changes: Any) -> Job:
    defaults = {"problem": train, "space": {"n": Integer(0, 9)}, "optimizer": Grid(), "isolation": "thread"}
    return Job(**{"name": name, **defaults, **changes})


def here(job: Job, folder: Path, **options: Any) -> Run:
    return run(job, slots=1, store=folder / "swarm.db", progress=False, **options)


def test_each_trial_is_told_once_in_order_with_what_became_of_it(tmp_path: Path) -> None:
    told: list[EndedTrial] = []
    here(counting(), tmp_path, on_trial=told.append)
    assert [trial.number for trial in told] == list(range(10))
    assert [trial.params for trial in told] == [{"n": n} for n in range(10)]
    assert [trial.fitness for trial in told] == [None if n == 3 else float(n) for n in range(10)]
    assert told[4].metrics["half"] == 2.0
    assert (told[3].status, told[4].status, told[4].known) == ("failed", "ok", False)
    assert "three is too many" in (told[3].error or "")


def test_what_the_archive_knows_is_told_as_known(tmp_path: Path) -> None:
    here(counting(), tmp_path)
    told: list[EndedTrial] = []
    here(counting("again"), tmp_path, on_trial=told.append)
    assert [trial.known for trial in told] == [True] * 10


@pytest.mark.parametrize("answer", [True, np.True_, StopSearch("enough"), StopSearch()], ids=repr)
@pytest.mark.parametrize("known", [False, True])
def test_it_ends_the_search_before_anything_else_is_asked_for(answer: Any, known: bool, tmp_path: Path) -> None:
    if known:
        here(counting("before"), tmp_path)

    def told(trial: EndedTrial) -> object:
        if trial.number < 2:
            return False
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = here(counting(), tmp_path, on_trial=told)
    assert (len(found.history), found.status) == (3, "finished")
    assert found.end_reason == ("enough" if str(answer) == "enough" else "stopped by on_trial")
    assert len(here(counting(), tmp_path).history) == 3, "it has ended"


@pytest.mark.parametrize("answer", [None, 0, 1, "yes", [], 0.5])
def test_what_is_not_true_lets_it_go_on(answer: object, tmp_path: Path) -> None:
    assert len(here(counting(), tmp_path, on_trial=lambda _: answer).history) == 10


@pytest.mark.parametrize("method", [PSO(particles=4, generations=5), GA(population=4, generations=5)])
def test_a_generation_is_completed_before_it_ends(method: Optimizer, tmp_path: Path) -> None:
    job = counting(optimizer=method, space={"n": Integer(0, 1000)})
    found = here(job, tmp_path, on_trial=lambda trial: trial.number == 5)
    assert (len(found.history), found.end_reason) == (8, "stopped by on_trial")


def test_what_it_raises_stops_the_run_and_the_same_call_goes_on_without_telling_again(tmp_path: Path) -> None:
    told: list[int] = []

    def failing(trial: EndedTrial) -> None:
        told.append(trial.number)
        if trial.number == 4:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        here(counting(), tmp_path, on_trial=failing)
    assert Run.load("job", tmp_path / "swarm.db").status == "stopped"
    found = resume("job", store=tmp_path / "swarm.db", progress=False, on_trial=lambda trial: told.append(trial.number))
    assert sorted(told) == list(range(10)) and found.counts["trained"] == 10


def test_it_may_go_on_after_it_was_stopped_when_a_limit_is_raised(tmp_path: Path) -> None:
    job, more = (counting(optimizer=Random(trials=n), space={"n": Integer(10, 10**6)}) for n in (5, 9))
    here(job, tmp_path, on_trial=lambda trial: trial.number == 1)
    found = here(more, tmp_path)
    assert (len(found.history), found.end_reason) == (9, "done")


def test_no_improvement_ends_a_search_after_so_many_trials_in_a_row(open_store: Any) -> None:
    job = make_job(optimizer=Random(trials=400), stop={"no_improvement": 25})
    found = search(job, open_store(), make_pool(1))
    best = found.state.best
    assert best is not None and found.state.end_reason == "no improvement in 25 trials"
    assert found.state.told == best.trial.id + 1 + 25


def test_no_improvement_ends_a_swarm_after_the_same_generation_on_any_number_of_slots(open_store: Any) -> None:
    job = make_job(optimizer=PSO(generations=60), stop={"no_improvement": 20})
    ends = [search(job, open_store(f"{slots}"), make_pool(slots, seed=slots)).state for slots in (1, 3, 8)]
    assert ends[0].end_reason == "no improvement in 20 trials" and ends[0].told < 61 * 6
    assert len({(each.told, each.end_reason) for each in ends}) == 1


def test_a_search_whose_trainings_all_fail_has_not_lacked_improvement(open_store: Any) -> None:
    job = make_job(optimizer=Random(trials=30), stop={"no_improvement": 5}, max_failures=0)
    state = search(job, open_store(), make_pool(1, train=lambda _: Status.FAILED)).state
    assert (state.told, state.end_reason) == (30, "done")


async def test_whoever_waits_for_a_job_of_the_service_is_told_of_all_its_trials_and_may_stop_it(tmp_path: Path) -> None:
    def wide(params: Any, ctx: Any) -> float:
        return float(params["x"])

    space = {"x": Integer(0, 10**6)}
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        job = job_of(problem=wide, space=space, optimizer=Random(trials=6), isolation="thread")
        handle = await client.submit(job)
        told: list[EndedTrial] = []
        await handle.wait(timeout=60, on_trial=told.append)
        assert [trial.number for trial in told] == list(range(6))
        assert all(trial.fitness == trial.params["x"] for trial in told)
        endless = job_of("endless", problem=wide, space=space, optimizer=Random(trials=10**6), isolation="thread")
        handle = await client.submit(endless)
        state = await handle.wait(timeout=60, on_trial=lambda trial: trial.number == 20)
        assert state.state == "finished" and state.end_reason.startswith("stopped by ")
        assert 21 <= state.told < 10**6
