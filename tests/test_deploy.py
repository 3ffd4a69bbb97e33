"""The files for deployment fit the commands, and each other; the certificates secure a real scheduler."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from distributed import Client, Scheduler, Security, Worker
from distributed.cli.dask_worker import main as dask_worker
from distributed.comm import connect
from services import free_port
from test_master import mastered
from typer.main import get_command

from swarm.cli import app
from swarm.scheduler.plugin import certified_name

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
COMPOSE, OVERLAYS = ROOT / "docker-compose.yml", [DEPLOY / "compose.tls.yml", DEPLOY / "compose.gpu.yml"]
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCRIPTS = [DEPLOY / "make-certificates", DEPLOY / "slurm.sh", DEPLOY / "ssh.sh"]
FILES = [ROOT / ".env.example", COMPOSE, *(path for path in DEPLOY.rglob("*") if path.is_file())]
CONFIGURATION = [path for path in FILES if path.suffix not in (".md", ".pyc")]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def call(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- every command line that starts something of ours


def composed() -> Iterator[tuple[str, list[str]]]:
    """Commands of the services, with every choice of overlays in the order that the README shows."""
    for count in range(len(OVERLAYS) + 1):
        for chosen in combinations(OVERLAYS, count):
            services = documents(COMPOSE)[0]["services"]
            for overlay in chosen:
                for name, changed in documents(overlay)[0]["services"].items():
                    services[name] = services[name] | changed
            for name, service in services.items():
                place = "+".join([COMPOSE.name, *(path.name for path in chosen), name])
                yield place, [*service.get("entrypoint", []), *service.get("command", [])]
                yield f"{place} health", service.get("healthcheck", {}).get("test", [])[1:]


def pods(path: Path) -> Iterator[dict[str, Any]]:
    for document in documents(path):
        spec = document.get("spec", {})
        for owner in (spec.get("template"), spec.get("scheduler"), spec.get("worker")):
            if isinstance(owner, dict):
                yield owner["spec"]


def in_kubernetes() -> Iterator[tuple[str, list[str]]]:
    for path in KUBERNETES:
        for container in chain.from_iterable(pod["containers"] for pod in pods(path)):
            yield f"{path.name} {container['name']}", container.get("args", [])
            for probe in ("readinessProbe", "livenessProbe"):
                yield f"{path.name} {probe}", container.get(probe, {}).get("exec", {}).get("command", [])


def lines(path: Path) -> list[str]:
    """Lines that are commands, or show how to use the file; those that a backslash breaks are joined."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    text = text.replace("docker compose run --rm client", "swarm")  # its entrypoint
    options = re.search(r'^Environment="SWARM_OPTIONS=(.*)"$', text, re.MULTILINE)
    text = text.replace(" $SWARM_OPTIONS", f" {options[1]}" if options else "")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", re.sub(r'"\$\(.*?\)"', "OUTPUT", text))
    if path.suffix == ".md":
        return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)).splitlines()
    return [line for line in text.splitlines() if not re.match(r"# {0,2}\w", line)]


def in_texts() -> Iterator[tuple[str, list[str]]]:
    known = get_command(app).commands
    for path in [*UNITS, *SCRIPTS, DEPLOY / "README.md"]:
        for line in lines(path):
            found = re.search(r"(?:^|[ /])(swarm [a-z]+ [^#&|;]+)", line)
            if found is not None and (words := shlex.split(found[1]))[1] in known:
                yield f"{path.name}: {found[1].strip()}", words


def commands() -> list[Any]:
    found = [(place, words) for place, words in chain(composed(), in_kubernetes(), in_texts()) if words]
    stripped = [(place, words[2:] if words[0] == "tini" else words) for place, words in found]
    ours = [(place, words) for place, words in stripped if words[0] in ("swarm", "dask")]
    return [pytest.param(words, id=place) for place, words in ours]


@pytest.mark.parametrize("words", commands())
def test_every_command_line_is_one_that_the_program_takes(words: list[str]) -> None:
    if words[:2] == ["dask", "worker"]:
        dask_worker.make_context("worker", words[2:])
        return
    get_command(app).commands[words[1]].make_context(words[1], words[2:])


def test_the_command_lines_of_all_ways_of_deployment_were_found() -> None:
    places = " ".join(str(param.id) for param in commands())
    for path in [COMPOSE, *OVERLAYS, *UNITS, DEPLOY / "slurm.sh", DEPLOY / "README.md"]:
        assert path.name in places
    for words in ("scheduler.yaml scheduler", "master.yaml readinessProbe", "workers.yaml worker", "daskcluster.yaml"):
        assert words in places


# --- formats


