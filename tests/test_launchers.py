"""What starts workers elsewhere, run here: batch jobs by dask-jobqueue and by Slurm, and SSH."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import BIN, DEPLOY, ROOT, call, certificates
from distributed import Client, Scheduler
from distributed.cli.dask_worker import main as dask_worker

# --- dask-jobqueue

JOBQUEUE = f"import sys; sys.path.insert(0, {str(DEPLOY)!r}); import jobqueue\n"


def by_jobqueue(code: str, folder: Path, **environment: str) -> str:
    """What a few lines print that use jobqueue.py, in a folder with certificates."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed; it is optional")
    if not (folder / "certificates").exists():
        certificates(folder / "certificates", "ann")
    env = os.environ | environment
    return call(sys.executable, "-B", "-W", "ignore", "-c", JOBQUEUE + code, cwd=folder, env=env)


def of_worker(script: str) -> dict[str, Any]:
    """The options of ``dask worker`` in a job's script."""
    words = shlex.split(script.split("distributed.cli.dask_worker")[1])
    assert words[0].startswith("tls://")
    return dict(dask_worker.make_context("worker", list(words)).params)


@pytest.mark.parametrize("system", ["slurm", "pbs", "lsf", "sge", "oar", "moab"])
def test_batch_jobs_by_dask_jobqueue_are_one_gpu_and_one_training(system: str, tmp_path: Path) -> None:
    script = by_jobqueue(f"print(jobqueue.cluster({system!r}).job_script())", tmp_path)
    found = of_worker(script)
    assert (found["nthreads"], found["resources"], found["memory_limit"]) == (1, "GPU=1", "0")
    assert ("--gres=gpu:1" in script) == (system == "slurm")
    assert (found["lifetime"], found["lifetime_stagger"]) == ("1440s", "180s")  # of half an hour


def test_the_site_says_what_a_batch_job_is_and_an_option_says_otherwise(tmp_path: Path) -> None:
    site = {
        "cores": 6,
        "memory": "48GB",
        "walltime": "1-00:00:00",
        "queue": "long",
        "job-extra-directives": ["--gres=a:1"],
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"jobqueue": {"slurm": site}}), encoding="utf-8")
    here = {"DASK_CONFIG": str(tmp_path / "site.yaml")}
    script = by_jobqueue("print(jobqueue.cluster().job_script())", tmp_path, **here)
    heads = set(re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE))
    assert {"--cpus-per-task=6", "--mem=45G", "-t 1-00:00:00", "-p long", "--gres=a:1"} <= heads
    assert "--gres=gpu:1" not in script and of_worker(script)["lifetime"] == f"{24 * 3600 - 600}s"
    given = "queue='short', walltime='01:00:00', job_extra_directives=['--gres=b:2']"
    script = by_jobqueue(f"print(jobqueue.cluster({given}).job_script())", tmp_path, **here)
    heads = set(re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE))
    assert {"--cpus-per-task=6", "-t 01:00:00", "-p short", "--gres=b:2"} <= heads and "--gres=a:1" not in script


def test_the_lifetime_of_a_worker_ends_before_the_time_of_its_job(tmp_path: Path) -> None:
    times = {"slurm 1-12": 129600, "slurm 2-00:30": 174600, "slurm 12:00:00": 43200, "slurm 90": 5400}
    times |= {"slurm 90:30": 5430, "lsf 12:30": 45000, "pbs 00:30:00": 1800, "sge 00:05:00": 300}
    code = (
        f"import json; times = {times!r}; found = {{}}\n"
        "for each in times:\n"
        "    system, time = each.split()\n"
        "    found[each] = [jobqueue.seconds(time, system), *jobqueue.lifetime(time, system)]\n"
        "print(json.dumps(found))"
    )
    for each, (whole, lives, stagger) in json.loads(by_jobqueue(code, tmp_path)).items():
        assert whole == times[each]
        assert whole // 2 <= lives - stagger and lives + stagger <= whole - min(300, whole // 10)


@pytest.mark.parametrize(("words", "found"), [("8", "8 8"), ("1:20", "1 20"), ("0:3", "0 3")])
def test_the_number_of_batch_jobs_is_one_or_from_and_to(words: str, found: str, tmp_path: Path) -> None:
    code = f"found = jobqueue.parsed([{words!r}]); print(found.minimum, found.maximum)"
    assert by_jobqueue(code, tmp_path).split() == found.split()


def test_what_is_no_number_of_batch_jobs_is_said_to_be_none(tmp_path: Path) -> None:
    for wrong in ("many", "3:1", "0", ":2"):
        with pytest.raises(AssertionError, match="a number of jobs such as 8|from at least 0"):
            by_jobqueue(f"jobqueue.parsed([{wrong!r}])", tmp_path)


