"""Linear algebra in one thread: with small matrices several are slower, and far slower on a machine that is busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_turn = threading.RLock()  # the libraries' limit is one for the whole process


@contextmanager
def one_thread() -> Iterator[None]:
    """Have NumPy and SciPy calculate in one thread meanwhile, one caller of this after the other."""
    with _turn, _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> Any:
    """What controls the libraries, which are looked for once."""
    import scipy.linalg  # noqa: F401 - it has a library of its own, which must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
