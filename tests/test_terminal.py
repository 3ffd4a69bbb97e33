"""Progress as people see it: a block that changes in a terminal or a notebook, lines in a log."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from swarm import PSO, Integer, Job
from swarm.pool.virtual import VirtualPool
from swarm.runner import enroll
from swarm.search import Search
from swarm.service.published.job_state import JobState
from swarm.store import Store
from swarm.terminal.progress import JobProgress, Progress
from swarm.terminal.sparkline import Sparkline


def shown(open_store: Callable[..., Store], console: Console) -> None:
    job = Job(
        name="job", problem=lambda p, c: 0.0, space={"x": Integer(0, 99)}, optimizer=PSO(particles=3, generations=2)
    )
    store = open_store()
    enroll(job, store)
    with Progress(console) as show:
        pool = VirtualPool(2, train=lambda e: float(e.params["x"]))
        asyncio.run(Search(job, store).run(pool, lambda search: show(search, None)))


def test_a_log_has_one_line_per_generation(open_store: Callable[..., Store]) -> None:
    console = Console(file=io.StringIO(), width=120)
    shown(open_store, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(":")[0] for line in lines] == ["generation 0", "generation 1", "generation 2"]


def test_a_terminal_shows_where_the_search_is_and_the_line_of_its_best(open_store: Callable[..., Store]) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    shown(open_store, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "9 of 9 trials, generation 2" in text
    assert "best so far" in text
    assert "█" in text


def test_generations_stay_in_the_scroll_back_of_a_terminal(open_store: Callable[..., Store]) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    shown(open_store, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [text.count(f"generation {number}: fitness") for number in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("width", [20, 5, 100])
def test_a_trace_takes_the_room_there_is(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(Sparkline(range(400)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [len(line) for line in lines] == [min(width, 40)]


def test_a_notebook_shows_one_output_that_is_replaced(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[Any] = []

    class Handle:
        def update(self, block: Any) -> None:
            outputs[-1] = block

    def display(block: Any, display_id: bool) -> Handle:
        outputs.append(block)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    console = Console(file=io.StringIO(), width=120, force_jupyter=True)
    shown(open_store, console)
    assert len(outputs) == 1
    html = outputs[0]._repr_mimebundle_([], [])["text/html"]
    assert "9 of 9 trials" in html


def test_a_trace_shows_the_latest_at_its_end_however_long_it_is() -> None:
    assert Sparkline().bars() == ""
    assert Sparkline([3.0, 3.0]).bars() == "▁▁"
    assert Sparkline(range(8)).bars() == "▁▂▃▄▅▆▇█"
    assert Sparkline(range(8)).bars(4) == "▁▃▆█"
    assert Sparkline([-1.7e308, 0.0, 1.7e308]).bars() == "▁▅█"  # the range of which is no float
    long = Sparkline(range(100_000)).bars(8)
    assert long == "▁▂▃▄▅▆▇█"


def state_at(told: int) -> JobState:
    """The state of a job of the service after this number of trials, three a generation."""
    found: dict[str, Any] = {field.name: None for field in dataclasses.fields(JobState)}
    best = {"trial": 0, "params": {"x": 1}, "fitness": 0.5, "metrics": {}}
    found |= {"name": "job", "state": "active", "told": told, "planned": 9, "generation": told // 3, "running": 1}
    found |= {"counts": {}, "tests": {}, "trained_seconds": 0.0, "best": best}
    return JobState(**{**found, "seconds": 60.0 * told, "seconds_left": 60.0 * (9 - told)})


@pytest.mark.parametrize("terminal", [True, False])
def test_a_job_that_is_watched_leaves_a_line_with_its_times_for_each_generation(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    with JobProgress(console) as show:
        for told in range(9):
            show(state_at(told))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [text.count(f"job: active, generation {number}; ") for number in range(3)] == [1, 1, 1]
    assert "3 of 9 trials; best 0.5; 3 min 00 s gone, 0.0 s of training, about 6 min 00 s left at most" in text
