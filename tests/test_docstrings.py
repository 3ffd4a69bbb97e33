"""The examples in the docstrings of public classes: each has one, and they are run."""

from __future__ import annotations

import doctest
import inspect
import textwrap
from pathlib import Path

import pytest
from services import Service, logging_training

import swarm
from swarm import Client, Grid, Integer, Job

DOCUMENTED = sorted(name for name in swarm.__all__ if name != "__version__")
SERVED = ("JobHandle", "JobState", "AsyncJobHandle", "Client", "AsyncClient")
"""Those whose examples need a service, and are plain code."""


def example(name: str) -> str:
    """The section of a docstring."""
    _, found, text = inspect.cleandoc(getattr(swarm, name).__doc__).partition("\nExample:\n")
    assert found, f"the docstring of {name} has no section Example:"
    return inspect.cleandoc(text)


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if name not in SERVED])
def test_the_example_of_a_docstring_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a run's store is
    found = doctest.DocTestParser().get_doctest(example(name), {"__name__": "__main__"}, name, name, 0)
    assert found.examples
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(found, out=printed.append).failed == 0, "".join(printed)


@pytest.mark.slow
def test_the_examples_that_need_a_service_run_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    return params['x']\n", encoding="utf-8")
    (tmp_path / "digits.yaml").write_text(
        "{name: digits, problem: train.py:train, space: {x: {integer: [0, 3]}}, optimizer: Grid}", encoding="utf-8"
    )
    with Service(tmp_path) as service:
        service.started(slots=2)
        train = logging_training(tmp_path, seconds=0.2)
        space = {"x": Integer(0, 39), "y": Integer(0, 1)}
        Client(service.address).submit(Job(name="valley", problem=train, space=space, optimizer=Grid()))
        for name in SERVED:
            code = textwrap.dedent(example(name).removeprefix("::\n"))
            exec(code.replace("tcp://127.0.0.1:8786", service.address), {"__name__": name})
    printed = capsys.readouterr().out
    assert printed.startswith("active\n")
    assert "'params': {'x': 3}" in printed
