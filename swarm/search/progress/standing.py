"""How a search stands: what of it the outside may look at."""

from __future__ import annotations

from collections import Counter

from swarm.job.job import Job
from swarm.search.durations import Durations
from swarm.search.failures import Failures
from swarm.search.progress.best import Best, Ranking
from swarm.search.pruning import MedianRule
from swarm.store.events import Asked
from swarm.store.records import Source
from swarm.store.tally import Tally
from swarm.trial import Result


class Standing:
    """How a search stands; before its first event, all is empty.

    Only :class:`~swarm.search.state.SearchState` changes it.

    Args:
        job: What to search, and how.

    Attributes:
        job: The job.
        optimizer: Its method, told all that has been answered.
        events: How many were applied.
        evaluations: Number of evaluations that were asked, however they are answered.
        unanswered: What is to be trained, or is being trained: the key of each evaluation, and what asked for it
            (:meth:`~swarm.search.state.SearchState.to_train` makes the evaluation).
        counts: Evaluations by source, of those answered without training only such as have a fitness: a failure saves
            nothing; trials that ``failed``, evaluations that were ``pruned``; results that were ``imported``, if any.
        generations: By number.
        tests: Scores on the test set, by fold.
        failures: Why trials failed, how often, and where.
        rule: Which trainings to end early; None if the job prunes none.
        durations: How long trainings take.
        asked, told: Numbers of trials.
        replayed: How many of those told were read from the journal.
        generation: The latest that was asked for.
        trained_seconds: Of all trainings so far.
        checkpoint_seconds, checkpoint_bytes: Spent on keeping checkpoints, and written.
        begun: Whether the search has begun; what was enqueued before stands before that in the journal.
        since: When the search would have begun if somebody had run it ever since, seconds since the epoch.
        end_reason: Why it ended; None while it has not.
        failed: Whether it ended because its first trainings had all failed.
    """

    def __init__(self, job: Job) -> None:
        assert job.space is not None  # the job took the problem's own if it was given none
        self.job = job
        self.optimizer = job.start()
        self.events = 0
        self.evaluations = 0
        self.unanswered: dict[str, Asked] = {}
        self.counts: Counter[str] = Counter({source.value: 0 for source in Source} | {"failed": 0})
        self.generations: dict[int, Tally] = {}
        self.tests: dict[int, Result] = {}
        self.failures = Failures()
        self.rule: MedianRule | None = None
        if job.prune is not None:
            self.rule = MedianRule(job.prune.metric, job.sign, job.prune.after, job.prune.trainings)
        self.durations = Durations(job.space)
        self.asked = self.told = self.replayed = 0
        self.generation = 0
        self.trained_seconds = 0.0
        self.checkpoint_seconds = self.checkpoint_bytes = 0.0
        self.since = 0.0
        self.begun = False
        self.end_reason: str | None = None
        self.failed = False
        self._ranking = Ranking(several=bool(job.targets or job.constraints))

    @property
    def best(self) -> Best | None:
        """The best trial so far, or None while no training has succeeded."""
        return self._ranking.best(self.optimizer, self.job.sign)

    @property
    def front(self) -> list[Best]:
        """The trials that no other dominates, where several targets count: by the first target, the best first.

        Of trials on different budgets only those on the largest; none that meets not the constraints.
        """
        return self._ranking.front()

    def losses_of(self, trial: int) -> tuple[float, ...] | None:
        """What is minimised of a trial that is told, for each target, where several count; None if it may not win."""
        return self._ranking.losses_of(trial)

    @property
    def leaders(self) -> list[tuple[int, int | None]] | None:
        """For each trial that was told, where several targets or constraints count: its id, and that of the best since.

        None where the fitness decides, since :func:`swarm.trial.rank_of` then says which is better.
        """
        return self._ranking.leaders

    @property
    def unmet(self) -> Counter[str]:
        """How many trials did not meet each constraint, by what it wants."""
        return self._ranking.unmet

    @property
    def errors(self) -> Counter[str]:
        """Why trials failed, and how often."""
        return self.failures.reasons

    @property
    def gpu_seconds(self) -> float:
        """Seconds of all trainings so far, times the GPUs of each."""
        return self.trained_seconds * self.job.gpus

    def finished(self) -> bool:
        """Whether the search is done: every trial told, and the best scored on the test set if that was asked."""
        return self.end_reason is not None
