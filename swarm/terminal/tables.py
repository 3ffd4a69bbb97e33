"""What people see in a terminal: progress while a search runs, and its result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from swarm.plots.units import duration
from swarm.store.columns import columns
from swarm.store.records import Source
from swarm.terminal.sparkline import Sparkline
from swarm.terminal.text import line, lines
from swarm.trial import mean

if TYPE_CHECKING:
    import pandas as pd

    from swarm.runs.plan import Plan
    from swarm.runs.run import Run
    from swarm.search.state import SearchState
    from swarm.service.published.job_state import JobState


JOB_COLUMNS = ("job", "owner", "state", "priority", "running", "trials", "left", "best", "method", "problem")
_NUMBERS = {"priority", "running", "trials", "left", "best"}


def job_block(state: JobState, trace: Sparkline | None = None) -> RenderableType:
    """Where a job of the service stands, and how its best fitness came about."""
    saved = state.counts.get(Source.ARCHIVE, 0) + state.counts.get(Source.IN_FLIGHT, 0)
    rows = Table.grid(padding=(0, 2))
    rows.add_row(
        line(state.name, style="bold"),
        ProgressBar(total=state.planned, completed=state.told, width=40),
        f"{state.told} of {state.planned or '?'} trials, generation {state.generation}",
    )
    rows.add_row(
        "",
        line(f"{state.state}, {state.running} running, {state.counts.get(Source.TRAINED, 0)} trained, {saved} saved"),
        ", ".join(job_times(state)),
    )
    if state.best is not None:
        best = Text(f"best {state.best['fitness']:.5g}", style="bold green")
        rows.add_row("", best, line(params_line(state.best["params"])))
        if trace is not None:
            rows.add_row("", "best so far", trace)
    for fold, fitness in sorted(state.tests.items()):
        score = "failed" if fitness is None else f"{fitness:.5g}"
        rows.add_row("", Text(f"on the unseen test set{f', fold {fold}' if len(state.tests) > 1 else ''}"), score)
    for text in (state.trouble, state.reason):
        if text:
            rows.add_row("", line(text, style="red"))
    return rows


def job_times(state: JobState) -> Iterator[str]:
    """How long a job has run, and will, in words."""
    if state.seconds is not None:
        yield f"{duration(state.seconds)} gone"
    yield f"{duration(state.trained_seconds)} of training"
    if state.seconds_left is not None:
        yield f"about {duration(state.seconds_left)} left at most"


def job_table(
    states: Sequence[JobState],
    traces: Mapping[str, Sparkline] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Table:
    """The jobs of a service, a row each.

    Args:
        states: The jobs.
        traces: How the best fitness of a job came about, by name, where that is to be shown.
        weights: Of the users whose weight is not 1, by name.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in JOB_COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    if traces is not None:
        table.add_column("best so far")
    for state in states:
        try:
            cells = job_row(state)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:  # it harms its row alone
            cells = [str(state.name), "", f"cannot be shown: {type(error).__name__}", *[""] * 7]
        trace: list[RenderableType] = [] if traces is None else [traces.get(state.name, "")]
        table.add_row(*map(line, cells), *trace)
    below = [weights_line(weights)] if weights else []
    below += [f"{state.name}: {state.trouble}" for state in states if isinstance(state.trouble, str)]
    if below:
        table.caption = Text("\n").join(map(line, below))
        table.caption_justify = "left"
    return table


def weights_line(weights: Mapping[str, float]) -> str:
    """The weights of users, in one line."""
    named = ", ".join(f"{user} {weight:g}" for user, weight in sorted(weights.items()))
    return f"weights of users: {named}{', all others 1' if named else 'all 1'}"


def health_lines(found: Mapping[str, Any]) -> list[str]:
    """How a service is, as :meth:`swarm.Client.health` has it: who is there, then what is wrong."""
    head = f"dask-swarm {found['version']}, {'a master is' if found['master'] else 'no master is'} connected"
    details = []
    if found["name"] is not None:
        details.append(f"{found['name']} in term {found['term']}, heard of {found['silent_seconds']:.1f} s ago")
    if found["store"] == "answers":
        details.append("its store answers")
    if found.get("standbys"):
        details.append(f"standing by: {', '.join(found['standbys'])}")
    for resource, slots in found.get("slots", {}).items():
        details.append(f"{slots['busy']:g} of {slots['offered']:g} {resource} slots busy")
    if "workers" in found and not found["slots"]:
        details.append("no worker offers a slot")
    return ["; ".join([head, *details]), *found["problems"]]


