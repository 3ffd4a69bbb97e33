"""A run leaves the process of whoever calls it as it was: alone, with others in threads, and when it fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401 - its defaults become known with its import, whoever imports it
import pytest

from swarm import Grid, Integer, Job, run
from swarm.cluster import connect
from swarm.errors import StoreUnavailable
from swarm.manners.guest import NOISY, Shared, quiet


def flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their whole names, which shows which one differs."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", list(value) if isinstance(value, list) else value


def process_now() -> dict[str, Any]:
    """What a run could change."""
    loggers = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "levels": {name: logger.level for name, logger in loggers.items()},
        "root": (logging.root.level, list(logging.root.handlers)),
        "configuration": dict(flat(dask.config.config)),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "path": list(sys.path),
        "warnings": list(warnings.filters),
        "policy": asyncio.get_event_loop_policy(),
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr),
        "folder": Path.cwd(),
    }


def assert_same(before: dict[str, Any]) -> None:
    now = process_now()
    now["levels"] = {name: level for name, level in now["levels"].items() if name in before["levels"]}
    before, now = dict(flat(before)), dict(flat(now))
    names = sorted({*before, *now}, key=str)
    assert [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)] == []


@pytest.fixture(autouse=True)
def _a_process_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASK_LOGGING__DISTRIBUTED", raising=False)  # other tests have it set
    for name in NOISY:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)


def job(name: str, folder: Path, others: tuple[str, ...] = ()) -> Job:
    def train(params: Any, ctx: Any) -> float:
        """Returns when the others train, too."""
        import time

        Path(folder, name).touch()
        while not all(Path(folder, other).exists() for other in others):
            time.sleep(0.05)
        return float(params["n"])

    return Job(name=name, problem=train, space={"n": Integer(0, 1)}, optimizer=Grid(), isolation="thread")


def test_a_run_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    before = process_now()
    try:
        assert run(job("a", tmp_path), slots=1, store=f"{tmp_path}/s.db", progress=False).best is not None
        assert_same(before)
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_a_run_that_fails_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = process_now()
    with pytest.raises(StoreUnavailable):
        run(job("a", tmp_path), slots=1, store=f"{tmp_path}/none/s.db", progress=False)
    assert_same(before)


def test_runs_in_threads_at_the_same_time_leave_the_process_as_it_was(tmp_path: Path) -> None:
    before = process_now()
    with ThreadPoolExecutor(2) as threads:
        jobs = [job(name, tmp_path, others=("a", "b")) for name in ("a", "b")]
        found = list(
            threads.map(lambda each: run(each, slots=1, store=f"{tmp_path}/{each.name}.db", progress=False), jobs)
        )
    assert [each.counts["trained"] for each in found] == [2, 2]
    assert_same(before)


def test_what_several_use_is_put_back_by_the_last_in_whatever_order_they_leave() -> None:
    said: list[str] = []

    class Change(AbstractContextManager[None]):
        def __enter__(self) -> None:
            said.append("changed")

        def __exit__(self, *_: object) -> None:
            said.append("put back")

    shared = Shared(Change)
    shared.__enter__()
    shared.__enter__()
    shared.__exit__()
    assert said == ["changed"]
    shared.__exit__()
    assert said == ["changed", "put back"]
    with shared:
        assert said == ["changed", "put back", "changed"]


def test_a_level_that_the_user_has_set_before_dask_is_imported_stays() -> None:
    text = """
import logging
for name in ("distributed", "tornado.application"):
    logging.getLogger(name).setLevel(logging.DEBUG)
from swarm.manners.guest import quiet
with quiet:
    print(logging.getLogger("distributed").level)
print(*(logging.getLogger(name).level for name in ("distributed", "tornado.application")))
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["50", "10", "10"]


def test_whoever_wants_to_hear_dask_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_LOGGING__DISTRIBUTED", "info")
    logging.getLogger("distributed").setLevel(logging.INFO)
    with quiet:
        assert logging.getLogger("distributed").level == logging.INFO
    assert os.environ["DASK_LOGGING__DISTRIBUTED"] == "info"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Dask drops the socket with which it tried
async def test_a_port_that_two_runs_found_free_in_the_same_moment_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:  # warnings are errors here
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setattr(connect, "_free_port", lambda: other.getsockname()[1])
        async with connect.paged() as client:
            assert await connect.dashboard_of(client) is not None
