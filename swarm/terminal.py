"""What people see in a terminal: progress while a search runs, and its result."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from swarm.archive import Source
from swarm.columns import columns
from swarm.search import Search
from swarm.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

    from swarm.client import JobState

_REFRESH_SECONDS = 0.25


def console() -> Console:
    """The terminal, or a file or pipe that is wide enough for a table and flushed line by line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows each generation as it ends
    return Console(width=None if sys.stdout.isatty() else 120)


class _Cell:
    """The output of a notebook's cell, which is replaced by the next; used as rich's ``Live`` is in a terminal."""

    def __init__(self) -> None:
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import display

        self._handle = display(Text(""), display_id=True)

    def update(self, block: RenderableType) -> None:
        self._handle.update(block)

    def stop(self) -> None:
        pass


def _live(console: Console) -> Live | _Cell | None:
    """What shows a block that changes; None where there are only lines."""
    if console.is_jupyter:
        return _Cell()
    return Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None


class Progress:
    """Shows a running search: a live block in a terminal or a notebook, a line per generation elsewhere.

    Use it as a context manager, and call it with the search and the dashboard's address after every change.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = _live(console)
        self._last: tuple[Search, str | None] | None = None
        self._trace = Trace()
        self._told = 0
        self._shown = 0.0
        self._reported = -1
        self._began = False
        self._errors = 0

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            if self._last is not None:
                self._live.update(self._block(*self._last))
            self._live.stop()

    def __call__(self, search: Search, dashboard: str | None) -> None:
        """Show where the search is."""
        if not self._began:
            self._began = True
            self._begin(search, dashboard)
        self._report_errors(search)
        if self._live is None:
            self._report_generations(search)
            return
        self._last = search, dashboard
        if search.best is not None and search.told > self._told:
            self._told = search.told
            self._trace.add(search.best.fitness)
        if time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._shown = time.monotonic()
            self._live.update(self._block(search, dashboard))

    def _begin(self, search: Search, dashboard: str | None) -> None:
        if search.replayed:
            self._say(f"{search.job.name}: going on after {search.replayed} trials")
        if dashboard and self._live is None:
            self._say(f"dashboard: {dashboard}")
        # Generations that an earlier run completed were reported then.
        self._reported = search.generation - 1 if search.replayed else -1

    def _report_errors(self, search: Search) -> None:
        """Why trials fail, each reason once, as soon as it is known: people should not find out at the end."""
        for error in list(search.errors)[self._errors :]:
            first = self._errors == 0
            self._errors += 1
            self._say_in_red(f"a trial failed: {error}")
            if first and error in search.failures.tracebacks:
                self._say_in_red(indented(search.failures.tracebacks[error]))

    def _say_in_red(self, text: str) -> None:
        self._console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)

    def _report_generations(self, search: Search) -> None:
        """One line for each generation that is complete since the last call."""
        for number in range(self._reported + 1, search.generation + 1 if search.asked else 0):
            row = search.generations[number]
            complete = number + 1 in search.generations or search.optimizer.done
            if not complete or row.told < row.asked:
                return
            self._reported = number
            sources = ", ".join(f"{row.sources[s]} {s.value.replace('_', ' ')}" for s in Source if row.sources[s])
            failed = f", {row.failed} failed" if row.failed else ""
            fitness = f"fitness {row.low:.5g} … {row.high:.5g}, mean {row.mean:.5g}"
            if row.failed == row.told:
                fitness = "no fitness"
            self._say(f"generation {number}: {fitness}; {sources}{failed}; {row.end - row.start:.1f} s")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _block(self, search: Search, dashboard: str | None) -> RenderableType:
        planned = search.optimizer.planned
        best = search.best
        saved = search.counts[Source.ARCHIVE] + search.counts[Source.IN_FLIGHT]
        lines = Table.grid(padding=(0, 2))
        lines.add_row(
            Text(search.job.name, style="bold"),
            ProgressBar(total=planned, completed=search.told, width=40),
            f"{search.told} of {planned or '?'} trials, generation {search.generation}",
        )
        lines.add_row(
            "",
            f"{search.running} running on {search.slots} slots, {search.counts[Source.TRAINED]} trained, {saved} saved",
            f"{duration(search.seconds)} gone, {self._left(search)}",
        )
        if best is not None:
            lines.add_row("", Text(f"best {best.fitness:.5g}", style="bold green"), params_line(best.params))
            lines.add_row("", "best so far", Text(self._trace.bars(), style="green"))
        if dashboard:
            lines.add_row("", "dashboard", Text(dashboard, style=f"link {dashboard}"))
        return lines

    def _left(self, search: Search) -> str:
        done = search.told - search.replayed
        if not search.optimizer.planned or not done:
            return "time left unknown yet"
        remaining = search.optimizer.planned - search.told
        return f"about {duration(search.seconds / done * remaining)} left at most"


class JobProgress:
    """Shows a job of the service: a live block in a terminal or a notebook, a line per generation elsewhere.

    Use it as a context manager, and call it with each new state.

    Args:
        console: Where to show it.
        trace: The best fitness at each moment before now.
    """

    def __init__(self, console: Console, trace: Trace | None = None) -> None:
        self._console = console
        self._live = _live(console)
        self._trace = trace or Trace()
        self._said: tuple[Any, ...] = ()

    def __enter__(self) -> JobProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, state: JobState) -> None:
        """Show where the job is."""
        if state.best is not None:
            self._trace.add(state.best["fitness"])
        if self._live is not None:
            self._live.update(job_block(state, self._trace))
        elif (state.state, state.generation, state.trouble) != self._said:
            self._said = state.state, state.generation, state.trouble
            self._console.print(_job_line(state), highlight=False, soft_wrap=True, markup=False)


def _job_line(state: JobState) -> str:
    parts = [
        f"{state.name}: {state.state}, generation {state.generation}",
        f"{state.told} of {state.planned or '?'} trials",
    ]
    parts += [f"best {state.best['fitness']:.5g}"] if state.best else []
    parts += [text for text in (state.trouble, state.reason) if text]
    return "; ".join(parts)


def job_block(state: JobState, trace: Trace | None = None) -> RenderableType:
    """Where a job of the service stands, and how its best fitness came about."""
    saved = state.counts.get(Source.ARCHIVE, 0) + state.counts.get(Source.IN_FLIGHT, 0)
    lines = Table.grid(padding=(0, 2))
    lines.add_row(
        Text(state.name, style="bold"),
        ProgressBar(total=state.planned, completed=state.told, width=40),
        f"{state.told} of {state.planned or '?'} trials, generation {state.generation}",
    )
    lines.add_row(
        "",
        f"{state.state}, {state.running} running, {state.counts.get(Source.TRAINED, 0)} trained, {saved} saved",
        f"{duration(state.trained_seconds)} of training",
    )
    if state.best is not None:
        best = Text(f"best {state.best['fitness']:.5g}", style="bold green")
        lines.add_row("", best, params_line(state.best["params"]))
        if trace is not None:
            lines.add_row("", "best so far", Text(trace.bars(), style="green"))
    for fold, fitness in sorted(state.tests.items()):
        score = "failed" if fitness is None else f"{fitness:.5g}"
        lines.add_row("", Text(f"on the unseen test set{f', fold {fold}' if len(state.tests) > 1 else ''}"), score)
    for text in (state.trouble, state.reason):
        if text:
            lines.add_row("", Text(text, style="red"))
    return lines


def job_table(states: Iterable[JobState], traces: Mapping[str, Trace] | None = None) -> Table:
    """The jobs of a service, a row each, with how the best fitness came about if that is known by name."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "owner", "state", "priority", "running", "trials", "best", "method", "problem"):
        table.add_column(name, justify="right" if name in ("priority", "running", "trials", "best") else "left")
    if traces is not None:
        table.add_column("best so far", style="green")
    for state in states:
        table.add_row(
            state.name,
            state.owner,
            state.state,
            f"{state.priority:g}",
            str(state.running),
            f"{state.told}/{state.planned or '?'}",
            f"{state.best['fitness']:.5g}" if state.best else "-",
            state.optimizer,
            state.problem,
            *([] if traces is None else [traces[state.name].bars(20) if state.name in traces else ""]),
        )
    return table


