"""The service in the scheduler: a preload that relays between clients and the master, and mirrors the jobs' states.

``dask scheduler --preload swarm.scheduler``, or ``swarm scheduler``, which is that with sensible settings. So a client
needs the scheduler's address alone, and one set of certificates secures everything. The state of the jobs is the
master's store: what is kept here can be lost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from typing import Any

from dask.typing import Key
from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from swarm.config import settings
from swarm.dashboard import prepare
from swarm.dashboard.board import Board
from swarm.scheduler.affinity import Affinity
from swarm.scheduler.slot_status import occupancy
from swarm.service.protocol import MASTER, PROTOCOL, REQUESTS, RESULTS, SETTLED
from swarm.version import __version__

_RESULTS_KEPT = 10_000
_MASTER_SECONDS = 30.0
_log = logging.getLogger("swarm.scheduler")


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
        self.heard: float | None = None  # when the master was heard of last, on the monotonic clock
        self._states: dict[str, str] = {}  # JSON, by name
        self._told = False  # whether a master has told of all its jobs
        self._requests: dict[int, dict[str, Any]] = {}
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count()
        self._results: OrderedDict[str, dict[str, Any]] = OrderedDict()  # no master has written these yet
        self.board = Board(scheduler)
        self._affinity = Affinity(scheduler)
        self._prepared = False  # whether the pages are imported
        scheduler.handlers.update(
            {
                "swarm_hello": self.hello,
                "swarm_call": self.call,
                "swarm_states": self.states,
                "swarm_slots": self.slots,
                "swarm_attach": self.attach,
                "swarm_beat": self.beat,
                "swarm_take": self.take,
                "swarm_reply": self.reply,
                "swarm_publish": self.publish,
            }
        )

    # --- for clients

    def hello(self) -> Answer:
        """Who is there; ``heard`` is how many seconds ago the master was, ``term`` the latest that was in office."""
        heard = None if self.heard is None else time.monotonic() - self.heard
        there = self._master is not None
        return {"version": __version__, "protocol": PROTOCOL, "master": there, "heard": heard, "term": self._term}

    def states(self, names: list[str] | None = None) -> list[str] | Answer:
        """The states of these jobs, or of all, as the master published them last; JSON."""
        if not self._told:
            return _no_master("no master has been there since the scheduler was started; start one: swarm master")
        found = self._states.values() if names is None else map(self._states.get, names)
        return [state for state in found if state is not None]

    def slots(self) -> list[dict[str, Any]]:
        """The slots, and what each trains; see :func:`swarm.scheduler.slot_status.occupancy`."""
        return occupancy(self._scheduler, self.board)

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
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._scheduler.log_event(REQUESTS, {"number": number})
        try:
            async with asyncio.timeout(_MASTER_SECONDS):
                return await answer
        except TimeoutError:
            return _no_master(f"the master has not answered for {_MASTER_SECONDS:.0f} s; is it stopped?")
        finally:
            self._requests.pop(number, None)
            self._answers.pop(number, None)

    # --- for the master

    def attach(self, comm: Any, master: str = "", term: int = 0) -> Answer:
        """A master takes office.

        One before it that is connected still, since it was suspended, has its Dask tasks no more: Dask would keep
        their results for it, and answer with them when its successor has something trained once more.

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
            raise PermissionError(f"a later master has taken office, for term {self._term}")
        if self._master is not None:
            self.board.forget(self._master)
            if self._master != master and (previous := self._scheduler.clients.get(self._master)) is not None:
                self._scheduler.client_releases_keys([task.key for task in previous.wants_what], self._master)
        self._master, self._term, self.heard = master, term, time.monotonic()
        _log.info("master %s took office for term %d", master, term)
        running = {
            key: next(iter(task.resource_restrictions))
            for key, task in self._scheduler.tasks.items()
            if isinstance(key, str)  # whoever else uses the cluster may have tuples
            and task.state in ("processing", "no-worker")
            and task.resource_restrictions
        }
        return {"running": running, "results": list(self._results.values())}

    def beat(self, master: str = "") -> list[int] | None:
        """Numbers of the requests that wait, whose announcement it may have missed; None if it is not in office."""
        if master != self._master:
            return None
        self.heard = time.monotonic()
        return [number for number, answer in self._answers.items() if not answer.done()]

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

    def publish(
        self,
        comm: Any,
        states: dict[str, str] | None = None,
        views: dict[str, str] | None = None,
        publisher: str = "",
        reset: bool = False,
    ) -> None:
        """Update the mirror of the jobs' states, and what the pages show.

        Args:
            comm: The connection of whoever tells: the master, or a run of its own.
            states: States by job name, JSON.
            views: What is new to see, by job name, JSON.
            publisher: Name of its Dask client.
            reset: These are all.
        """
        self._authorize(comm)
        if not self._prepared:
            self._prepared = True
            prepare()
        if reset:
            self._told = True
            self._states.clear()
            self.board.forget(publisher)
        if publisher == self._master:
            self._states.update(states or {})
        self.board.tell(publisher, states or {}, views or {})

    # --- what Dask tells a plugin

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """The master may have died."""
        self.board.gone(client)
        if client != self._master:
            return
        _log.warning("master %s is gone", client)
        self._master = None
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result(_no_master("the master went away; another one may take over, try again"))

    def log_event(self, topic: str, msg: Any) -> None:
        """Keep results until a master has written them: there may be none at the moment."""
        self.board.log_event(topic, msg)
        if topic == RESULTS and "result" in msg:
            result = msg["result"]
            if result["status"] in ("ok", "failed"):
                self._results[result["key"]] = {**result, "curve": []}
            if len(self._results) > _RESULTS_KEPT:
                self._results.popitem(last=False)
        elif topic == SETTLED:
            for key in msg:
                self._results.pop(key, None)

    def update_graph(self, scheduler: Scheduler, *, annotations: dict[str, dict[str, Any]], **kwargs: Any) -> None:
        """New tasks: some are better off on a certain machine."""
        self._affinity.prefer(annotations)

    def transition(self, key: Key, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """The pages show what runs where."""
        if isinstance(key, str):  # whoever else uses the cluster may have tuples
            self.board.transition(key, start, finish)
            self._affinity.transition(key, start, finish, kwargs.get("worker"))

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
