"""The commands ``swarm architecture …``: what DLOPT does with an architecture besides searching for it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarm.cli.options import STORE
from swarm.errors import InvalidInput
from swarm.manners.files import is_file
from swarm.trial import Params

if TYPE_CHECKING:
    from swarm.job.job import Job

app = typer.Typer(no_args_is_help=True, help="Sample, train or apply the recurrent networks of one architecture.")

JOB_FILES = (".yaml", ".yml", ".json")

SourceArgument = Annotated[str, typer.Argument(metavar="RUN|JOB.yaml", help="Whose problem it is.")]
LookBackOption = Annotated[int | None, typer.Option(help="Steps that a prediction is made from.", show_default=False)]
UnitsOption = Annotated[
    str | None,
    typer.Option(metavar="2,2", help="Units of the hidden layers; left out, the run's best.", show_default=False),
]
SeedOption = Annotated[int, typer.Option(help="Of the random weights.")]
StoreOption = Annotated[str, typer.Option("--store", help="Store of the run.")]


@app.command("sample")
def sample_command(
    source: SourceArgument,
    look_back: LookBackOption = None,
    units: UnitsOption = None,
    samples: Annotated[int, typer.Option(min=2, help="Number of random networks.")] = 100,
    seed: SeedOption = 0,
    store: StoreOption = STORE,
) -> None:
    """Print how likely a good network of this architecture is: mean, std, p, log p and all samples, as JSON."""
    problem, params = _problem(source, look_back, units, store)
    if not hasattr(problem, "sample"):
        raise InvalidInput("only a job of the problem mae-sampling samples; take one of those")
    _print(problem.report(params, seed=seed, samples=samples))


@app.command("train")
def train_command(
    source: SourceArgument,
    look_back: LookBackOption = None,
    units: UnitsOption = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.keras", help="Save the trained network.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    store: StoreOption = STORE,
) -> None:
    """Train a network of this architecture as the job says; print its error on the validation part and its layers."""
    from swarm.workers.context import Context
    from swarm.workers.recurrent.keras_network import report, scores
    from swarm.workers.recurrent.series import load

    problem, params = _problem(source, look_back, units, store)
    trainer = problem.trainer()
    model = trainer.trained(params, Context(seed=seed))
    mae, mse = scores(model, load(trainer.data), "valid")
    if save is not None:
        model.save(save)
    _print(report(model, {"mae": mae, "mse": mse}))


@app.command("predict")
def predict_command(
    source: SourceArgument,
    model: Annotated[Path, typer.Option(metavar="FILE.keras", help="The trained network.")],
    part: Annotated[str, typer.Option(help="Part of the series: train, valid or test.")] = "valid",
    store: StoreOption = STORE,
) -> None:
    """Write what a trained network predicts for a part of the series beside what was measured, as CSV."""
    from swarm.workers.recurrent.keras_network import applied
    from swarm.workers.recurrent.series import load

    problem = _loaded(_job(source, store)[0])
    series = load(problem.data)
    if not is_file(model):
        raise InvalidInput(f"there is no file {model}: save one with swarm architecture train --save {model}")
    targets, guesses = applied(model, series, part)  # type: ignore[arg-type]  # it refuses other parts
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*series.targets, *(f"predicted {name}" for name in series.targets)])
    writer.writerows([*measured, *guess] for measured, guess in zip(targets.tolist(), guesses.tolist(), strict=True))


def _problem(source: str, look_back: int | None, units: str | None, store: str) -> tuple[Any, Params]:
    """The problem of a job, and the architecture that is meant."""
    job, best = _job(source, store)
    if look_back is None or units is None:
        if best is None:
            raise InvalidInput("say which architecture: --look-back 2 --units 2,2; or give a run that has found one")
        return _loaded(job), best
    try:
        layers = [int(text) for text in units.split(",")]
    except ValueError:
        raise InvalidInput(f"--units takes numbers like 2,2, not {units!r}") from None
    chosen = {f"units_{k}": number for k, number in enumerate(layers, 1)}
    return _loaded(job), {"look_back": look_back, "layers": len(layers), **chosen}


def _job(source: str, store: str) -> tuple[Job, Params | None]:
    """A job, and the best that it has found."""
    if Path(source).suffix in JOB_FILES:
        from swarm.job.job import Job

        return Job.from_file(source), None
    from swarm.runs.run import Run

    found = Run.load(source, store)
    return found.job, None if found.best is None else found.best.params


def _loaded(job: Job) -> Any:
    from swarm.workers.problem import load

    problem = load(job.code.pickle)
    if not hasattr(problem, "trainer"):
        raise InvalidInput(f"problem {job.code.name} has no architecture: take mae-sampling, recurrent or weights")
    return problem


def _print(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=1) + "\n")
