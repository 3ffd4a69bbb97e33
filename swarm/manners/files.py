"""Files that a user has named: whether they are there, and how they are written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from swarm.errors import InvalidInput


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there: False, too, where the system refuses the name, as one of more than 255 bytes.

    Before Python 3.14 ``Path.is_file()`` raises OSError then, and where a folder may not be looked into.
    """
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is there, as :func:`is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder is there, as :func:`is_file`."""
    return os.path.exists(path)  # noqa: PTH110


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
        if not is_folder(target.parent):
            why = f"there is no folder {target.parent}; make it, mkdir -p {target.parent}, or name another"
        elif isinstance(error, IsADirectoryError):
            why = f"that is a folder; name a file in it, such as {target / 'file'}{target.suffix}"
        raise InvalidInput(f"cannot write {target}: {why}") from None


def check_writable(path: str | Path) -> None:
    """See that a file can be written somewhere, before the work whose outcome it is to hold.

    Raises:
        InvalidInput: It cannot; the text says what to do.
    """
    with writing(path) as target:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(target if target.exists() else target.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
