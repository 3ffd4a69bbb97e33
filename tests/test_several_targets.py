"""A job whose fitness is several targets: what it says, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from swarm import Job, Random, run
from swarm.errors import InvalidJob
from swarm.optimizers.mu_plus_lambda import MuPlusLambda
from swarm.runner import Run
from swarm.space import Integer
from swarm.trial import Trial
from workers.problem import attempt

TARGETS = {"error": "minimize", "size": "minimize", "speed": "maximize"}


def measured(params: Any, ctx: Any) -> dict[str, float]:
    """The error falls with x and the size grows; the speed depends on y alone, the best of which is 3."""
    return {"error": 10 - params["x"], "size": params["x"] ** 2, "speed": -abs(params["y"] - 3), "seed": ctx.seed}


def make_job(**changes: Any) -> Job:
    method = MuPlusLambda(population=4, children=4, evaluations=40, restarts=0, migrants=0, gene_rate=0.5)
    space = {"x": Integer(0, 9), "y": Integer(0, 9)}
    return Job(**{"name": "j", "problem": measured, "space": space, "optimizer": method, "fitness": TARGETS, **changes})


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
        ({"optimizer": Random(trials=9)}, "Random does not: take it, or give the metrics weights"),
        ({"folds": 3}, "Folds does not"),
        ({"prune": {"metric": "error"}}, "leave prune out"),
        ({"then": {"optimizer": "Grid", "search": ["x"]}}, "Grid does not"),
    ],
    ids=str,
)
def test_what_compares_nothing_is_refused_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidJob, match=says) as caught:
        make_job(**changes)
    assert "\n" not in str(caught.value)


def test_a_search_is_led_by_all_targets_and_its_journal_replays(tmp_path: Path) -> None:
    job = make_job(repeats=2, isolation="thread")
    found = run(job, slots=2, store=f"{tmp_path}/swarm.db", progress=False)
    assert found.best is not None and found.best.params["y"] == 3  # x changes two targets against each other
    assert found.best.fitness == 10 - found.best.params["x"]
    again = Run.load("j", f"{tmp_path}/swarm.db")
    assert again.best == found.best
