"""The report of a finished run, looked at in a real browser that has no network; its figures as files; its commands."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import Browser, Page, browser, needs_browser
from typer.testing import CliRunner

from swarm import PBT, PSO, Choice, Integer, Job, Real, run
from swarm.cli import app
from swarm.config import quiet_dask
from swarm.report import job_file, write
from swarm.report.figures import figures
from swarm.report.tables import Tables
from swarm.runner import Run, enroll
from swarm.store import Store

quiet_dask()

EXAMPLES = Path(__file__).parent.parent / "examples"
READY = "window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents.every((document) => document.is_idle)"
PLOTS = {"digits": 18, "pbt": 14}


class Digits:
    """A linear classifier of scikit-learn's digits, trained epoch by epoch."""

    name = "digits-linear"

    def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
        import numpy as np
        from sklearn.datasets import load_digits
        from sklearn.linear_model import SGDClassifier

        if params["rate"] > 0.5:
            raise ValueError("<script>alert('too fast')</script>")
        images, labels = load_digits(return_X_y=True)
        seen = np.arange(len(labels)) % 10 != ctx.fold
        model = SGDClassifier(
            params["loss"], alpha=params["decay"], learning_rate="constant", eta0=params["rate"], random_state=ctx.seed
        )
        for epoch in range(params["epochs"]):
            model.partial_fit(images[seen] / 16, labels[seen], classes=np.arange(10))
            accuracy = float(model.score(images[~seen] / 16, labels[~seen]))
            ctx.report(epoch=epoch + 1, val_accuracy=accuracy)
        return {"fitness": accuracy}

    def test(self, params: Any, ctx: Any) -> float:
        return self(params, ctx)["fitness"] - 0.01


class Descent:
    """Gradient descent on w² from 1, an epoch a step; its state is its checkpoint."""

    resumable = True
    changeable = ("lr", "momentum")

    def __call__(self, params: Any, ctx: Any) -> float:
        import numpy as np

        state = ctx.restore()
        w, v, epoch = (1.0, 0.0, 0) if state is None else (*state.arrays["wv"], state.meta["epoch"])
        while epoch < ctx.budget:
            v = params["momentum"] * v - params["lr"] * 2 * w
            w, epoch = w + v, epoch + 1
            ctx.report(epoch=epoch, loss=float(w * w))
        ctx.save({"wv": np.array([w, v])}, epoch=epoch)
        return float(w * w)


