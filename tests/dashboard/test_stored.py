"""Runs of a store in a real browser, without a scheduler: the table of trials, one of them, curves."""

from __future__ import annotations

import struct
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import DEEP, Browser, Page, browser, needs_browser
from scripts import run_swarm
from services import wait_until
from stored_pages import served

from swarm import Choice, Grid, Integer, Job, Random, Run, run
from swarm.dashboard.reports import places, step_name
from swarm.dashboard.stored import Shelf
from swarm.errors import StoreUnavailable
from swarm.service.published.snapshot import View

pytestmark = [pytest.mark.slow]


def train(params: Any, ctx: Any) -> dict[str, float]:
    for epoch in range(1, 4):
        ctx.report(epoch=epoch, val_accuracy=params["units"] * epoch / 100)
    if params["activation"] == "<i>tanh":
        raise ValueError("it <b>diverged</b>")
    return {"fitness": params["units"] / 100, "size": float(params["units"] ** 2)}


def png(width: int, height: int) -> bytes:
    """A picture in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x20\x90\x50" * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SCRIPT = b"<script xmlns='http://www.w3.org/1999/xhtml'>document.title = 'taken over'</script>"
FILES = {
    "confusion <b>&'.png": png(300, 200),
    "table.txt": b"a <b>b</b>\n1 2\n",
    "model.bin": bytes(range(256)) * 20,
    "page.html": SCRIPT,
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='30'>" + SCRIPT + b"</svg>",
}


def leaves(params: Any, ctx: Any) -> float:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for name, inside in FILES.items():
            (Path(folder) / name).write_bytes(inside)
            ctx.artifact(Path(folder) / name)
    return float(params["n"])


def searched(store: Path, name: str, trials: int = 12, seed: int = 1) -> None:
    space = {"units": Integer(1, 90), "activation": Choice(["relu", "<i>tanh"])}
    method = Random(trials=trials)
    job = Job(name=name, problem=train, space=space, optimizer=method, seed=seed, isolation="thread", max_failures=0)
    run(job, slots=1, store=store, progress=False)


IMAGES = f"{DEEP}('img')"
WIDTHS = f"{IMAGES}.map((image) => image.naturalWidth).sort((a, b) => a - b)"
DEEP_LINKS = f"{DEEP}('td a').map((link) => link.href)"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("stored") / "runs.db"
    job = Job(name="files", problem=leaves, space={"n": Integer(0, 2)}, optimizer=Grid(), isolation="thread")
    run(job, slots=1, store=found, progress=False)
    searched(found, "first")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def rows(page: Page) -> int:
    return page.count(".slick-row")


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_trials_of_a_stored_run_are_filtered_and_one_is_looked_into(
    theme: str, store: Path, chromium: Browser
) -> None:
    with served(store) as address:
        page = chromium.open(f"{address}?theme={theme}")
        wait_until(lambda: "first" in page.text("td"))
        page.click("td a")  # the name of the run
        wait_until(lambda: rows(page) == 12)
        assert page.evaluate("new URL(location).searchParams.get('page')") == "trials"
        points = seen(store).points
        failed = [point for point in points if point.fitness is None]
        best = max((point for point in points if point.fitness is not None), key=lambda point: point.fitness or 0.0)
        assert 0 < len(failed) < 12
        assert page.type("input", "status=failed")
        wait_until(lambda: rows(page) == len(failed))
        page.click(".slick-row .slick-cell")
        wait_until(lambda: "why it failed" in page.text("h4"))
        assert "ValueError: it <b>diverged</b>" in page.text("p")
        assert 'raise ValueError("it <b>diverged</b>")' in page.text("pre")
        assert page.type("input", f"units>={best.params['units']} relu")
        wait_until(lambda: rows(page) == 1)
        page.click(".slick-row .slick-cell")
        wait_until(lambda: f"trial {best.trial} · generation 0" in page.text("h3") and "the best" in page.text("h3"))
        assert f"size\t{best.metrics['size']:g}" in page.text("tr").replace("\n", "\t")
        wait_until(lambda: page.count("canvas"), of="its curve")
        assert page.errors == []


@needs_browser
def test_the_files_of_a_trial_are_shown_none_is_run_by_the_browser_and_a_note_is_written_on_it(
    store: Path, chromium: Browser
) -> None:
    with served(store) as address:
        page = chromium.open(f"{address}?page=trials&job=files")
        wait_until(lambda: rows(page) == 3)
        page.click(".slick-row .slick-cell")
        wait_until(lambda: "files" in page.text("h4"))
        page.wait_for(WIDTHS + ".join() === '90,300'")
        assert "a <b>b</b>" in page.text("pre")
        assert set(page.text("td a").split("\n")) == set(FILES)
        assert "5.1 kB" in page.text("td")
        links = page.evaluate(DEEP_LINKS)
        assert len(links) == len(FILES)
        assert page.errors == []
        for link in links:
            with urllib.request.urlopen(link) as answer:
                name = urllib.parse.unquote(link.rpartition("/")[2])
                assert answer.read() == FILES[name]
                assert "sandbox" in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                kind = answer.headers["Content-Type"]
                assert kind in ("image/png", "image/svg+xml", "application/octet-stream")
                inline = answer.headers["Content-Disposition"].startswith("inline")
                assert inline == kind.startswith("image/") == name.endswith(("png", "svg"))
        page.goto(next(link for link in links if link.endswith(".svg")))
        assert page.evaluate("document.title") != "taken over"
        page.goto(f"{address}?page=trials&job=files")
        wait_until(lambda: rows(page) == 3)
        page.click(".slick-row .slick-cell")
        wait_until(lambda: "trial " in page.text("h3"))
        assert page.type("textarea", "worth <b>a</b> look")
        page.click_on("button", "keep note")
        wait_until(lambda: "worth <b>a</b> look" in page.text(".slick-row"), of="the note in the table")
        trial = int(page.text("h3").split()[1])
        assert Run.load("files", str(store)).notes == {trial: "worth <b>a</b> look"}
        assert all("Blocked script execution" in error for error in page.errors), "the drawing's own, by its sandbox"
        folder = links[0].rpartition("/")[0]
        for wrong in (f"{folder}/no.png", f"{folder}/..%2f..%2fruns.db", f"{folder}/%2e%2e", f"{address}files/zz/a"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(wrong)


@needs_browser
def test_the_curves_of_a_stored_run_are_drawn_and_what_is_run_meanwhile_is_shown(
    store: Path, chromium: Browser
) -> None:
    with served(store) as address:
        page = chromium.open(f"{address}?page=curves&job=first")
        scored = sum(point.fitness is not None for point in seen(store).points)  # the archive keeps no others' curves
        wait_until(lambda: f"{scored} have ended" in page.text(".bk-clearfix"))
        wait_until(lambda: page.count("canvas"))
        searched(store, "second", trials=3, seed=2)
        page.goto(f"{address}?page=jobs")
        wait_until(lambda: "second" in page.text("td"))
        assert page.errors == []


def test_pages_that_others_can_reach_write_no_notes(store: Path) -> None:
    shelf = Shelf(str(store))
    shelf.look()
    point = seen(store).points[0]
    assert shelf.write_note("first", point.trial, point.key, "no") is not None
    assert Run.load("first", str(store)).notes == {}
    shelf = Shelf(str(store), writable=True)
    shelf.look()
    assert shelf.write_note("first", point.trial, "of another", "no") is not None
    assert "2000" in (shelf.write_note("first", point.trial, point.key, "x" * 3000) or "")
    assert shelf.write_note("first", point.trial, point.key, "yes") is None
    assert shelf.notes("first") == {point.trial: "yes"}


def test_a_store_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run_swarm(tmp_path, "dashboard", "--store", "no.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("swarm: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "no.db").exists()
    with pytest.raises(StoreUnavailable):
        Shelf(str(tmp_path / "no.db"))


def test_a_port_that_is_taken_is_one_line_with_the_remedy(store: Path) -> None:
    with served(store) as address:
        port = address.rstrip("/").rpartition(":")[2]
        done = run_swarm(store.parent, "dashboard", "--store", str(store), "--port", port)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--port 0" in done.stderr


def test_reports_stand_where_the_training_says_and_behind_those_it_continues() -> None:
    assert places([{"loss": 1.0}, {"loss": 0.5}]) == [1.0, 2.0]
    assert places([{"step": 10}, {"step": 20}]) == [10.0, 20.0]
    assert places([{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]) == [1.0, 2.0, 3.0]
    assert places([{"epoch": 1}, {"epoch": 2}] * 2) == [1.0, 2.0, 3.0, 4.0]
    assert (step_name([{"step": 1, "loss": 2}]), step_name([{"loss": 2}]), step_name([])) == (
        "step",
        "report",
        "report",
    )


def seen(store: Path) -> View:
    """What is known of the first run of the store."""
    shelf = Shelf(str(store))
    shelf.look()
    view = shelf.shown["first"].view
    assert view is not None
    return view
