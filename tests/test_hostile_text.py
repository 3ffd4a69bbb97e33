"""Text of others is shown as text, without markup, escape sequences or line breaks; what is bad harms no other."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bokeh.models.widgets import Div
from distributed import Scheduler
from scripts import run_swarm

from swarm import Job, Random
from swarm.dashboard.board import Board
from swarm.dashboard.live import Jobs
from swarm.errors import InvalidInput
from swarm.plots.charts import new_figure
from swarm.report.page import Facts, Page, Section, Text
from swarm.search.state import SearchState
from swarm.service.published.job_state import JobState, ended_state
from swarm.service.requests import check_user
from swarm.store.events import Answered, Asked, Lookup
from swarm.store.records import JobStatus, Source, State, StoredJob, Submission
from swarm.terminal.tables import errors_block, frame_table, job_block, job_table, slot_table, summary
from swarm.terminal.text import Console, printable
from swarm.trial import Result, Status

HOSTILE = {
    "markup": "[/tanh]",
    "a style": "[bold red]x[/]",
    "a link": "[link=http://x]y[/link]",
    "an emoji": ":warning:",
    "colours": "\x1b[31mred\x1b[0m",
    "a cleared screen": "\x1b[2J\x1b[H",
    "a title": "\x1b]0;title\x07",
    "C1": "\x9b2J",
    "a line": "one\ntwo",
    "a return": "hidden\rshown",
    "a backspace": "ab\x08",
    "bidi": "\u202eevil\u202c",
    "separators": "a\u2028b",
    "a surrogate": "\ud800",
    "HTML": "<script>alert(1)</script>",
    "a formula": "$$\\href{javascript:alert(1)}{x}$$",
}


def state(**changes: Any) -> JobState:
    found: dict[str, Any] = {
        "name": "good", "owner": "ann", "state": "active", "reason": None, "priority": 1.0, "most": None,
        "problem": "p", "optimizer": "PSO", "direction": "maximize", "generation": 1, "told": 2, "planned": 3,
        "running": 0, "counts": {}, "trained_seconds": 1.0, "seconds_left": None, "tests": {}, "errors": {},
        "best": {"trial": 1, "params": {"x": 1.5}, "fitness": 0.5, "metrics": {}}, "trouble": None, "end_reason": None,
    }  # fmt: skip
    return JobState(**{**found, **changes})


def shown(*renderables: Any) -> str:
    console = Console(file=io.StringIO(), width=300, force_terminal=False)
    for each in renderables:
        console.print(each, soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def check(text: str, hostile: str) -> None:
    """Everything in it can be printed, and what was given is there as it was."""
    assert all(line.isprintable() for line in text.split("\n"))
    assert printable(hostile) in text
    text.encode()


@pytest.mark.parametrize("kind", HOSTILE)
def test_tables_and_blocks_show_what_is_there(kind: str) -> None:
    text = HOSTILE[kind]
    best = {"trial": 1, "params": {"x": text}, "fitness": 0.5, "metrics": {}}
    hostile = state(owner=text, problem=text, optimizer=text, reason=text, trouble=text, best=best)
    check(shown(job_table([hostile, state()])), text)
    check(shown(job_block(hostile)), text)
    slot = {"slot": text, "host": text, "resource": "GPU", "key": "k", "job": text, "trial": 1, "seconds": 1.0}
    check(shown(slot_table([{**slot, "report": {text: 1.0}}])), text)
    check(shown(slot_table([{**slot, "waits": text}])), text)
    if kind != "a surrogate":  # which no data frame holds
        check(shown(frame_table(pd.DataFrame({text: [text]}), title=text)), text)
    rows = shown(job_table([hostile, state()])).strip("\n").count("\n")
    assert rows == shown(job_table([state(), state()])).strip("\n").count("\n") + 1  # what its trouble is


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_result_of_a_search_shows_what_is_there(kind: str) -> None:
    text = HOSTILE[kind]
    if kind == "a surrogate":
        return  # which no job takes
    job = Job(name="a", problem=lambda p, c: 0.0, space={"x": {"choice": [text, "other"]}}, optimizer=Random(trials=2))
    known = SearchState(job)
    for fitness, error in ((0.5, None), (None, f"ValueError: {text}\n  File x")):
        trial = known.optimizer.ask()
        assert trial is not None
        key = f"key{trial.id}"
        known.apply(Asked(trial=trial, evaluations=(Lookup(key, Source.TRAINED),)))
        status = Status.OK if error is None else Status.FAILED
        known.apply(Answered(result=Result(key=key, status=status, fitness=fitness, error=error)))
    said = shown(summary(known, text), errors_block(known))
    assert all(line.isprintable() for line in said.replace("\t", "").split("\n"))


def test_a_console_lets_nothing_through_that_somebody_forgot() -> None:
    check(shown("\x1b[2J[/tanh]"), "\x1b[2J[/tanh]")


def test_a_state_that_cannot_be_read_harms_its_row_alone() -> None:
    bad = [JobState.read(text) for text in ("{", "[]", "null", '{"name": "odd"}', '{"name": 3, "x": 1}')]
    broken = replace(state(name="broken"), priority="high", best={"params": 3})  # type: ignore[arg-type]
    text = shown(job_table([state(name="before"), *bad, broken, state(name="after")]))
    assert all(name in text for name in ("before", "after", "odd", "broken", "unreadable", "cannot be shown"))
    assert not bad[0].ended


async def test_a_state_that_cannot_be_drawn_harms_its_row_alone_on_the_page() -> None:
    async with Scheduler(port=0, host="127.0.0.1", dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
        board = Board(scheduler)
        hostile = state(name="hostile", problem="<script>x</script>", planned="<b>", owner="<i>")
        states = {each.name: json.dumps(each.__dict__) for each in (state(name="before"), hostile, state(name="after"))}
        board.tell(
            "m", {**states, "bad": "{", "odd": '{"state": 3}'}, {"before": "{", "after": '{"view": 3, "job": 1}'}
        )
        page = Jobs(board)
        page.update(None)
        text = page.root.text
        assert text.count("<tr>") == 6 and "cannot be shown" in text
        assert "<script>" not in text and "<i>" not in text and "<b><b>" not in text
        assert isinstance(page.root, Div) and page.root.disable_math


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_report_shows_what_is_there(kind: str) -> None:
    text = HOSTILE[kind]
    html = Page(text, text, [(text, text, text)], [Section("s", [Text(text), Facts([(text, text)])])], text).html()
    assert "<script>alert" not in html
    assert "$$" not in str(new_figure(text, y_axis_label=text).title.text)


@pytest.mark.matrix
@pytest.mark.parametrize("field", ["name", "fingerprint", "testable", "resumable", "identity", "origin", "options"])
@pytest.mark.parametrize("value", [*HOSTILE.values(), None, 3, [], {"x": [1]}, "x" * 10_000, float("nan")])
def test_what_is_said_of_the_problem_is_checked_like_the_rest(field: str, value: Any) -> None:
    job = Job(name="a", problem=lambda p, c: 0.0, space={"x": {"real": [0, 1]}}, optimizer=Random(trials=2))
    spec = job.to_dict()
    spec["problem"][field] = value
    try:
        again = Job.from_dict(spec, b"")
    except InvalidInput as error:
        assert str(error).isprintable()
    else:
        assert field in ("origin", "options", "name", "identity") and again.code.name.isprintable()


@pytest.mark.parametrize("spec", [{}, {"problem": 3}, {"problem": {"name": [1]}, "optimizer": None, "direction": 3}])
def test_an_ended_job_that_nobody_can_read_has_a_state(spec: dict[str, Any]) -> None:
    stored = StoredJob(name="a", spec=spec, created=0.0, status=JobStatus.NEW)
    found = ended_state(stored, Submission("a", "ann", 1.0, None, state=State.FAILED))
    assert (found["problem"], found["optimizer"]) == ("unreadable", "unreadable")
    assert JobState.read(json.dumps(found)).state == "failed"


def test_a_run_whose_options_look_like_markup_ends_with_its_result(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    return 1.0\n")
    (tmp_path / "job.yaml").write_text(
        'name: odd\nproblem: train.py:train\nspace: {x: {choice: ["[/tanh]", "\\e[2Jgone\\u202e"]}}\n'
        "optimizer: Grid\nisolation: thread\n"
    )
    for command in (("run", "job.yaml", "--slots", "1"), ("show", "odd"), ("best", "odd"), ("show",)):
        done = run_swarm(tmp_path, *command)
        assert done.returncode == 0, done.stderr
        assert "[/tanh]" in done.stdout or command == ("show",)
        assert all(line.isprintable() for line in done.stdout.splitlines())


@pytest.mark.parametrize("user", ["\x1b[2J", "a\nb", "\u202ea", "x" * 1000])
def test_a_user_has_a_name_that_can_be_shown(user: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        check_user(user)
    check_user("Ann Ü.")
