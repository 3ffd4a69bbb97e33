"""The terminal while a search runs: a live block, or a line per generation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from swarm.plots.units import duration
from swarm.store.records import Source
from swarm.terminal.sparkline import Sparkline
from swarm.terminal.tables import indented, job_block, job_times, params_line
from swarm.terminal.text import line, lines

if TYPE_CHECKING:
    from swarm.search.search import Search
    from swarm.search.state import SearchState
    from swarm.service.published.job_state import JobState

_REFRESH_SECONDS = 0.25


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


def _live(console: RichConsole) -> Live | _Cell | None:
    """What shows a block that changes; None where there are only lines."""
    if console.is_jupyter:
        return _Cell()
    return Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None


class Progress:
    """Shows a running search: a live block in a terminal or a notebook, a line per generation elsewhere.

    Use it as a context manager, and call it with the search and the dashboard's address after every change.
    """

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._live = _live(console)
        self._last: tuple[Search, str | None] | None = None
        self._shown = 0.0
        self._linked: str | None = None  # the address that was said
        self._of: str | None = None  # name of the run
        self._follow()

    def _follow(self) -> None:
        """Begin with a search of which nothing was shown yet."""
        self._trace = Sparkline()
        self._told = 0
        self._reported = -1
        self._began = False
        self._errors = 0
        self._trouble: str | None = None
        self._in_vain = False

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            if self._last is not None:
                self._live.update(self._block(*self._last))
            self._live.stop()

    def say(self, text: str) -> None:
        """Say what is done before the search begins, such as the start of workers."""
        if isinstance(self._live, _Cell):
            self._live.update(line(text))
        else:
            self._say(text)

    def __call__(self, search: Search, dashboard: str | None) -> None:
        """Show where the search is."""
        if search.job.name != self._of:
            if self._of is not None:
                self._follow()
                planned = search.state.optimizer.planned
                self._say(f"{search.job.name}: random search beside it, {planned} trials …")
            self._of = search.job.name
        if not self._began:
            self._began = True
            self._begin(search.state, dashboard)
        state = search.state
        self._report_errors(state)
        self._report_trouble(search.trouble)
        self._report_in_vain(state.in_vain)
        if not self._console.is_jupyter:  # above the live block, in a terminal's scroll-back
            self._report_generations(state)
        if self._live is None:
            return
        self._last = search, dashboard
        if state.best is not None and state.told > self._told:
            self._told = state.told
            self._trace.add(state.best.fitness)
        if time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._shown = time.monotonic()
            self._live.update(self._block(search, dashboard))

    def _begin(self, state: SearchState, dashboard: str | None) -> None:
        if state.replayed:
            self._say(f"{state.job.name}: going on after {state.replayed} trials")
        if dashboard and dashboard != self._linked and not self._console.is_jupyter:
            self._linked = dashboard
            self._say(f"dashboard: {dashboard}")
        # Generations that an earlier run completed were reported then.
        self._reported = state.generation - 1 if state.replayed else -1

    def _report_errors(self, state: SearchState) -> None:
        """Why trials fail, each reason once, as soon as it is known: people should not find out at the end."""
        for error in list(state.errors)[self._errors :]:
            first = self._errors == 0
            self._errors += 1
            self._say_in_red(f"a trial failed: {error}")
            if first and error in state.failures.tracebacks:
                self._say_in_red(indented(state.failures.tracebacks[error]))

    def _report_in_vain(self, advice: str | None) -> None:
        """That trainings never get to their end, once, until they do."""
        if advice is not None and not self._in_vain:
            self._say_in_red(advice)
        self._in_vain = advice is not None

    def _report_trouble(self, trouble: str | None) -> None:
        """What the search waits for, such as a store that is away, and that it waits no longer."""
        if trouble is not None and self._trouble is None:
            self._say_in_red(f"{trouble}; waiting for it")
        elif trouble is None and self._trouble is not None:
            self._say("going on")
        self._trouble = trouble

    def _say_in_red(self, text: str) -> None:
        self._console.print(lines(text), style="red", highlight=False, soft_wrap=True)

    def _report_generations(self, state: SearchState) -> None:
        """One line for each generation that is complete since the last call."""
        for number in range(self._reported + 1, state.generation + 1 if state.asked else 0):
            row = state.generations[number]
            complete = number + 1 in state.generations or state.optimizer.done
            if not complete or row.told < row.asked:
                return
            self._reported = number
            sources = ", ".join(f"{row.sources[s]} {s.value.replace('_', ' ')}" for s in Source if row.sources[s])
            failed = f", {row.failed} failed" if row.failed else ""
            fitness = "no fitness"
            if row.told > row.failed:
                fitness = f"fitness {row.low:.5g} … {row.high:.5g}, mean {row.mean:.5g}"
            self._say(f"generation {number}: {fitness}; {sources}{failed}; {row.lasted:.1f} s")

    def _say(self, text: str) -> None:
        self._console.print(line(text), highlight=False, soft_wrap=True)

    def _block(self, search: Search, dashboard: str | None) -> RenderableType:
        state, planned = search.state, search.state.optimizer.planned
        best = state.best
        saved = state.counts[Source.ARCHIVE] + state.counts[Source.IN_FLIGHT]
        rows = Table.grid(padding=(0, 2))
        rows.add_row(
            line(search.job.name, style="bold"),
            ProgressBar(total=planned, completed=state.told, width=40),
            f"{state.told} of {planned or '?'} trials, generation {state.generation}",
        )
        rows.add_row(
            "",
            f"{search.running} running on {search.slots} slots, {state.counts[Source.TRAINED]} trained, {saved} saved",
            f"{duration(search.seconds)} gone, {_left(search)}",
        )
        if best is not None:
            rows.add_row("", Text(f"best {best.fitness:.5g}", style="bold green"), line(params_line(best.params)))
            rows.add_row("", "best so far", self._trace)
        if dashboard:
            rows.add_row("", "dashboard", Text(dashboard, style=f"link {dashboard}"))
        return rows


def _left(search: Search) -> str:
    left = search.seconds_left
    return "time left unknown yet" if left is None else f"about {duration(left)} left at most"


class JobProgress:
    """Shows a job of the service: a line per generation, above a live block in a terminal; in a notebook that alone.

    Use it as a context manager, and call it with each new state.

    Args:
        console: Where to show it.
        trace: The best fitness at each moment before now.
    """

    def __init__(self, console: RichConsole, trace: Sparkline | None = None) -> None:
        self._console = console
        self._live = _live(console)
        self._trace = trace or Sparkline()
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
        if (state.state, state.generation, state.trouble) != self._said and not self._console.is_jupyter:
            self._said = state.state, state.generation, state.trouble
            self._console.print(line(_job_line(state)), highlight=False, soft_wrap=True)
        if self._live is not None:
            self._live.update(job_block(state, self._trace))


def _job_line(state: JobState) -> str:
    parts = [
        f"{state.name}: {state.state}, generation {state.generation}",
        f"{state.told} of {state.planned or '?'} trials",
    ]
    parts += [f"best {state.best['fitness']:.5g}"] if state.best else []
    parts += [", ".join(job_times(state))] if state.told else []
    parts += [text for text in (state.trouble, state.reason) if text]
    return "; ".join(parts)
