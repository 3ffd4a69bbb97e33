"""The commands that keep a store in order: what its archive holds, what of it to forget, and runs to delete."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.options import STORE, StoreOption
from swarm.errors import InvalidInput, StoreDamaged
from swarm.terminal.text import console, line

if TYPE_CHECKING:
    from rich.table import Table

    from swarm.runs.upkeep import Delete, Deletion
    from swarm.store.sql import Finding, Store

app = typer.Typer()
archive_app = typer.Typer(help="What the archive of a store holds, and what of it to forget.")
app.add_typer(archive_app, name="archive")
_out = console()

YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
ResultsOption = Annotated[
    Path | None,
    typer.Option(help="Folder of finished evaluations; left out, beside the store.", show_default=False),
]


@archive_app.callback(invoke_without_command=True)
def archive_command(context: typer.Context, store: StoreOption = STORE) -> None:
    """List the problems of the archive, with their trainings, failures and bytes."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from swarm.runs.upkeep import holdings

    table = Table()
    table.add_column("problem")
    table.add_column("fingerprint", no_wrap=True)
    for name in ("trainings", "failures", "bytes"):
        table.add_column(name, justify="right")
    with closing(_opened(store)) as opened:
        for each in holdings(opened):
            name = ", ".join(each.names) or "of a deleted run"
            table.add_row(*map(line, (name, each.problem, each.trainings, each.failures, f"{each.bytes:,}")))
    _out.print(table)


@archive_app.command("forget")
def forget_command(
    run: Annotated[str | None, typer.Option(help="Only what this run has trained.", show_default=False)] = None,
    problem: Annotated[
        str | None,
        typer.Option(help="Only what is of this problem: its name, or the beginning of its fingerprint."),
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Only failures.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Only what is not what was written: see check.")] = False,
    store: StoreOption = STORE,
    results: ResultsOption = None,
    yes: YesOption = False,
) -> None:
    """Forget results, so that they are trained again when a job asks for them."""
    from swarm.runs.upkeep import forgetting

    with closing(_opened(store)) as opened:
        folder = None if results is None else str(results)
        chosen = forgetting(opened, run=run, problem=problem, failures=failures, damaged=damaged, results=folder)
        if not chosen.keys:
            _say("there is nothing of that in the archive")
            return
        what = f"{len(chosen.keys)} trainings, {chosen.failures} of them failures, {chosen.bytes:,} bytes"
        _confirm(f"forget {what} of {opened.url}", yes)
        chosen.do()
        _say(f"forgot {what}")


@app.command("delete")
def delete_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    store: StoreOption = STORE,
    archive: Annotated[
        bool, typer.Option("--archive", help="Forget what it has trained, too, so that it answers no other run.")
    ] = False,
    results: ResultsOption = None,
    yes: YesOption = False,
) -> None:
    """Delete a run with what only it needs: its journal, its code, its checkpoints. The archive keeps its results."""
    from swarm.runs.upkeep import deletion

    with closing(_opened(store)) as opened:
        found = deletion(opened, name, archive=archive, results=None if results is None else str(results))
        parts = [f"its journal of {found.events} events"]
        if found.checkpoints:
            parts.append("the checkpoints that no other run refers to")
        if found.trainings:
            parts.append(f"{len(found.trainings)} trainings of the archive, {found.bytes:,} bytes")
        if found.damage is not None:
            _say(f"{found.damage}. Checkpoints that only it needs are not known, and stay")
        _confirm(f"delete run {name} of {opened.url}: {', '.join(parts)}", yes)
        found.do(_deleting(found))
        _say(f"deleted {name}")


@app.command("check")
def check_command(store: StoreOption = STORE) -> None:
    """See whether a store is what was written into it, row by row: exit code 0 if so, 1 with what to do if not."""
    try:
        with closing(_opened(store)) as opened:
            found = opened.check()
    except StoreDamaged as error:
        _say(str(error))
        raise typer.Exit(1) from None
    looked = ", ".join(f"{number:,} {kind}" for kind, number in found.rows.items()) or "no rows"
    if not found.findings:
        old = f"; {found.unsealed:,} rows of an earlier version have no checksum" if found.unsealed else ""
        _say(f"{opened.url} is sound: {looked}{old}")
        return
    _out.print(_findings(found.findings))
    _say(f"{opened.url} is damaged: {len(found.findings)} findings in {looked}")
    raise typer.Exit(1)


def _opened(store: str) -> Store:
    from swarm.store.sql import Store

    return Store(store, create=False)


def _findings(findings: list[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("damaged", "why", "what to do"):
        table.add_column(name, overflow="fold")
    for each in findings:
        table.add_row(Text(each.what), Text(each.cause), Text(each.remedy))
    return table


def _deleting(gone: Deletion) -> Delete:
    """What deletes the checkpoints of a run, by key, from where it has kept them."""
    from swarm.cluster.connect import forgetting as forgetting_checkpoints

    folder = gone.store.folder
    return forgetting_checkpoints(gone.place or (None if folder is None else str(folder / "checkpoints")))


def _confirm(what: str, yes: bool) -> None:
    """Say what is going to happen, and ask."""
    _say(f"this would {what}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput("there is no terminal where you could be asked: give --yes to do it")
    typer.confirm("Do it?", abort=True)


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)
