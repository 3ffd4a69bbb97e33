"""What a run changes in the calling process, and restores when it ends.

Several runs may be under way at once, in threads: the first changes it, and the last puts it back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import dask

from swarm.manners.noise import LOGGING, NOISY

_FAMILIES = ("bokeh", "dask", "distributed", "tornado")
_SET_BY_DASK = ("PYTHONHASHSEED", "__DASK_PARENT_PID")
_SCRATCH = "dask-scratch-space"  # folders that Dask puts into the search path of modules, and may leave there
_MISSING = object()


class Shared:
    """A context that several may be in at once: it is entered with the first, and left with the last.

    Args:
        enter: Creates the context to enter.
    """

    def __init__(self, enter: Callable[[], AbstractContextManager[None]]) -> None:
        self._enter = enter
        self._lock = threading.Lock()
        self._users = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._stack.enter_context(self._enter())
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._stack.close()


@contextlib.contextmanager
def _quiet(level: str = "critical") -> Iterator[None]:
    """Dask logs from ``level`` on, here and in the processes started from here, unless somebody wants it otherwise."""
    if LOGGING in os.environ:
        with _uncomputed():
            yield
        return
    filters, found = list(warnings.filters), _levels()
    import distributed  # noqa: F401 - it sets the levels of loggers that may have been set by the user

    for name, number in found.items():
        logging.getLogger(name).setLevel(number)
    found |= {name: logging.getLogger(name).level for name in NOISY}
    with _environment([LOGGING]), _uncomputed():
        os.environ[LOGGING] = level
        for name in NOISY:
            logging.getLogger(name).setLevel(level.upper())
        try:
            yield
        finally:
            for name in NOISY:
                logging.getLogger(name).setLevel(found[name])
            filters = [each for each in warnings.filters if each in filters or not _theirs(each[2])]
            warnings.filters[:] = filters  # type: ignore[index]


@contextlib.contextmanager
def configured(settings: Mapping[str, Any]) -> Iterator[None]:
    """Dask's configuration is as the settings say; what its servers set elsewhere lasts until then."""
    found = {name: dask.config.get(name, _MISSING) for name in settings}
    names = [*_SET_BY_DASK, *dask.config.get("distributed.nanny.pre-spawn-environ", {})]
    path = list(sys.path)
    with _environment(names), _unwarned("Port .* is already in use", "distributed"):
        dask.config.set(dict(settings))
        try:
            yield
        finally:
            for name, value in found.items():
                _put_back(name, settings[name], value)
            sys.path[:] = [each for each in sys.path if each in path or _SCRATCH not in each]


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Dask's configuration has no part of ours afterwards, unless it had before."""
    known = "swarm" in dask.config.config
    try:
        yield
    finally:
        if not known:  # our own settings have been looked up, and are whenever they are needed
            dask.config.config.pop("swarm", None)


@contextlib.contextmanager
def _uncomputed() -> Iterator[None]:
    """What the user computes with Dask afterwards goes where it went before: a client of Dask's claims it for itself.

    Each client puts back what it found, which is another's if they do not end in the order in which they began.
    """
    found = dask.config.get("scheduler", _MISSING)
    try:
        yield
    finally:
        _put_back("scheduler", "dask.distributed", found)


@contextlib.contextmanager
def _unwarned(message: str, module: str) -> Iterator[None]:
    """A module's warnings of this kind are not shown.

    Dask's is for nobody: two runs have found the usual port of the pages free in the same moment.
    """
    warnings.filterwarnings("ignore", message, module=module)
    ours = warnings.filters[0]
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody has put them back already
            warnings.filters.remove(ours)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _environment(names: Iterable[str]) -> Iterator[None]:
    """These variables of the environment are afterwards what they were."""
    found = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in found.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _put_back(name: str, ours: Any, before: Any) -> None:
    """Undo one setting, unless somebody has set it otherwise meanwhile."""
    if dask.config.get(name, _MISSING) != ours:
        return
    if before is not _MISSING:
        dask.config.set({name: before})
        return
    *path, last = name.split(".")
    place: Any = dask.config.config
    for part in path:
        place = place[part]
    place.pop(last, None)


def _levels() -> dict[str, int]:
    """The levels of Dask's loggers and of those that it sets up, as far as there are any."""
    loggers = dict(logging.root.manager.loggerDict)
    return {
        name: logger.level
        for name, logger in loggers.items()
        if name.partition(".")[0] in _FAMILIES and isinstance(logger, logging.Logger)
    }


def _theirs(category: Any) -> bool:
    return category.__module__.partition(".")[0] in _FAMILIES


tidy = Shared(_tidy)
"""For a run that may do without Dask; :data:`quiet` is for where there is some."""
quiet = Shared(_quiet)
