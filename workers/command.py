"""A training that is a program of its own, in whatever language: it is started with the hyper-parameters as arguments.

    name: torch
    command: "python train.py --lr {lr} --units {units} --checkpoint @checkpoint"

What it prints is its answer: ``FoM: 0.97`` is the figure of merit, as in the command lines of Recombination of
Artificial Neural Networks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import site
import subprocess
import sysconfig
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import IO, TYPE_CHECKING, Any

import psutil

from swarm.errors import InvalidProblem
from swarm.trial import Params, Value
from swarm.workers.checkpoints.checkpoint import Checkpoint
from swarm.workers.context import Context

if TYPE_CHECKING:
    from swarm.workers.checkpoints.pack import NamedArrays

CHECKPOINT = "@checkpoint"
BUILT_IN = ("budget", "fold", "seed")
LAST_LINES = 20
SOURCE_BYTES = 1 << 20

_MEASUREMENT = re.compile(r"\s*(\w+):\s*(\S+)\s*")


class CommandFailed(Exception):  # no SwarmError, whose text is one line
    """The program could not be started, failed, took too long or printed no figure of merit; mend the program."""


@dataclass(frozen=True, kw_only=True)
class CommandProblem:
    """Runs a command, without a shell, and reads its fitness from what it prints.

    In each argument ``{lr}`` stands for the hyper-parameter lr; ``{budget}``, ``{seed}`` and ``{fold}`` are those of
    the evaluation. Format specifications are Python's (``{lr:.3e}``), and so are doubled braces for a brace; a list or
    a dictionary is JSON. The command is split first, so a value never becomes two arguments.

    Each printed line ``name: number`` is a measurement, the last of each name counts: ``FoM`` is the fitness, which is
    also reported on the way, with the measurements so far; the others are metrics. The environment has ``SWARM_SEED``
    and, if the evaluation has a budget, ``SWARM_BUDGET``.

    ``@checkpoint`` stands for a directory with what the training's parent left in such a directory, or an empty one.
    The files that the program leaves there are its checkpoint, if the job keeps checkpoints; subdirectories may be
    used, links and permissions are not kept.

    Attributes:
        command: The program with its arguments, quoted as for a shell.
        metric: Name of the figure of merit in what it prints.
        cwd: Folder to run it in, on each worker; None is the worker's.
        time_limit: Wall-clock seconds after which it is ended. (At the job's own limit its last words are lost.)
        budget: What ``{budget}`` is where the evaluation has none.
        name: Name of the problem.
        space: The search space as plain data.
        sources: Digests of the (small) files that the command names, so that a changed program is another problem. What
            those files import is not known.

    Raises:
        InvalidProblem: The command cannot be split, or has a placeholder that is not in the space.
    """

    command: str
    metric: str = "FoM"
    cwd: str | None = None
    time_limit: float | None = None
    budget: float | None = None
    name: str = "command"
    space: Mapping[str, Any] = field(default_factory=dict, hash=False)
    sources: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        try:
            arguments = shlex.split(self.command)
            names = {name for argument in arguments for _, name, _ in _pieces(argument) if name is not None}
        except ValueError as error:
            raise InvalidProblem(f"the command {self.command!r} cannot be read: {error}") from None
        if not arguments:
            raise InvalidProblem("the command is empty")
        if re.fullmatch(r"\w+", self.metric) is None:
            raise InvalidProblem(f"the metric is a single word, printed as FoM: 0.97, not {self.metric!r}")
        if self.space:
            _check(names, {*self.space, *BUILT_IN})
        object.__setattr__(self, "sources", tuple(_digests(arguments, Path(self.cwd or "."))))

    @property
    def resumable(self) -> bool:
        """Whether it can continue from a checkpoint: whether the command has one."""
        return CHECKPOINT in self.command

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Runs the program.

        Returns:
            ``fitness``, and what else it measured.

        Raises:
            CommandFailed: It has no figure of merit; the text ends with the last lines of its stderr.
            InvalidProblem: A placeholder stands for nothing.
            CheckpointCorrupt: The parent's checkpoint is damaged.
        """
        if not self.resumable:
            return self._run(self._arguments(params, ctx), ctx)
        with _directory() as directory:
            arguments = self._arguments(params, ctx, directory)
            if (checkpoint := ctx.restore()) is not None:
                unpack(checkpoint, directory)
            measured = self._run(arguments, ctx)
            if ctx.wants_checkpoint and (files := _packed(directory)):
                ctx.save(files)
        return measured

    def _arguments(self, params: Params, ctx: Context, checkpoint: Path | None = None) -> list[str]:
        budget = _plain(self.budget if ctx.budget is None else ctx.budget)
        known: dict[str, Value] = {"seed": ctx.seed, "fold": ctx.fold, **params}
        if budget is not None:
            known.setdefault("budget", budget)
        return [_filled(argument, known, str(checkpoint)) for argument in shlex.split(self.command)]

    def _run(self, arguments: list[str], ctx: Context) -> dict[str, float]:
        values: dict[str, float] = {}
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
            _started(arguments, self.cwd, _environment(ctx), stderr) as program,
            _ended(program, self.time_limit) as late,
        ):
            assert program.stdout is not None
            for line in program.stdout:
                name = _measure(line, values)
                if name == self.metric:
                    ctx.report(**values)
            returncode = program.wait()
            if late.is_set():
                raise _failure(f"exceeded its time limit of {self.time_limit:g} s", stderr)
            if returncode != 0:
                raise _failure(_outcome(returncode), stderr)
            if self.metric not in values:
                raise _failure(f"printed no line '{self.metric}: number'", stderr)
        fitness = values.pop(self.metric)
        return {**values, "fitness": fitness}


