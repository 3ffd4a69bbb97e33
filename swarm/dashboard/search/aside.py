"""What takes too long for a page to work out by itself: a thread does, one at a time for all pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
_MORE = 1.2  # times as much there must be to see before it is worked out again
_thread = ThreadPoolExecutor(1, thread_name_prefix="swarm-pages")
_log = logging.getLogger("swarm.pages")


class Aside(Generic[T]):
    """Something about a search that grows; worked out again when it has grown by a fifth.

    Attributes:
        found: What was found last; None while nothing was.
    """

    def __init__(self) -> None:
        self.found: T | None = None
        self._coming: Future[T | None] | None = None
        self._size = 0

    @property
    def waiting(self) -> bool:
        """Whether a thread is at it."""
        return self._coming is not None and not self._coming.done()

    def ask(self, size: int, work: Callable[[], T | None]) -> bool:
        """Have it worked out if there is more than before; whether there is another one now.

        Args:
            size: How much there is to see.
            work: Works it out, in a thread: it must not look at what changes.
        """
        if self._coming is not None and self._coming.done():
            coming, self._coming = self._coming, None
            if (error := coming.exception()) is not None:
                _log.warning("what a page shows could not be worked out: %s: %s", type(error).__name__, error)
                return False
            self.found = coming.result()
            return True
        if self._coming is None and size > 0 and (size >= _MORE * self._size or size < self._size):
            self._size = size
            self._coming = _thread.submit(work)
        return False
