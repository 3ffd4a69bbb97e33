"""What ``DASK_CONFIG`` names can be read: Dask itself passes over what it cannot read, and goes on without TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swarm.errors import InvalidInput

_VARIABLE = "DASK_CONFIG"
_SUFFIXES = (".yaml", ".yml", ".json")
_FILES = ("ca-file", "cert", "key")
_TLS = "DASK_DISTRIBUTED__COMM__TLS__"
_OWNER = "or run this as the user who may: files for containers belong to the user whose number SWARM_UID says"


def check_readable(role: str, environment: Mapping[str, str] = os.environ) -> None:
    """See that the configuration can be read that the environment names, and the certificates that it names.

    Args:
        role: Whose certificate is used here, as Dask has it: ``scheduler``, ``worker`` or ``client``.
        environment: Variables of this process.

    Raises:
        InvalidInput: Something is not there, may not be read, or is no configuration.
    """
    named = environment.get(_VARIABLE)
    for file in () if named is None else _files(named):
        for key, path in _certificates(_read(file), role):
            _check_file(path, f"{key} of {file}")
    for variable in (f"{_TLS}CA_FILE", f"{_TLS}{role.upper()}__CERT", f"{_TLS}{role.upper()}__KEY"):
        if variable in environment:
            _check_file(environment[variable], variable)


def _files(named: str) -> list[Path]:
    """The files of the configuration."""
    place = Path(named)
    try:
        if not place.is_dir():
            place.stat()
            return [place]
        return sorted(each for each in place.iterdir() if each.suffix.lower() in _SUFFIXES)
    except FileNotFoundError:
        if place.suffix.lower() not in _SUFFIXES and os.access(_there(place), os.W_OK, effective_ids=True):
            return []  # Dask makes the folder, for files with its defaults
        raise _missing(_VARIABLE, named) from None
    except OSError as error:
        raise _unreadable(_VARIABLE, named, error) from None


def _there(place: Path) -> Path:
    """The folder nearest to a place that is there."""
    return next(parent for parent in place.absolute().parents if parent.is_dir())


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(_VARIABLE, str(file), error) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"{_VARIABLE} names {file}, which is no YAML: {reason}; mend it, or name another") from None
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(
            f"{_VARIABLE} names {file}, which is no configuration of Dask: expected keys and values such as "
            f"`distributed:`, found {type(found).__name__}; name a tls.yaml that deploy/make-certificates made"
        )
    return found or {}


def _certificates(config: dict[str, Any], role: str) -> Iterator[tuple[str, str]]:
    """The files of certificates that a configuration names for a role, each with its key."""
    tls: Any = config
    for key in ("distributed", "comm", "tls"):
        tls = tls.get(key) if isinstance(tls, dict) else None
    sections = {"": tls, f"{role}.": tls.get(role)} if isinstance(tls, dict) else {}
    for prefix, section in sections.items():
        if not isinstance(section, dict):
            continue
        for name in _FILES:
            value = section.get(name, section.get(name.replace("-", "_")))
            if isinstance(value, str):
                yield f"distributed.comm.tls.{prefix}{name}", value


def _check_file(named: str, by: str) -> None:
    """See that a file of certificates can be read; it may be the certificate itself, too."""
    if "\n" in named:
        return
    path = os.path.expandvars(named)
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise _missing(by, path) from None
    except OSError as error:
        raise _unreadable(by, path, error) from None


def _missing(by: str, path: str) -> InvalidInput:
    return InvalidInput(
        f"{by} names {path}, which is not there; name a file that is: deploy/make-certificates makes them"
    )


def _unreadable(by: str, path: str, error: OSError) -> InvalidInput:
    reason = (error.strerror or type(error).__name__).lower()
    return InvalidInput(
        f"{by} names {path}, which user {os.geteuid()} cannot read ({reason}): give it to that user, chown -R "
        f"{os.geteuid()} its folder, {_OWNER}"
    )
