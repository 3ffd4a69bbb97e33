"""A run as its journal tells it."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.job.job import Job
from swarm.job.stored_problem import Content
from swarm.search.search import replayed
from swarm.search.state import Best, SearchState
from swarm.store.path import absolute, store_url
from swarm.store.records import JobStatus, StoredJob
from swarm.store.sql import Store
from swarm.trial import Result, output_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STORE = "sqlite:///swarm.db"
StoreName = str | os.PathLike[str]


@dataclass(frozen=True)
class Run:
    """A run of a store: what was searched, and what has been found so far, finished or not.

    :func:`swarm.run` returns one, and :meth:`load` reads one back at any time. It does not follow
    a run that goes on elsewhere: load it again to see how far that is.

    Attributes:
        state: What is known of its search, replayed from the journal.
        store: Where the journal is, as it was named.
        url: The same, from whatever folder.
        status: How far its journal is: ``new``, ``running``, ``stopped``, ``finished`` or ``failed``.
        before: The run that this one followed, if the job had a second search.

    Example:
        ::

            >>> from swarm import Job, Run, Random, Real, run
            >>> def train(params, ctx):
            ...     return -abs(params["x"] - 0.3)
            >>> space = {"x": Real(0, 1)}
            >>> job = Job(name="seen", problem=train, space=space, optimizer=Random(trials=20), isolation="thread")
            >>> found = run(job, slots=1, progress=False)
            >>> again = Run.load("seen")  # by its name, from swarm.db
            >>> again.best == found.best, str(again.status), again.end_reason
            (True, 'finished', 'done')
            >>> list(again.history.nlargest(1, "fitness")["x"]) == [again.best.params["x"]]
            True
    """

    state: SearchState
    store: str
    status: JobStatus
    before: Run | None = None
    url: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", absolute(self.store))

    @classmethod
    def load(cls, name: str, store: StoreName = STORE) -> Run:
        """Read a run from a store.

        Args:
            name: Name of the run.
            store: URL or file of the store; left out, ``swarm.db`` in the current folder.

        Raises:
            JobNotFound: The store has no job of that name.
            StoreUnavailable: There is no store, or it cannot be read.
        """
        with closing(Store(store, create=False)) as opened:
            stored = opened.job(name)
            state = replayed(stored_job(stored, named_store(store)), opened)
            return cls(state, named_store(store), stored.status)

    @property
    def job(self) -> Job:
        """The job that was run."""
        return self.state.job

    @property
    def best(self) -> Best | None:
        """The best trial: ``best.params``, ``best.fitness``, ``best.metrics``; None if no training has succeeded."""
        return self.state.best

    @cached_property
    def front(self) -> pd.DataFrame:
        """The trials that no other dominates, where the fitness is several targets: one row each, the best first.

        Columns: ``trial``, the hyper-parameters, and the targets; named as in :attr:`history`.

        Raises:
            InvalidInput: The fitness is one number.
        """
        from swarm.runs.front import front

        return front(self.state)

    @property
    def counts(self) -> dict[str, int]:
        """Evaluations by the source of their answer (``trained``, ``archive``, ``in_flight``); ``failed`` trials."""
        return dict(self.state.counts)

    @property
    def tests(self) -> dict[int, Result]:
        """Score of the best on the unseen test set, by fold."""
        return self.state.tests

    @property
    def test_scores(self) -> dict[int, float]:
        """The same as numbers, of those folds where it did not fail."""
        return {fold: result.fitness for fold, result in self.tests.items() if result.fitness is not None}

    @property
    def end_reason(self) -> str | None:
        """Why it ended: ``done``, ``target reached``, …; None while it has not."""
        return self.state.end_reason

    @property
    def schedule(self) -> pd.DataFrame:
        """Hyper-parameters per slice along the winner's parents; see :func:`swarm.runs.schedule.schedule`."""
        from swarm.runs.schedule import schedule

        return schedule(self)

    def save(self, path: str | Path) -> None:
        """Save the trained network of the best, which is trained again if it was not kept.

        Args:
            path: ``winner.keras``, or a folder for what else was trained; see :meth:`swarm.runs.winner.Winner.finish`.
        """
        from swarm.runs.winner import Winner

        Winner.of(self).finish(save=Path(path))

    def plot(self, figure: str = "fitness") -> Figure:
        """A figure of the report, by matplotlib: a notebook shows it, ``plot().savefig("fitness.pdf")`` keeps it.

        Args:
            figure: ``fitness``, ``hyper-parameters``, ``search-space``, ``importance``, ``slots``,
                ``curves-val_accuracy``, … : what there is depends on the run.

        Raises:
            InvalidInput: There is no such figure of this run; the text names those that there are.
        """
        drawn: Figure = _shown().plot(self, figure)
        return drawn

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report as one HTML file, as ``swarm report`` does.

        Args:
            path: The file; left out, it is named as the run, in the current folder.

        Returns:
            The file.

        Raises:
            InvalidInput: It cannot be written there.
        """
        written: Path = _shown().report(self, path)
        return written

    def _repr_html_(self) -> str:
        return str(_shown().html(self))

    def output(self, trial: int) -> str:
        """What the trainings of a trial have printed, one after the other; of much, the beginning and the end.

        It is kept beside the store, on whose machine or shared folder the workers were; empty where it is not.

        Args:
            trial: Number of the trial.
        """
        from swarm.runs.history import History

        with closing(Store(self.url, create=False)) as opened:
            rows = History(opened.events(self.job.name)).evaluations
            keys = dict.fromkeys(rows.loc[rows["trial"] == trial, "key"])
            return "".join(printed(opened, key) for key in keys)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per trial; see :func:`swarm.runs.history.trials` for the columns."""
        from swarm.runs.history import trials

        with closing(Store(self.url, create=False)) as opened:
            return trials(opened.events(self.job.name))


def _shown() -> Any:
    """What draws runs; by its name, since it is made of runs."""
    return import_module("swarm.report.notebook")


def printed(store: Store, key: str) -> str:
    """What the training of an evaluation has printed, if that lies beside the store; else nothing."""
    if store.folder is None:
        return ""
    try:
        return Path(output_in(str(store.folder / "results"), key)).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def stored_job(stored: StoredJob, store: str) -> Job:
    """A job of the store; its code is read once something is trained."""

    def code() -> bytes:
        with closing(Store(store, create=False)) as opened:
            return opened.code(stored.name)

    return Job.from_dict(stored.spec, Content(code))


def named_store(store: StoreName) -> str:
    """The store's name as a text, by which it is found again."""
    return store if isinstance(store, str) else store_url(store)
