"""Runs our deployment on the engines that this machine has, kills parts of it, and compares the answers.

On a Debian machine, as root, since most engines take that:

    make engines                          # all that can run here; the others are skipped, and say why
    make engines ENGINES="postgres ssh"
    make engines OPTIONS=--install        # install first what is missing, by apt-get

Each engine starts in a temporary folder, on ports of its own, and runs the same job, whose trainings sleep. While they
run, parts are killed with SIGKILL, one after the other. Then the trials must be those of the same job undisturbed, to
the last digit, and no training may have ended twice. The exit code is 1 if that is not so on one of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from deploy.engines.compose import Compose
from deploy.engines.frame import Engine, Outcome, run_all, which
from deploy.engines.job import Work
from deploy.engines.jobqueue import Jobqueue
from deploy.engines.kubernetes import Kubernetes
from deploy.engines.postgres import Postgres
from deploy.engines.prometheus import Prometheus
from deploy.engines.slurm import Slurm
from deploy.engines.ssh import Ssh
from deploy.engines.systemd import Systemd
from deploy.engines.table import terminal, update

_ALL: tuple[type[Engine], ...] = (Postgres, Ssh, Slurm, Jobqueue, Compose, Systemd, Prometheus, Kubernetes)
ENGINES = {each.name: each for each in _ALL}
_console = Console(width=None if sys.stdout.isatty() else 160)


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = _parsed(words)
    engines = [ENGINES[name]() for name in options.engines or ENGINES]
    if options.install:
        install(engines)
    with tempfile.TemporaryDirectory(prefix="swarm-engines-") as folder:
        _say("the same job, undisturbed …")
        work = Work.undisturbed(Path(folder), options.particles, options.generations, options.seconds)
    rows = run_all(engines, work, keep=options.keep, say=_say)
    _console.print(terminal(rows))
    if options.table:
        update(options.table, rows)
    return int(any(row.outcome is Outcome.WRONG for row in rows))


def install(engines: Sequence[Engine]) -> None:
    """Install the packages of programs that are not there; none of their services is started."""
    needed = {program: package for engine in engines for program, package in engine.wanted().items()}
    packages = sorted({package for program, package in needed.items() if not which(program)})
    if not packages:
        return
    _say(f"apt-get install {' '.join(packages)} …")
    policy = Path("/usr/sbin/policy-rc.d")  # Debian's way to say that no package starts its service
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    finally:
        if ours:
            policy.unlink()


def _say(line: str) -> None:
    _console.print(line, highlight=False, markup=False)


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.engines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}; left out, all")
    parser.add_argument("--install", action="store_true", help="install missing packages by apt-get, as root")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="page whose table is rewritten")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="new folder that keeps stores and logs")
    parser.add_argument("--particles", type=int, default=10, help="particles of the swarm (default: 10)")
    parser.add_argument("--generations", type=int, default=11, help="generations after the first (default: 11)")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a training (default: 0.25)")
    found = parser.parse_args(words)
    if unknown := [name for name in found.engines if name not in ENGINES]:
        parser.error(f"there is no engine {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    if found.keep and found.keep.exists():
        parser.error(f"{found.keep} is there already; name a new folder")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
