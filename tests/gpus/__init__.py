"""GPUs without a GPU: shared libraries with the names of NVIDIA's, built here, which say what a text file says.

The libraries are ``nvml.c``, after NVIDIA's published API, and ``cuda.c``. What a test writes into the file is so for
every process at once: cards, busy ones, memory that comes and goes, a driver that hangs. The real driver, CUDA and
frameworks on a GPU are not run here.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarm.workers.cards import driver

SOURCES = Path(__file__).parent
NAMES = {"nvml.c": "libnvidia-ml.so.1", "cuda.c": "libcuda.so.1"}
SETTINGS = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "SLURM_STEP_GPUS",
    "SLURM_JOB_GPUS",
    "GPU_DEVICE_ORDINAL",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
)
"""What a machine may have set that the tests set themselves."""


@functools.cache
def libraries() -> Path:
    """The folder of the libraries."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("there is no C compiler, which builds the fake driver")
    folder = Path(tempfile.mkdtemp(prefix="swarm-fake-gpus-"))
    for source, name in NAMES.items():
        command = [compiler, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(folder / name)]
        subprocess.run([*command, str(SOURCES / source)], check=True)
    return folder


class Gpus:
    """The cards of this machine, for all processes with this environment.

    Args:
        folder: Where the file is kept that says how they are.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gpus.txt"
        self.libraries = libraries()
        self._cards: list[str] = []
        self._more: list[str] = []

    @property
    def env(self) -> dict[str, str]:
        """Environment of who has them."""
        path = [str(self.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": os.pathsep.join(path), "SWARM_FAKE_GPUS": str(self.file)}

    def has(self, *lines: str) -> None:
        """There are these cards, a line each as ``nvml.c`` reads them."""
        self._cards = list(lines)
        self._write()

    def runs(self, *lines: str) -> None:
        """These processes hold memory: ``UUID PID MIB C|G`` each."""
        self._more = [f"process {line}" for line in lines]
        self._write()

    @contextmanager
    def trouble(self, line: str) -> Iterator[None]:
        """Meanwhile the driver hangs (``hang``), or cannot be initialised (``fail``)."""
        self._write(line)
        try:
            yield
        finally:
            self._write()

    def _write(self, *lines: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in [*self._cards, *self._more, *lines]))
        new.replace(self.file)


def uuid(number: int) -> str:
    """Identifier of the card of that number."""
    return f"GPU-{number:x}a1b2c3d-0000-0000-0000-00000000000{number:x}"


def part(number: int) -> str:
    """Identifier of a part of a card."""
    return f"MIG-{number:x}f6e5d4c-1111-1111-1111-11111111111{number:x}"


def card(number: int, *, total: int = 81920, used: int = 0, name: str = "NVIDIA H100 80GB HBM3") -> str:
    """A card's line."""
    return f"gpu {uuid(number)} {total} {used} {name}"


@contextmanager
def gpus_here(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> Iterator[Gpus]:
    """Cards of this process and of all that it starts."""
    found = Gpus(folder)
    found.has(*map(card, range(count)))
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))  # where locks are
    driver.close()
    try:
        yield found
    finally:
        driver.close()
