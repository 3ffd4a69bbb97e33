"""The swarm's pages in a real browser, against a real service that really works."""

from __future__ import annotations

import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import DEEP, Browser, Page, browser, needs_browser
from services import Service, wait_until
from test_stored import png

from swarm import PBT, PSO, Choice, Grid, Integer, Job, Random, Real, Run

pytestmark = [pytest.mark.slow, needs_browser]
SHOWN = {  # what is said there: title of the page
    "layers": "Jobs",
    "filter": "Trials",
    "trials answered, best": "Fitness",
    "run now": "Curves",
    " members": "Search space",
    "answered by the archive": "Archive",
    "has no model": "Model",
    "slots busy": "Slots",
    "no lineage": "PBT",
    "found by": "Compare",
}

FITS = "document.documentElement.scrollWidth <= innerWidth"
TOKEN = "open sesame, <please>"


def make_training(folder: Path) -> Any:
    """It reports, now and then fails, and does not end before it may."""

    def train(params: Any, ctx: Any) -> float:
        import time
        from pathlib import Path

        before = ctx.restore()
        skill = float(before.arrays["skill"]) if before else 0.0
        for epoch in range(3):
            ctx.report(epoch=epoch, val_accuracy=skill + epoch * params["rate"])
            time.sleep(0.03)
        while ctx.budget is None and not Path(folder, "go").exists() and params["layers"] > 6:
            time.sleep(0.05)
        if params.get("activation") == "tanh":
            raise ValueError("it diverged")
        import numpy

        ctx.save({"skill": numpy.array(skill + params["rate"])})
        return skill + params["rate"] + 0.01 * params["layers"]

    train.resumable = True  # type: ignore[attr-defined]
    return train


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, env={"DASK_SWARM__DASHBOARD_TOKEN": TOKEN}) as service:
        service.started(slots=3)
        space = {
            "layers": Integer(1, 9),
            "rate": Real(1e-4, 0.1, log=True),
            "activation": Choice(["<i>relu", "tanh"]),
        }
        swarm = Job(
            name="swarm",
            problem=make_training(folder),
            space=space,
            optimizer=PSO(particles=6, generations=6),
            isolation="thread",
        )
        heirs = Job(
            name="heirs",
            problem=make_training(folder),
            space={"layers": 3, "rate": Real(1e-4, 0.1, log=True)},
            optimizer=PBT(population=4, max_budget=4),
            isolation="thread",
        )
        service.client.submit(heirs).wait(timeout=60)
        service.client.submit(swarm)
        wait_until(lambda: service.client.attach("swarm").state().told >= 3)
        yield service


def said(page: Page) -> str:
    """What stands on the page outside of figures."""
    return page.text(".bk-clearfix")


def url(service: Service) -> str:
    return wait_until(lambda: service.log("scheduler").partition("dashboard at ")[2].partition("/swarm")[0])


def test_every_page_draws_a_job_that_runs_and_the_console_stays_empty(service: Service, chromium: Browser) -> None:
    page = chromium.open(f"{url(service)}/swarm?job=swarm")
    wait_until(lambda: page.count(".bk-tab") == len(SHOWN))
    for number, what in enumerate(SHOWN, start=1):
        page.click(f".bk-tab:nth-child({number})")
        wait_until(lambda what=what: what in page.text("td, .bk-clearfix, label"), seconds=20, of=what)
        assert not page.errors, "\n".join(page.errors)
    assert page.text(".bk-tab").split("\n") == list(SHOWN.values())


def test_what_users_typed_is_shown_as_they_typed_it(service: Service, chromium: Browser) -> None:
    page = chromium.open(f"{url(service)}/swarm?page=jobs")
    wait_until(lambda: "heirs" in page.text("td"))
    assert "3 slots" in page.text("td") and "activation <i>relu" in page.text("td")
    assert page.errors == []


def press(page: Page, label: str) -> None:
    """Click the button with this label."""
    wait_until(lambda: label in page.text(".bk-btn").split("\n"), of=f"a button {label!r}")
    page.click(".bk-btn", page.text(".bk-btn").split("\n").index(label))


def test_the_pages_have_a_tab_and_stand_alone_for_jupyter(service: Service, chromium: Browser) -> None:
    page = chromium.open(f"{url(service)}/status")
    assert "Swarm" in page.text(".navbar")
    page.goto(f"{url(service)}/individual-swarm-fitness")
    wait_until(lambda: page.count("canvas"))
    assert [error for error in page.errors if "swarm" in error] == []
    with urllib.request.urlopen(f"{url(service)}/individual-plots.json") as answer:
        assert b"individual-swarm-slots" in answer.read()


