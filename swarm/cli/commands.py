"""The command ``swarm``."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarm.cli import architecture, best, first, report, service, upkeep
from swarm.cli.logs import LogFormat, LogFormatOption, start_logging
from swarm.cli.options import STORE, AddressArgument, AddressOption, Baseline, SettingsArgument, StoreOption
from swarm.cli.sections import Sections
from swarm.cli.service import one_address
from swarm.errors import AllFailed, Interrupted, InvalidInput, SwarmError
from swarm.manners.dask_config import check_readable
from swarm.manners.files import check_writable, writing
from swarm.terminal.text import Console, console, line, lines, printable
from swarm.version import __version__

if TYPE_CHECKING:
    from swarm.runs.run import Run

app = typer.Typer(
    cls=Sections,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(first.app)
app.add_typer(service.app)
app.add_typer(best.app)
app.add_typer(report.app)
app.add_typer(upkeep.app)
app.add_typer(architecture.app, name="architecture")
_out = console()
_err = Console(stderr=True)

SlotsOption = Annotated[
    int | None,
    typer.Option("--slots", "--nworkers", help="Trainings at a time on CPUs.", show_default=False),
]
GpusOption = Annotated[str | None, typer.Option("--gpus", help="GPUs to use: all, 0,2-3, UUIDs.", show_default=False)]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "--nthreads",
        help="CPU threads of one training; 1 without a GPU, else its share.",
        show_default=False,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", help="Train on the workers of this Dask scheduler.", show_default=False),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Without TLS, listen where others can reach it and run code as you.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Train again what has failed in it, and nothing else.")
]
NameArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"dask-swarm {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and exit.")
    ] = False,
) -> None:
    """Find the hyper-parameters of deep neural networks with a swarm of trainings, one per GPU."""
    command = context.invoked_subcommand
    check_readable(command if command in ("scheduler", "worker") else "client")


@app.command("run")
def run_command(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    settings: SettingsArgument = None,
    store: StoreOption = STORE,
    slots: SlotsOption = None,
    gpus: GpusOption = None,
    threads: ThreadsOption = None,
    scheduler: SchedulerOption = None,
    name: Annotated[str | None, typer.Option(help="Another name than the file's.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the file's.", show_default=False)] = None,
    folds: Annotated[
        int | None, typer.Option(help="Use this many of the ten cross-validation folds.", show_default=False)
    ] = None,
    gpus_per_training: Annotated[
        float | None, typer.Option(help="Another number of GPUs per training than the file's.", show_default=False)
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="If the name is taken, run as name-2, name-3, … (the archive still answers)."),
    ] = False,
    retry_failed: RetryOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it, and say what it would do and cost; train nothing.")
    ] = False,
    baseline: Annotated[
        Baseline | None,
        typer.Option(help="Then search at random with as many trainings, and compare.", show_default=False),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="HTML file to write the report into at the end.", show_default=False)
    ] = None,
) -> None:
    """Run a job file; the same job under the same name goes on where it was stopped."""
    from swarm.job.job import Job
    from swarm.runner import Where, free_name, run
    from swarm.steering.baseline import check

    if again and retry_failed:
        raise InvalidInput("--again runs it under another name, --retry-failed under the same: give one of them")
    changes = {"seed": seed, "folds": folds, "gpus_per_training": gpus_per_training}
    job = Job.from_file(job_file, settings or (), name=name, **changes)
    if again:
        job = Job.from_file(job_file, settings or (), name=free_name(job.name, store), **changes)
    if dry_run:
        if baseline is not None:
            check(job, store, baseline)
        first.show_plan(job, Where(scheduler, slots, gpus, threads), store, baseline)
        return
    if page is not None:
        check_writable(page)
    _finish(
        lambda: run(
            job,
            slots=slots,
            gpus=gpus,
            threads=threads,
            scheduler=scheduler,
            store=store,
            retry_failed=retry_failed,
            baseline=None if baseline is None else "random",
        ),
        page,
    )


@app.command("resume")
def resume_command(
    name: NameArgument,
    store: StoreOption = STORE,
    slots: SlotsOption = None,
    gpus: GpusOption = None,
    threads: ThreadsOption = None,
    scheduler: SchedulerOption = None,
    retry_failed: RetryOption = False,
) -> None:
    """Go on with a run that was stopped or killed, or with what has failed in any run."""
    from swarm.runner import Where, resume

    where = Where(scheduler, slots, gpus, threads)
    _finish(lambda: resume(name, store=store, where=where, retry_failed=retry_failed))


@app.command("show")
def show_command(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Name of the run; left out, list all.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Show why trials failed, and where in your code.")] = False,
    output: Annotated[
        int | None, typer.Option("--output", help="Show what the trainings of this trial printed.", show_default=False)
    ] = None,
    artifacts: Annotated[
        int | None, typer.Option("--artifacts", help="List the files that this trial left.", show_default=False)
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Show a run: the best, what each generation found and cost. Without a name, list the store's runs."""
    if name is None:
        _list(store)
        return
    from swarm.runs.run import Run
    from swarm.terminal.tables import errors_block, generation_table, summary

    found = Run.load(name, store)
    if errors:
        _out.print(errors_block(found.state), soft_wrap=True)
        return
    if output is not None:
        text = found.output(output)
        sys.stdout.write(printable(text, keep="\n\t") if sys.stdout.isatty() else text)
        if not text:
            _err.print(f"nothing is kept of what trial {output} printed", style="yellow")
        return
    if artifacts is not None:
        paths = found.artifacts(artifacts)
        sys.stdout.writelines(f"{printable(str(path))}\n" for path in paths)
        if not paths:
            _err.print(f"no files are kept of trial {artifacts}", style="yellow")
        return
    _out.print(generation_table(found.state))
    _out.print(summary(found.state, found.status), soft_wrap=True)
    _print_baseline(found)


