"""The report of a run: one HTML file that can be mailed, with the best, all figures, and how to run it again."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from swarm.job.job import Job
from swarm.job.problem import Problem
from swarm.plots.units import duration
from swarm.report import sections
from swarm.report.beside import beside
from swarm.report.foretold import foretold
from swarm.report.front import front
from swarm.report.page import Code, Facts, Page, Section, Table, Text
from swarm.report.sections import number, values
from swarm.report.tables import Tables
from swarm.runs.run import Run
from swarm.space.space import Space
from swarm.store.columns import columns
from swarm.store.records import JobStatus, Source
from swarm.terminal.tables import params_line
from swarm.trial import mean
from swarm.version import __version__

_PACKAGES = ("numpy", "dask", "distributed", "tensorflow", "tensorflow_cpu", "keras", "scikit-learn")
Part = Text | Facts | Table | Code


def write(run: Run, file: Path) -> None:
    """Write the report of a run, finished or not, as a file that needs no network."""
    page(run).write(file)


def page(run: Run) -> Page:
    """The report of a run."""
    tables = Tables(run)
    parts = [
        Section("The best", list(_best(tables))),
        Section("The job", list(_job(tables))),
        Section("The front", list(front(tables))),
        Section("The search", list(sections.search(tables))),
        Section("Beside random search", list(beside(tables))),
        Section("Notes", list(_notes(tables))),
        Section("Hyper-parameters", list(sections.hyperparameters(tables))),
        Section("The model", list(foretold(tables))),
        Section("The archive", list(sections.archive(tables))),
        Section("The slots", list(sections.slots(tables))),
        Section("Lineage and schedule", list(sections.lineage(tables))),
        Section("Learning curves", list(sections.curves(tables))),
        Section("The paper's figures", list(sections.paper_figures(tables))),
        Section("Environment", list(_environment(tables))),
        Section("Run it again", list(_again(run.job))),
    ]
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return Page(
        title=f"Report of {run.job.name}",
        about=_about(tables),
        tiles=list(_tiles(tables)),
        sections=[section for section in parts if section.parts],
        footer=f"Written by dask-swarm {__version__}, {when}.",
    )


# --- the parts, in their order


def _about(tables: Tables) -> str:
    job, history, run = tables.run.job, tables.history, tables.run
    began = datetime.fromtimestamp(history.start).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    over = run.status in (JobStatus.FINISHED, JobStatus.FAILED)
    ended = f"{run.status}: {run.end_reason}" if over else f"{run.status}, so this is not its end"
    return (
        f"{type(job.optimizer).__name__} searched {tables.space.dimensions} hyper-parameters of {job.code.name}, to "
        f"{job.direction} {tables.fitness_label}, from {began} on for {duration(history.end - history.start)}; {ended}."
    )


def _tiles(tables: Tables) -> Iterator[tuple[str, str, str]]:
    run, counts, rows = tables.run, tables.run.counts, tables.history.generations
    saved = counts[Source.ARCHIVE] + counts[Source.IN_FLIGHT]
    total = run.state.evaluations
    yield f"Best {tables.fitness_label}", number(run.best.fitness if run.best else None), f"of {total} evaluations"
    scores = list(run.test_scores.values())
    if run.tests:
        remark = "on unseen data" if len(run.tests) == 1 else f"on unseen data, mean of {len(scores)} folds"
        yield "Test score", number(mean(scores) if scores else None), remark
    yield "Trainings", str(counts[Source.TRAINED]), f"{duration(rows['trained_seconds'].sum())} of training"
    share = f"{saved / total:.0%}" if total else "–"
    yield "Archive saved", share, f"{saved} trainings, {duration(rows['saved_seconds'].sum())}"
    failed = counts["failed"]
    if failed:
        yield "Failed", str(failed), "trials without a fitness"
    if len(tables.slots):
        yield "Slots", str(len(tables.slots)), f"{tables.history.utilisation.mean():.0%} of the time training"


def _best(tables: Tables) -> Iterator[Part]:
    run = tables.run
    if run.best is None:
        why = "No trial meets the constraints" if run.state.unmet else "No training has succeeded"
        yield Text(f"{why}, so there is no best.", warning=True)
        return
    trial = run.best.trial
    rows = [(f"{tables.fitness_label.capitalize()} on validation data", number(run.best.fitness))]
    scores = list(run.test_scores.values())
    if len(run.tests) == 1:
        error = next(iter(run.tests.values())).error
        rows.append(("Score on the unseen test set", number(scores[0]) if scores else f"failed: {error}"))
    elif scores:
        spread = f"mean {number(mean(scores))}, from {number(min(scores))} to {number(max(scores))}"
        rows.append((f"Scores of the best of {len(run.tests)} folds on the unseen test set", spread))
    fold = "" if trial.fold is None else f", fold {trial.fold}"
    budget = "" if trial.budget is None else f", trained to a budget of {trial.budget:g}"
    rows.append(("Found by", f"trial {trial.id}, generation {trial.generation}{fold}{budget}"))
    if run.best.metrics:
        rows.append(("Measured besides", params_line(run.best.metrics)))
    yield Facts(rows)
    yield Code("Hyper-parameters, as YAML", yaml.safe_dump(run.best.params, sort_keys=False).strip())
    if len(run.tests) > 1:
        by_fold = [[str(fold), number(result.fitness)] for fold, result in sorted(run.tests.items())]
        yield Table("Test scores by fold", ["fold", "score"], by_fold, folded=True)
    best, names = tables.history.best_trials(10), [axis.name for axis in tables.axes]
    ranked = zip(best["trial"], best["fitness"], strict=True)
    found = [[str(trial), number(fitness), *values(tables, trial, names)] for trial, fitness in ranked]
    headings = columns(names, others=[tables.fitness_label]).params.values()
    yield Table("The ten best configurations", ["trial", tables.fitness_label, *headings], found, folded=True)


def _notes(tables: Tables) -> Iterator[Part]:
    """What people wrote on trials."""
    fitness = dict(zip(tables.history.points["trial"], tables.history.points["fitness"], strict=True))
    rows = [[str(trial), number(fitness.get(trial)), text] for trial, text in tables.run.notes.items()]
    if rows:
        yield Table("What people wrote on trials", ["trial", tables.fitness_label, "note"], rows)


def _job(tables: Tables) -> Iterator[Part]:
    job, run = tables.run.job, tables.run
    options = {name: value for name, value in job.to_dict()["optimizer"].items() if name != "name"}
    rows = [
        ("Problem", f"{job.code.name} (fingerprint {job.code.fingerprint})"),
        ("Method", type(job.optimizer).__name__ + _in_brackets(_flat(options))),
        ("Goal", f"{job.direction} {_fitness(job)}"),
        ("Search space", f"{tables.space.dimensions} hyper-parameters, {_size(tables.space)}"),
        ("Validation", _validation(job)),
        ("Seed", str(job.seed)),
        ("Stopping rules", _flat(job.stop.model_dump(exclude_none=True)) or "none besides the method's own"),
        ("State", f"{run.status}" + (f": {run.end_reason}" if run.end_reason else "")),
    ]
    yield Facts(rows)
    if job.then is not None:
        yield Text(f"It was followed by {type(job.then.optimizer).__name__}, in the run {job.name}-then.")
    domains = [[name, str(tables.space.domains[name])] for name in tables.space.names]
    fixed = [[name, f"fixed to {v}"] for name, v in tables.space.domains.items() if name not in tables.space.names]
    texts = [["constraint", each.text] for each in tables.space.constraints]
    yield Table("Search space", ["hyper-parameter", "values"], domains + fixed + texts, folded=True)
    for error, times in run.state.errors.most_common(5):
        yield Text(f"Failed {times} times: {error}", warning=True)
        if error in run.state.failures.tracebacks:
            yield Code("Where", run.state.failures.tracebacks[error])
    if tables.history.again:
        rerun = ", ".join(f"{times} {status}" for status, times in tables.history.again.items())
        yield Text(f"Trainings that were run again: {rerun}.")


def _environment(tables: Tables) -> Iterator[Part]:
    hosts = sorted({name.rpartition(":")[0] or name for name in tables.slots})
    rows = [
        ("Begun with", f"dask-swarm {tables.history.version or 'of an unknown version'}"),
        (
            "Trained on",
            f"{len(tables.slots)} slots of {len(hosts)} machines: {', '.join(hosts[:12])}" if hosts else "nothing",
        ),
        ("GPUs per training", f"{tables.run.job.gpus:g}" if tables.on_gpus else "none, CPUs"),
    ]
    if tables.run.job.requirements:
        rows.append(("Required of workers", ", ".join(tables.run.job.requirements)))
    packages = ", ".join(f"{name.replace('_', '-')} {found}" for name in _PACKAGES if (found := _version(name)))
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}"
    rows += [("This report written on", machine), ("with", packages)]
    yield Facts(rows)


def _again(job: Job) -> Iterator[Part]:
    yield Code("Command", f"swarm run {job.name}.yaml")
    yield Code("Job file", job_file(job))


def job_file(job: Job) -> str:
    """A job as a job file, without what is as it is by default."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in type(job).model_fields.items()}
    data = {
        name: value
        for name, value in job.to_dict().items()
        if name not in ("problem", "then", "stop") and value not in (defaults.get(name), None)
    }
    for name, model in (("stop", job.stop), ("then", job.then)):
        plain = {} if model is None else {key: v for key, v in job.to_dict()[name].items() if v not in (None, {})}
        data |= {name: plain} if plain else {}
    return "\n".join([f"name: {data.pop('name')}", _problem(job.code), _yaml(data)]).strip()


