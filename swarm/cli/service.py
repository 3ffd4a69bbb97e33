"""The commands of the service: those that keep it running, and those that submit, look and steer."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarm.cli.logs import LogFormat, LogFormatOption, start_logging
from swarm.cli.options import AddressArgument, AddressOption, SettingsArgument
from swarm.errors import InvalidInput, JobConflict, JobNotFound, SwarmError
from swarm.manners.files import writing
from swarm.terminal.text import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swarm.client import Client, JobHandle, JobState
    from swarm.cluster.systemd import Systemd
    from swarm.terminal.sparkline import Sparkline

app = typer.Typer()
_out = console()
_REFRESH_SECONDS = 1.0
_LATEST = 20  # jobs that have ended, where nobody says how many

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Name of the job.")]


@app.command("scheduler")
def scheduler_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any.", min=0, max=65535)] = 8786,
    dashboard: Annotated[
        str, typer.Option("--dashboard", "--dashboard-address", help="Address of the dashboard; :8787 is on this host.")
    ] = "127.0.0.1:8787",
    scheduler_file: Annotated[
        Path | None, typer.Option(help="File to write the address to, for masters and workers.", show_default=False)
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve others than this machine without TLS.")] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Start the scheduler that everything else connects to: Dask's, with the service for jobs."""
    from swarm.cluster.serve import serve_scheduler
    from swarm.cluster.systemd import Systemd
    from swarm.config import settings

    say, systemd = start_logging(log_format, "scheduler", "error", _say), Systemd.of_process()
    _until_stopped(
        serve_scheduler(
            host,
            port,
            dashboard=f"{host}{dashboard}" if dashboard.startswith(":") else dashboard,
            scheduler_file=scheduler_file,
            insecure=insecure or settings().insecure,
            say=say,
            ready=systemd.ready,
        ),
        systemd,
    )


