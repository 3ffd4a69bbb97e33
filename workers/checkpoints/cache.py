"""This machine's copies of checkpoints whose storage is elsewhere: who continues here need not fetch them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

from swarm.workers.node.private import check_private, private_folder

LIMIT_BYTES = 4 << 30
_FOLDER = "SWARM_COPIES"


class Copies:
    """The files of one storage that were written or read on this machine, the latest of them.

    They lie in a folder of the user's in the temporary directory, or in the one that ``SWARM_COPIES`` names, and all
    workers of this machine share them. A copy is a convenience: if there is no room for one, or if somebody else has
    made the folder, there is none.

    Args:
        url: Of the storage.
        limit: Bytes to keep; the copies that nobody has used for longest go first.
    """

    def __init__(self, url: str, limit: int = LIMIT_BYTES) -> None:
        self._name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._limit = limit

    @property
    def _folder(self) -> Path:
        """Where they lie, which is for nobody else to read or write.

        Raises:
            OSError: Somebody else has made it, or it cannot be made.
        """
        given = os.environ.get(_FOLDER)
        folder = Path(given or private_folder("swarm-copies"), self._name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_private(folder)
        return folder

    def get(self, name: str) -> bytes | None:
        """The copy of that name, or None."""
        try:
            path = self._folder / name
            content = path.read_bytes()
            os.utime(path)  # it was of use
        except OSError:
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a copy, whole or not at all."""
        with contextlib.suppress(OSError):
            folder = self._folder
            temporary = folder / f"{name}.{uuid.uuid4().hex}.tmp"
            temporary.write_bytes(content)
            temporary.rename(folder / name)
            self._make_room(folder)

    def rename(self, name: str, new: str) -> None:
        """What has another name there has it here, too."""
        with contextlib.suppress(OSError):
            folder = self._folder
            (folder / name).rename(folder / new)

    def drop(self, name: str) -> None:
        """There is no use for this copy any more."""
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    def _make_room(self, folder: Path) -> None:
        files = [(entry.stat(), Path(entry.path)) for entry in os.scandir(folder)]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self._limit:
                return
            total -= stat.st_size
            path.unlink(missing_ok=True)
