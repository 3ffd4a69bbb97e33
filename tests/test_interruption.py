"""Ctrl-C wherever a run is waited for: in a script, in a notebook, amid the start, and where a job is waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm.blocking import wait_for
from swarm.errors import Interrupted, SwarmError
from tests.services import Service, is_worker, logging_training, wait_until

LIMIT = 5.0  # seconds from the signal to the end of the call; it takes well below one where nobody else computes
CALLS = {
    "script": "call()",
    "asyncio.run": "asyncio.run(cell())",
    "running loop": "asyncio.new_event_loop().run_until_complete(cell())",
}
SCRIPT = """
import asyncio, json, signal, sys, threading, time
from pathlib import Path
import psutil
from swarm import Grid, Integer, Job, run

class Problem:
    def prepare(self):
        if "{blocked}" == "loading" and not Path("go").exists():
            Path("blocked").touch()
            time.sleep(600)

    def __call__(self, params, ctx):
        if "{blocked}" == "training" and not Path("go").exists() and params["n"]:
            Path("blocked").touch()
            time.sleep(600)
        return float(params["n"])

def call():
    job = Job(name="cell", problem=Problem(), space={{"n": Integer(0, 3)}}, optimizer=Grid(), isolation="{isolation}")
    return run(job, slots=1, store="s.db", progress=False)

async def cell():
    return call()

if __name__ == "__main__":
    ours = lambda *_: None
    signal.signal(signal.SIGTERM, ours)
    try:
        {call}
        caught = "ended by itself"
    except KeyboardInterrupt as error:
        caught = f"{{type(error).__name__}}: {{error}}"
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    print(json.dumps({{
        "caught": caught,
        "processes": [line for line in left if not any("resource_tracker" in part for part in line)],
        "threads": [thread.name for thread in threading.enumerate() if thread.name == "swarm"],
        "handlers": [signal.getsignal(signal.SIGTERM) is ours, signal.getsignal(signal.SIGINT).__name__],
    }}), flush=True)
    Path("go").touch()
    print(call().counts["trained"], flush=True)
"""


def start(folder: Path, call: str, blocked: str = "training", isolation: str = "process") -> subprocess.Popen[str]:
    text = textwrap.dedent(SCRIPT).format(call=CALLS[call], blocked=blocked, isolation=isolation)
    (folder / "main.py").write_text(text)
    return subprocess.Popen([sys.executable, "main.py"], cwd=folder, stdout=subprocess.PIPE, text=True)


def interrupted(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> dict[str, Any]:
    """What the script says once its call has ended for the signal."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert process.stdout is not None
    sent = time.monotonic()
    process.send_signal(number)
    said: dict[str, Any] = json.loads(process.stdout.readline())
    said["late"] = time.monotonic() - sent
    said["alive"] = [each for each in descendants if each.is_running() and is_worker(each)]
    return said


def assert_stopped(said: dict[str, Any]) -> None:
    assert said["caught"] == "Interrupted: cell was stopped; go on with: swarm resume cell --store s.db"
    assert said["late"] < LIMIT
    assert (said["processes"], said["threads"], said["alive"]) == ([], [], [])
    assert said["handlers"] == [True, "default_int_handler"]


@pytest.mark.matrix
@pytest.mark.parametrize("call", ["asyncio.run", "running loop", "script"])
@pytest.mark.parametrize(
    ("blocked", "isolation"), [("training", "process"), ("training", "thread"), ("loading", "process")]
)
def test_ctrl_c_ends_the_call_and_its_trainings_and_the_same_call_goes_on(
    tmp_path: Path, call: str, blocked: str, isolation: str
) -> None:
    with start(tmp_path, call, blocked, isolation) as process:
        wait_until((tmp_path / "blocked").exists)
        assert_stopped(interrupted(process))
        assert process.stdout is not None
        assert process.stdout.readline() == "4\n"


@pytest.mark.parametrize("call", ["asyncio.run", "script"])
def test_ctrl_c_amid_the_start_of_the_cluster_leaves_nothing(tmp_path: Path, call: str) -> None:
    with start(tmp_path, call, "nothing") as process:
        wait_until(lambda: any(is_worker(child) for child in psutil.Process(process.pid).children()))
        assert_stopped(interrupted(process))
        assert process.stdout is not None
        assert process.stdout.readline() == "4\n"


@pytest.mark.deep
def test_sigterm_ends_it_in_a_notebook_as_in_a_script(tmp_path: Path) -> None:
    with start(tmp_path, "running loop") as process:
        wait_until((tmp_path / "blocked").exists)
        assert_stopped(interrupted(process, signal.SIGTERM))


def test_what_ctrl_c_raises_is_an_error_of_ours_and_a_keyboard_interrupt() -> None:
    assert issubclass(Interrupted, SwarmError)
    assert issubclass(Interrupted, KeyboardInterrupt)


@pytest.mark.parametrize("call", [pytest.param("asyncio.run", marks=pytest.mark.deep), "script"])
def test_a_job_is_no_longer_waited_for_after_ctrl_c_and_goes_on(tmp_path: Path, call: str) -> None:
    from swarm import Integer, Job, Random

    with Service(tmp_path).started(slots=1) as service:
        train = logging_training(tmp_path, 0.0, gate="go")
        service.client.submit(Job(name="j", problem=train, space={"x": Integer(0, 9)}, optimizer=Random(trials=2)))
        wait_until((tmp_path / "begun").exists)
        waiting = f"""
            import asyncio, time
            from swarm import Client
            def call():
                print("waiting", flush=True)
                Client("{service.address}").attach("j").wait(on_change=lambda _: print("heard", flush=True))
            async def cell():
                call()
            try:
                {CALLS[call]}
            except KeyboardInterrupt:
                print("stopped", flush=True)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(waiting)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["waiting\n", "heard\n"]
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "stopped\n"
            assert time.monotonic() - sent < LIMIT
        assert service.client.attach("j").status == "active"
        (tmp_path / "go").touch()
        assert service.client.attach("j").wait(timeout=60).state == "finished"


def test_an_interrupt_that_is_no_signal_ends_the_work_beside_a_running_loop() -> None:
    import asyncio
    import threading

    begun, ended = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def press() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGUSR1)

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    async def cell() -> None:
        wait_for(work)

    before = signal.signal(signal.SIGUSR1, handler)
    loop = asyncio.new_event_loop()
    try:
        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        loop.close()
        signal.signal(signal.SIGUSR1, before)
    assert ended.is_set()


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupt_while_its_thread_starts_leaves_no_work_behind(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    import asyncio
    import threading

    start_thread = threading.Thread.start
    threads: list[threading.Thread] = []

    async def work() -> None:
        await asyncio.Event().wait()

    def interrupted_start(thread: threading.Thread) -> None:
        threads.append(thread)
        if begun:
            start_thread(thread)
        raise KeyboardInterrupt

    async def cell() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", interrupted_start)
            wait_for(work)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
    if not begun:  # and if the system starts it late, it does nothing
        start_thread(threads[0])
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_waiting_leaves_the_loop_of_its_thread_alone() -> None:
    import asyncio

    async def work() -> int:
        return 3

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert wait_for(work) == 3
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()