@pytest.mark.parametrize("path", [COMPOSE, *OVERLAYS], ids=lambda path: path.name)
def test_compose_files_follow_the_specification(path: Path) -> None:
    call(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path: Path) -> None:
    assert os.access(path, os.X_OK)
    call(BIN / "shellcheck", path)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_understood_by_systemd(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / path.name
    unit.write_text(path.read_text(encoding="utf-8").replace("/opt/swarm/bin", str(BIN)), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert not [line for line in done.stderr.splitlines() if path.name in line], done.stderr
    assert "Restart=always" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_hardened_and_watched(path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    call("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=40", path)
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^Type=notify$", text, re.MULTILINE) and re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    assert re.search(r"^ExecStart=.* \$SWARM_OPTIONS$", text, re.MULTILINE)


def test_the_unit_of_workers_leaves_them_what_trainings_need() -> None:
    text = (DEPLOY / "systemd" / "swarm-worker.service").read_text(encoding="utf-8")
    set_there = set(re.findall(r"^(\w+)=", text, re.MULTILINE))
    hiding = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "PrivateTmp", "MemoryDenyWriteExecute"}
    assert not set_there & hiding


def test_kustomize_lists_every_manifest_but_the_operators() -> None:
    listed = documents(DEPLOY / "kubernetes" / "kustomization.yaml")[0]["resources"]
    assert {"kustomization.yaml", "daskcluster.yaml", *listed} == {path.name for path in KUBERNETES}
    if shutil.which("kubectl") is not None:
        built = list(yaml.safe_load_all(call("kubectl", "kustomize", DEPLOY / "kubernetes")))
        assert {part["metadata"]["namespace"] for part in built} == {"swarm"}


def test_kubernetes_selectors_find_the_pods_they_are_meant_for() -> None:
    manifests = list(chain.from_iterable(documents(path) for path in KUBERNETES))
    labels = [
        item["spec"]["template"]["metadata"]["labels"] for item in manifests if "template" in item.get("spec", {})
    ]
    for item in manifests:
        if item["kind"] in ("Deployment", "StatefulSet"):
            assert item["spec"]["selector"]["matchLabels"] == item["spec"]["template"]["metadata"]["labels"]
        if item["kind"] == "Service":
            assert item["spec"]["selector"] in labels


def probe(service: str, **hosts: str) -> list[str]:
    """The command of a health check, for a scheduler that listens elsewhere."""
    words = documents(COMPOSE)[0]["services"][service]["healthcheck"]["test"]
    assert words[0] == "CMD"
    return [hosts.get(word, word).replace("$$", "$") for word in words[1:]]


async def test_the_health_of_containers_is_what_the_schedulers_pages_say(tmp_path: Path) -> None:
    async with Scheduler(
        host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", preload=["swarm.scheduler"]
    ) as served:

        async def well(service: str, port: int) -> bool:
            here = [word.replace("8787", str(port)) for word in probe(service, scheduler="localhost")]
            done = await asyncio.to_thread(subprocess.run, here, capture_output=True, timeout=30, check=False)
            return done.returncode == 0

        port = served.http_server.port
        assert await well("scheduler", port)
        assert not await well("master", port)  # there is none
        async with mastered(tmp_path, served.address):
            assert await well("master", port)
        assert not await well("scheduler", free_port())


def test_no_container_has_more_of_the_machine_than_somebody_has_said() -> None:
    services = documents(COMPOSE)[0]["services"]
    for name, service in services.items():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert name == "client" or {"mem_limit", "cpus"} <= service.keys(), name


# --- what must not be open, and what must not be missing


def test_nothing_is_published_beyond_this_machine_unless_somebody_says_so() -> None:
    services = documents(COMPOSE)[0]["services"]
    ports = list(chain.from_iterable(service.get("ports", []) for service in services.values()))
    assert ports
    assert all(port.startswith(("127.0.0.1:", "${SWARM_LISTEN:-127.0.0.1}:")) for port in ports)
    assert not any("ports" in service for path in OVERLAYS for service in documents(path)[0]["services"].values())


def test_with_tls_nobody_is_told_to_do_without() -> None:
    tls = [words.values[0] for words in commands() if "compose.tls.yml" in str(words.id)]
    assert tls and not any("--insecure" in words for words in tls)
    assert not [word for words in tls for word in words if "tcp://" in word]


def test_every_variable_of_compose_is_explained_in_the_example() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [COMPOSE, *OVERLAYS])
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert re.search(r"^POSTGRES_PASSWORD=$", example, re.MULTILINE), "a password in the repository is none"


def test_the_image_is_made_of_what_is_there() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    sources = set(" ".join(copied).split())
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert sources == set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE))
    assert all((ROOT / source).exists() for source in sources)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"cpu", "gpu", "postgres"} <= set(extras)
    assert ".[${TENSORFLOW},postgres]" in dockerfile