@app.command("export")
def export_command(
    name: NameArgument,
    store: StoreOption = STORE,
    csv: Annotated[Path | None, typer.Option("--csv", help="File to write as CSV.", show_default=False)] = None,
    parquet: Annotated[Path | None, typer.Option(help="File to write as Parquet.", show_default=False)] = None,
    optuna: Annotated[
        str | None, typer.Option(help="Storage for an Optuna study, sqlite:///study.db.", show_default=False)
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's HParams.", show_default=False)
    ] = None,
    mlflow: Annotated[str | None, typer.Option(help="Tracking URI of MLflow.", show_default=False)] = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder for the files that trials left.", show_default=False)
    ] = None,
) -> None:
    """Write a run's trials for other programs, one row each; without an option as CSV on standard output."""
    from swarm.runs import Run, export

    found = Run.load(name, store)
    if csv is not None:
        with writing(csv):
            csv.write_text(found.history.to_csv(index=False), encoding="utf-8")
    if parquet is not None:
        export.to_parquet(found, parquet)
    if optuna is not None:
        export.to_optuna(found, optuna)
    if tensorboard is not None:
        export.to_tensorboard(found, tensorboard)
    if mlflow is not None:
        export.to_mlflow(found, mlflow)
    if artifacts is not None:
        with writing(artifacts):
            export.to_folder(found, artifacts)
    written = [each for each in (csv, parquet, optuna, tensorboard, mlflow, artifacts) if each is not None]
    for target in written:
        _out.print(f"wrote {target}", highlight=False, markup=False, soft_wrap=True)
    if not written:
        table = found.history.to_csv(index=False)
        sys.stdout.write(printable(table, keep="\r\n\t") if sys.stdout.isatty() else table)


