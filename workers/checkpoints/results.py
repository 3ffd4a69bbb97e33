"""Committed results: what makes :func:`~swarm.workers.evaluate.evaluate` safe to run twice.

Dask runs a finished task again when the worker that held its result is lost. A result that stands in the
results directory, which all workers share, is returned instead of trained again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from pathlib import Path

from swarm.trial import Result, place_in

logger = logging.getLogger("swarm.workers")


def path_of(directory: str, key: str) -> Path:
    """Where the result of the evaluation ``key`` stands."""
    return Path(place_in(directory, key))


def committed(directory: str, key: str) -> Result | None:
    """The committed result of the evaluation ``key``, or None where there is none or it cannot be read."""
    path = path_of(directory, key)
    try:
        result = Result.from_dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("ignoring the committed result %s, which cannot be read: %s", path, error)
        return None
    return result if result.key == key and result.answers_others else None


def commit(directory: str, result: Result) -> None:
    """Writes a result that answers others, whole or not at all; the rest (crashed, failed by itself alone) is not kept.

    A directory that cannot be written costs only the shortcut, so it is logged and not raised.
    """
    if not result.answers_others:
        return
    path = path_of(directory, result.key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(result.to_dict(), allow_nan=False).encode())
    except OSError as error:
        logger.warning("the result %s is not committed, free or mend the disk: %s", path, error)


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the name without the content
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
