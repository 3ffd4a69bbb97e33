"""Upkeep of a store: what its archive holds, what is to be forgotten of it, and runs that are to go.

Each change is made in two steps, so that one can see first what it would do: :func:`forgetting` and
:func:`deletion`, which is in :mod:`swarm.search.deletion`, look, and change nothing; what they return has a method
``do``.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import InvalidInput, JobNotFound
from swarm.search.deletion import Delete, Deletion, check_idle, check_not_submitted, deletion, results_folder
from swarm.search.retry import forget_committed
from swarm.store.sql import Store

__all__ = [
    "Delete",
    "Deletion",
    "Forgetting",
    "Holding",
    "check_idle",
    "check_not_submitted",
    "deletion",
    "forgetting",
    "holdings",
]


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
    for spec in store.specs(lambda *_: None).values():  # a damaged one has no name for its problem
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
    damaged: bool = False,
    results: str | None = None,
) -> Forgetting:
    """What of the archive would be forgotten; where several are given, all of them must hold.

    Args:
        store: The store.
        run: What this run has trained.
        problem: What is of this problem: its name, its fingerprint or the beginning of that.
        failures: Failures only.
        damaged: Only what is not what was written.
        results: Folder of the committed results; None is that beside the store, if it has one.

    Raises:
        InvalidInput: Nothing was chosen, or there is no such problem.
        JobConflict: A run that has trained some of it is running.
        JobNotFound: The archive knows no such run.
    """
    if run is None and problem is None and not failures and not damaged:
        raise InvalidInput("say what to forget: --run RUN, --problem NAME, --failures, --damaged, or several of them")
    problems = None if problem is None else _fingerprints(store, problem)
    rows = store.archived(job=run, problems=problems, failures=failures, damaged=damaged)
    if run is not None and not rows and not store.has_job(run):
        raise JobNotFound(f"the store {store.url} has no run {run!r}; list them with: swarm show")
    for name in sorted({owner for _, owner, _, _ in rows}) if not damaged else ():  # a damaged one answers nobody
        check_idle(store, name)
    return Forgetting(
        store,
        tuple(key for key, _, _, _ in rows),
        sum(failed for _, _, failed, _ in rows),
        sum(size for _, _, _, size in rows),
        results_folder(store, results),
    )


def _fingerprints(store: Store, problem: str) -> set[str]:
    """The problems that a name, or the beginning of a fingerprint, stands for."""
    known = holdings(store)
    found = {each.problem for each in known if problem in each.names or each.problem.startswith(problem)}
    if not problem or not found:
        names = ", ".join(f"{'/'.join(each.names) or 'unnamed'} ({each.problem})" for each in known) or "nothing"
        raise InvalidInput(f"the archive of {store.url} has no problem {problem!r}; it has {names}")
    return found