@app.command("import")
def import_command(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="FILE.csv, FILE.parquet, run:NAME, or optuna:URL#STUDY."),
    ],
    fitness: Annotated[
        str | None, typer.Option(help="Column with the fitness; left out, fitness.", show_default=False)
    ] = None,
    store: StoreOption = STORE,
    slots: SlotsOption = None,
    gpus: GpusOption = None,
    threads: ThreadsOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only say how many results it would begin with.")] = False,
) -> None:
    """Run a job file that begins with earlier results: what its key results names, and these."""
    from swarm.job.earlier.sources import from_text
    from swarm.job.file import read
    from swarm.job.job import Job
    from swarm.runner import run

    named = read(job_file, ()).get("results") or []
    given = [from_text(source, store, fitness) for source in sources]
    job = Job.from_file(job_file, results=[*named, *given])
    if check:
        best = (max if job.direction == "maximize" else min)(each["fitness"] for each in job.results)
        _out.print(f"{len(job.results)} earlier results belong to the space of {job.name}; the best is {best:g}")
        return
    _finish(lambda: run(job, slots=slots, gpus=gpus, threads=threads, store=store))


@app.command("schedule")
def schedule_command(
    name: NameArgument,
    store: StoreOption = STORE,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write it as CSV.", show_default=False)] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write it as JSON.", show_default=False)] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it as an HTML page.", show_default=False)] = None,
) -> None:
    """Show the hyper-parameters that PBT's winner was trained with, slice by slice."""
    from swarm.runs.run import Run
    from swarm.runs.schedule import plot as draw
    from swarm.terminal.tables import frame_table

    table = Run.load(name, store).schedule
    if csv is not None:
        with writing(csv):
            table.to_csv(csv, index=False)
    if json is not None:
        with writing(json):
            table.to_json(json, orient="records", indent=2)
    if plot is not None:
        with writing(plot):
            draw(table, plot, title=f"Schedule of {name}")
    _out.print(frame_table(table, title=f"Schedule of {name}"))


@app.command("replay")
def replay_command(
    name: NameArgument,
    store: StoreOption = STORE,
    repeats: Annotated[int, typer.Option(help="Trainings at different seeds.")] = 1,
    slots: SlotsOption = None,
    gpus: GpusOption = None,
    threads: ThreadsOption = None,
    scheduler: SchedulerOption = None,
) -> None:
    """Train a network from the start by the schedule that a run has found."""
    from swarm.runner import free_name, run
    from swarm.runs.run import Run
    from swarm.runs.schedule import replay

    job = replay(Run.load(name, store), name=free_name(f"{name}-replay", store), repeats=repeats)
    _finish(lambda: run(job, slots=slots, gpus=gpus, threads=threads, scheduler=scheduler, store=store))


