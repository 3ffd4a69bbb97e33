"""Text of others, as a terminal may show it: as text.

A name, an option of a choice, a metric or an error may hold anything: markup of rich, escape sequences that clear the
screen or set its title, characters that turn the direction of a line round, line breaks that look like another row.
"""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats such as bidi overrides, surrogates, separators


def printable(text: str, keep: str = "") -> str:
    """The text, in which characters that are not printed are written as Python writes them.

    Args:
        text: Any text.
        keep: Characters to leave as they are, such as line breaks.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in _HIDDEN else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def line(value: Any, style: str = "") -> Text:
    """A value in one line, as text."""
    return Text(printable(str(value)), style=style)


def lines(value: Any, style: str = "") -> Text:
    """A value as text, with its line breaks."""
    return Text(printable(str(value), keep="\n\t"), style=style)


class Console(RichConsole):
    """A console on which text is text: it knows no markup, and lets through no control characters but its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What a renderable looks like."""
        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                yield segment._replace(text=printable(segment.text, keep="\n\t"))
            else:
                yield segment


def console() -> Console:
    """The terminal, or a file or pipe that is wide enough for a table and flushed line by line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows each generation as it ends
    return Console(width=None if sys.stdout.isatty() else 120)
