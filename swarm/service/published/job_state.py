"""Where a job stands, as plain data: what the master mirrors to the scheduler, for clients and pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from swarm.plain import params_as_json, params_from_json
from swarm.store.columns import columns
from swarm.store.records import State, StoredJob, Submission

if TYPE_CHECKING:
    from swarm.search.search import Search
    from swarm.search.state import Best, SearchState

UNREADABLE = "unreadable"
ENDED = tuple(state.value for state in State if state.ended)


def state_of(known: SearchState, submission: Submission, search: Search | None = None) -> dict[str, Any]:
    """The state of a job, as a :class:`JobState` holds it.

    Args:
        known: What its journal tells.
        submission: What the service knows of it besides.
        search: Its search, if somebody is running it.
    """
    job, best = known.job, known.best
    return {
        **_submitted(submission),
        "problem": job.code.name,
        "optimizer": type(job.optimizer).__name__,
        "direction": job.direction,
        "generation": known.generation,
        "told": known.told,
        "planned": known.optimizer.planned,
        "running": 0 if search is None else search.running,
        "counts": dict(known.counts),
        "trained_seconds": known.trained_seconds,
        "seconds": search and search.seconds,
        "seconds_left": search and search.seconds_left,
        "best": None if best is None else _best(best),
        "tests": {str(fold): test.fitness for fold, test in known.tests.items()},
        "errors": dict(known.errors.most_common(3)),
        "trouble": (search and search.trouble) or (known.in_vain if known.end_reason is None else None),
        "end_reason": known.end_reason,
        **({"shared": True} if job.shared else {}),  # which clients of an earlier version do not know
    }


def ended_state(stored: StoredJob, submission: Submission) -> dict[str, Any]:
    """The last state of a job that is not searched any more."""
    nothing = {
        "problem": _said(stored.spec, "problem", "name"),
        "optimizer": _said(stored.spec, "optimizer", "name"),
        "direction": _said(stored.spec, "direction"),
        "generation": 0,
        "told": 0,
        "planned": None,
        "counts": {},
        "trained_seconds": 0.0,
        "best": None,
        "tests": {},
        "errors": {},
        "end_reason": None,
    }
    now: dict[str, Any] = {"running": 0, "trouble": None, "seconds": None, "seconds_left": None}
    if is_shared(stored):
        now["shared"] = True
    found = {**nothing, **(submission.summary or {}), **_submitted(submission), **now}
    if found["best"] is not None:
        found["best"] = {**found["best"], "metrics": found["best"].get("metrics", {})}  # an earlier version kept none
    return found


def is_shared(stored: StoredJob) -> bool:
    """Whether everybody may read what a job has found, as whoever submitted it has said."""
    return isinstance(stored.spec, dict) and stored.spec.get("shared") is True


def outside(state: dict[str, Any]) -> dict[str, Any]:
    """What those see of a job who may not read what it has found."""
    return {**state, "best": None, "tests": {}, "errors": {}, "reason": None, "trouble": None}


def _said(spec: Any, *keys: str) -> str:
    """A text in a specification, which may be one that nobody can read."""
    for key in keys:
        spec = spec.get(key) if isinstance(spec, dict) else None
    return spec if isinstance(spec, str) else UNREADABLE


def _best(best: Best) -> BestTrial:
    return {
        "trial": best.trial.id,
        "params": params_as_json(best.params),
        "fitness": best.fitness,
        "metrics": dict(best.metrics),
    }


def _submitted(submission: Submission) -> dict[str, Any]:
    return {
        "name": submission.job,
        "owner": submission.owner,
        "priority": submission.priority,
        "most": submission.most,
        "state": submission.state.value,
        "reason": submission.reason,
    }


class BestTrial(TypedDict):
    """The best trial of a job, as plain data.

    Attributes:
        trial: Its id.
        params: Its hyper-parameters by name.
        fitness: Its fitness in the job's own direction; over folds and repeats their mean.
        metrics: Other numbers that its training returned.
    """

    trial: int
    params: dict[str, Any]
    fitness: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class JobState:
    """Where a job stands, as the master said last.

    Attributes:
        name: Name of the job.
        owner: Who submitted it.
        state: ``active``, ``paused``, ``finished``, ``cancelled`` or ``failed``.
        reason: Why it failed, or why what should follow it did not begin; or None.
        priority: Its share of its user's slots is in proportion to its priority.
        most: It never uses more slots than this; None is no limit.
        problem: Name of the problem.
        optimizer: Name of the method.
        direction: ``maximize`` or ``minimize``.
        generation: The latest that was begun.
        told: Trials that are answered.
        planned: Trials in all, if the method knows.
        running: Trainings that run now.
        counts: Evaluations by the source of their answer; ``failed`` trials.
        trained_seconds: Seconds of training, over all slots.
        seconds_left: How long it will take at the pace so far, or None.
        best: The best trial: ``{"trial": id, "params": {…}, "fitness": …, "metrics": {…}}``, or None.
        tests: Score of the best on the unseen test set, by fold.
        errors: Why trials failed, and how often.
        trouble: What keeps it from going on, such as a store that is away, or None.
        end_reason: Why the search ended.
        seconds: How long its master has searched; None once it has ended.
        shared: Whether everybody may read it, not only its owner and administrators.

    Example:
        ::

            from swarm import Client

            state = Client("tcp://127.0.0.1:8786").attach("valley").state()
            print(f"{state.told} of {state.planned} trials, {state.running} run now; {state.counts}")
            if state.best is not None:
                print(state.best["fitness"], state.best["params"])
    """

    name: str
    owner: str
    state: str
    reason: str | None
    priority: float
    most: int | None
    problem: str
    optimizer: str
    direction: str
    generation: int
    told: int
    planned: int | None
    running: int
    counts: dict[str, int]
    trained_seconds: float
    seconds_left: float | None
    best: BestTrial | None
    tests: dict[str, float | None]
    errors: dict[str, int]
    trouble: str | None
    end_reason: str | None
    seconds: float | None = None  # an earlier master does not say
    shared: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in ENDED

    @classmethod
    def of(cls, data: dict[str, Any]) -> JobState:
        """The state of these data, as a master sends them."""
        best = data.get("best")
        if isinstance(best, dict) and isinstance(best.get("params"), dict):
            data = {**data, "best": {**best, "params": params_from_json(best["params"])}}
        return cls(**data)

    @classmethod
    def read(cls, text: str) -> JobState:
        """The state that a master has published as JSON, or what says of one that it cannot be read."""
        data: Any = None
        try:
            data = json.loads(text)
            return cls.of(data)
        except (TypeError, ValueError, AttributeError) as error:
            name = data.get("name") if isinstance(data, dict) else None
            return cls(
                name=name if isinstance(name, str) else "?",
                owner="",
                state=UNREADABLE,
                reason=f"what the master says of it cannot be read: {error}",
                priority=0.0,
                most=None,
                problem="",
                optimizer="",
                direction="",
                generation=0,
                told=0,
                planned=None,
                running=0,
                counts={},
                trained_seconds=0.0,
                seconds_left=None,
                best=None,
                tests={},
                errors={},
                trouble=None,
                end_reason=None,
            )

    def _repr_html_(self) -> str:
        from html import escape

        rows = {"job": self.name, "state": self.state, "trials": f"{self.told} of {self.planned or '?'}"}
        if self.best is not None:
            rows["best"] = f"{self.best['fitness']:.6g}"
            params = self.best["params"]
            rows |= {column: params[name] for name, column in columns(params, others=rows).params.items()}
        cells = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"
