"""AMD's cards, as far as one training each: they are counted and pinned, their memory is not looked at.

The kernel lists them; ROCm numbers them in that order. ``ROCR_VISIBLE_DEVICES`` hides cards from all that ROCm has;
``HIP_VISIBLE_DEVICES``, and for programs of CUDA's kind ``CUDA_VISIBLE_DEVICES``, count among what that leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from swarm.workers.cards.choice import CUDA, visible
from swarm.workers.cards.driver import Device

ROCR, HIP = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
PREFIX = "AMD-"
"""How the identifiers of AMD's cards begin; the number of the card follows."""

NODES = Path("/sys/class/kfd/kfd/topology/nodes")
_RELATIVE = (HIP, CUDA, "GPU_DEVICE_ORDINAL")


def cards(env: Mapping[str, str]) -> list[Device]:
    """Those that a process with this environment may use.

    Raises:
        InvalidInput: A variable names what is not there, or one thing twice.
    """
    found = _all()
    if ROCR in env:
        found = visible(found, {CUDA: env[ROCR]})
    inner = next((env[name] for name in (HIP, CUDA) if name in env), None)
    return found if inner is None else visible(found, {CUDA: inner})


def pins(uuids: Sequence[str]) -> dict[str, str]:
    """What has a process see these cards alone."""
    numbers = ",".join(str(number) for number in range(len(uuids)))
    return {ROCR: ",".join(uuid.removeprefix(PREFIX) for uuid in uuids), **dict.fromkeys(_RELATIVE, numbers)}


def _all() -> list[Device]:
    """A node of the kernel's list that has SIMD units is a card; the others are processors."""
    found: list[Device] = []
    with contextlib.suppress(OSError):
        for node in sorted(NODES.iterdir(), key=lambda each: int(each.name) if each.name.isdigit() else -1):
            with contextlib.suppress(OSError):  # in a container not all may be read
                lines = (line.split() for line in (node / "properties").read_text(encoding="ascii").splitlines())
                said = {words[0]: words[1] for words in lines if len(words) == 2}
                if int(said.get("simd_count", "0")) > 0:
                    number, unique = len(found), int(said.get("unique_id", "0"))
                    alias = f"GPU-{unique:016x}" if unique else None
                    found.append(Device(f"{PREFIX}{number}", number, "AMD", alias=alias))
    return found
