"""The first minutes: the files of a search to begin with, and a look at a job before anything is trained."""

from __future__ import annotations

import shlex
import shutil
import sys
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from swarm.errors import InvalidInput
from swarm.job.job import Job
from swarm.runner import Where, local_slots
from swarm.runs.plan import plan
from swarm.terminal.progress import console
from swarm.terminal.tables import plan_block

app = typer.Typer()
_out = console()


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
    taken = [str(path) for path in files if path.exists()]
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


def show_plan(job: Job, where: Where, store: str) -> None:
    """Print what a job would do and cost."""
    slots = None if where.scheduler else len(local_slots(job, where))
    _out.print(plan_block(plan(job, store, slots)), soft_wrap=True)


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)
