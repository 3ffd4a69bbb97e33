"""The commands that make something of a run to keep: its report, its figures, and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.options import STORE, StoreOption
from swarm.manners.files import writing
from swarm.terminal.text import console, lines

if TYPE_CHECKING:
    from swarm.runs.run import Run

app = typer.Typer()
_out = console()


@app.command("report")
def report_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    store: StoreOption = STORE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file to write; left out, RUN.html.", show_default=False)
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(
            "--png", help="Write the figures for papers into this folder, as PNG and PDF.", show_default=False
        ),
    ] = None,
) -> None:
    """Write the report of a run: one HTML file with the best, all figures, and how to run it again."""
    from swarm.runs.run import Run

    run = Run.load(name, store)
    if png is not None:
        from swarm.report.figures import save_all

        with writing(png):
            _say(f"wrote {len(save_all(run, png))} figures to {png}, as PNG and PDF")
        if output is None:
            return
    write_report(run, output or Path(f"{name}.html"))


def write_report(run: Run, file: Path) -> None:
    """Write the report of a run, and say where it is."""
    from swarm.report.report import write

    with writing(file):
        write(run, file)
    _say(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


@app.command("note")
def note_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    trial: Annotated[int | None, typer.Argument(help="Number of the trial; left out, list all notes.")] = None,
    text: Annotated[str | None, typer.Argument(help="The note; '' takes away the one that there is.")] = None,
    store: StoreOption = STORE,
) -> None:
    """Write a note on a trial, which pages, report and exports show; or read those that there are."""
    from swarm.runs.run import Run

    run = Run.load(name, store)
    if trial is not None and text is not None:
        run.note(trial, text)
        return
    notes = run.notes
    for number, found in notes.items() if trial is None else [(trial, notes.get(trial, ""))]:
        if found:
            _out.print(lines(f"{number}: {found}" if trial is None else found), soft_wrap=True)


@app.command("dashboard")
def dashboard_command(
    store: StoreOption = STORE,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any.", min=0, max=65535)] = 8790,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Look at the runs of a store in the browser, ended or not, until Ctrl-C; no scheduler is needed."""
    import contextlib

    from swarm.dashboard.stored import serve

    with contextlib.suppress(KeyboardInterrupt):
        serve(store, host, port, lambda address: _say(f"runs of {store}: {address}  (Ctrl-C ends this)"))


@app.command("compare")
def compare_command(
    names: Annotated[list[str], typer.Argument(metavar="RUN RUN …", help="Names of the runs.")],
    store: StoreOption = STORE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it as an HTML file, with figures.", show_default=False)
    ] = None,
) -> None:
    """Compare runs: what each found and cost, and whether the difference is more than chance."""
    from swarm.plots.units import duration
    from swarm.report.compare import Comparison
    from swarm.runs.run import Run
    from swarm.terminal.tables import frame_table

    comparison = Comparison([Run.load(name, store) for name in names])
    if comparison.caution:
        _out.print(comparison.caution, style="yellow", soft_wrap=True)
    table = comparison.table()
    for column in ("wall", "training"):
        table[column] = [duration(seconds) for seconds in table[column]]
    _out.print(frame_table(table, title="runs"))
    for test in comparison.paired():
        _say(f"{test.second} – {test.first}: {test.sentence}")
    if output is not None:
        with writing(output):
            comparison.write(output)
        _say(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)
