"""How what a user gives, or a job file, becomes the fields of a job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swarm.errors import InvalidJob
from swarm.job import fields as job_fields
from swarm.job.earlier.sources import beside
from swarm.job.problem import Problem
from swarm.plain import plain, plain_data


def check_keys(data: Any, known: Iterable[str]) -> None:
    """Refuse what is no mapping of texts, as a job is.

    Args:
        data: What is to be one.
        known: Names of the fields of a job.

    Raises:
        InvalidJob: It is none.
    """
    if not isinstance(data, dict):
        raise InvalidJob(f"a job is a mapping, name: …, problem: …, not {type(data).__name__}")
    for key in data:
        if not isinstance(key, str):
            raise InvalidJob(f"unknown key {key!r}{job_fields.guess(key, known)}; known are {', '.join(known)}")


def as_python(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job without values of NumPy; the problem is the user's own, and so are arrays in its options."""
    found = {name: value if name in ("problem", "options") else plain_data(value) for name, value in data.items()}
    if isinstance(found.get("options"), dict):
        found["options"] = {name: plain(value) for name, value in found["options"].items()}
    return found


def with_program(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job, where ``command`` stands for the problem that runs it.

    Raises:
        InvalidJob: There is a problem besides, or the command or its options are none.
    """
    if "command" not in data:
        return data
    data = dict(data)
    command, options = data.pop("command"), data.pop("options", None) or {}
    if data.get("problem") is not None:
        raise InvalidJob("there are both problem and command: give one of them")
    if not isinstance(command, str):
        raise InvalidJob(f"command is the program with its arguments, as one text, not {command!r}")
    if not isinstance(options, dict):
        raise InvalidJob(f"options are arguments by name, {{metric: FoM}}, not {options!r}")
    if data.get("space") is not None:
        options = {"space": job_fields.space(data["space"]).to_dict(), **options}
    return {**data, "problem": Problem.find("command", {"command": command, **options})}


def beside_file(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of a job file, with its problem, its program, its files and its earlier results found beside it.

    Args:
        data: What the file holds, by texts.
        folder: The file's.

    Raises:
        InvalidInput: A problem or a file cannot be found, or the options are none.
    """
    options = data.get("options")
    if options is not None and not isinstance(options, dict):
        raise InvalidJob(f"options are arguments by name, {{data: mnist}}, not {options!r}")
    if isinstance(data.get("command"), str):
        data["options"] = {"cwd": str(folder.absolute()), **(options or {})}
    elif isinstance(data.get("problem"), str):
        data["problem"] = Problem.find(data["problem"], options or {}, folder=folder)
    data = with_program(data)
    if isinstance(data.get("results"), list):
        data["results"] = [beside(folder, each) for each in data["results"]]
    if isinstance(data.get("problem"), Problem):
        data["problem"] = data["problem"].with_data(data.get("version"), data.get("files") or [], folder.absolute())
    return data
