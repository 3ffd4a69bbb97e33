"""A run for other programs: Parquet, an Optuna study, TensorBoard's HParams, MLflow; each by a package of its own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from swarm.errors import InvalidInput
from swarm.manners.files import is_there, writing
from swarm.runs.artifacts import artifacts, content
from swarm.space.base import Domain
from swarm.space.domain import Choice, Integer, Real
from swarm.space.values import is_scalar
from swarm.store.columns import Columns, columns
from swarm.store.outcome import RUNNING
from swarm.store.pending import PendingTrial, joined
from swarm.store.sql import Store
from swarm.trial import Params
from swarm.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from swarm.runs.run import Run

_BATCH = 1000  # metrics that MLflow takes at once
_OTHERS = ("key", "epoch")  # besides what a history tells of a trial


@dataclass(frozen=True, slots=True)
class Entry:
    """A trial, as other programs take it.

    Attributes:
        trial: Its number.
        params: Its hyper-parameters.
        status: ``ok``, ``pruned``, ``failed`` or ``running``.
        fitness: In the job's own direction, the mean over its evaluations; None unless it is ok or pruned.
        start: When its training began, or when it was asked for; seconds since the epoch.
        end: When its answer was there; None while it is running.
        about: What else is known of it: ``generation``, ``member``, ``source``, ``error`` and so on; plain values.
        metrics: Other numbers that its training returned, the mean over its evaluations; none if it has no fitness.
        curve: What its training reported on the way; of several evaluations, the first.
    """

    trial: int
    params: Params
    status: str
    fitness: float | None
    start: float
    end: float | None
    about: Mapping[str, Any]
    metrics: Mapping[str, float]
    curve: Sequence[Mapping[str, float]]


def entries(run: Run) -> Iterator[Entry]:
    """The trials of a run, in the order in which they were asked."""
    with closing(Store(run.url, create=False)) as store:
        for trial in joined(store.events(run.job.name)):
            if trial.asked.purpose == "fitness":
                yield _entry(trial, store)


def _entry(pending: PendingTrial, store: Store) -> Entry:
    found, trial, first = pending.outcome, pending.trial, pending.asked.evaluations[0].key
    answer = None if found.status == RUNNING else pending.answers[0]
    whole = None if answer is None else store.result(first) or answer  # the journal has no curves
    about = {name: getattr(trial, name) for name in ("generation", "member", "fold", "budget", "parent")}
    about |= {"source": found.source, "error": found.error, "slot": found.slot, "key": first}
    return Entry(
        trial=trial.id,
        params=trial.params,
        status=found.status,
        fitness=found.fitness,
        start=pending.asked.time if found.start is None else found.start,
        end=None if whole is None else pending.asked.time if found.end is None else found.end,
        about={name: value for name, value in about.items() if value not in (None, "")},
        metrics=found.metrics,
        curve=() if whole is None else whole.curve,
    )


def names(found: Sequence[Entry]) -> Columns:
    """What hyper-parameters, metrics and numbers of the learning curves are called where they stand beside others."""
    params = dict.fromkeys(name for entry in found for name in entry.params)
    returned = dict.fromkeys(name for entry in found for name in entry.metrics)
    reported = dict.fromkeys(name for entry in found for point in entry.curve for name in point)
    return columns(params, returned | reported, others=_OTHERS)


def reported_metric(run: Run, found: Sequence[Entry]) -> str | None:
    """The metric of the learning curves that speaks of the fitness, or None if no curve has such a one."""
    job = run.job
    usual = ("val_accuracy", "accuracy") if job.direction == "maximize" else ("val_loss", "loss")
    wanted = [job.prune.metric if job.prune else None, job.fitness if isinstance(job.fitness, str) else None, *usual]
    names = {name for entry in found for point in entry.curve[:1] for name in point}
    return next((name for name in wanted if name in names), None)


def steps(curve: Sequence[Mapping[str, float]]) -> Iterator[tuple[int, Mapping[str, float]]]:
    """The reports of a curve with their epochs, or numbers where they do not say."""
    for number, point in enumerate(curve, start=1):
        yield int(point.get("epoch", number)), point


# --- Parquet


def to_parquet(run: Run, file: Path) -> None:
    """Write one row per trial (:func:`swarm.runs.history.trials`) as Parquet.

    Raises:
        InvalidInput: ``pyarrow`` is not installed, or the file cannot be written.
    """
    _needed("pyarrow", "parquet")
    table = run.history
    for name in table.columns:
        kinds = {type(value) for value in table[name].dropna()}
        if len(kinds) > 1 or kinds & {list, tuple, dict}:  # a column of Parquet has one type
            table = table.assign(**{str(name): _alike(table[name])})
    try:
        table.to_parquet(file, index=False)
    except OSError as error:
        raise InvalidInput(f"cannot write {file}: {error}") from None


def _alike(column: pd.Series[Any]) -> pd.Series[Any]:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in column.dropna())
    return column.astype(float) if numbers else column.map(str, na_action="ignore")


# --- files


def to_folder(run: Run, folder: Path) -> int:
    """Copy the files that trials have left, to ``folder/RUN/trial-00003/NAME``.

    Where a trial has several trainings, over folds, repeats or the test set, each has a folder below that.

    Returns:
        The number of files.

    Raises:
        OSError: They cannot be written there.
    """
    copied = 0
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Store(run.url, create=False)) as store:
        for trial in joined(store.events(run.job.name)):
            keys = list(dict.fromkeys(each.key for each in trial.asked.evaluations))
            place = folder / run.job.name / f"trial-{trial.trial.id:05d}"
            alone = len(keys) == 1 and trial.asked.purpose == "fitness"
            for found in [each for key in keys for each in artifacts(store, key)]:
                below = place if alone else place / found.key[:12]
                below.mkdir(parents=True, exist_ok=True)
                if (inside := content(store, found.key, found.name)) is not None:
                    (below / found.name).write_bytes(inside)
                    copied += 1
    return copied


# --- Optuna


def to_optuna(run: Run, storage: str, name: str | None = None) -> int:
    """Write a run as a study of Optuna, which ``optuna-dashboard`` opens.

    Args:
        run: The run.
        storage: URL of Optuna's storage, such as ``sqlite:///study.db``.
        name: Name of the study; left out, that of the run.

    Returns:
        The number of trials.

    Raises:
        InvalidInput: ``optuna`` is not installed, or the storage has such a study or cannot be used.
    """
    optuna = _needed("optuna", "optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found, name = list(entries(run)), name or run.job.name
    metric = reported_metric(run, found)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction=run.job.direction)
    except optuna.exceptions.DuplicatedStudyError:
        remedy = f"delete it with: optuna delete-study --study-name {name} --storage {storage}"
        raise InvalidInput(f"{storage} has a study {name!r} already; {remedy}, or name another storage") from None
    except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, ValueError) as error:
        raise InvalidInput(f"Optuna cannot use {storage!r}: {str(error).splitlines()[0]}") from None
    study.set_user_attr("problem", run.job.code.name)
    study.set_user_attr("method", repr(run.job.optimizer))
    study.set_user_attr("dask-swarm", __version__)
    study.set_user_attr("best_trial", None if run.best is None else run.best.trial.id)
    domains = _domains(run)
    named = names(found).metrics
    longest = max((_budget(entry) for entry in found if entry.fitness is not None), default=0.0)
    for entry in found:
        whole = entry.fitness is None or _budget(entry) == longest
        attributes = {"trial": entry.trial, **entry.about, **{named[key]: v for key, v in entry.metrics.items()}}
        study.add_trial(_optuna_trial(optuna, entry, domains, metric, whole, attributes))
    return len(found)


def _budget(entry: Entry) -> float:
    return float(entry.about.get("budget", 0.0))


def _optuna_trial(
    optuna: Any,
    entry: Entry,
    domains: Mapping[str, Domain],
    metric: str | None,
    whole: bool,
    attributes: Mapping[str, Any],
) -> Any:
    """A trial of Optuna. On less than the largest budget it does not compare: it is one that was pruned."""
    states = optuna.trial.TrialState
    state = {"ok": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL, RUNNING: states.RUNNING}
    trial = optuna.trial.create_trial(
        state=state[entry.status if whole else "pruned"],
        value=entry.fitness,
        params={name: _in_study(domains[name], value) for name, value in entry.params.items() if name in domains},
        distributions={name: _distribution(optuna, domain) for name, domain in domains.items() if name in entry.params},
        user_attrs=dict(attributes),
        intermediate_values={step: point[metric] for step, point in steps(entry.curve) if metric and metric in point},
    )
    trial.datetime_start = datetime.fromtimestamp(entry.start)
    trial.datetime_complete = None if entry.end is None else datetime.fromtimestamp(max(entry.start, entry.end))
    return trial


def _distribution(optuna: Any, domain: Domain) -> Any:
    """The distribution of Optuna; one in steps has no logarithm there."""
    if isinstance(domain, Integer):
        steps = {"step": domain.step} if domain.step else {"log": domain.log}
        return optuna.distributions.IntDistribution(domain.low, domain.high, **steps)
    if isinstance(domain, Real):
        scale = {"step": domain.step} if domain.step else {"log": domain.log}
        return optuna.distributions.FloatDistribution(domain.low, domain.high, **scale)
    assert isinstance(domain, Choice)
    return optuna.distributions.CategoricalDistribution(domain.options if _is_told_apart(domain) else domain.labels)


def _in_study(domain: Domain, value: Any) -> Any:
    """A value as Optuna has it: by its text, where it takes no such options, or would take one for another."""
    return domain.label(value) if isinstance(domain, Choice) and not _is_told_apart(domain) else value


def _is_told_apart(domain: Choice) -> bool:
    """Whether all options are scalars, and differ for ``==``, for which True is 1."""
    return all(map(is_scalar, domain.options)) and len(set(domain.options)) == len(domain.options)


# --- TensorBoard


def to_tensorboard(run: Run, folder: Path) -> int:
    """Write a run for TensorBoard: its HParams page, and the learning curve of each trial.

    Args:
        run: The run.
        folder: What ``tensorboard --logdir`` is given; a folder in it is made for the run.

    Returns:
        The number of trials.

    Raises:
        InvalidInput: ``tensorboard`` is not installed, or that folder exists already.
    """
    _needed("tensorboard", "tensorboard")
    from tensorboard.plugins.hparams import api, api_pb2, summary, summary_v2

    root = folder / run.job.name
    if is_there(root):
        raise InvalidInput(f"{root} exists already; delete it, or name another folder")
    hparams = [api.HParam(name, _tensorboard_domain(api, domain)) for name, domain in _domains(run).items()]
    found = list(entries(run))
    named, returned = names(found).metrics, dict.fromkeys(name for entry in found for name in entry.metrics)
    measured = [api.Metric("fitness"), *(api.Metric(named[name]) for name in returned)]
    with writing(root):
        root.mkdir(parents=True)
    _write_events(root, [(summary_v2.hparams_config_pb(hparams, measured), 0, None)])
    ends = {"ok": api_pb2.STATUS_SUCCESS, "pruned": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
    for entry in found:
        events: list[tuple[Any, int, float | None]] = [
            (summary_v2.hparams_pb(_on_page(entry.params), str(entry.trial), entry.start), 0, entry.start)
        ]
        last = 0
        for last, point in steps(entry.curve):
            events += [(_scalar(named[key], value), last, entry.end) for key, value in point.items() if key != "epoch"]
        events += [(_scalar(tag, value), last, entry.end) for tag, value in _measured(entry, named).items()]
        if entry.status in ends:
            events.append((summary.session_end_pb(ends[entry.status], entry.end), last, entry.end))
        _write_events(root / f"trial-{entry.trial:05d}", events)
    return len(found)


def _write_events(folder: Path, events: Sequence[tuple[Any, int, float | None]]) -> None:
    """Write summaries, each with its step and time, into an event file of the folder."""
    from tensorboard.compat.proto.event_pb2 import Event as Record
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for summary, step, when in events:
        record = Record(step=step, wall_time=when or 0.0)
        record.summary.ParseFromString(summary.SerializeToString())  # some are TensorFlow's class of that name
        writer.add_event(record)
    writer.close()


def _scalar(name: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value)])


def _tensorboard_domain(api: Any, domain: Domain) -> Any:
    if isinstance(domain, Integer):
        return api.IntInterval(domain.low, domain.high)
    if isinstance(domain, Real):
        return api.RealInterval(domain.low, domain.high)
    assert isinstance(domain, Choice)
    shown = [_on_page({"": option})[""] for option in domain.options]
    alike = len({type(option) for option in shown}) == 1
    return api.Discrete(shown) if alike else None  # a page of HParams has one type per column


def _on_page(params: Params) -> dict[str, Any]:
    """Hyper-parameters as TensorBoard takes them: numbers, booleans and texts."""
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in params.items()
    }


# --- MLflow


def to_mlflow(run: Run, uri: str, name: str | None = None) -> int:
    """Write a run to MLflow: an experiment, with one of MLflow's runs per trial.

    Args:
        run: The run.
        uri: MLflow's tracking URI, such as ``http://host:5000``.
        name: Name of the experiment; left out, that of the run.

    Returns:
        The number of trials.

    Raises:
        InvalidInput: ``mlflow`` is not installed, there is such an experiment, or the server cannot be used.
    """
    mlflow = _needed("mlflow", "mlflow")
    from mlflow.entities import Metric, Param, RunTag

    client, name = mlflow.MlflowClient(uri), name or run.job.name
    try:
        tags = {"problem": run.job.code.name, "method": repr(run.job.optimizer), "dask-swarm": __version__}
        experiment = client.create_experiment(name, tags=tags)
        found = list(entries(run))
        named = names(found).metrics
        for entry in found:
            start, end = _milliseconds(entry.start), None if entry.end is None else _milliseconds(entry.end)
            made = client.create_run(experiment, start_time=start, run_name=f"trial-{entry.trial}").info.run_id
            reports = [
                (step, {named[key]: value for key, value in point.items() if key != "epoch"})
                for step, point in steps(entry.curve)
            ]
            metrics = [
                Metric(metric, value, end or start, step)
                for step, point in [*reports, (len(entry.curve), _measured(entry, named))]
                for metric, value in point.items()
            ]
            params = [Param(key, str(value)) for key, value in entry.params.items()]
            client.log_batch(made, params=params, tags=[RunTag(key, str(v)) for key, v in entry.about.items()])
            for first in range(0, len(metrics), _BATCH):
                client.log_batch(made, metrics=metrics[first : first + _BATCH])
            if entry.status != RUNNING:
                client.set_terminated(made, "FAILED" if entry.status == "failed" else "FINISHED", end)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise InvalidInput(f"MLflow at {uri} does not take it: {str(error).splitlines()[0]}") from None
    return len(found)


def _measured(entry: Entry, named: Mapping[str, str]) -> dict[str, float]:
    fitness = {} if entry.fitness is None else {"fitness": entry.fitness}
    return {**{named[name]: value for name, value in entry.metrics.items()}, **fitness}


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


# --- inside


def _domains(run: Run) -> dict[str, Domain]:
    """The domains of the searched hyper-parameters."""
    assert run.job.space is not None
    return {name: value for name, value in run.job.space.domains.items() if isinstance(value, Domain)}


def _needed(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise InvalidInput(f"this needs {package}; install it with: pip install 'dask-swarm[{extra}]'") from None
