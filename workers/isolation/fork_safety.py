"""Whether a process can be forked safely: a second thread, or a GPU's driver in use, breaks the children."""

from __future__ import annotations

import os
from pathlib import Path

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/render")
"""How the names of the device files of NVIDIA's and AMD's drivers begin."""


def obstacle() -> str | None:
    """What keeps this process from being forked, for people; None if nothing does.

    A driver that was initialised here (by ``torch.cuda.is_available()``, say) holds its device files open, and refuses
    each child: "Cannot re-initialize CUDA in forked subprocess".
    """
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if threads > 1:
        return f"{threads} threads"
    held = [name for name in _open_files() if name.startswith(DEVICES)]
    return f"the driver of a GPU in use ({held[0]})" if held else None


def _open_files() -> list[str]:
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(descriptor.readlink()))
        except OSError:  # it was that of the listing
            continue
    return names
