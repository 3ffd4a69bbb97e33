"""What is said of an exception or a value of the user's, whatever their own code does when it is asked for a text."""

from __future__ import annotations

import contextlib
import sys


def text_of(value: object) -> str:
    """``str(value)``, or the name of its type if it has no text."""
    try:
        return str(value)
    except Exception:
        return f"a {type(value).__name__}"


def shown(value: object, limit: int = 100) -> str:
    """``repr(value)``, cut off, or the name of its type if it has none."""
    try:
        return repr(value)[:limit]
    except Exception:
        return f"a {type(value).__name__}"


def flush() -> None:
    """Flushes the standard streams, as far as what stands in their place can be flushed."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(BaseException):  # replaced, closed, None: it is nobody's fault
            stream.flush()  # type: ignore[union-attr]


def below(error: BaseException) -> BaseException:
    """The error without its first frame, which is the caller's own."""
    with contextlib.suppress(BaseException):
        BaseException.with_traceback(error, error.__traceback__ and error.__traceback__.tb_next)
    return error
