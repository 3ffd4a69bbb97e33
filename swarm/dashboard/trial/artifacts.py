"""The files that a training left, on the page of its trial: pictures and short texts to be seen, all to be downloaded.

The files come from a user's training, and nobody vouches for them: the browser may show a picture, and run nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import quote

from tornado.web import HTTPError, RequestHandler

from swarm.dashboard.board import Shows
from swarm.plots.units import size
from swarm.store.left import LONGEST_TEXT, PICTURES, File, Left

_LARGEST_PICTURE = 8 << 20  # bytes that are shown
_ANYTHING = "application/octet-stream"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def left_html(board: Shows, key: str, left: Left | str) -> str:
    """What a training has left, as HTML: its files, and what it printed; nothing if there is nothing."""
    if isinstance(left, str):
        return f"<p><small>{escape(left)}</small></p>" if left else ""
    parts = [*_pictures(board, key, left), *_texts(left)]
    rows = "".join(f"<tr><td>{_link(board, key, each)}</td><td>{size(each.bytes)}</td></tr>" for each in left.files)
    files = f"<h4>files</h4>{''.join(parts)}<table>{rows}</table>" if left.files else ""
    return files + (f"<h4>output</h4><pre>{escape(left.printed)}</pre>" if left.printed else "")


def address(key: str, file: File) -> str:
    """Where :func:`route` has a file of an evaluation."""
    return f"files/{key}/{quote(file.name, safe='')}"


def _link(board: Shows, key: str, file: File) -> str:
    where = board.address(key, file)
    if where is None or where.startswith("data:"):  # it is there already
        return escape(file.name)
    return f"<a href='{escape(where)}' download>{escape(file.name)}</a>"


def _pictures(board: Shows, key: str, left: Left) -> Iterator[str]:
    for each in left.pictures:
        where, name = board.address(key, each), escape(each.name)
        if where is not None and each.bytes <= _LARGEST_PICTURE:
            yield f"<p><img src='{escape(where)}' alt='{name}' title='{name}' loading='lazy'></p>"


def _texts(left: Left) -> Iterator[str]:
    """The beginnings of texts."""
    for each in left.texts:
        if each.content is not None:
            more = "\n…" if each.bytes > LONGEST_TEXT else ""
            text = escape(each.content.decode("utf-8", "replace"))
            yield f"<p><small>{escape(each.name)}</small></p><pre>{text}{more}</pre>"


class HasFiles(Protocol):
    """Knows the files of trainings."""

    def content(self, key: str, name: str) -> bytes | None:
        """What is in a file of an evaluation; None if there is none."""


class _Files(RequestHandler):
    """Sends one file."""

    def initialize(self, board: HasFiles) -> None:
        self._board = board

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def get(self, key: str, name: str) -> None:
        """The file; 404 if there is none."""
        content = self._board.content(key, name)
        if content is None:
            raise HTTPError(404)
        kind = PICTURES.get(PurePath(name).suffix.lower(), _ANYTHING)
        self.set_header("Content-Type", kind)
        how = "attachment" if kind == _ANYTHING else "inline"
        self.set_header("Content-Disposition", f"{how}; filename*=UTF-8''{quote(name, safe='')}")
        self.finish(content)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say so in a word: the page says the rest."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}\n")


def route(board: HasFiles) -> tuple[str, type[RequestHandler], dict[str, Any]]:
    """Where the files are, for Bokeh's server."""
    return r"/files/([0-9a-f]{8,64})/([^/]+)", _Files, {"board": board}
