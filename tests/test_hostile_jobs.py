"""Job documents that nobody would write: whatever stands in them is a job or one line that says what is wrong.

A few hundred in a test run; ``SWARM_HOSTILE=20000 pytest tests/test_hostile_jobs.py`` for more.
"""

from __future__ import annotations

import copy
import datetime
import json
import math
import os
import random
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Scheduler
from distributed.comm import connect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm import Job
from swarm.errors import SwarmError
from swarm.job.given import JobFields
from swarm.scheduler.plugin import Service
from swarm.service.requests import parse

EXAMPLES = Path(__file__).parent.parent / "examples"
DOCUMENTS = int(os.environ.get("SWARM_HOSTILE", "200"))
SECONDS = 2.0
SEEDS = st.integers(0, 2**63)
HOSTILE: list[Any] = [
    *(None, True, 0, -1, 1, 3, 10**9, 10**30, 2**53 + 1, -(10**400), 0.5, -0.0, 1e308, 5e-324, math.nan, math.inf),
    *("", "x", "self", "1", "PSO", "lenet4", "maximize", "\x1b[2J", "[/tanh]", "\u202eevil", "\ud800", "\0", "a\nb"),
    *("a" * 300, "é" * 200_000, [], {}, [1], [None], ["a", "a"], [[1, 2], [3, 4]], [10**9, 10**9], {"a": 1}, {1: 2}),
    *({"self": 1}, {None: None}, {"name": None}, {"name": "sine"}, {"particles": 6}, list(range(3000)), {(1, 2): 3}),
    *({"name": "PSO", "particles": 10**9}, {"name": "PBT", "population": 10**9}, {"name": "Grid", "points": 10**9}),
    *({"name": "Rescored", "of": {"x": 1}}, {"name": "Rescored", "of": {"name": "Demes", "of": {"name": "GA"}}}),
    *({"name": "Hyperband", "min_budget": 1e-300, "max_budget": 1e300}, {"name": "Replay", "steps": [{}, 1]}),
    *({"name": "Demes", "of": {"name": "GA"}, "rows": 10**9}, {"name": "TPE", "trials": 3, "candidates": 10**9}),
    *({"name": "MuPlusLambda", "population": 2, "migrants": 2, "evaluations": 1, "restarts": 10**9},),
    *(
        {"integer": [1, 2**60]},
        {"integer": [0, 2**53]},
        {"real": [1e-320, 1e308], "log": True},
        {"choice": ["[/x]", "y"]},
    ),
    *({"choice": list(range(20_000))}, {"real": [0, 1], "digits": 5}, {"integer": [1, 2], "when": {"x": 1}}),
    *(datetime.date(2026, 1, 1), {"data": {"name": "sine"}, "layers": [1]}, {"mae": "minimize", "x": "maximize"}),
]
KEYS: list[Any] = [*JobFields.__annotations__, "self", "cls", "data", 1, None, (1, 2), "name", "of", "default", "when"]


@cache
def job_files() -> list[Path]:
    return sorted(EXAMPLES.glob("*.yaml"))


@cache
def specifications() -> list[dict[str, Any]]:
    """What is stored of the examples."""
    jobs = (Job.from_file(file) for file in job_files())
    return [job.to_dict() for job in jobs]


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Each mapping and list in data, with each of its keys."""
    waiting = [data]
    while waiting:
        each = waiting.pop()
        for key, value in each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ():
            yield each, key
            waiting.append(value)


def mutated(data: dict[str, Any], rng: random.Random, *, swell: bool = True) -> dict[str, Any]:
    """The document after one to three changes."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        where, key = rng.choice(list(places(data)) or [(data, "name")])
        value, new = copy.deepcopy(rng.choice(HOSTILE)), copy.deepcopy(rng.choice(KEYS))
        match rng.randrange(5):
            case 0 | 1:
                where[key] = value
            case 2 if key in where or isinstance(where, list):
                del where[key]
            case 3 if isinstance(where, dict):
                where[new] = value
            case 4:
                other, there = rng.choice(list(places(data)) or [(data, "name")])
                where[key] = copy.deepcopy(other.get(there) if isinstance(other, dict) else other[there])
            case _:
                where[key] = [value] * rng.choice([1, 2, 100])
    if swell and rng.random() < 0.2:
        where, key = rng.choice(list(places(data)) or [(data, "name")])
        where[key] = swollen(where.get(key) if isinstance(where, dict) else where[key], rng)
    return data


