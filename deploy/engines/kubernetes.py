"""The manifests of Kubernetes, rendered by kustomize, against the schemas and the restricted security standard."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import yaml

from deploy.engines.frame import Engine, Outcome, Row, Unavailable, said, which
from deploy.engines.job import Work, call

DEPLOY = Path(__file__).parent.parent
CHOICES = (DEPLOY / "kubernetes", DEPLOY / "overlays" / "cpu", DEPLOY / "overlays" / "full")
"""What ``kubectl apply -k`` takes."""
OPERATORS = (DEPLOY / "kubernetes" / "daskcluster.yaml", DEPLOY / "overlays" / "daskautoscaler.yaml")
FOREIGN = ("kubernetes.dask.org/", "keda.sh/", "monitoring.coreos.com/")
"""Groups of kinds that operators bring, whose schemas Kubernetes does not have."""

Manifest = dict[str, Any]


class Kubernetes(Engine):
    """No cluster runs: each choice of overlays is rendered and validated strictly."""

    name: ClassVar = "kubernetes"
    packages: ClassVar = {}

    def check(self) -> None:
        """It takes kustomize, or kubectl that has it, and the schemas."""
        if not builder():
            raise Unavailable("neither kubectl nor kustomize is in the PATH; install one from your distribution")
        if importlib.util.find_spec("kubernetes_validate") is None:
            raise Unavailable("no schemas: .venv/bin/python -m pip install kubernetes-validate")

    def version(self) -> str:
        """Of the schemas, and of kustomize."""
        lines = said(*builder()[:1], "version", *(["--client"] if "kubectl" in builder()[0] else [])).splitlines()
        tool = next((line.split()[-1] for line in lines if "ustomize" in line or line.startswith("v")), "")
        return f"schemas {latest()} (kubernetes-validate {version('kubernetes-validate')}), kustomize {tool}"

    def run(self, folder: Path, work: Work) -> Row:
        """All of them."""
        began = time.monotonic()
        manifests = [(each.name, manifest) for each in CHOICES for manifest in rendered(each)]
        manifests += [(path.name, manifest) for path in OPERATORS for manifest in documents(path)]
        wrong = [f"{place}: {fault}" for place, manifest in manifests for fault in faults(manifest)]
        foreign = {manifest["kind"] for _, manifest in manifests if manifest["apiVersion"].startswith(FOREIGN)}
        note = (
            f"no cluster: {len(manifests)} manifests are strictly valid, and all pods restricted; of "
            f"{', '.join(sorted(foreign))} only the pods were looked at"
        )
        return Row(
            engine=self.name,
            outcome=Outcome.WRONG if wrong else Outcome.SAME,
            version=self.version(),
            seconds=time.monotonic() - began,
            note="; ".join(wrong[:3]) or note,
        )


def builder() -> list[str]:
    """The words before a folder of kustomize's; empty where there is no such program."""
    if found := which("kustomize"):
        return [found, "build"]
    return [found, "kustomize"] if (found := which("kubectl")) else []


def rendered(folder: Path) -> list[Manifest]:
    """What ``kubectl apply -k FOLDER`` would apply."""
    return list(yaml.safe_load_all(call(*builder(), folder)))


def documents(path: Path) -> list[Manifest]:
    """The manifests of a file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """The specifications of pods in a manifest, those of the Dask operator's kind included."""
    spec = manifest.get("spec", {})
    for owner in (spec.get("template"), spec.get("scheduler"), spec.get("worker")):
        if isinstance(owner, dict) and "containers" in owner.get("spec", {}):
            yield owner["spec"]


def latest() -> str:
    """The latest version of Kubernetes whose schemas are there."""
    import kubernetes_validate  # type: ignore[import-untyped]

    return str(kubernetes_validate.latest_version())


def faults(manifest: Manifest) -> Iterator[str]:
    """What is wrong with a manifest, by the schema, which knows all fields, and by the restricted standard."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    if manifest["apiVersion"].startswith(FOREIGN):
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}}
        judged = [{**wrapped, "spec": pod} for pod in pods(manifest)]
    else:
        judged = [manifest]
    for each in judged:
        yield from (f"{name}: {fault}" for fault in _by_schema(each))
    for pod in pods(manifest):
        yield from (f"{name}: {fault}" for fault in unrestricted(pod))


def _by_schema(manifest: Manifest) -> Iterator[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(manifest, latest(), strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


def unrestricted(pod: Manifest) -> Iterator[str]:
    """What the pod security standard `restricted` would refuse."""
    outer = pod.get("securityContext", {})
    if outer.get("runAsNonRoot") is not True or outer.get("runAsUser") == 0:
        yield "it may run as root"
    if outer.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "it has no seccomp profile"
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "it shares a namespace with its node"
    kept = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    if bad := [volume["name"] for volume in pod.get("volumes", []) if not kept & volume.keys()]:
        yield f"volumes of other kinds: {', '.join(bad)}"
    for container in pod["containers"] + pod.get("initContainers", []):
        inner = container.get("securityContext", {})
        if inner.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may gain privileges"
        if inner.get("capabilities", {}).get("drop") != ["ALL"] or inner.get("capabilities", {}).get("add"):
            yield f"{container['name']} has capabilities"