def test_a_user_who_gives_the_token_pauses_prioritises_and_cancels_a_job(service: Service, chromium: Browser) -> None:
    space, method = {"layers": 9, "rate": Real(0, 1)}, Random(trials=10_000)
    job = Job(name="steered", problem=make_training(service.folder), space=space, optimizer=method, isolation="thread")
    handle = service.client.submit(job)
    page = chromium.open(f"{url(service)}/swarm?page=jobs&job=steered")
    page.wait_for_text("td", "steered")
    assert "pause" not in page.text(".bk-btn")
    assert page.type("input[type=password]", "open sesame")
    wait_until(lambda: "that is not the token" in said(page))

    def unlocked() -> bool:
        return not page.type("input[type=password]", TOKEN)  # again, since none is looked at for a second

    wait_until(unlocked)
    press(page, "pause")
    wait_until(lambda: handle.state().state == "paused")
    press(page, "unpause")
    wait_until(lambda: handle.state().state == "active")
    assert page.type("input[type=text]", "2.5")
    press(page, "set priority")
    wait_until(lambda: handle.state().priority == 2.5)
    press(page, "cancel")
    assert handle.state().state == "active"
    press(page, "really cancel?")
    wait_until(lambda: handle.state().state == "cancelled")
    wait_until(lambda: "Ended" in page.text("h4") and "cancelled" in page.text("td"))
    assert page.errors == []
    assert TOKEN not in service.log("scheduler") and TOKEN not in service.log("master")
    assert not [asked for asked in page.requests if "sesame" in asked]


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.deep)])
def test_every_page_fits_every_window(theme: str, service: Service, chromium: Browser) -> None:
    page = chromium.open(f"{url(service)}/swarm?job=swarm&theme={theme}")
    wait_until(lambda: page.count(".bk-tab") == len(SHOWN))
    for number, what in enumerate(SHOWN, start=1):
        page.click(f".bk-tab:nth-child({number})")
        wait_until(lambda what=what: what in page.text("td, .bk-clearfix, label"), seconds=20, of=what)
        for width in (1400, 900, 400):
            page.resize(width, 900)
            wait_until(lambda: page.evaluate(FITS), seconds=10, of=f"that {SHOWN[what]} fits {width} pixels")
    assert page.errors == []


def test_the_lineage_of_a_population_is_drawn(service: Service, chromium: Browser) -> None:
    page = chromium.open(f"{url(service)}/swarm?page=pbt&job=heirs&theme=dark")
    wait_until(lambda: "The winner's line has 4 slices" in said(page))
    assert page.errors == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"


def leaving(picture: bytes) -> Any:
    """A training that leaves this picture, and says so."""

    def train(params: Any, ctx: Any) -> float:
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "confusion <b>.png")
            path.write_bytes(picture)
            ctx.artifact(path)
        print("left <i>it</i>")
        return float(params["n"])

    return train


def test_a_picture_of_a_trial_is_shown_live_and_a_note_is_taken_from_who_gives_the_token(
    service: Service, chromium: Browser
) -> None:
    job = Job(name="leaving", problem=leaving(png(300, 200)), space={"n": Integer(0, 2)}, optimizer=Grid())
    service.client.submit(job).wait(timeout=60)
    page = chromium.open(f"{url(service)}/swarm?page=trials&job=leaving")
    wait_until(lambda: page.count(".slick-row") == 3)
    page.click(".slick-row .slick-cell")
    page.wait_for(f"{DEEP}('img').map((image) => image.naturalWidth).join() === '300'")
    assert "left <i>it</i>" in page.text("pre") and "confusion <b>.png" in page.text("td")
    assert not page.count("textarea") or not page.evaluate(f"{DEEP}('textarea')[0].checkVisibility()")
    page.click_on(".bk-tab", "Jobs")
    wait_until(lambda: page.count("input[type=password]"))
    assert page.type("input[type=password]", TOKEN)
    wait_until(lambda: not page.count("input[type=password]"))
    page.click_on(".bk-tab", "Trials")
    page.wait_for(f"{DEEP}('textarea').some((field) => !field.disabled && field.checkVisibility())")
    assert page.type("textarea", "worth <b>a</b> look")
    page.click_on("button", "keep note")
    page.wait_for_text(".slick-row", "worth <b>a</b> look")
    trial = int(page.text("h3").split()[1])
    assert Run.load("leaving", service.store).notes == {trial: "worth <b>a</b> look"}
    assert page.errors == []


def test_a_page_follows_the_job_and_says_when_nobody_attends_to_it(service: Service, chromium: Browser) -> None:
    page = chromium.open(f"{url(service)}/swarm?page=fitness&job=swarm")

    def told() -> int:
        found = re.search(r"(\d+) trials answered", said(page))
        return int(found[1]) if found else 0

    before = wait_until(told)
    (service.folder / "go").touch()
    wait_until(lambda: told() > before + 6)
    wait_until(lambda: service.client.attach("swarm").state().ended)
    wait_until(lambda: told() == 42)
    assert page.errors == []
    space, method = {"layers": 3, "rate": Real(0, 1)}, Random(trials=10_000)
    service.client.submit(Job(name="next", problem=make_training(service.folder), space=space, optimizer=method))
    page = chromium.open(f"{url(service)}/swarm?page=jobs")
    wait_until(lambda: "next" in page.text("td"))
    alone = chromium.open(f"{url(service)}/individual-swarm-slots")
    service.kill("master", signal.SIGSTOP)
    for each in (page, alone):
        wait_until(lambda each=each: "has been silent for" in said(each), of="a word on the silence")
    service.kill("master", signal.SIGCONT)
    wait_until(lambda: "has been silent for" not in said(page) + said(alone))
    service.kill("master")
    wait_until(lambda: "No master is connected" in said(page))
    assert "unattended" in page.text("td")
    assert page.errors == []
