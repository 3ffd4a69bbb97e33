"""Folders below the temporary directory, where every user of the machine may put what he likes."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_DASKS = "temporary-directory"


def private_folder(name: str) -> Path:
    """The folder ``name`` of this user's below the temporary directory: made if need be, and closed to others.

    Raises:
        OSError: Somebody else has made it, it is a link, or it cannot be made.
    """
    path = Path(tempfile.gettempdir(), f"{name}-{os.geteuid()}")
    path.mkdir(mode=0o700, exist_ok=True)  # what is there is looked at below
    check_private(path)
    return path


def check_private(path: Path) -> None:
    """See that a folder is ours alone; one of ours that others may enter is closed to them.

    Raises:
        OSError: It is somebody else's, a link, or no folder.
    """
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is a link or a file, which somebody else may have made: remove it")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} was made by user {found.st_uid}: remove it, or set TMPDIR to a folder of yours")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def scratch() -> str:
    """Where Dask has its scratch folders, which it puts into the search path of modules: nobody else may write there.

    Whoever has set Dask's ``temporary-directory`` has chosen.

    Raises:
        OSError: As :func:`private_folder`.
    """
    import dask

    return str(dask.config.get(_DASKS, None) or private_folder("swarm"))
