"""What the tests of deployment share: where its files are, what is in them, and how they are called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def call(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def certificates(folder: Path, *arguments: str) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return call(DEPLOY / "make-certificates", *arguments[:-1], folder, *arguments[-1:])