@app.command("master")
def master_command(
    address: AddressArgument = None,
    scheduler: AddressOption = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Store: sqlite:///FILE, a file name, or postgresql://…")
    ] = None,
    scheduler_file: Annotated[
        Path | None,
        typer.Option(help="File with the scheduler's address, read at each dial.", show_default=False),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder that all workers see, for finished evaluations; left out, beside the store."),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="URL or folder that all workers see, for checkpoints; left out, beside the store."),
    ] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Run the jobs that are submitted to a scheduler. A second master on the same store stands by."""
    from swarm.cluster.master import serve_jobs
    from swarm.cluster.serve import scheduler_address
    from swarm.cluster.systemd import Systemd
    from swarm.config import settings
    from swarm.service.hosted import Places
    from swarm.store.sql import Store

    chosen = settings()
    url = store or chosen.store
    folder = Store.folder_of(url)
    places = Places(
        results=str(results or chosen.results or (folder and folder / "results") or "") or None,
        checkpoints=checkpoints or chosen.checkpoints or (str(folder / "checkpoints") if folder else None),
        allowed=chosen.checkpoint_places,
    )
    found = scheduler_address(one_address(address, scheduler), scheduler_file, chosen.scheduler_address)
    say, systemd = start_logging(log_format, "master", "critical", _say), Systemd.of_process()
    _until_stopped(
        serve_jobs(
            found,
            url,
            places=places,
            lease_seconds=chosen.lease_seconds,
            store_seconds=chosen.store_timeout_seconds,
            admins=chosen.admins,
            shared=chosen.shared,
            keep_ended=chosen.keep_ended,
            first_seconds=chosen.first_contact_seconds,
            say=say,
            ready=systemd.ready,
        ),
        systemd,
    )


@app.command("health")
def health_command(
    address: AddressArgument = None,
    scheduler: AddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say it as one JSON object.")] = False,
) -> None:
    """Whether the service is well: exit code 0 if so, 1 if master or store is silent, 2 without a scheduler."""
    from swarm.client import Client
    from swarm.terminal.tables import health_lines

    try:
        found = Client(one_address(address, scheduler)).health()
    except SwarmError as error:
        if not as_json:
            raise
        print(json.dumps({"ok": False, "problems": [str(error)]}))
        raise typer.Exit(2) from None
    if as_json:
        print(json.dumps(found))
    else:
        for line in health_lines(found):
            _say(line)
    raise typer.Exit(0 if found["ok"] else 1)


@app.command("submit")
def submit_command(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    settings: SettingsArgument = None,
    scheduler: AddressOption = None,
    name: Annotated[str | None, typer.Option(help="Another name than the file's.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the file's.", show_default=False)] = None,
    priority: Annotated[float, typer.Option(help="Your slots are divided between your jobs by it.")] = 1.0,
    max_slots: Annotated[int | None, typer.Option(help="Use so many slots at most.", show_default=False)] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train again what has failed in the job, which has ended.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and show progress.")] = False,
) -> None:
    """Submit a job file to the service and leave it there."""
    from swarm.job.job import Job

    job = Job.from_file(job_file, settings or (), name=name, seed=seed)
    client = _client(scheduler)
    before = None if retry_failed else _ended(client, job.name)
    handle = client.submit(job, priority=priority, most=max_slots, retry_failed=retry_failed)
    if before is not None and (after := handle.state()).ended and after.told == before.told:
        raise JobConflict(_nothing_left(after))
    if wait:
        _watch(handle)
    else:
        _say(f"submitted {job.name}; look: swarm watch {job.name} --scheduler {handle.client.address}")


def _ended(client: Client, name: str) -> JobState | None:
    """A job of that name that has ended."""
    try:
        state = client.attach(name).state()
    except JobNotFound:
        return None
    return state if state.ended else None


def _nothing_left(state: JobState) -> str:
    found = "" if state.best is None else f", its best is {state.best['fitness']:.6g}"
    return (
        f"job {state.name!r} is {state.state} already, and has nothing left to do{found}: look with swarm fetch "
        f"{state.name}, search on with a higher limit (stop.…, the method's own), or submit it under another --name"
    )


@app.command("jobs")
def jobs_command(
    scheduler: AddressOption = None,
    limit: Annotated[int, typer.Option(help="Only the latest so many that have ended; 0: all.", min=0)] = _LATEST,
    state: Annotated[
        str | None,
        typer.Option(help="Only those that are active, paused, finished, cancelled or failed.", show_default=False),
    ] = None,
) -> None:
    """List the jobs of the service: the latest that have ended, then those that go on."""
    from swarm.client import ENDED
    from swarm.terminal.tables import job_table

    client = _client(scheduler)
    states = client.jobs(limit or None, state)
    _out.print(job_table(states, weights=client.weights()))
    counts = client.counts()
    of_them = [counts.get(each, 0) for each in (ENDED if state is None else [state])]
    more = sum(of_them) - sum(each.ended for each in states)
    if limit and more > 0 and (state is None or state in ENDED):
        _say(f"{more:,} more have ended: swarm jobs --limit {limit * 10}, or --limit 0 for all")


@app.command("watch")
def watch_command(
    name: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Name of the job; left out, all.")] = None,
    scheduler: AddressOption = None,
) -> None:
    """Watch a job until it ends, or all jobs; Ctrl-C stops watching, not the job."""
    client = _client(scheduler)
    if name is not None:
        _watch(client.attach(name))
        return
    from swarm.terminal.sparkline import Sparkline
    from swarm.terminal.tables import job_table

    traces: dict[str, Sparkline] = {}

    def jobs() -> RenderableType:
        states = client.jobs(_LATEST)
        for state in states:
            if state.best is not None:
                traces.setdefault(state.name, Sparkline(width=20)).add(state.best["fitness"])
        return job_table(states, traces if _out.is_terminal else None)

    _refresh(jobs)


@app.command("top")
def top_command(scheduler: AddressOption = None) -> None:
    """Show the slots and what each trains, for how long; live in a terminal, until Ctrl-C."""
    from swarm.terminal.tables import slot_table

    client = _client(scheduler)
    _refresh(lambda: slot_table(client.slots()))


@app.command("fetch")
def fetch_command(
    name: JobArgument,
    scheduler: AddressOption = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write its trials as CSV.", show_default=False)] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Show why trials failed, and where in your code.")] = False,
) -> None:
    """Fetch a job's journal: what each generation found and cost, the best, and its trials as CSV."""
    from swarm.terminal.tables import errors_block, generation_table, summary

    handle = _client(scheduler).attach(name)
    search = handle.search()
    if csv is not None:
        with writing(csv):
            handle.history.to_csv(csv, index=False)
    if errors:
        _out.print(errors_block(search), soft_wrap=True)
        return
    _out.print(generation_table(search))
    _out.print(summary(search, handle.status), soft_wrap=True)


@app.command("cancel")
def cancel_command(name: JobArgument, scheduler: AddressOption = None) -> None:
    """End a job for good, its trainings included."""
    _steered(scheduler, name, lambda handle: handle.cancel())


