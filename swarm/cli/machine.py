"""What of this machine a search needs, checked: each thing is good, or has its remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from swarm.config import settings
from swarm.errors import SwarmError
from swarm.store.sql import Store
from swarm.version import __version__
from swarm.workers.cards import choice, driver
from swarm.workers.cards.driver import Device
from swarm.workers.isolation.server import environment
from swarm.workers.node.gpu import devices, served_by, slot_env
from swarm.workers.node.memory import obstacle

FRAMEWORKS = {"tensorflow": "TensorFlow", "keras": "Keras", "torch": "PyTorch", "jax": "JAX"}
"""What trains, by the name of its module."""

_IMPORT_SECONDS = 120.0
_FILES = 4096  # open at a time: a worker has a dozen for each training, the scheduler two for each worker
_SHARED = 1 << 30  # bytes of shared memory, in which data loaders of PyTorch hand batches over
_MEMORY = 1 << 30  # bytes for one training
_DISK = 5 << 30
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"}
_IMPORT = (
    "import importlib, json, sys, time; start = time.perf_counter(); importlib.import_module(sys.argv[1]); "
    "seconds = time.perf_counter() - start; from swarm.workers.isolation.fork_safety import obstacle; "
    "print(json.dumps([seconds, obstacle()]))"
)


class State(StrEnum):
    """How a thing is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing.

    Attributes:
        name: What was looked at.
        state: How it is: a warning is what costs speed or may fail later, bad is what fails.
        said: What was found.
        remedy: What to do; None where all is good.
    """

    name: str
    state: State
    said: str
    remedy: str | None = None


def checks(store: str | None = None, scheduler: str | None = None) -> Iterator[Check]:
    """Look at this machine, one thing after the other; frameworks take seconds each, since they are imported.

    Args:
        store: Store to open; None takes the settings'.
        scheduler: Address of a scheduler to ask; None takes the settings', if they name one.
    """
    chosen = settings()
    yield _python()
    yield from _frameworks()
    yield from _gpus()
    yield _memory()
    yield _shared_memory()
    yield _files()
    yield _disk()
    yield _store(store or chosen.store)
    if (address := scheduler or chosen.scheduler_address) is not None:
        yield _service(address)


def _python() -> Check:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("distributed", "numpy", "bokeh"))
    return Check("python", State.GOOD, f"{sys.version.split()[0]}, dask-swarm {__version__}, {versions}")


# --- what trains


def _frameworks() -> Iterator[Check]:
    there = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None]
    if not there:
        yield Check(
            "frameworks",
            State.WARNING,
            "none of TensorFlow, PyTorch and JAX is installed: plain Python functions and programs can be trained",
            "for the built-in networks: pip install 'dask-swarm[cpu]', or [gpu] with an NVIDIA GPU",
        )
    for name in there:
        yield _framework(name)


def _framework(name: str) -> Check:
    """Import it as the process does from which trainings are forked."""
    said = f"{FRAMEWORKS[name]} {_version(name)}"
    command = [sys.executable, "-c", _IMPORT, name]
    env = {**environment(), **os.environ}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Check(name, State.BAD, f"{said}: its import takes more than {_IMPORT_SECONDS:g} s", _reinstall(name))
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Check(name, State.BAD, f"{said} cannot be imported: {reason}", _reinstall(name))
    seconds, obstacle = json.loads(done.stdout.splitlines()[-1])
    if obstacle is None:
        return Check(name, State.GOOD, f"{said}, imported in {seconds:.1f} s; trainings are forked with it")
    return Check(
        name,
        State.WARNING,
        f"{said}: its import leaves {obstacle}, so each training imports it again, {seconds:.1f} s",
        "unset what makes it start threads or touch a device at its import (OMP_NUM_THREADS other than 1, a plug-in)",
    )


def _version(name: str) -> str:
    """Of the distribution that brings a module: TensorFlow's has several names."""
    for distribution in (name, f"{name}-cpu", f"{name}-intel"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def _reinstall(name: str) -> str:
    return f"try it: {sys.executable} -c 'import {name}'; then reinstall it in this environment"


# --- the machine


def _gpus() -> Iterator[Check]:
    """The GPUs, each with what its memory would let a training have."""
    cores = len(os.sched_getaffinity(0))
    try:
        seen = driver.look()
        used = [device.uuid for device in devices()]
    except driver.NoAnswerError as error:
        yield Check("gpus", State.BAD, str(error), "mend the driver, or train on CPUs: --slots")
        return
    except SwarmError as error:
        yield Check("gpus", State.BAD, str(error), "name GPUs that are there (nvidia-smi -L), or unset the variable")
        return
    if seen is None and not used:
        yield Check("gpus", State.GOOD, f"no driver of NVIDIA or AMD: trainings run on {cores} CPU cores")
        return
    found = () if seen is None else choice.usable(seen.devices)
    of = f"of {len(found)}, NVIDIA's driver {seen.version}" if seen is not None and found else "of AMD's"
    if not used:
        remedy = "unset CUDA_VISIBLE_DEVICES, or name some; a card in MIG mode needs parts (nvidia-smi mig)"
        yield Check("gpus", State.WARNING, f"none may be used, {of}", remedy)
        return
    yield Check("gpus", State.GOOD, f"{len(used)} to use, {of}")
    lost = [device for device in (() if seen is None else seen.devices) if device.error is not None]
    for device in [*lost, *(device for device in found if device.uuid in used and device.error is None)]:
        yield _gpu(device)


def _gpu(device: Device) -> Check:
    """What a training that asks for nothing would find on it."""
    name = f"gpu {device.index}"
    said = f"{device.name}, {device.uuid}, {_size(device.free)} of {_size(device.total)} free"
    if device.error is not None:
        return Check(name, State.BAD, f"{device.uuid or 'a card'}: {device.error}", "see the kernel's log (dmesg)")
    if (server := served_by(device.uuid)) is not None:
        return Check(name, State.GOOD, f"{said}, served by process {server}")
    reason = obstacle(slot_env("", [device.uuid], 1), patience=0)
    if reason is None:
        return Check(name, State.GOOD, said)
    return Check(name, State.WARNING, f"a training would wait: {reason}", "see there; swarm top shows it for a service")


def _memory() -> Check:
    free = min(psutil.virtual_memory().available, _cgroup_limit())
    cores = len(os.sched_getaffinity(0))
    said = f"{_size(free)} free for trainings, {cores} cores"
    if free >= cores * _MEMORY:
        return Check("memory", State.GOOD, said)
    slots = max(1, free // _MEMORY)
    return Check("memory", State.WARNING, said, f"train fewer at a time if they are killed: --slots {slots}")


def _cgroup_limit() -> int:
    """Bytes that a container's limit leaves; very many where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # no cgroup of version 2 of one's own, or "max"
        return sys.maxsize


def _shared_memory() -> Check:
    try:
        total = shutil.disk_usage("/dev/shm").total
    except OSError as error:
        return Check("shared memory", State.WARNING, f"/dev/shm: {error}", "mount it: data loaders of PyTorch use it")
    if total >= _SHARED:
        return Check("shared memory", State.GOOD, f"/dev/shm has {_size(total)}")
    remedy = "if data loaders with several workers die of a bus error: docker run --shm-size=8g, or ipc: host"
    return Check("shared memory", State.WARNING, f"/dev/shm has {_size(total)}", remedy)


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return Check("open files", State.GOOD, f"{soft} at a time")
    remedy = f"ulimit -n {_FILES}" if hard == resource.RLIM_INFINITY or hard >= _FILES else "raise the hard limit"
    return Check("open files", State.WARNING, f"{soft} at a time, too few for some hundred workers", remedy)


def _disk() -> Check:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk", State.BAD, f"{folder} cannot be written to: {error}", "set TMPDIR to a folder that can")
    if free >= _DISK:
        return Check("disk", State.GOOD, f"{_size(free)} free in {folder}")
    return Check("disk", State.WARNING, f"{_size(free)} free in {folder}", "free some, or set TMPDIR to another disk")


# --- the service


def _store(url: str) -> Check:
    folder = Store.folder_of(url)
    place = None if folder is None else folder.parent
    try:
        with closing(Store(url, create=False)) as store:
            said = f"{url} opens, and holds {sum(1 for _ in store.jobs())} runs"
    except SwarmError as error:
        if place is None or not os.access(place, os.W_OK) or any(place.glob(Path(url).name)):
            return Check("store", State.BAD, str(error), "name another: --store sqlite:///FILE or postgresql://…")
        said = f"{url} is not there yet; the first run makes it"
    kind = "" if place is None else _file_system(place)
    if kind in _REMOTE:
        remedy = "keep it on a disk of this machine, or take PostgreSQL: locks are not reliable there"
        return Check("store", State.WARNING, f"{said}, on {kind}", remedy)
    return Check("store", State.GOOD, said)


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on; empty if that is not known."""
    place = folder.resolve()
    mounts = [each for each in psutil.disk_partitions(all=True) if place.is_relative_to(each.mountpoint)]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else ""


def _service(address: str) -> Check:
    from swarm.client import Client

    try:
        found = Client(address).health()
    except SwarmError as error:
        return Check("scheduler", State.BAD, str(error), f"start it: swarm scheduler; or name another than {address}")
    if found["ok"]:
        return Check("scheduler", State.GOOD, f"{address} is well: swarm health")
    return Check("scheduler", State.BAD, f"{address}: {'; '.join(found['problems'])}", "see swarm health")


def _size(amount: float) -> str:
    return f"{amount / (1 << 30):.1f} GiB"
