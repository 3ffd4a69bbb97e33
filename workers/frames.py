"""Where the user's own code failed: its files, lines and some source around them, without those of libraries."""

from __future__ import annotations

import functools
import linecache
import os
import sysconfig
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType

import swarm.errors
from swarm.workers.context import encodable

TRACEBACK_LIMIT = 4000
REASON_LIMIT = 500
_FRAMES = 6  # of the user's, per exception: the outermost and the innermost halves
_CAUSES = 4
_WIDTH = 160
_LINES = (-1, 0, 1)  # around the one that failed
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


def frames(error: BaseException) -> str:
    """Where the user's code failed, and below it what that was because of.

    A block per line of the user's own::

        train.py, line 12, in train
             11 |     rate = params["rate"]
          >  12 |     model.fit(data(rate))
             13 |     return model.score

    What libraries did in between is one line, and so is the place in a library where the exception was raised.
    """
    lines = list(_where(error))
    for cause in _chain(error)[1:]:
        lines += [f"because of {reason(cause)}", *_where(cause)]
    text = _text(error)
    if "\n" in text or not lines:  # the reason is its first line alone
        lines.append(f"{type(error).__name__}: {text}")
    found = encodable("\n".join(lines))
    return found if len(found) <= TRACEBACK_LIMIT else found[: TRACEBACK_LIMIT - 2] + "\n…"


def reason(error: BaseException) -> str:
    """Type and first line of an exception's text, whatever happens when it is asked for that."""
    return encodable(f"{type(error).__name__}: {_text(error)}".split("\n", 1)[0])[:REASON_LIMIT]


def _text(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException as another:
        return f"(what it says cannot be shown: that raised {type(another).__name__})"


def is_own(file: str, names: Mapping[str, object]) -> bool:
    """Whether code is the user's: of no library, not of the interpreter and not of this package.

    Args:
        file: Where it stands; ``<…>`` if it was typed, or made by a program.
        names: Its global names, which say whose program made it.
    """
    if file.startswith("<frozen"):
        return False
    if file.startswith("<"):
        module = names.get("__file__")
        return not isinstance(module, str) or is_own(module, {})
    return not _in_library(file)


@functools.lru_cache(1024)
def _in_library(file: str) -> bool:
    """Whether a file is of a library: installed here or by ``pip --target``, the interpreter's, or this package's."""
    path = Path(os.path.realpath(file))
    if any(path.is_relative_to(root) for root in _libraries()) or any(part in _LIBRARY_FOLDERS for part in path.parts):
        return True
    places = [path, *path.parents][:-1]
    return any(_was_installed(place.parent, place.name) for place in places)


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Folders of the interpreter and of what is installed, and both packages of ours."""
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    ours = {str(Path(__file__).parent), str(Path(swarm.errors.__file__).parent)}
    return tuple(sorted({os.path.realpath(folder) for folder in installed | ours if folder}))


@functools.lru_cache(1024)
def _was_installed(folder: Path, name: str) -> bool:
    """Whether this file or package was installed into the folder: a record of what was, ``*.dist-info``, names it."""
    try:
        records = [path.read_text(encoding="utf-8") for path in folder.glob("*.dist-info/RECORD")]
    except (OSError, ValueError):
        return False
    return any(line.startswith((f"{name}/", f"{name},")) for text in records for line in text.splitlines())


def _chain(error: BaseException) -> list[BaseException]:
    """The exception, and what it was raised because of, one after the other; the parts of a group, too."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting and len(seen) < _CAUSES:
        each = waiting.pop(0)
        if any(each is other for other in seen):
            continue
        seen.append(each)
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting += [] if cause is None else [cause]
    return seen


def _where(error: BaseException) -> Iterator[str]:
    """The lines about one exception."""
    if isinstance(error, SyntaxError) and error.filename:  # it has no frame of its own
        yield f"{_short(error.filename)}, line {error.lineno or 0}"
        yield from _source(error.filename, error.lineno or 0)
    remote = getattr(error, "tb", None)  # multiprocessing: the traceback in the child, as text
    if isinstance(remote, str):
        yield remote.strip()[-TRACEBACK_LIMIT // 2 :]
    stack = list(_stack(error.__traceback__))
    innermost = len(stack) - 1
    own = [place for place, (_, _, mine) in enumerate(stack) if mine]
    shown = {*own[: _FRAMES // 2], *own[-_FRAMES // 2 :]} if len(own) > _FRAMES else set(own)
    for kind, group in groupby(range(len(stack)), key=lambda place: (stack[place][2], place in shown)):
        places = list(group)
        if kind == (True, True):
            for place in places:
                yield from _frame(*stack[place][:2])
        elif kind == (True, False):
            yield f"… {len(places)} more lines of yours"
        elif not own or places[0] > own[0]:  # what called the user's code does not concern the user
            yield from _passed([stack[place] for place in places], raised=places[-1] == innermost)


def _stack(found: TracebackType | None) -> Iterator[tuple[FrameType, int, bool]]:
    """Frames from the outermost to the innermost, with their line, and whether they are the user's."""
    for frame, line in walk_tb(found):
        yield frame, line, is_own(frame.f_code.co_filename, frame.f_globals)


def _passed(group: list[tuple[FrameType, int, bool]], *, raised: bool) -> Iterator[str]:
    """One line about what a library did; none about this package, which calls the user's code and is called by it."""
    frame, line, _ = group[-1]
    name = str(frame.f_globals.get("__name__") or frame.f_code.co_filename).partition(".")[0]
    if name == "swarm":
        return
    if raised:
        yield f"… raised in {name}: {_short(frame.f_code.co_filename)}, line {line}, in {frame.f_code.co_name}"
    else:
        yield f"… {len(group)} lines of {name}"


def _frame(frame: FrameType, line: int) -> Iterator[str]:
    """Where the user's code was, with the source around."""
    file = frame.f_code.co_filename
    yield f"{_short(file)}, line {line}, in {frame.f_code.co_name}"
    linecache.lazycache(file, frame.f_globals)
    yield from _source(file, line)


def _source(file: str, failed: int) -> Iterator[str]:
    for line in (failed + offset for offset in _LINES):
        text = linecache.getline(file, line).rstrip()[:_WIDTH] if line > 0 else ""
        if text or line == failed:
            yield f"  {'>' if line == failed else ' '} {line:>4} | {text}"


def _short(file: str) -> str:
    """A file's path, from the folder where the process runs if it is there."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file
