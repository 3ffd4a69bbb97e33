"""What a notebook shows: runs, jobs, clients and lists of jobs, as tables of escaped text; figures; the report."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from services import Service, free_port

from swarm import Choice, Client, Job, Random, Real, Run, run
from swarm.errors import InvalidInput
from swarm.report.figures import figures
from swarm.report.tables import Tables

EVIL = "<script>alert(1)</script>"


def train(params: Any, ctx: Any) -> float:
    return -abs(params["x"] - 0.3)


def made(name: str = "seen", trials: int = 6) -> Job:
    space = {"x": Real(0, 1), "how": Choice("plain", EVIL)}
    return Job(name=name, problem=train, space=space, optimizer=Random(trials=trials), isolation="thread", first=FIRST)


FIRST = [{"x": 0.3, "how": EVIL}]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(made(), slots=1, store=tmp_path_factory.mktemp("store") / "a.db", progress=False)


def cells(shown: str) -> list[str]:
    """The texts of a table's cells."""
    return [html.unescape(text) for text in re.findall("<t[hd](?: [^>]*)?>(.*?)</t[hd]>", shown)]


def test_a_run_shows_its_best_and_a_picture(found: Run) -> None:
    shown = found._repr_html_()
    there = cells(shown)
    assert there[there.index("run") + 1] == "seen" and there[there.index("status") + 1] == "finished: done"
    assert there[there.index("how") + 1] == EVIL and EVIL not in shown
    assert there[there.index("x") + 1] == "0.3"
    assert 'src="data:image/png;base64,iVBORw0KGgo' in shown


def test_a_run_without_a_best_shows_no_picture(tmp_path: Path) -> None:
    def fails(params: Any, ctx: Any) -> float:
        return float("nan")

    job = Job(name="none", problem=fails, space={"x": Real(0, 1)}, optimizer=Random(trials=2), isolation="thread")
    shown = run(job, slots=1, store=tmp_path / "a.db", progress=False)._repr_html_()
    assert "none yet" in cells(shown) and "<img" not in shown


def test_a_run_draws_the_figures_of_its_report(found: Run, tmp_path: Path) -> None:
    for name, _ in figures(Tables(found)):
        drawn = found.plot(name)
        assert drawn._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert found.plot().axes[0].get_ylabel() == "fitness"
    found.plot().savefig(tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InvalidInput, match=r"no figure 'fitnes' \(did you mean 'fitness'\?\); it has fitness, hyper-"):
        found.plot("fitnes")


def test_a_run_writes_its_report(found: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found.report() == Path("seen.html")
    assert "Report of seen" in found.report(tmp_path / "b.html").read_text()
    with pytest.raises(InvalidInput, match="there is no folder absent; make it"):
        found.report("absent/b.html")


def test_a_job_shows_its_space() -> None:
    shown = made(trials=7)._repr_html_()
    there = cells(shown)
    assert there[there.index("job") + 1] == "seen" and "trials=7" in there[there.index("method") + 1]
    assert there[there.index("x") + 1] == str(made().space.domains["x"])  # type: ignore[union-attr]
    assert EVIL in there[there.index("how") + 1] and EVIL not in shown


def test_a_client_and_its_jobs_show_themselves(tmp_path: Path) -> None:
    with Service(tmp_path).started(slots=1) as service:
        client = Client(service.address)
        assert cells(client._repr_html_())[-2:] == ["jobs", "none"]
        client.submit(made()).wait(timeout=60)
        jobs = client.jobs()
        there = cells(jobs._repr_html_())  # type: ignore[attr-defined]
        assert there[:3] == ["job", "owner", "state"] and "6/6" in there and "finished" in there
        assert isinstance(jobs, list) and [each.name for each in jobs] == ["seen"]
        about = cells(client._repr_html_())
        assert about[about.index("state") + 1] == "well" and about[-1] == "1 finished"


def test_a_client_of_a_service_that_is_away_shows_why() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    client = Client(address, patience=0)
    assert cells(client._repr_html_())[:2] == ["service", address]
    assert "no scheduler answers" in cells(client._repr_html_())[3]
    assert cells(Client(address, asynchronous=True)._repr_html_()) == ["service", address]
