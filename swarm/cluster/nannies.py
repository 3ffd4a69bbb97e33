"""Worker processes of an embedded cluster, from the start to the end, whatever comes in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from swarm.errors import NotStarted

_PATIENCE = 1.0  # seconds that a worker has to end, in which a training may keep it busy, when the run is stopped
_PAUSE = 0.05


@asynccontextmanager
async def started(cluster: Any, nannies: Sequence[Any], reason: Callable[[], str | None]) -> AsyncIterator[None]:
    """The cluster, started: none of its processes is left, however this ends, and amid its start, too.

    Args:
        cluster: An asynchronous cluster of Dask's, not started.
        nannies: Takes the nannies as the cluster makes them.
        reason: Gives what a worker process has said of why it cannot start, if it has.

    Raises:
        NotStarted: A worker process could not be started.
    """
    try:
        await _start(cluster, nannies)
    except RuntimeError as error:
        why = reason() or f"a worker process could not be started ({error}); what it says is above"
        raise NotStarted(why) from None
    try:
        yield
    except BaseException:  # a training in the worker's own thread would be waited for
        await asyncio.gather(*(nanny.close(timeout=_PATIENCE) for nanny in nannies), return_exceptions=True)
        raise
    finally:
        await cluster.__aexit__(None, None, None)


async def _start(cluster: Any, nannies: Sequence[Any]) -> None:
    """Start it. Dask leaves behind what it has begun if it is cancelled, but nothing if it fails: so it is to fail."""
    starting = asyncio.ensure_future(cluster.__aenter__())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        while not starting.done():
            for nanny in nannies:
                if nanny.status.name in ("init", "starting") and nanny.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(nanny.pid, signal.SIGKILL)
            await asyncio.wait([starting], timeout=_PAUSE)
        if starting.exception() is None:  # it was started just then
            await cluster.__aexit__(None, None, None)
        raise
