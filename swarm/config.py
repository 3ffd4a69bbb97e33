"""Settings of the service, as the part ``swarm`` of Dask's configuration; ``swarm.yaml`` beside this file lists them.

Dask reads ``/etc/dask``, ``~/.config/dask``, and the file or folder that ``DASK_CONFIG`` names; the environment comes
last, so that ``DASK_SWARM__STORE=sqlite:///mine.db`` sets ``swarm.store``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationError

from swarm.errors import InvalidInput
from swarm.manners.noise import LOGGING, NOISY

_DEFAULTS = Path(__file__).with_name("swarm.yaml")
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the master decides what runs again
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,  # samples the stack a hundred times a second
    "distributed.scheduler.worker-ttl": "1 minute",  # a worker that hangs is restarted then
    "distributed.admin.tick.limit": "1h",
    "distributed.diagnostics.nvml": False,  # Dask asks the driver in its event loop, which then hangs with it
}
ROUTES = "distributed.scheduler.http.routes"


def _dask() -> Any:
    """Dask, which is imported when a setting is read: a training's process, which reads none, does without."""
    import dask
    import dask.utils

    return dask


def _seconds(value: Any) -> Any:
    """A time such as ``365 days`` in seconds; anything else as it is, for pydantic to judge."""
    try:
        return _dask().utils.parse_timedelta(value, default="s") if isinstance(value, str) else value
    except (KeyError, ValueError, OverflowError):
        return value


def seconds_of(option: str, text: str) -> float:
    """A time such as ``90s``, ``10 minutes`` or ``11.5h`` in seconds, as Dask reads it; a number is seconds.

    Args:
        option: Where it was given, for the error.
        text: What was given.

    Raises:
        InvalidInput: It is no time.
    """
    found = _seconds(text.strip() or "none")
    if not isinstance(found, int | float) or not 0 <= found < math.inf:
        raise InvalidInput(f"--{option} is a time such as 90s, 10m or 11.5h, not {text!r}")
    return float(found)


class Limits(BaseModel):
    """How large a job may be; a larger one is refused where it is made, and where a master reads it.

    Attributes:
        max_specification: Bytes of a job apart from its code: of its file, and of what is stored of it, as JSON.
        max_depth: Mappings and lists of a job inside each other.
        max_parameters: Hyper-parameters of a search space.
        max_options: Options of a choice, and values of a condition.
        max_population: What a method keeps at a time, over all demes and folds: particles, individuals, candidates.
        max_numbers: That population times the hyper-parameters that are searched.
        max_repeats: Trainings of one trial: folds times repeats.
        max_evaluations: Trainings that a method may plan in all.
    """

    model_config = ConfigDict(frozen=True)

    max_specification: ByteSize = Field(ge=1000)
    max_depth: int = Field(ge=5, le=200)
    max_parameters: int = Field(ge=1)
    max_options: int = Field(ge=2)
    max_population: int = Field(ge=1)
    max_numbers: int = Field(ge=1)
    max_repeats: int = Field(ge=1)
    max_evaluations: int = Field(ge=1, le=2**53)


