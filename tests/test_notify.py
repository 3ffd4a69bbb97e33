"""Whom a job tells at its end and at its first failure; and what a training's reports are good for."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dask
import pytest
from test_master import job_of, mastered, scheduler, worker

from swarm import Client, Context, Grid, Infeasible, Integer, Job, Run, run
from swarm.errors import AllFailed, InvalidInput, InvalidJob
from swarm.search.pruning import MedianRule
from swarm.steering.notice import Notice
from swarm.trial import Evaluation
from swarm.workers.problem import attempt


def train(params: Any, ctx: Any) -> float:
    if params["x"] in (2, 3):
        raise Infeasible("too large")
    return float(params["x"])


def job(name: str = "told", **changes: Any) -> Job:
    defaults = {"problem": train, "space": {"x": Integer(0, 4)}, "optimizer": Grid(), "isolation": "thread"}
    return Job(**{"name": name, **defaults, **changes})


def here(told: Job, folder: Path) -> Run:
    return run(told, slots=1, store=folder / "a.db", progress=False)


@pytest.fixture
def posted() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes what is posted to it, and what that was."""
    bodies: list[dict[str, Any]] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def check_told(said: list[dict[str, Any]], name: str = "told") -> None:
    assert [each["event"] for each in said] == ["failed", "ended"], "in this order; the second failure is not told"
    by_event = {each["event"]: each for each in said}
    assert by_event["failed"]["reason"].startswith("trial 2: Infeasible: too large")
    assert by_event["ended"]["reason"] == "done" and by_event["ended"]["job"] == name
    assert by_event["ended"]["best"] == {"trial": 4, "params": {"x": 4}, "fitness": 4.0}
    assert by_event["ended"]["counts"]["failed"] == 2


