"""A run as its journal tells it."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.errors import InvalidInput, JobNotFound
from swarm.job.job import Job
from swarm.job.stored_problem import Content
from swarm.runs.artifacts import artifacts, printed
from swarm.search.search import replayed
from swarm.search.state import Best, SearchState
from swarm.steering import baseline as beside
from swarm.store.events import Asked
from swarm.store.path import absolute, store_url
from swarm.store.records import JobStatus, Note, StoredJob
from swarm.store.sql import Store
from swarm.trial import Result

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

    @cached_property
    def baseline(self) -> Run | None:
        """The random search that was run beside it (``run(job, baseline="random")``); None if there is none."""
        with suppress(JobNotFound), closing(Store(self.url, create=False)) as opened:
            name = beside.name_of(self.job)
            if beside.is_baseline(self.job, opened.job(name).spec):
                return Run.load(name, self.url)
        return None

    @cached_property
    def configurations(self) -> dict[int, int]:
        """How many different configurations have been asked for, by fold; 0 if the search is one for all folds."""
        found: dict[int, set[tuple[str, ...]]] = {}
        with closing(Store(self.url, create=False)) as opened:
            for event in opened.events(self.job.name):
                if isinstance(event, Asked) and event.purpose == "fitness":
                    keys = tuple(each.key for each in event.evaluations)
                    found.setdefault(event.trial.fold or 0, set()).add(keys)
        return {fold: len(keys) for fold, keys in sorted(found.items())}

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

        It is kept beside the store, or where the setting ``swarm.results`` says, if the workers see that folder; empty
        where it is not.

        Args:
            trial: Number of the trial.
        """
        with closing(Store(self.url, create=False)) as opened:
            return "".join(printed(opened, key) for key in self._keys(opened, trial))

    def artifacts(self, trial: int) -> list[Path]:
        """The files that the trainings of a trial have left by ``ctx.artifact``, by name.

        They lie beside its output. A trial that the archive answered has those of the training that gave the answer.

        Args:
            trial: Number of the trial.
        """
        with closing(Store(self.url, create=False)) as opened:
            return [each.path for key in self._keys(opened, trial) for each in artifacts(opened, key)]

    def _keys(self, opened: Store, trial: int) -> list[str]:
        """Keys of the evaluations of a trial."""
        from swarm.runs.history import History

        rows = History(opened.events(self.job.name)).evaluations
        return list(dict.fromkeys(rows.loc[rows["trial"] == trial, "key"]))

    @property
    def notes(self) -> dict[int, str]:
        """What people wrote on its trials (:meth:`note`), by number of the trial."""
        with closing(Store(self.url, create=False)) as opened:
            keys = _first_keys(opened, self.job.name) if (found := opened.notes(self.job.name)) else {}
        return {each.trial: each.text for each in found if keys.get(each.trial) == each.key}

    def note(self, trial: int, text: str) -> None:
        """Write a note on a trial, in place of the one that it had; an empty text takes that away.

        It is seen on the pages, in the report and in exports. The search knows nothing of it.

        Args:
            trial: Number of the trial.
            text: Up to 2000 characters.

        Raises:
            InvalidInput: There is no such trial, or the text is too long.
            StoreUnavailable: The store cannot be written.
        """
        with closing(Store(self.url, create=False)) as opened:
            keys = _first_keys(opened, self.job.name)
            if trial not in keys:
                there = f"it has trials {min(keys)} to {max(keys)}" if keys else "it has none yet"
                raise InvalidInput(f"run {self.job.name!r} has no trial {trial}: {there}")
            opened.write_note(Note(self.job.name, trial, keys[trial], text))

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per trial; see :func:`swarm.runs.history.trials` for the columns.

        Where people wrote notes, the last column has them, ``note``, or ``trial.note`` if something else is called so.
        """
        from swarm.runs.history import trials

        with closing(Store(self.url, create=False)) as opened:
            table = trials(opened.events(self.job.name))
        if not (notes := self.notes):
            return table
        name = "note" if "note" not in table.columns else "trial.note"
        return table.assign(**{name: table["trial"].map(notes.get)})


def _shown() -> Any:
    """What draws runs; by its name, since it is made of runs."""
    return import_module("swarm.report.notebook")


def _first_keys(store: Store, job: str) -> dict[int, str]:
    """Keys of the first evaluations of the trials of a job."""
    asked = (event for event in store.events(job) if isinstance(event, Asked) and event.purpose == "fitness")
    return {event.trial.id: event.evaluations[0].key for event in asked}


def stored_job(stored: StoredJob, store: str) -> Job:
    """A job of the store; its code is read once something is trained."""

    def code() -> bytes:
        with closing(Store(store, create=False)) as opened:
            return opened.code(stored.name)

    return Job.from_dict(stored.spec, Content(code))


def named_store(store: StoreName) -> str:
    """The store's name as a text, by which it is found again."""
    return store if isinstance(store, str) else store_url(store)
