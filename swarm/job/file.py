"""Reading job files, and what the command line sets in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from swarm.errors import InvalidJob


def read(path: Path, settings: Iterable[str] = ()) -> dict[str, Any]:
    """The data of a job file (YAML or JSON).

    Args:
        path: The file.
        settings: What to set in it, such as ``optimizer.particles=12``: a key, or keys with a dot in between, and a
            value in YAML.

    Raises:
        InvalidJob: The file cannot be read or holds no job, or a setting does not fit it.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidJob(f"cannot read the job file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise InvalidJob(f"{path} is not YAML: {where}") from None
    if not isinstance(data, dict):
        raise InvalidJob(f"{path} holds no job: expected lines like 'name: digits', 'problem: lenet4'")
    for setting in settings:
        _set(data, setting)
    return data


def _set(data: dict[str, Any], setting: str) -> None:
    """Set one value of a job file's data."""
    where, equals, text = setting.partition("=")
    *keys, last = where.strip().split(".")
    if not equals or not all((*keys, last)):
        raise InvalidJob(f"{setting!r} is no setting; write KEY=VALUE, such as optimizer.particles=12")
    for key in keys:
        inner = data.get(key)
        if key == "optimizer" and isinstance(inner, str):
            inner = {"name": inner}
        if not isinstance(inner, dict | None):
            raise InvalidJob(f"{setting!r} sets a part of {key}, but that is {inner!r}")
        data[key] = data = dict(inner or {})
    try:
        data[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InvalidJob(f"the value in {setting!r} is not YAML") from None
