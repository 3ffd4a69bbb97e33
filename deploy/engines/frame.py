"""What an engine is to the frame: what it needs, and one row of the table. The frame knows none of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from deploy.engines.job import Work

_PLACES = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # not in everybody's PATH


class Outcome(StrEnum):
    """How it went with an engine."""

    SAME = "same"
    """The answer is the undisturbed one, and nothing was trained twice; or all that was looked at is right."""
    WRONG = "wrong"
    SKIPPED = "skipped"


class Unavailable(Exception):
    """Says why an engine cannot run here, and what to do about it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of an engine after its turn.

    Attributes:
        engine: Its name.
        outcome: How it went.
        version: Of the engine.
        killed: What was killed with SIGKILL while the job ran, in this order.
        trainings: Trainings that ended, of those that the undisturbed job has; empty where no job runs.
        again: Trainings that were cut short by a kill, and ran again.
        seconds: From its start to the end.
        note: What else was seen, or why it was skipped, or what is wrong.
        date: When that was.
    """

    engine: str
    outcome: Outcome
    version: str = ""
    killed: tuple[str, ...] = ()
    trainings: str = ""
    again: str = ""
    seconds: float = 0.0
    note: str = ""
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))


class Engine(ABC):
    """Something that deployments run on.

    Attributes:
        name: Its name on the command line.
        packages: Programs that it needs, and Debian's packages that have them.
        optional: Those that it uses where they are there.
    """

    name: ClassVar[str]
    packages: ClassVar[Mapping[str, str]]
    optional: ClassVar[Mapping[str, str]] = {}

    def check(self) -> None:
        """Whether it can run here.

        Raises:
            Unavailable: It cannot; this looks for its programs, and an engine for what else it needs.
        """
        missing = [program for program in self.packages if not which(program)]
        if missing:
            wanted = " ".join(dict.fromkeys(self.packages[program] for program in missing))
            raise Unavailable(f"{', '.join(missing)} not found; install it: apt-get install {wanted}, or --install")

    def wanted(self) -> dict[str, str]:
        """Programs with their packages, the optional ones included."""
        return {**self.packages, **self.optional}

    @abstractmethod
    def version(self) -> str:
        """Version of the engine, found by asking it."""

    @abstractmethod
    def run(self, folder: Path, work: Work) -> Row:
        """Do in ``folder`` what it is here for.

        Raises:
            Unavailable: It could not be brought to run.
        """


def which(program: str) -> str:
    """Path of a program, also of one that only root has in the PATH; empty where there is none."""
    places = [None, *(":".join([place]) for place in (*_PLACES, *_postgres()))]
    return next((found for place in places if (found := shutil.which(program, path=place))), "")


def _postgres() -> list[str]:
    """Folders of PostgreSQL's programs, which Debian keeps out of the PATH, the newest first."""
    return sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)


def said(*command: str | Path) -> str:
    """What a program answers to a question such as ``--version``, on either stream."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip()


def run_all(engines: Iterable[Engine], work: Work, *, keep: Path | None, say: Callable[[str], None]) -> list[Row]:
    """Give each engine its turn, in a new folder; what happens to one is nothing to the next.

    Args:
        engines: Whose turn it is.
        work: What they do.
        keep: Folder that keeps stores and logs; left out, they are deleted.
        say: Called with what goes on.
    """
    rows = []
    for engine in engines:
        say(f"{engine.name} …")
        row = _turn(engine, work, keep)
        say(f"{engine.name}: {row.outcome}{f', {row.note}' if row.note else ''}")
        rows.append(row)
    return rows


def _turn(engine: Engine, work: Work, keep: Path | None) -> Row:
    began = time.monotonic()
    try:
        engine.check()
        if keep is not None:
            folder = keep / engine.name
            folder.mkdir(parents=True)
            return engine.run(folder, work)
        place = "/var/tmp"  # containers have a /tmp of their own
        with tempfile.TemporaryDirectory(prefix="swarm-engines-", dir=place, ignore_cleanup_errors=True) as temporary:
            return engine.run(Path(temporary), work)
    except Unavailable as error:
        return Row(engine=engine.name, outcome=Outcome.SKIPPED, note=str(error))
    except Exception as error:
        traceback.print_exc()
        wrong = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return Row(engine=engine.name, outcome=Outcome.WRONG, note=wrong, seconds=time.monotonic() - began)
