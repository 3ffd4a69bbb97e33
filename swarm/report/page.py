"""Pages that stand alone: one HTML file with everything in it, which asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bokeh.embed import components
from bokeh.models import UIElement
from bokeh.resources import Resources
from bokeh.themes import Theme
from jinja2 import Environment, PackageLoader, StrictUndefined

# Transparent, so that the page's own background shows; in dark mode the page inverts the pictures as a whole.
_FONT = "system-ui, sans-serif"
_THEME = Theme(
    json={
        "attrs": {
            "Plot": {"background_fill_color": None, "border_fill_color": None, "outline_line_color": None},
            "Title": {"text_color": "#222222", "text_font": _FONT, "text_font_size": "11pt"},
            "Axis": {
                "axis_line_color": "#777777",
                "major_tick_line_color": "#777777",
                "minor_tick_line_color": None,
                "axis_label_text_color": "#333333",
                "axis_label_text_font": _FONT,
                "axis_label_text_font_style": "normal",
                "axis_label_text_font_size": "10pt",
                "major_label_text_color": "#333333",
                "major_label_text_font": _FONT,
                "major_label_text_font_size": "9pt",
            },
            "Text": {
                "text_color": "#333333",
                "text_font": {"value": _FONT},
                "text_font_size": {"value": "9pt"},
                "background_fill_color": "#ffffff",
                "background_fill_alpha": 0.75,
            },
            "Grid": {"grid_line_color": "#999999", "grid_line_alpha": 0.25},
            "Legend": {
                "background_fill_alpha": 0.0,
                "border_line_color": None,
                "label_text_color": "#333333",
                "label_text_font": _FONT,
                "label_text_font_size": "9pt",
                "padding": 2,
            },
            "ColorBar": {
                "background_fill_alpha": 0.0,
                "title_text_color": "#333333",
                "title_text_font": _FONT,
                "title_text_font_style": "normal",
                "major_label_text_color": "#333333",
                "major_label_text_font": _FONT,
            },
        }
    }
)


@dataclass(frozen=True)
class Text:
    """A paragraph; a ``warning`` stands out."""

    text: str
    warning: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Facts:
    """Names with what is to be said of each."""

    rows: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first column names the row. A ``folded`` table is opened by a click."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    caption: str
    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Picture:
    """A figure with a caption, which says what it shows to those who cannot see it; ``half`` as wide as the page."""

    plot: UIElement
    caption: str
    half: bool = False
    kind: str = "picture"


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Text | Facts | Table | Code | Picture]

    @property
    def anchor(self) -> str:
        """Its name in an address."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: Heading, and title of the window.
        about: A sentence or two below the heading.
        tiles: The few numbers that matter most: name, value, remark.
        sections: All else.
        footer: Last line.
    """

    title: str
    about: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    footer: str

    def html(self) -> str:
        """The page as one text."""
        pictures = [part for section in self.sections for part in section.parts if isinstance(part, Picture)]
        script, divs = components([picture.plot for picture in pictures], theme=_THEME) if pictures else ("", ())
        library = Resources("inline", components=["bokeh"]).render_js() if pictures else ""
        environment = Environment(
            loader=PackageLoader("swarm", "report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["next"] = next
        template = environment.get_template("report.html")
        return template.render(page=self, divs=iter(divs), number=count(1), script=script, library=library)

    def write(self, file: Path) -> None:
        """Write the page."""
        file.write_text(self.html(), encoding="utf-8")