def test_an_address_is_posted_to_at_the_first_failure_and_at_the_end(
    posted: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    address, bodies = posted
    here(job(notify=address), tmp_path)
    check_told(bodies)
    here(job(notify=address), tmp_path)
    assert len(bodies) == 2, "a run that is only looked at tells nothing"


def test_a_command_reads_it_from_its_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "told.jsonl"
    here(job(notify=f"cat >> {file} && echo >> {file} && echo $SWARM_JOB/$SWARM_EVENT >> {file}.events"), tmp_path)
    check_told([json.loads(line) for line in file.read_text().split("\n") if line])
    assert Path(f"{file}.events").read_text().split() == ["told/failed", "told/ended"]


def test_a_command_that_takes_long_has_ended_before_the_next_one_begins(tmp_path: Path) -> None:
    """The first one waits until the search has ended and asks for the second, which must not begin meanwhile."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    notice = Notice(
        f'echo "$SWARM_EVENT begins" >> {log}; [ $SWARM_EVENT = ended ] || read _ < {gate}; echo ends >> {log}', "told"
    )
    notice.tell("failed", "", None, {})
    notice.tell("ended", "", None, {})
    gate.write_text("\n")  # opens when the first command reads
    notice.wait()
    assert log.read_text().split("\n")[:-1] == ["failed begins", "ends", "ended begins", "ends"]


@pytest.mark.parametrize("to", ["exit 3", "http://127.0.0.1:1/nobody"])
def test_who_cannot_be_told_costs_the_run_nothing(to: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "swarm.notify"):
        assert len(here(job(notify=to), tmp_path).history) == 5
    assert "notify of job told" in caplog.text


def test_the_end_of_a_run_whose_trainings_all_fail_is_told(
    posted: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    def failing(params: Any, ctx: Any) -> float:
        raise FileNotFoundError("data.npz")

    with pytest.raises(AllFailed):
        here(job(problem=failing, notify=posted[0]), tmp_path)
    assert "have all failed" in {each["event"]: each for each in posted[1]}["ended"]["reason"]


@pytest.mark.parametrize("wrong", ["ftp://host/x", "", "  ", 3, "a\nb"])
def test_what_is_neither_address_nor_command_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidJob, match="https://"):
        job(notify=wrong)


def test_another_address_is_no_other_job(tmp_path: Path) -> None:
    assert job(notify="true").differences(job(notify="https://example.org").to_dict()) == []


async def test_a_service_posts_to_the_hosts_of_its_settings_alone_and_runs_no_command(
    posted: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    address, bodies = posted
    async with scheduler() as served, worker(served.address), mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        with pytest.raises(InvalidInput, match=r"a service runs no commands.*handle.wait\(on_trial=…\)"):
            await client.submit(job(notify="true"))
        with pytest.raises(InvalidInput, match=r"not to 127.0.0.1.*swarm.notify-hosts"):
            await client.submit(job(notify=address))
        with dask.config.set({"swarm.notify-hosts": ["127.0.0.1"]}):
            await (await client.submit(job(notify=address))).wait(timeout=60)
        assert job_of().notify is None
        for thread in threading.enumerate():
            if thread.name == "swarm-notify":
                thread.join(30)
    check_told(bodies)


# --- reports


def test_a_value_with_its_step_is_the_fitness_so_far_and_two_values_get_an_answer_that_helps() -> None:
    sent: list[Any] = []

    def reporting(params: Any, ctx: Context) -> float:
        assert [ctx.report(0.5, step=step) for step in (1, 2, 3)] == [False, False, True]
        assert ctx.report(epoch=9, loss=0.25) is True
        return 0.5

    result = attempt(reporting, Evaluation.of("p", {"x": 1}, budget=3), sent.append)
    assert result.fitness == 0.5, result.error
    assert sent[:2] == [{"fitness": 0.5, "step": 1.0}, {"fitness": 0.5, "step": 2.0}]
    assert Context(budget=None).report(0.5, step=100) is False
    with pytest.raises(TypeError, match=r"report\(1, step=0.5\), or ctx.report\(0.5, step=1\) if the step"):
        Context().report(1, 0.5)


def test_the_median_rule_judges_by_such_values_where_its_own_metric_is_not_reported() -> None:
    rule = MedianRule("val_accuracy", -1, after=0, trainings=2)
    for key in ("a", "b"):
        rule.hopeless(key, {"fitness": 0.9, "step": 1.0})
        rule.ended(key, well=True)
    assert rule.hopeless("c", {"fitness": 0.1, "step": 1.0}) and not rule.hopeless("d", {"fitness": 0.95, "step": 1.0})
    assert rule.judged({"fitness": 0.1}) == "fitness" and rule.judged({"loss": 0.1}) is None
    assert rule.judged({"fitness": 0.1, "val_accuracy": 0.3}) == "val_accuracy"


def reporting_all(params: Any, ctx: Any) -> float:
    import time

    for step in range(1, 200):
        value = params["x"] / 10
        if ctx.report(value, step=step):
            break
        time.sleep(0.01 if params["x"] < 3 else 0)
    return value


@pytest.mark.slow
def test_trainings_that_report_values_with_steps_are_pruned(tmp_path: Path) -> None:
    pruning = job(
        problem=reporting_all,
        space={"x": Integer(0, 9)},
        optimizer={"name": "Random", "trials": 10},
        first=[{"x": x} for x in (9, 8, 7, 6, 5, 0)],
        isolation="process",
        prune={"after": 1, "trainings": 3},
    )
    rows = here(pruning, tmp_path).history
    assert rows[rows["x"] == 0]["status"].tolist() == ["pruned"]
    assert rows[rows["x"] == 9]["status"].tolist() == ["ok"]


def test_hyperband_ends_a_training_at_its_budget_by_the_answer_of_a_report(tmp_path: Path) -> None:
    def counting(params: Any, ctx: Any) -> dict[str, float]:
        step = 0
        while True:
            step += 1
            if ctx.report(params["x"] / 10, step=step):
                return {"fitness": params["x"] / 10, "steps": float(step)}

    method = {"name": "Hyperband", "min_budget": 1, "max_budget": 9, "iterations": 3}
    rows = here(job(problem=counting, optimizer=method, space={"x": Integer(0, 99)}), tmp_path).history
    assert set(rows["steps"]) == {1.0, 3.0, 9.0} and (rows["steps"] == rows["budget"]).all()
