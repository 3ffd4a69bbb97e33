"""This machine's copies of checkpoints whose storage is elsewhere: who continues here need not fetch them again."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import tempfile
import uuid
from pathlib import Path

LIMIT_BYTES = 4 << 30
_FOLDER = "SWARM_COPIES"


class Copies:
    """The files of one storage that were written or read on this machine, the latest of them.

    They lie in a folder of the user's in the temporary directory, or in the one that ``SWARM_COPIES`` names, and all
    workers of this machine share them. A copy is a convenience: if there is no room for one, there is none.

    Args:
        url: Of the storage.
        limit: Bytes to keep; the copies that nobody has used for longest go first.
    """

    def __init__(self, url: str, limit: int = LIMIT_BYTES) -> None:
        base = os.environ.get(_FOLDER) or f"{tempfile.gettempdir()}/swarm-copies-{getpass.getuser()}"
        self._folder = Path(base, hashlib.sha256(url.encode()).hexdigest()[:16])
        self._limit = limit

    def get(self, name: str) -> bytes | None:
        """The copy of that name, or None."""
        path = self._folder / name
        try:
            content = path.read_bytes()
            os.utime(path)  # it was of use
        except OSError:
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a copy, whole or not at all."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._folder / f"{name}.{uuid.uuid4().hex}.tmp"
            temporary.write_bytes(content)
            temporary.rename(self._folder / name)
            self._make_room()

    def rename(self, name: str, new: str) -> None:
        """What has another name there has it here, too."""
        with contextlib.suppress(OSError):
            (self._folder / name).rename(self._folder / new)

    def drop(self, name: str) -> None:
        """There is no use for this copy any more."""
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    def _make_room(self) -> None:
        files = [(entry.stat(), Path(entry.path)) for entry in os.scandir(self._folder)]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self._limit:
                return
            total -= stat.st_size
            path.unlink(missing_ok=True)
