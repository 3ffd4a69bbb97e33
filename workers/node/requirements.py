"""What a job needs installed, checked on a worker before its first training."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

PYTHON = "python"  # stands for the interpreter


def unmet(requirements: Iterable[str]) -> list[str]:
    """Which requirements this environment does not meet, each with what it has instead.

    Args:
        requirements: As in a requirements file: ``keras>=3.10``, ``python==3.11.*``.
    """
    from packaging.requirements import Requirement

    complaints = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        found = _version(requirement.name)
        if found is None:
            complaints.append(f"{requirement.name} is not installed, {text} is needed")
        elif not requirement.specifier.contains(found, prereleases=True):
            complaints.append(f"{requirement.name} is {found}, {text} is needed")
    return complaints


def _version(name: str) -> str | None:
    if name == PYTHON:
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None
