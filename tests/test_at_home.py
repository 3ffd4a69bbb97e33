"""Cheap functions that are called in the process of ``run()``: no other process, pages, interrupts, and longer ones."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

import swarm.cluster.at_home
from swarm import GA, PSO, Grid, Integer, Job, Random, Real, Run, run
from swarm.errors import Interrupted


def a_job(problem: Any, name: str = "home", **changes: Any) -> Job:
    defaults = {"space": {"x": Integer(0, 99)}, "optimizer": Random(trials=12), "isolation": "thread"}
    return Job(**{"name": name, "problem": problem, **defaults, **changes})


def found(job: Job, folder: Path, **options: Any) -> Run:
    return run(job, store=folder / "home.db", **{"slots": 2, "progress": False, **options})


def test_cheap_functions_run_in_this_process_and_start_no_other(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        ctx.report(loss=0.5)
        with (tmp_path / "log").open("a") as log:
            log.write(f"{os.getpid()} {len(psutil.Process().children())}\n")
        return float(params["x"])

    before, children = dict(os.environ), len(psutil.Process().children())
    assert found(a_job(train), tmp_path).counts["trained"] == 12
    seen = set((tmp_path / "log").read_text().splitlines())
    assert seen == {f"{os.getpid()} {children}"}
    assert dict(os.environ) == before


@pytest.mark.parametrize("ending", ["raise ValueError('mine')", "raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_what_a_function_raises_is_its_result(tmp_path: Path, ending: str) -> None:
    def train(params: Any, ctx: Any) -> float:
        if params["x"] % 3 == 0:
            exec(ending)
        return float(params["x"])

    counts = found(a_job(train, space={"x": Integer(0, 8)}, optimizer=Grid()), tmp_path).counts
    assert (counts["trained"], counts["failed"]) == (9, 3)


def test_functions_that_draw_from_the_global_generator_find_the_same_with_any_number_of_slots(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        random.seed(ctx.seed)
        return sum(random.random() for _ in range(2000)) + float(params["x"])

    bests = set()
    for slots in (1, 8):
        job = a_job(train, optimizer=PSO(particles=6, generations=3), seed=5, space={"x": Real(0, 1)})
        (folder := tmp_path / str(slots)).mkdir()
        best = found(job, folder, slots=slots).best
        assert best is not None
        bests.add(best.fitness)
    assert len(bests) == 1


def test_functions_that_take_long_go_on_in_processes_side_by_side_and_each_is_called_once(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        with (tmp_path / "log").open("a") as log:
            log.write(f"{os.getpid()} {params['x']}\n")
        here, waited = str(os.getpid()), time.monotonic()
        while True:  # until another process has begun: the first ones are called here
            time.sleep(0.03)
            others = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()} - {here}
            if others or time.monotonic() - waited > 0.2:
                return float(params["x"])

    counts = found(a_job(train, space={"x": Integer(0, 199)}, optimizer=Grid()), tmp_path).counts
    assert counts["trained"] == 200
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(x) for _, x in lines) == list(range(200))
    assert len({process for process, _ in lines}) == 3  # this one, and a child for each slot


def test_what_waits_behind_a_long_call_goes_on_in_processes_as_soon_as_there_are_some(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        (tmp_path / str(params["x"])).write_text(str(os.getpid()))
        begun = time.monotonic()
        while len(list(tmp_path.glob("[0-9]"))) < 4:  # no call ends well before all have begun
            assert time.monotonic() - begun < 60
            time.sleep(0.02)
        return float(params["x"])

    job = a_job(train, space={"x": Integer(0, 3)}, optimizer=Grid())
    assert found(job, tmp_path, slots=4).counts["trained"] == 4
    assert len({file.read_text() for file in tmp_path.glob("[0-9]")}) == 4


def test_the_pages_are_there_for_a_run_that_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm.cluster.at_home, "_PAGES_AFTER", 0.0)

    def train(params: Any, ctx: Any) -> float:
        from distributed import Scheduler

        while params["x"] == 1:  # until somebody can look
            for scheduler in list(Scheduler._instances):
                if scheduler.status.name == "running" and "inproc" in scheduler.address:
                    port = scheduler.services["dashboard"].port
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/swarm", timeout=60) as page:
                        assert page.status == 200
                        return 1.0
            time.sleep(0.02)
        return float(params["x"])

    best = found(a_job(train, space={"x": Integer(1, 2)}, optimizer=Grid()), tmp_path, slots=1).best
    assert best is not None
    assert best.fitness == 2


def test_an_interrupt_ends_the_run_though_a_call_hangs_and_it_goes_on_later(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        if params["x"] == 5 and not (tmp_path / "hung").exists():
            (tmp_path / "hung").touch()
            os.kill(os.getpid(), signal.SIGINT)
            while not (tmp_path / "release").exists():
                time.sleep(0.05)
        return float(params["x"])

    job = a_job(train, space={"x": Integer(0, 8)}, optimizer=Grid())
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="swarm resume home"):
        found(job, tmp_path, slots=1)
    assert time.monotonic() - begun < 60
    (tmp_path / "release").touch()
    assert found(job, tmp_path, slots=1).counts["trained"] == 9


def test_a_run_in_this_process_finds_what_one_in_processes_does(tmp_path: Path) -> None:
    def train(params: Any, ctx: Any) -> float:
        return float((params["x"] - 40) ** 2)

    bests = []
    for name, threads in (("here", None), ("there", 1)):
        (folder := tmp_path / name).mkdir()
        job = a_job(train, optimizer=GA(population=6, generations=3, elite=1), direction="minimize", seed=2)
        best = found(job, folder, threads=threads).best
        assert best is not None
        bests.append((best.trial.id, best.params, best.fitness))
    assert bests[0] == bests[1]


KILLED = """
import os, signal, sys
from pathlib import Path
from swarm import PSO, Job, Real, run

def train(params, ctx):
    with open("log", "a") as log:
        log.write(f"{params['x']!r}\\n")
    if Path("deadly").exists() and len(Path("log").read_text().splitlines()) == 23:
        Path("deadly").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return (params["x"] - 1) ** 2

if __name__ == "__main__":
    job = Job(name="home", problem=train, space={"x": Real(-5, 5)}, optimizer=PSO(particles=5, generations=7),
              direction="minimize", isolation="thread", seed=3)
    found = run(job, slots=1, store=sys.argv[1], progress=False)
    print(found.best.fitness, found.counts["trained"])
"""


def test_a_run_whose_process_is_killed_amid_a_call_goes_on_to_the_same_answer(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(KILLED)

    def called(store: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "main.py", store]
        return subprocess.run(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)

    whole = called("whole.db")
    calls = (tmp_path / "log").read_text().split()
    (tmp_path / "log").unlink()
    (tmp_path / "deadly").touch()
    assert called("home.db").returncode == -signal.SIGKILL
    again = called("home.db")
    assert (again.returncode, again.stdout) == (0, whole.stdout)
    log = (tmp_path / "log").read_text().split()
    assert (sorted(set(log)), len(log)) == (sorted(calls), len(calls) + 1)  # the call that was killed is made again
