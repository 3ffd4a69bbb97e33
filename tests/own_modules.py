"""Modules that tests write as a user would, to be found by their files."""

from __future__ import annotations

import textwrap
from pathlib import Path

Files = dict[str, str]
TRAIN = "def train(params, ctx):\n    return params['x']\n"


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
