"""Where the benchmarks' results go, and what is written beside them: the machine, the versions, the command."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

QUICK = "--quick" in sys.argv  # every benchmark's word for a look at whether it works; the figures mean little
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks" / "results"
RESULTS = KEPT.with_name("results-quick") if QUICK else KEPT


def machine() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    packages = ("dask", "distributed", "numpy", "sqlalchemy", "keras", "tensorflow-cpu", "tensorflow")
    versions = {}
    for name in packages:
        with contextlib.suppress(Exception):
            versions[name] = version(name)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def positive(text: str) -> int:
    """An option that counts: at least 1, since nothing must not take the place of earlier figures."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def command() -> str:
    """How this benchmark was called; of paths only the last part, the others are this machine's."""
    options = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return shlex.join(["python", Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix(), *options])


def earlier(name: str, parts: Sequence[str]) -> dict[str, Any]:
    """What was measured of these parts before; a run that leaves some out keeps them."""
    file = RESULTS / name / f"{name}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    return {part: found[part] for part in parts if part in found}


def save(name: str, result: dict[str, Any]) -> Path:
    """Write a benchmark's figures in place of the earlier ones; those of a quick run into a folder of their own."""
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"machine": machine(), "command": command(), **result}, indent=1) + "\n")
    return written(file)


def written(file: Path) -> Path:
    """Say where something has been written."""
    print(f"written to {file}")
    return file
