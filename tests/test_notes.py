"""Notes that people write on trials: beside the journal, seen wherever the trial is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from swarm import Grid, Integer, Job, Run, run
from swarm.cli import app
from swarm.errors import InvalidInput
from swarm.store import Store

ESCAPE = "\x1b[31mred\x1b[0m"


@pytest.fixture
def found(tmp_path: Path) -> Run:
    space = {"n": Integer(0, 3)}
    job = Job(name="job", problem=lambda p, ctx: p["n"] / 3, space=space, optimizer=Grid(), isolation="thread")
    return run(job, slots=1, store=str(tmp_path / "s.db"), progress=False)


def said(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_note_is_read_where_the_trial_is_and_replaced_or_taken_away(found: Run, tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "s.db")]
    events = list(_events(found))
    said("note", "job", "2", "look at <b>this</b>", *store)
    found.note(3, f"{ESCAPE}\ntwo lines \0\udc80")
    assert found.notes == {2: "look at <b>this</b>", 3: "[31mred[0m\ntwo lines ?"}
    assert said("note", "job", "2", *store) == "look at <b>this</b>\n"
    assert said("note", "job", *store).splitlines() == ["2: look at <b>this</b>", "3: [31mred[0m", "two lines ?"]
    assert list(_events(found)) == events, "the journal knows nothing of it"
    again = Run.load("job", store[1])
    assert again.best == found.best
    assert list(again.history["note"].dropna()) == ["look at <b>this</b>", "[31mred[0m\ntwo lines ?"]
    assert "look at <b>this</b>" in said("export", "job", *store)
    page = again.report(tmp_path / "r.html").read_text()
    assert "look at &lt;b&gt;this&lt;/b&gt;" in page and "look at <b>this" not in page
    said("note", "job", "2", "other", *store)
    said("note", "job", "3", "", *store)
    assert Run.load("job", store[1]).notes == {2: "other"}


def test_a_trial_that_is_not_there_or_a_text_too_long_is_refused(found: Run) -> None:
    with pytest.raises(InvalidInput, match="it has trials 0 to 3"):
        found.note(4, "no")
    with pytest.raises(InvalidInput, match="up to 2000 characters"):
        found.note(1, "x" * 2001)
    assert found.notes == {}
    assert "note" not in found.history.columns


def test_notes_go_with_their_run_and_not_to_another_trial_of_that_number(found: Run) -> None:
    found.note(1, "mine")
    with closing(Store(found.url)) as store:
        note = store.notes("job")[0]
        store.write_note(type(note)("job", 2, "of another trial", "not mine"))
        assert found.notes == {1: "mine"}
        store.delete_job("job")
        assert store.notes() == []


def test_a_store_of_an_earlier_version_has_no_notes_until_one_is_written(found: Run) -> None:
    with sa.create_engine(found.url).begin() as connection:
        connection.execute(sa.text("DROP TABLE swarm_notes"))
    assert found.notes == {}
    found.note(0, "first")
    assert found.notes == {0: "first"}


def _events(found: Run) -> list[object]:
    with closing(Store(found.url, create=False)) as store:
        return list(store.events("job"))
