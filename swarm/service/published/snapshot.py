"""A search as people watch it: a picture of bounded size, drawn from the events of its journal as they come.

The same class serves at both ends: the master draws what has been, the scheduler's pages go on drawing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from typing import Any, Self

from swarm.plain import params_as_json, params_from_json
from swarm.store.events import Answered, Asked, Ended, Event, Extended, Led
from swarm.store.outcome import Outcome
from swarm.store.pending import PendingTrial, PendingTrials
from swarm.store.tally import Tally
from swarm.trial import Direction, Result, Value, rank_of

POINTS = 3000  # more would hide each other
GENERATIONS = 1000
_MOVES = 500
_ERRORS = 20
_METRICS = 30  # of a point
_REASON = 300  # characters of why one failed


@dataclass(frozen=True, slots=True)
class Lead:
    """A trial that was the best at some time: its number, its fitness, and what it was trained up to."""

    trial: int
    fitness: float
    budget: float | None


@dataclass(slots=True)
class Point:
    """A trial that was answered.

    Attributes:
        index: Its number in the order of the answers.
        trial, generation, member, budget, parent: As in :class:`~swarm.trial.Trial`.
        params: Its hyper-parameters.
        fitness: In the job's own direction; None if it failed.
        best: The fitness of the best so far, as of its answer; None while there is none.
        source: ``trained``, ``in_flight`` or ``archive``.
        slot: Where it was trained; empty if it was not.
        seconds: How long it was trained.
        start: When its training started, or when it was asked for; seconds since the epoch.
        end: When its answer came.
        metrics: Other numbers that its training returned, at most 30.
        error: Why it failed, in a line; empty if it did not.
        key: That of its first evaluation, by which the archive knows it.
        foretold: What a model said of it beforehand: ``move``, the kind of candidate, and ``expected``, its fitness.
    """

    index: int
    trial: int
    generation: int
    member: int
    budget: float | None
    parent: int | None
    params: dict[str, Value]
    fitness: float | None
    best: float | None
    source: str
    slot: str
    seconds: float
    start: float
    end: float
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    key: str = ""
    foretold: dict[str, Any] | None = None


@dataclass(slots=True)
class Row(Tally):
    """The trials that were answered of one generation, or of all.

    Attributes:
        lead: The best of it, and of the generations up to the next row.
    """

    lead: Lead | None = None

    def add(self, trial: PendingTrial, found: Outcome, when: float) -> None:
        """Count a trial whose last answer came at ``when``."""
        self.ask(trial.asked)
        self.tell(trial, found, when)


_POINT = tuple(each.name for each in fields(Point))


class View:
    """The picture of one search.

    Args:
        direction: Whether a larger or a smaller fitness is better.
        most: Points at most; None is as many as can be told apart.

    Attributes:
        points: What was answered, thinned out evenly when there is too much; the best is always among them, unless the
            search says only later which it is.
        thinned: How often ``points`` was thinned out, after which it must be read from its beginning.
        rows: The generations by number; of very many, every second is dropped.
        lead: The best so far; None while none has a fitness.
        led: Whether several targets count, so that the search says which is the best, by events named ``best``.
        moves: Last and last but one trial of each member of the population, and of its fold.
        all: All generations together.
        errors: Why trials failed: how often, and where in the user's code, by the first line of the error.
        reason: Why the search ended; None while it has not.
    """

    def __init__(self, direction: Direction, most: int | None = None) -> None:
        self.direction = direction
        self._most = most or POINTS
        self.points: list[Point] = []
        self.thinned = 0
        self.rows: dict[int, Row] = {}
        self.moves: dict[tuple[int, int], deque[Point]] = {}
        self.all = Row(-1)
        self.errors: dict[str, tuple[int, str]] = {}
        self.reason: str | None = None
        self.lead: Lead | None = None
        self.led = False
        self._stride = 1
        self._every = 1
        self._pending = PendingTrials()

    def apply(self, event: Event) -> None:
        """Draw what has happened."""
        match event:
            case Asked(purpose="fitness"):
                trial = self._pending.ask(event)
                if trial.complete:
                    self._settle(trial, event.time)
            case Answered():
                for trial in self._pending.answer(event):
                    if trial.complete:
                        self._settle(trial, event.time)
            case Led():
                self._follow(event)
            case Ended():
                self.reason = event.reason
            case Extended():
                self.reason = None

    def trial_of(self, key: str) -> int | None:
        """The trial that first waited for this evaluation, while it is waited for."""
        return next((pending.trial.id for pending in self._pending.waiting(key)), None)

    def better(self, one: Lead, other: Lead) -> bool:
        """Whether one is better than the other; of two equal ones, that with the lower number."""
        return self._rank(one) < self._rank(other)

    def ordered(self) -> list[Point]:
        """The points that have a fitness, the best first."""
        found = [
            (point.trial != (self.lead.trial if self.led and self.lead else None), self._rank(lead), point)
            for point in self.points
            if (lead := _lead(point)) is not None
        ]
        return [point for *_, point in sorted(found, key=lambda each: each[:2])]

    def lineage(self) -> list[Point]:
        """The trials that the best one continues, from the first to itself; empty while there is none."""
        found = {point.trial: point for point in self.points}
        line = [found[self.lead.trial]] if self.lead is not None and self.lead.trial in found else []
        while line and line[-1].parent in found:
            line.append(found[line[-1].parent])
        return line[::-1]

    # --- as plain data

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` reads it back."""
        return self.taken()()

    def taken(self) -> Callable[[], dict[str, Any]]:
        """What gives :meth:`to_dict` of this moment, whatever happens meanwhile: in a thread, since it takes longer."""
        points, rows, total = list(self.points), list(map(_copied, self.rows.values())), _copied(self.all)
        moves = [(who, list(where)) for who, where in self.moves.items()]
        waiting = [(each.asked, dict(each.results)) for each in self._pending]  # perhaps many thousands
        errors = [[error, *found] for error, found in self.errors.items()]
        lead = None if self.lead is None else asdict(self.lead)
        others = {"direction": self.direction, "errors": errors, "reason": self.reason, "lead": lead, "led": self.led}
        strides = [self._stride, self._every]

        def plainly() -> dict[str, Any]:
            return {
                "points": [_plain(point) for point in points],
                "rows": [asdict(row) for row in rows],
                "moves": [[*who, [_plain(point) for point in where]] for who, where in moves],
                "waiting": [[PendingTrial(*each).so_far.data, each[0].time] for each in waiting],
                "all": asdict(total),
                "strides": strides,
                **others,
            }

        return plainly

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The view that :meth:`to_dict` wrote."""
        view = cls(data["direction"])
        view.points = [_point(point) for point in data["points"]]
        view.rows = {row["number"]: _row(row) for row in data["rows"]}
        view.moves = {
            (fold, member): deque((_point(point) for point in where), 2) for fold, member, where in data["moves"]
        }
        view.all, view.reason = _row(data["all"]), data["reason"]
        view.errors = {error: (times, where) for error, times, where in data.get("errors", ())}
        view.lead, view.led = _led(data["lead"]), data["led"]
        view._stride, view._every = data["strides"]
        for asked, when in data["waiting"]:
            view._pending.ask(Asked.read(asked, when))
        return view

    # --- inside

    def _settle(self, pending: PendingTrial, when: float) -> None:
        found, trial = pending.outcome, pending.trial
        point = Point(
            index=self.all.told,
            trial=trial.id,
            generation=trial.generation,
            member=trial.member,
            budget=trial.budget,
            parent=trial.parent,
            params=dict(trial.params),
            fitness=found.fitness,
            best=None,
            source=found.source,
            slot=found.slot,
            seconds=found.seconds,
            start=pending.asked.time if found.start is None else found.start,
            end=when,
            metrics=dict(islice(found.metrics.items(), _METRICS)),
            error=_reason(pending)[:_REASON],
            key=pending.asked.evaluations[0].key if pending.asked.evaluations else "",
            foretold=self._foretold(trial.note),
        )
        self._note_row(point, pending, found)
        self._note_error(pending)
        self._keep(point)
        who = trial.fold or 0, trial.member
        if len(self.moves) < _MOVES or who in self.moves:
            self.moves.setdefault(who, deque(maxlen=2)).append(point)

    def _foretold(self, note: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """What a model said of a trial, as a fitness instead of a loss."""
        if not note or not {"move", "expected"} <= note.keys():
            return None
        return {"move": note["move"], "expected": (-1 if self.direction == "maximize" else 1) * note["expected"]}

    def _note_row(self, point: Point, pending: PendingTrial, found: Outcome) -> None:
        self.all.add(pending, found, point.end)
        if not point.generation % self._every:
            self._row_of(point.generation).add(pending, found, point.end)
        if not self.led and (lead := _lead(point)) is not None:
            self._lead_row(self._row_of(point.generation), lead)
        if len(self.rows) > GENERATIONS:
            self._every *= 2
            rows, self.rows = self.rows, {}
            for number in sorted(rows):
                self._merge(number, rows[number])

    def _row_of(self, generation: int) -> Row:
        """The row that stands for a generation."""
        number = generation - generation % self._every
        if number not in self.rows:
            self.rows[number] = Row(number)
        return self.rows[number]

    def _merge(self, number: int, row: Row) -> None:
        """Keep a row, or of one that is dropped its best."""
        if number % self._every == 0:
            self.rows[number] = row
        elif row.lead is not None:
            self._lead_row(self._row_of(number), row.lead)

    def _lead_row(self, row: Row, lead: Lead) -> None:
        """Note who led in a generation: the best of it, or if the search says who leads, the last."""
        if row.lead is None or self.led or self.better(lead, row.lead):
            row.lead = lead

    def _follow(self, led: Led) -> None:
        """The search takes this trial for the best from now on."""
        self.led, self.lead = True, Lead(led.trial, led.fitness, None)
        self._row_of(led.generation).lead = self.lead
        if self.points and self.points[-1].index == self.all.told - 1:  # by its answer
            self.points[-1].best = self.lead.fitness

    def _note_error(self, trial: PendingTrial) -> None:
        failed = _failed(trial)
        reason = None if failed is None else failed.reason
        if failed and reason and (reason in self.errors or len(self.errors) < _ERRORS):
            times, where = self.errors.get(reason, (0, failed.traceback or ""))
            self.errors[reason] = times + 1, where

    def _keep(self, point: Point) -> None:
        lead = _lead(point)
        improved = not self.led and lead is not None and (self.lead is None or self.better(lead, self.lead))
        if improved:
            self.lead = lead
        point.best = None if self.lead is None else self.lead.fitness
        if improved or point.index % self._stride == 0:
            self.points.append(point)
        if len(self.points) > self._most:
            self._stride *= 2
            self.thinned += 1
            kept = None if self.lead is None else self.lead.trial
            self.points = [each for each in self.points if each.index % self._stride == 0 or each.trial == kept]

    def _rank(self, lead: Lead) -> tuple[float, float, int]:
        return rank_of(lead.budget, -lead.fitness if self.direction == "maximize" else lead.fitness, lead.trial)


def _plain(point: Point) -> dict[str, Any]:
    """What ``asdict`` says, which would copy deeply and take ten times as long."""
    return {name: getattr(point, name) for name in _POINT} | {"params": params_as_json(point.params)}


def _point(data: Mapping[str, Any]) -> Point:
    """The point that :func:`_plain` wrote."""
    return Point(**{**data, "params": params_from_json(data["params"])})


def _failed(trial: PendingTrial) -> Result | None:
    """The first of a trial's answers that has no fitness."""
    return next((each for each in trial.answers if each is not None and each.fitness is None), None)


def _reason(trial: PendingTrial) -> str:
    failed = _failed(trial)
    return "" if failed is None else failed.reason or failed.status.value


def _copied(row: Row) -> Row:
    """A row that no event changes."""
    return replace(row, sources=dict(row.sources))


def _lead(point: Point) -> Lead | None:
    return None if point.fitness is None else Lead(point.trial, point.fitness, point.budget)


def _row(data: Mapping[str, Any]) -> Row:
    return Row(**{**data, "lead": _led(data["lead"])})


def _led(data: Mapping[str, Any] | None) -> Lead | None:
    return None if data is None else Lead(**data)
