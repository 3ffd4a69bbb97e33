"""The problem of a stored job, whose bytes are read when they are needed, and are in memory once for equal ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from swarm.job.problem import Problem

if TYPE_CHECKING:
    from swarm.store.sql import Store

_LARGE = 10_000_000  # bytes, above which it is worth a word


class Content:
    """The code of a job, or of several that have the same: called, it gives the bytes, which it reads once.

    Args:
        read: Reads them.
    """

    __slots__ = ("__weakref__", "_bytes", "_read")

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._bytes: bytes | None = None

    def __call__(self) -> bytes:
        """The bytes, read from the store if they have not been."""
        if self._bytes is None:
            self._bytes = self._read()
        return self._bytes


class StoredProblem(Problem):
    """A problem whose ``pickle`` may be given as a :class:`Content`: most who look at a job never need its code."""

    __slots__ = ("_given",)

    def _code(self) -> bytes:
        return self._given() if isinstance(self._given, Content) else self._given

    def _give(self, code: bytes | Content) -> None:
        object.__setattr__(self, "_given", code)

    _given: bytes | Content
    pickle: Any = property(_code, _give)


class Codes:
    """The codes of a store's jobs, for a process that has many jobs.

    Those that have the same share its bytes, which stay for as long as one of them is there.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: WeakValueDictionary[str, Content] = WeakValueDictionary()  # by digest

    def of(self, job: str) -> Content:
        """The code of a job, not yet read if no other job had to."""
        digest = self._store.digest(job)
        if digest is None:
            return Content(partial(self._store.code, job))
        found = self._known.get(digest)
        if found is None:
            self._known[digest] = found = Content(partial(self._store.content, digest))
        return found


def advice(name: str, code: bytes) -> str | None:
    """What to say to who submits a job with much code and data in it, or None."""
    if len(code) <= _LARGE:
        return None
    return (
        f"job {name!r} carries {len(code) / 1e6:.0f} MB of code and data, which travel to the worker with every "
        "training: load data in prepare() or inside the training instead"
    )
