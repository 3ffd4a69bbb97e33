"""The sections of ``swarm --help``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SECTIONS = {
    "Begin": ("init", "doctor"),
    "Search on this machine, or on a scheduler's workers": ("run", "resume", "import", "show", "best"),
    "Search on a service": (
        "submit",
        "jobs",
        "watch",
        "top",
        "fetch",
        "enqueue",
        "stop",
        "cancel",
        "pause",
        "unpause",
        "share",
        "health",
    ),
    "Run a service": ("scheduler", "master", "worker"),
    "Look at what was found": (
        "dashboard",
        "report",
        "compare",
        "note",
        "export",
        "schedule",
        "replay",
        "architecture",
    ),
    "Keep the store": ("archive", "delete", "check"),
}


class Sections(TyperGroup):
    """A command whose help lists its commands by what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each section; what none names comes last."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        known = {name: command for name, command in commands.items() if command is not None and not command.hidden}
        named = {name for names in SECTIONS.values() for name in names}
        width = formatter.width - 6 - max(len(name) for name in known)
        for title, names in [*SECTIONS.items(), ("Others", tuple(name for name in known if name not in named))]:
            rows = [(name, known[name].get_short_help_str(width)) for name in names if name in known]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
