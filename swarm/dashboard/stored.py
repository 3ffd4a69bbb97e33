"""The pages of runs that are stored, ended or not, without a scheduler: ``swarm dashboard``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypeVar

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import Server

from swarm.dashboard.board import Shown
from swarm.dashboard.pages import STORED, fill
from swarm.dashboard.trial.artifacts import address, route
from swarm.errors import InvalidInput, SwarmError
from swarm.runs.artifacts import artifacts, content, printed
from swarm.runs.run import named_store
from swarm.service.published.snapshot import View
from swarm.store.events import Event
from swarm.store.left import LONGEST_TEXT, File, Left
from swarm.store.records import JobStatus, Note, StoredJob
from swarm.store.sql import Store

RUNS = 200
"""Runs that are shown, the latest."""

_POINTS = 100_000  # of a run
_LOOK_SECONDS = 2.0
_LEFT_SECONDS = 5.0
_CURVES = 2000  # that are kept in memory
T = TypeVar("T")
_log = logging.getLogger("swarm.pages")


@dataclass(slots=True)
class _Read:
    """How much of a run's journal was read."""

    view: View
    events: int = 0


class Shelf:
    """What the pages show of a store; see :class:`swarm.dashboard.board.Shows`.

    Args:
        store: URL or file of the store.
        writable: Whether the pages let their readers write notes.

    Raises:
        StoreUnavailable: There is no store, or it cannot be read.
    """

    def __init__(self, store: str, *, writable: bool = False) -> None:
        self.writable = writable
        self._notes: dict[str, dict[int, Note]] = {}
        self.store = named_store(store)
        self.shown: OrderedDict[str, Shown] = OrderedDict()
        self.weights: dict[str, float] = {}
        self._read: dict[str, _Read] = {}
        self._left: dict[str, tuple[float, Left]] = {}  # when it was read, by key
        self.curve = lru_cache(_CURVES)(self._curve)
        with closing(Store(self.store, create=False)):
            pass

    @property
    def slots(self) -> list[str]:
        """None: nothing is trained here."""
        return []

    async def keep_reading(self) -> None:
        """Read what is new in the store, again and again."""
        while True:
            try:
                found = await asyncio.to_thread(self._look)
            except SwarmError as error:  # the store is away for a while
                _log.warning("%s", error)
            else:
                self.take(found)
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Read what is new in the store, once."""
        self.take(self._look())

    def take(self, found: Sequence[tuple[StoredJob, list[Event]]]) -> None:
        """Show what was read."""
        for job, events in found:
            try:
                self._show(job, events)
            except (SwarmError, TypeError, ValueError, KeyError, AttributeError) as error:  # it harms that run alone
                _log.warning("run %r cannot be shown: %s: %s", job.name, type(error).__name__, error)
        latest = [job.name for job, _ in found]
        for name in [name for name in self.shown if name not in latest]:
            del self.shown[name]

    def _look(self) -> list[tuple[StoredJob, list[Event]]]:
        """The latest runs, the oldest first, each with its new events."""
        with closing(Store(self.store, create=False)) as opened:
            self._take_notes(opened)
            jobs = sorted(opened.jobs(lambda _, error: _log.warning("%s", error)), key=lambda job: job.created)[-RUNS:]
            return [(job, self._new(opened, job.name)) for job in jobs]

    def _new(self, store: Store, name: str) -> list[Event]:
        read = self._read.get(name)
        try:
            return list(store.events(name, 0 if read is None else read.events))
        except SwarmError as error:  # a damaged line harms its run alone
            _log.warning("%s", error)
            return []

    def _show(self, job: StoredJob, events: Sequence[Event]) -> None:
        read = self._read.get(job.name)
        if read is None or job.name not in self.shown:
            read = self._read[job.name] = _Read(View(job.spec["direction"], _POINTS))
            told = {name: value for name, value in job.spec.items() if name != "problem"}
            self.shown[job.name] = Shown(self.store, {}, told, read.view)
        for event in events:
            read.view.apply(event)
        read.events += len(events)
        self.shown[job.name].state = _state(job, read.view)

    def _curve(self, key: str) -> Sequence[Mapping[str, float]]:
        """What an evaluation has reported on the way, as the archive keeps it."""
        found = self._asked(lambda opened: opened.result(key), None)
        return () if found is None else found.curve

    def left(self, job: str, key: str) -> Left:
        """What the training of an evaluation has left, as it was a few seconds ago."""
        read, now = self._left.get(key), time.monotonic()
        if read is None or now - read[0] > _LEFT_SECONDS:
            self._left = {one: each for one, each in self._left.items() if now - each[0] <= _LEFT_SECONDS}
            read = self._left[key] = now, self._asked(lambda opened: _left(opened, key), Left())
        return read[1]

    def address(self, key: str, file: File) -> str:
        """Where a browser gets such a file."""
        return address(key, file)

    def content(self, key: str, name: str) -> bytes | None:
        """What is in such a file; None if there is none."""
        return self._asked(lambda opened: content(opened, key, name), None)

    def notes(self, job: str) -> Mapping[int, str]:
        """What people wrote on the trials of a run, by number."""
        keys = self._keys(job) if job in self._notes else {}
        known = self._notes.get(job, {}).items()
        return {trial: note.text for trial, note in known if keys.get(trial) == note.key}

    def writes(self, job: str) -> bool:
        """Whether notes may be written here."""
        return self.writable

    def write_note(self, job: str, trial: int, key: str, text: str) -> str | None:
        """Write a note on a trial; why that was not done, or None."""
        if not self.writable or self._keys(job).get(trial) != key:
            return "these pages only show: open them on the machine of the store, with swarm dashboard"
        try:
            with closing(Store(self.store, create=False)) as opened:
                opened.write_note(Note(job, trial, key, text))
                self._take_notes(opened)
        except SwarmError as error:
            return str(error)
        return None

    def _keys(self, job: str) -> dict[int, str]:
        view = self.shown[job].view if job in self.shown else None
        return {} if view is None else {point.trial: point.key for point in view.points}

    def _take_notes(self, store: Store) -> None:
        found: dict[str, dict[int, Note]] = {}
        for note in store.notes():
            found.setdefault(note.job, {})[note.trial] = note
        self._notes = found

    def _asked(self, ask: Callable[[Store], T], otherwise: T) -> T:
        """What the store says, or if it is away this."""
        try:
            with closing(Store(self.store, create=False)) as opened:
                return ask(opened)
        except SwarmError as error:
            _log.warning("%s", error)
            return otherwise


def _left(store: Store, key: str) -> Left:
    """What the training of an evaluation has left; of its files, the beginnings of texts."""
    found = Left(printed(store, key), tuple(File(each.name, each.bytes) for each in artifacts(store, key)))
    texts = {file.name: content(store, key, file.name, LONGEST_TEXT) for file in found.texts}
    return replace(found, files=tuple(replace(file, content=texts.get(file.name)) for file in found.files))


def _state(job: StoredJob, view: View) -> dict[str, Any]:
    """Where a run stands, as :class:`swarm.service.published.job_state.JobState` has it."""
    lead = view.lead
    best = None if lead is None else next((point for point in view.points if point.trial == lead.trial), None)
    found = (
        {"trial": best.trial, "params": best.params, "fitness": best.fitness, "metrics": best.metrics} if best else None
    )
    method, ended = job.spec["optimizer"], job.status is JobStatus.FINISHED
    return {
        "name": job.name,
        "owner": "",
        "state": str(job.status.value),
        "reason": None,
        "problem": job.spec["problem"]["name"],
        "optimizer": method["name"] if isinstance(method, dict) else str(method),
        "direction": job.spec["direction"],
        "generation": max(view.rows, default=0),
        "told": view.all.told,
        "planned": view.all.told if ended else None,
        "running": 0,
        "best": found,
        "seconds_left": None,
        "trouble": None,
        "end_reason": view.reason,
    }


def _well() -> Mapping[str, Any]:
    """A store needs no master."""
    return {"master": True, "problems": []}


def serve(store: str, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the pages of a store until interrupted.

    Args:
        store: URL or file of the store.
        host: Address to listen on.
        port: Port to listen on; 0 takes any.
        ready: Called with the address once it can be opened.

    Raises:
        StoreUnavailable: There is no store, or it cannot be read.
        InvalidInput: The port is taken.
    """
    shelf = Shelf(store, writable=_is_of_this_machine(host))
    shelf.look()

    def make(doc: Document) -> None:
        fill(doc, shelf, _well, place=shelf.store, kinds=STORED)

    try:
        pages = {"/": Application(FunctionHandler(make))}
        server = Server(pages, port=port, address=host, extra_patterns=[route(shelf)])
    except OSError as error:
        raise InvalidInput(f"cannot listen on {host}:{port}: {error.strerror}; --port 0 takes a free one") from None
    server.start()
    server.io_loop.add_callback(shelf.keep_reading)
    ready(f"http://{host}:{server.port}/")
    try:
        server.io_loop.start()
    finally:
        server.stop()


def _is_of_this_machine(host: str) -> bool:
    """Whether nobody but this machine's users reaches an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
