"""Checkpoints: what a training leaves behind for another to continue from, on any storage that fsspec knows.

A checkpoint is one file, named by the key of its evaluation and never changed: an uncompressed npz with the
arrays, a member ``meta.json``, and the SHA-256 of it all as its last 32 bytes (which ``np.load`` ignores). It
is written under a temporary name and then moved, so a reader finds it whole or not at all.

While it trains, an evaluation may save as often as it likes under one further name, ``<key>.partial``, which
each save replaces. If the training is interrupted, the next attempt goes on from there; if it succeeds, the
last save becomes the checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.errors import SwarmError
from swarm.workers.checkpoints.cache import Copies
from swarm.workers.checkpoints.pack import Damaged, NamedArrays, check_size, packed, unpacked

FINAL, PARTIAL = ".npz", ".partial"

logger = logging.getLogger("swarm.workers")


class CheckpointMissing(SwarmError):
    """There is no checkpoint of that key; train from the start, or keep it longer."""


class CheckpointCorrupt(SwarmError):
    """The file is not what was saved; delete it and train the evaluation again that wrote it."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The state of a training.

    Attributes:
        arrays: Weights, optimizer state and the like, by name.
        meta: Whatever else is needed to go on, as plain JSON.
    """

    arrays: NamedArrays
    meta: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints under one URL.

    Args:
        url: A directory, or whatever fsspec opens: ``s3://bucket/folder``, ``sftp://host/folder``, ``memory://name``.
            It need not exist. All workers and the master must reach it under this name. Of what is not on this machine,
            this machine keeps copies (:class:`~swarm.workers.checkpoints.cache.Copies`).

    Raises:
        ValueError: There is no such protocol.
        ImportError: The protocol needs a package that is not installed, which the message names.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self._files, root = fsspec.url_to_fs(url, use_listings_cache=False)  # others write there, too
        self._root = root.rstrip("/")
        self._local = "file" in self._files.protocol
        near = self._local or "memory" in self._files.protocol
        self._copies = None if near else Copies(f"{self._files.protocol}://{self._root}")

    def save(self, key: str, arrays: NamedArrays, meta: Mapping[str, Any], *, partial: bool = False) -> int:
        """Saves the checkpoint of ``key``; one that is there already stays as it is.

        Args:
            key: Key of the evaluation.
            arrays: Arrays by name, of numbers or texts.
            meta: JSON-ready.
            partial: Replace the save that the evaluation makes while it trains, instead.

        Returns:
            The size of the file in bytes.

        Raises:
            ValueError: An array of objects, which only pickle could save, or a number in ``meta`` that is not finite.
            TypeError: ``meta`` is not JSON-ready.
            OSError: The storage does not take it.
        """
        path = self._path(key, PARTIAL if partial else FINAL)
        if not partial and self._files.exists(path):
            return int(self._files.size(path))
        content = packed(arrays, meta)
        self._write(f"{self._path(key)}.{uuid.uuid4().hex}.tmp", path, content)
        if self._copies is not None:
            self._copies.put(_name(path), content)
        return len(content)

    def load(self, key: str, *, partial: bool = False) -> Checkpoint:
        """The checkpoint of ``key``, or with ``partial`` what the evaluation saved while it trained.

        Raises:
            CheckpointMissing: There is none.
            CheckpointCorrupt: Its checksum does not fit.
            OSError: The storage cannot be read.
        """
        path = self._path(key, PARTIAL if partial else FINAL)
        if self._copies is not None and not partial and (copy := self._copies.get(_name(path))) is not None:
            with contextlib.suppress(*Damaged):
                return Checkpoint(*unpacked(copy))
        try:
            check_size(self._files.size(path))
            content = self._files.cat_file(path)
            found = Checkpoint(*unpacked(content))
        except FileNotFoundError:
            raise CheckpointMissing(f"no checkpoint {path}: keep it longer, or train {key} again") from None
        except Damaged as error:
            reason = f"checkpoint {path} is corrupt ({error}): delete it and train {key} again"
            raise CheckpointCorrupt(reason) from None
        if self._copies is not None and not partial:
            self._copies.put(_name(path), content)
        return found

    def promote(self, key: str) -> None:
        """Makes the partial save of ``key`` its checkpoint, or drops it if there is one already.

        Raises:
            CheckpointMissing: There is neither.
            OSError: The storage does not take it.
        """
        partial, final = self._path(key, PARTIAL), self._path(key, FINAL)
        try:
            if self._files.exists(final):
                self._files.rm_file(partial)
            else:
                self._files.mv(partial, final)
                if self._copies is not None:
                    self._copies.rename(_name(partial), _name(final))
        except FileNotFoundError:  # another attempt at the same evaluation may have been faster
            if not self._files.exists(final):
                raise CheckpointMissing(f"no checkpoint {partial}: train {key} again") from None

    def exists(self, key: str) -> bool:
        """Whether there is a checkpoint of ``key``; a partial save is none."""
        return bool(self._files.exists(self._path(key, FINAL)))

    def has_saved(self, key: str) -> bool:
        """Whether an attempt at ``key`` has saved on its way, for the next one to go on from."""
        return bool(self._files.exists(self._path(key, PARTIAL)))

    def keys(self) -> set[str]:
        """The keys of all checkpoints."""
        return {name.removesuffix(FINAL) for name in self._names() if name.endswith(FINAL)}

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes all that was saved under ``keys``, partial saves and what killed trainings left as well.

        It does not matter if there is nothing. The evaluations must not be running.
        """
        doomed = set(keys)
        for name in self._names():
            if name.partition(".")[0] in doomed:
                with contextlib.suppress(FileNotFoundError):
                    self._files.rm_file(f"{self._root}/{name}")
                if self._copies is not None:
                    self._copies.drop(name)

    def _path(self, key: str, ending: str = "") -> str:
        return f"{self._root}/{key}{ending}"

    def _names(self) -> list[str]:
        try:
            return [path.rpartition("/")[2] for path in self._files.ls(self._root, detail=False)]
        except FileNotFoundError:
            return []

    def _write(self, temporary: str, path: str, content: bytes) -> None:
        self._files.makedirs(self._root, exist_ok=True)
        try:
            with self._files.open(temporary, "wb") as file:
                file.write(content)
                if self._local:
                    file.flush()
                    os.fsync(file.fileno())  # else a power cut could leave the name without the content
            self._files.mv(temporary, path)  # locally a rename; an object store shows only whole objects
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.rm_file(temporary)
            raise