# --- the command line


def _pieces(argument: str) -> Iterator[tuple[str, str | None, str]]:
    """Literal text, with the name and the format of the placeholder that follows it, if one does.

    Raises:
        ValueError: Braces do not match.
    """
    for text, name, form, conversion in Formatter().parse(argument):
        yield text, f"{name}!{conversion}" if conversion else name, form or ""


def _check(names: set[str], known: set[str]) -> None:
    for name in sorted(names - known):
        raise InvalidProblem(f"the command has a placeholder {{{name}}}, but there are only {', '.join(sorted(known))}")


def _filled(argument: str, values: Mapping[str, Value], checkpoint: str) -> str:
    parts = []
    for text, name, form in _pieces(argument):
        parts.append(text.replace(CHECKPOINT, checkpoint))
        if name is not None:
            _check({name}, set(values))
            value = values[name]
            parts.append(json.dumps(value) if isinstance(value, list | tuple | dict) else format(value, form))
    return "".join(parts)


def _plain(budget: float | None) -> float | None:
    """A whole number as an integer, which more programs understand."""
    return int(budget) if budget is not None and float(budget).is_integer() else budget


def _digests(arguments: list[str], folder: Path) -> Iterator[str]:
    for argument in arguments:
        path = folder / argument
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_size <= SOURCE_BYTES:
                yield f"{argument} {hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- the program


def _environment(ctx: Context) -> dict[str, str]:
    """The worker's, without the module search path that its own trainings need: the program may be another Python."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    libraries.update(site.getsitepackages())
    folders = [
        folder
        for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if not folder.endswith(".zip") and not any(Path(folder).is_relative_to(library) for library in libraries)
    ]
    own = {"PYTHONPATH": os.pathsep.join(folders), "SWARM_SEED": str(ctx.seed), "PYTHONUNBUFFERED": "1"}
    if ctx.budget is not None:
        own["SWARM_BUDGET"] = str(_plain(ctx.budget))
    return {**os.environ, **own}


def _started(
    arguments: list[str], cwd: str | None, environment: dict[str, str], stderr: IO[str]
) -> subprocess.Popen[str]:
    """The program, in the process group of the training, so that what kills the training kills it as well."""
    try:
        return subprocess.Popen(
            arguments,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise CommandFailed(f"the command cannot be started: {error}") from None


@contextlib.contextmanager
def _ended(program: subprocess.Popen[str], seconds: float | None) -> Iterator[threading.Event]:
    """Kills the program after so many seconds, which sets the event, and if it still runs at the end."""
    late = threading.Event()

    def expire() -> None:
        late.set()
        _kill(program)

    timer = threading.Timer(seconds or 0, expire)
    if seconds is not None:
        timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        _kill(program)


def _kill(program: subprocess.Popen[str]) -> None:
    if program.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(program.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    program.kill()


def _measure(line: str, values: dict[str, float]) -> str | None:
    """Adds the measurement that a line holds to ``values``; its name, or None if there is none."""
    if (match := _MEASUREMENT.fullmatch(line)) is None:
        return None
    name, text = match.groups()
    try:
        values[name] = float(text)
    except ValueError:
        return None
    return str(name)


def _outcome(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with code {returncode}"
    return f"was killed by signal {-returncode} ({signal.Signals(-returncode).name})"


def _failure(reason: str, stderr: IO[str]) -> CommandFailed:
    stderr.seek(0)
    lines = [line.rstrip() for line in deque(stderr, LAST_LINES)]
    last = next((line for line in reversed(lines) if line), "its stderr is empty")
    return CommandFailed("\n".join([f"the command {reason}: {last}", *lines]))


# --- the checkpoint


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A directory that is gone afterwards, even if this process is killed: another one waits for its end."""
    directory = tempfile.mkdtemp(prefix="swarm-")
    remover = subprocess.Popen(
        ["/bin/sh", "-c", 'cat; rm -rf "$0"', directory], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield Path(directory)
    finally:
        remover.communicate()


def _packed(directory: Path) -> NamedArrays:
    """The files below the directory as arrays of bytes, by relative path."""
    import numpy as np

    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): np.frombuffer(path.read_bytes(), np.uint8) for path in files}


def unpack(checkpoint: Checkpoint, directory: Path) -> None:
    """Write the files of a checkpoint into a directory, and nowhere else.

    Raises:
        ValueError: A name is absolute, has ``..`` in it, or leads through a link; nothing is written then.
    """
    paths = {name: directory / name for name in checkpoint.arrays}
    for name, path in paths.items():
        way = [path, *path.parents][: len(Path(name).parts)]
        if Path(name).is_absolute() or ".." in Path(name).parts or any(each.is_symlink() for each in way):
            raise ValueError(
                f"the checkpoint has a file {name!r}, which would be written elsewhere than in {directory}"
            )
    for name, content in checkpoint.arrays.items():
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_bytes(content.tobytes())
