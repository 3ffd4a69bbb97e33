"""Files that a user has named, to be written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from swarm.errors import InvalidInput


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """The path, while a file or folder is written there.

    Raises:
        InvalidInput: It cannot be written; the text says what to do.
    """
    target = Path(path)
    try:
        yield target
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        if not target.parent.is_dir():
            why = f"there is no folder {target.parent}; make it, mkdir -p {target.parent}, or name another"
        elif isinstance(error, IsADirectoryError):
            why = f"that is a folder; name a file in it, such as {target / 'file'}{target.suffix}"
        raise InvalidInput(f"cannot write {target}: {why}") from None
