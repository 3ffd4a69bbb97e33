"""Jobs: what they accept, what they refuse and with which words, and their files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm import GA, PSO, Demes, Integer, Job, Random, Real, SurrogatePSO
from swarm.errors import InvalidInput, InvalidJob, InvalidOptimizer, InvalidProblem, InvalidSpace
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.store import Store
from swarm.trial import Trial
from swarm.workers.problem import score


def train(params: Any, ctx: Any) -> float:
    return float(params["x"])


def make_job(**changes: Any) -> Job:
    return Job(**{"name": "a", "problem": train, "space": {"x": Integer(1, 9)}, "optimizer": PSO()} | changes)


def written(folder: Path, text: str) -> Path:
    (folder / "train.py").write_text("def train(params, ctx):\n    return params['x']\n")
    file = folder / "job.yaml"
    file.write_text(text)
    return file


GOOD = """
name: small
problem: train.py:train
space: {x: {integer: [1, 9]}, lr: {real: [1.0e-4, 1.0e-1], log: true}, batch: 128}
optimizer: {name: PSO, particles: 4, generations: 2}
direction: minimize
stop: {target: 1.0}
"""


def test_a_job_file_and_python_say_the_same(tmp_path: Path) -> None:
    job = Job.from_file(written(tmp_path, GOOD))
    space = {"x": Integer(1, 9), "lr": Real(1e-4, 1e-1, log=True), "batch": 128}
    same = Job(
        name="small",
        problem=f"{tmp_path}/train.py:train",
        space=space,
        optimizer=PSO(particles=4, generations=2),
        direction="minimize",
        stop={"target": 1.0},
    )
    assert job.differences(same.to_dict()) == []


def test_options_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    job = Job.from_file(written(tmp_path, GOOD), folds=10, seed=None)
    assert (job.folds, job.seed) == (10, 0)


def test_a_job_survives_the_store_without_its_code_being_run() -> None:
    job = make_job(folds=3, fold_mode="mean", repeats=2, time_limit=5, optimizer=PSO(inertia=0.7))
    again = Job.from_dict(json.loads(json.dumps(job.to_dict())), b"never unpickled")
    assert again.differences(job.to_dict()) == []
    assert again.code.pickle == b"never unpickled"
    trial = Trial(id=0, params={"x": 3})
    assert [e.key for e in again.evaluations(trial)] == [e.key for e in job.evaluations(trial)]


def test_differences_name_the_field_and_both_values() -> None:
    job, other = make_job(), make_job(optimizer=PSO(particles=8), seed=4)
    assert job.differences(other.to_dict()) == ["optimizer.particles is 6, was 8", "seed is 0, was 4"]


def test_the_problems_own_space_is_taken_where_the_job_has_none() -> None:
    job = Job(name="a", problem="simplenet1", optimizer=PSO())
    assert job.space is not None
    assert job.space.size == 3888
    assert job.test is True


BAD: list[tuple[dict[str, Any], type[InvalidInput], str]] = [
    ({"optimizer": "PSA"}, InvalidOptimizer, r"no optimizer 'PSA' \(did you mean 'PSO'\?\)"),
    (
        {"optimizer": {"name": "PSO", "particle": 3}},
        InvalidOptimizer,
        r"no option 'particle' \(did you mean 'particles'",
    ),
    ({"optimizer": {"name": "PSO", "particles": "six"}}, InvalidOptimizer, "particles.*six"),
    ({"optimizer": {"name": "PSO", "particles": 0}}, InvalidOptimizer, "particles"),
    ({"optimizer": {"particles": 6}}, InvalidOptimizer, "name: PSO"),
    ({"spce": {}}, InvalidJob, r"unknown key 'spce' \(did you mean 'space'\?\)"),
    ({"seed": "seven"}, InvalidJob, "seed.*seven"),
    ({"folds": 11}, InvalidJob, "folds.*11"),
    ({"stop": {"targt": 1}}, InvalidJob, r"unknown key 'stop.targt' \(did you mean 'target'\?\)"),
    ({"name": "no spaces"}, InvalidJob, "name"),
    ({"direction": "up"}, InvalidJob, "direction.*up"),
    ({"space": {"x": {"integer": [9, 1]}}}, InvalidSpace, "x"),
    ({"space": {"x": {"real": [0, 1], "log": True}}}, InvalidSpace, "x"),
    ({"space": {}}, InvalidSpace, "nothing to search"),
    ({"space": None}, InvalidJob, "no search space"),
    ({"problem": "nowhere:train"}, InvalidProblem, "cannot be imported"),
    ({"problem": 3}, InvalidProblem, "not int"),
    ({"test": True}, InvalidJob, r"no test\(params, ctx\)"),
    ({"isolation": "thread", "time_limit": 3}, InvalidJob, "isolation: process"),
    ({"optimizer": Random(proportion=0.1), "space": {"x": Real(0, 1)}}, InvalidOptimizer, "trials"),
]


@pytest.mark.parametrize(("changes", "error", "says"), BAD, ids=[str(bad[0]) for bad in BAD])
def test_bad_jobs_are_refused_in_one_line_with_the_remedy(
    changes: dict[str, Any], error: type[InvalidInput], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        make_job(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "is not YAML"),
        ("just words", "holds no job"),
        ("name: a\nproblem: train.py:train\noptimizer: PSO\n", "no search space"),
        (GOOD.replace("name: small", "nme: small"), "nme|name"),
        (GOOD.replace("integer", "integr"), r"integr"),
    ],
)
def test_bad_job_files_are_refused_with_the_files_name(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        Job.from_file(written(tmp_path, text))
    assert "job.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_job_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match="cannot read the job file"):
        Job.from_file(tmp_path / "none.yaml")


# --- what the fitness is, programs, methods within methods


def test_a_method_may_be_composed_over_another_and_is_read_back() -> None:
    data = {"name": "Demes", "of": {"name": "GA", "population": 4}, "rows": 1, "columns": 3}
    job = Job(name="demes", problem=train, space={"x": Integer(1, 9)}, optimizer=data)
    assert job.optimizer == Demes(of=GA(population=4), rows=1, columns=3)
    assert Job.from_dict(job.to_dict(), job.code.pickle).optimizer == job.optimizer
    assert job.differences(job.to_dict()) == []
    with pytest.raises(InvalidOptimizer, match="optimizer GA has no option 'size'"):
        Job(
            name="demes", problem=train, space={"x": Integer(1, 9)}, optimizer={**data, "of": {"name": "GA", "size": 4}}
        )


def test_another_fitness_is_another_evaluation() -> None:
    def keys(**changes: Any) -> list[str]:
        job = Job(name="j", problem=train, space={"x": Integer(1, 9)}, optimizer=Random(trials=1), **changes)
        return [evaluation.key for evaluation in job.evaluations(Trial(id=0, params={"x": 3}))]

    plain, metric, weighted = (
        keys(),
        keys(fitness="loss", direction="minimize"),
        keys(fitness={"loss": 1.0}, direction="minimize"),
    )
    assert plain != metric == weighted
    with pytest.raises(InvalidJob, match="needs a direction"):
        keys(fitness="loss")


def test_a_problem_may_say_which_way_is_better() -> None:
    class Loss:
        direction = "minimize"

        def __call__(self, params: Any, ctx: Any) -> float:
            return float(params["x"])

    fields = {"name": "j", "problem": Loss(), "space": {"x": Integer(1, 9)}, "optimizer": Random(trials=1)}
    assert Job(**fields).direction == "minimize" and Job(**fields).sign == 1
    with pytest.raises(InvalidJob, match="to minimize, the job that it is to maximize: leave direction out"):
        Job(**fields, direction="maximize")


def test_a_command_is_a_problem(tmp_path: Path) -> None:
    job = Job(name="j", command="echo FoM: {x}", space={"x": Integer(1, 9)}, optimizer=Random(trials=1))
    assert job.code.name == "command" and not job.code.resumable
    fields = {"name": "j", "space": {"x": Integer(1, 9)}, "optimizer": Random(trials=1)}
    with pytest.raises(InvalidProblem, match="y"):
        Job(**fields, command="echo FoM: {y}")
    with pytest.raises(InvalidJob, match="both problem and command"):
        Job(**fields, command="echo", problem=train)
    (tmp_path / "job.yaml").write_text(
        "name: j\ncommand: echo FoM {x}\nspace: {x: {integer: [1, 9]}}\noptimizer: {name: Random, trials: 1}\n"
    )
    assert Job.from_file(tmp_path / "job.yaml").code.name == "command"


SMALL_IF_ALIKE = """
fitness:
  - {metric: val_accuracy, direction: maximize, tolerance: 1e-2}
  - {metric: parameters, direction: minimize}
