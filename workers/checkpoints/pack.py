"""What a checkpoint looks like as bytes. Whoever reads one trusts none of its numbers: it may be made to hurt."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

NamedArrays = Mapping[str, "np.ndarray[Any, Any]"]
LIMIT_BYTES = 16 << 30
_LIMIT = "swarm.max-checkpoint"
_META = "meta.json"
_ARRAY = ".npy"
_DIGEST_BYTES = 32
Damaged = (ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile)
"""What :func:`unpacked` raises when the bytes are not a checkpoint."""


def packed(arrays: NamedArrays, meta: Mapping[str, Any]) -> bytes:
    """Arrays by name and what else is needed, as bytes with a checksum.

    Raises:
        ValueError: An array of objects, which only pickle could save, a number in ``meta`` that is not finite, or a
            name that could lead out of a folder.
        TypeError: ``meta`` is not JSON-ready.
    """
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # as np.savez does, which would pickle and refuses some names
        file.writestr(_META, json.dumps(dict(meta), allow_nan=False))
        for name, array in arrays.items():
            with file.open(_checked(name) + _ARRAY, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    return buffer.getvalue()


def unpacked(content: bytes) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """The arrays by name, and the rest. It takes no more memory than ``content`` has bytes.

    Raises:
        ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile: It is not what
            :func:`packed` has made.
    """
    body = memoryview(content)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != content[-_DIGEST_BYTES:]:
        raise ValueError("its checksum does not fit")
    with zipfile.ZipFile(io.BytesIO(body)) as file:
        members = file.infolist()
        names = [member.filename.removesuffix(_ARRAY) for member in members if member.filename != _META]
        if len({member.filename for member in members}) != len(members):
            raise ValueError("it has two parts of one name")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its parts are compressed, and could be of any size")
        if sum(member.file_size for member in members) > len(body):
            raise ValueError("its parts are larger than itself")
        return {name: _array(file, _checked(name)) for name in names}, json.loads(file.read(_META))


def check_size(size: int) -> None:
    """Refuse what is too large to be read into memory.

    Raises:
        ValueError: It is larger than the setting ``swarm.max-checkpoint`` allows; 16 GiB if left out.
    """
    if size <= 1 << 30:  # so that most need not look for settings
        return
    import dask
    from dask.utils import parse_bytes

    limit = parse_bytes(dask.config.get(_LIMIT, LIMIT_BYTES))
    if size > limit:
        raise ValueError(f"it has {size / 1e9:.1f} GB, and {_LIMIT} allows {limit / 1e9:.1f} GB")


def _checked(name: str) -> str:
    """The name of an array: ``dense/kernel`` is one, ``/etc/passwd`` and ``../x`` are none."""
    if name.startswith(("/", "\\")) or "\0" in name or ".." in name.replace("\\", "/").split("/"):
        raise ValueError(f"{name!r} is no name for an array: it could lead out of a folder")
    return name


def _array(file: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    import numpy as np

    with file.open(name + _ARRAY) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(member)
    size = file.getinfo(name + _ARRAY).file_size
    if kind.hasobject or any(side < 0 for side in shape) or math.prod(shape) * kind.itemsize > size:
        raise ValueError(f"array {name!r} claims to be larger than it is, or holds objects")
    with file.open(name + _ARRAY) as member:
        array: np.ndarray[Any, Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array
