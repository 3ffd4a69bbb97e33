"""What a job says of its data, which code cannot show: a version, and files whose content counts."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from swarm.errors import InvalidJob
from swarm.manners.files import is_there


def digest(version: Any, files: Any, folder: Path) -> str | None:
    """A digest of both; None if nothing is said.

    Args:
        version: Any text or number, or None.
        files: Names of files and folders, or patterns, whose content counts.
        folder: What they are relative to.

    Raises:
        InvalidJob: They are none, or name nothing.
    """
    if version is not None and (isinstance(version, bool) or not isinstance(version, str | int | float)):
        raise InvalidJob(f"version is a text or a number, not {version!r}")
    if not isinstance(files, list | tuple) or not all(isinstance(each, str | PurePath) and str(each) for each in files):
        raise InvalidJob(f"files is a list of names or patterns, such as [data/*.npz], not {files!r}")
    if version is None and not files:
        return None
    parts = [
        f"{type(version).__name__} {version!r}",
        *(part for each in files for part in _contents(str(each), folder)),
    ]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def _contents(pattern: str, folder: Path) -> Iterator[str]:
    """Names, below the folder that they have in common, and digests of the files that a pattern names."""
    named = folder / Path(pattern).expanduser()
    found = list(_files(named)) if is_there(named) else []
    if not found:
        matched = glob.glob(str(Path(pattern).expanduser()), root_dir=folder, recursive=True)  # noqa: PTH207 - root_dir
        found = [file for each in sorted(matched) for file in _files(folder / each)]
    if not found:
        raise InvalidJob(f"files: {pattern!r} names no file in {folder.absolute()}; what is it relative to?")
    base = os.path.commonpath([file.parent for file in found])
    for file in found:
        try:
            with file.open("rb") as content:
                yield f"{file.relative_to(base)} {hashlib.file_digest(content, 'sha256').hexdigest()}"
        except OSError as error:
            raise InvalidJob(f"files: {file} cannot be read: {error.strerror}") from None


def _files(place: Path) -> list[Path]:
    return [each for each in (sorted(place.rglob("*")) if place.is_dir() else [place]) if each.is_file()]
