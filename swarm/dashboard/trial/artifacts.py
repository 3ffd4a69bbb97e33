"""The files that a training left, on the page of its trial: pictures and short texts to be seen, all to be downloaded.

The files come from a user's training, and nobody vouches for them: the browser may show a picture, and run nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tornado.web import HTTPError, RequestHandler

from swarm.dashboard.board import Shows
from swarm.plots.units import size

if TYPE_CHECKING:
    from swarm.runs.artifacts import Artifact

_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
_TEXTS = (".txt", ".csv", ".tsv", ".json", ".md", ".log", ".yaml", ".yml")
_SHOWN_PICTURES, _SHOWN_TEXTS = 12, 4  # on the page of a trial
_LARGEST_PICTURE, _LONGEST_TEXT = 8 << 20, 1 << 12  # bytes that are shown
_ANYTHING = "application/octet-stream"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def artifacts_html(board: Shows, key: str) -> str:
    """The files of a training, as HTML; nothing if there are none."""
    found = board.artifacts(key)
    pictures = [each for each in found if _kind(each.name) in _PICTURES and each.bytes <= _LARGEST_PICTURE]
    texts = [each for each in found if _kind(each.name) in _TEXTS]
    parts = [*map(_picture, pictures[:_SHOWN_PICTURES]), *_texts(board, texts[:_SHOWN_TEXTS])]
    rows = "".join(f"<tr><td>{_link(each)}</td><td>{size(each.bytes)}</td></tr>" for each in found)
    return f"<h4>files</h4>{''.join(parts)}<table>{rows}</table>" if found else ""


def _kind(name: str) -> str:
    return PurePath(name).suffix.lower()


def _address(artifact: Artifact) -> str:
    return escape(f"files/{artifact.key}/{quote(artifact.name, safe='')}")


def _link(artifact: Artifact) -> str:
    return f"<a href='{_address(artifact)}' download>{escape(artifact.name)}</a>"


def _picture(artifact: Artifact) -> str:
    name = escape(artifact.name)
    return f"<p><img src='{_address(artifact)}' alt='{name}' title='{name}' loading='lazy'></p>"


def _texts(board: Shows, found: list[Artifact]) -> Iterator[str]:
    """The beginnings of texts."""
    for each in found:
        text = (board.content(each.key, each.name, _LONGEST_TEXT) or b"").decode("utf-8", "replace")
        more = "\n…" if each.bytes > _LONGEST_TEXT else ""
        yield f"<p><small>{escape(each.name)}</small></p><pre>{escape(text)}{more}</pre>"


class _Files(RequestHandler):
    """Sends one file."""

    def initialize(self, board: Shows) -> None:
        self._board = board

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def get(self, key: str, name: str) -> None:
        """The file; 404 if there is none."""
        content = self._board.content(key, name)
        if content is None:
            raise HTTPError(404)
        kind = _PICTURES.get(_kind(name), _ANYTHING)
        self.set_header("Content-Type", kind)
        how = "attachment" if kind == _ANYTHING else "inline"
        self.set_header("Content-Disposition", f"{how}; filename*=UTF-8''{quote(name, safe='')}")
        self.finish(content)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say so in a word: the page says the rest."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}\n")


def route(board: Shows) -> tuple[str, type[RequestHandler], dict[str, Any]]:
    """Where the files are, for Bokeh's server."""
    return r"/files/([0-9a-f]{8,64})/([^/]+)", _Files, {"board": board}
