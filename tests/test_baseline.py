"""Random search beside a run: what the search was worth, at the same number of trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swarm import GA, PBT, PSO, Choice, Hyperband, Integer, Job, Random, Rescored, Run, run
from swarm.cli import app
from swarm.config import quiet_dask
from swarm.errors import InvalidInput, InvalidJob, JobConflict, JobNotFound
from swarm.report.beside import beside as beside_section
from swarm.report.tables import Tables

quiet_dask()
JOB = """
name: bowl
problem: bowl.py:Bowl
space: {x: {integer: [0, 1000]}, y: {integer: [0, 1000]}}
optimizer: {name: PSO, particles: 6, generations: 5}
isolation: thread
"""


class Bowl:
    """Best, 0, at x = y = 500; scores of the test set are lower by one."""

    name = "bowl"
    resumable = True

    def __call__(self, params: Any, ctx: Any = None) -> float:
        return -abs(params["x"] - 500) - abs(params["y"] - 500)

    def test(self, params: Any, ctx: Any = None) -> float:
        return self(params) - 1.0


def job_of(**changes: Any) -> Job:
    defaults = {"name": "bowl", "problem": Bowl(), "space": {"x": Integer(0, 1000), "y": Integer(0, 1000)}}
    return Job(**{**defaults, "optimizer": PSO(particles=6, generations=5), "isolation": "thread", **changes})


def beside(folder: Path, **changes: Any) -> tuple[Run, Run]:
    found = run(job_of(**changes), slots=2, store=f"{folder}/swarm.db", progress=False, baseline="random")
    assert found.baseline is not None
    return found, found.baseline


def test_random_search_beside_a_run_tries_as_many_configurations(tmp_path: Path) -> None:
    found, random = beside(tmp_path)
    assert (random.job.name, random.job.optimizer) == ("bowl-random", Random(trials=found.configurations[0]))
    assert sum(found.configurations.values()) == sum(random.configurations.values()) <= 36
    assert not random.history.duplicated(["x", "y"]).any()
    assert found.best is not None and random.best is not None
    assert found.test_scores == {0: found.best.fitness - 1}
    assert random.test_scores == {0: random.best.fitness - 1}
    again = Run.load("bowl", f"{tmp_path}/swarm.db").baseline
    assert again is not None and again.best == random.best
    assert random.baseline is None


def test_its_trainings_are_those_of_the_job_so_the_archive_answers_both(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1 2 3")
    changes = {"version": 3, "files": [str(tmp_path / "data.txt")], "repeats": 2, "constraint": "x >= y", "seed": 5}
    found, random = beside(tmp_path, **changes)
    assert random.job.code.fingerprint == found.job.code.fingerprint
    assert random.job.space == found.job.space and random.job.seed == 5
    assert (random.history["x"] >= random.history["y"]).all()
    _, again = beside(tmp_path, **changes, name="again")
    assert (again.counts["trained"], again.counts["archive"]) == (0, 2 * again.configurations[0])


def test_a_swarm_for_each_fold_is_beside_random_search_in_each_fold(tmp_path: Path) -> None:
    found, random = beside(tmp_path, folds=3)
    assert set(random.configurations) == set(found.configurations) == {0, 1, 2}
    assert set(random.configurations.values()) == {max(found.configurations.values())}
    assert set(random.test_scores) == {0, 1, 2}


def test_what_is_tried_first_is_tried_in_both(tmp_path: Path) -> None:
    _, random = beside(tmp_path, first=[{"x": 500, "y": 500}], results=[{"params": {"x": 1, "y": 1}, "fitness": -998}])
    assert random.best is not None
    assert random.best.params == {"x": 500, "y": 500}


def test_a_limit_that_is_raised_is_raised_for_both_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    found, random = beside(tmp_path)
    same, unchanged = beside(tmp_path)
    assert (same.counts, unchanged.counts) == (found.counts, random.counts)
    before = random.configurations[0]
    longer, more = beside(tmp_path, optimizer=PSO(particles=6, generations=9))
    assert longer.configurations[0] == more.configurations[0] > before
    assert more.best is not None and random.best is not None
    assert more.best.fitness >= random.best.fitness


def test_a_search_that_stops_early_is_beside_as_much_of_random_search(tmp_path: Path) -> None:
    found, random = beside(tmp_path, stop={"target": -400})
    assert found.end_reason == "target reached"
    assert random.end_reason == "done"
    assert random.configurations == found.configurations


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"optimizer": Random(trials=5)}, "random search itself"),
        ({"optimizer": Hyperband(min_budget=1, max_budget=9, iterations=2)}, "Hyperband trains in slices"),
        ({"optimizer": Rescored(of=PSO(particles=2, generations=2), budget=9)}, "Rescored trains in slices"),
        ({"optimizer": PBT(population=4, max_budget=4), "checkpoints": True}, "PBT trains in slices"),
        ({"fitness": {"a": "minimize", "b": "minimize"}, "optimizer": GA(population=4, generations=2)}, "targets"),
        ({"then": {"optimizer": Random(trials=3), "search": ["x"]}}, "a second search"),
        ({"name": "n" * 95}, "name"),
    ],
)
def test_a_job_that_random_search_says_nothing_of_is_refused_before_it_is_run(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidJob, match=why):
        run(job_of(**changes), store=f"{tmp_path}/swarm.db", baseline="random")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_refused_before_the_job_is_run(tmp_path: Path) -> None:
    store = f"{tmp_path}/swarm.db"
    other = run(job_of(name="bowl-random", optimizer=Random(trials=4), seed=9), slots=1, store=store, progress=False)
    with pytest.raises(JobConflict, match="another job 'bowl-random'"):
        run(job_of(), slots=1, store=store, baseline="random")
    with pytest.raises(JobNotFound):
        Run.load("bowl", store)
    run(job_of(), slots=1, store=store, progress=False)
    assert Run.load("bowl", store).baseline is None
    assert Run.load("bowl-random", store).counts == other.counts


def test_nothing_but_random_search_is_a_baseline(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the baseline is random, not 'grid'"):
        run(job_of(), store=f"{tmp_path}/swarm.db", baseline="grid")  # type: ignore[arg-type]


def swarm(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def job_file(folder: Path, source: str = "Bowl") -> str:
    own = Path(__file__).read_text(encoding="utf-8")
    (folder / "bowl.py").write_text(own[own.index("class Bowl") : own.index("def job_of")].replace("Any", "object"))
    (folder / "job.yaml").write_text(JOB)
    return str(folder / "job.yaml")


def test_the_command_compares_them_in_one_line_and_in_the_report(tmp_path: Path) -> None:
    store, report = f"{tmp_path}/swarm.db", tmp_path / "bowl.html"
    said = swarm("run", job_file(tmp_path), "--store", store, "--baseline", "random", "--report", str(report))
    found = Run.load("bowl", store)
    random = found.baseline
    assert random is not None
    expected = (
        f"on the unseen test set: {found.test_scores[0]:.5g} by PSO, {random.test_scores[0]:.5g} by random search; "
        f"{found.configurations[0]} configurations each"
    )
    assert expected in said.splitlines()
    begins = said.index(f"bowl-random: random search beside it, {found.configurations[0]} trials …")
    assert said.index("\ngeneration 5: ") < begins < said.rindex("\ngeneration 0: ")
    assert said.splitlines()[-1].startswith(f"wrote {report} (")
    assert expected in swarm("show", "bowl", "--store", store).splitlines()
    html = report.read_text(encoding="utf-8")
    assert "Beside random search" in html
    assert f"On the unseen test set{expected.removeprefix('on the unseen test set')}." in html


def test_without_a_test_set_they_are_compared_by_their_fitness(tmp_path: Path) -> None:
    from swarm.terminal.tables import beside_random

    found, random = beside(tmp_path, test=False, space={"x": Choice(1, 5, 9), "y": Integer(3, 4)})
    assert random.best is not None
    assert found.configurations == random.configurations
    tried = f"{found.configurations[0]} configurations each"
    assert beside_random(found) == f"fitness: -987 by PSO, {random.best.fitness:.5g} by random search; {tried}"


def test_a_report_without_a_baseline_says_nothing_of_one(tmp_path: Path) -> None:
    found = run(job_of(), slots=1, store=f"{tmp_path}/swarm.db", progress=False)
    assert list(beside_section(Tables(found))) == []


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    file, store = job_file(tmp_path), f"{tmp_path}/swarm.db"
    for target, why in ((tmp_path / "none" / "a.html", "there is no folder"), (tmp_path, "that is a folder")):
        done = CliRunner().invoke(app, ["run", file, "--store", store, "--report", str(target)])
        assert isinstance(done.exception, InvalidInput)
        assert why in str(done.exception)
    assert not Path(store).exists()


def test_a_dry_run_counts_random_search(tmp_path: Path) -> None:
    said = swarm("run", job_file(tmp_path), "--dry-run", "--store", f"{tmp_path}/swarm.db", "--baseline", "random")
    assert "and at most as much again for random search beside it, as bowl-random" in said
    assert not (tmp_path / "swarm.db").exists()