@pytest.mark.slow
def test_a_batch_job_whose_time_is_over_is_replaced(tmp_path: Path) -> None:
    """What stands for Slurm starts the job's script here, and ends it; the scripts and the workers are real."""
    for name, text in {
        "sbatch": 'cp "$1" job-$$; setsid bash job-$$ >job-$$.log 2>&1 </dev/null & echo "Submitted batch job $!"',
        "scancel": 'kill -KILL -- "-$1" 2>/dev/null || true',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    code = """
import time
import dask
dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"})
seen = {}
with jobqueue.cluster(walltime="00:00:20") as started:
    started.adapt(minimum_jobs=1, maximum_jobs=1)
    while len(seen) < 2:
        seen |= {address: each["name"] for address, each in started.scheduler_info["workers"].items()}
        time.sleep(0.05)
print(len(set(seen.values())), "name")
"""
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DASK_LOGGING__DISTRIBUTED": "info"}
    assert "1 name" in by_jobqueue(code, tmp_path, **here)
    logs = [path.read_text(encoding="utf-8") for path in tmp_path.glob("job-*.log")]
    assert len(logs) == 2 and sum("Reason: worker-lifetime-reached" in log for log in logs) == 1


# --- Slurm


@pytest.mark.slow
def test_the_batch_job_serves_users_with_certificates(tmp_path: Path) -> None:
    here = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "SLURM_SUBMIT_DIR": str(ROOT)}
    environment = os.environ | here | {"SWARM_FOLDER": str(tmp_path), "SWARM_PORT": "0"}
    batch = subprocess.Popen(
        [DEPLOY / "slurm.sh", "service"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert batch.stdout is not None
        printed = []
        for line in batch.stdout:  # until the master has taken office
            printed.append(line)
            if line.startswith("serving"):
                break
        address = call(DEPLOY / "slurm.sh", "address", env=environment).strip()
        assert address.startswith("tls://"), "".join(printed)
        mine = {"DASK_CONFIG": f"{tmp_path}/certificates/{call('id', '-un').strip()}/tls.yaml"}
        assert "a master is connected" in call(BIN / "swarm", "health", address, env=environment | mine)
    finally:
        os.killpg(batch.pid, signal.SIGKILL)
        batch.communicate()


@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_batch_job_passes_on_that_its_time_is_over_and_comes_again(
    tmp_path: Path, number: signal.Signals, again: bool
) -> None:
    """What stands for Slurm and for the worker here is a few lines each; the signals and the script are real."""
    for name, text in {
        "swarm": "trap 'echo told TERM; exit' TERM; trap 'echo told USR1; exit' USR1\n"
        'echo "began $DASK_CONFIG $*"; while :; do sleep 0.05; done',
        "scontrol": 'echo "scontrol $*"',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "scheduler.json").write_text("{}", encoding="utf-8")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SWARM_FOLDER": str(tmp_path), "SLURM_JOB_ID": "4711"}
    with subprocess.Popen(
        [DEPLOY / "slurm.sh", "workers"], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as batch:
        assert batch.stdout is not None
        try:
            began = batch.stdout.readline()
            assert began.startswith(f"began {tmp_path}/certificates/worker/tls.yaml worker --scheduler-file")
            batch.send_signal(number)
            rest = batch.stdout.read().splitlines()
        except BaseException:
            batch.kill()
            raise
    name = number.name.removeprefix("SIG")
    assert rest == [f"told {name}", *(["scontrol requeue 4711"] if again else [])]
    assert batch.returncode == 0


# --- SSH


def by_ssh(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A list of hosts, and an environment where only the network is left out: what stands for ssh runs it here."""
    stand_in = tmp_path / "bin" / "ssh"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\n[ "$1 $2" = "-o BatchMode=yes" ] && exec sh -c "$4"\n', encoding="utf-8")
    stand_in.chmod(0o755)
    hosts = tmp_path / "hosts"
    hosts.write_text("# a comment\n\nme@here\n", encoding="utf-8")
    return hosts, {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("program", "options", "said"),
    [
        ("/nowhere/swarm", (), r"/nowhere/swarm.*No such file"),
        (str(BIN / "swarm"), ("--slots", "none"), "Invalid value for .--slots."),
        (str(BIN / "swarm"), ("--slots", "1", "--gpus", "all"), "give --gpus or --slots, not both"),
    ],
    ids=["not found", "not understood", "refused"],
)
def test_what_cannot_be_started_by_ssh_is_not_said_to_be_started(
    program: str, options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    hosts, environment = by_ssh(tmp_path)
    environment["SWARM"] = program
    command = [DEPLOY / "ssh.sh", "start", hosts, "tcp://127.0.0.1:1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert re.fullmatch(f"me@here: not started: .*{said}.*\n", done.stdout), done.stdout + done.stderr
    assert call(DEPLOY / "ssh.sh", "status", hosts, env=environment) == "me@here: stopped\n"


@pytest.mark.slow
async def test_workers_are_started_and_stopped_by_ssh(tmp_path: Path) -> None:
    hosts, environment = by_ssh(tmp_path)

    async def ssh(what: str, *words: str) -> str:
        options = {"env": environment | {"SWARM": str(BIN / "swarm")}}
        return await asyncio.to_thread(call, DEPLOY / "ssh.sh", what, hosts, *words, **options)

    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as served,
        Client(served.address, asynchronous=True) as client,
    ):
        assert await ssh("status") == "me@here: stopped\n"
        assert await ssh("start", served.address, "--slots", "1") == "me@here: started\n"
        try:
            await client.wait_for_workers(1, timeout=60)
            assert await ssh("start", served.address, "--slots", "1") == "me@here: runs already\n"
            assert await ssh("status") == "me@here: running\n"
        finally:
            stopped = await ssh("stop")
        assert stopped == "me@here: stopped\n"
        assert await ssh("status") == "me@here: stopped\n"
