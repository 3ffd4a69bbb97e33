"""The service in the scheduler: a preload that relays between clients and the master, and mirrors the jobs' states.

``dask scheduler --preload swarm.scheduler``, or ``swarm scheduler``, which is that with sensible settings. So a client
needs the scheduler's address alone, and one set of certificates secures everything. The state of the jobs is the
master's store: what is kept here can be lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
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
from swarm.errors import QuotaExceeded
from swarm.scheduler.affinity import Affinity
from swarm.scheduler.desk import PageDesk
from swarm.scheduler.readers import Readers
from swarm.scheduler.roles import Role, name_in, refusal, role_of
from swarm.scheduler.slot_status import capacity, occupancy
from swarm.scheduler.totals import Totals
from swarm.service.health import verdict
from swarm.service.protocol import PROTOCOL, REQUESTS, RESULTS, SETTLED
from swarm.service.quotas import Backlog, Quotas
from swarm.store.records import State
from swarm.version import __version__

_RESULTS_KEPT = 10_000
_ENDED_KEPT = 200
_STANDBYS = 100
_MASTER_SECONDS = 30.0
_ANNOUNCE_SECONDS = 0.5
_SHORTEST_SILENCE = 3.0  # seconds: three beats
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
        self._backlog = Backlog(Quotas.of(settings()))
        self._silence = max(settings().lease_seconds, _SHORTEST_SILENCE)
        self._master: str | None = None  # its Dask client's name
        self._term = -1  # a later master has a higher one
        self.heard: float | None = None  # when the master was heard of last, on the monotonic clock
        self._trouble: Answer | None = None  # of its store, as it said last
        self._about: Answer | None = None  # what it said of itself; an earlier version says nothing
        self._standbys: dict[str, float] = {}  # masters that wait, and when each was heard of last
        self._states: dict[str, str] = {}  # JSON, by name
        self._ended: OrderedDict[str, None] = OrderedDict()  # names of those that have ended, the latest last
        self._readers = Readers()
        self.totals = Totals()
        self._told = False  # whether a master has told of all its jobs
        self._requests: dict[int, dict[str, Any]] = {}
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._addressed: set[int] = set()  # numbers of the requests that are not for the master
        self._numbers = itertools.count()
        self._results: OrderedDict[str, dict[str, Any]] = OrderedDict()  # no master has written these yet
        self.board = Board(scheduler)
        self.desk = PageDesk(
            self._ask_for_page, settings().dashboard_token, settings().dashboard_user, self._readers.is_public
        )
        self._affinity = Affinity(scheduler)
        self._prepared = False  # whether the pages are imported
        scheduler.handlers.update(
            {
                "swarm_hello": self.hello,
                "swarm_role": self.role,
                "swarm_call": self.call,
                "swarm_states": self.states_for,
                "swarm_slots": self.slots,
                "swarm_attach": self.attach,
                "swarm_beat": self.beat,
                "swarm_stand_by": self.stand_by,
                "swarm_take": self.take,
                "swarm_reply": self.reply,
                "swarm_publish": self.publish,
            }
        )

    # --- for clients

    def hello(self) -> Answer:
        """Who is there; ``heard`` is how many seconds ago the master was, ``term`` the latest that was in office."""
        found: Answer = {"version": __version__, "protocol": PROTOCOL, "master": self._master is not None}
        found |= {"heard": None if self.heard is None else time.monotonic() - self.heard, "term": self._term}
        return {**found, "health": self.health(), "weights": self.board.weights}

    def health(self) -> Answer:
        """Whether all is well, and what is not: see :func:`swarm.service.health.verdict`; and what there is."""
        found = verdict(
            version=__version__,
            master=self._master is not None,
            limit=self._silence,
            name=(self._about or {}).get("name"),
            silent_seconds=None if self._master is None or self.heard is None else time.monotonic() - self.heard,
            reports=self._about is not None,
            trouble=self._trouble,
            standbys=self.standbys,
        )
        term = None if self._master is None else self._term
        workers, slots = len(self._scheduler.workers), capacity(self._scheduler)
        return {**found, "term": term, "workers": workers, "slots": slots, "requests": len(self._backlog)}

    @property
    def standbys(self) -> list[str]:
        """Names of the masters that wait for the office, as far as they were heard of lately."""
        oldest, in_office = time.monotonic() - self._silence, (self._about or {}).get("name")
        self._standbys = {name: heard for name, heard in self._standbys.items() if heard >= oldest}
        return sorted(name for name in self._standbys if name != in_office)

    def role(self, comm: Any) -> str | None:
        """The role that whoever asks has by his certificate; None without TLS."""
        role = _role(comm)
        return None if role is None else role.value

    def states(self, names: list[str] | None = None) -> list[str] | Answer:
        """The states of these jobs, or of all, as the master published them last; JSON."""
        if not self._told:
            return _no_master("no master has been there since the scheduler was started; start one: swarm master")
        found = self._states.values() if names is None else map(self._states.get, names)
        return [state for state in found if state is not None]

    def states_for(self, comm: Any, names: list[str] | None = None) -> list[str] | Answer:
        """The same for whoever asks, who is told how far others' jobs are, but not what they have found."""
        user = _user(comm)
        if user is None or not self._told:
            return self.states(names)
        wanted = [name for name in (self._states if names is None else names) if name in self._states]
        return [self._readers.shown(name, self._states[name], user) for name in wanted]

    def slots(self, comm: Any) -> list[dict[str, Any]]:
        """The slots, and what each trains; see :func:`swarm.scheduler.slot_status.occupancy`."""
        found, user = occupancy(self._scheduler, self.board), _user(comm)
        return [slot if self._readers.may_read(slot.get("job"), user) else {**slot, "report": {}} for slot in found]

    async def call(self, comm: Any, method: str = "", data: str = "{}", blob: bytes = b"", user: str = "") -> Answer:
        """Have the master do something; its answer is ``{"ok": JSON}`` or ``{"error": [class, text]}``.

        Only texts and bytes are handed on: anything else could bring code along, which the master would load.
        """
        if not (type(method) is type(data) is type(user) is str and type(blob) is bytes):
            _log.warning("refused a malformed request from %s", comm.peer_address)
            return {"error": ["InvalidInput", "a request consists of a method, JSON, bytes and a user"]}
        size = len(method) + len(data) + len(blob) + len(user)
        if size > self._limit:
            _log.warning("refused a request of %d bytes from %s", size, comm.peer_address)
            return {"error": ["InvalidInput", _too_large(size, self._limit)]}
        certified = certified_name(comm)
        user = user if certified is None else certified
        return await self._ask(method, data, user, blob)

    async def _ask_for_page(self, method: str, data: str, user: str) -> Answer:
        """The answer of the process that runs the job a page asks about: the master, or a run without one."""
        shown = self.board.shown.get(json.loads(data)["name"])
        if shown is None or shown.publisher == self._master or shown.publisher not in self._scheduler.clients:
            return await self._ask(method, data, user)
        return await self._relay({"method": method, "data": data, "blob": b"", "user": user}, to=shown.publisher)

    async def _ask(self, method: str, data: str, user: str, blob: bytes = b"") -> Answer:
        """The master's answer, or why it is not asked."""
        if self._master is None:
            return _no_master("no master is connected to the scheduler; start one: swarm master")
        try:
            with self._backlog.waiting(user, len(method) + len(data) + len(blob) + len(user)):
                return await self._relay({"method": method, "data": data, "blob": blob, "user": user})
        except QuotaExceeded as error:
            _log.warning("refused a request of %s: %s", user, error)
            return {"error": [type(error).__name__, str(error)]}

    async def _relay(self, request: dict[str, Any], to: str | None = None) -> Answer:
        """The answer to a request: the master's, or that of another Dask client."""
        number = next(self._numbers)
        self._requests[number] = request
        if to is not None:
            self._addressed.add(number)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(_MASTER_SECONDS):
                self._scheduler.log_event(REQUESTS, {"number": number} | ({} if to is None else {"to": to}))
                while to is not None and not answer.done():  # it may not have listened yet, and has no beat
                    await asyncio.wait([answer], timeout=_ANNOUNCE_SECONDS)
                    self._scheduler.log_event(REQUESTS, {"number": number, "to": to})
                return await answer
        except TimeoutError:
            return _no_master(f"the master has not answered for {_MASTER_SECONDS:.0f} s; is it stopped?")
        finally:
            self._requests.pop(number, None)
            self._answers.pop(number, None)
            self._addressed.discard(number)

    # --- for the master

    def attach(self, comm: Any, master: str = "", term: int = 0, readers: list[str] | None = None) -> Answer:
        """A master takes office.

        One before it that is connected still, since it was suspended, has its Dask tasks no more: Dask would keep
        their results for it, and answer with them when its successor has something trained once more.

        Args:
            comm: Its connection.
            master: Name of its Dask client.
            term: Number of its lease.
            readers: Who may read everybody's jobs, by the names in certificates; None is everybody.

        Returns:
            Dask keys of the trainings that are running, with the class of slot that each has, and the results that no
            master has written yet.
        """
        self._authorize(comm, "swarm_attach")
        if term < self._term:
            raise PermissionError(f"a later master has taken office, for term {self._term}")
        if self._master is not None:
            self.board.forget(self._master)
            if self._master != master and (previous := self._scheduler.clients.get(self._master)) is not None:
                self._scheduler.client_releases_keys([task.key for task in previous.wants_what], self._master)
        self._master, self._term, self.heard = master, term, time.monotonic()
        self._trouble = self._about = None
        self._readers.everything = None if readers is None else frozenset(readers)
        _log.info("master %s took office for term %d", master, term)
        running = {
            key: next(iter(task.resource_restrictions))
            for key, task in self._scheduler.tasks.items()
            if isinstance(key, str)  # whoever else uses the cluster may have tuples
            and task.state in ("processing", "no-worker")
            and task.resource_restrictions
        }
        return {"running": running, "results": list(self._results.values())}

    def beat(self, master: str = "", trouble: Answer | None = None, about: Answer | None = None) -> list[int] | None:
        """The master is there.

        Args:
            master: Name of its Dask client.
            trouble: What the matter with its store is, ``text``, and for how long, ``seconds``; None if it answers.
            about: Its ``name``, and the ``weights`` of users; None of an earlier version.

        Returns:
            Numbers of the requests that wait, whose announcement it may have missed; None if it is not in office.
        """
        if master != self._master:
            return None
        self.heard, self._trouble, self._about = time.monotonic(), trouble, about
        self.board.weights = (about or {}).get("weights", {})
        waiting = self._answers.items()
        return [number for number, answer in waiting if not answer.done() and number not in self._addressed]

    def stand_by(self, comm: Any, name: str = "") -> bool:
        """A master waits for the office, under the name that it has in the store."""
        self._authorize(comm, "swarm_stand_by")
        self._standbys.pop(name, None)
        self._standbys[name] = time.monotonic()
        if len(self._standbys) > _STANDBYS:
            del self._standbys[next(iter(self._standbys))]
        return True

    def take(self, comm: Any, number: int = 0) -> dict[str, Any] | None:
        """Fetch a request."""
        self._authorize(comm, "swarm_take")
        return self._requests.get(number)

    def reply(self, comm: Any, number: int = 0, answer: Answer | None = None) -> None:
        """Answer a request."""
        self._authorize(comm, "swarm_reply")
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
        self._authorize(comm, "swarm_publish")
        if not self._prepared:
            self._prepared = True
            prepare()
        if reset:
            self._told = True
            self._states.clear()
            self._ended.clear()
            self.totals.forget_ended()
            self._readers.clear()
            self.board.forget(publisher)
        if publisher == self._master:
            self._states.update(states or {})
            self._readers.note(states or {})
            self.totals.note(states or {})
            self._forget_ended(states or {})
        self.board.tell(publisher, states or {}, views or {})

    def _forget_ended(self, states: dict[str, str]) -> None:
        """Mirror the latest jobs that have ended alone: the others are in the master's store."""
        for name, state in states.items():
            self._ended.pop(name, None)
            if State(json.loads(state)["state"]).ended:
                self._ended[name] = None
        while len(self._ended) > _ENDED_KEPT:
            name, _ = self._ended.popitem(last=False)
            self._states.pop(name, None)
            self.totals.forget(name)
            self._readers.forget(name)

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

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Its slots are new."""
        self.board.add_worker(scheduler.workers[worker])

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

    def _authorize(self, comm: Any, operation: str) -> None:
        role = _role(comm)
        if role is not None and not role.trusted:
            raise PermissionError(refusal(role, certified_name(comm), operation))


def certified_name(comm: Any) -> str | None:
    """The common name in the certificate of the other end; None without TLS."""
    return name_in(comm.extra_info.get("peercert"))


def _role(comm: Any) -> Role | None:
    """The role of the other end; None without TLS."""
    name = certified_name(comm)
    found: Role | None = getattr(comm, "role", None)
    return found if found is not None or name is None else role_of(name)


def _user(comm: Any) -> str | None:
    """Name of the user who asks; None if it is no user, or nobody can tell, without TLS."""
    return certified_name(comm) if _role(comm) is Role.USER else None


def _too_large(size: int, limit: int) -> str:
    return (
        f"it has {size / 1e6:.1f} MB, the limit is {limit / 1e6:.1f} MB: let the training load its data on the "
        "workers, or raise swarm.max-submission in the configuration of the scheduler"
    )


def _no_master(text: str) -> Answer:
    return {"error": ["NoMaster", text]}
