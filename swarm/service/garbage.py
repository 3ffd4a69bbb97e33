"""Python's garbage collection in a process whose event loop must not wait for it.

A full collection looks at every object there is, and everybody waits: 150 ms for what a master with 50 jobs knows. What
has survived one is here to stay, as a rule. So if it took long, what is left is set aside (:func:`gc.freeze`), and the
next ones look at what is new alone. What was set aside is freed as usual when nobody refers to it any more; only of
objects that refer to each other in a circle it takes an occasional look at everything.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

_LONG = 0.015  # seconds
_EVERYTHING = 3600.0  # seconds, between two looks at everything


class Collections:
    """Sets aside what has survived a long full collection: one of :data:`gc.callbacks`.

    Args:
        clock: Gives the time in seconds.
        used: Gives what this thread has used of the processor, in seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock, self._used = clock, used
        self._looked = clock()  # at everything
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """What Python calls before and after each collection."""
        if info["generation"] < 2:
            return
        if phase == "start":
            if self._clock() - self._looked >= _EVERYTHING:
                self._looked = self._clock()
                gc.unfreeze()
            self._began = self._used()
        elif self._used() - self._began >= _LONG:
            gc.freeze()


def lighten() -> None:
    """Have the collections of this process, which is about to serve, take little time."""
    gc.collect()
    gc.freeze()  # what has been imported
    if not any(isinstance(each, Collections) for each in gc.callbacks):
        gc.callbacks.append(Collections())
