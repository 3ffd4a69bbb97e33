"""The files for deployment fit the commands, and each other."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import BIN, DEPLOY, ROOT, call, documents
from distributed import Scheduler
from distributed.cli.dask_worker import main as dask_worker
from services import free_port
from test_master import mastered
from typer.main import get_command

from swarm.cli import app

COMPOSE, OVERLAYS = ROOT / "docker-compose.yml", [DEPLOY / "compose.tls.yml", DEPLOY / "compose.gpu.yml"]
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCRIPTS = [DEPLOY / "make-certificates", DEPLOY / "slurm.sh", DEPLOY / "ssh.sh"]
FILES = [ROOT / ".env.example", COMPOSE, *(path for path in DEPLOY.rglob("*") if path.is_file())]
CONFIGURATION = [path for path in FILES if path.suffix not in (".md", ".pyc")]


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


def stages() -> dict[str, str]:
    """The parts of the Dockerfile, each from its FROM on, by their names; that of the last is what it starts from."""
    parts = re.split(r"^FROM (?=\S)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].rpartition(" ")[2]: part for part in parts}


def copied(part: str) -> set[str]:
    found = re.findall(r"^COPY (?!--from)(.+) \S+$", part, re.MULTILINE)
    return set(" ".join(found).split())


def test_the_images_are_made_of_what_is_there() -> None:
    sources = set().union(*map(copied, stages().values()))
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert sources == set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE))
    assert all((ROOT / source).exists() for source in sources)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lists = set(re.findall(r"-r /requirements/(\S+)\.txt", "".join(stages().values())))
    assert lists == {"core", "cpu", "gpu", "postgres"} and lists - {"core"} <= set(extras)


def test_no_packages_are_installed_anew_when_a_source_has_changed() -> None:
    found = stages()
    for name in ("core", "slim", "cpu", "gpu"):
        assert not copied(found[name]) and "from=wheel" not in found[name], name
    assert copied(found["requirements"]) == {"pyproject.toml", "constraints.txt"}
    assert {"swarm", "workers"} < copied(found["wheel"])
    assert "from=wheel" in found["${KIND}"] and "-r /requirements" not in found["${KIND}"]


def test_the_slim_image_compiles_modules_that_there_are() -> None:
    found = re.search(r'^RUN python -c "import ([^"]+)"', stages()["core"], re.MULTILINE)
    assert found is not None
    names = [name.strip() for name in found[1].replace("\\\n", " ").split(",")]
    assert len(names) > 10
    call(sys.executable, "-W", "ignore", "-c", f"import {', '.join(names)}")


def test_workers_alone_have_tensorflow() -> None:
    for count in range(len(OVERLAYS) + 1):
        for chosen in combinations(OVERLAYS, count):
            images, kinds = kinds_of(chosen)
            gpus = any(path.name == "compose.gpu.yml" for path in chosen)
            worker = "gpu" if gpus else "cpu"
            assert kinds == {"scheduler": "slim", "master": "slim", "worker": worker, "client": "${SWARM_CLIENT:-slim}"}
            assert images == {name: f"dask-swarm:{kind}" for name, kind in kinds.items()}


def kinds_of(chosen: Iterable[Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Images of the services that have one of ours, and the kind that each is built as."""
    images, kinds = {}, {}
    for path in (COMPOSE, *chosen):
        for name, service in documents(path)[0]["services"].items():
            images |= {name: service["image"]} if "build" in service else {}
            kinds |= {name: service["build"]["args"]["KIND"]} if "build" in service else {}
    return images, kinds


@pytest.mark.parametrize("path", CONFIGURATION, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_downloads_from_an_address_of_its_own(path: Path) -> None:
    inside = r"localhost|[\w.-]+\.svc[:/]"  # of this machine, or of a Kubernetes cluster
    assert not re.search(rf"https?://(?!{inside})", path.read_text(encoding="utf-8"))


def test_the_readme_names_every_file() -> None:
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = {path.name for path in FILES if path.parent == DEPLOY and path.suffix not in (".md", ".pyc")}
    for name in named | {"docker-compose.yml", "daskcluster.yaml", "kubernetes", "systemd"}:
        assert name in readme, name
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (DEPLOY / link).exists(), link


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
