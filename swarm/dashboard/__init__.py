"""The swarm on the Dask dashboard, live, and as reports that stand alone."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from threading import Thread
from typing import Any

from distributed import Scheduler

_TITLES = ("jobs", "trials", "fitness", "curves", "search-space", "archive", "model", "slots", "pbt", "compare")


def mount() -> None:
    """Add the pages to the dashboard of the scheduler that is made next in this process."""
    from distributed.dashboard.scheduler import applications

    applications["/swarm"] = _open
    for number, title in enumerate(_TITLES):
        applications[f"/individual-swarm-{title}"] = partial(_open_single, number)


def prepare() -> None:
    """Import the pages aside, since whoever opens one first would keep the scheduler waiting for as long."""
    Thread(target=import_module, args=("swarm.dashboard.pages",), name="swarm-pages", daemon=True).start()


def show_tab(scheduler: Scheduler) -> None:
    """Put the tab into the navigation bar."""
    from distributed.dashboard.scheduler import template_variables

    pages = template_variables(scheduler)["pages"]
    if "swarm" not in pages:
        pages.insert(1, "swarm")


def _open(scheduler: Scheduler, extra: dict[str, Any], doc: Any) -> None:
    from swarm.dashboard.pages import swarm_document

    swarm_document(scheduler, extra, doc)


def _open_single(page: int, scheduler: Scheduler, extra: dict[str, Any], doc: Any) -> None:
    from swarm.dashboard.pages import single_document

    single_document(page, scheduler, extra, doc)
