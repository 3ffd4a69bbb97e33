"""What benchmarks share that repeat whole searches: where those are kept, and how they go on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.shared.saving import KEPT, QUICK
from swarm import Job
from swarm.cluster.connect import forgetting, pool_on
from swarm.runner import Run, enroll
from swarm.search import Search
from swarm.store import JobStatus, Store

if TYPE_CHECKING:
    from distributed import Client


@contextlib.contextmanager
def stores(name: str, folder: Path | None) -> Iterator[Path]:
    """The folder of a benchmark's stores: the one given, else one beside the results; of a quick run it is deleted."""
    if QUICK and folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = folder or KEPT.with_name("stores") / name
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


async def searched(job: Job, client: Client, folder: Path) -> Run:
    """Run a job on the client's cluster, or on from where it was stopped. It has a store of its own in the folder, so
    that no search answers another.
    """
    file = folder / f"{job.name}.db"
    checkpoints = str(folder / "checkpoints") if job.checkpoints else None
    with closing(Store(str(file))) as store:
        enroll(job, store)
        search = Search(job, store)
        if not search.state.finished():
            async with pool_on(client, job, None, checkpoints) as pool:
                await pool.wait_for_slots(60)
                await search.run(pool, forget=forgetting(checkpoints))
    return Run(search.state, str(file), JobStatus.FINISHED)