"""


def test_a_fitness_of_several_metrics_has_the_direction_of_the_first_and_is_read_back(tmp_path: Path) -> None:
    text = GOOD.replace("direction: minimize\n", "") + SMALL_IF_ALIKE
    job = Job.from_file(written(tmp_path, text))
    assert (job.direction, job.sign) == ("maximize", -1)
    again = Job.from_dict(json.loads(json.dumps(job.to_dict())), job.code.pickle)
    assert again.fitness == job.fitness and again.differences(job.to_dict()) == []
    merits = [one.evaluations(Trial(id=0, params={"x": 3}))[0].merit for one in (job, again)]
    assert merits[0] == merits[1] == job.fitness
    other = Job.from_file(written(tmp_path, text.replace("1e-2", "1e-3")))
    assert "fitness" in job.differences(other.to_dict())[0]


LOSS = {"metric": "loss", "direction": "minimize", "tolerance": 0.1}
SIZE = {"metric": "size", "direction": "minimize"}


@pytest.mark.parametrize(
    ("fitness", "says"),
    [
        (3, r"fitness is a metric, weights .* not 3"),
        ({}, r"not \{\}"),
        ([LOSS], "list of two or more"),
        (["loss", "size"], "in 'loss'"),
        ([LOSS, LOSS], "loss is named twice"),
        ([SIZE, LOSS], "size needs a tolerance"),
        ([{**LOSS, "tolerance": 0}, SIZE], "the tolerance of loss is above 0, not 0.0"),
        ([{**LOSS, "tolerance": float("nan")}, SIZE], "tolerance of loss"),
        ([{**LOSS, "within": 1}, SIZE], "unknown key 'within'"),
        ([{**LOSS, "direction": "down"}, SIZE], "direction: .*'minimize'.* got 'down'"),
        ([LOSS, {"metric": "size"}], "'direction' is missing"),
        ([LOSS, {"direction": "minimize"}], "'metric' is missing"),
        ({"loss": float("nan")}, "the weight of loss is a number, not nan"),
        ({"loss": "much"}, "the weight of loss is a number, not 'much'"),
    ],
    ids=str,
)
def test_a_fitness_that_decides_nothing_or_the_wrong_way_is_refused_in_one_line(fitness: Any, says: str) -> None:
    with pytest.raises(InvalidJob, match=says) as caught:
        make_job(fitness=fitness)
    assert "\n" not in str(caught.value)


def test_a_loss_is_not_pruned_by_the_accuracy_that_is_meant_where_nothing_is_said() -> None:
    with pytest.raises(InvalidJob, match=r"name a metric that falls, prune: \{metric: val_loss\}"):
        make_job(direction="minimize", prune={})
    job = make_job(direction="minimize", prune={"metric": "val_loss"})
    assert Job.from_dict(json.loads(json.dumps(job.to_dict())), job.code.pickle).prune == job.prune


def test_an_optimizer_is_named_by_text() -> None:
    with pytest.raises(InvalidOptimizer, match="an optimizer is a name or"):
        make_job(optimizer={"name": [1]})


def test_the_direction_of_a_fitness_of_several_metrics_is_its_own() -> None:
    assert make_job(fitness=[LOSS, SIZE], direction="minimize").direction == "minimize"
    with pytest.raises(InvalidJob, match="loss is to minimize, the job says maximize: leave direction out"):
        make_job(fitness=[LOSS, SIZE], direction="maximize")


def test_a_search_finds_the_smallest_of_what_is_alike(open_store: Callable[..., Store]) -> None:
    def returned(params: Any, ctx: Any) -> dict[str, float]:
        return {"error": abs(params["x"] - 50) / 100, "size": params["x"]}

    criteria = [{**LOSS, "metric": "error", "tolerance": 0.2}, SIZE]
    fields = {"problem": returned, "space": {"x": Integer(0, 99)}, "optimizer": "Grid", "fitness": criteria}
    job, store = Job(name="both", **fields), open_store()
    enroll(job, store)
    search = Search(job, store)
    pool = VirtualPool(4, train=lambda e: score(returned(e.params, None), e.merit)[0])
    asyncio.run(search.run(pool))
    assert search.state.best is not None and search.state.best.params["x"] == 41  # errors below 0.1 round to 0


def test_one_configuration_has_one_key_however_its_numbers_are_written() -> None:
    job = make_job(space={"x": Real(0, 9), "k": {"choice": [1, 2.5]}, "batch": 32})

    def key(**params: Any) -> str:
        return job.evaluations(Trial(id=0, params=params))[0].key

    assert key(x=2, k=1.0, batch=32.0) == key(x=2.0, k=1, batch=np.int64(32)) == key(x=np.float32(2), k=1, batch=32)
    assert key(x=-0.0, k=1, batch=32) == key(x=0, k=1, batch=32)
    assert key(x=2, k=2.5, batch=32) != key(x=2, k=1, batch=32)


def test_a_fixed_value_of_another_type_is_another_job() -> None:
    def job(value: Any) -> Job:
        return make_job(space={"x": Integer(1, 9), "option": value, "k": {"choice": [value, 7]}})

    assert job(np.int64(1)).differences(job(1).to_dict()) == []
    for one, other in ((1, True), (1, 1.0), (0.0, False)):
        assert len(job(one).differences(job(other).to_dict())) == 2
    assert make_job(optimizer=PSO(inertia=1)).differences(make_job(optimizer=PSO(inertia=1.0)).to_dict()) == []


def test_known_configurations_of_a_search_are_trained_as_the_space_has_them(tmp_path: Path) -> None:
    known = [{"x": 2, "n": 3}, {"x": 2.0, "n": np.int64(3)}]
    method = GA(population=4, generations=1, initial=known, known="answer")
    job = make_job(optimizer=method, space={"x": Real(0, 9), "n": Integer(1, 9)})
    method = job.start()
    first, second = method.ask(), method.ask()
    assert first is not None and second is not None and repr(first.params) == repr(second.params)
    assert job.evaluations(first)[0].key == job.evaluations(second)[0].key


@pytest.mark.parametrize(
    ("changes", "trials"),
    [
        ({}, 100),
        ({"stop": {"target": 3.0}}, 100),
        ({"stop": {"evaluations": 40, "seconds": 60}}, 40),
        ({"stop": {"evaluations": 41}, "folds": 2, "repeats": 2}, 11),
        ({"stop": {"evaluations": 3}, "folds": 5, "fold_mode": "mean"}, 1),
        ({"stop": {"seconds": 60}}, 10_000),
        ({"stop": {"gpu_hours": 5}}, 10_000),
    ],
)
def test_a_job_that_names_no_method_has_the_guided_swarm_for_as_long_as_it_may_take(
    changes: dict[str, Any], trials: int
) -> None:
    fields: dict[str, Any] = {"name": "a", "problem": train, "space": {"x": Integer(1, 9)}, **changes}
    job = Job(**fields)
    assert job.optimizer == SurrogatePSO(trials=trials)
    assert Job(**fields, optimizer=None).to_dict() == job.to_dict()
    spec = job.to_dict()
    assert spec["optimizer"]["name"] == "SurrogatePSO" and Job.from_dict(spec, job.code.pickle).to_dict() == spec


def test_a_job_file_may_name_no_method_and_one_that_is_stored_keeps_its_own(tmp_path: Path) -> None:
    text = GOOD.replace("optimizer: {name: PSO, particles: 4, generations: 2}\n", "")
    assert Job.from_file(written(tmp_path, text)).optimizer == SurrogatePSO()
    job = Job.from_file(written(tmp_path, text), ["optimizer.name=PSO", "optimizer.particles=3"])
    assert job.optimizer == PSO(particles=3)
    assert Job.from_dict(job.to_dict(), job.code.pickle).optimizer == PSO(particles=3)


def test_a_job_of_several_targets_that_names_no_method_has_one_that_compares_by_all_of_them() -> None:
    fitness = {"loss": "minimize", "size": "minimize"}
    job = Job(name="a", problem=train, space={"x": Integer(1, 9)}, fitness=fitness)
    assert job.optimizer.compares and job.start().compares


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("6GB", 6 * 10**9),
        ("6 GiB", 6 * 2**30),
        ("1.5gb", 15 * 10**8),
        ("800M", 8 * 10**8),
        ("2e3 mb", 2 * 10**9),
        (6_000_000_000, 6 * 10**9),
        (6e9, 6 * 10**9),
        ("8589934592", 2**33),
        (None, None),
    ],
)
def test_memory_of_a_gpu_is_asked_for_in_the_usual_units(given: object, found: int | None) -> None:
    job = Job(name="a", problem=lambda params, ctx: 0.0, space={"x": Real(0, 1)}, gpu_memory=given)
    assert job.gpu_memory == found
    (evaluation,) = job.evaluations(Trial(id=0, params={"x": 0.5}))
    assert evaluation.gpu_memory == found


@pytest.mark.parametrize("given", [6, "6", "much", "-6GB", "6 apples", 0, True, "GB", "", [6], float("nan"), "1e99GB"])
def test_what_is_no_memory_of_a_gpu_is_refused_with_how_to_write_it(given: object) -> None:
    with pytest.raises(InvalidJob, match="gpu_memory: .*write it as 6GB, 800 MiB, or in bytes"):
        Job(name="a", problem=lambda params, ctx: 0.0, space={"x": Real(0, 1)}, gpu_memory=given)


def test_a_run_goes_on_when_its_trainings_ask_for_other_memory_but_not_when_they_are_deterministic() -> None:
    def train(params: dict[str, float], ctx: object) -> float:
        return 0.0

    plain, modest, bound = (
        Job(name="a", problem=train, space={"x": Real(0, 1)}, **fields)
        for fields in ({}, {"gpu_memory": "2GB"}, {"deterministic": True})
    )
    stored = {name: value for name, value in plain.to_dict().items() if name not in ("gpu_memory", "deterministic")}
    assert plain.differences(stored) == modest.differences(stored) == modest.differences(plain.to_dict()) == []
    assert bound.differences(stored) == ["deterministic is True, was False"]
    trial = Trial(id=0, params={"x": 0.5})
    assert plain.evaluations(trial)[0].key == modest.evaluations(trial)[0].key != bound.evaluations(trial)[0].key


def test_what_changes_a_whole_process_needs_one() -> None:
    with pytest.raises(InvalidJob, match="deterministic .* needs isolation: process"):
        Job(
            name="a",
            problem=lambda params, ctx: 0.0,
            space={"x": Real(0, 1)},
            isolation="thread",
            deterministic=True,
        )
