"""By which names, and for pages of which sites, a browser may open the dashboard.

A page of another site must not read it: neither by a name of that site that leads to this machine (DNS rebinding, told
by ``Host``), nor by a connection that the page opens from within the user's browser (told by ``Origin``).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from distributed import Scheduler
from tornado.web import RequestHandler

_log = logging.getLogger("swarm.scheduler")


class Hosts:
    """The names by which the dashboard may be asked for.

    Those of this machine, ``localhost``, addresses, which no other site can have as its name, and the further ones.

    Args:
        further: Host names, with or without a port.
    """

    def __init__(self, further: Iterable[str] = ()) -> None:
        own = socket.gethostname().lower()
        self._further = {name.lower() for name in further}
        self._names = {"localhost", own, own.partition(".")[0], *(_host(f"//{name}") for name in self._further)}
        Thread(target=self._ask_for_own, name="swarm-hosts", daemon=True).start()  # a name server may take its time

    def _ask_for_own(self) -> None:
        self._names.add(socket.getfqdn().lower())

    def refusal(self, host: str, origin: str | None) -> str | None:
        """Why a request is refused, or None.

        Args:
            host: What it says it asks.
            origin: The site whose page makes it, if it says so.
        """
        name = _host(f"//{host}")
        if not self._is_known(name):
            return (
                f"the dashboard is not known as {name!r}: open it as localhost, by this machine's name or address, or "
                "name that host in swarm.dashboard-hosts of the scheduler's configuration"
            )
        if origin is None:
            return None
        site = urlsplit(origin).netloc.lower()
        if site and (site == host.lower() or {site, _host(f"//{site}")} & self._further):
            return None
        return f"a page of {origin!r} may not read the dashboard: swarm.dashboard-hosts names those that may"

    def _is_known(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return name != "" and name in self._names
        return True


class Refused(RequestHandler):
    """Answers whatever is asked with the reason why not."""

    def initialize(self, why: str) -> None:
        """Takes the reason."""
        self._why = why

    def prepare(self) -> None:
        """Answer."""
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._why + "\n")


def guard_pages(scheduler: Scheduler, further: Iterable[str]) -> None:
    """Have all that the scheduler serves over HTTP look at ``Host`` and ``Origin`` first, websockets included.

    Args:
        scheduler: It has its pages, and has answered nobody yet.
        further: Host names by which browsers reach it, beside this machine's own.
    """
    application = scheduler.http_application
    hosts, find = Hosts(further), application.find_handler

    def checked(request: Any, **options: Any) -> Any:
        why = hosts.refusal(request.host or "", request.headers.get("Origin"))
        if why is None:
            return find(request, **options)
        _log.warning("refused %s from %s: %s", request.path[:60], request.remote_ip, why)
        return application.get_handler_delegate(request, Refused, {"why": why})

    application.find_handler = checked


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
