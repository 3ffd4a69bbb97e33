"""tests/lowest.txt pins what pyproject.toml allows at the least, so that ``make test-lowest`` tests the promise."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PACKAGE = re.compile(r"([A-Za-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+)")


def _numbers(version: str) -> tuple[int, ...]:
    """A version without the zeros at its end: 2 is 2.0.0."""
    found = [int(part) for part in version.split(".")]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


def test_the_lowest_versions_are_those_that_we_allow() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    allowed = {name: _numbers(version) for name, version in (_PACKAGE.fullmatch(each).groups() for each in wanted)}
    lines = [line.split("==") for line in (ROOT / "tests/lowest.txt").read_text().splitlines() if line[:1] != "#"]
    assert {name: _numbers(version) for name, version in lines} == allowed