def swollen(value: Any, rng: random.Random) -> Any:
    """A value in very many mappings and lists, beside each other or inside each other."""
    if rng.random() < 0.5:
        return [value] * 100_000 if rng.random() < 0.5 else {f"x{i}": value for i in range(20_000)}
    for _ in range(rng.choice([5, 60, 2000])):
        value = [value] if rng.random() < 0.5 else {rng.choice(["of", "when", "x", "optimizer"]): value}
    return value


def searched(job: Job) -> None:
    """A job that is taken can be stored, read again and searched."""
    spec = json.loads(json.dumps(job.to_dict(), allow_nan=False))
    again = Job.from_dict(spec, b"")
    assert again.to_dict() == spec
    method = again.start()
    for loss in (1.0, None, 2.0):
        if (trial := method.ask()) is not None:
            assert len(again.evaluations(trial)) <= 1000
            method.tell(trial, loss)
    json.dumps([method.planned, sorted(method.parents())])


few = settings(max_examples=DOCUMENTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(3600)
@few
@given(SEEDS)
def test_a_specification_that_was_tampered_with_is_a_job_or_one_line(seed: int) -> None:
    rng = random.Random(seed)
    spec = mutated(rng.choice(specifications()), rng)
    began = time.process_time()
    try:
        job = Job.from_dict(spec, b"")
    except SwarmError as error:
        assert "\n" not in str(error) and 0 < len(str(error)) < 3000
        assert "report this as a bug" not in str(error)
    else:
        searched(job)
    assert time.process_time() - began < SECONDS


@pytest.mark.timeout(3600)
@settings(few, max_examples=max(30, DOCUMENTS // 20))
@given(SEEDS)
def test_a_job_file_that_was_tampered_with_is_a_job_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng, folder = random.Random(seed), tmp_path_factory.getbasetemp() / "files"
    folder.mkdir(exist_ok=True)
    for source in EXAMPLES.glob("*.py"):
        (folder / source.name).write_bytes(source.read_bytes())
    source = rng.choice(job_files())
    data = mutated(yaml.safe_load(source.read_text(encoding="utf-8")), rng, swell=False)
    file = folder / "job.yaml"
    try:
        file.write_text(yaml.dump(data, Dumper=yaml.CDumper), encoding="utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which no file holds
        return
    before, began = sorted(folder.rglob("*.*")), time.process_time()
    try:
        Job.from_file(file)
    except SwarmError as error:
        assert "\n" not in str(error) and 0 < len(str(error)) < 4000
    assert time.process_time() - began < SECONDS
    assert [path for path in sorted(folder.rglob("*.*")) if "__pycache__" not in path.parts] == before


@few
@given(SEEDS)
def test_a_message_that_was_tampered_with_is_a_request_or_one_line(seed: int) -> None:
    rng = random.Random(seed)
    requests: list[dict[str, Any]] = [
        {"spec": rng.choice(specifications()), "priority": 1.0, "most": 3, "environment": ["python==3.11.*"]},
        {"name": "job", "priority": 1.0, "most": 0},
        {"name": "job", "after": 0},
    ]
    message = mutated(rng.choice(requests), rng, swell=False)
    method = rng.choice(["submit", "cancel", "pause", "resume", "share", "events", "describe", "", "\x1b", "\ud800"])
    text = json.dumps(message, default=str, skipkeys=True)
    if rng.random() < 0.2:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "\0", "[" * 100_000, "9" * 5000, "NaN", "\\ud800", '"']) + text[at:]
    began = time.process_time()
    try:
        parse(method, text, rng.choice([b"", b"code", b"\0" * 100_000]))
    except SwarmError as error:
        assert "\n" not in str(error) and len(str(error)) < 3000
    assert time.process_time() - began < SECONDS


async def test_the_scheduler_answers_every_call_and_hands_none_on_that_is_malformed() -> None:
    rng = random.Random(7)
    async with Scheduler(port=0, host="127.0.0.1", dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
        scheduler.add_plugin(Service(scheduler), name="swarm")
        comm = await connect(scheduler.address)
        values = [
            None,
            1,
            2.5,
            True,
            b"",
            b"x" * 10**5,
            "",
            "x" * 10**5,
            "\0",
            "{}",
            [],
            [["x"] * 100],
            {"a": {"b": 1}},
        ]
        for _ in range(DOCUMENTS):
            message = {name: rng.choice(values) for name in ("method", "data", "blob", "user") if rng.random() < 0.8}
            await comm.write({"op": "swarm_call", "reply": True, **message})
            answer = await comm.read()
            assert set(answer) == {"error"} and issubclass(
                getattr(__import__("swarm").errors, answer["error"][0]), SwarmError
            )
            assert "\n" not in answer["error"][1]
        await comm.close()