@pytest.mark.parametrize("path", CONFIGURATION, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_downloads_from_an_address_of_its_own(path: Path) -> None:
    assert not re.search(r"https?://(?!localhost)", path.read_text(encoding="utf-8"))


def test_the_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = {path.name for path in FILES if path.parent == DEPLOY and path.suffix not in (".md", ".pyc")}
    for name in named | {"docker-compose.yml", "daskcluster.yaml", "kubernetes", "systemd"}:
        assert name in readme, name
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (DEPLOY / link).exists(), link


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


# --- certificates


def certificates(folder: Path, *arguments: str) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return call(DEPLOY / "make-certificates", *arguments[:-1], folder, *arguments[-1:])


def security(folder: Path, owner: str) -> Security:
    """What ``DASK_CONFIG=folder/owner/tls.yaml`` gives."""
    comm = yaml.safe_load((folder / owner / "tls.yaml").read_text(encoding="utf-8"))["distributed"]["comm"]
    with dask.config.set({"distributed.comm": dask.config.merge(dask.config.get("distributed.comm"), comm)}):
        return Security()


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("issued")
    certificates(folder, "ann")
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    certificates(folder, "ann")
    return folder


def scheduler(secured: Security) -> Scheduler:
    return Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", security=secured)


async def test_a_user_trains_under_his_name_on_a_scheduler_with_tls(issued: Path) -> None:
    async with (
        scheduler(security(issued, "scheduler")) as served,
        Worker(served.address, nthreads=1, dashboard=False, security=security(issued, "worker")),
        Client(served.address, security=security(issued, "ann"), asynchronous=True) as client,
    ):
        assert served.address.startswith("tls://")
        assert await client.submit(sum, [1, 2]) == 3
        assert certified_name(served.client_comms[client.id].comm) == "ann"


async def test_the_masters_certificate_has_the_name_that_the_scheduler_expects(issued: Path) -> None:
    async with (
        scheduler(security(issued, "scheduler")) as served,
        Client(served.address, security=security(issued, "master"), asynchronous=True) as client,
    ):
        assert certified_name(served.client_comms[client.id].comm) == "swarm-master"


async def test_a_certificate_of_another_authority_and_none_at_all_are_refused(issued: Path, foreign: Path) -> None:
    stranger = Security(
        require_encryption=True,
        tls_ca_file=str(issued / "ann" / "ca.pem"),  # as he may have seen it
        tls_client_cert=str(foreign / "ann" / "cert.pem"),
        tls_client_key=str(foreign / "ann" / "key.pem"),
    )
    async with scheduler(security(issued, "scheduler")) as served:
        with pytest.raises(OSError):
            await connect(served.address, timeout=5, **stranger.get_connection_args("client"))
        with pytest.raises(OSError):
            await connect(served.address.replace("tls://", "tcp://"), timeout=5)


async def test_a_user_cannot_pass_himself_off_as_the_scheduler(issued: Path) -> None:
    mine = issued / "ann"
    posing = Security(
        require_encryption=True,
        tls_ca_file=str(mine / "ca.pem"),
        tls_scheduler_cert=str(mine / "cert.pem"),
        tls_scheduler_key=str(mine / "key.pem"),
    )
    async with scheduler(posing) as served:
        with pytest.raises(OSError, match="certificate"):
            await connect(served.address, timeout=5, **security(issued, "master").get_connection_args("client"))


def test_keys_are_readable_for_their_owner_alone(issued: Path) -> None:
    keys = list(issued.rglob("key.pem"))
    assert {key.parent.name for key in keys} == {"ca", "scheduler", "master", "worker", "ann"}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_adding_a_user_leaves_everything_else_as_it_was(tmp_path: Path) -> None:
    certificates(tmp_path, "ann")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert f"kept {tmp_path}/ca\n" in certificates(tmp_path, "bob")
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {"ca", "scheduler", "master", "worker", "ann", "bob"}


def test_certificates_can_be_made_for_another_place(tmp_path: Path) -> None:
    certificates(tmp_path, "--at", "/etc/it's here", "ann")
    assert security(tmp_path, "ann").tls_client_key == "/etc/it's here/ann/key.pem"


@pytest.mark.parametrize("name", ["swarm-master", "scheduler", "ca", "../ann", "a/CN=swarm-master", ""])
def test_a_user_cannot_have_a_name_that_is_somebody_elses(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [DEPLOY / "make-certificates", tmp_path / "made", name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()


# --- scripts that start things, run here


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


def test_whoever_ends_a_worker_waits_for_longer_than_its_trainings_have() -> None:
    grace = 60
    unit = (DEPLOY / "systemd" / "swarm-worker.service").read_text(encoding="utf-8")
    assert "KillMode=mixed" in unit
    found = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert found is not None
    (worker,) = documents(DEPLOY / "kubernetes" / "workers.yaml")
    composed = documents(COMPOSE)[0]["services"]["worker"]["stop_grace_period"]
    pod = worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert min(int(found[1]), pod, int(composed.removesuffix("s"))) >= grace + 20


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
