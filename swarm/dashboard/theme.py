"""How the live pages look, in light and in dark."""

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
body { font-family: system-ui, sans-serif; color: #24292f; background: #fff; }
body.dark { color: #d8dbe0; background: #16191d; }
body.dark .content { background: #16191d; }
"""
WIDGETS = """
.bk-input, .bk-btn, .bk-tab.bk-active { color: #d8dbe0 !important; background: #22262c !important; }
.bk-input, .bk-btn, .bk-tab { border-color: #4a4f57 !important; }
"""
TABLE = """
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; opacity: .7; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid #8885; vertical-align: top; }
small { opacity: .7; }
progress { width: 110px; }
.state { padding: 1px 8px; border-radius: 9px; background: #8883; }
.state.active { background: #0072b233; }
.state.finished { background: #009e7333; }
.state.failed, .state.unattended { background: #d55e0044; }
.state.paused { background: #e69f0044; }
"""
