"""Every error that the package raises on purpose, named by what the caller does next.

::

    SwarmError
    ├── InvalidInput              correct what was passed, then call again; nothing has changed
    │   ├── InvalidSpace          … the search space
    │   ├── InvalidOptimizer      … the optimizer's name or options
    │   ├── InvalidJob            … the job or the job file
    │   └── InvalidProblem        … the problem: it cannot be imported or pickled
    │       ├── NotGuarded        … the script: processes that trainings start begin its work again, guard that
    │       └── NoFiniteFitness   … what the training returned: its fitness is no finite number
    ├── JobConflict               take another name, or submit the job that the name stands for
    ├── JobNotFound               list the jobs of the store and take one of those
    ├── NotAllowed                ask the owner of the job, or an administrator
    ├── QuotaExceeded             wait for a job to end, or cancel one, then try again; nothing has changed
    ├── StoreError
    │   ├── StoreUnavailable      read-only, full or no store at all: mend it and try again
    │   │   └── StoreAway         … locked, or its server does not answer: wait, and try again
    │   ├── StoreTooNew           written by a later version: upgrade this package
    │   ├── StoreDamaged          a row of it is not what was written: restore a backup, or delete that run
    │   └── LeaseLost             another master writes this store now: leave it to that one
    ├── JournalMismatch           the journal does not follow from the job: run with the version that wrote it
    ├── ClusterError
    │   ├── SchedulerUnreachable  check the address, start the scheduler
    │   ├── NoSlots               start workers that offer GPU slots
    │   ├── NoService             that scheduler knows nothing of jobs: start it with swarm scheduler
    │   ├── NoMaster              no master is connected to the scheduler: start one, or wait
    │   └── NotStarted            worker processes cannot start: mend what the text names
    ├── Infeasible                raised by a training: this configuration cannot be built; it is archived as failed
    ├── Ending                    raised by a training that has saved, since its worker ends: it goes on elsewhere
    ├── StopSearch                raised by your own on_trial: the search ends, as by a rule of stop
    ├── AllFailed                 the first trainings fail for one reason: mend it, then run with retry_failed
    └── Interrupted               the run was stopped on request; resume it (a KeyboardInterrupt as well)
"""

from __future__ import annotations


class SwarmError(Exception):
    """Base of all errors of this package; its text is one line that names the remedy.

    Example:
        ::

            >>> from swarm import Real, SwarmError
            >>> try:
            ...     Real(1, 0)
            ... except SwarmError as error:
            ...     print(error)
            low 1 is above high 0: swap them
    """


class InvalidInput(SwarmError, ValueError):
    """What was passed is wrong; nothing has changed, the corrected call works."""


class InvalidSpace(InvalidInput):
    """The search space is empty, reversed or otherwise impossible."""


class InvalidOptimizer(InvalidInput):
    """No such optimizer, no such option, or an option out of its range; or results told that were not asked."""


class InvalidJob(InvalidInput):
    """The job or the job file has an unknown key, a wrong type or a contradiction."""


class InvalidProblem(InvalidInput):
    """The problem cannot be imported, called or pickled."""


class NotGuarded(InvalidProblem):
    """The script starts a run whenever it is imported, by processes of a training, too; put that below a main guard."""


class NoFiniteFitness(InvalidProblem):
    """The training returned a fitness that is no finite number; it is archived as failed."""


class JobConflict(SwarmError):
    """The name stands for another job, or another process is running it."""


class JobNotFound(SwarmError):
    """The store has no job of that name."""


class NotAllowed(SwarmError):
    """The job is somebody else's, or only administrators may do that."""


class QuotaExceeded(SwarmError):
    """You, or all users together, have as much of the service as its settings allow; nothing has changed."""


class StoreError(SwarmError):
    """The store cannot be used."""


class StoreUnavailable(StoreError):
    """The store is locked, read-only or cannot be reached."""


class StoreAway(StoreUnavailable):
    """The store is locked by another program, or its server does not answer: the same call may succeed later."""


class StoreTooNew(StoreError):
    """The store was written by a later version of this package."""


class StoreDamaged(StoreError):
    """A row of a store is not what was written: restore a backup, or delete the run that the text names."""


class LeaseLost(StoreError):
    """Another master has taken over the store."""


class JournalMismatch(SwarmError):
    """Replaying the journal gave other trials than it holds."""


class ClusterError(SwarmError):
    """The Dask cluster cannot be used."""


class SchedulerUnreachable(ClusterError):
    """Nothing answers at the scheduler's address."""


class NoSlots(ClusterError):
    """The scheduler has no worker that offers a GPU slot."""


class NoService(ClusterError):
    """The scheduler has no service for jobs."""


class NoMaster(ClusterError):
    """No master is connected to the scheduler, or it does not answer."""


class NotStarted(ClusterError):
    """No worker process could be started here, since a file of the user's hides a module that it needs, say."""


class ScriptEnded(NotStarted, SystemExit):
    """The same where a script calls :func:`swarm.run`: it ends with this one line, and exit code 1, if it lets it pass.

    Args:
        text: Why.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = f"swarm: {text}"


class Infeasible(SwarmError):
    """A training raises it for a configuration that cannot be built: its evaluation fails.

    Why not any exception? That may be the fault of the code or of the machine, so it says nothing to other searches.
    This one says that the configuration is to blame: the archive answers with it wherever that is asked for again.

    Example:
        ::

            >>> from swarm import Context, Infeasible
            >>> def train(params, ctx):
            ...     if params["kernel"] > params["image"]:
            ...         raise Infeasible("the kernel is larger than the image")
            ...     return 1.0
            >>> train({"kernel": 9, "image": 4}, Context())
            Traceback (most recent call last):
            swarm.errors.Infeasible: the kernel is larger than the image
    """


class Ending(SwarmError):
    """A training raises it when its worker ends and it has saved: it goes on elsewhere, from what it saved last.

    Nobody is blamed, and no attempt is used up. Raise it only where ``ctx.ending`` is not None.

    Example:
        ::

            >>> from swarm import Context, Ending
            >>> def train(params, ctx):
            ...     saved = ctx.restore()
            ...     weights, first = (saved.arrays["w"], saved.meta["epoch"]) if saved else (params["w"], 0)
            ...     for epoch in range(first, 100):
            ...         weights = weights * 0.9
            ...         if ctx.ending is not None:
            ...             ctx.save({"w": weights}, epoch=epoch + 1)
            ...             raise Ending
            ...     return float(weights)
            >>> round(train({"w": 1.0}, Context()), 6)
            2.7e-05
    """


class StopSearch(SwarmError):
    """Raise it in ``on_trial``, and the search ends as by a rule of ``stop``: its text is why.

    Example:
        ::

            >>> from swarm import StopSearch
            >>> def on_trial(trial):
            ...     if trial.fitness is not None and trial.fitness > 0.99:
            ...         raise StopSearch("good enough")
    """


class AllFailed(SwarmError):
    """The first trainings of a search have all failed for one reason; the text says why, where and what to do."""


class Interrupted(SwarmError, KeyboardInterrupt):
    """The run was stopped on request and can be resumed: what Ctrl-C raises, in a script and in a notebook."""


class Reached(BaseException):
    """A script or module that is imported for a training has come to where it starts a run: its import ends there.

    It is no error, so that no ``except Exception`` of the script's takes it for one.

    Attributes:
        MARK: What is among the global names of a module that is imported for a training.
    """

    MARK = "__swarm_bundle__"
