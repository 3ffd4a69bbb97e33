"""Checkpoints that nobody needs any more are deleted beside the work, whatever their storage thinks of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from swarm.blocking import in_daemon

_LONGEST_WAIT = 60.0  # seconds, at a job's end
_LONGEST_DELETION = 600.0  # seconds, of what is deleted at a time
_log = logging.getLogger("swarm.deletions")


class CheckpointCleanup:
    """Deletes a job's checkpoints in a thread: their storage may be slow, and where it refuses, they stay.

    Args:
        job: Name of the job.
        opened: Gives what deletes the checkpoints of these keys, from where they are.
        tasks: Where the task is kept while there is something to delete, for the caller, who may have to cancel it.
    """

    def __init__(
        self,
        job: str,
        opened: Callable[[], Callable[[list[str]], None]],
        tasks: set[asyncio.Task[None]] | None = None,
    ) -> None:
        self._job = job
        self._opened = opened
        self._tasks = set() if tasks is None else tasks
        self._doomed: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def __call__(self, keys: list[str]) -> None:
        """Delete these, too, before long."""
        self._doomed += keys
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._work())
            self._tasks.add(self._task)
            self._task.add_done_callback(self._tasks.discard)

    async def done(self) -> None:
        """Wait until all are deleted, but not for ever; it goes on all the same."""
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=_LONGEST_WAIT)
        if late:
            _log.warning("job %s: its last checkpoints are still being deleted", self._job)

    async def _work(self) -> None:
        while self._doomed:
            keys, self._doomed = self._doomed, []
            try:
                await in_daemon(partial(self._delete, keys), _LONGEST_DELETION)
            except Exception as error:
                if not self._refused:
                    reason = f"{type(error).__name__}: {error}"
                    _log.warning(
                        "job %s: checkpoints that nobody needs cannot be deleted, and stay: %s", self._job, reason
                    )
                self._refused = True

    def _delete(self, keys: list[str]) -> None:
        self._opened()(keys)