class Progress:
    """The checkpoints that concern one evaluation: what it continues from, and what it saves.

    Args:
        store: Where they are.
        key: Key of the evaluation.
        parent: Key of the evaluation to continue from, or None.
        required: Whether it makes no sense without the parent's.
        keep: Whether what it saves is kept.
        donors: Keys of further evaluations to continue from.
    """

    def __init__(
        self,
        store: CheckpointStore,
        key: str,
        parent: str | None,
        *,
        required: bool = False,
        keep: bool = True,
        donors: Sequence[str] = (),
    ) -> None:
        self.restored = False
        self._store = store
        self._key = key
        self._parents = [key for key in (parent, *donors) if key is not None]
        self._required = required
        self._keep = keep
        self._bytes = 0
        self._seconds = 0.0

    def restore(self) -> Checkpoint | None:
        """What an interrupted attempt at this evaluation saved last, else the parent's checkpoint, else None.

        Raises:
            CheckpointCorrupt: The parent's checkpoint is damaged. (A damaged save of its own is passed over.)
            CheckpointMissing: The parent's checkpoint is not there, and required.
            OSError: The storage cannot be read.
        """
        self.restored = len(self._parents) < 2
        with self._timed():
            found = self._found(self._parents[:1])
        return found[0] if found else None

    def restore_all(self) -> list[Checkpoint]:
        """The same with the donors' checkpoints behind the parent's; an empty list if there is nothing.

        Raises:
            CheckpointCorrupt, CheckpointMissing, OSError: As :meth:`restore`.
        """
        self.restored = True
        with self._timed():
            return self._found(self._parents)

    def save(self, arrays: NamedArrays, meta: Mapping[str, Any]) -> None:
        """Replaces what this evaluation has saved so far.

        Raises:
            ValueError, TypeError: As :meth:`CheckpointStore.save`.
            OSError: The storage does not take it, and the parent's was required: so is this one. Others can be trained
                again, and their results count without it.
        """
        if not self._keep:
            return
        self._bytes = 0  # what an earlier save holds is not what the training ends with
        with self._timed():
            try:
                self._bytes = self._store.save(self._key, arrays, meta, partial=True)
            except OSError as error:
                if self._required:
                    raise
                logger.warning("no checkpoint of %s is kept: %s", self._key, error)

    def commit(self) -> dict[str, float]:
        """Makes the last save the evaluation's checkpoint, if there was one.

        Returns:
            The metrics ``checkpoint_bytes``, if it saved, and ``checkpoint_seconds``, spent on loading and saving.

        Raises:
            CheckpointMissing: Its save was deleted meanwhile.
            OSError: The storage does not take it.
        """
        if not self._bytes:
            return {"checkpoint_seconds": self._seconds} if self._seconds else {}
        with self._timed():
            self._store.promote(self._key)
        return {"checkpoint_bytes": self._bytes, "checkpoint_seconds": self._seconds}

    def _found(self, parents: Sequence[str]) -> list[Checkpoint]:
        try:
            return [self._store.load(self._key, partial=True)]
        except CheckpointMissing:
            pass
        except CheckpointCorrupt as error:
            logger.warning("passed over: %s", error)
        found = []
        for parent in parents:
            try:
                found.append(self._store.load(parent))
            except CheckpointMissing as error:
                if self._required:
                    raise
                logger.warning("training starts without it: %s", error)
        return found

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - start


def _name(path: str) -> str:
    return path.rpartition("/")[2]
