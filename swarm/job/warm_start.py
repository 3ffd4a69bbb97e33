"""What earlier searches have found, for a method that begins with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swarm.job.job import Job
from swarm.plain import canonical
from swarm.store.outcome import outcome
from swarm.store.records import Source
from swarm.store.sql import Store
from swarm.trial import Trial

_LATEST = 500  # results that are looked at


def known_before(job: Job, store: Store) -> tuple[dict[str, Any], ...]:
    """Configurations of the job's space whose trials the archive answers completely, with their losses.

    Answers are found by the keys of the evaluations that the job would have, so the problem, the folds, the repeats and
    what the fitness is are the same. None, if the method does not learn, or the job uses no archive.

    Args:
        job: The job.
        store: Where the archive is.
    """
    if not job.archive or job.targets or not job.optimizer.learns:
        return ()
    assert job.space is not None
    found: dict[str, dict[str, Any]] = {}
    for params, budget, _ in reversed(store.durations(job.code.fingerprint, _LATEST)):  # the oldest first
        if budget is None and job.space.contains(params):
            found[canonical(params)] = job.space.normalised(params)
    separate = job.folds > 1 and job.fold_mode == "swarm"
    trials = [
        Trial(id=0, params=params, fold=fold)
        for params in found.values()
        for fold in (range(job.folds) if separate else [None])
    ]
    return tuple(each for trial in trials if (each := _known(job, store, trial)) is not None)


def imported(job: Job, known: Sequence[Mapping[str, Any]] = ()) -> tuple[dict[str, Any], ...]:
    """The earlier results that the job names, with their losses; ``imported`` says that they are no trials of ours.

    Args:
        job: The job.
        known: What the archive knows, which is as good.
    """
    there = {canonical(each["params"]) for each in known}
    return tuple(
        {"params": each["params"], "loss": job.sign * each["fitness"], "imported": True}
        for each in job.results
        if canonical(each["params"]) not in there
    )


def _known(job: Job, store: Store, trial: Trial) -> dict[str, Any] | None:
    """What is known of a trial; None unless all of it is, and good."""
    keys = [evaluation.key for evaluation in job.evaluations(trial)]
    answers = store.answers(keys)
    if len(answers) < len(set(keys)):
        return None
    became = outcome([Source.ARCHIVE] * len(keys), [answers[key] for key in keys])
    if became.fitness is None:
        return None
    known = {"params": dict(trial.params), "loss": job.losses(became)[0]}
    return known if trial.fold is None else {**known, "fold": trial.fold}
