"""Finding, pickling and fingerprinting the user's code."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from swarm.errors import InvalidProblem
from swarm.job.problem import Problem

SCALE = 2.0


def scaled(value: float) -> float:
    return SCALE * value


def train(params: Any, ctx: Any) -> float:
    return scaled(params["x"])


def written(folder: Path, text: str, name: str = "mine.py") -> Problem:
    """The problem ``train`` of a file with that text, found as a job file would."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return Problem.find(f"{name}:train", {}, folder=folder)


BASE = "FACTOR = 2\n\ndef inner(x):\n    return FACTOR * x\n\ndef train(params, ctx):\n    return inner(params['x'])\n"


def test_comments_docstrings_and_layout_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    other = (
        "# a comment\nFACTOR = 2\n\n\n\ndef inner(x):\n    '''Says what it does.'''\n    return (FACTOR *\n        x)\n"
        "# why\ndef train(params, ctx):\n    return inner(params['x'])\n\ndef unused():\n    pass\n"
    )
    assert written(tmp_path / "a", BASE).fingerprint == written(tmp_path / "b", other).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("params['x']", "params['y']"),
        BASE.replace("FACTOR * x", "FACTOR + x"),
        BASE.replace("FACTOR = 2", "FACTOR = 3"),
        BASE.replace("(params, ctx)", "(params, ctx, extra=1)"),
    ],
    ids=["the function", "a function it calls", "a value it refers to", "a default"],
)
def test_what_changes_the_training_changes_the_fingerprint(tmp_path: Path, other: str) -> None:
    assert written(tmp_path / "a", BASE).fingerprint != written(tmp_path / "b", other).fingerprint


def test_the_fingerprint_is_the_same_in_another_process(tmp_path: Path) -> None:
    here = written(tmp_path, BASE).fingerprint
    code = (
        "import pathlib; from swarm.job.problem import Problem;"
        f"print(Problem.find('mine.py:train', {{}}, folder=pathlib.Path({str(tmp_path)!r})).fingerprint)"
    )
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert there.stdout.strip() == here


def test_closures_and_attributes_count(tmp_path: Path) -> None:
    def make(factor: float) -> Any:
        return lambda params, ctx: factor * params["x"]

    assert Problem.of(make(1.0)).fingerprint != Problem.of(make(2.0)).fingerprint
    assert Problem.of(make(1.0)).fingerprint == Problem.of(make(1.0)).fingerprint


def test_code_in_a_file_travels_by_value_with_the_users_modules_that_it_uses(tmp_path: Path) -> None:
    (tmp_path / "sibling.py").write_text("def helper(x):\n    return 10 * x\n")
    text = "from sibling import helper\n\ndef train(params, ctx):\n    return helper(params['x'])\n"
    problem = written(tmp_path, text, "with_sibling.py")
    (tmp_path / "problem.pickle").write_bytes(problem.pickle)
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'problem.pickle')!r}, 'rb'))({{'x': 4}}, None))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert there.stdout.strip() == "40"


def test_a_function_is_a_problem_and_unpickles_to_itself() -> None:
    problem = Problem.of(train)
    assert problem.name == "train"
    assert not problem.testable
    assert pickle.loads(problem.pickle)({"x": 3.0}, None) == 6.0


def test_built_in_problems_are_found_by_name_with_space_and_test() -> None:
    problem = Problem.find("lenet4", {"epochs": 2})
    assert problem.testable
    assert problem.space is not None
    assert "c0_filters" in problem.space


def test_options_of_a_built_in_problem_change_its_fingerprint_and_its_space_does_not() -> None:
    assert Problem.find("lenet4", {"epochs": 2}).fingerprint != Problem.find("lenet4", {"epochs": 3}).fingerprint
    assert Problem.find("lenet4", {"epochs": 2}).fingerprint == Problem.find("lenet4", {"epochs": 2}).fingerprint


def test_what_a_partial_function_was_given_counts() -> None:
    def train(params: Any, ctx: Any, epochs: int = 1, *, rate: float = 0.1) -> float:
        return rate * epochs

    problems = [partial(train, epochs=3), partial(train, epochs=3), partial(train, epochs=4), partial(train, rate=0.2)]
    same, again, *others = (Problem.of(problem).fingerprint for problem in problems)
    assert same == again and len({same, *others}) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lenet9", "no built-in problem 'lenet9'.*lenet4"),
        ("nowhere:train", "cannot be imported: ModuleNotFoundError"),
        ("nowhere.py:train", "cannot be imported: FileNotFoundError"),
        ("json:nothing", "json has no 'nothing'; it has .*dumps"),
        ("math:pi", "not float"),
    ],
)
def test_a_problem_that_is_not_there_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidProblem, match=says):
        Problem.find(text, {}, folder=tmp_path)


def test_wrong_options_of_a_problem_are_refused() -> None:
    with pytest.raises(InvalidProblem, match="epoks"):
        Problem.find("lenet4", {"epoks": 2})


def test_a_function_of_the_wrong_arguments_is_refused() -> None:
    with pytest.raises(InvalidProblem, match=r"problem\(params, ctx\)"):
        Problem.of(lambda: 1.0)


def test_what_cannot_be_pickled_is_refused_with_the_reason(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:  # noqa: PTH123

        def writes(params: Any, ctx: Any) -> float:
            log.write("no")
            return 0.0

        with pytest.raises(InvalidProblem, match="cannot be pickled.*inside the training"):
            Problem.of(writes)
