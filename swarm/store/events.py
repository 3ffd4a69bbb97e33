"""What a journal says: one frozen dataclass for each thing that can happen to a search.

``event.kind`` and ``event.data`` are an event's line in a journal, ``data`` as plain JSON-ready values;
:func:`read_event` reads that line back, also one that an earlier version has written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from swarm.errors import StoreDamaged
from swarm.plain import params_as_json, params_from_json
from swarm.store.records import Source
from swarm.trial import Purpose, Result, Status, Trial

_TRIAL = tuple(field.name for field in fields(Trial))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a search.

    Attributes:
        time: When, seconds since the epoch.
    """

    time: float = 0.0
    kind: ClassVar[str]

    @property
    def data(self) -> dict[str, Any]:
        """All but its time, as plain values."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "time"}

    @classmethod
    def read(cls, data: Mapping[str, Any], time: float) -> Self:
        """The event with this :attr:`data`; what an earlier version did not know has its default."""
        known = (each.name for each in fields(cls))
        return cls(**{**{name: data[name] for name in known if name in data}, "time": time})


@dataclass(frozen=True, slots=True, kw_only=True)
class Began(Event):
    """The search began: the first event of a journal.

    Attributes:
        version: Version of dask-swarm that began it.
        job: The job (:meth:`swarm.Job.to_dict`), for whoever reads a journal without its store.
        known: What earlier searches had found that this one begins with: mappings with ``params``, ``loss`` and, where
            every fold has its own search, ``fold``; ``imported`` if it is none of this store's trainings.
    """

    version: str
    job: Mapping[str, Any] | None = None
    known: tuple[Mapping[str, Any], ...] = ()
    kind: ClassVar[str] = "job"

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", tuple(self.known))  # a journal has lists

    @property
    def data(self) -> dict[str, Any]:
        """All but its time, as plain values; ``known`` if anything is."""
        found = {"version": self.version, "job": self.job}
        known = [{**each, "params": params_as_json(each["params"])} for each in self.known]
        return found | ({"known": known} if known else {})

    @classmethod
    def read(cls, data: Mapping[str, Any], time: float) -> Self:
        """The event with this :attr:`data`."""
        known = [{**each, "params": params_from_json(each["params"])} for each in data.get("known", ())]
        return super(Began, cls).read({**data, "known": tuple(known)}, time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """A process took the search up where another had left it.

    Attributes:
        version: Version of dask-swarm of that process.
        joined: Trainings were still running, so that the search was never at rest.
    """

    version: str
    joined: bool
    kind: ClassVar[str] = "resumed"


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where the answer to one evaluation of a trial comes from.

    Attributes:
        key: Key of the evaluation.
        source: What answers it.
        result: The answer, if it was known when the trial was asked for; without its learning curve.
    """

    key: str
    source: Source
    result: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Event):
    """The optimizer asked for a trial, or the search for the test score of one.

    Attributes:
        trial: What to try.
        evaluations: Where the answer to each of its evaluations comes from, one per fold and repeat.
        purpose: ``fitness``, or ``test`` for a score on the unseen test set.
    """

    trial: Trial
    evaluations: tuple[Lookup, ...]
    purpose: Purpose = "fitness"

    @property
    def kind(self) -> str:  # type: ignore[override]
        """``asked`` or ``test``."""
        return "asked" if self.purpose == "fitness" else "test"

    @property
    def data(self) -> dict[str, Any]:
        """The trial's own fields, and its ``evaluations``."""
        trial = {name: getattr(self.trial, name) for name in _TRIAL if name != "note"}
        if self.trial.note is not None:
            trial["note"] = dict(self.trial.note)
        evaluations = [
            {"key": each.key, "source": each.source, "result": each.result and each.result.to_dict()}
            for each in self.evaluations
        ]
        return trial | {"params": params_as_json(self.trial.params), "evaluations": evaluations}

    @classmethod
    def read(cls, data: Mapping[str, Any], time: float, purpose: Purpose = "fitness") -> Self:
        """The event with this :attr:`data`."""
        known = {name: data[name] for name in _TRIAL if name in data}
        trial = Trial(**{**known, "params": params_from_json(data["params"])})
        evaluations = tuple(
            Lookup(each["key"], Source(each["source"]), each["result"] and Result.from_dict(each["result"]))
            for each in data["evaluations"]
        )
        return cls(trial=trial, evaluations=evaluations, purpose=purpose, time=time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """A training ended for good, and its result answers all trials that wait for it.

    Attributes:
        result: The result, without its learning curve: the archive keeps that.
    """

    result: Result
    kind: ClassVar[str] = "result"

    @property
    def data(self) -> dict[str, Any]:
        """The result."""
        return self.result.to_dict()

    @classmethod
    def read(cls, data: Mapping[str, Any], time: float) -> Self:
        """The event with this :attr:`data`."""
        return cls(result=Result.from_dict(data), time=time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Again(Event):
    """A training ended without a result, and runs once more.

    Attributes:
        key: Key of the evaluation.
        status: How it ended: ``crashed``, ``lost`` or ``cancelled``.
        error: Why.
        blamed: Its process died by itself (:attr:`swarm.trial.Result.blamed`).
        drained: Its worker was told to end (:attr:`swarm.trial.Result.drained`); that does not count.
    """

    key: str
    status: Status
    error: str | None = None
    blamed: bool = False
    drained: bool = False
    kind: ClassVar[str] = "again"

    @property
    def data(self) -> dict[str, Any]:
        """All but its time; that it was drained only if it was, as earlier versions had it."""
        data = super(Again, self).data
        return data if self.drained else {name: value for name, value in data.items() if name != "drained"}

    @classmethod
    def read(cls, data: Mapping[str, Any], time: float) -> Self:
        """The event with this :attr:`data`."""
        return super(Again, cls).read({**data, "status": Status(data["status"])}, time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """The journal was cut before its first failure, for the failed trainings to run again (:mod:`swarm.search.retry`).

    Attributes:
        failures: How many evaluations had failed.
        keys: Those among them that are asked for already.
    """

    failures: int
    keys: tuple[str, ...]
    kind: ClassVar[str] = "retried"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(self.keys))  # a journal has lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """The search ended.

    Attributes:
        reason: Why: ``done``, ``target reached``, …
        failed: It gave up, since its first trainings had all failed.
    """

    reason: str
    failed: bool = False
    kind: ClassVar[str] = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued(Event):
    """Somebody gave configurations that are tried before any other from now on.

    Attributes:
        configurations: Hyper-parameters by name, whole or in part.
        user: Who.
    """

    configurations: tuple[Mapping[str, Any], ...]
    user: str = ""
    kind: ClassVar[str] = "enqueued"

    def __post_init__(self) -> None:
        object.__setattr__(self, "configurations", tuple(self.configurations))  # a journal has lists

    @property
    def data(self) -> dict[str, Any]:
        """All but its time, as plain values."""
        return {"configurations": [dict(each) for each in self.configurations], "user": self.user}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """Somebody has asked the search to stop: what was asked for is trained, and nothing else.

    Attributes:
        reason: Why.
    """

    reason: str
    kind: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended(Event):
    """The search goes on: limits of its job were raised, by which it may have ended already.

    Attributes:
        version: Version of dask-swarm of the process that raised them.
        limits: What was raised, by its dotted name: what it is now.
        optimizer: The method with all its options as they are now (:meth:`swarm.Job.to_dict`).
    """

    version: str
    limits: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    kind: ClassVar[str] = "extended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Led(Event):
    """Where several targets count: the search takes another trial for the best. No journal has it: a replay tells it.

    Attributes:
        trial: Number of the trial.
        fitness: Its fitness, in the job's own direction.
        generation: Generation of the trial whose answer made it the best.
    """

    trial: int
    fitness: float
    generation: int
    kind: ClassVar[str] = "best"


_KINDS: dict[str, type[Event]] = {
    each.kind: each for each in (Began, Resumed, Answered, Again, Retried, Ended, Enqueued, Stopped, Extended, Led)
}


def read_event(kind: str, data: Mapping[str, Any], time: float) -> Event:
    """The event that a line of a journal tells of.

    Args:
        kind: Its :attr:`Event.kind`.
        data: Its :attr:`Event.data`.
        time: When it happened, seconds since the epoch.

    Raises:
        StoreDamaged: No version of dask-swarm writes such a line.
    """
    try:
        if kind in ("asked", "test"):
            return Asked.read(data, time, "fitness" if kind == "asked" else "test")
        return _KINDS[kind].read(data, time)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreDamaged(f"an event of the kind {kind!r} cannot be read: {type(error).__name__}: {error}") from error


def without_curve(event: Event) -> Event:
    """The event without the learning curve of its result."""
    if isinstance(event, Answered) and event.result.curve:
        return replace(event, result=replace(event.result, curve=()))
    return event