class Settings(Limits):
    """What the configuration says, checked: the limits of a job, and what follows.

    Attributes:
        scheduler_address: Address of the Dask scheduler; None if nobody has named one.
        store: Store of jobs, journals and the archive: a URL, or the path of an SQLite file.
        store_timeout_seconds: A statement that a server of the store has not answered for so long has failed.
        store_patience_seconds: A run of one's own waits so long for a store that is locked or away.
        client_patience_seconds: A client waits so long for a scheduler or a master that is still starting.
        first_contact_seconds: A worker or a master that has never reached its scheduler gives up after so long; None:
            it never does.
        keep_ended: Seconds for which the service keeps jobs that have ended; None keeps them for ever. A text such as
            ``365 days`` says it as well.
        results: Folder that all workers see, where finished evaluations are committed; None commits none.
        checkpoints: URL or folder that all workers see, for the checkpoints of slices; None keeps none.
        checkpoint_places: URLs or folders where, or below which, jobs may have their checkpoints; None leaves them the
            choice.
        admins: Common names of certificates whose owners may steer everybody's jobs.
        shared: With TLS, everybody who has a certificate may read the parameters and events of everybody's jobs;
            otherwise their owners and administrators alone.
        max_submission: Largest job that the master takes, in bytes.
        max_jobs: Jobs that have not ended, of all users.
        max_jobs_per_user: Those of one user.
        max_code: Code of the jobs that have not ended, of all users, in bytes.
        max_code_per_user: That of one user.
        max_requests: Requests that wait for the master, of all users.
        max_requests_per_user: Those of one user.
        max_request_bytes: What they hold, of all users.
        max_request_bytes_per_user: What those of one user hold.
        max_checkpoint: Largest checkpoint that is read into memory, in bytes.
        max_artifacts: Bytes of the files that one training may leave; more are not kept.
        lease_seconds: A standby takes over when the master has been silent for so long.
        worker_ttl_seconds: A worker that has been silent for so long, but no less than five seconds, is restarted.
        notify_hosts: Hosts to which the master may post what jobs want to have told (``notify``).
        insecure: Without TLS, serve others than this machine.
        dashboard_hosts: Host names by which browsers reach the dashboard, beside this machine's own.
        dashboard_token: Who knows it may steer jobs on the pages; None lets them only show.
        dashboard_user: With whose rights; None is an administrator's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler_address: str | None
    store: str = Field(min_length=1)
    store_timeout_seconds: float = Field(gt=0, allow_inf_nan=False)
    store_patience_seconds: float = Field(ge=0, allow_inf_nan=False)
    client_patience_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    first_contact_seconds: float | None = Field(default=60.0, ge=0, allow_inf_nan=False)
    keep_ended: Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)] | None
    results: str | None
    checkpoints: str | None
    checkpoint_places: tuple[str, ...] | None
    admins: tuple[str, ...]
    shared: bool = False
    max_submission: ByteSize
    max_jobs: int = Field(ge=1)
    max_jobs_per_user: int = Field(ge=1)
    max_code: ByteSize
    max_code_per_user: ByteSize
    max_requests: int = Field(ge=1)
    max_requests_per_user: int = Field(ge=1)
    max_request_bytes: ByteSize
    max_request_bytes_per_user: ByteSize
    max_checkpoint: ByteSize = ByteSize(16 << 30)
    max_artifacts: ByteSize = Field(default=ByteSize(64 << 20), ge=1 << 20)
    lease_seconds: float = Field(gt=0, allow_inf_nan=False)
    worker_ttl_seconds: float = Field(gt=0, allow_inf_nan=False)
    notify_hosts: tuple[str, ...] = ()
    insecure: bool
    dashboard_hosts: tuple[str, ...] = ()
    dashboard_token: str | None = Field(default=None, min_length=8, repr=False)
    dashboard_user: str | None = Field(default=None, min_length=1)


def limits() -> Limits:
    """How large a job may be, by the settings in force now. Unlike :func:`settings` this leaves no copy of them.

    Raises:
        InvalidInput: One of them has a value that cannot be.
    """
    said = _dask().config.get("swarm", None)
    found = {key.replace("-", "_"): value for key, value in _shipped().items()}
    found |= {str(key).replace("-", "_"): value for key, value in said.items()} if isinstance(said, Mapping) else {}
    try:
        return Limits.model_validate(found)
    except ValidationError as error:
        raise InvalidInput(_first(error)) from None


def settings() -> Settings:
    """The settings in force now; those of ``swarm.yaml`` where nobody has said otherwise.

    Raises:
        InvalidInput: The configuration has an unknown key, or a value that cannot be.
    """
    # Merged here once more: whoever called `dask.config.set` before us has taken the defaults along when leaving.
    found = _dask().config.merge({"swarm": _defaults()}, {"swarm": _dask().config.get("swarm", None) or {}})["swarm"]
    if isinstance(found, Mapping):
        found = {key.replace("-", "_"): value for key, value in found.items()}
        found["scheduler_address"] = found["scheduler_address"] or _dask().config.get("scheduler-address", None)
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        raise InvalidInput(_first(error)) from None


@cache
def _defaults() -> dict[str, Any]:
    """What ``swarm.yaml`` says, made known to Dask and to the user's folder of configurations the first time."""
    _dask().config.ensure_file(source=str(_DEFAULTS))
    _dask().config.update_defaults({"swarm": dict(_shipped())})
    return dict(_shipped())


@cache
def _shipped() -> dict[str, Any]:
    """What ``swarm.yaml`` beside this file says."""
    import yaml

    return dict(yaml.safe_load(_DEFAULTS.read_text(encoding="utf-8"))["swarm"])


def _first(error: ValidationError) -> str:
    """The first complaint, in one line."""
    complaint = error.errors()[0]
    key = ".".join(("swarm", *(str(part).replace("_", "-") for part in complaint["loc"])))
    if complaint["type"] == "extra_forbidden":
        fields = sorted(Settings.model_fields, key=Limits.model_fields.__contains__)  # the limits of a job last
        known = ", ".join(name.replace("_", "-") for name in fields)
        return f"Dask's configuration has an unknown key {key!r}; known are {known}"
    return f"Dask's configuration of {key!r}: {complaint['msg']}, got {complaint['input']!r}"


def scheduler_settings() -> dict[str, Any]:
    """Those of Dask's scheduler where it is ours, with the swarm's pages."""
    import distributed  # noqa: F401 - its own settings must be there before ours

    routes = _dask().config.get(ROUTES)
    return {**SETTINGS, ROUTES: routes if "swarm.scheduler" in routes else [*routes, "swarm.scheduler"]}


def quiet_dask(level: str = "critical") -> None:
    """Let Dask log from ``level`` on, here and in the workers that are started from here, for good.

    That is for a process of ours; in a process of the user's see :mod:`swarm.manners.guest`. Whoever has set
    ``DASK_LOGGING__DISTRIBUTED`` wants it otherwise, and gets it.
    """
    if LOGGING in os.environ:
        return
    os.environ[LOGGING] = level  # for the worker processes
    _dask().config.set({"logging.distributed": level})  # for the import of distributed, which sets the levels
    for name in NOISY:
        logging.getLogger(name).setLevel(level.upper())