def job_row(state: JobState) -> list[str]:
    """What :data:`JOB_COLUMNS` hold for a job."""
    return [
        state.name,
        state.owner,
        state.state,
        f"{state.priority:g}",
        str(state.running),
        f"{state.told}/{state.planned or '?'}",
        "" if state.seconds_left is None else duration(state.seconds_left),
        f"{state.best['fitness']:.5g}" if state.best else "-",
        state.optimizer,
        state.problem,
    ]


def slot_table(slots: Iterable[Mapping[str, Any]]) -> Table:
    """The slots of a service, and what each trains; see :func:`swarm.scheduler.slot_status.occupancy`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("slot", "host", "class", "job", "trial", "for", "latest report"):
        table.add_column(name, justify="right" if name in ("trial", "for") else "left")
    for slot in slots:
        place = line(slot["slot"]), line(slot["host"]), line(slot["resource"])
        if slot.get("waits"):  # an earlier scheduler does not know
            table.add_row(*place, Text("waits", style="yellow"), "", "", line(slot["waits"], style="yellow"))
            continue
        if slot["key"] is None:
            table.add_row(*place, Text("free", style="dim"))
            continue
        trial = "-" if slot["trial"] is None else str(slot["trial"])
        what = slot["job"] or slot["key"][:8]
        table.add_row(*place, *map(line, (what, trial, duration(slot["seconds"]), params_line(slot["report"]))))
    return table


def summary(state: SearchState, status: str) -> RenderableType:
    """The result of a run: the best, its test score, and what it cost."""
    parts: list[RenderableType] = []
    best = state.best
    if best is None:
        why = "no trial meets the constraints" if state.unmet else "no training has succeeded yet"
        parts.append(Text(why, style="bold red"))
    else:
        table = Table(title=line(f"best of {state.job.name}"), title_justify="left", show_header=False, box=None)
        named = columns(best.params).params
        for name, value in best.params.items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            table.add_row(line(named[name]), line(shown), style="cyan")
        table.add_row("fitness", Text(f"{best.fitness:.6g}", style="bold green"))
        for fold, test in sorted(state.tests.items()):
            name = "on the unseen test set" + (f", fold {fold}" if len(state.tests) > 1 else "")
            score = f"{test.fitness:.6g}" if test.fitness is not None else f"failed: {test.error}"
            table.add_row(name, line(score, style="bold green" if test.fitness is not None else "red"))
        parts.append(table)
    counts = state.counts
    saved = counts[Source.ARCHIVE] + counts[Source.IN_FLIGHT]
    parts.append(
        f"{state.evaluations} evaluations: {counts[Source.TRAINED]} trainings run, {saved} saved "
        f"({counts[Source.ARCHIVE]} from the archive, {counts[Source.IN_FLIGHT]} joined in flight), "
        f"{counts['failed']} trials failed; {duration(state.trained_seconds)} of training"
    )
    if state.counts["imported"]:
        parts.append(f"began with {state.counts['imported']} earlier results, which are none of these trainings")
    for wanted, times in state.unmet.most_common(3):
        parts.append(line(f"{times} trials did not meet {wanted}, and cannot be the best", style="yellow"))
    if state.job.targets:
        parts.append(line(f"{len(state.front)} trials are on the front of {', '.join(state.job.targets)}"))
    if state.checkpoint_bytes:
        share = state.checkpoint_seconds / max(state.trained_seconds, 1e-9)
        parts.append(f"{state.checkpoint_bytes / 1e6:.1f} MB of checkpoints, {share:.1%} of the training time")
    for error, times in state.errors.most_common(3):
        parts.append(lines(f"failed {times} times: {error}", style="red"))
    parts.append(line(f"{status}" + (f": {state.end_reason}" if state.end_reason else "")))
    return Group(*parts)


def beside_random(run: Run) -> str | None:
    """What a run found and what random search found beside it, in one line; None if that was not asked for.

    On the unseen test set if both have scores on it, of every fold.
    """
    random = run.baseline
    if random is None or run.best is None or random.best is None:
        return None
    what, each = "fitness", (run.best.fitness, random.best.fitness)
    if run.test_scores and run.test_scores.keys() == random.test_scores.keys():
        folds = len(run.test_scores)
        what = "on the unseen test set" + (f", mean of {folds} folds" if folds > 1 else "")
        each = (mean(list(run.test_scores.values())), mean(list(random.test_scores.values())))
    own, others = (sum(found.configurations.values()) for found in (run, random))
    tried = f"{own} configurations each" if own == others else f"{own} and {others} configurations"
    method = type(run.job.optimizer).__name__
    return f"{what}: {each[0]:.5g} by {method}, {each[1]:.5g} by random search; {tried}"


def plan_block(plan: Plan) -> RenderableType:
    """What a job would do and cost, were it run."""
    job = plan.job
    assert job.space is not None
    size = job.space.size
    how_many = "" if size is None else f", {size:,} different configurations"
    rows = Table.grid(padding=(0, 2))
    for name, text in (
        ("job", job.name),
        ("problem", f"{job.code.name}, fingerprint {job.code.fingerprint}"),
        ("method", f"{type(job.optimizer).__name__}, {job.direction} the fitness"),
        ("space", f"{job.space.dimensions} hyper-parameters{how_many}"),
    ):
        rows.add_row(line(name, style="bold"), line(text))
    for name, domain in job.space.domains.items():
        rows.add_row("", line(f"{name}: {domain}"))
    rows.add_row(line("cost", style="bold"), line(_cost(plan)))
    rows.add_row(line("store", style="bold"), line(f"{plan.store}: {plan.taken or 'the name is free'}"))
    return Group(rows, "nothing was trained, nothing was written")


def _cost(plan: Plan) -> str:
    job = plan.job
    if plan.trainings is None:
        cost = "as many trainings as its limits allow: " + ", ".join(
            f"{name} {value:g}" for name, value in job.stop.model_dump(exclude_none=True).items()
        )
    else:
        cost = f"{plan.trials:,} trials at most, {plan.trainings:,} trainings"
    slots = "" if plan.slots is None else f" on {plan.slots} slots"
    if plan.seconds is None:
        return f"{cost}{slots}; how long one takes is not known yet"
    pace = f"{duration(plan.seconds)} each, by {plan.known} in the archive"
    return f"{cost}{slots}; {pace}" + ("" if plan.seconds_left is None else f": about {duration(plan.seconds_left)}")


def errors_block(state: SearchState) -> RenderableType:
    """Why trials failed, how often, and the user's own lines that led there, the most frequent first."""
    if not state.errors:
        return Text("no trial has failed")
    parts: list[RenderableType] = []
    for error, times in state.errors.most_common():
        parts.append(lines(f"failed {times} times: {error}", style="red"))
        if error in state.failures.tracebacks:
            parts.append(lines(indented(state.failures.tracebacks[error])))
    return Group(*parts)


