"""The GPUs that this machine offers: which there are, what a slot's processes see of them, and who serves them."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from swarm.errors import InvalidInput
from swarm.workers.cards import amd, choice, driver
from swarm.workers.cards.driver import Device, NoAnswerError

VISIBLE = choice.CUDA
SLOT = "SWARM_SLOT"
"""Environment variable of a GPU slot's processes: its name, by which they are known even when they are orphans."""
GPUS_PER_TRAINING = "SWARM_GPUS_PER_TRAINING"
PATIENCE = "SWARM_GPU_PATIENCE"
"""Environment variable: seconds to wait for a GPU to become free; 60 unless it is set."""
PINS = (VISIBLE, amd.ROCR)
"""Environment variables that say which GPUs of the machine a process may see."""
OURS = 0.9
"""Share of a GPU's memory that is for trainings."""

_log = logging.getLogger("swarm.workers")


def devices(env: Mapping[str, str] = os.environ) -> list[Device]:
    """The GPUs, and parts of GPUs, that this process may use, in order; empty where there is none.

    ``CUDA_VISIBLE_DEVICES`` is honoured, as CUDA does; without it what Slurm, Docker and Kubernetes say.

    Raises:
        InvalidInput: One of these names what is not there.
    """
    try:
        seen = driver.look([])
    except NoAnswerError as error:
        _log.warning("no GPU is used: %s", error)
        return []
    return choice.visible(seen.devices, env) if seen is not None and seen.devices else amd.cards(env)


def gpus() -> list[str]:
    """Identifiers (UUIDs) of those."""
    return [device.uuid for device in devices()]


def slot_env(slot: str, used: Sequence[str], gpus_per_training: float) -> dict[str, str]:
    """Environment of the processes of a slot that has GPUs.

    TensorFlow takes all memory of a GPU at its start, and JAX three quarters, which keeps it in one piece. So they may
    where they have the GPU for themselves; where trainings share one, TensorFlow takes what it needs, JAX its part of
    nine tenths, and PyTorch no more than that (:mod:`swarm.workers.isolation.frameworks`).
    """
    if used[0].startswith(amd.PREFIX):
        return {**amd.pins(used), SLOT: slot}
    env = {
        VISIBLE: ",".join(used),
        choice.ORDER: "PCI_BUS_ID",
        SLOT: slot,
        GPUS_PER_TRAINING: f"{gpus_per_training:g}",
    }
    if gpus_per_training >= 1:
        return env
    share = f"{OURS * gpus_per_training:.3f}"
    return {**env, "TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": share}


@contextmanager
def claimed(used: Iterable[str]) -> Iterator[None]:
    """Holds GPUs against every other process of this machine that claims them, until the end of the context.

    The locks are files in the temporary folder, and end with this process however it ends.

    Raises:
        InvalidInput: Another process serves one of them.
    """
    with ExitStack() as stack:
        for gpu in dict.fromkeys(used):
            stack.enter_context(_lock(gpu))
        yield


def served_by(gpu: str) -> str | None:
    """The number of the process that serves a GPU; None if none does."""
    path = _lock_file(gpu)
    with suppress(OSError), path.open("r", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


def _lock_file(gpu: str) -> Path:
    return Path(tempfile.gettempdir(), f"swarm-{gpu}.lock")


@contextmanager
def _lock(gpu: str) -> Iterator[None]:
    path = _lock_file(gpu)
    try:
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
            path.chmod(0o666)  # the machine's users share its GPUs
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise InvalidInput(f"{gpu} cannot be locked: {error}; remove that file if no worker runs") from None
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(f"{gpu} is already served by process {file.read()}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
