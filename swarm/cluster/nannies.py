"""Worker processes of an embedded cluster, from the start to the end, whatever comes in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing import spawn
from typing import Any

from swarm.errors import NotStarted

_PATIENCE = 1.0  # seconds that a worker has to end, in which a training may keep it busy, when the run is stopped
_PAUSE = 0.05
_WORKER = "Dask Worker process"  # how the name of such a process begins
_SCRIPT = ("init_main_from_name", "init_main_from_path")  # what has a process import the script


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """Dask's worker processes that are started in this context do not import the user's script, as all processes do
    that :mod:`multiprocessing` spawns.

    They need nothing of it, since a job brings its sources to where it is trained. So a script that imports TensorFlow
    costs no worker seconds and 400 MB; and one that calls ``run()`` at its top level does not call it in each worker.
    """
    original = spawn.get_preparation_data

    def preparation(name: str) -> dict[str, Any]:
        found = original(name)
        return {key: each for key, each in found.items() if key not in _SCRIPT} if name.startswith(_WORKER) else found

    spawn.get_preparation_data = preparation
    try:
        yield
    finally:
        spawn.get_preparation_data = original


@asynccontextmanager
async def started(cluster: Any, nannies: Sequence[Any]) -> AsyncIterator[None]:
    """The cluster, started: none of its processes is left, however this ends, and amid its start, too.

    Args:
        cluster: An asynchronous cluster of Dask's, not started.
        nannies: Takes the nannies as the cluster makes them.

    Raises:
        NotStarted: A worker process could not be started.
    """
    try:
        await _start(cluster, nannies)
    except RuntimeError as error:
        raise NotStarted(f"a worker process could not be started ({error}); what it says is above") from None
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
