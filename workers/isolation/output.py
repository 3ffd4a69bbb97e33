"""What trainings print: kept in a file for each, of bounded size."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

_KEPT = 1 << 16  # bytes of the beginning, and as many of the end
_PART = 1 << 16

logger = logging.getLogger("swarm.workers")


class Output:
    """Takes what one training prints, and writes its beginning at once and its end at the end.

    A training that prints nothing has no file. A file that cannot be written costs the output alone.

    Args:
        descriptor: The end to read of the pipe that the training's process prints into.
        path: The file.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self._path = path
        self._begun = False
        self._room = _KEPT
        self._tail = bytearray()
        self._left_out = 0
        self._refused = False

    def take(self) -> bool:
        """Take what is there; whether more may come."""
        try:
            part = os.read(self.descriptor, _PART)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._keep(part)
        return bool(part)

    def end(self) -> None:
        """Take what is there still, and write what was held back."""
        with contextlib.suppress(OSError):  # nothing is there any more
            while part := os.read(self.descriptor, _PART):
                self._keep(part)
        if self._left_out:
            self._write(f"\n… {self._left_out:,} bytes are left out here …\n".encode())
        if self._tail:
            self._write(bytes(self._tail))

    def _keep(self, part: bytes) -> None:
        head, rest = part[: self._room], part[self._room :]
        self._room -= len(head)
        if head:
            self._write(head)
        self._tail += rest
        self._left_out += max(0, len(self._tail) - _KEPT)
        del self._tail[:-_KEPT]

    def _write(self, part: bytes) -> None:
        if self._refused:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab" if self._begun else "wb") as file:
                file.write(part)
            self._begun = True
        except OSError as error:
            self._refused = True
            logger.warning("what a training prints is not kept in %s: %s", self._path, error)
