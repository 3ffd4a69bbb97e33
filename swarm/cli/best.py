"""The command ``swarm best``: the best hyper-parameters, and the network that was trained with them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.options import STORE, StoreOption
from swarm.errors import InvalidInput, InvalidJob
from swarm.terminal.text import Console, printable

if TYPE_CHECKING:
    from swarm.runs.run import Run

app = typer.Typer()
_err = Console(stderr=True)


@app.command("best")
def best_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    store: StoreOption = STORE,
    save: Annotated[
        Path | None,
        typer.Option(help="Save the trained network: winner.keras, or a folder for what else was trained."),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Score it on the unseen test set.")] = False,
    train_more: Annotated[
        float | None, typer.Option(metavar="EPOCHS", help="Train it further first.", show_default=False)
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="Where its checkpoints are, if neither beside the store nor where the job says."),
    ] = None,
) -> None:
    """Print the best hyper-parameters as YAML; save, score or train on what was trained with them."""
    import yaml

    from swarm.runs.run import Run

    found = Run.load(name, store)
    if found.best is None:
        raise InvalidJob(f"run {name!r} has no best yet: no training has succeeded")
    text = yaml.safe_dump(found.best.params, sort_keys=False, allow_unicode=True)
    if printable(text, keep="\n") != text:  # in YAML's own escapes, then
        text = yaml.safe_dump(found.best.params, sort_keys=False)
    sys.stdout.write(text)
    sys.stdout.flush()
    if save is not None or test or train_more is not None:
        if train_more is not None and train_more <= 0:
            raise InvalidInput(f"--train-more takes a number of epochs above 0, not {train_more:g}")
        _take_up(found, save, test, train_more, checkpoints)


def _take_up(run: Run, save: Path | None, test: bool, more: float | None, checkpoints: str | None) -> None:
    from swarm.cluster.connect import check_installed
    from swarm.runs.winner import Winner

    check_installed(run.job)
    winner = Winner.of(run, checkpoints)
    if winner.kept is None:
        _say(f"{winner.missing}: training the same configuration again, with the same seed")
    done = winner.finish(save=save, test=test, more=more, report=_report)
    if done.trained is not None:
        _say(f"fitness {done.trained:.6g}{_was(winner.fitness)}")
    if done.further is not None:
        _say(f"fitness {done.further:.6g} after {more:g} more epochs{_was(winner.fitness)}")
    if done.tested is not None:
        _say(f"{done.tested:.6g} on the unseen test set")
    if save is not None:
        _say(f"saved {save}")


def _was(fitness: float) -> str:
    return f", before {fitness:.6g}"


def _report(metrics: Mapping[str, float]) -> None:
    from swarm.terminal.tables import params_line

    _say(params_line(metrics))


def _say(text: str) -> None:
    """To standard error: standard output is the YAML alone."""
    _err.print(text, highlight=False, markup=False, soft_wrap=True)
