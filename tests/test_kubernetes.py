"""The manifests, as kustomize renders them: valid by the schemas, restricted, and of one mind with each other."""

from __future__ import annotations

import copy
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from swarm.cli import app

sys.path.append(str(Path(__file__).parent.parent))

from deploy.engines.kubernetes import CHOICES, OPERATORS, builder, documents, faults, pods, rendered, unrestricted

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


@cache
def manifests(choice: Path) -> list[dict[str, Any]]:
    if not builder():
        pytest.skip("neither kubectl nor kustomize is installed")
    return rendered(choice)


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (one,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return one


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_every_manifest_is_strictly_valid_and_restricted(choice: Path) -> None:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    assert [fault for manifest in manifests(choice) for fault in faults(manifest)] == []


@pytest.mark.parametrize("path", OPERATORS, ids=lambda path: path.name)
def test_the_operators_pods_are_valid_and_restricted(path: Path) -> None:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    assert [fault for manifest in documents(path) for fault in faults(manifest)] == []


def test_a_field_that_there_is_not_and_a_pod_that_may_too_much_are_found() -> None:
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    (worker,) = documents(ROOT / "deploy" / "kubernetes" / "workers.yaml")
    assert list(faults(worker)) == []
    wrong = copy.deepcopy(worker)
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = ["swarm"]
    assert "comand" in "".join(faults(wrong))
    wrong = copy.deepcopy(worker)
    pod = wrong["spec"]["template"]["spec"]
    pod["volumes"][0] = {"name": "memory", "hostPath": {"path": "/dev/shm"}}
    del pod["containers"][0]["securityContext"]
    assert sorted(unrestricted(pod)) == [
        "volumes of other kinds: memory",
        "worker has capabilities",
        "worker may gain privileges",
    ]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_every_command_of_an_overlay_is_one_that_the_program_takes(choice: Path) -> None:
    known, found = get_command(app).commands, 0  # type: ignore[attr-defined]
    for manifest in manifests(choice):
        for pod in pods(manifest):
            for words in (container.get("args", []) for container in pod["containers"]):
                if words[:1] == ["swarm"]:
                    known[words[1]].make_context(words[1], list(words[2:]))
                    found += 1
    assert found == 3


def test_with_tls_everybody_has_his_certificate_and_nobody_does_without() -> None:
    found = manifests(ROOT / "deploy" / "overlays" / "full")
    for part, container in (("scheduler", "scheduler"), ("master", "master"), ("worker", "worker")):
        pod = named(found, "Deployment", f"swarm-{part}")["spec"]["template"]["spec"]
        (one,) = pod["containers"]
        assert one["name"] == container and "--insecure" not in one["args"]
        assert not [word for word in one["args"] if word.startswith("tcp://")]
        assert {"name": "DASK_CONFIG", "value": f"/etc/swarm/{part}/tls.yaml"} in one["env"]
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert mounts["tls"] == f"/etc/swarm/{part}" and mounts.keys() == volumes.keys()
        assert volumes["tls"]["secret"]["secretName"] == f"swarm-tls-{part}"


def test_what_scales_workers_is_the_only_one_that_says_how_many() -> None:
    found = manifests(ROOT / "deploy" / "overlays" / "full")
    scaled = named(found, "ScaledObject", "swarm-worker")["spec"]
    worker = named(found, "Deployment", scaled["scaleTargetRef"]["name"])
    assert "replicas" not in worker["spec"]
    query = scaled["triggers"][0]["metadata"]["query"]
    exported = (Path(__import__("distributed").__file__).parent / "http/scheduler/prometheus/core.py").read_text()
    assert "dask_scheduler_desired_workers" in query and '"desired_workers"' in exported


def test_workers_on_cpus_ask_for_no_gpu() -> None:
    worker = named(manifests(ROOT / "deploy" / "overlays" / "cpu"), "Deployment", "swarm-worker")
    assert "nvidia" not in str(worker)


def images(found: list[dict[str, Any]]) -> dict[str, str]:
    """Images of scheduler, master and workers."""
    containers = [container for manifest in found for pod in pods(manifest) for container in pod["containers"]]
    return {each["name"]: each["image"] for each in containers if each["name"] != "postgres"}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_workers_alone_have_tensorflow_and_one_line_says_where_all_images_are(choice: Path, tmp_path: Path) -> None:
    kinds = {"scheduler": "slim", "master": "slim", "worker": "cpu" if choice.name == "cpu" else "gpu"}
    assert images(manifests(choice)) == {part: f"dask-swarm:{kind}" for part, kind in kinds.items()}
    place = shutil.copytree(DEPLOY, tmp_path / "deploy") / choice.relative_to(DEPLOY)
    file = place / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("newName: dask-swarm", "newName: registry.local/dask-swarm"), encoding="utf-8")
    assert images(rendered(place)) == {part: f"registry.local/dask-swarm:{kind}" for part, kind in kinds.items()}


def test_the_operators_workers_alone_have_tensorflow() -> None:
    cluster = documents(DEPLOY / "kubernetes" / "daskcluster.yaml")
    assert images(cluster) == {"scheduler": "dask-swarm:slim", "worker": "dask-swarm:gpu"}


def test_amounts_are_texts_where_the_operator_takes_no_numbers() -> None:
    containers = [each for manifest in documents(OPERATORS[0]) for pod in pods(manifest) for each in pod["containers"]]
    amounts = [amount for each in containers for part in each["resources"].values() for amount in part.values()]
    assert "1" in amounts and {type(amount) for amount in amounts} == {str}


def test_budgets_and_monitors_find_what_they_are_for() -> None:
    found = manifests(ROOT / "deploy" / "overlays" / "full")
    labels = [pod["spec"]["template"]["metadata"]["labels"] for pod in found if pod["kind"] == "Deployment"]
    budgets = [each["spec"]["selector"]["matchLabels"] for each in found if each["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 2
    for wanted in budgets:
        assert [each for each in labels if wanted.items() <= each.items()]
    monitor = named(found, "ServiceMonitor", "swarm-scheduler")["spec"]
    service = named(found, "Service", "swarm-scheduler")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