def indented(text: str) -> str:
    """Lines that belong to what is said above them."""
    return "\n".join(f"  {each}" for each in text.splitlines())


def generation_table(state: SearchState) -> Table:
    """One row per generation: fitness, sources, seconds."""
    table = Table(title="generations", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (
        "gen",
        "trials",
        "min",
        "mean",
        "max",
        "trained",
        "archive",
        "in flight",
        "failed",
        "seconds",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for number in sorted(state.generations):
        row = state.generations[number]
        fitness = (row.low, row.mean, row.high) if row.told > row.failed else ()
        table.add_row(
            str(number),
            f"{row.told}/{row.asked}" if row.told < row.asked else str(row.told),
            *([f"{value:.5g}" for value in fitness] or ["-"] * 3),
            *(str(row.sources[source]) for source in Source),
            str(row.failed),
            f"{row.lasted:.1f}",
        )
    return table


def frame_table(frame: pd.DataFrame, title: str) -> Table:
    """The rows of a data frame."""
    table = Table(title=line(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in frame.columns:
        table.add_column(line(name), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(line(_shown(value)) for value in row))
    return table


def _shown(value: object) -> object:
    """A cell of a data frame: nothing where nothing is known."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5g}"
    return "" if value is None else value


def params_line(params: Mapping[str, Any]) -> str:
    """Hyper-parameters in one line."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )
