"""What the long-running commands say: lines for people, or lines of JSON for programs that collect logs."""

from __future__ import annotations

import logging.config
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer


class LogFormat(StrEnum):
    """How the long-running commands log."""

    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[
    LogFormat, typer.Option(envvar="SWARM_LOG_FORMAT", help="json: a JSON object per line, on standard error.")
]

_DASK_LOGGERS = ("distributed", "bokeh", "tornado")


def start_logging(log_format: LogFormat, role: str, level: str, say: Callable[[str], None]) -> Callable[[str], None]:
    """Set up the logs of this process, and of those that it starts.

    Args:
        log_format: How to log.
        role: What this process is, such as ``master``; part of every line of JSON.
        level: What Dask logs, at least.
        say: Tells people something.

    Returns:
        What says something from now on.
    """
    if log_format is LogFormat.TEXT:
        from swarm.config import quiet_dask

        quiet_dask(level)
        return say
    import dask

    settings = _json_settings(role, level.upper())
    os.environ["DASK_LOGGING"] = repr(settings)  # for the processes that are started from here
    dask.config.set({"logging": settings})  # for the import of distributed, which would have its own
    logging.config.dictConfig(settings)
    return logging.getLogger(f"swarm.{role}").info


def _json_settings(role: str, level: str) -> dict[str, Any]:
    """Settings for :func:`logging.config.dictConfig`."""
    json = {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "fmt": "%(levelname)s %(name)s %(process)d %(message)s",
        "rename_fields": {"levelname": "level", "name": "logger"},
        "static_fields": {"role": role},
        "timestamp": "time",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": json},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {name: {"level": level} for name in _DASK_LOGGERS},
    }
