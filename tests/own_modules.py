"""Modules that tests write as a user would, to be found by their files."""

from __future__ import annotations

import textwrap
from pathlib import Path

from scripts import run_script

from swarm.job.problem import Problem

Files = dict[str, str]
HELPER = "FACTOR = 1\n\ndef score(x):\n    return FACTOR * x\n\ndef unused(x):\n    return x\n"
SAY = """
if __name__ == '__main__':
    from swarm.job.problem import Problem
    print(Problem.of(train).fingerprint)
"""
TRAIN = "def train(params, ctx):\n    return params['x']\n"


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def fingerprint(folder: Path, files: Files | str, where: str = "main.py:train") -> str:
    """The fingerprint of a problem in files, as a job file would find it."""
    write(folder, {"main.py": files} if isinstance(files, str) else files)
    return Problem.find(where, {}, folder=folder).fingerprint


def told_by(folder: Path, script: str, *arguments: str, **environment: str) -> list[str]:
    """What a script prints, which is run as such."""
    write(folder, {"script.py": script})
    done = run_script(folder, "script.py", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
