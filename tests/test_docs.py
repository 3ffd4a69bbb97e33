"""The documentation site: it builds without a warning, needs no network, and what it shows is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from browser import browser, needs_browser
from services import Service, free_port, wait_until
from test_readme import BIN, ROOT, code, small

import swarm.cli
from swarm import Job
from swarm.optimizers import OPTIMIZERS
from swarm.workers.context import Context
from swarm.workers.models import PROBLEMS
from swarm.workers.problem import load, prepare, score

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
ALL = "\n".join(PAGES.values())
LASTING = ("scheduler", "worker", "master")
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, title and text of the blocks of a page, in their order."""
    return BLOCK.findall(PAGES[page])


def commands(group: Any = None, before: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command with its options."""
    group = group or typer.main.get_command(swarm.cli.app)
    for name, command in group.commands.items():
        spellings = {spelling for parameter in command.params for spelling in parameter.opts}
        yield f"{before}{name}", {option for option in spellings if option.startswith("-")}
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} ")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the extra docs is not installed: pip install '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in PAGES:
        html = (site / page).with_suffix(".html").read_text(encoding="utf-8")
        assert not re.findall(r'<(?:link|script|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]+"', html), page
        assert not re.findall(r"\{\{ (?:keys|options|settings|command)", html), page
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", styles)


@pytest.mark.slow
def test_the_reference_has_every_command_and_every_key_of_a_job(site: Path) -> None:
    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    for name, options in commands():
        assert f"swarm {name}</code>" in text
        assert all(option in text for option in options)
    text = (site / "reference" / "job-file.html").read_text(encoding="utf-8")
    assert all(f"<code>{key}</code>" in text for key in Job.model_fields)


@needs_browser
@pytest.mark.slow
def test_pages_are_read_and_searched_as_files(site: Path) -> None:
    with browser() as chromium:
        page = chromium.open((site / "index.html").as_uri())
        page.evaluate("document.querySelector('.md-search__input').focus()")
        page.evaluate(
            "((input) => { input.value = 'inertia'; input.dispatchEvent(new Event('keyup', {bubbles: true}));"
            " input.dispatchEvent(new Event('input', {bubbles: true})); })(document.querySelector('.md-search__input'))"
        )
        page.wait_for("document.querySelectorAll('.md-search-result__item').length > 0")
        for name in ("tutorial", "guides/dashboard", "reference/python"):
            page.goto((site / f"{name}.html").as_uri())
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith("file:")] == []


class Terminal:
    """Runs the lines of the tutorial, in a folder of its own; its ports stand for those that are shown."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder, self.service = folder, service
        self.dashboard = f"127.0.0.1:{free_port()}"
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "COLUMNS": "200", "DASK_CONFIG": str(folder / "dask")}
        self.env.pop("DASK_SCHEDULER_ADDRESS", None)
        self.printed = ""

    def type(self, line: str) -> None:
        line = line.replace("tcp://127.0.0.1:8786", self.service.address)
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            self.env |= dict(word.split("=", 1) for word in words[1:])
        elif words[0] == "swarm" and words[1] in LASTING:
            ports = ["--port", str(self.service.port), "--dashboard", self.dashboard]
            self.service.start(words[1], *words[1:], *(ports if words[1] == "scheduler" else []))
            if words[1] == "master":
                wait_until(lambda: self.service.client.hello()["master"])
        else:
            done = subprocess.run(
                line,
                shell=True,
                cwd=self.folder,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert done.returncode == 0, line + done.stdout + done.stderr
            self.printed += done.stdout


def told(text: str) -> set[str]:
    """The lines of an output without what differs from machine to machine."""
    return {re.sub(r"[\d.]+", "#", line.split(";")[0]).strip() for line in text.splitlines()}


@pytest.mark.slow
def test_everything_in_the_tutorial_runs(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        terminal = Terminal(tmp_path, service)
        for language, title, text in blocks("tutorial.md"):
            if title:
                (tmp_path / title).write_text(small(text) if title == "job.yaml" else text, encoding="utf-8")
            elif language == "sh":
                for line in text.splitlines():
                    terminal.type(line)
            else:
                assert language == "text"
                shown = {line for line in told(text) if not line.startswith(("…", "# evaluations", "generation"))}
                assert shown <= told(terminal.printed)
        with urllib.request.urlopen(f"http://{terminal.dashboard}/swarm") as answer:
            assert b"Swarm" in answer.read()
        for name in ("trials.csv", "mlp-2.csv", "mlp-2.html"):
            assert (tmp_path / name).stat().st_size > 0


def test_every_block_of_the_tutorial_is_of_a_kind_that_is_run() -> None:
    assert {(language, bool(title)) for language, title, _ in blocks("tutorial.md")} == {
        ("python", True),
        ("yaml", True),
        ("sh", False),
        ("text", False),
    }


@pytest.mark.parametrize("page", ["training-function", "spaces", "keras", "programs", "pbt"])
def test_the_files_of_a_guide_are_jobs(page: str, tmp_path: Path) -> None:
    titled = {title: text for _, title, text in blocks(f"guides/{page}.md") if title}
    for title, text in titled.items():
        (tmp_path / title).write_text(text, encoding="utf-8")
    jobs = [Job.from_file(tmp_path / title) for title in titled if title.endswith(".yaml")]
    assert jobs
    for job in jobs:
        assert job.space is not None
        if page != "keras":  # whose trainings are tested elsewhere: TensorFlow takes its time
            problem = load(job.code.pickle)
            prepare(problem)
            params = job.space.decode([0.5] * job.space.dimensions)
            fitness, _ = score(problem(params, Context(params=params, budget=2)))
            assert isfinite(fitness)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_other_block_can_be_read(page: str) -> None:
    for language, _, text in blocks(page):
        if language == "python":
            compile(text, page, "exec")
        elif language == "yaml":
            assert yaml.safe_load(text)


def test_every_optimizer_that_is_shown_is_one() -> None:
    shown = [yaml.safe_load(text) for page in PAGES for language, title, text in blocks(page) if language == "yaml"]
    options = [data["optimizer"] for data in shown if "optimizer" in data]
    assert options
    for each in options:
        space = {"rate": {"real": [0, 1], "default": 0.5}, "units": {"integer": [1, 9], "default": 2}}
        method = {"name": each, "points": 3} if each == "Grid" else each
        Job(name="shown", problem=lambda params, ctx: 0.0, space=space, optimizer=method, checkpoints=True)


def test_every_command_and_option_that_is_shown_exists() -> None:
    known = dict(commands())
    shown = {text for text in code(ALL) if text.startswith("swarm ") and not text.startswith("swarm …")}
    assert shown
    for text in shown:
        words = text.split("#")[0].split()
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in known else words[1]
        assert name in known, text
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", text)) <= known[name], text


def test_every_file_that_is_named_exists() -> None:
    spans = re.findall(r"(?<![\w/.])(?:benchmarks|deploy|examples|tests)/[\w./*-]*[\w*]", ALL)
    assert spans
    assert not [span for span in spans if not list(ROOT.glob(span))]


def test_every_benchmark_and_its_options_that_are_shown_exist() -> None:
    calls = {span for span in code(ALL) if span.startswith("python benchmarks/")}
    assert calls
    for span in calls:
        text = (ROOT / span.split()[1]).read_text(encoding="utf-8")
        assert all(f'"{option}"' in text for option in re.findall(r"--[a-z-]+", span)), span


def test_every_method_has_its_options_on_a_page() -> None:
    for name in OPTIMIZERS:
        assert f"{{{{ options {name} }}}}" in ALL, name


def test_every_built_in_problem_is_in_the_list() -> None:
    assert not [name for name in PROBLEMS if f"`{name}`" not in PAGES["guides/keras.md"]]


@pytest.mark.parametrize(
    ("paper", "kind", "last"),
    [
        ("Parallel PSO", "figure", 13),
        ("Parallel PSO", "table", 2),
        ("LeNet-5 project report", "figure", 5),
        ("Recombination of Artificial Neural Networks", "figure", 14),
        ("Recombination of Artificial Neural Networks", "table", 4),
        ("NHOP", "figure", 10),
        ("DLOPT", "listing", 3),
    ],
)
def test_every_table_and_figure_of_a_paper_has_its_row(paper: str, kind: str, last: int) -> None:
    part = PAGES["papers.md"].split(f"## {paper}\n")[1].split("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in part.splitlines() if row.startswith(f"| {kind}")]
    assert all(command.strip() and state.strip() for _, _, command, state in rows)
    shown: set[int] = set()
    for item, *_ in rows:
        shown |= {int(number) for number in re.findall(r"\d+", item)}
        shown |= {n for a, b in re.findall(r"(\d+) to (\d+)", item) for n in range(int(a), int(b))}
    assert shown == set(range(1, last + 1))


def test_pictures_are_small() -> None:
    pictures = list((DOCS / "images").iterdir())
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 150_000, path
        assert f"images/{path.name}" in ALL, path
