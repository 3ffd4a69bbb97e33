"""The command that looks at this machine before anything is trained."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from swarm.cli.service import AddressOption
from swarm.terminal.progress import console
from swarm.terminal.text import line

app = typer.Typer()
_out = console()
_STYLES = {"good": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "bold red")}


@app.command("doctor")
def doctor_command(
    store: Annotated[
        str | None, typer.Option("--store", help="Store to open; left out, the settings'.", show_default=False)
    ] = None,
    scheduler: AddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say it as one JSON object.")] = False,
) -> None:
    """Check this machine: Python, frameworks, GPUs, memory, limits, store, scheduler; exit code 1 if one is bad."""
    from swarm.cli.machine import State, checks

    found = []
    for check in checks(store, scheduler):
        found.append(check)
        if as_json:
            continue
        mark, style = _STYLES[check.state]
        _out.print(Text.assemble((mark, style), f" {check.name:14}", line(check.said)))
        if check.remedy is not None:
            _out.print(Text.assemble(" " * 16, ("→ ", style), line(check.remedy)))
    ok = all(check.state is not State.BAD for check in found)
    if as_json:
        print(json.dumps({"ok": ok, "checks": [asdict(check) for check in found]}))
    raise typer.Exit(0 if ok else 1)
