"""What operators see: metrics for Prometheus, who trains what, live tables, and logs that machines read."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from services import Service, free_port, logging_training, wait_until

from swarm import Integer, Job, Random
from swarm.runner import Run
from swarm.runs.winner import Winner
from swarm.scheduler.totals import Totals

pytestmark = pytest.mark.slow

SLOTS = 2


def saving(params: Any, ctx: Any) -> float:
    """A training that takes no time, and keeps what it has trained."""
    import numpy as np

    ctx.save({"x": np.array(params["x"])}, epoch=1)
    return float(params["x"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def pages() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def service(folder: Path, pages: str) -> Iterator[Service]:
    """A service whose processes log JSON, with a job that is ended and one whose two trainings wait at a gate."""
    with Service(folder, env={"SWARM_LOG_FORMAT": "json"}) as service:
        service.start("scheduler", "scheduler", "--port", str(service.port), "--dashboard", pages)
        service.workers(SLOTS)
        service.master()
        wait_until(lambda: service.client.hello()["master"])
        space = {"x": Integer(0, 63), "y": Integer(0, 63)}
        done = Job(name="done", problem=saving, space=space, optimizer=Random(trials=6), checkpoints=True)
        assert service.client.submit(done).wait(timeout=60).told == 6
        held = Job(name="held", problem=logging_training(folder, 0, "gate"), space=space, optimizer=Random(trials=4))
        handle = service.client.submit(held)
        wait_until(lambda: handle.state().running == SLOTS)
        yield service


def metrics(pages: str) -> dict[tuple[str, ...], float]:
    """Values of the swarm's metrics by name and labels."""
    with urllib.request.urlopen(f"http://{pages}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name.startswith("dask_swarm_")]
    return {(sample.name.removeprefix("dask_swarm_"), *sample.labels.values()): sample.value for sample in samples}


def test_prometheus_reads_jobs_evaluations_slots_and_the_master(service: Service, pages: str) -> None:
    found = wait_until(lambda: (m := metrics(pages))["slots", "GPU", "busy"] == SLOTS and m)
    assert found["slots", "GPU", "free"] == 0
    assert (found["jobs", "finished"], found["jobs", "active"], found["jobs", "failed"]) == (1, 1, 0)
    assert found["evaluations_total", "trained"] == 6 + SLOTS
    assert (found["trials_total", "ok"], found["trials_total", "failed"]) == (6, 0)
    assert found["trained_seconds_total",] > 0
    assert found["job_running", "held"] == SLOTS
    assert ("job_running", "done") not in found, "what has ended is in the totals alone"
    assert found["master_connected",] == 1
    assert found["master_silent_seconds",] < 5


def state(told: int, of: str = "active") -> str:
    """What a master publishes of a job, as far as it is counted."""
    counts = {"trained": told, "failed": 1, "archive": 2}
    return json.dumps({"state": of, "told": told, "trained_seconds": told * 0.5, "counts": counts})


def test_totals_do_not_fall_when_jobs_are_forgotten_or_another_master_comes() -> None:
    totals = Totals()
    for job in range(300):  # the scheduler mirrors the last 200 that have ended
        totals.note({f"job-{job}": state(4)})
        totals.note({f"job-{job}": state(10, "finished")})
        if job >= 200:
            totals.forget(f"job-{job - 200}")
    totals.note({"live": state(6)})
    assert totals.counts == {"trained": 3006, "failed": 301, "archive": 602, "told": 3006, "trained_seconds": 1503.0}
    before = Counter(totals.counts)
    totals.forget_ended()
    totals.note({"live": state(5)})  # which it had not stored yet
    assert totals.counts == before
    totals.note({"live": state(8)})
    assert totals.counts - before == {"trained": 2, "told": 2, "trained_seconds": 1.0}


def test_a_name_that_another_job_takes_is_counted_from_nothing() -> None:
    totals = Totals()
    totals.note({"a": state(10, "cancelled")})
    totals.note({"a": state(3)})
    assert totals.counts["told"] == 13
    totals.note({"a": state(7, "finished")})
    totals.note({"a": state(9)})  # its limits were raised: the same job goes on
    assert totals.counts["told"] == 19


def test_a_silent_master_shows(service: Service, pages: str) -> None:
    service.kill("master", signal.SIGSTOP)
    try:
        wait_until(lambda: metrics(pages)["master_silent_seconds",] > 2)
    finally:
        service.kill("master", signal.SIGCONT)
    wait_until(lambda: metrics(pages)["master_silent_seconds",] < 2)


def test_the_service_keeps_the_winner_too(service: Service) -> None:
    run = Run.load("done", service.store)
    winner = Winner.of(run)
    assert run.best is not None and winner.kept is not None
    assert winner.kept.arrays["x"] == run.best.params["x"]


def swarm(service: Service, *arguments: str) -> str:
    code = "from swarm.cli import main; main()"
    run = [sys.executable, "-c", code, *arguments, "--scheduler", service.address]
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout


def test_top_says_who_trains_what_for_how_long(service: Service) -> None:
    lines = [line for line in swarm(service, "top").splitlines() if "held" in line]
    assert len(lines) == SLOTS
    for line in lines:
        assert re.search(r"127\.0\.0\.1 +GPU +held +\d +[\d.]+ ?(s|min)", line), line


def test_watching_all_jobs_where_there_is_no_terminal_is_one_table(service: Service) -> None:
    table = swarm(service, "watch")
    assert re.search(r"done .* finished .* 6/6", table)
    assert re.search(r"held .* active .* 0/4", table)


def test_a_terminal_shows_a_job_and_the_line_of_its_best(service: Service) -> None:
    ours, theirs = pty.openpty()
    run = [sys.executable, "-c", "from swarm.cli import main; main()", "watch", "--scheduler", service.address]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "30"}
    with subprocess.Popen(run, stdout=theirs, stderr=theirs, env=env, start_new_session=True) as watching:
        os.close(theirs)
        shown = ""
        while shown.count("held") < 2 or "▁" not in shown:  # drawn, and drawn again
            shown += os.read(ours, 65536).decode(errors="replace")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    os.close(ours)
    assert "best so far" in shown


def test_every_line_of_the_logs_is_an_object_of_json(service: Service) -> None:
    for name, said in (("scheduler", "scheduler at tcp"), ("master", "serving tcp"), ("workers", "2 slots for tcp")):
        lines = [json.loads(line) for line in service.log(name).splitlines()]
        assert any(line["message"].startswith(said) for line in lines), lines
        assert {line["role"] for line in lines} == {name.removesuffix("s")}
        assert all({"time", "level", "logger", "process"} <= line.keys() for line in lines)
