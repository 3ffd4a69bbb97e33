"""What Dask loads into its scheduler: ``dask scheduler --preload swarm.scheduler``, or ``swarm scheduler``."""

from __future__ import annotations

from typing import Any

import dask.config
from distributed import Scheduler
from distributed.http.utils import RequestHandler

from swarm.config import scheduler_settings, settings
from swarm.dashboard import mount, show_tab
from swarm.scheduler import metrics
from swarm.scheduler.gate import guard
from swarm.scheduler.hosts import guard_pages
from swarm.scheduler.plugin import Service
from swarm.scheduler.spans import NoSpans

dask.config.set(scheduler_settings())
mount()
metrics.mount()


class HealthHandler(RequestHandler):  # type: ignore[misc]
    """``GET /swarm/health``: 200 if the service is well, else 503, with what is known of it."""

    def get(self) -> None:
        """Answer."""
        found = self.server.plugins[Service.name].health()
        self.set_status(200 if found["ok"] else 503)
        self.write({"status": "ok" if found["ok"] else "trouble", **found})


routes: list[tuple[str, type, dict[str, Any]]] = [("swarm/health", HealthHandler, {})]


def dask_setup(scheduler: Scheduler) -> None:
    """What Dask runs when it loads this module into a scheduler."""
    scheduler.allowed_failures = 0  # the master decides what runs again
    scheduler.extensions["spans"] = NoSpans(scheduler)
    chosen = settings()
    guard(scheduler, chosen.max_submission)
    if Service.name not in scheduler.plugins:
        guard_pages(scheduler, chosen.dashboard_hosts)
        scheduler.add_plugin(Service(scheduler), name=Service.name)
        show_tab(scheduler)
