"""What the pages draw: the searches as their masters tell of them, and the slots as the scheduler sees them.

Everything here is of bounded size, and can be lost: a master that attaches tells its part again.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from distributed import Scheduler
from distributed.scheduler import WorkerState

from swarm.errors import SwarmError
from swarm.service.protocol import RESULTS
from swarm.service.published.snapshot import View
from swarm.store.events import Answered, read_event
from swarm.store.left import File, Left
from swarm.store.records import JobStatus, State
from swarm.trial import resource

JOBS = 100
BARS = 2000
CURVE_POINTS = 200
CURVES = 500
ENDED = (*(state for state in State if state.ended), JobStatus.STOPPED)
_TASKS = ("train", "test")
GPU = resource()  # names of the classes of slots begin with it
CARDS = "swarm_cards"  # likewise, see swarm.workers.cards.load
SLOT_NAMES = "swarm_slots"  # what workers tell of themselves, see swarm.workers.node.slots
LEASES = "swarm-slots"  # Dask event topics
WAITS = "swarm-waits"
_log = logging.getLogger("swarm.pages")


def _state(text: str) -> dict[str, Any]:
    """A state that was published as JSON; an empty one if it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class Shown:
    """A job as its page shows it.

    Attributes:
        publisher: Name of the Dask client that tells of it.
        state: As :class:`swarm.service.published.job_state.JobState` has it.
        job: The job as :meth:`swarm.job.Job.to_dict` gives it, without its problem.
        view: The picture; None while only the state is known.
    """

    publisher: str
    state: dict[str, Any]
    job: dict[str, Any] = field(default_factory=dict)
    view: View | None = None


@dataclass(slots=True)
class Bar:
    """One training on one slot; ``end`` and ``status`` are None while it runs.

    Attributes:
        slot: Name of the slot; empty while the training waits on its worker for one.
        placed: Whether the worker has told which slot it is.
        followed: When the next training began on the slot, if that was heard of before the end of this one.
    """

    number: int
    key: str
    slot: str
    start: float
    end: float | None = None
    status: str | None = None
    job: str = ""
    trial: int | None = None
    placed: bool = False
    followed: float | None = None


@dataclass(slots=True)
class Curve:
    """What one training has reported, thinned out evenly; one list of ``(number of the report, value)`` per metric."""

    key: str
    reports: int = 0
    stride: int = 1
    points: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def add(self, metrics: Mapping[str, float]) -> None:
        """The next report."""
        if self.reports % self.stride == 0:
            self.points.append((self.reports, metrics))
        self.reports += 1
        if len(self.points) > CURVE_POINTS:
            self.stride *= 2
            self.points = self.points[::2]


def slot_names(worker: WorkerState) -> list[str]:
    """Names of a worker's slots: those that it has told of, else its own, which is one."""
    if not any(name.startswith(GPU) for name in worker.resources):
        return []
    told = worker.extra.get(SLOT_NAMES)
    known = isinstance(told, list | tuple) and all(isinstance(name, str) for name in told)
    return list(told) if known and told else [str(worker.name)]


class Shows(Protocol):
    """What the pages of jobs need to know, of a service that runs or of a store."""

    @property
    def shown(self) -> OrderedDict[str, Shown]:
        """Jobs by name."""
        ...

    @property
    def weights(self) -> dict[str, float]:
        """Of the users whose weight is not 1, by name."""
        ...

    @property
    def slots(self) -> list[str]:
        """Names of the workers' slots, in order."""
        ...

    def curve(self, key: str) -> Sequence[Mapping[str, float]]:
        """What an evaluation has reported on the way; nothing if that is not known."""
        ...

    def left(self, job: str, key: str) -> Left | str:
        """What the training of an evaluation has left, or why that is not shown; an empty text if there is nothing."""
        ...

    def address(self, key: str, file: File) -> str | None:
        """Where a browser gets such a file; None if it does not."""
        ...

    def notes(self, job: str) -> Mapping[int, str] | None:
        """What people wrote on the trials of a job, by number; None where notes are not known."""
        ...

    def writes(self, job: str) -> bool:
        """Whether notes may be written on the trials of a job."""
        ...

    def write_note(self, job: str, trial: int, key: str, text: str) -> str | Awaitable[str | None] | None:
        """Write a note on a trial; why that was not done, or None, perhaps later."""
        ...


