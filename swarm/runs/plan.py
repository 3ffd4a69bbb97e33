"""What a job would do and cost, said before anything is trained."""

from __future__ import annotations

import statistics
from contextlib import closing, suppress
from dataclasses import dataclass

from swarm.errors import JobNotFound, StoreUnavailable
from swarm.job.job import Job
from swarm.runs.run import Run, StoreName, named_store
from swarm.store.records import JobStatus
from swarm.store.sql import Store

_LATEST = 1000  # trainings by whose length the cost is judged


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do, were it run now.

    Attributes:
        job: The job.
        store: Where it would be kept.
        slots: Trainings at a time; None where that is not known, as on somebody's cluster.
        trials: Trials that are left to ask, at most; None if nothing limits them but time or a target.
        told: Trials that the store has of it already.
        trainings: Trainings that these trials take at most: one for each fold and repeat, and the test scores.
        seconds: Median length of the trainings of this problem that the archive holds; None if it holds none.
        known: How many such trainings it holds.
        taken: What the store says of the name: how far its run is, or why another job cannot have it; None if it is
            free.
    """

    job: Job
    store: str
    slots: int | None
    trials: int | None
    told: int
    trainings: int | None
    seconds: float | None
    known: int
    taken: str | None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at most, if trainings take as long as those in the archive; None if that is unknown."""
        if self.seconds is None or self.trainings is None or not self.slots:
            return None
        return self.seconds * self.trainings * self.job.replicas / self.slots


def plan(job: Job, store: StoreName, slots: int | None = None) -> Plan:
    """What a job would do, were it run now; nothing is written, a store that is not there is not made.

    Args:
        job: The job.
        store: Where it would be kept.
        slots: Trainings at a time, if that is known.
    """
    name = named_store(store)
    trials, told, taken, lengths = _whole(job), 0, None, []
    with suppress(StoreUnavailable), closing(Store(name, create=False)) as opened:
        lengths = [seconds for _, _, seconds in opened.durations(job.code.fingerprint, _LATEST)]
        with suppress(JobNotFound):
            told, taken = _stands(job, opened, name)
    left = None if trials is None else max(trials - told, 0)
    each = job.repeats * (job.folds if job.fold_mode == "mean" else 1)
    return Plan(
        job=job,
        store=name,
        slots=slots,
        trials=left,
        told=told,
        trainings=None if left is None else left * each,
        seconds=statistics.median(lengths) if lengths else None,
        known=len(lengths),
        taken=taken,
    )


def _whole(job: Job) -> int | None:
    """Trials of the whole search, at most."""
    each = job.repeats * (job.folds if job.fold_mode == "mean" else 1)
    limits = [job.start().planned, job.stop.evaluations and -(-job.stop.evaluations // each)]
    return min((limit for limit in limits if limit), default=None)


def _stands(job: Job, store: Store, name: str) -> tuple[int, str]:
    """How many trials of the job the store has, and what becomes of it there."""
    differences = job.differences(store.job(job.name).spec)
    if differences:
        return 0, f"the store has another job of this name: {'; '.join(differences)}; take another name, or --again"
    found = Run.load(job.name, name)
    told = found.state.told
    if found.status is JobStatus.FINISHED:
        return told, f"finished after {told} trials: nothing would be trained; swarm show {job.name}"
    return told, f"begun: it would go on after {told} trials"
