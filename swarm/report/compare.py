"""Runs side by side: what each found and cost, how fast, and whether the difference is more than chance.

Source of the test: Hyper-Parameter Selection in Deep Neural Networks Using Parallel Particle Swarm Optimization,
section 4, a two-tailed Wilcoxon signed-rank test on the scores of ten cross-validation folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from swarm.errors import InvalidInput
from swarm.plots import charts
from swarm.plots.axes import drawable
from swarm.plots.units import Unit, duration
from swarm.report.page import Page, Picture, Section, Table, Text
from swarm.report.sections import number, source
from swarm.report.tables import MOST_POINTS, Tables
from swarm.runs.run import Run
from swarm.store.records import JobStatus, Source
from swarm.trial import mean
from swarm.version import __version__

_SIGNIFICANT = 0.05
_EXACT = 50  # pairs, above which scipy approximates as well


@dataclass(frozen=True)
class Paired:
    """A Wilcoxon signed-rank test of two runs, fold by fold.

    Attributes:
        first: Name of one run.
        second: Name of the other.
        measure: What was compared.
        difference: Median over the folds of the second's less the first's.
        pairs: Number of folds that both have.
        p: Two-tailed p-value; 1 if they differ nowhere.
        method: How scipy got it: ``exact``, or ``asymptotic`` where there are ties or many pairs.
    """

    first: str
    second: str
    measure: str
    difference: float
    pairs: int
    p: float
    method: str

    @property
    def verdict(self) -> str:
        """What that means."""
        if 2.0 ** (1 - self.pairs) > _SIGNIFICANT:
            return f"{self.pairs} folds are too few: p cannot be below {2.0 ** (1 - self.pairs):.3g}"
        return "a difference" if self.p < _SIGNIFICANT else "no difference beyond chance"

    @property
    def sentence(self) -> str:
        """All of it."""
        return (
            f"median difference of the {self.measure} {self.difference:+.3g} over {self.pairs} folds, Wilcoxon p = "
            f"{self.p:.4g} ({self.method}, two-tailed): {self.verdict}"
        )


def wilcoxon(first: Sequence[float], second: Sequence[float]) -> tuple[float, str]:
    """Two-tailed p-value of a Wilcoxon signed-rank test on pairs, and the method.

    The parallel PSO paper compares its swarms so (section 4).

    Args:
        first: One number per pair.
        second: The other of each.
    """
    from scipy import stats

    differences = np.asarray(second, float) / 2 - np.asarray(first, float) / 2  # halves, which cannot overflow
    if not differences.any():
        return 1.0, "exact"
    ties = len(np.unique(np.abs(differences))) < len(differences) or not differences.all()
    method = "asymptotic" if ties or len(differences) > _EXACT else "exact"
    return float(stats.wilcoxon(differences, alternative="two-sided", method=method).pvalue), method


class Comparison:
    """Runs of one problem side by side.

    Args:
        runs: Two or more, of different names or stores.

    Raises:
        InvalidInput: There are fewer than two, or what is better in one is worse in another.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        if len(runs) < 2:
            raise InvalidInput("a comparison needs two runs or more: name another")
        if len({run.job.sign for run in runs}) > 1:
            goals = ", ".join(f"{run.job.name} is to {run.job.direction} it" for run in runs)
            raise InvalidInput(f"these runs do not compare: {goals}")
        names = [run.job.name for run in runs]
        self.names = [name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names, start=1)]
        self.runs = list(runs)
        self.tables = [Tables(run) for run in runs]

    @property
    def caution(self) -> str | None:
        """Why the numbers should be taken with care, if they should."""
        if len({run.job.code.fingerprint for run in self.runs}) > 1:
            return "These runs trained different problems, or different versions of one: their fitness may not compare."
        if any(run.status is not JobStatus.FINISHED for run in self.runs):
            return "Not all of these runs are finished."
        return None

    def table(self) -> pd.DataFrame:
        """One row per run.

        Columns: ``run``, ``method``, ``trials``, ``trained``, ``saved``, ``best``, ``test`` (mean over the folds),
        ``wall`` and ``training`` (seconds).
        """
        return pd.DataFrame([self._row(name, each) for name, each in zip(self.names, self.tables, strict=True)])

    def _row(self, name: str, tables: Tables) -> dict[str, object]:
        run, counts = tables.run, tables.run.counts
        scores = run.test_scores
        return {
            "run": name,
            "method": type(run.job.optimizer).__name__,
            "trials": len(tables.history.trials),
            "trained": counts[Source.TRAINED],
            "saved": counts[Source.ARCHIVE] + counts[Source.IN_FLIGHT],
            "best": np.nan if run.best is None else run.best.fitness,
            "test": mean(list(scores.values())) if scores else np.nan,
            "wall": tables.history.end - tables.history.start,
            "training": float(tables.history.folds["trained_seconds"].sum()),
        }

    def paired(self) -> list[Paired]:
        """A test of every two runs that have folds in common; of their scores on the test set if both have those."""
        scores = [run.test_scores for run in self.runs]
        best = [
            {
                trial.fold: run.job.sign * loss
                for trial, loss in run.state.optimizer.finalists()
                if trial.fold is not None
            }
            for run in self.runs
        ]
        found = []
        for i, j in combinations(range(len(self.runs)), 2):
            tested = len(scores[i].keys() & scores[j].keys()) > 1
            a, b = (scores[i], scores[j]) if tested else (best[i], best[j])
            folds = sorted(a.keys() & b.keys())
            if len(folds) < 2:
                continue
            first, second = [a[fold] for fold in folds], [b[fold] for fold in folds]
            p, method = wilcoxon(first, second)
            difference = 2 * float(
                np.median(np.subtract(np.divide(second, 2), np.divide(first, 2)))
            )  # halves are floats
            measure = "test score" if tested else "best fitness"
            found.append(Paired(self.names[i], self.names[j], measure, difference, len(folds), p, method))
        return found

    def progress(self) -> tuple[dict[str, pd.DataFrame], Unit]:
        """The best so far by run: columns ``evaluations``, ``time`` (in the unit), ``best``."""
        unit = Unit.of(max(each.history.end - each.history.start for each in self.tables))
        found = {}
        for name, tables in zip(self.names, self.tables, strict=True):
            rows = tables.history.points
            every = max(1, len(rows) // MOST_POINTS)
            kept = (np.arange(len(rows)) % every == 0) | rows["is_best"].to_numpy()
            rows = rows[kept | (np.arange(len(rows)) == len(rows) - 1)]
            rows = rows.assign(best=drawable(rows["best"]), time=rows["answered"] / unit.seconds)
            found[name] = rows[["evaluations", "best", "time"]]
        return found, unit

    def page(self) -> Page:
        """The comparison as a page that needs no network."""
        rows, label = self.table(), self.tables[0].fitness_label
        progress, unit = self.progress()
        sources = {name: source(each) for name, each in progress.items()}
        found = Section("What they found", [*self._cautions(), self._table(rows), *self._tests()])
        by = [
            Picture(
                charts.progress(sources, x="evaluations", x_label="evaluations", y_label=f"best {label} so far"),
                "The best so far against the number of evaluations, however they were answered; over all folds.",
            ),
            Picture(
                charts.progress(sources, x="time", x_label=f"wall time ({unit.name})", y_label=f"best {label} so far"),
                "The same against time since each run began; what machines they had is not the same for all.",
            ),
        ]
        return Page(
            title=f"Comparison of {len(self.runs)} runs",
            about=f"{', '.join(self.names)}: to {self.runs[0].job.direction} {label} of {self.runs[0].job.code.name}.",
            tiles=[
                (name, number(value), f"best {label}") for name, value in zip(rows["run"], rows["best"], strict=True)
            ],
            sections=[found, Section("How fast", by)],
            footer=f"Written by dask-swarm {__version__}.",
        )

    def write(self, file: Path) -> None:
        """Write :meth:`page`."""
        self.page().write(file)

    def _cautions(self) -> list[Text]:
        return [Text(self.caution, warning=True)] if self.caution else []

    def _table(self, rows: pd.DataFrame) -> Table:
        shown = rows.assign(
            **{name: rows[name].map(number) for name in ("best", "test")},
            **{name: rows[name].map(duration) for name in ("wall", "training")},
        )
        return Table("Runs", list(shown.columns), shown.astype(str).to_numpy().tolist())

    def _tests(self) -> list[Text | Table]:
        tests = self.paired()
        if not tests:
            return [Text("There is no test of the difference: it needs runs with cross-validation folds in common.")]
        headings = ["runs", "measure", "median difference", "folds", "p", "method", "verdict"]
        cells = [
            [
                f"{t.second} – {t.first}",
                t.measure,
                f"{t.difference:+.3g}",
                str(t.pairs),
                f"{t.p:.4g}",
                t.method,
                t.verdict,
            ]
            for t in tests
        ]
        several = (
            "" if len(tests) == 1 else f" With {len(tests)} tests, compare p with {_SIGNIFICANT / len(tests):.2g}."
        )
        return [
            Table("Wilcoxon signed-rank test, two-tailed, paired by fold", headings, cells),
            Text(f"A p-value below {_SIGNIFICANT} is called a difference.{several}"),
        ]
