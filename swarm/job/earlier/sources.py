"""Where earlier results are read from: a run of ours, CSV or Parquet, a study of Optuna, or the job itself."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.errors import InvalidJob, JobNotFound, StoreError
from swarm.plain import plain
from swarm.trial import Direction, Status

if TYPE_CHECKING:  # the store is imported when a source is read: to describe a job takes no database
    from swarm.store.outcome import Outcome

HOW = (
    "write {run: NAME, store: FILE}, {csv: FILE}, {parquet: FILE}, {optuna: URL, study: NAME}, or {params: {…}, "
    "fitness: 0.9}"
)
_STORE = "swarm.db"


@dataclass(frozen=True, slots=True)
class Row:
    """A result, as a source has it.

    Attributes:
        params: Hyper-parameters by name, and perhaps more.
        fitness: In the job's own direction.
    """

    params: Mapping[str, Any]
    fitness: float


def rows(source: Any, folder: Path, direction: Direction) -> Iterator[Row]:
    """The results of a source that have a fitness; of trials on several budgets those on the largest.

    Args:
        source: What a job names.
        folder: What its paths are relative to.
        direction: The job's.

    Raises:
        InvalidJob: There is no such source, or it cannot be read; the text says what to write.
    """
    if not isinstance(source, Mapping):
        raise InvalidJob(f"{source!r} is no source: {HOW}")
    kinds = {"params": _given, "run": _run, "csv": _table, "parquet": _table, "optuna": _optuna}
    named = [kind for kind in kinds if kind in source]
    if len(named) != 1:
        raise InvalidJob(f"{_shown(source)} is no source: {HOW}")
    known = {"params": ("fitness",), "run": ("store",), "optuna": ("study",)}.get(named[0], ("fitness",))
    for key in source:
        if key not in (named[0], *known):
            close = difflib.get_close_matches(str(key), known, n=1)
            raise InvalidJob(f"unknown key {key!r}{f' (did you mean {close[0]!r}?)' if close else ''}: {HOW}")
    read: Callable[[Mapping[str, Any], Path, Direction], Iterator[Row]] = kinds[named[0]]
    return read(source, folder, direction)


def from_text(text: str, store: str, fitness: str | None = None) -> dict[str, Any]:
    """A source as a command line names it.

    Args:
        text: ``FILE.csv``, ``FILE.parquet``, ``run:NAME`` or ``optuna:URL#STUDY``.
        store: Where the run is.
        fitness: Column of a table that has the fitness.

    Raises:
        InvalidJob: It is none of these.
    """
    kind, _, rest = text.partition(":")
    column = {} if fitness is None else {"fitness": fitness}
    if kind == "run" and rest:
        return {"run": rest, "store": store if "://" in store else str(Path(store).absolute())}
    if kind == "optuna" and rest:
        url, _, study = rest.partition("#")
        return {"optuna": url, **({"study": study} if study else {})}
    suffix = Path(text).suffix.removeprefix(".")
    if suffix in ("csv", "parquet"):
        return {suffix: str(Path(text).absolute()), **column}
    raise InvalidJob(f"{text!r} is no source: write FILE.csv, FILE.parquet, run:NAME, or optuna:URL#STUDY")


def beside(folder: Path, source: Any) -> Any:
    """The source with paths that hold wherever one is; they were relative to this folder."""
    if not isinstance(source, Mapping):
        return source
    paths = {
        key: str(folder.absolute() / str(source[key]))
        for key in ("csv", "parquet", "store")
        if key in source and "://" not in str(source[key])
    }
    if "run" in source:
        paths.setdefault("store", str(source.get("store") or folder.absolute() / _STORE))
    return {**source, **paths}


def _shown(source: Mapping[str, Any]) -> str:
    return f"{{{', '.join(map(str, source))}: …}}"


def _given(source: Mapping[str, Any], folder: Path, direction: Direction) -> Iterator[Row]:
    params, fitness = source["params"], plain(source.get("fitness"))
    if not isinstance(params, Mapping) or not isinstance(fitness, int | float) or isinstance(fitness, bool):
        raise InvalidJob("a result is {params: {…}, fitness: 0.9}: a mapping and a number")
    yield Row(params, float(fitness))


def _run(source: Mapping[str, Any], folder: Path, direction: Direction) -> Iterator[Row]:
    from swarm.store import Store
    from swarm.store.path import store_url
    from swarm.store.pending import joined

    name, store = str(source["run"]), source.get("store", _STORE)
    store = store if "://" in str(store) else store_url(folder / str(store))
    try:
        with closing(Store(store, create=False)) as opened:
            theirs = opened.job(name).spec.get("direction")
            trials = [each for each in joined(opened.events(name)) if each.asked.purpose == "fitness"]
    except (JobNotFound, StoreError) as error:
        raise InvalidJob(f"run {name!r}: {error}") from None
    _check_direction(f"run {name!r}", theirs, direction)
    found = [(each.trial.budget or 0.0, each.trial.params, each.outcome) for each in trials]
    return _on_the_largest([(budget, params, outcome) for budget, params, outcome in found if _is_good(outcome)])


def _is_good(outcome: Outcome) -> bool:
    return outcome.status == Status.OK and outcome.fitness is not None


def _on_the_largest(found: list[tuple[float, Mapping[str, Any], Outcome]]) -> Iterator[Row]:
    largest = max((budget for budget, _, _ in found), default=0.0)
    return (Row(params, outcome.fitness or 0.0) for budget, params, outcome in found if budget == largest)


def _table(source: Mapping[str, Any], folder: Path, direction: Direction) -> Iterator[Row]:
    import pandas as pd

    kind = "csv" if "csv" in source else "parquet"
    file, column = folder / str(source[kind]), str(source.get("fitness", "fitness"))
    try:
        table = pd.read_csv(file) if kind == "csv" else pd.read_parquet(file)
    except (OSError, ValueError, ImportError) as error:
        raise InvalidJob(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if column not in table.columns:
        names = ", ".join(map(str, table.columns[:20]))
        raise InvalidJob(f"{file} has no column {column!r} with the fitness, but {names}: name it, fitness: COLUMN")
    if "status" in table.columns and column == "fitness":  # a table that `swarm export` has written
        table = table[table["status"] == "ok"]
        budgets = pd.to_numeric(table.get("budget", pd.Series(dtype=float)), errors="coerce").fillna(0.0)
        table = table if budgets.empty else table[budgets == budgets.max()]
    for _, row in table.iterrows():
        fitness = pd.to_numeric(row[column], errors="coerce")
        if not pd.isna(fitness):
            values = {str(name): plain(value) for name, value in row.items() if not pd.isna(value)}
            yield Row(_own_names(values), float(fitness))


def _own_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the names of hyper-parameters; what is called like a column stands there as ``params.NAME``."""
    from swarm.store.columns import METRICS, PARAMS

    others = {name: value for name, value in values.items() if not name.startswith((PARAMS, METRICS))}
    return others | {name.removeprefix(PARAMS): v for name, v in values.items() if name.startswith(PARAMS)}


def _optuna(source: Mapping[str, Any], folder: Path, direction: Direction) -> Iterator[Row]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        optuna: Any = importlib.import_module("optuna")
    except ImportError:
        raise InvalidJob("results of Optuna need optuna, which is not installed: pip install optuna") from None
    storage, name = str(source["optuna"]), source.get("study")
    try:
        names = optuna.get_all_study_names(storage)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            raise InvalidJob(f"{storage} has the studies {', '.join(names) or 'none'}: name one, study: NAME")
        study = optuna.load_study(study_name=name, storage=storage)
        theirs = study.direction.name.lower()
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise InvalidJob(f"Optuna cannot read {storage!r}: {str(error).splitlines()[0]}") from None
    _check_direction(f"study {name!r}", theirs, direction)
    return (Row(trial.params, float(trial.value)) for trial in trials if trial.value is not None)


def _check_direction(whose: str, theirs: Any, direction: Direction) -> None:
    if theirs in ("maximize", "minimize") and theirs != direction:
        raise InvalidJob(f"the fitness of {whose} is to {theirs}, that of the job to {direction}: they do not compare")
