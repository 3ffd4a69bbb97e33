"""What trainings have printed and the files that they left, read without trust in names or contents."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from swarm.config import settings
from swarm.store.left import ALL_SENT, FILES_SENT, LARGEST_SENT, LONGEST_TEXT, File, Left
from swarm.store.sql import Store
from swarm.trial import artifacts_in, output_in

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a training has left.

    Attributes:
        key: Key of the evaluation whose training it was.
        path: The file.
        bytes: Its size.
    """

    key: str
    path: Path
    bytes: int

    @property
    def name(self) -> str:
        """What the training called it."""
        return self.path.name


def folders(store: Store, further: str | None = None) -> list[str]:
    """Where what trainings left may lie: beside the store, where the setting ``swarm.results`` says, and further on."""
    beside = None if store.folder is None else str(store.folder / "results")
    return list(dict.fromkeys(place for place in (beside, settings().results, further) if place is not None))


def printed(store: Store, key: str, further: str | None = None) -> str:
    """What the training of an evaluation has printed, where that is kept; else nothing."""
    for folder in folders(store, further):
        with suppress(OSError):
            return Path(output_in(folder, key)).read_text(encoding="utf-8", errors="replace")
    return ""


def artifacts(store: Store, key: str, further: str | None = None) -> list[Artifact]:
    """The files of an evaluation, by name, where they are kept. Links and what is not whole yet are none."""
    for place in (Path(artifacts_in(folder, key)) for folder in folders(store, further)):
        with suppress(OSError):  # there are none, or they are being deleted
            if not place.is_symlink():
                return _files(key, place)
    return []


def left(store: Store, key: str, *, results: str | None = None) -> Left:
    """What the training of an evaluation has left, as much of it as may travel to a scheduler's pages.

    Args:
        store: The store.
        key: Key of the evaluation.
        results: A further folder where it may lie.
    """
    named = [File(each.name, each.bytes) for each in artifacts(store, key, results)[:FILES_SENT]]
    found, room, contents = Left(printed(store, key, results), tuple(named)), ALL_SENT, dict[str, bytes | None]()
    for text in found.texts:
        contents[text.name] = content(store, key, text.name, LONGEST_TEXT, results)
    for picture in found.pictures:
        if picture.bytes > min(room, LARGEST_SENT):
            continue
        read = content(store, key, picture.name, LARGEST_SENT + 1, results)  # it may have grown
        if read is not None and len(read) <= min(room, LARGEST_SENT):
            contents[picture.name] = read
            room -= len(read)
    return replace(found, files=tuple(replace(file, content=contents.get(file.name)) for file in named))


def _files(key: str, folder: Path) -> list[Artifact]:
    with os.scandir(folder) as found:
        files = [each for each in found if is_name(each.name) and each.is_file(follow_symlinks=False)]
        sizes = {each.name: each.stat(follow_symlinks=False).st_size for each in files}
    return [Artifact(key, folder / name, size) for name, size in sorted(sizes.items())]


def content(store: Store, key: str, name: str, most: int | None = None, further: str | None = None) -> bytes | None:
    """What is in a file of an evaluation, on request its beginning; None if there is no such file, or it is a link.

    Args:
        store: The store.
        key: Key of the evaluation.
        name: Name of the file.
        most: At most so many bytes.
        further: A folder where it may lie, beside the usual ones.
    """
    for place in (artifacts_in(folder, key) for folder in folders(store, further) if is_name(name)):
        with suppress(OSError, ValueError):
            return _read(place, name, most)
    return None


def _read(folder: str, name: str, most: int | None) -> bytes:
    """What is in a file.

    Raises:
        OSError: There is none, or only a link.
        ValueError: It is no file.
    """
    place = os.open(folder, _FOLDER)
    try:
        descriptor = os.open(name, _FILE, dir_fd=place)
    finally:
        os.close(place)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name} is no file")
        return file.read(most)


def is_name(name: str) -> bool:
    """Whether a file of that name lies in its folder, and is whole."""
    return bool(name) and not name.startswith(".") and "/" not in name and name.isprintable()