def slot_table(slots: Iterable[Mapping[str, Any]]) -> Table:
    """The slots of a service, and what each trains; see :func:`swarm.occupancy.occupancy`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("slot", "host", "class", "job", "trial", "for", "latest report"):
        table.add_column(name, justify="right" if name in ("trial", "for") else "left")
    for slot in slots:
        place = slot["slot"], slot["host"], slot["resource"]
        if slot["key"] is None:
            table.add_row(*place, Text("free", style="dim"))
            continue
        trial = "-" if slot["trial"] is None else str(slot["trial"])
        what = slot["job"] or slot["key"][:8]
        table.add_row(*place, what, trial, duration(slot["seconds"]), params_line(slot["report"]))
    return table


def summary(search: Search, status: str) -> RenderableType:
    """The result of a run: the best, its test score, and what it cost."""
    parts: list[RenderableType] = []
    best = search.best
    if best is None:
        parts.append(Text("no training has succeeded yet", style="bold red"))
    else:
        table = Table(title=f"best of {search.job.name}", title_justify="left", show_header=False, box=None)
        named = columns(best.params).params
        for name, value in best.params.items():
            table.add_row(named[name], f"{value:.6g}" if isinstance(value, float) else str(value), style="cyan")
        table.add_row("fitness", Text(f"{best.fitness:.6g}", style="bold green"))
        for fold, test in sorted(search.tests.items()):
            name = "on the unseen test set" + (f", fold {fold}" if len(search.tests) > 1 else "")
            score = f"{test.fitness:.6g}" if test.fitness is not None else f"failed: {test.error}"
            table.add_row(name, Text(score, style="bold green" if test.fitness is not None else "red"))
        parts.append(table)
    counts = search.counts
    saved = counts[Source.ARCHIVE] + counts[Source.IN_FLIGHT]
    parts.append(
        f"{search.evaluations} evaluations: {counts[Source.TRAINED]} trainings run, {saved} saved "
        f"({counts[Source.ARCHIVE]} from the archive, {counts[Source.IN_FLIGHT]} joined in flight), "
        f"{counts['failed']} trials failed; {duration(search.trained_seconds)} of training"
    )
    if search.checkpoint_bytes:
        share = search.checkpoint_seconds / max(search.trained_seconds, 1e-9)
        parts.append(f"{search.checkpoint_bytes / 1e6:.1f} MB of checkpoints, {share:.1%} of the training time")
    for error, times in search.errors.most_common(3):
        parts.append(Text(f"failed {times} times: {error}", style="red"))
    parts.append(f"{status}" + (f": {search.end_reason}" if search.end_reason else ""))
    return Group(*parts)


def errors_block(search: Search) -> RenderableType:
    """Why trials failed, how often, and the user's own lines that led there, the most frequent first."""
    if not search.errors:
        return Text("no trial has failed")
    parts: list[RenderableType] = []
    for error, times in search.errors.most_common():
        parts.append(Text(f"failed {times} times: {error}", style="red"))
        if error in search.failures.tracebacks:
            parts.append(Text(indented(search.failures.tracebacks[error])))
    return Group(*parts)


def indented(text: str) -> str:
    """Lines that belong to what is said above them."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def generation_table(search: Search) -> Table:
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
    for number in sorted(search.generations):
        row = search.generations[number]
        fitness = (row.low, row.mean, row.high) if row.told > row.failed else ()
        table.add_row(
            str(number),
            f"{row.told}/{row.asked}" if row.told < row.asked else str(row.told),
            *([f"{value:.5g}" for value in fitness] or ["-"] * 3),
            *(str(row.sources[source]) for source in Source),
            str(row.failed),
            f"{max(0.0, row.end - row.start):.1f}",
        )
    return table


def frame_table(frame: pd.DataFrame, title: str) -> Table:
    """The rows of a data frame."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in frame.columns:
        table.add_column(name, justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.5g}" if isinstance(value, float) else str(value) for value in row))
    return table


def params_line(params: Mapping[str, Any]) -> str:
    """Hyper-parameters in one line."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def duration(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
