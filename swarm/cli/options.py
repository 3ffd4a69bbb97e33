"""What commands of several modules take: nothing here, and nothing at the top of those modules, takes long to import.

A command imports what it needs when it runs, so that ``swarm --help`` and the completion of words come at once, and a
worker starts without what only a report needs. ``tests/test_architecture.py`` holds that.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

STORE = "sqlite:///swarm.db"  # as swarm.runs has it

StoreOption = Annotated[str, typer.Option("--store", help="Store: sqlite:///FILE, a file name, or postgresql://…")]
AddressOption = Annotated[
    str | None,
    typer.Option("--scheduler", help="The scheduler's address; left out, DASK_SCHEDULER_ADDRESS.", show_default=False),
]
AddressArgument = Annotated[
    str | None,
    typer.Argument(metavar="[tcp://HOST:PORT]", help="The same as --scheduler.", show_default=False),
]


class Baseline(StrEnum):
    """What a run may be compared with."""

    RANDOM = "random"


SettingsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the file to change: optimizer.particles=12."),
]
