"""The scheduler as a process: Dask's with our plugin; and where workers and masters find it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarm.cluster.ports import check_free, dashboard_place
from swarm.errors import InvalidInput, SchedulerUnreachable
from swarm.manners.users_dask import checked_address
from swarm.workers.node.listen import check_exposed, other_users
from swarm.workers.node.private import scratch
from swarm.workers.node.supervisor import address_of


async def serve_scheduler(
    host: str,
    port: int,
    *,
    dashboard: str,
    scheduler_file: Path | None = None,
    insecure: bool = False,
    say: Callable[[str], None] = lambda _: None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Be the scheduler, until cancelled.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes any.
        dashboard: Address of the dashboard.
        scheduler_file: File to write the address to.
        insecure: Serve others than this machine even without TLS.
        say: Told the addresses.
        ready: Told them as well, when it listens.

    Raises:
        InvalidInput: Others could reach it without TLS, or one of the addresses is none.
        SchedulerUnreachable: The port is taken, or the address is not ours.
    """
    shown = dashboard_place(dashboard)
    check_free(host.rpartition("://")[2], port)
    from distributed import Scheduler, Security

    import swarm.scheduler  # its settings must be there before a scheduler is made
    from swarm.config import settings

    tls = Security().get_listen_args("scheduler").get("ssl_context") is not None
    check_exposed(host, insecure, tls=tls)
    if not tls and other_users():
        say("without TLS, every user of this machine can run code as you: make certificates, deploy/make-certificates")
    scheduler = Scheduler(
        host=host,
        port=port,
        protocol="tls" if tls else "tcp",
        dashboard_address=dashboard,
        scheduler_file=None if scheduler_file is None else str(scheduler_file),
        preload=[swarm.scheduler.__name__],
        local_directory=scratch(),
        worker_ttl=f"{settings().worker_ttl_seconds} s",
    )
    await _start(scheduler, host, port)
    async with scheduler:
        import swarm.dashboard.pages  # now, when nobody waits for it

        gc.freeze()  # what has been imported stays: looking through it for garbage would take 150 ms at a time
        served = scheduler.services["dashboard"].port
        if shown[1] not in (0, served):
            say(f"port {shown[1]} is in use already, so the dashboard has another; --dashboard HOST:PORT chooses it")
        pages = f"http://{shown[0]}:{served}/swarm"
        where = f"scheduler at {scheduler.address}, dashboard at {pages}"
        say(where)
        ready(where)
        await scheduler.finished()


async def _start(scheduler: Any, host: str, port: int) -> None:
    """Start a scheduler of Dask's, which may take another port for its pages than the one that was named.

    Raises:
        SchedulerUnreachable: It cannot listen, or write its file.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Port .* is already in use")
            await scheduler
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        if cause.filename is not None:
            raise SchedulerUnreachable(f"cannot write {cause.filename}: {cause.strerror}; name another file") from None
        raise SchedulerUnreachable(f"cannot listen on {host}:{port} ({cause}); take another --port") from None


def scheduler_address(address: str | None, file: Path | None, configured: str | None) -> Callable[[], str]:
    """What gives the scheduler's address: as it was said, or what a scheduler file says at that moment.

    Raises:
        InvalidInput: Both or none was given, or what was said is no address.
    """
    if address is not None and file is not None:
        raise InvalidInput("give the scheduler's address or --scheduler-file, not both")
    if file is not None:
        return lambda: address_of(file)
    address = address or configured
    if address is None:
        raise InvalidInput("give the scheduler's address, tcp://HOST:8786, --scheduler-file, or DASK_SCHEDULER_ADDRESS")
    found = checked_address(address)
    from distributed.comm import get_address_host

    try:
        get_address_host(found)
    except ValueError as error:
        raise InvalidInput(f"{found!r} is no address of a scheduler: {error}; write tcp://HOST:PORT") from None
    return lambda: found
