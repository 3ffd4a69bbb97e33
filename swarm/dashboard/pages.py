"""The swarm's pages in the Dask dashboard: a tab in its navigation bar, and one page each for Jupyter's Dask extension.

Importing this module costs a second: :func:`swarm.dashboard.mount` does it when somebody opens a page.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import TabPanel, Tabs
from bokeh.models.layouts import LayoutDOM
from bokeh.models.widgets import Div, Select
from distributed import Scheduler

from swarm.dashboard.board import Shown, Shows
from swarm.dashboard.cluster.compare import Compare
from swarm.dashboard.cluster.steering import Desk, Steering
from swarm.dashboard.curves import Curves
from swarm.dashboard.live import Jobs, Page, Slots
from swarm.dashboard.search.model import Model
from swarm.dashboard.searches import Archive, Fitness, Lineage, SearchSpace
from swarm.dashboard.theme import DARK, HEAD, LIGHT, PAGE, WIDGETS
from swarm.dashboard.trial.visit import LookingDesk, Visit
from swarm.dashboard.trials import Trials

PAGES: tuple[type[Page], ...] = (Jobs, Trials, Fitness, Curves, SearchSpace, Archive, Model, Slots, Lineage, Compare)
STORED = tuple(page for page in PAGES if page is not Slots)
"""Pages of runs that are only stored."""
_MILLISECONDS = 500


class PagesDesk(Desk, LookingDesk, Protocol):
    """Takes what pages ask for; see :class:`swarm.scheduler.desk.PageDesk`."""


Health = Callable[[], Mapping[str, Any]]
_STALE = "What you see is the last that was told; trainings that have been sent go on."
_NO_MASTER = f"<b>No master is connected.</b> {_STALE} Start one: <code>swarm master</code>"
_NO_JOB = "No job yet. Submit one: <code>swarm submit JOB.yaml</code>"


class Pages:
    """All pages, as tabs of one document; the one that is open is kept up to date.

    Args:
        board: What is shown.
        health: Says whether the service is well, as :func:`swarm.service.health.verdict` does.
        job: Name of the job to begin with; left out, the latest.
        page: Title of the page to begin with.
        kinds: The pages.
        desk: Takes what is asked for on the pages; None lets them only show what the board has.
    """

    def __init__(
        self,
        board: Shows,
        health: Health,
        *,
        job: str = "",
        page: str = "",
        kinds: Sequence[type[Page]] = PAGES,
        desk: PagesDesk | None = None,
    ) -> None:
        self._board = board
        self._health = health
        visit = None if desk is None else Visit(board, desk)
        self._pages = [made(board if visit is None or made is not Trials else visit) for made in kinds]
        self._notice = Div(disable_math=True, sizing_mode="stretch_width", visible=False)
        self._job = Select(title="job", options=[], width=320, stylesheets=[WIDGETS])
        self._wanted = job
        self._steering = None
        if desk is not None and visit is not None and desk.open:
            self._steering = Steering(board, desk, visit.admit)
        for each in self._pages:
            each.open_trial = self._open_trial
        titles = [each.title.lower() for each in self._pages]
        self._tabs = Tabs(
            tabs=[TabPanel(child=self._with_buttons(each), title=each.title) for each in self._pages],
            active=titles.index(page.lower()) if page.lower() in titles else 0,
            sizing_mode="stretch_both",
            stylesheets=[WIDGETS],
        )
        top = row(self._job, self._notice, sizing_mode="stretch_width")
        self.root = column(top, self._tabs, sizing_mode="stretch_both")

    def _with_buttons(self, page: Page) -> LayoutDOM:
        """What a tab shows: the page, above it the buttons if it is that of all jobs."""
        if self._steering is None or not isinstance(page, Jobs):
            return page.root
        both: LayoutDOM = column(self._steering.root, page.root, sizing_mode="stretch_width", styles={"min-width": "0"})
        return both

    def update(self) -> None:
        """Bring the open page up to date."""
        names = list(reversed(self._board.shown))
        if self._job.options != names:
            self._job.options = names
        if self._wanted in names:
            self._job.value, self._wanted = self._wanted, ""
        elif names and self._job.value not in names:
            self._job.value = names[0]
        _say(self._notice, self._notice_text())
        if self._steering is not None:
            self._steering.update(self._job.value or None)
        self._pages[self._tabs.active].update(self._job.value or None)

    def _open_trial(self, trial: int) -> None:
        """Go to the page of trials, and look into this one."""
        for place, page in enumerate(self._pages):
            if isinstance(page, Trials):
                self._tabs.active = place
                page.choose(trial)
                page.update(self._job.value or None)

    def _notice_text(self) -> str:
        shown = self._board.shown.get(self._job.value or "")
        if (warning := service_warning(self._health, shown)) or self._board.shown:
            trouble = shown.state.get("trouble") if shown is not None else None
            return warning or (f"<b>{escape(trouble)}</b>" if trouble else "")
        return _NO_JOB


def swarm_document(scheduler: Scheduler, extra: dict[str, Any], doc: Document) -> None:
    """All pages, at ``/swarm``; ``?job=NAME&page=TITLE&theme=dark`` are understood."""
    service = scheduler.plugins["swarm"]
    links = [(f"Dask: {name}", name) for name in ("status", "workers", "tasks")]
    fill(doc, service.board, service.health, place=str(scheduler.address), links=links, desk=service.desk)


def fill(
    doc: Document,
    board: Shows,
    health: Health,
    *,
    place: str,
    links: Sequence[tuple[str, str]] = (),
    kinds: Sequence[type[Page]] = PAGES,
    desk: PagesDesk | None = None,
) -> None:
    """Make a document of all pages, for the user who opened it.

    Args:
        doc: The document.
        board: What is shown.
        health: Says whether the service is well.
        place: Whose jobs they are, for the heading.
        links: Other pages there, by name.
        kinds: The pages.
        desk: Takes what is asked for on the pages.
    """
    given = {name: values[-1].decode() for name, values in _arguments(doc).items()}
    dark = given.get("theme") == "dark"
    pages = Pages(board, health, job=given.get("job", ""), page=given.get("page", ""), kinds=kinds, desk=desk)
    _keep_up_to_date(doc, pages)
    doc.title = "Swarm"
    doc.theme = DARK if dark else LIGHT
    doc.template = HEAD
    doc.template_variables.update(page_style=PAGE, place=place, links=list(links), dark=dark)
    doc.add_root(pages.root)


def single_document(page: int, scheduler: Scheduler, extra: dict[str, Any], doc: Document) -> None:
    """One page by itself, about the latest job, at ``/individual-swarm-…``."""
    service = scheduler.plugins["swarm"]
    kind = PAGES[page]
    shown = kind(Visit(service.board, service.desk) if kind is Trials else service.board)
    alone = _Latest(service.board, service.health, shown)
    _keep_up_to_date(doc, alone)
    doc.title = f"Swarm: {shown.title}"
    doc.theme = LIGHT
    doc.add_root(alone.root)


class _Latest:
    """Keeps one page up to date with the latest job, below what is wrong with the service."""

    def __init__(self, board: Shows, health: Health, page: Page) -> None:
        self._board, self._health, self._page = board, health, page
        self._notice = Div(sizing_mode="stretch_width", visible=False)
        self.root = column(self._notice, page.root, sizing_mode="stretch_both")

    def update(self) -> None:
        name = next(reversed(self._board.shown), None)
        _say(self._notice, service_warning(self._health, self._board.shown.get(name or "")))
        self._page.update(name)


def service_warning(health: Health, shown: Shown | None) -> str:
    """What is wrong with the service of a job, or of none, as HTML; empty if nothing is.

    A run of somebody's own needs no master: it is attended to while it tells of itself.
    """
    found = health()
    if not found["master"]:
        alone = shown is not None and shown.state.get("state") != "unattended"
        return "" if alone else _NO_MASTER
    problems = " ".join(f"{problem[:1].upper()}{problem[1:]}." for problem in found["problems"])
    return f"<b>{escape(problems)}</b> {_STALE}" if problems else ""


def _say(notice: Div, text: str) -> None:
    if notice.text != text:
        notice.update(text=text, visible=bool(text))


def _keep_up_to_date(doc: Document, shown: Pages | _Latest) -> None:
    """Update it twice a second for as long as the page is open.

    Dask's own way of doing so switches the validation of properties off, without which no figure can be made.
    """
    reference = weakref.ref(shown)  # the document must not keep itself alive

    def update() -> None:
        if (found := reference()) is not None:
            found.update()

    doc.add_next_tick_callback(update)  # apart from the making of the page, so that nobody waits for both
    doc.add_periodic_callback(update, _MILLISECONDS)
    doc.swarm = shown


def _arguments(doc: Document) -> dict[str, list[bytes]]:
    context: Any = doc.session_context
    return {} if context is None or context.request is None else context.request.arguments
