"""The processes and the browser of the tests, which benchmarks of the service start, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from browser import available, browser
from services import Service, is_worker, kill, logging_training, trainings, wait_until

__all__ = [
    "Service",
    "available",
    "browser",
    "is_worker",
    "kill",
    "logging_training",
    "trainings",
    "wait_until",
]
