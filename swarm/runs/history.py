"""What a run's journal says, as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swarm.plain import canonical
from swarm.store.columns import Columns, columns
from swarm.store.events import Again, Answered, Began, Event, Lookup
from swarm.store.outcome import RUNNING, Outcome
from swarm.store.pending import PendingTrial, joined
from swarm.store.records import Source
from swarm.store.sql import Store
from swarm.trial import PART, Params, rank_of, traceback_of

_NOBODY = -1  # in place of a trial, while none meets the constraints
_TRIAL = ("trial", "generation", "member", "fold", "budget", "parent", "source", "status", "fitness")
_COLUMNS = (*_TRIAL, "seconds", "start", "end", "slot", "error", "traceback")
_ASKED = ("trial", "purpose", "generation", "member", "fold", "budget", "key", "source")
_EVALUATION = (*_ASKED, "status", "fitness", "slot", "error", "asked", "answered", "start", "end", "seconds")
_PLACE = ("trial", "generation", "member", "fold", "budget", "source", "fitness")
_POINT = (*_PLACE, "answered", "evaluations", "best", "is_best", "x")


def trials(events: Iterable[Event]) -> pd.DataFrame:
    """One row per trial, in the order in which they were asked.

    Columns: ``trial``, ``generation``, ``member``, ``fold``, ``budget``, ``parent`` (the trial that it continues),
    ``source``, ``status``, ``fitness``, ``seconds``, ``start`` and ``end`` (the time of the question, if nothing was
    trained for it), ``slot`` and ``error`` (see :class:`~swarm.store.outcome.Outcome`), ``traceback`` (the lines of the
    user's own that led to the error, or None), one column per hyper-parameter, and one per metric that trainings
    returned beside the fitness. What is called like another column is found as ``params.NAME`` or ``metrics.NAME``
    (:mod:`swarm.store.columns`).
    """
    events = list(events)
    answers = [event.result for event in events if isinstance(event, Answered)]
    errors = {result.key: result.error for result in answers if result.error}
    asked = [trial for trial in joined(events) if trial.asked.purpose == "fitness"]
    found = [trial.outcome for trial in asked]
    names = columns(  # not all may have all
        dict.fromkeys(name for each in asked for name in each.trial.params),
        dict.fromkeys(name for each in found for name in each.metrics),
    )
    rows = [
        {**_row(trial, each, names), "traceback": _traceback(trial, errors)}
        for trial, each in zip(asked, found, strict=True)
    ]
    table = pd.DataFrame(rows, columns=[*_COLUMNS, *names.params.values(), *names.metrics.values()])
    values = values_of([trial.trial.params for trial in asked], names.params)
    return table.assign(**{names.params[name]: column for name, column in values.items()})


def values_of(configurations: Sequence[Params], names: Iterable[str]) -> dict[str, pd.Series[Any]]:
    """A column for each hyper-parameter, in which values are what they are: None is no missing number.

    Args:
        configurations: One per row; what one is without is NaN.
        names: Of the hyper-parameters.
    """
    found = {}
    for name in names:
        column = [params.get(name, math.nan) for params in configurations]
        kinds = {type(params[name]) for params in configurations if name in params}
        as_is = len(kinds) > 1 or not kinds <= {bool, int, float, str}
        found[name] = pd.Series(column, dtype=object) if as_is else pd.Series(column)
    return found


def _row(pending: PendingTrial, found: Outcome, names: Columns) -> dict[str, Any]:
    trial, asked = pending.trial, pending.asked.time
    return {
        **{names.params[name]: value for name, value in trial.params.items()},
        **{names.metrics[name]: value for name, value in found.metrics.items()},
        "trial": trial.id,
        **{name: getattr(trial, name) for name in ("generation", "member", "fold", "budget", "parent")},
        **{field.name: getattr(found, field.name) for field in fields(found) if field.name != "metrics"},
        "start": asked if found.start is None else found.start,
        "end": asked if found.end is None else found.end,
    }


def _traceback(trial: PendingTrial, errors: Mapping[str, str]) -> str | None:
    """Where the first evaluation of a trial that failed did so."""
    for each in trial.answers:  # a failure that is met again is journalled by its reason alone
        if each is not None and (error := errors.get(each.key) or each.error):
            return traceback_of(error)
    return None


def _evaluation(pending: PendingTrial, lookup: Lookup) -> dict[str, Any]:
    """A row of :attr:`History.evaluations`."""
    trial, answer = pending.trial, pending.results.get(lookup.key)
    return {
        "trial": trial.id,
        "purpose": pending.asked.purpose,
        **{name: getattr(trial, name) for name in ("generation", "member", "fold", "budget")},
        "key": lookup.key,
        "source": lookup.source.value,
        "status": RUNNING if answer is None else answer.status.value,
        "fitness": None if answer is None else answer.fitness,
        "slot": "" if answer is None else answer.slot,
        "error": None if answer is None else answer.reason,
        "asked": pending.asked.time,
        "answered": pending.times.get(lookup.key, math.nan),
        **{name: getattr(answer, name, math.nan) for name in ("start", "end", "seconds")},
    }


class History:
    """What happened in a run, as tables, each made when it is asked for first.

    The figures of the reports and of the dashboard draw these tables; their columns are described at each.

    Args:
        events: The run's journal, from its beginning.
        sign: 1 if a smaller fitness is better, -1 if a larger one is (:attr:`swarm.job.Job.sign`).
        gpus: GPUs that one training has.
        leaders: Which trial was the best after each that was told, if the search compares several targets
            (:attr:`swarm.search.SearchState.leaders`); None where the fitness decides.
    """

    def __init__(
        self,
        events: Iterable[Event],
        *,
        sign: int = -1,
        gpus: float = 1,
        leaders: Sequence[tuple[int, int | None]] | None = None,
    ) -> None:
        self._events = list(events)
        self._sign = sign
        self._gpus = gpus
        self._leaders = leaders
        self._asked = joined(self._events)

    @property
    def start(self) -> float:
        """When the first trial was asked, seconds since the epoch; 0 if none was."""
        return self._asked[0].asked.time if self._asked else 0.0

    @property
    def end(self) -> float:
        """When the last thing happened."""
        return max((event.time for event in self._events), default=0.0)

    @property
    def version(self) -> str | None:
        """Version of dask-swarm that began the run."""
        return next((event.version for event in self._events if isinstance(event, Began)), None)

    @cached_property
    def again(self) -> Counter[str]:
        """How often evaluations were run again, by how they had ended: ``crashed``, ``lost``, ``drained``."""
        again = (event for event in self._events if isinstance(event, Again))
        return Counter("drained" if event.drained else event.status.value for event in again)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, see :func:`trials`."""
        return trials(self._events)

    @cached_property
    def params(self) -> dict[int, Params]:
        """Hyper-parameters by trial."""
        return {each.trial.id: each.trial.params for each in self._asked if each.asked.purpose == "fitness"}

    @cached_property
    def foretold(self) -> pd.DataFrame:
        """The trials of which a model said what it expected, and that have a fitness, in the order of the questions.

        Columns: ``trial``, ``move`` (what kind of candidate it was), ``expected`` (the fitness that the model expected)
        and ``fitness``.
        """
        rows = [
            (each.trial.id, each.trial.note["move"], self._sign * each.trial.note["expected"], each.outcome.fitness)
            for each in self._asked
            if each.asked.purpose == "fitness" and each.trial.note and {"move", "expected"} <= each.trial.note.keys()
        ]
        found = [row for row in rows if row[3] is not None]
        return pd.DataFrame(found, columns=["trial", "move", "expected", "fitness"])

    @cached_property
    def configurations(self) -> pd.DataFrame:
        """Hyper-parameters, a column each, one row per trial, with the trials' numbers as index."""
        rows = list(self.params.values())
        names = dict.fromkeys(name for each in rows for name in each)
        return pd.DataFrame(values_of(rows, names)).set_axis(list(self.params))

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation, in the order in which they were asked; those on the test set are among them.

        Columns: ``trial``, ``purpose`` (``fitness`` or ``test``), ``generation``, ``member``, ``fold``, ``budget``,
        ``key``, ``source``, ``status`` (``running`` while there is no answer), ``fitness``, ``slot``, ``error``,
        ``asked`` and ``answered`` (seconds since the epoch), ``start``, ``end`` and ``seconds`` of the training that
        gave the answer, whenever that was: summed over what was not trained, they are the time saved.
        """
        rows = [_evaluation(trial, each) for trial in self._asked for each in trial.asked.evaluations]
        numbers = ["fitness", "asked", "answered", "start", "end", "seconds"]  # even where there are none
        return pd.DataFrame(rows, columns=_EVALUATION).astype(dict.fromkeys(numbers, float))

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """The evaluations that were trained for this run and have ended, by their start, for a Gantt chart.

        Columns: those of :attr:`evaluations`; ``start`` and ``end`` in seconds since the run began, ``kind``:
        ``trained``, ``pruned``, ``failed`` or ``test``.
        """
        rows = self.evaluations
        rows = rows[(rows["source"] == Source.TRAINED) & (rows["status"] != "running")]
        rows = rows.drop_duplicates("key").sort_values("start", ignore_index=True)
        kind = rows["status"].where(rows["status"] != "ok", rows["purpose"].replace("fitness", "trained"))
        return rows.assign(start=rows["start"] - self.start, end=rows["end"] - self.start, kind=kind)

    @cached_property
    def busy(self) -> pd.DataFrame:
        """How many slots were busy: ``time`` in seconds since the run began, ``busy`` from then on."""
        rows = self.trainings
        changes = pd.concat([pd.Series(1, index=rows["start"]), pd.Series(-1, index=rows["end"])])
        busy = changes.groupby(level=0).sum().sort_index().cumsum()
        return pd.DataFrame({"time": busy.index.to_numpy(float), "busy": busy.to_numpy(int)})

    @cached_property
    def utilisation(self) -> pd.Series[float]:
        """Share of the run's time that each slot trained, by slot; whoever joined late has a small one."""
        spent = self.trainings.groupby("slot")["seconds"].sum()
        return spent / max(self.end - self.start, 1e-9)

    @cached_property
    def points(self) -> pd.DataFrame:
        """The trials that have a fitness, in the order of their answers, as a scatter plot and its best line need them.

        Columns: ``trial``, ``generation``, ``member``, ``fold``, ``budget``, ``source``, ``fitness``, ``answered``
        (seconds since the run began), ``evaluations`` (those answered so far), ``best`` (the fitness of the best so
        far, by :func:`swarm.trial.rank_of`) and ``is_best`` (the trial is that), ``x``: the generation, its trials side
        by side, or the number of the trial where there is one generation only.
        """
        rows = self.trials
        fitness = self.evaluations[self.evaluations["purpose"] == "fitness"]
        answered = fitness.groupby("trial")["answered"].max()
        rows = rows.assign(
            answered=rows["trial"].map(answered) - self.start, each=rows["trial"].map(fitness["trial"].value_counts())
        )
        rows = rows.assign(x=self._places(rows)).sort_values("answered", kind="stable", ignore_index=True)
        rows["evaluations"] = rows["each"].cumsum()
        rows = rows[rows["fitness"].notna()].reset_index(drop=True)
        best = self._best_so_far(rows)
        rows = rows.assign(best=self._fitness_of(rows, best), is_best=best == rows["trial"].to_numpy())
        return rows[list(_POINT)]

    @property
    def best(self) -> int | None:
        """The best trial so far; None if none has a fitness."""
        best = self._best_so_far(self.points)
        return int(best[-1]) if len(best) and best[-1] != _NOBODY else None

    def _best_so_far(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        """The best trial of these up to each, if they are told in this order."""
        if self._leaders is not None:
            return self._leader_so_far(rows)
        return np.array([rank[-1] for rank in accumulate(self._ranks(rows), min)], dtype=np.int64)

    def _leader_so_far(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        """The same where the search said which is the best: after the latest of these answers, and failures next."""
        assert self._leaders is not None
        told = {trial: place for place, (trial, _) in enumerate(self._leaders)}
        places = [told.get(trial, len(told) - 1) for trial in rows["trial"]]  # the journal may know more by now
        ends = [*sorted(places)[1:], len(told)]
        until = dict(zip(sorted(places), ends, strict=True))
        leaders = (self._leaders[until[place] - 1][1] for place in accumulate(places, max))
        return np.array([_NOBODY if each is None else each for each in leaders], dtype=np.int64)

    def _ranks(self, rows: pd.DataFrame) -> list[tuple[float, float, int]]:
        """What sorts these trials from the best to the worst."""
        columns = (rows["budget"], rows["fitness"], rows["trial"])
        return [
            rank_of(None if pd.isna(budget) else float(budget), self._sign * float(fitness), int(trial))
            for budget, fitness, trial in zip(*columns, strict=True)
        ]

    def _fitness_of(self, rows: pd.DataFrame, found: NDArray[np.int64]) -> NDArray[np.float64]:
        """The fitness of these trials, which are among the rows."""
        fitness = dict(zip(rows["trial"], rows["fitness"], strict=True))
        return np.array([fitness.get(trial, math.nan) for trial in found], dtype=float)

    @property
    def by_generation(self) -> bool:
        """Whether there is more than one generation."""
        return bool(self.trials["generation"].nunique() > 1)

    def _places(self, rows: pd.DataFrame) -> pd.Series[float]:
        if not self.by_generation:
            return rows["trial"].astype(float)
        group = rows.groupby("generation")["trial"]
        return rows["generation"] + 0.6 * ((group.cumcount() + 0.5) / group.transform("size") - 0.5)

    @cached_property
    def bands(self) -> pd.DataFrame:
        """Fitness per generation, or per so many trials where there is one generation only.

        Columns: ``x`` as in :attr:`points`, ``low``, ``mean``, ``high``, ``best`` up to here.
        """
        rows = self.points.sort_values(["generation", "trial"], ignore_index=True)  # folds may be at different ones
        rows = rows.assign(best=self._fitness_of(rows, self._best_so_far(rows)))
        width = 1 if self.by_generation else max(5, math.ceil(len(self.trials) / 30))
        by = (rows["generation"] if self.by_generation else rows["trial"]) // width
        group, bands = rows.groupby(by), _range(rows, by)
        bands.insert(0, "x", bands.index if self.by_generation else group["x"].mean())
        return bands.assign(best=group["best"].last()).reset_index(drop=True)

    @cached_property
    def generations(self) -> pd.DataFrame:
        """One row per generation and fold.

        Columns: ``generation``, ``fold``, ``evaluations``, ``trained``, ``archive``, ``in_flight``, ``failed``,
        ``low``, ``mean``, ``high`` (fitness of its evaluations), ``seconds`` (from the first question to the last
        answer), ``trained_seconds``, ``saved_seconds``, ``trained_hours`` and ``saved_hours`` (GPU hours up to the end
        of this row).
        """
        rows = self.evaluations[self.evaluations["purpose"] == "fitness"]
        return self._summed(rows.assign(fold=pd.to_numeric(rows["fold"]).fillna(0).astype(int)), ["generation", "fold"])

    @cached_property
    def folds(self) -> pd.DataFrame:
        """One row per fold: the columns of :attr:`generations`, without ``generation``."""
        rows = self.evaluations[self.evaluations["purpose"] == "fitness"]
        return self._summed(rows.assign(fold=pd.to_numeric(rows["fold"]).fillna(0).astype(int)), ["fold"])

    def _summed(self, rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        trained = rows["source"] == Source.TRAINED
        seconds = rows["seconds"].astype(float).fillna(0.0)
        rows = rows.assign(
            trained=trained,
            archive=rows["source"] == Source.ARCHIVE,
            in_flight=rows["source"] == Source.IN_FLIGHT,
            failed=rows["status"] == "failed",
            trained_seconds=seconds.where(trained, 0.0),
            saved_seconds=seconds.where(~trained & rows["fitness"].notna(), 0.0),  # a failure saves nothing
        )
        group = rows.groupby(by)
        sums = group[["trained", "archive", "in_flight", "failed", "trained_seconds", "saved_seconds"]].sum()
        sums.insert(0, "evaluations", group.size())
        sums = sums.join(_range(rows, by)).assign(seconds=group["answered"].max() - group["asked"].min())
        for name in ("trained", "saved"):
            sums[f"{name}_hours"] = sums[f"{name}_seconds"].cumsum() * self._gpus / 3600
        return sums.reset_index()

    @cached_property
    def lineage(self) -> pd.DataFrame:
        """The trials of a population that hands trainings on, and whose weights each goes on from.

        Columns: ``trial``, ``generation``, ``member``, ``fitness``, ``parent``, ``parent_generation``,
        ``parent_member`` (NaN where there is none), ``winner`` (whether the best trial descends from it, or is it).
        """
        rows = self.trials[["trial", "generation", "member", "fitness", "parent"]]
        places = rows.set_index("trial")[["generation", "member"]].astype(float)
        parents = {f"parent_{name}": rows["parent"].map(places[name]) for name in places}
        rows = rows.assign(**parents).astype({"parent": float})
        return rows.assign(winner=rows["trial"].isin([] if self.best is None else self._line(self.best)))

    def ordered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """These rows of :attr:`points`, the best first."""
        ranks = self._ranks(rows)
        best = None if self._leaders is None else self.best
        order = sorted(range(len(rows)), key=lambda i: (ranks[i][-1] != best, ranks[i]))
        return rows.iloc[order]

    def best_trials(self, count: int) -> pd.DataFrame:
        """The best configurations that were found, the best first, at most ``count``; rows of :attr:`points`."""
        rows = self.ordered(self.points)
        same = (
            pd.Series([canonical(self.params[trial]) for trial in rows["trial"]], dtype=object).duplicated().to_numpy()
        )
        return rows[~same].head(count)

    def curves(self, store: Store, found: Iterable[int]) -> dict[int, pd.DataFrame]:
        """What the trainings of these trials reported on the way, a row per report, by trial; those that did.

        The curve of a training that goes on from others begins with theirs.

        Args:
            store: Where the archive is; the journal has no curves.
            found: Numbers of trials; of several evaluations the first counts.
        """
        keys = self.evaluations.drop_duplicates("trial").set_index("trial")["key"]
        curves: dict[int, pd.DataFrame] = {}
        for trial in found:
            answers = [store.result(keys[each]) for each in self._line(trial)]
            reports = [report for answer in answers if answer is not None for report in answer.curve]
            if reports:
                curves[trial] = pd.DataFrame([dict(report) for report in reports])
        return curves

    @cached_property
    def _parents(self) -> dict[int, int]:
        rows = self.trials[self.trials["parent"].notna()]
        return {int(trial): int(parent) for trial, parent in zip(rows["trial"], rows["parent"], strict=True)}

    def _line(self, trial: int) -> list[int]:
        """A trial and those that it goes on from, the first of them first."""
        line = [trial]
        while line[-1] in self._parents:
            line.append(self._parents[line[-1]])
        return line[::-1]


def _range(rows: pd.DataFrame, by: Any) -> pd.DataFrame:
    """Columns ``low``, ``mean`` and ``high`` of the fitness of groups, also where its sum is beyond the floats."""
    group = rows.assign(part=rows["fitness"] * PART).groupby(by)
    part = group["part"]
    mean = part.mean().clip(part.min(), part.max()) / PART
    return pd.DataFrame({"low": group["fitness"].min(), "mean": mean, "high": group["fitness"].max()})
