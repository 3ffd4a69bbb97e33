"""The process that asks NVIDIA's driver, by NVML: it hangs if the driver does, and its worker does not.

It reads requests, a JSON list of the UUIDs to look at or null for all, a line each, and answers each with a line. NVML
stays open between them, so that a look takes milliseconds. It ends when nobody is left who asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pynvml  # type: ignore[import-untyped]

_COMPUTE = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
_GRAPHICS = ("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2")
_MPS = ("nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2")
_RESERVED = 0x02000028  # version of the structure that tells what the driver keeps for itself


def main() -> None:
    """Answers until the line is closed, even if the driver hangs then."""
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    ready = False
    while True:
        wanted = json.loads(requests.get())
        try:
            if not ready:
                pynvml.nvmlInit()
                ready = True
            answer: dict[str, Any] = {"cards": list(_all(wanted)), "driver": _said(pynvml.nvmlSystemGetDriverVersion)}
        except pynvml.NVMLError as error:
            answer = {"error": str(error)}
            if ready:  # the driver was perhaps loaded again
                ready = False
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlShutdown()
        print(json.dumps(answer), flush=True)


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _all(wanted: list[str] | None) -> Iterator[dict[str, Any]]:
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
            parts = _parts(handle)
            card = {"uuid": uuid, "index": index, "name": _said(pynvml.nvmlDeviceGetName, handle)}
        except pynvml.NVMLError as error:  # one that is lost keeps nobody from the others
            yield {"uuid": "", "index": index, "name": "", "error": str(error)}
            continue
        if parts is None:
            yield {**card, **_state(handle, uuid, wanted)}
            continue
        yield {**card, "divided": True}
        for part in parts:
            own = _text(pynvml.nvmlDeviceGetUUID(part))
            yield {**card, "uuid": own, "parent": uuid, "alias": _alias(part, uuid), **_state(part, own, wanted)}


def _parts(handle: Any) -> list[Any] | None:
    """Handles of the parts of a card in MIG mode; None of one that is whole."""
    try:
        divided, _ = pynvml.nvmlDeviceGetMigMode(handle)
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if divided else 0
    except pynvml.NVMLError:  # it cannot be divided, or the driver is too old
        return None
    if not divided:
        return None
    found = []
    for index in range(most):
        with contextlib.suppress(pynvml.NVMLError):  # numbers may be missing in between
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
    return found


def _alias(part: Any, parent: str) -> str | None:
    """What drivers before 470 called a part."""
    with contextlib.suppress(pynvml.NVMLError):
        instance, compute = pynvml.nvmlDeviceGetGpuInstanceId(part), pynvml.nvmlDeviceGetComputeInstanceId(part)
        return f"MIG-{parent}/{instance}/{compute}"
    return None


def _state(handle: Any, uuid: str, wanted: list[str] | None) -> dict[str, Any]:
    """Memory and processes of a device, if it is wanted."""
    if wanted is not None and uuid not in wanted:
        return {}
    try:
        memory = _memory(handle)
    except pynvml.NVMLError_NotSupported:  # it shares the machine's
        memory = {}
    except pynvml.NVMLError as error:
        return {"error": str(error)}
    graphics = {process.pid: process.usedGpuMemory for process in _listed(handle, _GRAPHICS)}
    computing = {process.pid: process.usedGpuMemory for process in [*_listed(handle, _COMPUTE), *_listed(handle, _MPS)]}
    rows = [[pid, used, pid in graphics] for pid, used in {**computing, **graphics}.items()]
    return {**memory, "load": _load(handle), "processes": rows}


def _load(handle: Any) -> int | None:
    """Percent of the last moments in which it computed, where the driver tells."""
    try:
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:  # of parts it does not
        return None


def _memory(handle: Any) -> dict[str, int]:
    try:
        found = pynvml.nvmlDeviceGetMemoryInfo(handle, version=_RESERVED)
        reserved = int(found.reserved)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_InvalidArgument):  # an older driver
        found, reserved = pynvml.nvmlDeviceGetMemoryInfo(handle), 0
    return {"total": int(found.total), "free": int(found.free), "reserved": reserved}


def _listed(handle: Any, functions: tuple[str, ...]) -> list[Any]:
    """The processes that one of these functions, the newest first, knows of; none where the driver does not tell."""
    for name in functions:
        ask: Callable[[Any], list[Any]] | None = getattr(pynvml, name, None)
        if ask is not None:
            try:
                return ask(handle)
            except pynvml.NVMLError_FunctionNotFound:
                continue
            except pynvml.NVMLError:
                return []
    return []


def _said(ask: Callable[..., str | bytes], *arguments: Any) -> str:
    """A text for people, without which nothing is missed."""
    try:
        return _text(ask(*arguments))
    except pynvml.NVMLError:
        return "?"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