DIGITS = Job(
    name="digits",
    problem=Digits(),
    space={
        "rate": Real(1e-4, 1.0, log=True, digits=1),
        "decay": Real(1e-6, 1e-2, log=True, digits=1),
        "loss": Choice("hinge", "log_loss"),
        "epochs": Integer(1, 3),
    },
    optimizer=PSO(particles=4, generations=4),
    folds=2,
    isolation="thread",
)
DESCENT = Job(
    name="pbt",
    problem=Descent(),
    space={"lr": Real(1e-3, 0.9, log=True, default=0.02), "momentum": Real(0.0, 0.99, default=0.5)},
    optimizer=PBT(population=5, max_budget=4, mutation=0.3),
    direction="minimize",
    isolation="thread",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with finished runs, named ``digits`` and ``pbt``."""
    url = f"sqlite:///{tmp_path_factory.mktemp('report')}/swarm.db"
    for job in (DIGITS, DESCENT):
        run(job, slots=2, store=url, progress=False)
    return url


@pytest.fixture(scope="module")
def reports(store: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of these runs, by name, as the command writes them."""
    folder = tmp_path_factory.mktemp("pages")
    for name in PLOTS:
        done = CliRunner().invoke(app, ["report", name, "--store", store, "-o", str(folder / f"{name}.html")])
        assert done.exit_code == 0, done.output
    return {name: folder / f"{name}.html" for name in PLOTS}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def opened(chromium: Browser, file: Path, **options: Any) -> Page:
    page = chromium.open(file.as_uri(), **options)
    page.wait_for(READY)
    return page


@needs_browser
@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_offline_with_all_plots_and_no_error(
    reports: dict[str, Path], chromium: Browser, name: str, scheme: str
) -> None:
    page = opened(chromium, reports[name], scheme=scheme)
    assert page.errors == []
    assert page.requests == [reports[name].as_uri()]
    assert page.evaluate("document.querySelectorAll('.plot').length") == PLOTS[name]
    empty = "[...document.querySelectorAll('.plot')].filter((plot) => plot.getBoundingClientRect().height < 100).length"
    assert page.evaluate(empty) == 0
    assert page.count("canvas") >= PLOTS[name]
    assert reports[name].stat().st_size < 5e6
    page.close()


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_a_report_fits_the_window(reports: dict[str, Path], chromium: Browser, width: int) -> None:
    page = opened(chromium, reports["digits"])
    page.resize(width, 800)
    page.wait_for(f"document.documentElement.scrollWidth == {width}")
    page.close()


@needs_browser
def test_the_best_is_shown_and_can_be_copied(reports: dict[str, Path], chromium: Browser, store: str) -> None:
    found = Run.load("digits", store)
    page = opened(chromium, reports["digits"])
    assert yaml.safe_load(page.evaluate("document.querySelector('pre').innerText")) == found.best.params
    assert f"{found.best.fitness:.5g}" in page.text(".tile")
    page.click("button")
    page.wait_for("document.querySelector('button').textContent != 'Copy'")
    assert yaml.safe_load(page.evaluate("getSelection().toString()")) == found.best.params
    page.close()


@needs_browser
def test_pointing_at_a_trial_shows_its_hyper_parameters(reports: dict[str, Path], chromium: Browser) -> None:
    page = opened(chromium, reports["digits"])
    x, y = page.evaluate(
        """(() => {
          const of = (view) => [view, ...(view.child_views ?? []).flatMap(of)];
          const views = Object.values(Bokeh.index).flatMap(of);
          const plot = views.find((view) => view.model.title?.text == "Fitness");
          plot.el.scrollIntoView({block: "center"});
          const dots = plot.model.renderers.find((each) => each.glyph.type == "Scatter");
          const frame = plot.frame, box = plot.el.getBoundingClientRect();
          const best = dots.data_source.data.fitness.indexOf(Math.max(...dots.data_source.data.fitness));
          return [box.left + frame.x_scale.compute(dots.data_source.data.x[best]),
                  box.top + frame.y_scale.compute(dots.data_source.data.fitness[best])];
        })()"""
    )
    page.hover(x, y)
    tooltip = page.wait_for_text(".bk-tooltip-content", "rate")
    assert all(name in tooltip for name in ("trial", "fitness", "decay", "loss", "epochs"))
    page.close()


def test_a_report_escapes_what_trainings_say(reports: dict[str, Path]) -> None:
    text = reports["digits"].read_text()
    assert "alert(&#39;too fast&#39;)" in text
    assert "alert('too fast')" not in text


def test_every_figure_says_in_words_what_it_shows(reports: dict[str, Path]) -> None:
    for file in reports.values():
        captions = re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", file.read_text(), re.DOTALL)
        assert len(captions) == PLOTS[file.stem]
        assert all(len(caption) > 15 for caption in captions)


def test_a_run_that_found_nothing_yet_has_a_report_too(tmp_path: Path) -> None:
    store = Store(f"{tmp_path}/swarm.db")
    enroll(DIGITS, store)
    store.close()
    write(Run.load("digits", f"{tmp_path}/swarm.db"), tmp_path / "page.html")
    assert "No training has succeeded" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_job_file_of_a_report_is_the_same_job(example: Path, tmp_path: Path) -> None:
    job = Job.from_file(shutil.copy(example, tmp_path))
    kept = Job.from_dict(json.loads(json.dumps(job.to_dict())), job.code.pickle)  # as a store has it
    file = tmp_path / "again.yaml"
    file.write_text(job_file(kept))
    assert Job.from_file(file).differences(job.to_dict()) == []


def test_figures_for_papers_are_written_as_png_and_pdf(store: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "pbt", "--store", store, "--png", str(tmp_path / "figures")])
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "figures").iterdir())
    assert {file.suffix for file in files} == {".png", ".pdf"}
    assert {"fitness.pdf", "lineage.pdf", "schedule.png", "slots.png", "curves-loss.pdf"} <= {
        file.name for file in files
    }
    assert all(file.read_bytes()[:4] in (b"\x89PNG", b"%PDF") for file in files)


def test_every_axis_of_a_figure_for_papers_has_a_label(store: str) -> None:
    drawn = dict(figures(Tables(Run.load("digits", store))))
    assert {"fitness", "importance", "fold-test", "fold-time", "fold-shares", "generation-seconds"} <= set(drawn)
    for figure in drawn.values():
        assert all(axes.get_xlabel() or axes.get_ylabel() or len(axes.get_xticks()) for axes in figure.axes)