class Board:
    """All that the pages show.

    Args:
        scheduler: The scheduler whose pages they are.

    Attributes:
        shown: Jobs by name.
        bars: What was trained lately, and what is, by number; the oldest go first.
        curves: What the trainings report, by evaluation key; the oldest go first.
        waits: Why slots wait for their GPU, in one line, by name of the slot.
        weights: Of the users whose weight is not 1, by name.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.shown: OrderedDict[str, Shown] = OrderedDict()
        self.bars: deque[Bar] = deque(maxlen=BARS)
        self.curves: OrderedDict[str, Curve] = OrderedDict()
        self.waits: dict[str, str] = {}
        self.weights: dict[str, float] = {}
        self.begun = 0
        self._running: dict[str, Bar] = {}  # by Dask key
        self._outcomes: dict[str, str] = {}  # by evaluation key, as what follows
        self._unnamed: dict[str, list[Bar]] = {}  # replicas of one training have a bar each

    # --- what masters say

    def tell(self, publisher: str, states: Mapping[str, str], views: Mapping[str, str]) -> None:
        """Take what a master, or a run of its own, says of its jobs; JSON by name, see
        :class:`swarm.service.published.publisher.Publisher`.
        """
        for name, text in states.items():
            shown = self.shown.setdefault(name, Shown(publisher, {}))
            shown.publisher, shown.state = publisher, _state(text)
        for name, text in views.items():
            if name in self.shown:
                try:
                    self._draw(name, json.loads(text))
                except (SwarmError, TypeError, ValueError, KeyError, AttributeError) as error:  # that of one job
                    _log.warning("the picture of job %r cannot be drawn: %s: %s", name, type(error).__name__, error)
        while len(self.shown) > JOBS:
            ended = (name for name, shown in self.shown.items() if shown.state.get("state") in ENDED)
            del self.shown[next(ended, next(iter(self.shown)))]

    def forget(self, publisher: str) -> None:
        """What another master said is not true any more."""
        for name in [name for name, shown in self.shown.items() if shown.publisher == publisher]:
            del self.shown[name]

    def gone(self, publisher: str) -> None:
        """Whoever told of these jobs went away: they stay as they were last."""
        for shown in self.shown.values():
            if shown.publisher == publisher and shown.state.get("state") not in ENDED:
                shown.state = {**shown.state, "state": "unattended"}

    def _draw(self, name: str, message: dict[str, Any]) -> None:
        shown = self.shown[name]
        if "view" in message:
            shown.job, shown.view = message["job"], View.from_dict(message["view"])
        for kind, data, when in message.get("events", ()):
            if shown.view is not None:
                event = read_event(kind, data, when)
                if isinstance(event, Answered):  # the last moment at which it is known what waits for it
                    self._name(event.result.key, name, shown)
                shown.view.apply(event)

    # --- what the scheduler sees

    @property
    def slots(self) -> list[str]:
        """Names of the workers' slots, in order."""
        return sorted(name for worker in self.scheduler.workers.values() for name in slot_names(worker))

    @property
    def classes(self) -> dict[str, str]:
        """Classes of the slots by their names."""
        found = {}
        for worker in self.scheduler.workers.values():
            kind = next((each for each in worker.resources if each.startswith(GPU)), "")
            found.update(dict.fromkeys(slot_names(worker), kind))
        return found

    @property
    def cards(self) -> list[tuple[str, Any]]:
        """The GPUs of the workers, as these tell of them, each with its machine."""
        found = []
        for worker in self.scheduler.workers.values():
            told = worker.metrics.get(CARDS)
            found += [(worker.host, card) for card in told] if isinstance(told, list | tuple) else []
        return sorted(found, key=lambda each: each[0])

    @property
    def running(self) -> list[Bar]:
        """What is trained now."""
        return [bar for bar in self._running.values() if bar.slot]

    def curve(self, key: str) -> Sequence[Mapping[str, float]]:
        """What one of the latest trainings has reported on the way; nothing of earlier ones."""
        known = self.curves.get(key)
        return [] if known is None else [metrics for _, metrics in known.points]

    def left(self, job: str, key: str) -> str:
        """Nothing: it lies beside the store, which a scheduler does not see; see :mod:`swarm.dashboard.trial.visit`."""
        return ""

    def address(self, key: str, file: File) -> None:
        """Nowhere, for the same reason."""

    def notes(self, job: str) -> None:
        """They are not known here, for the same reason."""

    def writes(self, job: str) -> bool:
        """They are not written here."""
        return False

    def write_note(self, job: str, trial: int, key: str, text: str) -> str:
        """That is not done here."""
        return "notes are written on the page of trials"

    def name_bars(self) -> None:
        """Give the bars the names of their jobs and trials, as far as they are known by now."""
        for key in list(self._unnamed):
            for name, shown in self.shown.items():
                self._name(key, name, shown)

    def transition(self, task: str, start: str, finish: str) -> None:
        """A Dask task has changed its state."""
        kind, _, rest = task.partition("-")
        if kind not in _TASKS or start == finish:
            return
        if finish == "processing":
            worker = self.scheduler.tasks[task].processing_on
            slot = self._free_slot(worker) if worker else ""
            bar = Bar(self.begun, rest.partition("-")[0], slot, time.time())
            self.begun += 1
            self._running[task] = bar
            self._unnamed.setdefault(bar.key, []).append(bar)
            if len(self._unnamed) > BARS:
                del self._unnamed[next(iter(self._unnamed))]
            if slot:
                self.bars.append(bar)
        elif start == "processing" and (ended := self._running.pop(task, None)) is not None:
            ended.end = ended.followed or time.time()
            ended.status = self._outcomes.pop(ended.key, "lost" if finish != "memory" else "ok")

    def add_worker(self, worker: WorkerState) -> None:
        """A worker has joined, whose slots wait for nothing yet."""
        for name in slot_names(worker):
            self.waits.pop(name, None)

    def log_event(self, topic: str, message: Any) -> None:
        """A worker announces a report or a result, or which of its slots a task has, or that one waits."""
        if topic == WAITS and isinstance(message, dict):
            self._wait(message.get("slot"), message.get("reason"))
        if topic == LEASES and isinstance(message, dict):
            self._place(message.get("task"), message.get("slot"))
        if not topic.startswith(RESULTS) or not isinstance(message, dict):
            return
        if "report" in message:
            report = message["report"]
            self.curves.setdefault(report["key"], Curve(report["key"])).add(report["metrics"])
            if len(self.curves) > CURVES:
                self.curves.popitem(last=False)
        elif "result" in message and any(bar.key == message["result"]["key"] for bar in self._running.values()):
            self._outcomes[message["result"]["key"]] = message["result"]["status"]

    def _wait(self, slot: Any, reason: Any) -> None:
        known = self.slots
        self.waits = {name: why for name, why in self.waits.items() if name in known and name != slot}
        if isinstance(reason, str) and slot in known:
            self.waits[slot] = reason

    def _free_slot(self, worker: WorkerState) -> str:
        """The first free slot of a worker; if it has several, it tells which one it was, and of what waits nothing."""
        names = slot_names(worker) or [str(worker.name)]
        if len(names) == 1:
            return names[0]
        taken = {bar.slot for bar in self._running.values()}
        return next((name for name in names if name not in taken), "")

    def _place(self, task: Any, slot: Any) -> None:
        """A task begins on this slot of its worker; another that was only thought to have it has the other."""
        found = self.scheduler.tasks.get(task) if isinstance(task, str) else None
        worker, bar = (found.processing_on, self._running.get(task)) if found is not None else (None, None)
        if worker is None or bar is None or slot not in slot_names(worker):
            return
        now = time.time()
        if not bar.slot:
            self.bars.append(bar)
        for other in self._running.values():
            if other.slot == slot and other.placed:
                other.followed = now
            elif other.slot == slot and bar.slot:
                other.slot = bar.slot
        bar.slot, bar.placed, bar.start = slot, True, now

    def _name(self, key: str, job: str, shown: Shown) -> None:
        trial = None if shown.view is None else shown.view.trial_of(key)
        if trial is not None:
            for bar in self._unnamed.pop(key, ()):
                bar.job, bar.trial = job, trial
