"""Snapshots of searches: what a replay knew after so many events, so that the next one begins there.

A snapshot is a cache of a replay and nothing else. It may be deleted at any time, and one that is damaged, that another
version or another job has made, or that the journal does not begin with, is passed over. Before it is taken, every line
of the journal that it stands for is read and compared with its checksum, which takes a tenth of the time of a replay.

Nobody writes down the state of a search that runs. A thread replays the journal from the last snapshot on, and writes
down that, so that a search is never held up, and a snapshot is a replay's by construction.

What is in a store is no code: a snapshot is pickled, but reading it makes objects of the classes listed here alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import zlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np

from swarm.errors import SwarmError
from swarm.job.job import Job
from swarm.search.search import fresh_state
from swarm.search.state import SearchState
from swarm.service.published.publisher import Publisher
from swarm.store.events import Event
from swarm.store.records import Snapshot
from swarm.store.sql import Store
from swarm.version import __version__

EVERY = 2000
"""Events after which a snapshot is renewed, so that a replay applies about as many."""

_OURS = (
    *("swarm.trial", "swarm.space", "swarm.optimizers", "swarm.search", "swarm.service.published"),
    *(f"swarm.store.{name}" for name in ("events", "outcome", "pending", "records", "tally")),
)
_OTHERS = {
    "builtins": {"set", "frozenset", "complex", "bytearray", "range"},
    "collections": {"Counter", "OrderedDict", "deque", "defaultdict"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._pickle": {"__generator_ctor", "__bit_generator_ctor"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
}
_log = logging.getLogger("swarm.master")


class Snapshots:
    """Replays the journals of a store, and remembers how far it came.

    Args:
        store: Where journals and snapshots are.
        every: Events after which a snapshot is renewed.
    """

    def __init__(self, store: Store, every: int = EVERY) -> None:
        self._store = store
        self._every = every

    def replay(self, job: Job, check: Callable[[], None] = lambda: None) -> tuple[SearchState, Publisher]:
        """What a journal tells of a job's search, and what its pages show.

        Args:
            job: The job.
            check: Called before each event; raises what ends the replay.

        Raises:
            JournalMismatch: The journal holds other trials than the job's optimizer asks for.
            StoreDamaged: A line of the journal is not what was written.
        """
        outlet = Publisher(job)
        state, prefix = self._recalled(job, outlet)
        if state is None:
            state, outlet = fresh_state(job, self._store), Publisher(job)

        def note(event: Event) -> None:
            check()
            outlet.note(event)

        state.follow(note)
        known = state.events
        for event in self._store.events(job.name, known):
            state.replay(event)
        if state.events - known >= max(1, self._every // 2):  # the last events of a search may not be written yet
            self._keep(job, state, outlet, prefix, known)
        state.follow(outlet.note)
        return state, outlet

    # --- reading

    def _recalled(self, job: Job, outlet: Publisher) -> tuple[SearchState | None, str]:
        """The state of the job's snapshot, if that can be trusted, and the digest of its part of the journal."""
        try:
            snapshot = self._store.snapshot(job.name)
            if snapshot is None:
                return None, ""
            trouble = self._distrusted(job, snapshot)
            if trouble is None:
                memory, view = _Unpickler(io.BytesIO(zlib.decompress(snapshot.state))).load()
                state = SearchState.recalled(job, memory)
                outlet.recall(view)
                if state.events == snapshot.events:
                    return state, snapshot.prefix
                trouble = "it does not hold what it says"
        except Exception as error:  # whatever is wrong with it, the journal is what counts
            trouble = f"{type(error).__name__}: {error}"
        _log.warning("job %s: its snapshot is passed over, and all of its journal replayed: %s", job.name, trouble)
        return None, ""

    def _distrusted(self, job: Job, snapshot: Snapshot) -> str | None:
        """Why a snapshot cannot stand for the beginning of the job's journal; None if it can."""
        if snapshot.maker != maker_of(job):
            return "another version, or another job, has made it"
        if snapshot.seal != _seal(job.name, snapshot):
            return "it is not what was written (its checksum differs)"
        if self._store.prefix(job.name, snapshot.events) != snapshot.prefix:
            return "the journal does not begin with what it stands for"
        return None

    # --- writing

    def _keep(self, job: Job, state: SearchState, outlet: Publisher, prefix: str, known: int) -> None:
        """Write down what a replay has found, which nobody changes meanwhile; without one, all goes on as well."""
        try:
            found = self._store.prefix(job.name, state.events, known, prefix)
            if found is None:
                return
            data = zlib.compress(pickle.dumps((state.memory(), outlet.memory()), protocol=5), level=1)
            snapshot = Snapshot(state.events, maker_of(job), found, data, "")
            self._store.keep_snapshot(job.name, snapshot.sealed(_seal(job.name, snapshot)))
        except (SwarmError, pickle.PicklingError, TypeError, AttributeError) as error:
            _log.warning("job %s: no snapshot is kept: %s", job.name, error)


def maker_of(job: Job) -> str:
    """What is equal where a replay of the same journal ends in the same state: this package's code, and the job."""
    known = [__version__, np.__version__, _code(), json.dumps(job.to_dict(), sort_keys=True, default=repr)]
    return hashlib.sha256("\0".join(known).encode()).hexdigest()


@cache
def _code() -> str:
    """Digest of this package's modules: a version that is being worked on changes what it does, but not its number."""
    found = hashlib.sha256()
    folders = [files("swarm")]
    while folders:
        for each in sorted(folders.pop().iterdir(), key=lambda each: each.name):
            if each.is_dir() and each.name not in ("workers", "__pycache__"):
                folders.append(each)
            elif each.name.endswith(".py"):
                found.update(_text(each))
    return found.hexdigest()


def _text(module: Traversable) -> bytes:
    return module.name.encode() + b"\0" + module.read_bytes()


def _seal(job: str, snapshot: Snapshot) -> str:
    """The checksum of a snapshot."""
    found = hashlib.sha256(f"{job}\0{snapshot.events}\0{snapshot.maker}\0{snapshot.prefix}\0".encode())
    found.update(snapshot.state)
    return found.hexdigest()


class _Unpickler(pickle.Unpickler):
    """Makes objects of classes that a snapshot may hold, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of that name.

        Raises:
            pickle.UnpicklingError: A snapshot holds none such.
        """
        found = None
        if name in _OTHERS.get(module, ()):
            found = super().find_class(module, name)
        elif any(module == each or module.startswith(f"{each}.") for each in _OURS):
            found = super().find_class(module, name)
            found = found if isinstance(found, type) and found.__module__ == module else None
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} is nothing that a snapshot holds")
        return found
