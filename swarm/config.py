"""Settings of the service, as the part ``swarm`` of Dask's configuration; ``swarm.yaml`` beside this file lists them.

Dask reads ``/etc/dask``, ``~/.config/dask``, and the file or folder that ``DASK_CONFIG`` names; the environment comes
last, so that ``DASK_SWARM__STORE=sqlite:///mine.db`` sets ``swarm.store``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dask
import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from swarm.errors import InvalidInput

_DEFAULTS = Path(__file__).with_name("swarm.yaml")


class Settings(BaseModel):
    """What the configuration says, checked.

    Attributes:
        scheduler_address: Address of the Dask scheduler; None if nobody has named one.
        store: Store of jobs, journals and the archive: a URL, or the path of an SQLite file.
        results: Folder that all workers see, where finished evaluations are committed; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
        admins: Common names of certificates whose owners may steer everybody's jobs.
        max_submission: Largest job that the master takes, in bytes.
        lease_seconds: A standby takes over when the master has been silent for so long.
        worker_ttl_seconds: A worker that has been silent for so long, but no less than five seconds, is restarted.
        insecure: Without TLS, serve others than this machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler_address: str | None
    store: str = Field(min_length=1)
    results: str | None
    checkpoints: str | None
    admins: tuple[str, ...]
    max_submission: ByteSize
    lease_seconds: float = Field(gt=0, allow_inf_nan=False)
    worker_ttl_seconds: float = Field(gt=0, allow_inf_nan=False)
    insecure: bool


def settings() -> Settings:
    """The settings in force now; those of ``swarm.yaml`` where nobody has said otherwise.

    Raises:
        InvalidInput: The configuration has an unknown key, or a value that cannot be.
    """
    # Merged here once more: whoever called `dask.config.set` before us has taken the defaults along when leaving.
    found = dask.config.merge({"swarm": _defaults()}, {"swarm": dask.config.get("swarm", None) or {}})["swarm"]
    if isinstance(found, Mapping):
        found = {key.replace("-", "_"): value for key, value in found.items()}
        found["scheduler_address"] = found["scheduler_address"] or dask.config.get("scheduler-address", None)
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        raise InvalidInput(_first(error)) from None


@cache
def _defaults() -> dict[str, Any]:
    """What ``swarm.yaml`` says, made known to Dask and to the user's folder of configurations the first time."""
    defaults = yaml.safe_load(_DEFAULTS.read_text(encoding="utf-8"))
    dask.config.ensure_file(source=str(_DEFAULTS))
    dask.config.update_defaults(defaults)
    return dict(defaults["swarm"])


def _first(error: ValidationError) -> str:
    """The first complaint, in one line."""
    complaint = error.errors()[0]
    key = ".".join(("swarm", *(str(part).replace("_", "-") for part in complaint["loc"])))
    if complaint["type"] == "extra_forbidden":
        known = ", ".join(name.replace("_", "-") for name in Settings.model_fields)
        return f"Dask's configuration has an unknown key {key!r}; known are {known}"
    return f"Dask's configuration of {key!r}: {complaint['msg']}, got {complaint['input']!r}"