def _problem(code: Problem) -> str:
    """The lines that say what was trained."""
    if code.origin is None:  # it was handed over in Python
        return f"problem: {code.name}   # say where it is; it had the fingerprint {code.fingerprint}"
    options = dict(code.options or {})
    options.pop("cwd", None)  # where the job file was
    said = {"command": options.pop("command")} if code.origin == "command" else {"problem": code.origin}
    if code.origin == "command":
        options.pop("space", None)
    note = "" if code.options is not None else "\n# and the options of the problem, which are no plain data"
    return _yaml(said, flow=False) + ("\n" + _yaml({"options": options}) if options else "") + note


def _yaml(data: dict[str, Any], flow: bool | None = None) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=flow, width=100)).strip()


# --- words


def _fitness(job: Job) -> str:
    if isinstance(job.fitness, str) or job.fitness is None:
        return job.fitness or "fitness, as the training returns it"
    if job.targets:
        return ", ".join(job.targets) + "; those that no other trial dominates are the front"
    if isinstance(job.fitness, dict):
        return "the sum of " + ", ".join(f"{weight:g} × {name}" for name, weight in job.fitness.items())
    return ", then ".join(
        f"{each.metric}" + ("" if each.tolerance is None else f" (within {each.tolerance:g})") for each in job.fitness
    )


def _validation(job: Job) -> str:
    if job.folds == 1:
        text = "one split of the training data"
    elif job.fold_mode == "swarm":
        text = f"{job.folds} cross-validation folds, each with its own search"
    else:
        text = f"mean of {job.folds} cross-validation folds"
    return text + (f", {job.repeats} trainings at different seeds each" if job.repeats > 1 else "")


def _size(space: Space) -> str:
    if space.size is None:
        return "real ones among them" + (" and constraints between them" if space.constraints else "")
    most = "at most " if space.constraints else ""
    return most + f"{space.size:,} configurations".replace(",", " ")


def _flat(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items() if value is not None)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return None
