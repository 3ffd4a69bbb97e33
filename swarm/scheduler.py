"""The service in the scheduler: a preload that relays between clients and the master, and mirrors the jobs' states.

``dask scheduler --preload swarm.scheduler``, or ``swarm scheduler``, which is that with sensible settings. So a client
needs the scheduler's address alone, and one set of certificates secures everything. It decides nothing: the state of
the jobs is the master's store. What it keeps can be lost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict
from typing import Any

import dask.config
from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.http.utils import RequestHandler

from swarm import __version__
from swarm.cluster import SETTINGS
from swarm.config import settings

PROTOCOL = 1  # of the messages between client, scheduler and master; changed when old ones would be misread
REQUESTS, RESULTS, SETTLED = "swarm-requests", "swarm-results", "swarm-settled"
MASTER = "swarm-master"  # common name in the master's certificate
_RESULTS_KEPT = 10_000
_MASTER_SECONDS = 30.0
_log = logging.getLogger("swarm.scheduler")

_ROUTES = "distributed.scheduler.http.routes"
dask.config.set({**SETTINGS, _ROUTES: [*dask.config.get(_ROUTES), "swarm.scheduler"]})

Answer = dict[str, Any]


class Service(SchedulerPlugin):  # type: ignore[misc]
    """Relays requests to the master that is attached, and keeps what it needs to take over from another.

    Args:
        scheduler: The scheduler to serve in.
    """

    name = "swarm"

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._limit = settings().max_submission
        self._master: str | None = None  # its Dask client's name
        self._term = -1  # a later master has a higher one
        self._states: dict[str, str] = {}  # JSON, by name
        self._requests: dict[int, dict[str, Any]] = {}
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count()
        self._results: OrderedDict[str, dict[str, Any]] = OrderedDict()  # no master has written these yet
        scheduler.handlers.update(
            {
                "swarm_hello": self.hello,
                "swarm_call": self.call,
                "swarm_states": self.states,
                "swarm_attach": self.attach,
                "swarm_beat": self.beat,
                "swarm_take": self.take,
                "swarm_reply": self.reply,
                "swarm_publish": self.publish,
            }
        )

    # --- for clients

    def hello(self) -> Answer:
        """Who is there."""
        return {"version": __version__, "protocol": PROTOCOL, "master": self._master is not None}

    def states(self, names: list[str] | None = None) -> list[str] | Answer:
        """The states of these jobs, or of all, as the master published them last; JSON."""
        if self._term < 0:
            return _no_master("no master has been there since the scheduler was started; start one: swarm master")
        found = self._states.values() if names is None else map(self._states.get, names)
        return [state for state in found if state is not None]

    async def call(self, comm: Any, method: str = "", data: str = "{}", blob: bytes = b"", user: str = "") -> Answer:
        """Have the master do something; its answer is ``{"ok": JSON}`` or ``{"error": [class, text]}``.

        Only texts and bytes are handed on: anything else could bring code along, which the master would load.
        """
        if not (type(method) is type(data) is type(user) is str and type(blob) is bytes):
            _log.warning("refused a malformed request from %s", comm.peer_address)
            return {"error": ["InvalidInput", "a request consists of a method, JSON, bytes and a user"]}
        if len(data) + len(blob) > self._limit:
            _log.warning("refused a request of %d bytes from %s", len(data) + len(blob), comm.peer_address)
            return {"error": ["InvalidInput", _too_large(len(data) + len(blob), self._limit)]}
        if self._master is None:
            return _no_master("no master is connected to the scheduler; start one: swarm master")
        number = next(self._numbers)
        certified = certified_name(comm)
        user = user if certified is None else certified
        self._requests[number] = {"method": method, "data": data, "blob": blob, "user": user}
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._scheduler.log_event(REQUESTS, {"number": number})
        try:
            return await asyncio.wait_for(answer, _MASTER_SECONDS)
        except TimeoutError:
            return _no_master(f"the master has not answered for {_MASTER_SECONDS:.0f} s; is it stopped?")
        finally:
            self._requests.pop(number, None)
            self._answers.pop(number, None)

    # --- for the master

    def attach(self, comm: Any, master: str = "", term: int = 0) -> Answer:
        """A master takes office.

        Args:
            comm: Its connection.
            master: Name of its Dask client.
            term: Number of its lease.

        Returns:
            Dask keys of the trainings that are running, with the class of slot that each has, and the results that no
            master has written yet.
        """
        self._authorize(comm)
        if term < self._term:
            raise PermissionError("a later master has taken office")
        self._master, self._term = master, term
        _log.info("master %s took office for term %d", master, term)
        running = {
            key: next(iter(task.resource_restrictions))
            for key, task in self._scheduler.tasks.items()
            if task.state in ("processing", "no-worker") and task.resource_restrictions
        }
        return {"running": running, "results": list(self._results.values())}

    def beat(self, master: str = "") -> bool:
        """Whether this master is still in office."""
        return master == self._master

    def take(self, comm: Any, number: int = 0) -> dict[str, Any] | None:
        """Fetch a request."""
        self._authorize(comm)
        return self._requests.get(number)

    def reply(self, comm: Any, number: int = 0, answer: Answer | None = None) -> None:
        """Answer a request."""
        self._authorize(comm)
        waiting = self._answers.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer or {})

    def publish(self, comm: Any, states: dict[str, str] | None = None, reset: bool = False) -> None:
        """Update the mirror of the jobs' states; with ``reset`` these are all."""
        self._authorize(comm)
        if reset:
            self._states.clear()
        self._states.update(states or {})

    # --- what Dask tells a plugin

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """The master may have died."""
        if client != self._master:
            return
        _log.warning("master %s is gone", client)
        self._master = None
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result(_no_master("the master went away; another one may take over, try again"))

    def log_event(self, topic: str, msg: Any) -> None:
        """Keep results until a master has written them: there may be none at the moment."""
        if topic == RESULTS and "result" in msg:
            result = msg["result"]
            if result["status"] in ("ok", "failed"):
                self._results[result["key"]] = {**result, "curve": []}
            if len(self._results) > _RESULTS_KEPT:
                self._results.popitem(last=False)
        elif topic == SETTLED:
            for key in msg:
                self._results.pop(key, None)

    def _authorize(self, comm: Any) -> None:
        name = certified_name(comm)
        if name not in (None, MASTER):
            raise PermissionError(f"only the holder of the certificate {MASTER!r} may be the master, not {name!r}")


def certified_name(comm: Any) -> str | None:
    """The common name in the certificate of whoever is at the other end; None without TLS."""
    certificate = comm.extra_info.get("peercert")
    if certificate is None:
        return None
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else ""


def _too_large(size: int, limit: int) -> str:
    return (
        f"it has {size / 1e6:.1f} MB, the limit is {limit / 1e6:.1f} MB: let the training load its data on the "
        "workers, or raise swarm.max-submission in the configuration of the scheduler"
    )


def _no_master(text: str) -> Answer:
    return {"error": ["NoMaster", text]}


class HealthHandler(RequestHandler):  # type: ignore[misc]
    """``GET /swarm/health``: 200, and whether a master is attached."""

    def get(self) -> None:
        """Answer."""
        service = self.server.plugins[Service.name]
        self.write({"status": "ok", "master": service.hello()["master"]})


routes: list[tuple[str, type, dict[str, Any]]] = [("swarm/health", HealthHandler, {})]


def dask_setup(scheduler: Scheduler) -> None:
    """What Dask runs when it loads this module into a scheduler."""
    scheduler.allowed_failures = 0  # the master decides what runs again
    if Service.name not in scheduler.plugins:
        scheduler.add_plugin(Service(scheduler), name=Service.name)
