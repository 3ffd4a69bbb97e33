"""Files that a training leaves for people to look at: a picture, a table, a model. They are kept beside its result.

Nothing that is wrong with such a file may cost a training: what is not kept is said in the training's output.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LIMIT_BYTES = 64 << 20  # of all files of a training, where nobody says otherwise
MOST_FILES = 100
_LIMIT = "swarm.max-artifacts"
_ALWAYS = 1 << 20  # bytes that are kept whatever it says
_PART = 1 << 20
_LONGEST_NAME = 200  # bytes
_BEGUN = "."  # what the names of files begin with that are not whole yet


class Artifacts:
    """The files that one training leaves, in a folder of their own.

    Args:
        folder: The folder, which need not exist; None where no folder is known that all workers see.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._tidied = False

    def keep(self, path: str | os.PathLike[str], name: str | None = None) -> bool:
        """Copies a file into the folder, under its name or another one; whether that was done.

        It raises nothing, and says on stderr why a file is not kept.
        """
        said = str(path)
        try:
            said = name or os.path.basename(os.fspath(path))  # noqa: PTH119 - a Path has no name of ".."
            self._copy(path, _checked(said))
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            print(f"swarm: {said!r} is not kept: {reason}", file=sys.stderr, flush=True)
            return False
        return True

    def _copy(self, path: str | os.PathLike[str], name: str) -> None:
        if self._folder is None:
            raise ValueError(
                "no folder is known for it that all workers see: a service has one with swarm master --results FOLDER, "
                "a run of your own beside a store in a file"
            )
        with _opened(path) as source:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            others = [
                each.stat(follow_symlinks=False).st_size for each in os.scandir(self._folder) if each.name != name
            ]
            if len(others) >= MOST_FILES:
                raise ValueError(f"the training has left {MOST_FILES} files already, which is the most")
            begun = self._folder / f"{_BEGUN}{uuid.uuid4().hex}"
            try:
                with begun.open("xb") as target:
                    _copy(source, target, sum(others))
                    target.flush()
                    os.fsync(target.fileno())  # else a power cut could leave the name without the content
                begun.replace(self._folder / name)
            finally:
                begun.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Removes what an attempt at this training that was killed has left half-written."""
        assert self._folder is not None
        if not self._tidied:
            for each in self._folder.glob(f"{_BEGUN}*"):
                each.unlink(missing_ok=True)
        self._tidied = True


def _checked(name: str) -> str:
    """The name of a file that lies in a folder, and nowhere else.

    Raises:
        ValueError: It is none.
    """
    if not name or name.startswith(_BEGUN) or any(each in name for each in "/\\") or not name.isprintable():
        raise ValueError("a name has no folders in it, begins with no dot, and can be printed: give one, name=…")
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        raise ValueError(f"a name has at most {_LONGEST_NAME} bytes: give a shorter one, name=…")
    return name


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[int]:
    """A file to be read, which does not wait for anybody to write."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise ValueError("it is a folder: make one file of it, as shutil.make_archive does")
        if not stat.S_ISREG(kind):
            raise ValueError("it is no file")
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(source: int, target: IO[bytes], others: int) -> None:
    """Copies what is left to read, unless that is too much.

    Raises:
        ValueError: With the others it would have more bytes than the setting allows.
    """
    size = os.fstat(source).st_size
    _check_size(size, others)
    while part := os.read(source, _PART):
        target.write(part)
        if target.tell() > size:  # somebody is writing it still
            _check_size(target.tell(), others)


def _check_size(size: int, others: int) -> None:
    """Refuse a file with which a training would leave too much.

    Args:
        size: Its bytes.
        others: Those of the other files of the training.

    Raises:
        ValueError: Together they are more than the setting ``swarm.max-artifacts`` allows; 64 MiB if left out.
    """
    if size + others <= _ALWAYS:  # so that most need not look for settings
        return
    import dask
    from dask.utils import parse_bytes

    limit = parse_bytes(dask.config.get(_LIMIT, LIMIT_BYTES))
    if size + others > limit:
        raise ValueError(
            f"it has {size / 1e6:.1f} MB, the other files of this training {others / 1e6:.1f} MB, and the setting "
            f"{_LIMIT} allows {limit / 1e6:.1f} MB in all"
        )
