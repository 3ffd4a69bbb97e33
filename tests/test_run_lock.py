"""A job is run by one process at a time: the second is refused, and told by whom; a run that died is free at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm import Grid, Integer, Job, run
from swarm.errors import JobConflict, SwarmError
from swarm.runner import Run, resume
from swarm.store import Store
from swarm.store.run_lock import alone, running
from tests.services import Service, logging_training, trainings, wait_until

HOLDER = """
import sys
from swarm.store.run_lock import alone
from swarm.store import Store
with alone(Store(sys.argv[1]), "j"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with closing(Store(store_url)) as opened:
        yield opened


def holder(store: Store) -> subprocess.Popen[str]:
    """A process that runs job j."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def free(store: Store) -> bool:
    return running(store, "j") is None


def test_a_job_is_run_by_one_thread_of_a_process(store: Store) -> None:
    with alone(store, "j"):
        refused = f"job 'j' is being run by this process \\({os.getpid()}\\), in another thread, since 20"
        with pytest.raises(JobConflict, match=refused), alone(store, "j"):
            pass
        with alone(store, "another"):
            pass
        assert not free(store)
    wait_until(lambda: free(store))
    with alone(store, "j"):
        pass


def test_whoever_comes_second_is_told_who_runs_it_and_since_when(store: Store) -> None:
    with holder(store) as process:
        refused = rf"by process {process.pid} of \S+ on {os.uname().nodename}, since \d{{4}}-"
        with pytest.raises(JobConflict, match=refused) as error, alone(store, "j"):
            pass
        assert "stop it and resume" in str(error.value)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    wait_until(lambda: free(store))


def test_a_job_whose_process_was_killed_is_free_at_once(store: Store) -> None:
    with holder(store) as process:
        process.kill()
        process.wait()
        wait_until(lambda: free(store), seconds=5)


def test_of_many_that_begin_at_once_one_runs_it(store: Store) -> None:
    starting, over = threading.Barrier(8), threading.Barrier(8)

    def attempt(_: int) -> bool:
        starting.wait()
        try:
            with alone(store, "j"):
                over.wait()
                return True
        except JobConflict:
            over.wait()
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1
    wait_until(lambda: free(store))


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "s.db")) as opened, alone(opened, "j"):
        assert len(list((tmp_path / "s.db.artifacts").iterdir())) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["s.db"]


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_what_the_holder_has_started_does_not_hold_it(tmp_path: Path, start: str) -> None:
    reading, writing = os.pipe()
    with closing(Store(tmp_path / "s.db")) as opened:
        with alone(opened, "j"):
            if start == "spawn":
                child = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
            elif (child := os.fork()) == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
        try:
            assert free(opened)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            os.close(writing)


def waiting_job(folder: Path) -> Job:
    """A job whose trainings wait for a file."""
    train = logging_training(folder, 0.0, gate="go")
    return Job(name="j", problem=train, space={"x": Integer(0, 3)}, optimizer=Grid())


def write_script(folder: Path, work: str) -> Path:
    text = f"""
        import sys
        from pathlib import Path
        from swarm import run
        from swarm.errors import SwarmError
        from swarm.runner import resume
        from tests.test_run_lock import waiting_job
        if __name__ == "__main__":
            job, store = waiting_job(Path({str(folder)!r})), {str(folder / "s.db")!r}
            try:
                print({work}.counts["trained"])
            except SwarmError as error:
                sys.exit(str(error))
    """
    script = folder / f"{work.partition('(')[0]}.py"
    script.write_text(textwrap.dedent(text))
    return script


def test_a_run_that_is_started_again_by_mistake_goes_on_undisturbed(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = write_script(tmp_path, "run(job, slots=1, store=store, progress=False)")
    second = write_script(tmp_path, "resume('j', store=store, progress=False)")
    with subprocess.Popen([sys.executable, script], env=env, stdout=subprocess.PIPE, text=True) as first:
        wait_until((tmp_path / "begun").exists)
        for again in (script, second):
            refused = subprocess.run([sys.executable, again], env=env, capture_output=True, text=True, check=False)
            assert refused.returncode == 1
            assert f"job 'j' is being run by process {first.pid} of" in refused.stderr
        with pytest.raises(JobConflict, match=f"process {first.pid} of"):
            run(waiting_job(tmp_path), slots=1, store=tmp_path / "s.db", progress=False)
        assert Run.load("j", tmp_path / "s.db").status == "running", "to look is allowed"
        (tmp_path / "go").touch()
        assert first.communicate(timeout=60)[0] == "4\n"
    assert set(trainings(tmp_path, "begun").values()) == {1}
    for _ in range(2):  # it is finished: anybody may look, at any time
        assert resume("j", store=tmp_path / "s.db", progress=False).counts["trained"] == 4


@pytest.mark.deep
def test_a_run_that_was_killed_goes_on_at_once(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = write_script(tmp_path, "run(job, slots=1, store=store, progress=False)")
    with subprocess.Popen([sys.executable, script], env=env) as first:
        wait_until((tmp_path / "begun").exists)
        children = psutil.Process(first.pid).children(recursive=True)
        first.kill()
        first.wait()
        (tmp_path / "go").touch()
        assert resume("j", store=tmp_path / "s.db", progress=False).counts["trained"] == 4
        psutil.wait_procs(children, timeout=30)


def test_two_threads_do_not_run_one_job(tmp_path: Path) -> None:
    def attempt(_: int) -> Any:
        try:
            return run(waiting_job(tmp_path), slots=1, store=tmp_path / "s.db", progress=False).counts["trained"]
        except SwarmError as error:
            (tmp_path / "go").touch()
            return str(error)

    with ThreadPoolExecutor(2) as threads:
        answers = sorted(threads.map(attempt, range(2)), key=str)
    assert answers[0] == 4
    assert "this process" in answers[1]


def test_a_job_that_a_master_hosts_is_not_run_here_and_one_that_runs_here_is_waited_for(tmp_path: Path) -> None:
    job, store = waiting_job(tmp_path), tmp_path / "swarm.db"
    with Service(tmp_path).started(slots=1) as service:
        service.client.submit(job)
        wait_until((tmp_path / "begun").exists)
        with pytest.raises(
            JobConflict, match="by the master of the service, process .*, to which .* has submitted it at"
        ):
            run(job, slots=1, store=store, progress=False)
        service.kill("master")
        for name in [name for name in service.processes if name.startswith("workers")]:
            service.kill(name)
        with ThreadPoolExecutor(1) as thread, closing(Store(store)) as opened:
            wait_until(lambda: opened.lease_holder() is None)  # there is no master any more
            here = thread.submit(run, job, slots=1, store=store, progress=False)
            wait_until(lambda: here.done() or running(opened, "j") is not None)
            assert not here.done(), here.result()
            service.master()
            service.workers(1)
            handle = service.client.attach("j") if wait_until(lambda: service.client.hello()["master"]) else None
            assert handle is not None
            wait_until(lambda: "waits for its end elsewhere: it is run by process" in (handle.state().trouble or ""))
            (tmp_path / "go").touch()
            assert here.result().counts["trained"] == 4
            assert handle.wait(timeout=60).state == "finished"
    assert max(trainings(tmp_path, "ended").values()) == 1
