"""Random search beside a job, which shows what its own search is worth: the same trainings, drawn by chance."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from swarm.errors import InvalidInput, InvalidJob, JobConflict, JobNotFound, StoreUnavailable
from swarm.job.job import Job
from swarm.job.rules import Stop
from swarm.optimizers.random import Random
from swarm.store.sql import Store


def name_of(job: Job) -> str:
    """Name of the run of a job's :func:`baseline`."""
    return f"{job.name}-random"


def baseline(job: Job, trials: int) -> Job:
    """Random search with a job's trainings.

    It tries the configurations of ``first``, too, and knows nothing of ``results``.

    Args:
        job: The job.
        trials: Number of configurations, for each fold that has a search of its own.

    Raises:
        InvalidJob: Random search at the same number of trainings would say nothing of this job.
    """
    _check_comparable(job)
    return job.changed(name=name_of(job), optimizer=Random(trials=trials), results=[], stop=Stop(), notify=None)


def is_baseline(job: Job, other: Mapping[str, Any]) -> bool:
    """Whether another job, as its :meth:`swarm.Job.to_dict` describes it, is the :func:`baseline` of this one."""
    method = other.get("optimizer")
    trials = method.get("trials") if isinstance(method, dict) and method.get("name") == "Random" else None
    try:
        return isinstance(trials, int) and not baseline(job, trials).differences(dict(other))
    except InvalidInput:
        return False


def check(job: Job, store: str, kind: str) -> None:
    """Refuse what could not be set beside a job, before that is run.

    Raises:
        InvalidInput: There is no such baseline.
        InvalidJob: It would say nothing of this job.
        JobConflict: Its name stands for another job in the store.
    """
    if kind != "random":
        raise InvalidInput(f"the baseline is random, not {kind!r}")
    name = baseline(job, trials=1).name  # which may be too long
    with suppress(StoreUnavailable, JobNotFound), closing(Store(store, create=False)) as opened:
        if not is_baseline(job, opened.job(name).spec):
            raise JobConflict(
                f"the store has another job {name!r}, as random search beside {job.name!r} would be called: run it "
                "under another name, or with --again"
            )


def _check_comparable(job: Job) -> None:
    """Refuse a job that random search cannot be compared with at the same number of trainings.

    Raises:
        InvalidJob: Its trainings are not alike, nothing is one best, there are two searches, or it is random itself.
    """
    method = job.optimizer
    if isinstance(method, Random):
        raise InvalidJob("the job is random search itself, so it needs none beside it: leave the baseline out")
    if method.inherits or method.largest_budget is not None:
        raise InvalidJob(
            f"{type(method).__name__} trains in slices, so random search with as many trainings would not cost the "
            "same: run a second job with optimizer: Random and stop: {gpu_hours: …}, then swarm compare"
        )
    if job.targets:
        raise InvalidJob(
            "several targets have no single best to compare: run a second job with optimizer: Random, and compare the "
            "fronts"
        )
    if job.then is not None:
        raise InvalidJob("the job has a second search (then): set random search beside each of the two, as its own job")
