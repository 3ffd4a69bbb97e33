"""Linear algebra in one thread: with small matrices several are slower, and far slower on a machine that is busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Limits:
    """What limits the threads of the libraries, for as long as anybody wants it.

    The limit is one for the whole process, so whoever comes first sets it, and whoever goes last takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._controller: Any = None
        self._limit: Any = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._limit = self._libraries().limit(limits=1, user_api="blas")

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()

    def _libraries(self) -> Any:
        """What controls the libraries, which are looked for once."""
        if self._controller is None:
            import scipy.linalg  # noqa: F401 - it has a library of its own, which must be loaded to be found
            from threadpoolctl import ThreadpoolController

            self._controller = ThreadpoolController()
        return self._controller


_limits = _Limits()


@contextmanager
def one_thread() -> Iterator[None]:
    """Have NumPy and SciPy calculate in one thread meanwhile, whichever thread calls them."""
    _limits.enter()
    try:
        yield
    finally:
        _limits.leave()