@app.command("worker")
def worker_command(
    address: AddressArgument = None,
    scheduler: AddressOption = None,
    scheduler_file: Annotated[
        Path | None,
        typer.Option(help="File to which the scheduler writes its address, at each start.", show_default=False),
    ] = None,
    gpus: GpusOption = None,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
    gpus_per_training: Annotated[
        float, typer.Option(help="GPUs of a slot; 0.5 is two slots per GPU, which share its memory.")
    ] = 1,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; left out, the way to the scheduler.", show_default=False),
    ] = None,
    insecure: InsecureOption = False,
    grace: Annotated[
        str,
        typer.Option(help="Time that trainings have to save and end once the worker is told to (SIGTERM, SIGUSR1)."),
    ] = "60s",
    lifetime: Annotated[
        str | None, typer.Option(help="End by itself after this time, in the same way: 11h, 90m.", show_default=False)
    ] = None,
    lifetime_stagger: Annotated[str, typer.Option(help="Change that at random by up to this time.")] = "0s",
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Offer this machine's GPUs to a scheduler, each a slot of one worker process, until Ctrl-C.

    Told to end (SIGTERM, SIGUSR1, --lifetime), it takes nothing new, and its trainings may save and go on elsewhere.
    """
    import asyncio
    import contextlib
    import os
    from dataclasses import replace

    from swarm.cluster.serve import scheduler_address
    from swarm.cluster.systemd import Systemd
    from swarm.config import seconds_of, settings
    from swarm.manners.shadowing import check_unhidden
    from swarm.workers.node.gpu import claimed
    from swarm.workers.node.leaving import Leaving
    from swarm.workers.node.listen import listening_host
    from swarm.workers.node.supervisor import make_slots, serve

    chosen = settings()
    named = one_address(address, scheduler)
    found = scheduler_address(named, scheduler_file, chosen.scheduler_address)
    insecure = insecure or chosen.insecure
    check_unhidden()
    until = None if lifetime is None else seconds_of("lifetime", lifetime)
    patience, stagger = seconds_of("grace", grace), seconds_of("lifetime-stagger", lifetime_stagger)
    with contextlib.suppress(OSError):  # not known yet: it is looked up again at each dial
        listening_host(found(), host, insecure)
    offered = make_slots(gpus, slots, threads, gpus_per_training)
    if not offered[0].gpus:  # two such workers on one machine are not the same slots
        offered = [replace(slot, name=f"{slot.name}-{os.getpid()}") for slot in offered]
    say = start_logging(log_format, "worker", "critical", lambda text: _out.print(text, soft_wrap=True))
    with claimed(gpu for slot in offered for gpu in slot.gpus), contextlib.suppress(KeyboardInterrupt):
        names, whose = ", ".join(slot.name for slot in offered), named or scheduler_file or found()
        say(f"{len(offered)} slot{'s' if len(offered) > 1 else ''} for {whose}: {names}; stop with Ctrl-C")
        if gpus_per_training < 1 and offered[0].gpus:
            say("what shares a GPU shares its memory: a training can fail for what its neighbour takes")
        first = chosen.first_contact_seconds
        systemd = Systemd.of_process()
        leaving = Leaving(patience, until, stagger, say, systemd.stopping)
        serving = serve(
            found,
            offered,
            host=host,
            insecure=insecure,
            first_seconds=first,
            leaving=leaving,
            ready=systemd.ready,
        )
        asyncio.run(systemd.watched(serving))


def main() -> None:
    """Entry point: errors that are ours are one line on standard error, exit code 2.

    A run whose first trainings have all failed exits with 1, an interrupted one with 130.
    """
    atexit.register(gc.freeze)  # at its end Python would look through all that was imported for garbage: 0.2 s
    try:
        app()
    except SwarmError as error:
        _err.print(lines(f"swarm: {error}"), style="red", soft_wrap=True)
        sys.exit(1 if isinstance(error, AllFailed) else 2)


def _finish(work: Callable[[], Run], page: Path | None = None) -> None:
    """Run something to its end, print what was found, and write its report, or print how to go on if it is stopped."""
    try:
        found = work()
    except Interrupted as stop:  # here, since Typer would take it for a KeyboardInterrupt without a text
        _err.print(str(stop), style="yellow", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    _print_result(found)
    if page is not None:
        report.write_report(found, page)


def _print_result(found: Run) -> None:
    from swarm.terminal.tables import summary

    if found.before is not None:
        _print_result(found.before)
    _out.print(summary(found.state, found.status), soft_wrap=True)
    _print_baseline(found)
    named = "" if found.store == STORE else f" --store {found.store}"
    more = f"more: swarm show {found.job.name}{named}, swarm report {found.job.name}{named}, swarm dashboard{named}"
    _out.print(line(more), style="dim", soft_wrap=True)


def _print_baseline(found: Run) -> None:
    """What random search found beside a run, if it was asked for."""
    from swarm.terminal.tables import beside_random

    if (said := beside_random(found)) is not None:
        _out.print(line(said, style="bold"), soft_wrap=True)


def _list(store: str) -> None:
    from contextlib import closing
    from datetime import datetime

    from rich.table import Table

    from swarm.store.sql import Store

    table = Table()
    for column in ("run", "problem", "optimizer", "status", "created"):
        table.add_column(column)
    with closing(Store(store, create=False)) as opened:
        for job in opened.jobs(
            lambda _, error: _err.print(f"swarm: {error}", style="red", markup=False, soft_wrap=True)
        ):
            when = datetime.fromtimestamp(job.created).strftime("%Y-%m-%d %H:%M")
            table.add_row(*map(line, (job.name, *_told_of(job.spec), job.status, when)))
    _out.print(table)


def _told_of(spec: Any) -> tuple[str, str]:
    """Names of the problem and of the method of a job, if its specification can be read."""
    try:
        return str(spec["problem"]["name"]), str(spec["optimizer"]["name"])
    except (TypeError, KeyError):
        return "cannot be read", ""
