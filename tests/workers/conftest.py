"""Fixtures of the tests that run trainings in child processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swarm.workers.isolation import process, server
from swarm.workers.node.slots import SLOTS


@pytest.fixture(autouse=True, scope="module")
def _no_server_outlives_its_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    shares = any("one_import" in marker.args for marker in request.node.iter_markers("usefixtures"))
    if not shares:
        process.close()
    yield
    with pytest.MonkeyPatch.context() as patch:
        if shares:
            patch.setattr(process.base, "close", lambda: None)
        process.close()


@pytest.fixture(scope="module")
def one_import() -> Iterator[None]:
    """Servers are forked from one process that has imported Keras, as below ``swarm worker``: for all files with this.

    A server is forked only where its environment is that of the first, so the name of the test is taken out of it.
    """
    environment = server._server_environment
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SLOTS, "[]")
        patch.setattr(
            server,
            "_server_environment",
            lambda folder: {n: v for n, v in environment(folder).items() if n != "PYTEST_CURRENT_TEST"},
        )
        yield
