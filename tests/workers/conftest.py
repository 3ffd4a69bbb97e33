"""Fixtures of the tests that run trainings in child processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swarm.workers.isolation import process


@pytest.fixture(autouse=True, scope="module")
def _no_server_outlives_its_tests() -> Iterator[None]:
    yield
    process.close()
