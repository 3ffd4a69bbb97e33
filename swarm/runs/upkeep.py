"""Upkeep of a store: what its archive holds, what is to be forgotten of it, and runs that are to go.

Each change is made in two steps, so that whoever asks for it may see what it would do: :func:`forgetting` and
:func:`deletion` look, and change nothing; what they return has a method ``do``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from swarm.errors import InvalidInput, JobConflict, JobNotFound
from swarm.job.job import Job
from swarm.search.retry import forget_committed
from swarm.store.events import Asked, Event
from swarm.store.records import Source
from swarm.store.run_lock import running
from swarm.store.sql import Store

Delete = Callable[[list[str]], None]


@dataclass(frozen=True)
class Holding:
    """What the archive holds of one problem.

    Attributes:
        names: What its problem is called, in the runs of it.
        problem: Fingerprint of the problem.
        trainings: Results, failures included.
        failures: Results that are a failure.
        bytes: Room that they take in the database.
    """

    names: tuple[str, ...]
    problem: str
    trainings: int
    failures: int
    bytes: int


def holdings(store: Store) -> list[Holding]:
    """What the archive holds, one per problem, the largest first."""
    names: dict[str, dict[str, None]] = {}
    for spec in store.specs().values():
        names.setdefault(spec["problem"]["fingerprint"], {})[spec["problem"]["name"]] = None
    found = [
        Holding(tuple(names.get(problem, ())), problem, trainings, failures, size)
        for problem, trainings, failures, size in store.holdings()
    ]
    return sorted(found, key=lambda each: (-each.bytes, each.problem))


@dataclass(frozen=True)
class Forgetting:
    """Archived results that are to be forgotten; whoever asks for them later trains them again.

    Attributes:
        keys: Which.
        failures: How many of them are a failure.
        bytes: Room that they take in the database.
        results: Folder of the committed results, which are deleted too; or None.
    """

    store: Store
    keys: tuple[str, ...]
    failures: int
    bytes: int
    results: str | None

    def do(self) -> None:
        """Forget them."""
        forget_committed(self.results, self.keys)  # first: what is still in the archive can be found again
        self.store.forget(self.keys)


def forgetting(
    store: Store,
    *,
    run: str | None = None,
    problem: str | None = None,
    failures: bool = False,
    results: str | None = None,
) -> Forgetting:
    """What of the archive would be forgotten; where several are given, all of them must hold.

    Args:
        store: The store.
        run: What this run has trained.
        problem: What is of this problem: its name, its fingerprint or the beginning of that.
        failures: Failures only.
        results: Folder of the committed results; None is that beside the store, if it has one.

    Raises:
        InvalidInput: Nothing was chosen, or there is no such problem.
        JobConflict: A run that has trained some of it is running.
        JobNotFound: The archive knows no such run.
    """
    if run is None and problem is None and not failures:
        raise InvalidInput("say what to forget: --run RUN, --problem NAME, --failures, or several of them")
    problems = None if problem is None else _fingerprints(store, problem)
    rows = store.archived(job=run, problems=problems, failures=failures)
    if run is not None and not rows and run not in store.specs():
        raise JobNotFound(f"the store {store.url} has no run {run!r}; list them with: swarm show")
    for name in sorted({owner for _, owner, _, _ in rows}):
        check_idle(store, name)
    return Forgetting(
        store,
        tuple(key for key, _, _, _ in rows),
        sum(failed for _, _, failed, _ in rows),
        sum(size for _, _, _, size in rows),
        _results(store, results),
    )


@dataclass(frozen=True)
class Deletion:
    """A run that is to go, with what only it needs.

    Attributes:
        name: Name of the run.
        trainings: Keys of the archived results that go with it.
        bytes: Room that these take in the database.
        committed: Keys of the evaluations whose committed results go with it, as far as there are any.
        checkpoints: Keys of the evaluations whose checkpoints go with it, as far as there are any.
        events: Events of its journal.
        results: Folder of the committed results, or None.
    """

    store: Store
    name: str
    trainings: tuple[str, ...]
    bytes: int
    committed: tuple[str, ...]
    checkpoints: tuple[str, ...]
    events: int
    results: str | None

    def do(self, delete: Delete = lambda _: None) -> None:
        """Delete it.

        Args:
            delete: Deletes the checkpoints of these evaluations, by key, from where the run has kept them.
        """
        if self.checkpoints:
            delete(list(self.checkpoints))
        forget_committed(self.results, self.committed)
        self.store.delete_job(self.name, self.trainings)


def deletion(store: Store, name: str, *, archive: bool = False, results: str | None = None) -> Deletion:
    """What would be deleted with a run.

    What it has trained stays in the archive and answers others, unless they could never ask for it: a job that uses no
    archive, or hands trainings on, has keys of its own.

    Args:
        store: The store.
        name: Name of the run.
        archive: Delete what it has trained, too.
        results: Folder of the committed results; None is that beside the store, if it has one.

    Raises:
        JobConflict: It is running.
        JobNotFound: There is no such run.
    """
    specs = store.specs()
    if name not in specs:
        raise JobNotFound(f"the store {store.url} has no run {name!r}; list them with: swarm show")
    check_idle(store, name)
    archive = archive or _is_alone(specs[name])
    rows = store.archived(job=name) if archive else []
    events = list(store.events(name))
    trained = _asked(events, Source.TRAINED) if archive else set()
    checkpoints = _asked(events) if specs[name]["checkpoints"] else set()
    for other, spec in specs.items() if checkpoints else ():
        if other != name and spec["problem"]["fingerprint"] == specs[name]["problem"]["fingerprint"]:
            checkpoints -= _asked(store.events(other))
    return Deletion(
        store,
        name,
        tuple(key for key, _, _, _ in rows),
        sum(size for _, _, _, size in rows),
        tuple(sorted(trained | {key for key, *_ in rows})),
        tuple(sorted(checkpoints)),
        len(events),
        _results(store, results),
    )


def check_idle(store: Store, name: str) -> None:
    """Refuse to take away what a run needs that goes on.

    Raises:
        JobConflict: It is running, here or in a service.
    """
    check_not_submitted(store, name)
    if (who := running(store, name)) is not None:
        raise JobConflict(f"run {name!r} is being run by {who}; stop it first (Ctrl-C where it runs)")


def check_not_submitted(store: Store, name: str) -> None:
    """Refuse to change what a service runs.

    Raises:
        JobConflict: It does.
    """
    for submission in store.submissions():
        if submission.job == name and not submission.state.ended:
            raise JobConflict(f"job {name!r} is {submission.state} in a service; end it first: swarm cancel {name}")


def _is_alone(spec: dict[str, Any]) -> bool:
    """Whether the keys of a job's evaluations are its own, so that nobody else can ask for them."""
    try:
        job = Job.from_dict(spec, b"")
    except InvalidInput:  # of an earlier version
        return False
    return not job.archive or job.optimizer.inherits


def _asked(events: Iterable[Event], source: Source | None = None) -> set[str]:
    """Keys of the evaluations that a journal asks for, on request only those with this source."""
    asked = (each for event in events if isinstance(event, Asked) for each in event.evaluations)
    return {each.key for each in asked if source in (None, each.source)}


def _fingerprints(store: Store, problem: str) -> set[str]:
    """The problems that a name, or the beginning of a fingerprint, stands for."""
    known = holdings(store)
    found = {each.problem for each in known if problem in each.names or each.problem.startswith(problem)}
    if not problem or not found:
        names = ", ".join(f"{'/'.join(each.names) or 'unnamed'} ({each.problem})" for each in known) or "nothing"
        raise InvalidInput(f"the archive of {store.url} has no problem {problem!r}; it has {names}")
    return found


def _results(store: Store, results: str | None) -> str | None:
    beside = store.folder
    return results or (None if beside is None else str(beside / "results"))
