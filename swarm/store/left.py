"""What a training has left, as the pages show it: what it printed, its files, and of these what can be seen at once."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Self

Content = bytes
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
TEXTS = (".txt", ".csv", ".tsv", ".json", ".md", ".log", ".yaml", ".yml")
SHOWN_PICTURES, SHOWN_TEXTS = 12, 4
"""How many of each are shown."""
LONGEST_TEXT = 1 << 12
"""Bytes of a text that are shown."""
LARGEST_SENT, ALL_SENT, FILES_SENT = 1 << 20, 2 << 20, 500
"""Bytes of the largest picture that travels to a scheduler's pages, of all of a trial, and files that are named."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that a training has left.

    Attributes:
        name: What the training called it.
        bytes: Its size.
        content: The whole of a picture, or the beginning of a text; None if that is not at hand.
    """

    name: str
    bytes: int
    content: Content | None = None

    @property
    def kind(self) -> str:
        """The end of its name."""
        return PurePath(self.name).suffix.lower()


@dataclass(frozen=True, slots=True)
class Left:
    """What a training has left.

    Attributes:
        printed: What it printed.
        files: Its files, by name.
    """

    printed: str = ""
    files: tuple[File, ...] = ()

    @property
    def pictures(self) -> Sequence[File]:
        """The files that may be shown as pictures."""
        return [file for file in self.files if file.kind in PICTURES][:SHOWN_PICTURES]

    @property
    def texts(self) -> Sequence[File]:
        """The files whose beginnings may be shown."""
        return [file for file in self.files if file.kind in TEXTS][:SHOWN_TEXTS]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        files = [
            [file.name, file.bytes, None if file.content is None else b64encode(file.content).decode("ascii")]
            for file in self.files
        ]
        return {"printed": self.printed, "files": files}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave.

        Raises:
            ValueError, TypeError, KeyError: It is none.
        """
        files = [
            File(str(name), int(size), None if content is None else b64decode(content, validate=True))
            for name, size, content in data["files"]
        ]
        return cls(str(data["printed"]), tuple(files))
