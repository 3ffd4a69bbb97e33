"""How the live pages look, in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.document import Document
from bokeh.layouts import row
from bokeh.models import Text
from bokeh.models.layouts import LayoutDOM, Row
from bokeh.plotting import figure
from bokeh.themes import Theme

LIGHT = Theme(
    json={
        "attrs": {
            "Plot": {"background_fill_color": None, "border_fill_color": None, "min_border_right": 16},
            "Grid": {"grid_line_alpha": 0.5},
            "Legend": {"border_line_color": None, "padding": 2},
            "Toolbar": {"logo": None},
        }
    }
)
_INK, _LINE = "#d8dbe0", "#4a4f57"
DARK = Theme(
    json={
        "attrs": {
            "Plot": {
                "background_fill_color": None,
                "border_fill_color": None,
                "outline_line_color": _LINE,
                "min_border_right": 16,
            },
            "Grid": {"grid_line_color": _LINE, "grid_line_alpha": 0.6},
            "Axis": {
                "axis_label_text_color": _INK,
                "major_label_text_color": _INK,
                "axis_line_color": _LINE,
                "major_tick_line_color": _LINE,
                "minor_tick_line_color": None,
            },
            "Legend": {"label_text_color": _INK, "background_fill_alpha": 0.0, "border_line_color": None},
            "Title": {"text_color": _INK},
            "ColorBar": {"background_fill_alpha": 0.0, "major_label_text_color": _INK, "title_text_color": _INK},
            "Toolbar": {"logo": None},
        }
    }
)

# Inherited by whatever has a shadow root of its own.
PAGE = """
:root { color-scheme: light;
   --ink: #24292f; --paper: #fff; --line: #8885; --link: #0550ae; --field: #fff; --edge: #b8bcc2; }
:root.dark { color-scheme: dark;
   --ink: #d8dbe0; --paper: #16191d; --line: #4a4f57; --link: #79b8ff; --field: #22262c; --edge: #4a4f57; }
body { font-family: system-ui, sans-serif; color: var(--ink); background: var(--paper); display: flex;
  flex-direction: column; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center; padding: 6px 12px;
  border-bottom: 1px solid var(--line); font-size: 14px; }
header b { font-size: 15px; }
header a, a { color: var(--link); text-decoration: none; }
header a:hover { text-decoration: underline; }
header .right { margin-left: auto; }
main { flex: 1; min-height: 0; padding: 4px 12px; }
"""
WIDGETS = """
.bk-input, .bk-btn, .bk-tab.bk-active {
  color: var(--ink, #24292f) !important; background-color: var(--field, #fff) !important; }
.bk-input, .bk-btn, .bk-tab { border-color: var(--edge, #ccc) !important; }
.bk-tab.bk-active { font-weight: 600; box-shadow: inset 0 3px 0 var(--link, #0550ae) !important; }
select.bk-input { appearance: auto !important; background-image: none !important; }
.bk-header { overflow-x: auto !important; }
"""
TABLE = """
:host { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; opacity: .8; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid #8885; vertical-align: top; }
h3 { margin: 8px 0; } h4 { margin: 12px 0 2px; }
a { color: var(--link, #0550ae); text-decoration: none; } a:hover { text-decoration: underline; }
small { opacity: .8; }
img { max-width: 100%; background: #fff; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
progress { width: 110px; }
.state { padding: 1px 8px; border-radius: 9px; background: #8883; }
.state.active { background: #0072b233; }
.state.finished { background: #009e7333; }
.state.failed, .state.unattended { background: #d55e0044; }
.state.paused { background: #e69f0044; }
"""
TABLE_ROWS = """
.slick-header-column, .slick-row, .slick-cell, .slick-viewport, .bk-data-table {
  background: var(--paper, #fff) !important; color: var(--ink, #24292f) !important; }
.slick-header-column, .slick-cell { border-color: #8885 !important; }
.slick-row { cursor: pointer; }
.slick-row:hover .slick-cell, .slick-cell.selected { background: #0072b233 !important; }
"""
HEAD = """
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{{ page_style }}</style>
<script>
  const asked = new URL(location).searchParams.get("theme");
  if (asked === null && matchMedia("(prefers-color-scheme: dark)").matches) {
    const where = new URL(location); where.searchParams.set("theme", "dark"); location.replace(where);
  }
  if (asked === "dark") document.documentElement.classList.add("dark");
  const otherTheme = () => {
    const where = new URL(location);
    where.searchParams.set("theme", asked === "dark" ? "light" : "dark"); location = where;
  };
</script>
{% endblock %}
{% block contents %}
<header>
  <b>dask-swarm</b> <span>{{ place | e }}</span>
  {% for name, where in links %}<a href="{{ where | e }}">{{ name | e }}</a>{% endfor %}
  <a class="right" href="javascript:otherTheme()" id="theme">{{ "light" if dark else "dark" }}</a>
</header>
<main>{{ super() }}</main>
{% endblock %}
"""
"""Template of a page: what it is a page of, links, and its theme, which is the system's unless the address says one."""


def tiled(parts: Sequence[LayoutDOM]) -> Row:
    """Parts side by side as far as there is room, below each other where there is none."""
    for part in parts:
        if part.width is None:
            part.update(sizing_mode="stretch_width", min_width=280)
    beside: Row = row(*parts, sizing_mode="stretch_width", spacing=12, styles={"flex-wrap": "wrap"})
    return beside


def write_on(document: Document | None, plot: figure) -> None:
    """Give texts among the data of a figure, which no theme does, a colour that is read on a dark page."""
    if document is not None and document.theme is DARK:
        for drawn in plot.renderers:
            if isinstance(drawn.glyph, Text):
                drawn.glyph.text_color = _INK
