"""What NVIDIA's driver says, from a process that asks it: :mod:`swarm.workers.cards.nvml`."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

ANSWER = "SWARM_GPU_ANSWER_SECONDS"
"""Environment variable: seconds within which the driver has to answer; 30 unless it is set."""

_LIBRARY = "libnvidia-ml.so.1"


class NoAnswerError(Exception):
    """The driver did not say what was asked; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has memory of a device.

    Attributes:
        pid: Its number.
        memory: Bytes; None where the driver does not tell.
        graphics: Whether it draws, such as a desktop: it stays.
    """

    pid: int
    memory: int | None
    graphics: bool = False

    @property
    def known(self) -> bool:
        """Whether it is a process here, and not of another container."""
        return Path(f"/proc/{self.pid}").exists()

    @property
    def program(self) -> str:
        """What it runs."""
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
            return words[0].decode(errors="replace") or "?"
        return "?"

    def setting(self, name: str) -> str | None:
        """The value of a variable in the environment that it was started with; that of another user is not known."""
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0"):
                if entry.startswith(f"{name}=".encode()):
                    return entry.partition(b"=")[2].decode(errors="replace")
        return None


@dataclass(frozen=True, slots=True)
class Device:
    """A card, or a part of one that is divided (MIG).

    Attributes:
        uuid: Its identifier; empty of a card that is lost.
        index: Number of the card in the order of the bus, which is that of ``nvidia-smi``.
        name: What the card is.
        parent: Identifier of the card that it is a part of.
        alias: Another name of a part, as older drivers have it.
        divided: Whether it is a card in MIG mode, which cannot be used but by its parts.
        total: Bytes of its memory; 0 where the driver does not count it.
        free: Bytes of it that nobody has.
        reserved: Bytes that the driver keeps.
        load: Percent of the last moments in which it computed; None where the driver does not tell, as of a part.
        processes: Who has the rest.
        error: What the driver says instead.
    """

    uuid: str
    index: int
    name: str
    parent: str | None = None
    alias: str | None = None
    divided: bool = False
    total: int = 0
    free: int = 0
    reserved: int = 0
    load: int | None = None
    processes: tuple[Holder, ...] = ()
    error: str | None = None

    @property
    def card(self) -> str:
        """Identifier of the card that it is, or is a part of."""
        return self.parent or self.uuid


@dataclass(frozen=True, slots=True)
class Look:
    """What there is at one moment; ``version`` is the driver's."""

    version: str
    devices: tuple[Device, ...]


def look(uuids: Iterable[str] | None = None) -> Look | None:
    """What there is now; None where NVIDIA's driver is not installed.

    Args:
        uuids: Devices whose memory and processes are of interest; None takes all.

    Raises:
        NoAnswerError: The driver failed, or hangs.
    """
    if not _installed():
        return None
    answer = _asked.ask(None if uuids is None else list(uuids), float(os.environ.get(ANSWER, "30")))
    if "error" in answer:
        raise NoAnswerError(f"NVIDIA's driver failed: {answer['error']}; see nvidia-smi, and the kernel's log (dmesg)")
    return Look(answer["driver"], tuple(map(_device, answer["cards"])))


def close() -> None:
    """End the process that asks; the next look starts another."""
    _asked.close()


class _Process:
    """The process that asks, started when it is first needed, and another one when it has hung."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""  # that was read behind the last answer's end
        self._stuck: subprocess.Popen[bytes] | None = None  # which the kernel cannot end
        self._since = 0.0
        self._owner = os.getpid()

    def ask(self, request: Any, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise _hangs(seconds)
        try:
            if self._stuck is not None:
                if self._stuck.poll() is None:
                    raise _hangs(time.monotonic() - self._since)
                self._stuck = None
            try:
                return self._answer(self._running(), request, end)
            except TimeoutError:
                self._give_up(seconds)
                raise _hangs(seconds) from None
            except (OSError, EOFError, ValueError) as error:
                code = self._end()
                raise NoAnswerError(f"asking NVIDIA's driver failed ({error or f'exit code {code}'})") from None
        finally:
            self._lock.release()

    def close(self) -> None:
        process = self._process
        if process is not None and self._owner == os.getpid():
            process.kill()  # who waits for an answer need not wait any longer
        if self._lock.acquire(timeout=1.0):
            try:
                self._end()
            finally:
                self._lock.release()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._end()
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "swarm.workers.cards.nvml"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path)},
            )
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], request: Any, end: float) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        while b"\n" not in self._rest:
            if not wait([process.stdout.fileno()], max(0.0, end - time.monotonic())):
                raise TimeoutError
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise EOFError
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _give_up(self, seconds: float) -> None:
        """Ends a process that hangs; if the kernel cannot, because the driver does not return, no other is started."""
        process = self._process
        self._process, self._rest = None, b""
        if process is None:
            return
        process.kill()
        try:
            process.wait(1.0)
            _shut(process)
        except subprocess.TimeoutExpired:
            self._stuck, self._since = process, time.monotonic() - seconds

    def _end(self) -> int | None:
        process, self._process, self._rest = self._process, None, b""
        if process is None or self._owner != os.getpid():  # that of a process that this one was forked from
            return None
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        _shut(process)
        return process.returncode


def _hangs(seconds: float) -> NoAnswerError:
    return NoAnswerError(
        f"NVIDIA's driver has not answered for {seconds:.0f} s; see the kernel's log (dmesg), and restart the machine "
        "if nvidia-smi hangs, too"
    )


def _shut(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _installed() -> bool:
    """Whether the process that asks would find the library; loading it touches no device."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if any(folder and Path(folder, _LIBRARY).exists() for folder in folders):
        return True
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _device(fields: dict[str, Any]) -> Device:
    return Device(**{**fields, "processes": tuple(Holder(*row) for row in fields.get("processes", ()))})


_asked = _Process()
atexit.register(close)