@app.command("enqueue")
def enqueue_command(
    name: JobArgument,
    values: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="Hyper-parameters of one configuration: rate=0.01.")
    ],
    scheduler: AddressOption = None,
) -> None:
    """Have a job try a configuration before any other; what is left out is drawn at random."""
    from swarm.job.file import assigned

    configuration = assigned(values)
    _steered(scheduler, name, lambda handle: handle.enqueue(configuration))


@app.command("stop")
def stop_command(name: JobArgument, scheduler: AddressOption = None) -> None:
    """Have a job ask for nothing more, and end with what it has; what was asked for is trained."""
    _steered(scheduler, name, lambda handle: handle.stop())


@app.command("pause")
def pause_command(name: JobArgument, scheduler: AddressOption = None) -> None:
    """Start no more trainings of a job; those that run end as they are."""
    _steered(scheduler, name, lambda handle: handle.pause())


@app.command("unpause")
def unpause_command(name: JobArgument, scheduler: AddressOption = None) -> None:
    """Go on with a paused job."""
    _steered(scheduler, name, lambda handle: handle.resume())


@app.command("share")
def share_command(
    name: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Name of the job.", show_default=False)] = None,
    scheduler: AddressOption = None,
    priority: Annotated[
        float | None,
        typer.Option(help="A user's slots are divided between the jobs in proportion to it.", show_default=False),
    ] = None,
    max_slots: Annotated[int | None, typer.Option(help="At most so many; 0: no limit.", show_default=False)] = None,
    user: Annotated[
        str | None, typer.Option(help="In place of a job: give this user another weight.", show_default=False)
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(
            help="Slots are divided between users in proportion to it; administrators set it.", show_default=False
        ),
    ] = None,
) -> None:
    """Give a job another share of its user's slots, or a user another weight among the users."""
    from swarm.terminal.tables import weights_line

    if user is not None or weight is not None:
        if user is None or weight is None or (name, priority, max_slots) != (None, None, None):
            raise InvalidInput("give a user's weight by --user NAME --weight W, and nothing else beside it")
        _say(weights_line(_client(scheduler).weigh(user, weight)))
        return
    if name is None:
        raise InvalidInput("name a job, swarm share JOB --priority P, or a user, swarm share --user NAME --weight W")
    _steered(scheduler, name, lambda handle: handle.share(priority, max_slots))


def one_address(argument: str | None, option: str | None) -> str | None:
    """The scheduler's address, which may be given as argument or as option.

    Raises:
        InvalidInput: There are two.
    """
    if argument is not None and option not in (None, argument):
        raise InvalidInput(f"two schedulers are named, {argument} and {option}: give one, --scheduler {option}")
    return argument if option is None else option


def _client(address: str | None) -> Client:
    from swarm.client import Client

    return Client(address)


def _steered(scheduler: str | None, name: str, change: Callable[[JobHandle], Any]) -> None:
    from swarm.client import JobHandle
    from swarm.terminal.tables import job_block

    _out.print(job_block(change(JobHandle(_client(scheduler), name))))


def _watch(handle: JobHandle) -> None:
    from swarm.terminal.progress import JobProgress
    from swarm.terminal.tables import job_block

    try:
        with JobProgress(_out, _past(handle) if _out.is_terminal else None) as show:
            state = handle.wait(on_change=show)
    except KeyboardInterrupt:
        _say(f"{handle.name} goes on; look again: swarm watch {handle.name}")
        raise typer.Exit(130) from None
    _out.print(job_block(state))
    if state.state != "finished":
        raise typer.Exit(1)


def _past(handle: JobHandle) -> Sparkline:
    """The best fitness of a job after each trial so far."""
    from swarm.runs.history import History
    from swarm.terminal.sparkline import Sparkline

    sign = -1 if handle.state().direction == "maximize" else 1
    return Sparkline(History(handle.events(), sign=sign).points["best"])


def _refresh(draw: Callable[[], RenderableType]) -> None:
    """Show what changes, once a second until Ctrl-C; once where there is no terminal."""
    if not _out.is_terminal:
        _out.print(draw())
        return
    from rich.live import Live

    with contextlib.suppress(KeyboardInterrupt), Live(draw(), console=_out, auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            live.update(draw(), refresh=True)


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False, soft_wrap=True)


def _until_stopped(work: Coroutine[Any, Any, None], systemd: Systemd) -> None:
    """Run a server until Ctrl-C or SIGTERM, and let it put things in order."""
    import asyncio

    async def main() -> None:
        task = asyncio.ensure_future(systemd.watched(work))

        def stop() -> None:
            systemd.stopping()
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
