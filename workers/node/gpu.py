"""The NVIDIA GPUs of this machine, as ``nvidia-smi`` tells: which there are, what is on them, and who serves them."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import InvalidInput

VISIBLE = "CUDA_VISIBLE_DEVICES"
SLOT = "SWARM_SLOT"
"""Environment variable of a GPU slot's processes: its name, by which they are known even when they are orphans."""
GPUS_PER_TRAINING = "SWARM_GPUS_PER_TRAINING"
PATIENCE = "SWARM_GPU_PATIENCE"
"""Environment variable: seconds to wait for a GPU to become free; 60 unless it is set."""

_QUERY_SECONDS = 60.0
_OURS = 0.9  # of a shared GPU's memory is for trainings
_FREE = 0.1  # of a GPU's memory may be in use, by the driver or a screen, when a training starts
_FIRST_PAUSE = 0.1  # seconds; the driver has freed a dead process' memory before long
_LONGEST_PAUSE = 10.0
_log = logging.getLogger("swarm.workers")


class _NoAnswerError(Exception):
    """nvidia-smi did not say what was asked; the text says why."""


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that computes on a GPU."""

    gpu: str
    pid: str
    memory: str  # MiB, or why it is not known
    program: str

    def __str__(self) -> str:
        amount = f", {self.memory} MiB" if self.memory.isdigit() else ""
        return f"process {self.pid} ({self.program}{amount})"

    def is_of(self, slot: str) -> bool:
        """Whether it descends from a training of the slot; a process of another user never does."""
        try:
            environment = Path(f"/proc/{self.pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{SLOT}={slot}".encode() in environment.split(b"\0")


def gpus() -> list[str]:
    """Identifiers (UUIDs) of the GPUs that this process may use, in order; empty where there is none.

    ``CUDA_VISIBLE_DEVICES`` is honoured, as CUDA does.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        found = [uuid for (uuid,) in _ask("gpu", "uuid")]
    except _NoAnswerError as error:
        _log.warning("no GPU is used: %s", error)
        return []
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return found
    return [named(part.strip(), found) for part in visible.split(",") if part.strip() not in ("", "-1")]


def named(part: str, found: list[str]) -> str:
    """The one of the GPUs ``found`` that ``part`` means, by its identifier or its number.

    Raises:
        InvalidInput: There is no such GPU.
    """
    if part in found:
        return part
    if part.isdigit() and int(part) < len(found):
        return found[int(part)]
    raise InvalidInput(f"there is no GPU {part!r}; this machine has {', '.join(map(str, range(len(found)))) or 'none'}")


def slot_env(slot: str, used: Iterable[str], gpus_per_training: float) -> dict[str, str]:
    """Environment of the processes of a slot that has GPUs.

    TensorFlow takes all memory of a GPU at its start, and JAX three quarters, which keeps it in one piece. So they may
    where they have the GPU for themselves; where trainings share one, TensorFlow takes what it needs, as PyTorch always
    does, and JAX its part of nine tenths.
    """
    env = {
        VISIBLE: ",".join(used),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        SLOT: slot,
        GPUS_PER_TRAINING: f"{gpus_per_training:g}",
    }
    if gpus_per_training >= 1:
        return env
    share = f"{_OURS * gpus_per_training:.3f}"
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


def obstacle(env: Mapping[str, str] = os.environ, patience: float | None = None) -> str | None:
    """Waits until the GPUs of this worker's slot are free of the training before.

    A GPU that is the slot's own is free when no process of the slot is left on it, and nine tenths of its memory are
    free. On a shared one only the slot's own processes count.

    Args:
        env: Environment of the slot's trainings, as :func:`slot_env` made it.
        patience: Seconds to wait; None takes them from the environment.

    Returns:
        None once they are free, or at once where the slot has no GPU; else, in one line, what holds them and what to
        do.
    """
    if SLOT not in env or GPUS_PER_TRAINING not in env:
        return None
    start, pause = time.monotonic(), _FIRST_PAUSE
    limit = float(env.get(PATIENCE, "60")) if patience is None else patience
    while (reason := _reason(env)) is not None:
        left = start + limit - time.monotonic()
        if left <= 0:
            return reason
        if pause > 1:
            _log.warning("slot %s waits for its GPU, %.0f s more at most: %s", env[SLOT], left, reason)
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return None


def _reason(env: Mapping[str, str]) -> str | None:
    """Why the slot's GPUs cannot be used now."""
    mine, shared = env[VISIBLE].split(","), float(env[GPUS_PER_TRAINING]) < 1
    try:
        memory = {uuid: (used, total) for uuid, used, total in _ask("gpu", "uuid,memory.used,memory.total")}
        rows = _ask("compute-apps", "gpu_uuid,pid,used_memory,process_name")
    except _NoAnswerError as error:
        return str(error)
    gone = [gpu for gpu in mine if gpu not in memory]
    if gone:
        return f"nvidia-smi no longer lists {gone[0]}; the driver's log (dmesg) says why"
    running = [_Process(*row) for row in rows if row[0] in mine]
    left = [process for process in running if process.is_of(env[SLOT])]
    if left:
        return f"what an earlier training left is still on {left[0].gpu}: {_and_remedy(left)}"
    full = [] if shared else [gpu for gpu in mine if _in_use(*memory[gpu]) > _FREE]
    if not full:
        return None
    used, total = memory[full[0]]
    others = [process for process in running if process.gpu == full[0]]
    return f"{used} of {total} MiB of {full[0]} are in use by {_and_remedy(others)}"


def _and_remedy(holders: list[_Process]) -> str:
    if not holders:
        return "processes that nvidia-smi does not name here; look for them on the host, or leave the GPU out (--gpus)"
    pids = " ".join(process.pid for process in holders)
    return f"{', '.join(map(str, holders))}; end it (kill {pids}), or leave the GPU out (--gpus)"


def _in_use(used: str, total: str) -> float:
    """Share of a GPU's memory that is in use; 0 where the driver does not count it."""
    return int(used) / int(total) if used.isdigit() and total.isdigit() else 0.0


def _ask(what: str, fields: str) -> list[list[str]]:
    """Rows of ``nvidia-smi --query-WHAT=FIELDS``; the last field may hold commas.

    Raises:
        _NoAnswerError: It failed, or hangs, as it does when a GPU does.
    """
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NoAnswerError(f"nvidia-smi does not answer: {error}") from None
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip() or f"exit code {answer.returncode}"
        raise _NoAnswerError(f"nvidia-smi failed: {said.splitlines()[0]}")
    commas = fields.count(",")
    rows = [[cell.strip() for cell in line.split(",", commas)] for line in answer.stdout.splitlines()]
    return [row for row in rows if len(row) == commas + 1 and row[0]]


@contextmanager
def _lock(gpu: str) -> Iterator[None]:
    path = Path(tempfile.gettempdir(), f"swarm-{gpu}.lock")
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
