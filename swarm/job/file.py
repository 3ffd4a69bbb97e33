"""Reading job files, and what the command line sets in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from swarm.config import limits
from swarm.errors import InvalidInput, InvalidJob
from swarm.job.limits import check_data, check_size, too_deep
from swarm.manners.files import is_folder

SUFFIXES = (".yaml", ".yml", ".json")
"""Of job files."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where there is one


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
        check_size(path.stat().st_size, f"the job file {path}")
        data = parsed(path.read_text(encoding="utf-8"), f"the job file {path}")
    except OSError as error:
        raise InvalidJob(f"cannot read the job file {path}: {error.strerror}{_instead(path)}") from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise InvalidJob(f"{path} is no text: a job file is YAML or JSON, in UTF-8{_remedy(path)}") from None
    except (yaml.YAMLError, _Unreadable) as error:
        if path.suffix == ".py":
            raise InvalidJob(_script(path)) from None
        where = " ".join(str(error).split())
        raise InvalidJob(f"{path} is not YAML: {where}") from None
    if path.suffix == ".py":
        raise InvalidJob(_script(path))
    if not isinstance(data, dict):
        what = "is empty" if data is None else "holds no job"
        raise InvalidJob(
            f"{path} {what}: expected lines like 'name: digits', 'problem: lenet4'; swarm init writes some"
        )
    for setting in settings:
        _set(data, setting)
    return data


def _instead(path: Path) -> str:
    """What may have been meant by a path that is no file."""
    is_one = is_folder(path)
    folder = path if is_one else path.parent
    try:
        there = sorted(each.name for each in folder.iterdir() if each.suffix in SUFFIXES and each.is_file())
    except OSError:
        return ""
    near = there if is_one else get_close_matches(path.name, there, n=1)
    if is_one and not near:
        return "; there is no job file in it: swarm init writes one"
    return f" (did you mean {str(folder / near[0])!r}?)" if near else "; swarm init writes one to begin with"


def _remedy(path: Path) -> str:
    return f"; unpack it first: gunzip {path}" if path.suffix == ".gz" else ""


def _script(path: Path) -> str:
    return (
        f"{path} is a Python file: name it in a job file, problem: {path.name}:FUNCTION, which swarm init writes; "
        f"or run it, python {path}, if it calls swarm.run"
    )


class _Unreadable(Exception):
    """A text with a value that is none."""


def parsed(text: str, what: str) -> Any:
    """The data of a text in YAML, whose aliases and merged keys count as often as they are named.

    Args:
        text: The text.
        what: What it is, for the error.

    Raises:
        InvalidJob: The data are too large, or too deep.
        yaml.YAMLError: It is not YAML.
        _Unreadable: It has a value that Python has not, such as 2026-02-31.
    """
    try:
        _check_depth(text, what)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()  # aliases are the same node, nothing is copied yet
            check_data(node, what, _parts)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
        if isinstance(error, InvalidJob):
            raise
        raise _Unreadable(str(error)) from None


def assigned(values: Iterable[str]) -> dict[str, Any]:
    """Values by name, of texts like ``rate=0.01``; each value is YAML.

    Raises:
        InvalidInput: A text is no such pair, or a name is there twice.
    """
    found: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"{text!r} is no value: write NAME=VALUE, such as rate=0.01")
        if name.strip() in found:
            raise InvalidInput(f"{name.strip()} is there twice: give it one value")
        try:
            found[name.strip()] = parsed(value, f"the value of {name.strip()}")
        except (yaml.YAMLError, _Unreadable):
            raise InvalidInput(f"the value in {text!r} is not YAML") from None
    return found


def _check_depth(text: str, what: str) -> None:
    """Refuse a text that the parser's recursion would not get through."""
    depth, most = 0, limits().max_depth
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > most:
            raise InvalidJob(too_deep(what, most))


def _parts(node: Any) -> list[Any] | None:
    """What stands below a node of a YAML text."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return [node.value] if isinstance(node, yaml.ScalarNode) else node.value if isinstance(node, yaml.Node) else None


def _split(keys: list[str], data: Mapping[str, Any]) -> list[str]:
    """The keys that are left, of which the first is the longest that there is: the names of some have dots in them."""
    known = (end for end in range(len(keys), 0, -1) if ".".join(keys[:end]) in data)
    end = next(known, 1)
    return [".".join(keys[:end]), *keys[end:]]


def _set(data: dict[str, Any], setting: str) -> None:
    """Set one value of a job file's data."""
    where, equals, text = setting.partition("=")
    left = where.strip().split(".")
    if not equals or not all(left):
        raise InvalidJob(f"{setting!r} is no setting; write KEY=VALUE, such as optimizer.particles=12")
    while len(keys := _split(left, data)) > 1:
        key, left = keys[0], keys[1:]
        inner = data.get(key)
        if key == "optimizer" and isinstance(inner, str):
            inner = {"name": inner}
        if not isinstance(inner, dict | None):
            raise InvalidJob(f"{setting!r} sets a part of {key}, but that is {inner!r}")
        data[key] = data = dict(inner or {})
    [last] = keys
    try:
        data[last] = parsed(text, f"the value of {where.strip()}")
    except (yaml.YAMLError, _Unreadable):
        raise InvalidJob(f"the value in {setting!r} is not YAML") from None
