"""The first minutes: the files of a search to begin with, a look at this machine, and one at a job untrained."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from dataclasses import asdict
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.options import AddressOption, Baseline
from swarm.errors import InvalidInput
from swarm.manners.files import is_there
from swarm.terminal.text import console, line

if TYPE_CHECKING:
    from swarm.job.job import Job
    from swarm.runner import Where

app = typer.Typer()
_out = console()
_STYLES = {"good": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "bold red")}


class Kind(StrEnum):
    """What trains."""

    KERAS = "keras"
    TORCH = "torch"
    JAX = "jax"
    PROGRAM = "program"


@app.command("init")
def init_command(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to write them.")] = Path(),
    kind: Annotated[Kind, typer.Option("--for", help="What trains: program is any command line.")] = Kind.KERAS,
) -> None:
    """Write train.py and job.yaml, a small search that runs, to make your own of."""
    here = resources.files("swarm.cli") / "templates" / kind
    texts = {each.name.removesuffix(".in"): each.read_text(encoding="utf-8") for each in here.iterdir()}
    files = {folder / name: text.replace("@python@", _interpreter()) for name, text in texts.items()}
    taken = [str(path) for path in files if is_there(path)]
    if taken:
        raise InvalidInput(
            f"{' and '.join(sorted(taken))} would be overwritten: name another folder, swarm init FOLDER"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write into {folder}: {error.strerror}") from None
    for path in sorted(files):
        _say(f"wrote {path}")
    _say(f"next: swarm run {folder / 'job.yaml'} --dry-run, then without --dry-run")


def _interpreter() -> str:
    """``python`` where that is the one with this package, else its path."""
    found = shutil.which("python")
    same = found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()
    return "python" if same else shlex.quote(sys.executable)


@app.command("doctor")
def doctor_command(
    store: Annotated[
        str | None, typer.Option("--store", help="Store to open; left out, the settings'.", show_default=False)
    ] = None,
    scheduler: AddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say it as one JSON object.")] = False,
) -> None:
    """Check this machine: Python, frameworks, GPUs, memory, limits, store, scheduler; exit code 1 if one is bad."""
    from rich.text import Text

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


def show_plan(job: Job, where: Where, store: str, baseline: Baseline | None = None) -> None:
    """Print what a job would do and cost, with random search beside it if there is to be a baseline."""
    from swarm.runner import local_slots
    from swarm.runs.plan import plan
    from swarm.steering.baseline import name_of
    from swarm.terminal.tables import plan_block

    slots = None if where.scheduler else len(local_slots(job, where))
    _out.print(plan_block(plan(job, store, slots)), soft_wrap=True)
    if baseline is not None:
        _say(f"and at most as much again for random search beside it, as {name_of(job)}")


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)
